#define ODMT_FAST_ISA baseline
#include "table.inl"
