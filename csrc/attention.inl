// Attention within packed segments, fp32 arithmetic; one (segment, head) at a time, all in cache.
//
// Forward  S = scale Q K^T, P = softmax(S), out = keep(P) V; only lse is saved.
// Backward S again, P = exp(S - lse), dA = dout V^T, dS = scale P (keep(dA) - sum_j P keep(dA)),
//          dV = keep(P)^T dout, dQ = dS K, dK = dS^T Q.
// Every mask lets row i read a prefix of its segment, so masked keys are simply not computed.
#pragma once

#include "gemm.h"
#include "philox.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Keys 0 .. visible - 1 are read by row i of a segment of `length` tokens.
INLINE std::int64_t visible_keys(Mask mask, std::int64_t i, std::int64_t length) {
  if (mask == Mask::causal) return i + 1;
  return mask == Mask::asymmetric && i + 1 < length ? length - 1 : length;
}

// One (segment, head): its rows and where its random numbers start.
struct Segment {
  std::int64_t first, length, head;
};
INLINE Segment segment_of(const AttentionShape& s, std::int64_t task) {
  const std::int64_t segment = task / s.heads;
  const std::int64_t first = s.cu_seqlens[segment];
  return {first, s.cu_seqlens[segment + 1] - first, task % s.heads};
}
INLINE std::uint64_t attention_element(const AttentionShape& s, Segment g, std::int64_t row) {
  const std::int64_t token = g.first + row, group = token / s.group_tokens;
  return group_element(group) +
         (std::uint64_t)((token - group * s.group_tokens) * s.heads + g.head) * 512;
}

template <class T>
INLINE T* rows_of(Heads x, Segment g) {
  return (T*)x.data + g.first * x.token + g.head * x.head;
}

// Products of a row -> kept probabilities of scale times them, zero beyond the visible keys;
// returns lse.
INLINE float softmax_row(float* row, std::int64_t visible, std::int64_t stride, float scale,
                         const Dropout& dropout, std::uint64_t element, std::uint32_t* space) {
  f32x16 top = fill(-3.0e38f);
  for_columns(visible, [&](std::int64_t i, int lanes) {
    const f32x16 logits = load(row + i) * scale;
    store(row + i, logits);
    top = vmax(top, first_lanes(logits, lanes, fill(-3.0e38f)));
  });
  const float m = hmax(top);
  f32x16 total = {};
  for_columns(visible, [&](std::int64_t i, int lanes) {
    const f32x16 e = first_lanes(vexp(load(row + i) - m), lanes);
    store(row + i, e);
    total += e;
  });
  const float sum = hsum(total);
  const f32x16 inverse = fill(1.0f / sum);
  const std::uint32_t* words = dropout.on ? row_words(dropout, element, visible, space) : nullptr;
  for_columns(visible, [&](std::int64_t i, int) {
    const f32x16 p = load(row + i) * inverse;
    store(row + i, words ? keep(p, load_raw<u32x16>(words + i), dropout) : p);
  });
  for (std::int64_t i = round_up(visible, kLanes); i < stride; i += kLanes)
    store(row + i, f32x16{});
  return m + __builtin_logf(sum);
}

// Products s and dA of a row -> kept probabilities (in s) and scaled dS (in da), zero where masked.
INLINE void softmax_backward_row(float* s, float* da, float lse, std::int64_t visible,
                                 std::int64_t stride, float scale, const Dropout& dropout,
                                 std::uint64_t element, std::uint32_t* space) {
  const std::uint32_t* words = dropout.on ? row_words(dropout, element, visible, space) : nullptr;
  f32x16 total = {};
  for_columns(visible, [&](std::int64_t i, int lanes) {
    const f32x16 p = first_lanes(vexp(load(s + i) * scale - lse), lanes);
    f32x16 g = first_lanes(load(da + i), lanes);
    if (words) g = keep(g, load_raw<u32x16>(words + i), dropout);
    store(s + i, p);
    store(da + i, g);
    total += p * g;
  });
  const float delta = hsum(total);
  for_columns(visible, [&](std::int64_t i, int) {
    const f32x16 p = load(s + i);
    store(da + i, p * (load(da + i) - delta) * scale);
    if (words) store(s + i, keep(p, load_raw<u32x16>(words + i), dropout));
  });
  for (std::int64_t i = round_up(visible, kLanes); i < stride; i += kLanes) {
    store(s + i, f32x16{});
    store(da + i, f32x16{});
  }
}

