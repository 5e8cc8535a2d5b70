// Row mathematics of the distilled softmax, shared by the CPU and the CUDA engine.
//
// A row has K branches of debiased scores z_k = u_k . e_c - log p_c over the distinct columns c and
// one weight w_c per column: the item's count, 0 when the column is excluded, 1 at the target.
// The ensemble is the mean of the branches; as a teacher it is number K. Its score is kept as the
// sum and divided with tau: a mean would be rounded, or not, as the compiler fuses it.
//   sum_k    = sum_c w exp(z_k - top_k)                     softmax at temperature 1
//   soft_t   = sum_c w exp((z_t - top_t) / tau)             softmax at tau, t = 0..K
//   cross_ts = sum_c p_t (z_s - top_s)                      p_t = softmax of teacher t at tau
// from which
//   ce_k  = log sum_k - (z_k,target - top_k)
//   kd_ts = tau (tau log soft_s - cross_ts)
// and every logit's gradient is elementwise (kernels/distilled_softmax/README.md derives it).
// Excluded columns enter with weight 0 and a finite exponent, so 0 * inf never arises; scores are
// centred before they are scaled, so logits of 1e4 keep their digits. cross_ts is summed around z_s
// at the teacher's top column: where that column has all the weight, z_s - top_s - cross_ts is
// exactly 0 there, whatever the column's count.
//
// The functions are templates over a lane L, the way of the includer to hold some columns at once:
//   L::V                          values of one or more columns
//   L::exp(V)                     exponential of values <= 0
//   L::I                          as many columns' indices
//   L::at_most_zero(V)            min(x, 0), NaN kept
//   L::raise(V& top, I& at, V z, V w, I column)
//                                 where w > 0 and z > top, top becomes z and at becomes column
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define ODMT_LANE __device__ __forceinline__
#define ODMT_ROW __device__ inline
#else
#define ODMT_LANE inline __attribute__((always_inline))
#define ODMT_ROW inline __attribute__((always_inline))
#endif

