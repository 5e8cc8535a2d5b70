// dropout, and LayerNorm(residual + dropout(x)) with its gradients; one pass over memory each way.
#pragma once

#include "philox.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Rows of a fixed block, so that column sums do not depend on the number of threads: at most 256
// blocks, at least 16 rows each.
INLINE std::int64_t block_rows(std::int64_t rows) {
  const std::int64_t even = (rows + 255) / 256;
  return even < 16 ? 16 : even;
}
INLINE std::int64_t block_count(std::int64_t rows) {
  return (rows + block_rows(rows) - 1) / block_rows(rows);
}

// Threads worth starting for this many elements.
INLINE int useful_threads(int threads, std::int64_t elements) {
  const std::int64_t most = 1 + elements / 16384;
  return (int)(most < threads ? most : threads);
}

template <class T>
void dropout_rows(std::int64_t n, std::int64_t groups, const T* x, T* y, const Dropout& dropout,
                  int threads) {
  const std::int64_t chunk = 4096;
  const std::int64_t chunks = (n + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, n* groups))
  for (std::int64_t k = 0; k < groups * chunks; ++k) {
    const std::int64_t group = k / chunks, c = k % chunks, shift = group * n;
    const std::int64_t stop = (c + 1) * chunk < n ? (c + 1) * chunk : n;
    const Keys keys = keys_of(dropout.seed);
    for (std::int64_t i = c * chunk; i < stop; i += 2 * kLanes) {
      const T* from = x + shift + i;
      T* to = y + shift + i;
      u32x16 words[2];
      philox32(keys, (dropout.first + group_element(group) + (std::uint64_t)i) / 4, words);
      if (i + 2 * kLanes <= stop) {
        store(to, keep(load(from), words[0], dropout));
        store(to + kLanes, keep(load(from + kLanes), words[1], dropout));
      } else {
        for (std::int64_t h = 0; h < 2 && i + h * kLanes < stop; ++h) {
          const std::int64_t at = h * kLanes, left = stop - i - at;
          const int lanes = (int)(left < kLanes ? left : kLanes);
          store_lanes(to + at, keep(load_lanes(from + at, lanes), words[h], dropout), lanes);
        }
      }
    }
  }
}

static void dropout(Type type, std::int64_t n, std::int64_t groups, const void* x, void* y,
                    Dropout d, int threads) {
  if (type == Type::f32)
    dropout_rows(n, groups, (const float*)x, (float*)y, d, threads);
  else
    dropout_rows(n, groups, (const bf16*)x, (bf16*)y, d, threads);
}

// Where the random numbers of a row start.
INLINE std::uint64_t norm_element(const NormShape& s, std::int64_t row) {
  const std::int64_t rows_per_group = s.rows / s.groups, group = row / rows_per_group;
  return group_element(group) + (std::uint64_t)((row - group * rows_per_group) * s.width);
}

// What the stored total rounds to: the statistics are those of the stored values.
INLINE f32x16 rounded(f32x16 v, const float*) { return v; }
INLINE f32x16 rounded(f32x16 v, const bf16*) { return widen(narrow(v)); }

template <class T>
void norm_forward_rows(const NormShape& s, const T* x, const T* residual, const float* weight,
                       const float* bias, T* out, T* total, float* mean, float* rstd) {
  const std::int64_t d = s.width, rows_per_group = s.rows / s.groups;
  const std::int64_t padded = round_up(d, kLanes);
  const float inverse_d = 1.0f / (float)d;
#pragma omp parallel num_threads(useful_threads(s.threads, s.rows* d))
  {
    static thread_local Scratch scratch;
    float* row = scratch.get<float>(padded + row_words_size(d));
    std::uint32_t* space = reinterpret_cast<std::uint32_t*>(row + padded);
#pragma omp for schedule(static)
    for (std::int64_t r = 0; r < s.rows; ++r) {
      const std::int64_t base = r * d;
      const float* w = weight + r / rows_per_group * d;
      const float* b = bias + r / rows_per_group * d;
      const std::uint32_t* words =
          s.dropout.on ? row_words(s.dropout, norm_element(s, r), d, space) : nullptr;
      f32x16 sum = {};
      for_columns(d, [&](std::int64_t i, int lanes) {
        f32x16 v = load_lanes(x + base + i, lanes);
        if (words) v = keep(v, load_raw<u32x16>(words + i), s.dropout);
        v = rounded(v + load_lanes(residual + base + i, lanes), (const T*)nullptr);
        v = first_lanes(v, lanes);
        store_lanes(total + base + i, v, lanes);
        store(row + i, v);
        sum += v;
      });
      const float mu = hsum(sum) * inverse_d;
      f32x16 squares = {};
      for_columns(d, [&](std::int64_t i, int lanes) {
        f32x16 v = first_lanes(load(row + i) - mu, lanes);
        squares += v * v;
      });
      const float rs = 1.0f / __builtin_sqrtf(hsum(squares) * inverse_d + s.eps);
      for_columns(d, [&](std::int64_t i, int lanes) {
        f32x16 v = (load(row + i) - mu) * rs;
        store_lanes(out + base + i, v * load_lanes(w + i, lanes) + load_lanes(b + i, lanes), lanes);
      });
      mean[r] = mu;
      rstd[r] = rs;
    }
  }
}

