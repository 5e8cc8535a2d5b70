// Bindings of the searches.
#pragma once

#include <pybind11/pybind11.h>

namespace odmt_fast {

void bind_search(pybind11::module_& m);

}  // namespace odmt_fast
