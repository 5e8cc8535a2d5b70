// A few readout queries per segment against its raw hidden states (DESIGN section 3, identity 3).
//
// Forward  S = scale Q h^T, P = softmax(S), out = keep(P) h.
// Backward dA = dout h^T, dS as in attention.inl, dQ = dS h, dh = keep(P)^T dout + dS^T Q.
// The R H rows of a segment share every hidden state they load, and a segment stays in cache
// between its two uses.
#pragma once

#include "attention.inl"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

#if defined(__AVX512F__)
constexpr int kDotRows = 4, kDotTokens = 4;
#else
constexpr int kDotRows = 2, kDotTokens = 2;
#endif

template <int M, int N, class T>
INLINE void dot_tile(std::int64_t width, const float* a, const T* h, Result<float> c) {
  f32x16 sum[M][N] = {};
  for_columns(width, [&](std::int64_t i, int lanes) {
    f32x16 right[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) right[n] = load_lanes(h + n * width + i, lanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const f32x16 left = load_lanes(a + m * width + i, lanes);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[m][n] += left * right[n];
    }
  });
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) c.data[m * c.row + n] = hsum(sum[m][n]);
}

template <int M, class T>
INLINE void dot_rows(std::int64_t tokens, std::int64_t width, const float* a, const T* h,
                     Result<float> c) {
  std::int64_t j = 0;
  for (; j + kDotTokens <= tokens; j += kDotTokens)
    dot_tile<M, kDotTokens>(width, a, h + j * width, {c.data + j, c.row});
  for (; j < tokens; ++j) dot_tile<M, 1>(width, a, h + j * width, {c.data + j, c.row});
}

// c [rows, tokens] = a [rows, width] h [tokens, width]^T, all rows contiguous.
template <class T>
__attribute__((noinline)) void dots(std::int64_t rows, std::int64_t tokens, std::int64_t width,
                                    const float* a, const T* h, Result<float> c) {
  std::int64_t r = 0;
  for (; r + kDotRows <= rows; r += kDotRows)
    dot_rows<kDotRows>(tokens, width, a + r * width, h, {c.data + r * c.row, c.row});
  for (; r < rows; ++r)
    dot_rows<1>(tokens, width, a + r * width, h, {c.data + r * c.row, c.row});
}

// Row r * H + h of a segment reads what its readout r reads.
INLINE std::int64_t readout_keys(const ReadoutShape& s, std::int64_t row, std::int64_t length) {
  const bool last = row / s.attention.heads == s.readouts - 1;
  return s.attention.mask == Mask::asymmetric && !last ? length - 1 : length;
}

template <class T>
INLINE void copy_rows(std::int64_t count, const T* from, float* to) {
  for_columns(count, [&](std::int64_t i, int lanes) {
    store_lanes(to + i, load_lanes(from + i, lanes), lanes);
  });
}

template <class T>
void readout_forward_of(const ReadoutShape& s, const T* queries, const T* hidden, T* out,
                        float* lse) {
  const AttentionShape& a = s.attention;
  const std::int64_t d = a.width, rows = s.readouts * a.heads;
#pragma omp parallel num_threads(a.threads)
  {
    static thread_local Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t u = 0; u < a.segments; ++u) {
      const std::int64_t first = a.cu_seqlens[u], n = a.cu_seqlens[u + 1] - first;
      const std::int64_t stride = round_up(n, kLanes);
      float* p = scratch.get<float>(rows * stride + row_words_size(stride) + rows * d);
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(p + rows * stride);
      float* q = p + rows * stride + row_words_size(stride);
      copy_rows(rows * d, queries + u * rows * d, q);
      dots(rows, n, d, q, hidden + first * d, {p, stride});
      for (std::int64_t r = 0; r < rows; ++r)
        lse[u * rows + r] =
            softmax_row(p + r * stride, readout_keys(s, r, n), stride, a.scale, a.dropout,
                        (std::uint64_t)(u * rows + r) * 512, space);
      gemm(rows, d, n, Left{p, stride, 1}, Right<T>{hidden + first * d, d},
           Result<T>{out + u * rows * d, d});
    }
  }
}

template <class T>
void readout_backward_of(const ReadoutShape& s, const T* queries, const T* hidden, const T* dout,
                         const float* lse, T* dqueries, T* dhidden) {
  const AttentionShape& a = s.attention;
  const std::int64_t d = a.width, rows = s.readouts * a.heads;
#pragma omp parallel num_threads(a.threads)
  {
    static thread_local Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t u = 0; u < a.segments; ++u) {
      const std::int64_t first = a.cu_seqlens[u], n = a.cu_seqlens[u + 1] - first;
      const std::int64_t stride = round_up(n, kLanes);
      const T* h = hidden + first * d;
      float* p = scratch.get<float>(2 * rows * (stride + d) + row_words_size(stride));
      float* ds = p + rows * stride;
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(ds + rows * stride);
      // dout above the queries, as keep(P) is above dS: dh is then one product of depth 2 R H.
      float* gradients = ds + rows * stride + row_words_size(stride);
      float* q = gradients + rows * d;
      copy_rows(rows * d, dout + u * rows * d, gradients);
      copy_rows(rows * d, queries + u * rows * d, q);
      dots(rows, n, d, q, h, {p, stride});
      dots(rows, n, d, gradients, h, {ds, stride});
      for (std::int64_t r = 0; r < rows; ++r)
        softmax_backward_row(p + r * stride, ds + r * stride, lse[u * rows + r],
                             readout_keys(s, r, n), stride, a.scale, a.dropout,
                             (std::uint64_t)(u * rows + r) * 512, space);
      gemm(rows, d, n, Left{ds, stride, 1}, Right<T>{h, d},
           Result<T>{dqueries + u * rows * d, d});
      gemm(n, d, 2 * rows, Left{p, 1, stride}, Right<float>{gradients, d},
           Result<T>{dhidden + first * d, d});
    }
  }
}

static void readout_forward(const ReadoutShape& s, const void* queries, const void* hidden,
                            void* out, float* lse) {
  if (s.attention.type == Type::f32)
    readout_forward_of(s, (const float*)queries, (const float*)hidden, (float*)out, lse);
  else
    readout_forward_of(s, (const bf16*)queries, (const bf16*)hidden, (bf16*)out, lse);
}

static void readout_backward(const ReadoutShape& s, const void* queries, const void* hidden,
                             const void* dout, const float* lse, void* dqueries, void* dhidden) {
  if (s.attention.type == Type::f32)
    readout_backward_of(s, (const float*)queries, (const float*)hidden, (const float*)dout, lse,
                        (float*)dqueries, (float*)dhidden);
  else
    readout_backward_of(s, (const bf16*)queries, (const bf16*)hidden, (const bf16*)dout, lse,
                        (bf16*)dqueries, (bf16*)dhidden);
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
