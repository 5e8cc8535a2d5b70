// Exact search of a catalogue by inner products (kernels/rank_of_target, kernels/top_k): what a search
// is given, and the passes that every instruction set has. Scores exist in registers alone.
#pragma once

#include <cstdint>

// No copy of its own that the linker could keep for every CPU (csrc/README.md).
#define ODMT_FAST_INLINE __attribute__((always_inline))

namespace odmt_fast {

struct Search {
  bool is_bf16;
  std::int64_t branches, users, items, width;
  const void* queries;    // [branches, users, width]
  const void* catalogue;  // [branches, items, width]; row 0 is padding
  const std::uint8_t* allowed;  // [items], which take part beside row 0, which never does; null: all
  // Where there is `allowed`: the rows that take part, ascending.
  const std::int64_t* rows;
  std::int64_t row_count;
  // CSR of the rows left out for each user, ascending and distinct.
  const std::int64_t *offsets, *excluded;

  // Rankings that are counted: the branches and, where there are several, their mean.
  ODMT_FAST_INLINE std::int64_t rankings() const { return branches + (branches > 1); }
  // Users rounded up to whole vectors: the row of every array of lanes.
  ODMT_FAST_INLINE std::int64_t lanes() const { return (users + 15) / 16 * 16; }
  ODMT_FAST_INLINE std::int64_t positions() const { return allowed ? row_count : items - 1; }
  ODMT_FAST_INLINE std::int64_t row(std::int64_t position) const { return allowed ? rows[position] : position + 1; }
  ODMT_FAST_INLINE bool takes_part(std::int64_t item) const { return item != 0 && (!allowed || allowed[item]); }
  ODMT_FAST_INLINE bool leaves_out(std::int64_t user, std::int64_t item) const {
    std::int64_t low = offsets[user], high = offsets[user + 1];
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (excluded[middle] < item)
        low = middle + 1;
      else
        high = middle;
    }
    return low < offsets[user + 1] && excluded[low] == item;
  }
};

// [rankings, lanes] each: the target's score, items above it, other items that equal it.
struct RankCounts {
  float* bar;
  std::int32_t *above, *equal;
};

struct Candidate {
  float score;
  std::int32_t item;
};

// The best items of each user that one thread has met so far.
struct Best {
  std::int64_t k, capacity;
  float* bar;              // [lanes], the k-th best score once k are certain; infinity past the users
  std::int32_t* size;      // [users]
  Candidate* candidates;  // [users, capacity]
};

// Moves the k best of n candidates to the front, the k-th to place k - 1: higher scores first, of equal
// scores the lower item.
void keep_best(Candidate* candidates, std::int64_t n, std::int64_t k);

struct SearchPasses {
  // Queries to fp32 panels [branches, lanes, width], users in lanes.
  void (*pack)(const Search&, float* panels);
  // The bars of users begin .. end - 1 (all of [rankings, lanes] of theirs is written), and what their
  // excluded items take off the counts that rank_block will find.
  void (*rank_own)(const Search&, const float* panels, const std::int64_t* targets, bool miss,
                   std::int64_t begin, std::int64_t end, const RankCounts&);
  // Adds the items at positions begin .. end - 1; false when one of them is not finite.
  bool (*rank_block)(const Search&, const float* panels, std::int64_t begin, std::int64_t end,
                     const RankCounts&);
  bool (*top_k_block)(const Search&, const float* panels, std::int64_t begin, std::int64_t end,
                      const Best&);
};

// ranks, ties [rankings, users]; false when an item is not finite.
bool rank_of_target(const Search&, const std::int64_t* targets, bool miss, std::int64_t* ranks,
                    std::int64_t* ties, int threads);
// items, scores [users, k], -1 and -infinity where fewer take part; false when one is not finite.
bool top_k(const Search&, std::int64_t k, std::int64_t* items, float* scores, int threads);

}  // namespace odmt_fast
