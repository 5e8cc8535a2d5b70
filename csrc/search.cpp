// Searches on the host: blocks of items shared out to threads, what they find put together. Counts are
// whole numbers and candidates are ordered totally, so that no result depends on who found it.
#include "search.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "dispatch.h"

namespace odmt_fast {
namespace {

// Items of one block, 256 KiB: every panel of users meets it while it lies in the cache of a core.
// Whole tiles of every instruction set.
constexpr std::int64_t kBlockFloats = 1 << 16, kTiles = 24;

std::int64_t block_items(const Search& s) {
  const std::int64_t row = std::max<std::int64_t>(1, s.branches * s.width);
  return kTiles * std::max<std::int64_t>(1, kBlockFloats / (kTiles * row));
}

// Waking a thread is worth some hundred thousand multiply-adds.
int useful(const Search& s, int threads) {
  const double work = 1.0 * s.branches * s.users * s.positions() * (s.width + 1);
  return (int)std::max(1.0, std::min<double>(threads, 1 + work / 500000));
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Panels = std::unique_ptr<float, Free>;

Panels packed(const Search& s) {
  const std::size_t bytes = sizeof(float) * s.branches * s.lanes() * s.width;
  Panels panels(static_cast<float*>(std::aligned_alloc(64, std::max<std::size_t>(64, bytes))));
  if (!panels) throw std::bad_alloc();
  kernels().search.pack(s, panels.get());
  return panels;
}

int this_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

bool better(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

// pass(begin, end, thread) over all blocks; whether all of them said yes.
template <class Pass>
bool over_blocks(const Search& s, int threads, Pass pass) {
  const std::int64_t items = s.positions(), block = block_items(s);
  bool fine = true;
#pragma omp parallel for schedule(dynamic) num_threads(threads) reduction(&& : fine)
  for (std::int64_t begin = 0; begin < items; begin += block)
    fine = pass(begin, std::min(items, begin + block), this_thread()) && fine;
  return fine;
}

}  // namespace

void keep_best(Candidate* candidates, std::int64_t n, std::int64_t k) {
  std::nth_element(candidates, candidates + k - 1, candidates + n, better);
}

bool rank_of_target(const Search& s, const std::int64_t* targets, bool miss, std::int64_t* ranks,
                    std::int64_t* ties, int threads) {
  threads = useful(s, threads);
  const std::int64_t lanes = s.lanes(), size = s.rankings() * lanes;
  const Panels panels = packed(s);
  std::vector<float> bars(size, std::numeric_limits<float>::infinity());
  // Of each thread: above, then equal.
  std::vector<std::int32_t> counted(2 * size * threads);
  const auto counts = [&](int thread) {
    std::int32_t* mine = counted.data() + 2 * size * thread;
    return RankCounts{bars.data(), mine, mine + size};
  };
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads)
  for (std::int64_t user = 0; user < s.users; ++user)
    kernels().search.rank_own(s, panels.get(), targets, miss, user, user + 1, counts(0));
  const bool fine = over_blocks(s, threads, [&](std::int64_t begin, std::int64_t end, int thread) {
    return kernels().search.rank_block(s, panels.get(), begin, end, counts(thread));
  });
  for (std::int64_t r = 0; r < s.rankings(); ++r)
    for (std::int64_t user = 0; user < s.users; ++user) {
      std::int64_t above = 0, equal = 0;
      for (int thread = 0; thread < threads; ++thread) {
        above += counts(thread).above[r * lanes + user];
        equal += counts(thread).equal[r * lanes + user];
      }
      ranks[r * s.users + user] = above;
      ties[r * s.users + user] = equal;
    }
  return fine;
}

bool top_k(const Search& s, std::int64_t k, std::int64_t* items, float* scores, int threads) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  threads = useful(s, threads);
  // More than k are never found.
  const std::int64_t lanes = s.lanes(), kept = std::min(k, s.positions()), capacity = 2 * kept + 16;
  const Panels panels = packed(s);
  std::vector<float> bars(lanes * threads, infinity);
  std::vector<std::int32_t> sizes(s.users * threads);
  std::vector<Candidate> candidates(s.users * capacity * threads);
  const auto best = [&](int thread) {
    return Best{kept, capacity, bars.data() + lanes * thread, sizes.data() + s.users * thread,
                candidates.data() + s.users * capacity * thread};
  };
  for (int thread = 0; thread < threads; ++thread)
    std::fill_n(best(thread).bar, s.users, -infinity);
  const bool fine = over_blocks(s, threads, [&](std::int64_t begin, std::int64_t end, int thread) {
    return kernels().search.top_k_block(s, panels.get(), begin, end, best(thread));
  });
#pragma omp parallel num_threads(threads)
  {
    std::vector<Candidate> mine;
#pragma omp for schedule(static)
    for (std::int64_t user = 0; user < s.users; ++user) {
      mine.clear();
      for (int thread = 0; thread < threads; ++thread) {
        const Best found = best(thread);
        const Candidate* first = found.candidates + user * capacity;
        mine.insert(mine.end(), first, first + found.size[user]);
      }
      const std::int64_t n = std::min<std::int64_t>(k, mine.size());
      std::partial_sort(mine.begin(), mine.begin() + n, mine.end(), better);
      for (std::int64_t i = 0; i < k; ++i) {
        items[user * k + i] = i < n ? mine[i].item : -1;
        scores[user * k + i] = i < n ? mine[i].score : -infinity;
      }
    }
  }
  return fine;
}

}  // namespace odmt_fast
