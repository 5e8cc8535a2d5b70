// The rows of the loss on the CPU, SIMD over the columns: the distilled softmax of
// distilled_rows.h, and the debiased logits alone.
#pragma once

#include "distilled_rows.h"
#include "vec.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Lanes of one register: the sums of a row are many, and vectors that are split would spill.
#if defined(__AVX512F__)
constexpr int kRowLanes = 16;
#elif defined(__AVX2__)
constexpr int kRowLanes = 8;
#else
constexpr int kRowLanes = 4;
#endif
typedef float RowFloats __attribute__((vector_size(4 * kRowLanes)));
typedef std::int32_t RowInts __attribute__((vector_size(4 * kRowLanes)));
typedef std::uint32_t RowWords __attribute__((vector_size(4 * kRowLanes)));
typedef std::uint16_t RowHalves __attribute__((vector_size(2 * kRowLanes)));

struct Lane {
  using V = RowFloats;
  using I = RowInts;
  // 0 below -87.
  static INLINE V exp(V x) { return x < -87.0f ? V{} : exp_within<RowWords>(x); }
  static INLINE V at_most_zero(V x) { return x > V{} ? V{} : x; }
  static INLINE void raise(V& top, I& at, V z, V w, I column) {
    const I higher = (w > V{}) & ~(z <= top);  // a NaN is taken, not lost
    top = higher ? z : top;
    at = higher ? column : at;
  }
};

INLINE RowFloats row_load(const float* p) { return load_raw<RowFloats>(p); }
INLINE RowFloats row_load(const bf16* p) {
  return (RowFloats)(__builtin_convertvector(load_raw<RowHalves>(p), RowWords) << 16);
}
INLINE RowFloats row_load(const std::int32_t* p) {
  return __builtin_convertvector(load_raw<RowInts>(p), RowFloats);
}
INLINE void row_store(float* p, RowFloats v) { std::memcpy(p, &v, sizeof v); }
INLINE void row_store(bf16* p, RowFloats v) {
  const RowHalves bits = __builtin_convertvector(bf16_bits<RowWords>(v), RowHalves);
  std::memcpy(p, &bits, sizeof bits);
}

// The first `lanes` of a register's; the others read as zero and are not written.
template <class T>
INLINE RowFloats row_load(const T* p, int lanes) {
  if (lanes == kRowLanes) return row_load(p);
  T padded[kRowLanes] = {};
  std::memcpy(padded, p, lanes * sizeof(T));
  return row_load(padded);
}
template <class T>
INLINE void row_store(T* p, RowFloats v, int lanes) {
  if (lanes == kRowLanes) return row_store(p, v);
  T padded[kRowLanes];
  row_store(padded, v);
  std::memcpy(p, padded, lanes * sizeof(T));
}

INLINE float sum_of_lanes(RowFloats v) {
  float total = 0.0f;
  for (int i = 0; i < kRowLanes; ++i) total += v[i];
  return total;
}

// The largest of the lanes and what stands at its place, of equal ones the first.
INLINE float top_of(RowFloats v, RowInts at, std::int32_t* place) {
  float top = v[0];
  *place = at[0];
  for (int i = 1; i < kRowLanes; ++i) {
    if (v[i] <= top) continue;
    top = v[i];
    *place = at[i];
  }
  return top;
}

INLINE int lanes_of(std::int64_t left) { return left < kRowLanes ? (int)left : kRowLanes; }

constexpr std::int64_t kBlock = 1024;  // columns summed in fp32 before they join a total in fp64

// The row's weights while it is worked on: counts, but 0 in the user's history and 1 at the target.
struct RowWeights {
  const RowArgs& a;
  float* weights;
  std::int64_t begin, end, target;

  INLINE RowWeights(const RowArgs& args, float* buffer, std::int64_t row)
      : a(args), weights(buffer), target(args.targets[row]) {
    begin = a.history_offsets[a.row_user[row]];
    end = a.history_offsets[a.row_user[row] + 1];
    for (std::int64_t i = begin; i < end; ++i) weights[a.history[i]] = 0.0f;
    weights[target] = 1.0f;
  }
  INLINE ~RowWeights() {
    for (std::int64_t i = begin; i < end; ++i)
      weights[a.history[i]] = (float)a.counts[a.history[i]];
    weights[target] = (float)a.counts[target];
  }
};

// Elements of a matrix whose type is looked at where they are read and written: every instance of
// the passes takes long to compile.
struct Elements {
  void* data;
  bool is_bf16;

