// What the Python entry points of the row passes share: pointers, the columns, their checks.
#pragma once

#include <pybind11/pybind11.h>
#include <stdint.h>

#include "distilled_rows.h"

namespace odmt_fast {

// Addresses of a `Columns`, see kernels/debiased_logits/reference.py.
struct ColumnPointers {
  int64_t columns, users, history_size;
  uintptr_t log_p, counts, targets, row_user, history_offsets, history;
};

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Throws when an index of host memory points outside of what it indexes.
void check_columns(const ColumnPointers& c, int64_t rows);

void bind_columns(pybind11::module_& m);

#ifdef ODMT_FAST_CUDA
void check_launch(const char* what, int error);
#endif

}  // namespace odmt_fast
