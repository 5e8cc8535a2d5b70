// Users against items, tile by tile: users are the lanes of panels, items the rows, and what becomes of
// a tile of scores happens while it stands in registers.
//
// A score is one chain of multiply-adds in the order of the width, wherever its item and user lie in
// tiles: equal vectors score equally, whatever the shapes and the number of threads.
#pragma once

#include "gemm.h"

namespace odmt_fast {
namespace ODMT_FAST_ISA {

// Vectors of one register, sixteen lanes in several are not kept in registers by every compiler; and tiles
// of kRows items by kVectors vectors of users that fill the registers.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 8, kVectors = 3;
#elif defined(__AVX2__)
constexpr int kWidth = 8, kRows = 6, kVectors = 2;
#else
constexpr int kWidth = 4, kRows = 2, kVectors = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kWidth)));

constexpr std::int64_t kPanel = kVectors * kWidth;

// Bit i: lane i of a is above that of b.
INLINE unsigned lanes_above(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#elif defined(__AVX2__)
  return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
#elif defined(__SSE__)
  return (unsigned)_mm_movemask_ps(_mm_cmpgt_ps((__m128)a, (__m128)b));
#else
  unsigned bits = 0;
  for (int lane = 0; lane < kWidth; ++lane) bits |= (unsigned)(a[lane] > b[lane]) << lane;
  return bits;
#endif
}

// The panel that a user stands in: [width, stride] of a branch.
struct Panel {
  std::int64_t user, stride;
};

INLINE Panel panel_of(const Search& s, std::int64_t user) {
  const std::int64_t first = user / kPanel * kPanel, left = s.lanes() - first;
  return {first, left < kPanel ? left : kPanel};
}

INLINE const float* lanes_of(const Search& s, const float* panels, Panel p, std::int64_t k) {
  return panels + (k * s.lanes() + p.user) * s.width;
}

// Scores of M items (rows of `width` floats) with V vectors of users.
template <int M, int V>
INLINE void products(std::int64_t width, const float* items, const float* users, std::int64_t stride,
                     Floats (&sum)[M][V]) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[m][v] = Floats{};
  for (std::int64_t i = 0; i < width; ++i) {
    Floats right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = load_raw<Floats>(users + i * stride + v * kWidth);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Floats left = Floats{} + items[m * width + i];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] += left * right[v];
    }
  }
}

template <class T>
void pack_of(const Search& s, float* panels) {
  for (std::int64_t k = 0; k < s.branches; ++k)
    for (std::int64_t user = 0; user < s.users; user += kPanel) {
      const Panel p = panel_of(s, user);
      const std::int64_t here = s.users - user < p.stride ? s.users - user : p.stride;
      const T* from = (const T*)s.queries + (k * s.users + user) * s.width;
      transpose(here, s.width, from, s.width, panels + (k * s.lanes() + p.user) * s.width,
                p.stride);
    }
}

static void pack(const Search& s, float* panels) {
  if (s.is_bf16)
    pack_of<bf16>(s, panels);
  else
    pack_of<float>(s, panels);
}

INLINE void copy_row(const Search& s, std::int64_t k, std::int64_t item, float* to) {
  const std::int64_t at = (k * s.items + item) * s.width;
  if (s.is_bf16)
    for_columns(s.width, [&](std::int64_t i, int lanes) {
      store_lanes(to + i, load_lanes((const bf16*)s.catalogue + at + i, lanes), lanes);
    });
  else
    std::memcpy(to, (const float*)s.catalogue + at, (std::size_t)s.width * sizeof(float));
}

// Items as rows of fp32, [branches, count, width] with `branch` floats between branches.
struct Rows {
  const float* data;
  std::int64_t branch;
};

// Those at positions begin .. end - 1: where they lie, or copied.
static Rows rows_of(const Search& s, std::int64_t begin, std::int64_t end) {
  if (!s.is_bf16 && !s.allowed)
    return {(const float*)s.catalogue + (begin + 1) * s.width, s.items * s.width};
  static thread_local Scratch copies;
  const std::int64_t branch = (end - begin) * s.width;
  float* to = copies.get<float>(s.branches * branch);
  for (std::int64_t k = 0; k < s.branches; ++k)
    for (std::int64_t i = begin; i < end; ++i)
      copy_row(s, k, s.row(i), to + k * branch + (i - begin) * s.width);
  return {to, branch};
}

