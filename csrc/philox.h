// Philox4x32 with 7 rounds (Salmon et al., SC 2011), eight counters at a time.
#pragma once

#include "vec.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Products of the low halves of 64-bit lanes.
INLINE u64x8 multiply_low(u64x8 a, std::uint32_t b) {
#if defined(__AVX512F__)
  return (u64x8)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#elif defined(__AVX2__)
  __m256i half[2];
  std::memcpy(half, &a, sizeof a);
  for (__m256i& h : half) h = _mm256_mul_epu32(h, _mm256_set1_epi64x(b));
  return load_raw<u64x8>(half);
#elif defined(__SSE2__)
  __m128i quarter[4];
  std::memcpy(quarter, &a, sizeof a);
  for (__m128i& q : quarter) q = _mm_mul_epu32(q, _mm_set1_epi64x(b));
  return load_raw<u64x8>(quarter);
#else
  return (a & 0xffffffffu) * (std::uint64_t)b;
#endif
}

// a ^ b ^ c.
INLINE u64x8 xor3(u64x8 a, u64x8 b, u64x8 c) {
#if defined(__AVX512F__)
  return (u64x8)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
  return a ^ b ^ c;
#endif
}

// The keys of the rounds, in every lane.
struct Keys {
  u64x8 even[7], odd[7];
};
INLINE Keys keys_of(std::uint64_t seed) {
  Keys keys;
  std::uint32_t k0 = (std::uint32_t)seed, k1 = (std::uint32_t)(seed >> 32);
  for (int round = 0; round < 7; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    keys.even[round] = u64x8{} + k0;
    keys.odd[round] = u64x8{} + k1;
  }
  return keys;
}

// Words of the elements 4c .. 4c + 31, in order: word j of counter i belongs to element 4i + j.
// Only the low half of a 64-bit lane counts until the end: the product leaves both halves in place.
INLINE void philox32(const Keys& keys, std::uint64_t c, u32x16 words[2]) {
  const u64x8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
  // The first round, whose upper two counter words are zero.
  u64x8 x0 = lane + c, x1, x2, x3;
  x3 = multiply_low(x0, 0xD2511F53u);
  x2 = (x3 >> 32) ^ keys.odd[0];
  x0 = (x0 >> 32) ^ keys.even[0];
  x1 = u64x8{};
#pragma GCC unroll 7
  for (int round = 1; round < 7; ++round) {
    const u64x8 p0 = multiply_low(x0, 0xD2511F53u), p1 = multiply_low(x2, 0xCD9E8D57u);
    x0 = xor3(p1 >> 32, x1, keys.even[round]);
    x2 = xor3(p0 >> 32, x3, keys.odd[round]);
    x1 = p1;
    x3 = p0;
  }
  const u64x8 a = (x0 & 0xffffffffu) | (x1 << 32), b = (x2 & 0xffffffffu) | (x3 << 32);
  words[0] = (u32x16)__builtin_shuffle(a, b, u64x8{0, 8, 1, 9, 2, 10, 3, 11});
  words[1] = (u32x16)__builtin_shuffle(a, b, u64x8{4, 12, 5, 13, 6, 14, 7, 15});
}

// x * scale where kept, zero elsewhere.
INLINE f32x16 keep(f32x16 x, u32x16 words, const Dropout& dropout) {
#if defined(__AVX512F__)
  const __mmask16 kept =
      _mm512_cmpge_epu32_mask((__m512i)words, _mm512_set1_epi32((int)dropout.threshold));
  return (f32x16)_mm512_maskz_mul_ps(kept, (__m512)x, _mm512_set1_ps(dropout.scale));
#else
  return words >= dropout.threshold ? x * dropout.scale : f32x16{};
#endif
}

// Space that row_words needs for a row of `width` elements.
INLINE std::int64_t row_words_size(std::int64_t width) { return width + 64; }

// Words of the elements e .. e + width - 1 after the first of all, those of a row, written to
// `space`; e need not be a multiple of four, so the answer may start inside the space.
INLINE const std::uint32_t* row_words(const Dropout& dropout, std::uint64_t e, std::int64_t width,
                                      std::uint32_t* space) {
  const std::int64_t skip = (std::int64_t)(e % 4);
  const Keys keys = keys_of(dropout.seed);
  for (std::int64_t i = 0; i < width + skip; i += 32)
    philox32(keys, (dropout.first + e + (std::uint64_t)i) / 4,
             reinterpret_cast<u32x16*>(space + i));
  return space + skip;
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
