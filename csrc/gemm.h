// Small fp32 matrix products that stay in cache: C [M, N] = A [M, K] B [K, N].
#pragma once

#include "vec.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVectors = 3;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 1;
#else
constexpr int kTileRows = 2, kTileVectors = 1;
#endif

// A(m, k) = data[m * row + k * column]; B and C have rows of contiguous columns.
struct Left {
  const float* data;
  std::int64_t row, column;
};
template <class T>
struct Right {
  const T* data;
  std::int64_t row;
};
template <class T>
struct Result {
  T* data;
  std::int64_t row;
};

// M rows by V vectors in registers over the whole depth; the last vector has `lanes` columns.
template <int M, int V, class B, class C>
INLINE void gemm_tile(std::int64_t depth, Left a, Right<B> b, Result<C> c, int lanes) {
  f32x16 sum[M][V] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    const B* row = b.data + k * b.row;
    const float* left = a.data + k * a.column;
    f32x16 right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      right[v] = load_lanes(row + v * kLanes, v == V - 1 ? lanes : kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const f32x16 x = fill(left[m * a.row]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] += x * right[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      store_lanes(c.data + m * c.row + v * kLanes, sum[m][v], v == V - 1 ? lanes : kLanes);
}

template <int M, class B, class C>
INLINE void gemm_rows(std::int64_t n, std::int64_t depth, Left a, Right<B> b, Result<C> c) {
  std::int64_t i = 0;
  const auto at = [&](std::int64_t column) { return Right<B>{b.data + column, b.row}; };
  const auto to = [&](std::int64_t column) { return Result<C>{c.data + column, c.row}; };
  for (; i + kTileVectors * kLanes <= n; i += kTileVectors * kLanes)
    gemm_tile<M, kTileVectors>(depth, a, at(i), to(i), kLanes);
  for (; i + kLanes <= n; i += kLanes) gemm_tile<M, 1>(depth, a, at(i), to(i), kLanes);
  if (i < n) gemm_tile<M, 1>(depth, a, at(i), to(i), (int)(n - i));
}

template <class B, class C>
__attribute__((noinline)) void gemm(std::int64_t m, std::int64_t n, std::int64_t depth, Left a,
                                    Right<B> b, Result<C> c) {
  const auto skip = [&](std::int64_t rows) {
    a.data += rows * a.row;
    c.data += rows * c.row;
    m -= rows;
  };
  for (; m >= kTileRows; skip(kTileRows)) gemm_rows<kTileRows>(n, depth, a, b, c);
  if constexpr (kTileRows > 4)
    for (; m >= 4; skip(4)) gemm_rows<4>(n, depth, a, b, c);
  if constexpr (kTileRows > 2)
    for (; m >= 2; skip(2)) gemm_rows<2>(n, depth, a, b, c);
  for (; m >= 1; skip(1)) gemm_rows<1>(n, depth, a, b, c);
}

// to [columns, stride] = transpose of from [rows, columns]; columns rows .. stride - 1 become zero.
template <class From, class To>
__attribute__((noinline)) void transpose(std::int64_t rows, std::int64_t columns, const From* from,
                                         std::int64_t from_row, To* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < stride; r += kLanes) {
    const int live = (int)(rows - r < kLanes ? rows - r : kLanes);
    for_columns(columns, [&](std::int64_t i, int lanes) {
      f32x16 block[kLanes];
      for (int j = 0; j < kLanes; ++j)
        block[j] = j < live ? load_lanes(from + (r + j) * from_row + i, lanes) : f32x16{};
      // Exchange halves of pairs of rows at distance 8, 4, 2, 1.
      const i32x16 low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
      const i32x16 low4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
      const i32x16 low2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
      const i32x16 low1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
      const auto exchange = [&](int distance, i32x16 low) __attribute__((always_inline)) {
        for (int j = 0; j < kLanes; ++j) {
          if (j & distance) continue;
          const f32x16 a = block[j], b = block[j + distance];
          block[j] = __builtin_shuffle(a, b, low);
          block[j + distance] = __builtin_shuffle(a, b, low + distance);
        }
      };
      exchange(8, low8);
      exchange(4, low4);
      exchange(2, low2);
      exchange(1, low1);
      for (int j = 0; j < lanes; ++j) store(to + (i + j) * stride + r, block[j]);
    });
  }
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
