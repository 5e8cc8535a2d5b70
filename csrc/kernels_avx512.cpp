#define ODMT_FAST_ISA avx512
#include "table.inl"
