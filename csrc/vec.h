// Sixteen lanes of fp32 whatever the instruction set, and the few operations the kernels need.
//
// Every kernels_<isa>.cpp compiles the same sources inside its own namespace ODMT_FAST_ISA with its
// own flags; the compiler splits the lanes where registers are narrower. No standard template is
// used in these sources: a shared inline function compiled for AVX-512 could otherwise be the copy
// that the linker keeps for every CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define INLINE inline __attribute__((always_inline))

namespace odmt_fast {
namespace ODMT_FAST_ISA {

typedef float f32x16 __attribute__((vector_size(64)));
typedef std::uint32_t u32x16 __attribute__((vector_size(64)));
typedef std::int32_t i32x16 __attribute__((vector_size(64)));
typedef std::uint64_t u64x8 __attribute__((vector_size(64)));
typedef std::uint16_t u16x16 __attribute__((vector_size(32)));

constexpr int kLanes = 16;

INLINE std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

INLINE f32x16 fill(float x) { return f32x16{} + x; }

template <class V>
INLINE V load_raw(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

INLINE f32x16 widen(u16x16 bits) {
  return (f32x16)(__builtin_convertvector(bits, u32x16) << 16);
}

// The bits of a bfloat16 in each lane: rounded to nearest even, NaN stays NaN.
template <class U, class V>
INLINE U bf16_bits(V v) {
  const U bits = (U)v, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return v == v ? rounded : ((bits >> 16) | 0x40u);
}

INLINE u16x16 narrow(f32x16 v) {
#if defined(__AVX512BF16__)
  return (u16x16)_mm512_cvtneps_pbh((__m512)v);
#else
  return __builtin_convertvector(bf16_bits<u32x16>(v), u16x16);
#endif
}

INLINE f32x16 load(const float* p) { return load_raw<f32x16>(p); }
INLINE f32x16 load(const bf16* p) { return widen(load_raw<u16x16>(p)); }
INLINE void store(float* p, f32x16 v) { std::memcpy(p, &v, sizeof v); }
INLINE void store(bf16* p, f32x16 v) {
  u16x16 bits = narrow(v);
  std::memcpy(p, &bits, sizeof bits);
}

// The first n lanes, 0 < n < 16; the others read as zero and are not written.
#if defined(__AVX512F__)
INLINE f32x16 load(const float* p, int n) {
  return (f32x16)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE f32x16 load(const bf16* p, int n) {
  return widen((u16x16)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
INLINE void store(float* p, f32x16 v, int n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
INLINE void store(bf16* p, f32x16 v, int n) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)narrow(v));
}
#else
template <class T>
INLINE f32x16 load(const T* p, int n) {
  T lanes[kLanes] = {};
  std::memcpy(lanes, p, n * sizeof(T));
  return load(lanes);
}
template <class T>
INLINE void store(T* p, f32x16 v, int n) {
  T lanes[kLanes];
  store(lanes, v);
  std::memcpy(p, lanes, n * sizeof(T));
}
#endif

// body(column, lanes) over the columns of a row, sixteen at a time; lanes == 16 is a constant.
template <class Body>
INLINE void for_columns(std::int64_t n, Body&& body) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, (int)(n - i));
}
template <class T>
INLINE f32x16 load_lanes(const T* p, int n) {
  return n == kLanes ? load(p) : load(p, n);
}
template <class T>
INLINE void store_lanes(T* p, f32x16 v, int n) {
  if (n == kLanes)
    store(p, v);
  else
    store(p, v, n);
}
INLINE f32x16 first_lanes(f32x16 v, int n, f32x16 others = f32x16{}) {
  const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return n == kLanes ? v : (lane < n ? v : others);
}

INLINE f32x16 vmax(f32x16 a, f32x16 b) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

INLINE float hsum(f32x16 v) {
  typedef float f32x8 __attribute__((vector_size(32)));
  typedef float f32x4 __attribute__((vector_size(16)));
  f32x8 half[2];
  std::memcpy(half, &v, sizeof v);
  f32x8 sum8 = half[0] + half[1];
  f32x4 quarter[2];
  std::memcpy(quarter, &sum8, sizeof sum8);
  f32x4 sum = quarter[0] + quarter[1];
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

INLINE float hmax(f32x16 v) {
  v = vmax(v, __builtin_shuffle(v, i32x16{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}));
  v = vmax(v, __builtin_shuffle(v, i32x16{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11}));
  v = vmax(v, __builtin_shuffle(v, i32x16{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13}));
  v = vmax(v, __builtin_shuffle(v, i32x16{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));
  return v[0];
}

// e^x within 2 ulp for x in [-87, 88], NaN stays NaN: 2^n e^r, Cody-Waite reduction and the Cephes
// polynomial.
template <class U, class V>
INLINE V exp_within(V x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V shifted = x * 1.44269504088896341f + magic;
  const V n = shifted - magic;
  V r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const U power = ((U)shifted - 0x4B400000u + 127u) << 23;
  return p * (V)power;
}

// As exp_within; x below -87 gives about 1e-38.
INLINE f32x16 vexp(f32x16 x) {
#if defined(__AVX512F__)
  x = (f32x16)_mm512_max_ps(_mm512_set1_ps(-87.0f), (__m512)x);
#else
  x = x < -87.0f ? fill(-87.0f) : x;
#endif
  return exp_within<u32x16>(x);
}

// A buffer of one thread that grows and is kept: a fresh allocation would cost page faults.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  template <class T>
  T* get(std::int64_t count) {
    std::size_t bytes = (std::size_t)round_up(count * (std::int64_t)sizeof(T) + 64, 4096);
    if (bytes > size_) {
      std::free(data_);
      data_ = std::aligned_alloc(4096, bytes);
      size_ = bytes;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
