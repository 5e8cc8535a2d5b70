// The index arrays of a training batch (kernels/batch_index).
#pragma once

#include <cstdint>
#include <tuple>

namespace odmt_fast {

// Where the arrays of kernels/batch_index/reference.py::BatchIndex go; items, counts and history
// have room for all occurrences.
struct BatchIndexArrays {
  std::int64_t* items;
  std::int32_t* counts;
  std::int64_t* occurrences;
  std::int32_t* row_offsets;
  std::int64_t *row_input, *row_target;
  std::int32_t* row_user;
  std::int64_t* positions;
  std::int32_t *history_offsets, *history;
};

// Distinct items, history entries, most rows of a user.
using BatchIndexSizes = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

// ids [n] and lengths [users] are int64 where wide, else int32. Throws std::invalid_argument.
BatchIndexSizes batch_index(const void* ids, bool wide_ids, std::int64_t n, const void* lengths,
                            bool wide_lengths, std::int64_t users, std::int64_t steps,
                            const BatchIndexArrays& to);

}  // namespace odmt_fast