  INLINE RowFloats at(std::int64_t i, int lanes) const {
    return is_bf16 ? row_load((const bf16*)data + i, lanes)
                   : row_load((const float*)data + i, lanes);
  }
  INLINE void set(std::int64_t i, RowFloats v, int lanes) const {
    is_bf16 ? row_store((bf16*)data + i, v, lanes) : row_store((float*)data + i, v, lanes);
  }
};

// z of the columns c .. c + lanes - 1 of row r of every branch, 0 in the other lanes.
template <int K>
INLINE void load_scores(RowFloats (&z)[K], const RowArgs& a, Elements logits, std::int64_t r,
                        std::int64_t c, int lanes) {
  const RowFloats bias = row_load(a.log_p + c, lanes);
  for (int k = 0; k < K; ++k) z[k] = logits.at((k * a.rows + r) * a.stride + c, lanes) - bias;
}

template <int K>
void forward_rows(const RowArgs& a, bool is_bf16, std::int64_t begin, std::int64_t end,
                  float* weights) {
  const Elements logits = {const_cast<void*>(a.logits), is_bf16};
  const bool distil = a.edges.count > 0;
  const float inv_tau = 1.0f / a.tau;
  for (std::int64_t r = begin; r < end; ++r) {
    const RowWeights used(a, weights, r);
    RowFloats top[K + 1], z[K];
    RowInts at[K + 1] = {}, column = {};
    for (int i = 0; i < kRowLanes; ++i) column[i] = i;
    for (int k = 0; k <= K; ++k) top[k] = RowFloats{} + kLowest;
    for (std::int64_t c = 0; c < a.columns; c += kRowLanes, column += kRowLanes) {
      const int lanes = lanes_of(a.columns - c);
      load_scores(z, a, logits, r, c, lanes);
      raise_top<Lane, K>(top, at, z, row_load(weights + c, lanes), column, distil);
    }
    RowCentre<K> centre;
    for (int t = 0; t <= K; ++t) {
      std::int32_t place;
      centre.top[t] = top_of(top[t], at[t], &place);
      load_scores(z, a, logits, r, place, 1);
      for (int s = 0; s < K; ++s) centre.student[t * K + s] = z[s][0];
    }

    constexpr int n_sums = sizeof(RowSums<Lane, K>) / sizeof(RowFloats);
    double total[n_sums] = {};
    for (std::int64_t block = 0; block < a.columns; block += kBlock) {
      const std::int64_t stop = block + kBlock < a.columns ? block + kBlock : a.columns;
      RowSums<Lane, K> sums = {};
      for (std::int64_t c = block; c < stop; c += kRowLanes) {
        const int lanes = lanes_of(a.columns - c);
        load_scores(z, a, logits, r, c, lanes);
        accumulate<Lane, K>(sums, z, row_load(weights + c, lanes), centre, inv_tau, distil);
      }
      const RowFloats* each = (const RowFloats*)&sums;
      for (int i = 0; i < (distil ? n_sums : K); ++i) total[i] += sum_of_lanes(each[i]);
    }
    RowStats<K> stats;
    float target[K];
    load_scores(z, a, logits, r, used.target, 1);
    for (int k = 0; k < K; ++k) target[k] = z[k][0];
    finish_row<K>(stats, centre, total, target, a.edges, a.tau, a.row_scale[r],
                  a.terms + r * (K + a.edges.count));
    std::memcpy(a.stats + r * stats_width(K), &stats, sizeof stats);
  }
}

template <int K>
void backward_rows(const RowArgs& a, bool is_bf16, std::int64_t begin, std::int64_t end,
                   float* weights) {
  const Elements logits = {const_cast<void*>(a.logits), is_bf16}, out = {a.gradients, is_bf16};
  const bool distil = a.edges.count > 0;
  const float inv_tau = 1.0f / a.tau;
  for (std::int64_t r = begin; r < end; ++r) {
    const RowWeights used(a, weights, r);
    RowStats<K> stats;
    std::memcpy(&stats, a.stats + r * stats_width(K), sizeof stats);
    RowGradient<K> gradient;
    row_gradient<K>(gradient, stats, a, a.row_scale[r]);

    // Of the target before its score is overwritten: p - 1 is formed ahead of any rounding to T.
    RowFloats z[K], dz[K], d_target[K];
    load_scores(z, a, logits, r, used.target, 1);
    column_gradients<Lane, K>(d_target, z, RowFloats{} + 1.0f, gradient, inv_tau, distil);
    for (std::int64_t c = 0; c < a.columns; c += kRowLanes) {
      const int lanes = lanes_of(a.columns - c);
      load_scores(z, a, logits, r, c, lanes);
      column_gradients<Lane, K>(dz, z, row_load(weights + c, lanes), gradient, inv_tau, distil);
      for (int k = 0; k < K; ++k) out.set((k * a.rows + r) * a.stride + c, dz[k], lanes);
    }
    for (int k = 0; k < K; ++k)
      out.set((k * a.rows + r) * a.stride + used.target, d_target[k] - gradient.target[k], 1);
  }
}