namespace odmt_fast {

constexpr int kMaxBranches = 5;
constexpr int kMaxEdges = 32;
constexpr float kLowest = -1e30f;
constexpr float kExcluded = -1e4f;  // NEG of kernels/debiased_logits/reference.py

// Storage of logits; the numbers are part of the Python interface.
enum class Scalar : int { fp32 = 0, bf16 = 1, fp16 = 2 };

struct Edges {
  int count;
  int8_t student[kMaxEdges];
  int8_t teacher[kMaxEdges];  // == branches: the ensemble
};

// The arrays of `Candidates` (kernels/debiased_logits/reference.py): what rows are scored against.
struct Candidates {
  int64_t columns, users, history_size;
  const float* log_p;              // [columns]
  const int32_t* counts;           // [columns]
  const int64_t* targets;          // [rows]
  const int32_t* row_user;         // [rows]
  const int32_t* history_offsets;  // [users + 1]
  const int32_t* history;          // [history_size]
};

// One pass over rows of logits [branches, rows, columns], a row `stride` elements after the other.
struct RowArgs : Candidates {
  const void* logits;
  void* gradients;  // may be the logits themselves
  int branches;
  int64_t rows;
  int64_t stride;  // >= columns
  Edges edges;
  float tau;
  float* stats;        // [rows, stats_width(branches)]
  const float* row_scale;  // [rows]: what a row's losses and gradients are multiplied with
  float* terms;        // [rows, branches + edges]: the scaled losses of each row (forward)
  const float* g_ce;   // [branches], upstream (backward)
  const float* g_kd;   // [edges]
  bool detach_teacher;
};

// Statistics of a row in the order they are stored.
template <int K>
struct RowStats {
  float top[K + 1];  // largest score of each branch over the columns in play; [K]: largest sum
  float sum[K];
  float soft[K + 1];
  float cross[(K + 1) * K];  // [teacher * K + student]
};

// Where the sums of a row are centred.
template <int K>
struct RowCentre {
  float top[K + 1];
  float student[(K + 1) * K];  // z_s at the column of top_t
};

// The CUDA side: device pointers and a stream; each returns the cudaError_t of the launch.
int distilled_rows_cuda(const RowArgs& args, Scalar scalar, bool forward, void* stream);
int debias_rows_cuda(const RowArgs& args, Scalar scalar, bool forward, void* stream);
const char* cuda_error_name(int error);

constexpr int stats_width(int branches) { return 3 * branches + 2 + (branches + 1) * branches; }

// What a column's gradient needs of its row, already divided by sums and multiplied by row_scale.
template <int K>
struct RowGradient {
  float top[K + 1];
  float ce[K];               // g_ce row_scale / sum
  float target[K];           // g_ce row_scale
  float soft[K + 1];         // 1 / soft
  float edge[(K + 1) * K];   // g_kd tau row_scale, summed over equal edges
  float cross[(K + 1) * K];  // of the row's statistics
  float teacher;             // 0 when the teacher is detached, else 1 / tau
};

template <class L, int K>
struct RowSums {
  typename L::V sum[K], soft[K + 1], cross[(K + 1) * K];
};

ODMT_ROW float log_of(float x) { return logf(x); }
ODMT_ROW double log_of(double x) { return log(x); }

ODMT_ROW float log_weight(float w) { return w > 0.0f ? logf(w) : kLowest; }

// The debiased logits of columns, given the logs of their weights.
template <class V>
ODMT_LANE V debiased(const V& score, const V& log_p, const V& log_w) {
  return log_w > kLowest ? score - log_p + log_w : V{} + kExcluded;
}

template <int K, class V>
ODMT_LANE V sum_of(const V (&z)[K]) {
  V total = z[0];
  for (int k = 1; k < K; ++k) total = total + z[k];
  return total;
}

template <class L, int K>
ODMT_LANE void raise_top(typename L::V (&top)[K + 1], typename L::I (&at)[K + 1],
                         const typename L::V (&z)[K], const typename L::V& w,
                         const typename L::I& column, bool distil) {
  for (int k = 0; k < K; ++k) L::raise(top[k], at[k], z[k], w, column);
  if (distil) L::raise(top[K], at[K], sum_of<K>(z), w, column);
}

// exp((z_t - top_t) / tau) of every teacher.
template <class L, int K>
ODMT_LANE void soften(const typename L::V (&z)[K], const typename L::V (&centred)[K],
                      const float (&top)[K + 1], float inv_tau, typename L::V (&e)[K + 1]) {
  for (int k = 0; k < K; ++k) e[k] = L::exp(centred[k] * inv_tau);
  e[K] = L::exp(L::at_most_zero(sum_of<K>(z) - top[K]) * (inv_tau / K));
}

template <class L, int K>
ODMT_LANE void accumulate(RowSums<L, K>& sums, const typename L::V (&z)[K],
                          const typename L::V& w, const RowCentre<K>& centre, float inv_tau,
                          bool distil) {
  using V = typename L::V;
  V centred[K];
  for (int k = 0; k < K; ++k) {
    centred[k] = L::at_most_zero(z[k] - centre.top[k]);
    sums.sum[k] = sums.sum[k] + w * L::exp(centred[k]);
  }
  if (!distil) return;
  V e[K + 1];
  soften<L, K>(z, centred, centre.top, inv_tau, e);
  for (int t = 0; t <= K; ++t) {
    const V p = w * e[t];
    sums.soft[t] = sums.soft[t] + p;
    for (int s = 0; s < K; ++s) {
      sums.cross[t * K + s] = sums.cross[t * K + s] + p * (z[s] - centre.student[t * K + s]);
    }
  }
}

// Statistics and losses of a row, ce [K] then one kd per edge, from the totals of its sums (sum [K],
// soft [K + 1], cross [(K + 1) * K]) and the target's scores.
template <int K, class Real>
ODMT_ROW void finish_row(RowStats<K>& out, const RowCentre<K>& centre, const Real* total,
                         const float (&target)[K], const Edges& edges, float tau, float scale,
                         float* terms) {
  const bool distil = edges.count > 0;
  const Real* soft = total + K;
  const Real* cross_sum = soft + K + 1;
  Real cross[(K + 1) * K];
  for (int k = 0; k < K; ++k) {
    out.sum[k] = static_cast<float>(total[k]);
    terms[k] = scale * static_cast<float>(log_of(total[k]) - (target[k] - centre.top[k]));
  }
  for (int t = 0; t <= K; ++t) {
    out.top[t] = centre.top[t];
    out.soft[t] = static_cast<float>(soft[t]);
    for (int s = 0; s < K; ++s) {
      const int i = t * K + s;
      cross[i] = distil ? centre.student[i] - centre.top[s] + cross_sum[i] / soft[t] : Real(0);
      out.cross[i] = static_cast<float>(cross[i]);
    }
  }
  for (int e = 0; e < edges.count; ++e) {
    const int s = edges.student[e], t = edges.teacher[e];
    terms[K + e] = scale * static_cast<float>(tau * (tau * log_of(soft[s]) - cross[t * K + s]));
  }
}

// Gradients of one or more columns' scores; the target's own -target[k] is the caller's.
template <class L, int K>
ODMT_LANE void column_gradients(typename L::V (&dz)[K], const typename L::V (&z)[K],
                                const typename L::V& w, const RowGradient<K>& row, float inv_tau,
                                bool distil) {
  using V = typename L::V;
  V centred[K];
  for (int k = 0; k < K; ++k) {
    centred[k] = L::at_most_zero(z[k] - row.top[k]);
    dz[k] = w * L::exp(centred[k]) * row.ce[k];
  }
  if (!distil) return;
  V p[K + 1];
  soften<L, K>(z, centred, row.top, inv_tau, p);
  for (int t = 0; t <= K; ++t) p[t] = w * p[t] * row.soft[t];
  for (int t = 0; t <= K; ++t) {
    // Differences before products: near agreement, or where p is nearly one, they cancel exactly.
    V pull = {};
    for (int s = 0; s < K; ++s) {
      dz[s] = dz[s] + (p[s] - p[t]) * row.edge[t * K + s];
      pull = pull + (centred[s] - row.cross[t * K + s]) * row.edge[t * K + s];
    }
    const V taught = p[t] * pull * row.teacher;
    if (t < K) {
      dz[t] = dz[t] - taught;
    } else {
      for (int k = 0; k < K; ++k) dz[k] = dz[k] - taught * (1.0f / K);
    }
  }
}

template <int K>
ODMT_ROW void row_gradient(RowGradient<K>& out, const RowStats<K>& row, const RowArgs& a,
                           float scale) {
  out.teacher = a.detach_teacher ? 0.0f : 1.0f / a.tau;
  for (int k = 0; k < K; ++k) {
    out.target[k] = a.g_ce[k] * scale;
    out.ce[k] = out.target[k] / row.sum[k];
  }
  for (int i = 0; i < (K + 1) * K; ++i) out.edge[i] = 0.0f;
  for (int e = 0; e < a.edges.count; ++e) {
    const int s = a.edges.student[e], t = a.edges.teacher[e];
    out.edge[t * K + s] += a.g_kd[e] * a.tau * scale;
  }
  for (int t = 0; t <= K; ++t) {
    out.top[t] = row.top[t];
    out.soft[t] = a.edges.count ? 1.0f / row.soft[t] : 0.0f;
    for (int s = 0; s < K; ++s) out.cross[t * K + s] = row.cross[t * K + s];
  }
}

}  // namespace odmt_fast
