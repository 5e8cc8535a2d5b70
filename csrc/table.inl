// The table of one instruction set: included by kernels_<isa>.cpp, compiled with its flags.
#include "distilled_rows.inl"
#include "pointwise.inl"
#include "readout.inl"
#include "search.inl"

#define ODMT_FAST_STRING_OF(x) #x
#define ODMT_FAST_STRING(x) ODMT_FAST_STRING_OF(x)

namespace odmt_fast {
namespace ODMT_FAST_ISA {

Kernels table() {
  return {ODMT_FAST_STRING(ODMT_FAST_ISA),
          dropout,
          norm_forward,
          norm_backward,
          attention_forward,
          attention_backward,
          readout_forward,
          readout_backward,
          column_sum,
          relu,
          relu_backward_bias,
          distilled_rows<true>,
          distilled_rows<false>,
          debias,
          undebias,
          search_passes()};
}

}  // namespace ODMT_FAST_ISA
}  // namespace odmt_fast
