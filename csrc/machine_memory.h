// What the machine could still give this process.

#pragma once

#include <cstddef>

namespace odmt {

// Bytes that can be touched before the system kills or swaps without end: available memory and free
// swap, within the limit of the control group. The largest number where neither can be read.
std::size_t memory_left();

}  // namespace odmt
