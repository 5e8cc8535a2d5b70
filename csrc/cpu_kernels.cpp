// Python bindings of the CPU kernels: addresses as integers, sizes, strides in elements.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "kernels.h"

namespace py = pybind11;
using namespace odmt_fast;
using Address = std::uintptr_t;
// (threshold, scale, address of the int64 seed); an address of 0 means no dropout.
using DropoutArgument = std::tuple<std::uint32_t, float, Address>;
// (address, token stride, head stride)
using HeadsArgument = std::tuple<Address, std::int64_t, std::int64_t>;

template <class T>
static T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

static Type type_of(bool is_bf16) { return is_bf16 ? Type::bf16 : Type::f32; }

static Dropout dropout_of(const DropoutArgument& argument) {
  const auto [threshold, scale, seed] = argument;
  return {seed != 0, threshold, scale, seed ? *at<const std::uint64_t>(seed) : 0};
}

static Heads heads_of(const HeadsArgument& argument) {
  const auto [address, token, head] = argument;
  return {at<void>(address), token, head};
}

static Mask mask_of(const std::string& name) {
  if (name == "id_aware") return Mask::id_aware;
  if (name == "full") return Mask::full;
  if (name == "causal") return Mask::causal;
  throw py::value_error("mask must be id_aware, full or causal, got " + name);
}

// (bf16, address of cu_seqlens int32 [segments + 1], segments, heads, width, mask, scale, dropout,
// threads)
using AttentionArgument = std::tuple<bool, Address, std::int64_t, std::int64_t, std::int64_t,
                                     std::string, float, DropoutArgument, int>;

static AttentionShape attention_of(const AttentionArgument& argument) {
  const auto& [is_bf16, cu_seqlens, segments, heads, width, mask, scale, dropout, threads] =
      argument;
  const std::int32_t* cu = at<const std::int32_t>(cu_seqlens);
  const std::int64_t tokens = segments ? cu[segments] : 0;
  for (std::int64_t i = 0; i < segments; ++i)
    if (cu[i + 1] < cu[i] || cu[i + 1] - cu[i] > 512)
      throw py::value_error("cu_seqlens: segment " + std::to_string(i) + " has length " +
                            std::to_string(cu[i + 1] - cu[i]) + ", not within 0..512");
  // About 20000 multiply-adds are worth waking another thread.
  const std::int64_t work = tokens * heads * width * (segments ? tokens / segments + 1 : 1);
  const int useful = (int)std::min<std::int64_t>(threads, 1 + work / 20000);
  return {type_of(is_bf16), segments, heads, width,         cu,
          mask_of(mask),    scale,    dropout_of(dropout), std::max(1, useful)};
}

void bind_cpu_kernels(py::module_& m) {
  const auto release = py::call_guard<py::gil_scoped_release>();

  m.def("isa", [] { return kernels().isa; }, "The instruction set the kernels run on.");
  m.def("use_isa", &use_isa, py::arg("name"),
        "Forces baseline, avx2, avx512 or amx; False when it is not built or cannot run here.");


  m.def(
      "dropout",
      [](bool is_bf16, std::int64_t n, Address x, Address y, DropoutArgument dropout, int threads) {
        kernels().dropout(type_of(is_bf16), n, at<void>(x), at<void>(y), dropout_of(dropout),
                          threads);
      },
      release);

  m.def(
      "residual_norm_forward",
      [](bool is_bf16, std::int64_t rows, std::int64_t width, std::int64_t groups, float eps,
         DropoutArgument dropout, int threads, Address x, Address residual, Address weight,
         Address bias, Address out, Address total, Address mean, Address rstd) {
        const NormShape shape = {type_of(is_bf16), rows,    width, groups, eps,
                                 dropout_of(dropout), threads};
        kernels().norm_forward(shape, at<void>(x), at<void>(residual), at<float>(weight),
                               at<float>(bias), at<void>(out), at<void>(total), at<float>(mean),
                               at<float>(rstd));
      },
      release);
  m.def(
      "residual_norm_backward",
      [](bool is_bf16, std::int64_t rows, std::int64_t width, std::int64_t groups,
         DropoutArgument dropout, int threads, Address dout, Address total, Address mean,
         Address rstd, Address weight, Address dx, Address dresidual, Address dweight,
         Address dbias) {
        const NormShape shape = {type_of(is_bf16), rows,    width, groups, 0.0f,
                                 dropout_of(dropout), threads};
        kernels().norm_backward(shape, at<void>(dout), at<void>(total), at<float>(mean),
                                at<float>(rstd), at<float>(weight), at<void>(dx),
                                at<void>(dresidual), at<float>(dweight), at<float>(dbias));
      },
      release);

  m.def(
      "packed_attention_forward",
      [](const AttentionArgument& shape, HeadsArgument q, HeadsArgument k, HeadsArgument v,
         HeadsArgument out, Address lse) {
        const AttentionShape attention = attention_of(shape);
        py::gil_scoped_release nogil;
        kernels().attention_forward(attention, heads_of(q), heads_of(k), heads_of(v), heads_of(out),
                                    at<float>(lse));
      });
  m.def(
      "packed_attention_backward",
      [](const AttentionArgument& shape, HeadsArgument q, HeadsArgument k, HeadsArgument v,
         HeadsArgument dout, Address lse, HeadsArgument dq, HeadsArgument dk, HeadsArgument dv) {
        const AttentionShape attention = attention_of(shape);
        py::gil_scoped_release nogil;
        kernels().attention_backward(attention, heads_of(q), heads_of(k), heads_of(v),
                                     heads_of(dout), at<float>(lse), heads_of(dq), heads_of(dk),
                                     heads_of(dv));
      });
  m.def("readout_attention_forward", [](const AttentionArgument& shape, std::int64_t readouts,
                                        Address queries, Address hidden, Address out, Address lse) {
    const ReadoutShape readout = {attention_of(shape), readouts};
    py::gil_scoped_release nogil;
    kernels().readout_forward(readout, at<void>(queries), at<void>(hidden), at<void>(out),
                              at<float>(lse));
  });
  m.def("readout_attention_backward",
        [](const AttentionArgument& shape, std::int64_t readouts, Address queries, Address hidden,
           Address dout, Address lse, Address dqueries, Address dhidden) {
          const ReadoutShape readout = {attention_of(shape), readouts};
          py::gil_scoped_release nogil;
          kernels().readout_backward(readout, at<void>(queries), at<void>(hidden), at<void>(dout),
                                     at<float>(lse), at<void>(dqueries), at<void>(dhidden));
        });

  m.def(
      "column_sum",
      [](bool is_bf16, std::int64_t rows, std::int64_t width, Address x, Address sums,
         int threads) {
        kernels().column_sum(type_of(is_bf16), rows, width, at<void>(x), at<float>(sums), threads);
      },
      release, "x [rows, width] -> fp32 column sums (a bias gradient).");
  m.def(
      "relu",
      [](bool is_bf16, std::int64_t rows, std::int64_t width, Address x, int threads) {
        kernels().relu(type_of(is_bf16), rows, width, at<void>(x), threads);
      },
      release, "x [rows, width] = max(x, 0) in place; NaN stays NaN.");
  m.def(
      "relu_backward_bias",
      [](bool is_bf16, std::int64_t rows, std::int64_t width, Address dh, Address h, Address dbias,
         int threads) {
        kernels().relu_backward_bias(type_of(is_bf16), rows, width, at<void>(dh), at<void>(h),
                                     at<float>(dbias), threads);
      },
      release, "dh *= h > 0 in place; dbias = fp32 column sums of the result.");
}
