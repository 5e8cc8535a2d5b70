// The CPU kernels: plain pointers in row-major memory, one table of functions per instruction set.
#pragma once

#include <cstdint>

#include "distilled_rows.h"
#include "search.h"

namespace odmt_fast {

struct bf16 {
  std::uint16_t bits;
};

enum class Type { f32, bf16 };

// Philox4x32-7 mask of kernels/dropout: element e is kept iff its word >= threshold. Rows may form
// equal consecutive groups, whose elements are counted from first + group_element(group) on; first
// is a multiple of four.
struct Dropout {
  bool on;
  std::uint32_t threshold;
  float scale;
  std::uint64_t seed, first;
};
inline std::uint64_t group_element(std::int64_t group) { return (std::uint64_t)group << 48; }

// LayerNorm(residual + dropout(x)); rows form `groups` equal consecutive groups, each with its own
// weight and bias [d].
struct NormShape {
  Type type;
  std::int64_t rows, width, groups;
  float eps;
  Dropout dropout;
  int threads;
};

enum class Mask { asymmetric, symmetric, causal };

// [P, H, D] with a contiguous last dimension; strides in elements.
struct Heads {
  void* data;
  std::int64_t token, head;
};

struct AttentionShape {
  Type type;
  std::int64_t segments, heads, width;
  const std::int32_t* cu_seqlens;
  Mask mask;
  float scale;
  Dropout dropout;
  std::int64_t group_tokens;
  int threads;
};

// queries [U, R, H, d], hidden [P, d], both contiguous.
struct ReadoutShape {
  AttentionShape attention;
  std::int64_t readouts;
};

// Rows begin .. end - 1 of the distilled softmax; weights: scratch of the thread, [columns], holding
// the counts.
using RowPass = void (*)(const RowArgs&, bool bf16, std::int64_t begin, std::int64_t end,
                         float* weights);

struct Kernels {
  const char* isa;
  // x [groups, n].
  void (*dropout)(Type, std::int64_t n, std::int64_t groups, const void* x, void* y, Dropout,
                  int threads);
  void (*norm_forward)(const NormShape&, const void* x, const void* residual, const float* weight,
                       const float* bias, void* out, void* total, float* mean, float* rstd);
  // Without dropout dx is not written: it equals dresidual.
  void (*norm_backward)(const NormShape&, const void* dout, const void* total, const float* mean,
                        const float* rstd, const float* weight, void* dx, void* dresidual,
                        float* dweight, float* dbias);
  // lse [P, H] of the scaled and masked logits.
  void (*attention_forward)(const AttentionShape&, Heads q, Heads k, Heads v, Heads out,
                            float* lse);
  void (*attention_backward)(const AttentionShape&, Heads q, Heads k, Heads v, Heads dout,
                             const float* lse, Heads dq, Heads dk, Heads dv);
  // lse [U, R, H].
  void (*readout_forward)(const ReadoutShape&, const void* queries, const void* hidden, void* out,
                          float* lse);
  void (*readout_backward)(const ReadoutShape&, const void* queries, const void* hidden,
                           const void* dout, const float* lse, void* dqueries, void* dhidden);
  // x [rows, width] -> its column sums in fp32.
  void (*column_sum)(Type, std::int64_t rows, std::int64_t width, const void* x, float* sums,
                     int threads);
  // dh *= h > 0 in place, and the column sums of the result.
  void (*relu)(Type, std::int64_t rows, std::int64_t width, void* x, int threads);
  void (*relu_backward_bias)(Type, std::int64_t rows, std::int64_t width, void* dh, const void* h,
                             float* dbias, int threads);
  RowPass distilled_forward, distilled_backward;
  // Scores (a.logits) to fp32 logits (a.gradients), and gradients of logits to those of scores.
  void (*debias)(const RowArgs& a, bool bf16);
  void (*undebias)(const RowArgs& a, bool bf16);
  SearchPasses search;
};

}  // namespace odmt_fast
