#define ODMT_FAST_ISA avx2
#include "table.inl"
