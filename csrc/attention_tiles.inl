// The attention of attention.inl for bf16 on AMX tiles: the products take bf16 operands and sum in
// fp32; everything between them is the fp32 code of attention.inl.
//
// A left operand is bf16 rows; a right operand [K, N] is stored in pairs of k, [K / 2][N][2]. M and
// N are padded to 16, K to 32. Padded rows of a left operand may hold anything finite or not (they
// only reach rows that are thrown away); padding along K is zero on both sides.
#pragma once

#include "attention.inl"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

constexpr int kTile = 16, kDepth = 32;

struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct TileLeft {
  const bf16* data;
  std::int64_t row;
};

// 16 M rows by 16 N columns of A B, M and N in {1, 2}; b points at the first of its `pairs` columns.
template <int M, int N>
INLINE void tile_block(std::int64_t depth, TileLeft a, const bf16* b, std::int64_t pairs, float* c,
                       std::int64_t c_row) {
  _tile_zero(0);
  if constexpr (N == 2) _tile_zero(1);
  if constexpr (M == 2) _tile_zero(2);
  if constexpr (M == 2 && N == 2) _tile_zero(3);
  for (std::int64_t k = 0; k < depth; k += kDepth) {
    const bf16* right = b + k * pairs;
    _tile_loadd(4, a.data + k, a.row * 2);
    _tile_loadd(6, right, pairs * 4);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (N == 2) {
      _tile_loadd(7, right + 2 * kTile, pairs * 4);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (M == 2) {
      _tile_loadd(5, a.data + kTile * a.row + k, a.row * 2);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (M == 2 && N == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, c_row * 4);
  if constexpr (N == 2) _tile_stored(1, c + kTile, c_row * 4);
  if constexpr (M == 2) _tile_stored(2, c + kTile * c_row, c_row * 4);
  if constexpr (M == 2 && N == 2) _tile_stored(3, c + kTile * c_row + kTile, c_row * 4);
}

// body(row, column, M, N) over blocks of up to 32 by 32; M and N are integral constants.
template <int V>
struct Constant {
  static constexpr int value = V;
};
template <class Body>
INLINE void for_blocks(std::int64_t m, std::int64_t n, Body&& body) {
  for (std::int64_t j = 0; j < n; j += 2 * kTile)
    for (std::int64_t i = 0; i < m; i += 2 * kTile) {
      const bool two_rows = m - i > kTile, two_columns = n - j > kTile;
      if (two_rows && two_columns)
        body(i, j, Constant<2>{}, Constant<2>{});
      else if (two_rows)
        body(i, j, Constant<2>{}, Constant<1>{});
      else if (two_columns)
        body(i, j, Constant<1>{}, Constant<2>{});
      else
        body(i, j, Constant<1>{}, Constant<1>{});
    }
}

// c [m, n] fp32, m and n multiples of 16.
__attribute__((noinline)) void tile_gemm(std::int64_t m, std::int64_t n, std::int64_t depth,
                                         TileLeft a, const bf16* b, float* c, std::int64_t c_row) {
  for_blocks(m, n, [&](std::int64_t i, std::int64_t j, auto rows, auto columns) {
    tile_block<decltype(rows)::value, decltype(columns)::value>(
        depth, {a.data + i * a.row, a.row}, b + 2 * j, n, c + i * c_row + j, c_row);
  });
}

// The first `rows` rows and `columns` columns of A B to bf16 rows of another stride.
__attribute__((noinline)) void tile_gemm_to(std::int64_t rows, std::int64_t columns,
                                            std::int64_t depth, TileLeft a, const bf16* b,
                                            bf16* to, std::int64_t to_row) {
  alignas(64) float block[4 * kTile * kTile];
  const std::int64_t m = round_up(rows, kTile), n = round_up(columns, kDepth);
  for_blocks(m, n, [&](std::int64_t i, std::int64_t j, auto tall, auto wide) {
    tile_block<decltype(tall)::value, decltype(wide)::value>(
        depth, {a.data + i * a.row, a.row}, b + 2 * j, n, block, 2 * kTile);
    const std::int64_t live = rows - i < 2 * kTile ? rows - i : 2 * kTile;
    const std::int64_t width = columns - j < 2 * kTile ? columns - j : 2 * kTile;
    for (std::int64_t r = 0; r < live; ++r)
      for_columns(width, [&](std::int64_t x, int lanes) {
        store_lanes(to + (i + r) * to_row + j + x, load(block + r * 2 * kTile + x), lanes);
      });
  });
}

// [n, d] rows as the right operand [d, n]: pairs along d, so a transpose of 32-bit elements.
INLINE void pack_turned(std::int64_t n, std::int64_t d, TileLeft x, bf16* to) {
  transpose(n, d / 2, (const float*)x.data, x.row / 2, (float*)to, round_up(n, kTile));
}

// [n, d] rows as the right operand [n, d]: row 2i and 2i + 1 interleaved; rows n .. become zero.
__attribute__((noinline)) void pack_pairs(std::int64_t n, std::int64_t d, TileLeft x, bf16* to) {
  const __m512i low = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35,
      3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (std::int64_t i = 0; i < round_up(n, kDepth); i += 2)
    for (std::int64_t j = 0; j < d; j += kDepth) {
      const __m512i zero = _mm512_setzero_si512();
      const __m512i a = i < n ? _mm512_loadu_si512(x.data + i * x.row + j) : zero;
      const __m512i b = i + 1 < n ? _mm512_loadu_si512(x.data + (i + 1) * x.row + j) : zero;
      _mm512_storeu_si512(to + i * d + 2 * j, _mm512_permutex2var_epi16(a, low, b));
      _mm512_storeu_si512(to + i * d + 2 * j + kDepth, _mm512_permutex2var_epi16(a, high, b));
    }
}

// The rows of a segment with d padded to 32 columns: themselves where the tiles may read past the
// segment, else a copy padded with zeros.
INLINE TileLeft tile_rows(const AttentionShape& s, Heads x, Segment g, bf16* copy) {
  const std::int64_t d = round_up(s.width, kDepth), rows = round_up(g.length, kTile);
  const bf16* from = rows_of<bf16>(x, g);
  if (d == s.width && x.token % 2 == 0 && g.first + rows <= s.cu_seqlens[s.segments])
    return {from, x.token};
  std::memset(copy, 0, (std::size_t)(rows * d) * sizeof(bf16));
  if (s.width == 0) return {copy, d};  // memcpy takes no null pointer, not even for nothing
  for (std::int64_t r = 0; r < g.length; ++r)
    std::memcpy(copy + r * d, from + r * x.token, (std::size_t)s.width * sizeof(bf16));
  return {copy, d};
}

// fp32 [rows, columns] -> bf16 rows of `stride`, zero beyond the columns.
INLINE void narrow_rows(std::int64_t rows, std::int64_t columns, const float* from,
                        std::int64_t from_row, bf16* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; i += kLanes)
      store(to + r * stride + i, load(from + r * from_row + i));
    for (std::int64_t i = columns; i < stride; i += kLanes) store(to + r * stride + i, f32x16{});
  }
}

static void tile_attention_forward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads out,
                                   float* lse) {
  const std::int64_t d = round_up(s.width, kDepth);
#pragma omp parallel num_threads(s.threads)
  {
    static thread_local Scratch scratch;
    const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < s.segments * s.heads; ++task) {
      const Segment g = segment_of(s, task);
      const std::int64_t n = g.length, m = round_up(n, kTile), depth = round_up(n, kDepth);
      float* p = scratch.get<float>(m * m + row_words_size(m) + (m * depth + 3 * depth * d) / 2);
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(p + m * m);
      bf16* narrowed = reinterpret_cast<bf16*>(p + m * m + row_words_size(m));
      bf16* packed = narrowed + m * depth;
      bf16* copy = packed + depth * d;
      pack_turned(n, d, tile_rows(s, k, g, copy), packed);
      tile_gemm(m, m, d, tile_rows(s, q, g, copy), packed, p, m);
      for (std::int64_t i = 0; i < n; ++i)
        lse[(g.first + i) * s.heads + g.head] =
            softmax_row(p + i * m, visible_keys(s.mask, i, n), m, s.scale, s.dropout,
                        attention_element(s, g, i), space);
      narrow_rows(n, m, p, m, narrowed, depth);
      pack_pairs(n, d, tile_rows(s, v, g, copy), packed);
      tile_gemm_to(n, s.width, depth, {narrowed, depth}, packed, rows_of<bf16>(out, g), out.token);
    }
    _tile_release();
  }
}

