// The rows of the loss on the host: what they are given, and passes over all of them.
#pragma once

#include <cstdint>

#include "distilled_rows.h"

namespace odmt_fast {

// A `Columns` of kernels/debiased_logits/reference.py.
struct Columns {
  std::int64_t columns, users, history_size;
  const float* log_p;
  const std::int32_t* counts;
  const std::int64_t* targets;
  const std::int32_t *row_user, *history_offsets, *history;
};

// Throws std::out_of_range when an index of host memory points outside of what it indexes.
void check_columns(const Columns& c, std::int64_t rows);

// Arguments of a pass over logits [branches, rows, columns].
RowArgs row_args(const Columns& c, const void* logits, int branches, std::int64_t rows);

// Adds the rows' terms to totals [branches + edges], in the order of the rows.
void distilled_rows_forward(RowArgs a, bool bf16, double* totals);
void distilled_rows_backward(const RowArgs& a, bool bf16);

}  // namespace odmt_fast
