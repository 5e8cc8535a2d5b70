// CPU engine of the distilled softmax: rows of logits, SIMD over the columns.
//
// Included by one source per instruction set, each with its own ODMT_LANES (floats a register
// holds) and ODMT_ROWS_ISA (the name of its two entry points). Everything else is in an unnamed
// namespace, so that no code of one instruction set is linked into another's.
#pragma once

#include <string.h>

#include "distilled_rows.h"

namespace odmt_fast {

// Scratch of a thread: float weights [columns rounded up to 16], holding the counts, zero padded.
// log_p of the arguments is padded in the same way.
using RowPass = void (*)(const RowArgs&, bool bf16, int64_t begin, int64_t end, float* weights);

struct RowPasses {
  RowPass forward, backward;
};

extern const RowPasses rows_baseline, rows_avx2, rows_avx512;

namespace {

// Registers of N floats; spelt out, because compilers want these builtins outside templates.
template <int N>
struct Registers;
#define ODMT_REGISTERS(N)                                                      \
  template <>                                                                  \
  struct Registers<N> {                                                        \
    typedef float V __attribute__((vector_size(4 * N)));                       \
    typedef int32_t I __attribute__((vector_size(4 * N)));                     \
    typedef uint32_t U __attribute__((vector_size(4 * N)));                    \
    typedef uint16_t H __attribute__((vector_size(2 * N)));                    \
    static ODMT_LANE U widen(H h) { return __builtin_convertvector(h, U); }    \
    static ODMT_LANE H narrow(U u) { return __builtin_convertvector(u, H); }   \
  };
ODMT_REGISTERS(1)
ODMT_REGISTERS(ODMT_LANES)
#undef ODMT_REGISTERS

template <int N>
struct Simd {
  static constexpr int lanes = N;
  using R = Registers<N>;
  using V = typename R::V;
  using I = typename R::I;
  using U = typename R::U;
  using H = typename R::H;

  static ODMT_LANE V all(float x) { return V{} + x; }
  static ODMT_LANE V at_most_zero(V x) { return x > V{} ? V{} : x; }
  static ODMT_LANE void raise(V& top, I& at, V z, V w, I column) {
    const I higher = (w > V{}) & ~(z <= top);  // a NaN is taken, not lost
    top = higher ? z : top;
    at = higher ? column : at;
  }
  // exp(x), x <= 0: 2^n exp(f), Cody-Waite reduction and the Cephes polynomial, 1 ulp; 0 below -87.
  static ODMT_LANE V exp(V x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const V t = x * 1.44269504f + magic;
    const V n = t - magic;
    V f = x - n * 0.693359375f;
    f = f - n * -2.12194440e-4f;
    V y = f * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * f + 8.3334519073e-3f;
    y = y * f + 4.1665795894e-2f;
    y = y * f + 1.6666665459e-1f;
    y = y * f + 5.0000001201e-1f;
    y = y * (f * f) + f + 1.0f;
    const I scale = ((I)t - 0x4B400000 + 127) << 23;
    return x < all(-87.0f) ? V{} : y * (V)scale;
  }
  static ODMT_LANE V load(const float* p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
  }
  static ODMT_LANE V load(const uint16_t* p) {
    H h;
    memcpy(&h, p, sizeof h);
    return (V)(R::widen(h) << 16);
  }
  static ODMT_LANE void store(float* p, V v) { memcpy(p, &v, sizeof v); }
  // bfloat16, to the nearest, ties to even; a NaN stays one.
  static ODMT_LANE void store(uint16_t* p, V v) {
    const U bits = (U)v;
    const U rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const U kept = (v == v) ? rounded : (U{} + 0x7FC0u);
    const H h = R::narrow(kept);
    memcpy(p, &h, sizeof h);
  }
  template <class T>
  static ODMT_LANE V load_some(const T* p, int64_t n) {
    T padded[N] = {};
    memcpy(padded, p, n * sizeof(T));
    return load(padded);
  }
  template <class T>
  static ODMT_LANE void store_some(T* p, V v, int64_t n) {
    T padded[N];
    store(padded, v);
    memcpy(p, padded, n * sizeof(T));
  }
  static ODMT_LANE float sum_of(V v) {
    float lane[N], total = 0.0f;
    store(lane, v);
    for (int i = 0; i < N; ++i) total += lane[i];
    return total;
  }
  // The largest of the lanes and what stands at its place, of equal ones the first.
  static ODMT_LANE float top_of(V v, I at, int32_t* place) {
    float lane[N];
    store(lane, v);
    float top = lane[0];
    *place = at[0];
    for (int i = 1; i < N; ++i) {
      if (lane[i] <= top) continue;
      top = lane[i];
      *place = at[i];
    }
    return top;
  }
};

using Lane = Simd<ODMT_LANES>;
using One = Simd<1>;
constexpr int kLanes = Lane::lanes;
constexpr int64_t kBlock = 1024;  // columns summed in fp32 before they join a total in fp64

// The row's weights while it is worked on: counts, but 0 in the user's history and 1 at the target.
struct RowWeights {
  const RowArgs& a;
  float* weights;
  int64_t begin, end, target;

