// Passes over a matrix around a product: ReLU, and bias gradients, alone or with that of a ReLU.
#pragma once

#include "residual_norm.inl"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Sums over the rows of value(row, column, lanes), which may write what it computes; fixed blocks
// of rows, then the blocks in order.
template <class Value>
INLINE void sum_columns(std::int64_t rows, std::int64_t width, float* sums, int threads,
                        Value&& value) {
  const std::int64_t padded = round_up(width, kLanes);
  const std::int64_t block = block_rows(rows), blocks = block_count(rows);
  static thread_local Scratch partials;
  float* partial = partials.get<float>(blocks * padded);
#pragma omp parallel num_threads(useful_threads(threads, rows* width))
  {
#pragma omp for schedule(static)
    for (std::int64_t k = 0; k < blocks; ++k) {
      const std::int64_t stop = (k + 1) * block < rows ? (k + 1) * block : rows;
      float* sum = partial + k * padded;
      std::memset(sum, 0, (std::size_t)padded * sizeof(float));
      for (std::int64_t r = k * block; r < stop; ++r)
        for_columns(width, [&](std::int64_t i, int lanes) {
          store(sum + i, load(sum + i) + value(r, i, lanes));
        });
    }
    const std::int64_t panel = 256;
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < width; i += panel)
      add_blocks(blocks, width - i < panel ? width - i : panel, padded, partial + i, sums + i);
  }
}

template <class T>
void column_sum_of(std::int64_t rows, std::int64_t width, const T* x, float* sums, int threads) {
  sum_columns(rows, width, sums, threads, [=](std::int64_t r, std::int64_t i, int lanes) {
    return load_lanes(x + r * width + i, lanes);
  });
}

static void column_sum(Type type, std::int64_t rows, std::int64_t width, const void* x, float* sums,
                       int threads) {
  if (type == Type::f32)
    column_sum_of(rows, width, (const float*)x, sums, threads);
  else
    column_sum_of(rows, width, (const bf16*)x, sums, threads);
}

template <class T>
void relu_of(std::int64_t rows, std::int64_t width, T* x, int threads) {
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, rows* width))
  for (std::int64_t r = 0; r < rows; ++r)
    for_columns(width, [&](std::int64_t i, int lanes) {
      // Not a maximum: a NaN must stay one.
      const f32x16 value = load_lanes(x + r * width + i, lanes);
      store_lanes(x + r * width + i, value < 0.0f ? f32x16{} : value, lanes);
    });
}

static void relu(Type type, std::int64_t rows, std::int64_t width, void* x, int threads) {
  if (type == Type::f32)
    relu_of(rows, width, (float*)x, threads);
  else
    relu_of(rows, width, (bf16*)x, threads);
}

template <class T>
void relu_backward_bias_of(std::int64_t rows, std::int64_t width, T* dh, const T* h, float* dbias,
                           int threads) {
  sum_columns(rows, width, dbias, threads, [=](std::int64_t r, std::int64_t i, int lanes) {
    const f32x16 active = load_lanes(h + r * width + i, lanes);
    f32x16 gradient = load_lanes(dh + r * width + i, lanes);
    gradient = active > 0.0f ? gradient : f32x16{};
    store_lanes(dh + r * width + i, gradient, lanes);
    return gradient;
  });
}

static void relu_backward_bias(Type type, std::int64_t rows, std::int64_t width, void* dh,
                               const void* h, float* dbias, int threads) {
  if (type == Type::f32)
    relu_backward_bias_of(rows, width, (float*)dh, (const float*)h, dbias, threads);
  else
    relu_backward_bias_of(rows, width, (bf16*)dh, (const bf16*)h, dbias, threads);
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
