#define ODMT_LANES 16
#define ODMT_ROWS_ISA rows_avx512
#include "distilled_rows_cpu.h"
