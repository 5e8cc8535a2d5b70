#define ODMT_LANES 8
#define ODMT_ROWS_ISA rows_avx2
#include "distilled_rows_cpu.h"