  ODMT_LANE RowWeights(const RowArgs& args, float* buffer, int64_t row)
      : a(args), weights(buffer), target(args.targets[row]) {
    begin = a.history_offsets[a.row_user[row]];
    end = a.history_offsets[a.row_user[row] + 1];
    for (int64_t i = begin; i < end; ++i) weights[a.history[i]] = 0.0f;
    weights[target] = 1.0f;
  }
  ODMT_LANE ~RowWeights() {
    for (int64_t i = begin; i < end; ++i) weights[a.history[i]] = a.counts[a.history[i]];
    weights[target] = a.counts[target];
  }
};

// z of the columns c..c+lanes of every branch; past the last column: weight 0 and z = -log_p = 0.
template <class L, class T, int K>
ODMT_LANE void load_scores(typename L::V (&z)[K], const T* row, int64_t branch, const float* log_p,
                           int64_t c, int64_t n) {
  const typename L::V bias = L::load(log_p + c);
  for (int k = 0; k < K; ++k) {
    const T* p = row + k * branch + c;
    z[k] = (n >= L::lanes ? L::load(p) : L::load_some(p, n)) - bias;
  }
}

template <class T, int K, bool Distil>
void forward_rows(const RowArgs& a, int64_t begin, int64_t end, float* weights) {
  using V = Lane::V;
  const int64_t branch = a.rows * a.columns;
  const float inv_tau = 1.0f / a.tau;
  for (int64_t r = begin; r < end; ++r) {
    const RowWeights used(a, weights, r);
    const T* row = static_cast<const T*>(a.logits) + r * a.columns;
    V top[K + 1], z[K];
    Lane::I at[K + 1] = {}, column = {};
    for (int i = 0; i < kLanes; ++i) column[i] = i;
    for (int k = 0; k <= K; ++k) top[k] = Lane::all(kLowest);
    for (int64_t c = 0; c < a.columns; c += kLanes) {
      load_scores<Lane, T, K>(z, row, branch, a.log_p, c, a.columns - c);
      raise_top<Lane, K>(top, at, z, Lane::load(weights + c), column);
      column += kLanes;
    }
    RowCentre<K> centre;
    One::V z_one[K];
    for (int t = 0; t <= K; ++t) {
      int32_t place;
      centre.top[t] = Lane::top_of(top[t], at[t], &place);
      load_scores<One, T, K>(z_one, row, branch, a.log_p, place, 1);
      for (int s = 0; s < K; ++s) centre.student[t * K + s] = z_one[s][0];
    }

    constexpr int n_sums = sizeof(RowSums<Lane, K>) / sizeof(V);
    double total[n_sums] = {};
    for (int64_t block = 0; block < a.columns; block += kBlock) {
      const int64_t stop = block + kBlock < a.columns ? block + kBlock : a.columns;
      RowSums<Lane, K> sums = {};
      for (int64_t c = block; c < stop; c += kLanes) {
        load_scores<Lane, T, K>(z, row, branch, a.log_p, c, a.columns - c);
        accumulate<Lane, K, Distil>(sums, z, Lane::load(weights + c), centre, inv_tau);
      }
      const V* each = reinterpret_cast<const V*>(&sums);
      for (int i = 0; i < n_sums; ++i) total[i] += Lane::sum_of(each[i]);
    }
    RowStats<K> stats;
    float target[K];
    load_scores<One, T, K>(z_one, row, branch, a.log_p, used.target, 1);
    for (int k = 0; k < K; ++k) target[k] = z_one[k][0];
    finish_row<K, Distil>(stats, centre, total, target, a.edges, a.tau,
                          a.terms + r * (K + a.edges.count));
    memcpy(a.stats + r * stats_width(K), &stats, sizeof stats);
  }
}

template <class T, int K, bool Distil>
void backward_rows(const RowArgs& a, int64_t begin, int64_t end, float* weights) {
  const int64_t branch = a.rows * a.columns;
  const float inv_tau = 1.0f / a.tau;
  for (int64_t r = begin; r < end; ++r) {
    const RowWeights used(a, weights, r);
    const T* row = static_cast<const T*>(a.logits) + r * a.columns;
    T* out = static_cast<T*>(a.gradients) + r * a.columns;
    RowStats<K> stats;
    memcpy(&stats, a.stats + r * stats_width(K), sizeof stats);
    RowGradient<K> gradient;
    row_gradient<K>(gradient, stats, a);

    // Of the target before its score is overwritten: p - 1 is formed ahead of any rounding to T.
    One::V z_target[K], d_target[K];
    load_scores<One, T, K>(z_target, row, branch, a.log_p, used.target, 1);
    column_gradients<One, K, Distil>(d_target, z_target, One::all(1.0f), gradient, inv_tau);

    for (int64_t c = 0; c < a.columns; c += kLanes) {
      Lane::V z[K], dz[K];
      const int64_t n = a.columns - c;
      load_scores<Lane, T, K>(z, row, branch, a.log_p, c, n);
      column_gradients<Lane, K, Distil>(dz, z, Lane::load(weights + c), gradient, inv_tau);
      for (int k = 0; k < K; ++k) {
        T* p = out + k * branch + c;
        n >= kLanes ? Lane::store(p, dz[k]) : Lane::store_some(p, dz[k], n);
      }
    }
    for (int k = 0; k < K; ++k) {
      One::store(out + k * branch + used.target, d_target[k] - gradient.target[k]);
    }
  }
}

template <class T, int K>
ODMT_LANE void pass(const RowArgs& a, bool forward, int64_t begin, int64_t end, float* weights) {
  const bool distil = a.edges.count > 0;
  if (forward) {
    distil ? forward_rows<T, K, true>(a, begin, end, weights)
           : forward_rows<T, K, false>(a, begin, end, weights);
  } else {
    distil ? backward_rows<T, K, true>(a, begin, end, weights)
           : backward_rows<T, K, false>(a, begin, end, weights);
  }
}

template <class T>
ODMT_LANE void pass(const RowArgs& a, bool forward, int64_t begin, int64_t end, float* weights) {
  switch (a.branches) {
    case 1: return pass<T, 1>(a, forward, begin, end, weights);
    case 2: return pass<T, 2>(a, forward, begin, end, weights);
    case 3: return pass<T, 3>(a, forward, begin, end, weights);
    case 4: return pass<T, 4>(a, forward, begin, end, weights);
    case 5: return pass<T, 5>(a, forward, begin, end, weights);
  }
}

template <bool Forward>
void any_pass(const RowArgs& a, bool bf16, int64_t begin, int64_t end, float* weights) {
  bf16 ? pass<uint16_t>(a, Forward, begin, end, weights)
       : pass<float>(a, Forward, begin, end, weights);
}

}  // namespace

const RowPasses ODMT_ROWS_ISA = {any_pass<true>, any_pass<false>};

}  // namespace odmt_fast
