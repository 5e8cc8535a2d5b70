// Which instruction set the kernels run on.
#pragma once

#include <vector>

#include "kernels.h"

namespace odmt_fast {

// The table of the best instruction set of this CPU, unless use_isa chose another.
const Kernels& kernels();

// The instruction sets that were built and run here, best first.
std::vector<const char*> isas();

// Forces an instruction set (the tests compare them); false when it is not built or cannot run.
bool use_isa(const char* name);

}  // namespace odmt_fast