static bool finite(const Search& s, Rows rows, std::int64_t count) {
  u32x16 most = {};
  for (std::int64_t k = 0; k < s.branches; ++k)
    for_columns(count * s.width, [&](std::int64_t i, int lanes) {
      const u32x16 bits = (u32x16)load_lanes(rows.data + k * rows.branch + i, lanes) & 0x7fffffffu;
      most = bits > most ? bits : most;
    });
  bool all = true;
  for (int lane = 0; lane < kLanes; ++lane) all = all && most[lane] < 0x7f800000u;
  return all;
}

// body(vectors, rows) with both as types: a panel has up to kVectors vectors, a tile kRows rows
// or, past the last whole tile, one.
template <int N>
struct Constant {
  static constexpr int value = N;
};

// tile(panel, item of the block, rows, vectors) over all tiles of a block and all panels.
template <class Tile>
INLINE void over_tiles(const Search& s, std::int64_t count, Tile&& tile) {
  for (std::int64_t user = 0; user < s.users; user += kPanel) {
    const Panel p = panel_of(s, user);
    const auto rows = [&](auto vectors) __attribute__((always_inline)) {
      std::int64_t i = 0;
      for (; i + kRows <= count; i += kRows) tile(p, i, Constant<kRows>{}, vectors);
      for (; i < count; ++i) tile(p, i, Constant<1>{}, vectors);
    };
    // Users come in sixteens: a last panel has fewer vectors only where a vector has as many lanes.
    if (p.stride == kPanel)
      rows(Constant<kVectors>{});
    else if (p.stride == kLanes)
      rows(Constant<1>{});
    else
      rows(Constant<2>{});
  }
}

template <int M, int V>
INLINE void count(const Floats (&scores)[M][V], const RankCounts& c, std::int64_t at) {
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    const std::int64_t lane = at + v * kWidth;
    const Floats bar = load_raw<Floats>(c.bar + lane);
    Ints above = load_raw<Ints>(c.above + lane), equal = load_raw<Ints>(c.equal + lane);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      above -= scores[m][v] > bar;
      equal -= scores[m][v] == bar;
    }
    std::memcpy(c.above + lane, &above, sizeof above);
    std::memcpy(c.equal + lane, &equal, sizeof equal);
  }
}

static bool rank_block(const Search& s, const float* panels, std::int64_t begin, std::int64_t end,
                       const RankCounts& counts) {
  const Rows block = rows_of(s, begin, end);
  const bool fine = finite(s, block, end - begin);
  over_tiles(s, end - begin, [&](Panel p, std::int64_t i, auto rows, auto vectors)
                                 __attribute__((always_inline)) {
    constexpr int M = decltype(rows)::value, V = decltype(vectors)::value;
    Floats scores[M][V], sum[M][V];
    for (std::int64_t k = 0; k < s.branches; ++k) {
      const float* items = block.data + k * block.branch + i * s.width;
      products(s.width, items, lanes_of(s, panels, p, k), p.stride, scores);
      count(scores, counts, k * s.lanes() + p.user);
      if (s.branches == 1) continue;
      for (int m = 0; m < M; ++m)
        for (int v = 0; v < V; ++v) sum[m][v] = k ? sum[m][v] + scores[m][v] : scores[m][v];
    }
    // The sum ranks as the mean does.
    if (s.branches > 1) count(sum, counts, s.branches * s.lanes() + p.user);
  });
  return fine;
}

// Scores [rankings, kRows] of one user with up to kRows items, as rank_block computes them.
static void own_scores(const Search& s, const float* panels, std::int64_t user,
                       const std::int64_t* items, int count, float* scores) {
  static thread_local Scratch copies;
  float* rows = copies.get<float>(kRows * s.width);
  const Panel p = panel_of(s, user);
  const std::int64_t vector = (user - p.user) / kWidth * kWidth;
  float* sums = scores + s.branches * kRows;
  for (std::int64_t k = 0; k < s.branches; ++k) {
    for (int m = 0; m < kRows; ++m)
      copy_row(s, k, items[m < count ? m : count - 1], rows + m * s.width);
    Floats found[kRows][1];
    products(s.width, rows, lanes_of(s, panels, p, k) + vector, p.stride, found);
    for (int m = 0; m < kRows; ++m) {
      const float score = found[m][0][user - p.user - vector];
      scores[k * kRows + m] = score;
      if (s.branches > 1) sums[m] = k ? sums[m] + score : score;
    }
  }
}