// The rows of a segment as fp32 with unit column stride: themselves, or a copy.
INLINE Left as_left(const float* x, std::int64_t stride, std::int64_t, std::int64_t, float*) {
  return {x, stride, 1};
}
INLINE Left as_left(const bf16* x, std::int64_t stride, std::int64_t rows, std::int64_t width,
                    float* copy) {
  for (std::int64_t r = 0; r < rows; ++r)
    for_columns(width, [&](std::int64_t i, int lanes) {
      store_lanes(copy + r * width + i, load_lanes(x + r * stride + i, lanes), lanes);
    });
  return {copy, width, 1};
}

template <class T>
void attention_forward_of(const AttentionShape& s, Heads q, Heads k, Heads v, Heads out,
                          float* lse) {
  const std::int64_t d = s.width;
#pragma omp parallel num_threads(s.threads)
  {
    static thread_local Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < s.segments * s.heads; ++task) {
      const Segment g = segment_of(s, task);
      const std::int64_t n = g.length, stride = round_up(n, kLanes);
      float* logits = scratch.get<float>((stride + d) * stride + n * d + row_words_size(stride));
      float* keys = logits + stride * stride;
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(keys + d * stride);
      float* copy = keys + d * stride + row_words_size(stride);
      transpose(n, d, rows_of<T>(k, g), k.token, keys, stride);
      gemm(n, stride, d, as_left(rows_of<T>(q, g), q.token, n, d, copy),
           Right<float>{keys, stride}, Result<float>{logits, stride});
      for (std::int64_t i = 0; i < n; ++i)
        lse[(g.first + i) * s.heads + g.head] =
            softmax_row(logits + i * stride, visible_keys(s.mask, i, n), stride, s.scale,
                        s.dropout, attention_element(s, g, i), space);
      gemm(n, d, n, Left{logits, stride, 1}, Right<T>{rows_of<T>(v, g), v.token},
           Result<T>{rows_of<T>(out, g), out.token});
    }
  }
}

template <class T>
void attention_backward_of(const AttentionShape& s, Heads q, Heads k, Heads v, Heads dout,
                           const float* lse, Heads dq, Heads dk, Heads dv) {
  const std::int64_t d = s.width;
#pragma omp parallel num_threads(s.threads)
  {
    static thread_local Scratch scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < s.segments * s.heads; ++task) {
      const Segment g = segment_of(s, task);
      const std::int64_t n = g.length, stride = round_up(n, kLanes);
      float* p = scratch.get<float>((2 * stride + d) * stride + n * d + row_words_size(stride));
      float* ds = p + stride * stride;
      float* turned = ds + stride * stride;
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(turned + d * stride);
      float* copy = turned + d * stride + row_words_size(stride);
      transpose(n, d, rows_of<T>(k, g), k.token, turned, stride);
      gemm(n, stride, d, as_left(rows_of<T>(q, g), q.token, n, d, copy),
           Right<float>{turned, stride}, Result<float>{p, stride});
      transpose(n, d, rows_of<T>(v, g), v.token, turned, stride);
      gemm(n, stride, d, as_left(rows_of<T>(dout, g), dout.token, n, d, copy),
           Right<float>{turned, stride}, Result<float>{ds, stride});
      for (std::int64_t i = 0; i < n; ++i)
        softmax_backward_row(p + i * stride, ds + i * stride,
                             lse[(g.first + i) * s.heads + g.head], visible_keys(s.mask, i, n),
                             stride, s.scale, s.dropout, attention_element(s, g, i), space);
      gemm(n, d, n, Left{p, 1, stride}, Right<T>{rows_of<T>(dout, g), dout.token},
           Result<T>{rows_of<T>(dv, g), dv.token});
      gemm(n, d, n, Left{ds, stride, 1}, Right<T>{rows_of<T>(k, g), k.token},
           Result<T>{rows_of<T>(dq, g), dq.token});
      gemm(n, d, n, Left{ds, 1, stride}, Right<T>{rows_of<T>(q, g), q.token},
           Result<T>{rows_of<T>(dk, g), dk.token});
    }
  }
}

static void attention_forward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads out,
                              float* lse) {
  if (s.type == Type::f32)
    attention_forward_of<float>(s, q, k, v, out, lse);
  else
    attention_forward_of<bf16>(s, q, k, v, out, lse);
}

static void attention_backward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads dout,
                               const float* lse, Heads dq, Heads dk, Heads dv) {
  if (s.type == Type::f32)
    attention_backward_of<float>(s, q, k, v, dout, lse, dq, dk, dv);
  else
    attention_backward_of<bf16>(s, q, k, v, dout, lse, dq, dk, dv);
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