template <bool Forward, int K>
INLINE void rows_of(const RowArgs& a, bool is_bf16, std::int64_t begin, std::int64_t end,
                    float* weights) {
  if constexpr (Forward)
    forward_rows<K>(a, is_bf16, begin, end, weights);
  else
    backward_rows<K>(a, is_bf16, begin, end, weights);
}

template <bool Forward>
void distilled_rows(const RowArgs& a, bool is_bf16, std::int64_t begin, std::int64_t end,
                    float* weights) {
  switch (a.branches) {
    case 1: return rows_of<Forward, 1>(a, is_bf16, begin, end, weights);
    case 2: return rows_of<Forward, 2>(a, is_bf16, begin, end, weights);
    case 3: return rows_of<Forward, 3>(a, is_bf16, begin, end, weights);
    case 4: return rows_of<Forward, 4>(a, is_bf16, begin, end, weights);
    case 5: return rows_of<Forward, 5>(a, is_bf16, begin, end, weights);
  }
}

// z = score - log p + log count; the target counts once; the user's other columns and those of
// count 0 are kExcluded.
template <class T>
void debias_of(const RowArgs& a) {
  static thread_local Scratch scratch;
  float* log_count = scratch.get<float>(a.columns);
  for (std::int64_t c = 0; c < a.columns; ++c)
    log_count[c] = log_weight((float)a.counts[c]);
#pragma omp parallel for
  for (std::int64_t i = 0; i < a.branches * a.rows; ++i) {
    const T* from = (const T*)a.logits + i * a.columns;
    float* to = (float*)a.gradients + i * a.columns;
    const std::int64_t target = a.targets[i % a.rows];
    const std::int32_t user = a.row_user[i % a.rows];
    const float z_target = row_load(from + target, 1)[0] - a.log_p[target];
    for (std::int64_t c = 0; c < a.columns; c += kRowLanes) {
      const int lanes = lanes_of(a.columns - c);
      const RowFloats score = row_load(from + c, lanes), log_p = row_load(a.log_p + c, lanes);
      row_store(to + c, debiased(score, log_p, row_load(log_count + c, lanes)), lanes);
    }
    for (std::int32_t h = a.history_offsets[user]; h < a.history_offsets[user + 1]; ++h)
      to[a.history[h]] = kExcluded;
    to[target] = z_target;
  }
}

// The gradient of the scores: that of the logits, 0 where the column is excluded.
template <class T>
void undebias_of(const RowArgs& a) {
#pragma omp parallel for
  for (std::int64_t i = 0; i < a.branches * a.rows; ++i) {
    const float* from = (const float*)a.logits + i * a.columns;
    T* to = (T*)a.gradients + i * a.columns;
    const std::int64_t target = a.targets[i % a.rows];
    const std::int32_t user = a.row_user[i % a.rows];
    for (std::int64_t c = 0; c < a.columns; c += kRowLanes) {
      const int lanes = lanes_of(a.columns - c);
      const RowFloats count = row_load(a.counts + c, lanes), gradient = row_load(from + c, lanes);
      row_store(to + c, count > RowFloats{} ? gradient : RowFloats{}, lanes);
    }
    for (std::int32_t h = a.history_offsets[user]; h < a.history_offsets[user + 1]; ++h)
      to[a.history[h]] = T{};
    row_store(to + target, RowFloats{} + from[target], 1);
  }
}

static void debias(const RowArgs& a, bool is_bf16) {
  is_bf16 ? debias_of<bf16>(a) : debias_of<float>(a);
}

static void undebias(const RowArgs& a, bool is_bf16) {
  is_bf16 ? undebias_of<bf16>(a) : undebias_of<float>(a);
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