static void tile_attention_backward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads dout,
                                    const float* lse, Heads dq, Heads dk, Heads dv) {
  const std::int64_t d = round_up(s.width, kDepth);
#pragma omp parallel num_threads(s.threads)
  {
    static thread_local Scratch scratch;
    const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < s.segments * s.heads; ++task) {
      const Segment g = segment_of(s, task);
      const std::int64_t n = g.length, m = round_up(n, kTile), depth = round_up(n, kDepth);
      float* p =
          scratch.get<float>(2 * m * m + row_words_size(m) + (m * depth + 3 * depth * d) / 2);
      float* ds = p + m * m;
      std::uint32_t* space = reinterpret_cast<std::uint32_t*>(ds + m * m);
      bf16* narrowed = reinterpret_cast<bf16*>(ds + m * m + row_words_size(m));
      bf16* packed = narrowed + m * depth;
      bf16* copy = packed + depth * d;
      bf16* other = copy + depth * d;
      pack_turned(n, d, tile_rows(s, k, g, copy), packed);
      tile_gemm(m, m, d, tile_rows(s, q, g, copy), packed, p, m);
      pack_turned(n, d, tile_rows(s, v, g, copy), packed);
      const TileLeft gradient = tile_rows(s, dout, g, other);
      tile_gemm(m, m, d, gradient, packed, ds, m);
      for (std::int64_t i = 0; i < n; ++i)
        softmax_backward_row(p + i * m, ds + i * m, lse[(g.first + i) * s.heads + g.head],
                             visible_keys(s.mask, i, n), m, s.scale, s.dropout,
                             attention_element(s, g, i), space);
      transpose(n, m, p, m, narrowed, depth);
      pack_pairs(n, d, gradient, packed);
      tile_gemm_to(n, s.width, depth, {narrowed, depth}, packed, rows_of<bf16>(dv, g), dv.token);
      narrow_rows(n, m, ds, m, narrowed, depth);
      pack_pairs(n, d, tile_rows(s, k, g, copy), packed);
      tile_gemm_to(n, s.width, depth, {narrowed, depth}, packed, rows_of<bf16>(dq, g), dq.token);
      transpose(n, m, ds, m, narrowed, depth);
      pack_pairs(n, d, tile_rows(s, q, g, copy), packed);
      tile_gemm_to(n, s.width, depth, {narrowed, depth}, packed, rows_of<bf16>(dk, g), dk.token);
    }
    _tile_release();
  }
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