static void norm_forward(const NormShape& s, const void* x, const void* residual,
                         const float* weight, const float* bias, void* out, void* total,
                         float* mean, float* rstd) {
  if (s.type == Type::f32)
    norm_forward_rows(s, (const float*)x, (const float*)residual, weight, bias, (float*)out,
                      (float*)total, mean, rstd);
  else
    norm_forward_rows(s, (const bf16*)x, (const bf16*)residual, weight, bias, (bf16*)out,
                      (bf16*)total, mean, rstd);
}

// sums[c] = sum of partial[block][c] over the blocks in order.
static void add_blocks(std::int64_t blocks, std::int64_t width, std::int64_t stride,
                       const float* partial, float* sums) {
  for_columns(width, [&](std::int64_t i, int lanes) {
    f32x16 sum = {};
    for (std::int64_t k = 0; k < blocks; ++k) sum += load_lanes(partial + k * stride + i, lanes);
    store_lanes(sums + i, sum, lanes);
  });
}

template <class T>
void norm_backward_rows(const NormShape& s, const T* dout, const T* total, const float* mean,
                        const float* rstd, const float* weight, T* dx, T* dresidual,
                        float* dweight, float* dbias) {
  const std::int64_t d = s.width, rows_per_group = s.rows / s.groups;
  const std::int64_t padded = round_up(d, kLanes);
  const std::int64_t block = block_rows(rows_per_group), blocks = block_count(rows_per_group);
  const float inverse_d = 1.0f / (float)d;
  static thread_local Scratch partials;
  float* partial = partials.get<float>(s.groups * blocks * 2 * padded);
#pragma omp parallel num_threads(useful_threads(s.threads, s.rows* d))
  {
    static thread_local Scratch scratch;
    std::uint32_t* space = scratch.get<std::uint32_t>(row_words_size(d));
#pragma omp for schedule(static)
    for (std::int64_t k = 0; k < s.groups * blocks; ++k) {
      const std::int64_t group = k / blocks, first = group * rows_per_group + k % blocks * block;
      const std::int64_t end = (group + 1) * rows_per_group;
      const std::int64_t stop = first + block < end ? first + block : end;
      const float* w = weight + group * d;
      float* dw = partial + k * 2 * padded;
      float* db = dw + padded;
      std::memset(dw, 0, (std::size_t)(2 * padded) * sizeof(float));
      for (std::int64_t r = first; r < stop; ++r) {
        const std::int64_t base = r * d;
        const float mu = mean[r], rs = rstd[r];
        f32x16 sum_g = {}, sum_gx = {};
        for_columns(d, [&](std::int64_t i, int lanes) {
          const f32x16 dy = load_lanes(dout + base + i, lanes);
          const f32x16 xhat = (load_lanes(total + base + i, lanes) - mu) * rs;
          const f32x16 g = dy * load_lanes(w + i, lanes);
          sum_g += g;
          sum_gx += g * xhat;
          store(dw + i, load(dw + i) + dy * xhat);
          store(db + i, load(db + i) + dy);
        });
        const float c1 = hsum(sum_g) * inverse_d, c2 = hsum(sum_gx) * inverse_d;
        const std::uint32_t* words =
            s.dropout.on ? row_words(s.dropout, norm_element(s, r), d, space) : nullptr;
        for_columns(d, [&](std::int64_t i, int lanes) {
          const f32x16 xhat = (load_lanes(total + base + i, lanes) - mu) * rs;
          const f32x16 g = load_lanes(dout + base + i, lanes) * load_lanes(w + i, lanes);
          const f32x16 dt = (g - c1 - xhat * c2) * rs;
          store_lanes(dresidual + base + i, dt, lanes);
          if (words)
            store_lanes(dx + base + i, keep(dt, load_raw<u32x16>(words + i), s.dropout), lanes);
        });
      }
    }
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < s.groups; ++group) {
      const float* own = partial + group * blocks * 2 * padded;
      add_blocks(blocks, d, 2 * padded, own, dweight + group * d);
      add_blocks(blocks, d, 2 * padded, own + padded, dbias + group * d);
    }
  }
}

static void norm_backward(const NormShape& s, const void* dout, const void* total,
                          const float* mean, const float* rstd, const float* weight, void* dx,
                          void* dresidual, float* dweight, float* dbias) {
  if (s.type == Type::f32)
    norm_backward_rows(s, (const float*)dout, (const float*)total, mean, rstd, weight, (float*)dx,
                       (float*)dresidual, dweight, dbias);
  else
    norm_backward_rows(s, (const bf16*)dout, (const bf16*)total, mean, rstd, weight, (bf16*)dx,
                       (bf16*)dresidual, dweight, dbias);
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
