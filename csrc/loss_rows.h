// The rows of the loss on the host: checks of what they are given, and passes over all of them.
#pragma once

#include <cstdint>

#include "distilled_rows.h"

namespace odmt_fast {

// Throws std::out_of_range when an index of host memory points outside of what it indexes.
void check_candidates(const Candidates& c, std::int64_t rows);

// Adds the rows' terms to totals [branches + edges], in the order of the rows.
void distilled_rows_forward(RowArgs a, bool bf16, double* totals);
void distilled_rows_backward(const RowArgs& a, bool bf16);

}  // namespace odmt_fast
