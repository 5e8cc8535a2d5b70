// AVX-512 with AMX tiles for the bf16 products of attention.
#define ODMT_FAST_ISA amx
#include "attention_tiles.inl"

namespace odmt_fast {

namespace avx512 {
Kernels table();
}

namespace amx {

static void forward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads out, float* lse) {
  if (s.type == Type::bf16)
    tile_attention_forward(s, q, k, v, out, lse);
  else
    avx512::table().attention_forward(s, q, k, v, out, lse);
}

static void backward(const AttentionShape& s, Heads q, Heads k, Heads v, Heads dout,
                     const float* lse, Heads dq, Heads dk, Heads dv) {
  if (s.type == Type::bf16)
    tile_attention_backward(s, q, k, v, dout, lse, dq, dk, dv);
  else
    avx512::table().attention_backward(s, q, k, v, dout, lse, dq, dk, dv);
}

Kernels table() {
  Kernels kernels = avx512::table();
  kernels.isa = "amx";
  kernels.attention_forward = forward;
  kernels.attention_backward = backward;
  return kernels;
}

}  // namespace amx
}  // namespace odmt_fast
