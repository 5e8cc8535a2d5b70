#include "loss_rows.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "dispatch.h"

namespace odmt_fast {
namespace {

[[noreturn]] void outside(const char* what, std::int64_t at, std::int64_t value,
                          std::int64_t limit) {
  throw std::out_of_range(std::string(what) + "[" + std::to_string(at) +
                          "] = " + std::to_string(value) + " is outside 0.." +
                          std::to_string(limit - 1));
}

// Contiguous shares of the rows to threads. A row is one thread's work, so no result depends on
// how many there are.
void over_rows(const RowArgs& a, bool bf16, RowPass pass) {
#pragma omp parallel
  {
#ifdef _OPENMP
    const std::int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
#else
    const std::int64_t threads = 1, me = 0;
#endif
    const std::int64_t begin = a.rows * me / threads, end = a.rows * (me + 1) / threads;
    if (begin < end) {
      std::vector<float> weights(a.counts, a.counts + a.columns);
      pass(a, bf16, begin, end, weights.data());
    }
  }
}

}  // namespace

void check_candidates(const Candidates& c, std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t target = c.targets[r], user = c.row_user[r];
    if (target < 0 || target >= c.columns) outside("targets", r, target, c.columns);
    if (user < 0 || user >= c.users) outside("row_user", r, user, c.users);
  }
  const std::int32_t* offsets = c.history_offsets;
  for (std::int64_t b = 0; b < c.users; ++b)
    if (offsets[b] < 0 || offsets[b + 1] < offsets[b] || offsets[b + 1] > c.history_size)
      outside("history_offsets", b + 1, offsets[b + 1], c.history_size + 1);
  for (std::int64_t h = 0; h < c.history_size; ++h)
    if (c.history[h] < 0 || c.history[h] >= c.columns)
      outside("history", h, c.history[h], c.columns);
}

void distilled_rows_forward(RowArgs a, bool bf16, double* totals) {
  const std::int64_t width = a.branches + a.edges.count;
  std::vector<float> terms(a.rows * width);
  a.terms = terms.data();
  over_rows(a, bf16, kernels().distilled_forward);
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t i = 0; i < width; ++i) totals[i] += terms[r * width + i];
}

void distilled_rows_backward(const RowArgs& a, bool bf16) {
  over_rows(a, bf16, kernels().distilled_backward);
}

}  // namespace odmt_fast