static void rank_own(const Search& s, const float* panels, const std::int64_t* targets, bool miss,
                     std::int64_t begin, std::int64_t end, const RankCounts& c) {
  static thread_local Scratch kept;
  float* scores = kept.get<float>(s.rankings() * kRows);
  const std::int64_t all = s.positions();
  for (std::int64_t user = begin; user < end; ++user) {
    const std::int64_t target = targets[user], first = s.offsets[user], last = s.offsets[user + 1];
    const bool takes_part = s.takes_part(target), missed = miss && s.leaves_out(user, target);
    std::int64_t out = 0;
    for (std::int64_t i = first; i < last; ++i) out += s.takes_part(s.excluded[i]);
    own_scores(s, panels, user, &target, 1, scores);
    for (std::int64_t r = 0; r < s.rankings(); ++r) {
      // A missed target scores -infinity, as the other excluded items do; no item is to be counted.
      c.bar[r * s.lanes() + user] = missed ? __builtin_inff() : scores[r * kRows];
      c.above[r * s.lanes() + user] = (std::int32_t)(missed ? 1 + all - out : 1);
      c.equal[r * s.lanes() + user] = (std::int32_t)(missed ? out : 0) - takes_part;
    }
    for (std::int64_t i = first; i < last && !missed; i += kRows) {
      const int count = last - i < kRows ? (int)(last - i) : kRows;
      own_scores(s, panels, user, s.excluded + i, count, scores);
      for (int m = 0; m < count; ++m) {
        if (s.excluded[i + m] == target || !s.takes_part(s.excluded[i + m])) continue;
        for (std::int64_t r = 0; r < s.rankings(); ++r) {
          const float bar = c.bar[r * s.lanes() + user];
          c.above[r * s.lanes() + user] -= scores[r * kRows + m] > bar;
          c.equal[r * s.lanes() + user] -= scores[r * kRows + m] == bar;
        }
      }
    }
  }
}

static void offer(const Search& s, const Best& best, std::int64_t user, std::int64_t item,
                  float score) {
  if (!(score > best.bar[user]) || s.leaves_out(user, item)) return;
  Candidate* mine = best.candidates + user * best.capacity;
  mine[best.size[user]++] = {score, (std::int32_t)item};
  if (best.size[user] < best.capacity) return;
  keep_best(mine, best.capacity, best.k);
  best.size[user] = (std::int32_t)best.k;
  // Items come in ascending order: a later one with this score would stand behind.
  best.bar[user] = mine[best.k - 1].score;
}

static bool top_k_block(const Search& s, const float* panels, std::int64_t begin, std::int64_t end,
                        const Best& best) {
  const Rows block = rows_of(s, begin, end);
  const bool fine = finite(s, block, end - begin);
  over_tiles(s, end - begin, [&](Panel p, std::int64_t i, auto rows, auto vectors)
                                 __attribute__((always_inline)) {
    constexpr int M = decltype(rows)::value, V = decltype(vectors)::value;
    Floats scores[M][V];
    products(s.width, block.data + i * s.width, lanes_of(s, panels, p, 0), p.stride, scores);
    unsigned above[M][V], any = 0;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Floats bar = load_raw<Floats>(best.bar + p.user + v * kWidth);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) any |= above[m][v] = lanes_above(scores[m][v], bar);
    }
    if (!any) return;
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < V; ++v)
        for (unsigned left = above[m][v]; left; left &= left - 1) {
          const int lane = __builtin_ctz(left);
          offer(s, best, p.user + v * kWidth + lane, s.row(begin + i + m), scores[m][v][lane]);
        }
  });
  return fine;
}

static SearchPasses search_passes() { return {pack, rank_own, rank_block, top_k_block}; }

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
