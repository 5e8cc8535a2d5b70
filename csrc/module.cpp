// The Python module odmt_fast._C: addresses as integers, sizes, strides in elements. Only this source and
// module_search.cpp see Python or pybind11.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "batch_index.h"
#include "dispatch.h"
#include "loss_rows.h"
#include "module_search.h"

namespace py = pybind11;
using namespace odmt_fast;

static void bind_cpu_kernels(py::module_& m) {
  const auto release = py::call_guard<py::gil_scoped_release>();

  m.def("isa", [] { return kernels().isa; }, "The instruction set the kernels run on.");
  m.def("isas", &isas, "The instruction sets that were built and run here, best first.");
  m.def("use_isa", &use_isa, py::arg("name"),
        "Forces baseline, avx2, avx512 or amx; False when it is not built or cannot run here.");

  m.def(
      "dropout",
      [](bool is_bf16, std::int64_t n, std::int64_t groups, Address x, Address y,
         DropoutArgument dropout, int threads) {
        kernels().dropout(type_of(is_bf16), n, groups, at<void>(x), at<void>(y),
                          dropout_of(dropout), threads);
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

static RowArgs row_args(const Candidates& c, Address logits, int branches, std::int64_t rows,
                        std::int64_t stride) {
  RowArgs a = {c};
  a.logits = at<void>(logits);
  a.branches = branches;
  a.rows = rows;
  a.stride = stride;
  return a;
}

// (student, teacher) branches; a teacher of -1 is the ensemble.
using EdgesArgument = std::vector<std::pair<int, int>>;

static RowArgs distilled_args(Address logits, int branches, std::int64_t rows, std::int64_t stride,
                              const Candidates& c, const EdgesArgument& edges, double tau,
                              Address row_scale, Address stats) {
  if (branches < 1 || branches > kMaxBranches)
    throw std::invalid_argument("branches must be 1.." + std::to_string(kMaxBranches) + ", got " +
                                std::to_string(branches));
  if (edges.size() > kMaxEdges)
    throw std::invalid_argument("at most " + std::to_string(kMaxEdges) + " edges, got " +
                                std::to_string(edges.size()));
  if (stride < c.columns)
    throw std::invalid_argument("stride must be at least the " + std::to_string(c.columns) +
                                " columns, got " + std::to_string(stride));
  RowArgs a = row_args(c, logits, branches, rows, stride);
  a.edges.count = static_cast<int>(edges.size());
  for (std::size_t e = 0; e < edges.size(); ++e) {
    const auto [student, teacher] = edges[e];
    if (student < 0 || student >= branches || teacher < -1 || teacher >= branches)
      throw std::invalid_argument("edge (" + std::to_string(student) + ", " +
                                  std::to_string(teacher) + ") names no branch");
    a.edges.student[e] = static_cast<std::int8_t>(student);
    a.edges.teacher[e] = static_cast<std::int8_t>(teacher < 0 ? branches : teacher);
  }
  a.tau = static_cast<float>(tau);
  a.row_scale = at<const float>(row_scale);
  a.stats = at<float>(stats);
  return a;
}

static void set_upstream(RowArgs& a, Address gradients, Address g_ce, Address g_kd,
                         bool detach_teacher) {
  a.gradients = at<void>(gradients);
  a.g_ce = at<const float>(g_ce);
  a.g_kd = at<const float>(g_kd);
  a.detach_teacher = detach_teacher;
}

static RowArgs debias_args(Address from, Address to, int branches, std::int64_t rows,
                           const Candidates& c) {
  RowArgs a = row_args(c, from, branches, rows, c.columns);
  a.gradients = at<void>(to);
  return a;
}

static void bind_loss_rows(py::module_& m) {
  using py::arg;
  const auto release = py::call_guard<py::gil_scoped_release>();

  py::class_<Candidates>(m, "CandidatePointers", "Addresses of `Candidates`.")
      .def(py::init([](std::int64_t columns, std::int64_t users, std::int64_t history_size,
                       Address log_p, Address counts, Address targets, Address row_user,
                       Address history_offsets, Address history) {
             using I32 = const std::int32_t;
             return Candidates{columns,           users,
                               history_size,      at<const float>(log_p),
                               at<I32>(counts),   at<const std::int64_t>(targets),
                               at<I32>(row_user), at<I32>(history_offsets),
                               at<I32>(history)};
           }),
           arg("columns"), arg("users"), arg("history_size"), arg("log_p"), arg("counts"),
           arg("targets"), arg("row_user"), arg("history_offsets"), arg("history"));
  m.attr("distilled_rows_max_branches") = kMaxBranches;
  m.attr("distilled_rows_max_edges") = kMaxEdges;
  m.def("distilled_rows_stats", &stats_width, "Floats of statistics a row of K branches keeps.");
  m.def(
      "distilled_rows_forward",
      [](Address logits, bool bf16, int branches, std::int64_t rows, std::int64_t stride,
         const Candidates& c, const EdgesArgument& edges, double tau, Address row_scale,
         Address stats, Address totals) {
        const RowArgs a =
            distilled_args(logits, branches, rows, stride, c, edges, tau, row_scale, stats);
        check_candidates(c, rows);
        distilled_rows_forward(a, bf16, at<double>(totals));
      },
      release, "Statistics of rows of logits [branches, rows, columns]; adds their losses, times "
      "row_scale, to totals.",
      arg("logits"), arg("bf16"), arg("branches"), arg("rows"), arg("stride"), arg("candidates"),
      arg("edges"), arg("tau"), arg("row_scale"), arg("stats"), arg("totals"));
  m.def(
      "distilled_rows_backward",
      [](Address logits, Address gradients, bool bf16, int branches, std::int64_t rows,
         std::int64_t stride, const Candidates& c, const EdgesArgument& edges, double tau, Address row_scale,
         Address stats, Address g_ce, Address g_kd, bool detach_teacher) {
        RowArgs a =
            distilled_args(logits, branches, rows, stride, c, edges, tau, row_scale, stats);
        set_upstream(a, gradients, g_ce, g_kd, detach_teacher);
        check_candidates(c, rows);
        distilled_rows_backward(a, bf16);
      },
      release, "Gradients of the logits, which they may overwrite.", arg("logits"),
      arg("gradients"), arg("bf16"), arg("branches"), arg("rows"), arg("stride"), arg("candidates"),
      arg("edges"), arg("tau"), arg("row_scale"), arg("stats"), arg("g_ce"), arg("g_kd"),
      arg("detach_teacher"));
  m.def(
      "debiased_rows_forward",
      [](Address scores, bool bf16, Address out, int branches, std::int64_t rows,
         const Candidates& c) {
        check_candidates(c, rows);
        kernels().debias(debias_args(scores, out, branches, rows, c), bf16);
      },
      release, "Debiased, masked logits (fp32) of scores.", arg("scores"), arg("bf16"), arg("out"),
      arg("branches"), arg("rows"), arg("candidates"));
  m.def(
      "debiased_rows_backward",
      [](Address gradient, Address out, bool bf16, int branches, std::int64_t rows,
         const Candidates& c) {
        check_candidates(c, rows);
        kernels().undebias(debias_args(gradient, out, branches, rows, c), bf16);
      },
      release, "Gradients of the scores.", arg("gradient"), arg("out"), arg("bf16"),
      arg("branches"), arg("rows"), arg("candidates"));
}

#ifdef ODMT_FAST_CUDA
static void check_launch(const char* what, int error) {
  if (error) throw std::runtime_error(std::string(what) + ": " + cuda_error_name(error));
}

static void bind_cuda_rows(py::module_& m) {
  using py::arg;
  m.def(
      "distilled_rows_cuda_forward",
      [](Address logits, int scalar, int branches, std::int64_t rows, std::int64_t stride,
         const Candidates& c, const EdgesArgument& edges, double tau, Address row_scale,
         Address stats, Address terms, Address stream) {
        RowArgs a =
            distilled_args(logits, branches, rows, stride, c, edges, tau, row_scale, stats);
        a.terms = at<float>(terms);
        check_launch("distilled_rows_forward",
                     distilled_rows_cuda(a, static_cast<Scalar>(scalar), true, at<void>(stream)));
      },
      "As distilled_rows_forward on device pointers; terms [rows, branches + edges] per row.",
      arg("logits"), arg("scalar"), arg("branches"), arg("rows"), arg("stride"),
      arg("candidates"), arg("edges"), arg("tau"), arg("row_scale"), arg("stats"), arg("terms"),
      arg("stream"));
  m.def(
      "distilled_rows_cuda_backward",
      [](Address logits, Address gradients, int scalar, int branches, std::int64_t rows,
         std::int64_t stride, const Candidates& c, const EdgesArgument& edges, double tau, Address row_scale,
         Address stats, Address g_ce, Address g_kd, bool detach_teacher, Address stream) {
        RowArgs a =
            distilled_args(logits, branches, rows, stride, c, edges, tau, row_scale, stats);
        set_upstream(a, gradients, g_ce, g_kd, detach_teacher);
        check_launch("distilled_rows_backward",
                     distilled_rows_cuda(a, static_cast<Scalar>(scalar), false, at<void>(stream)));
      },
      "As distilled_rows_backward on device pointers.", arg("logits"), arg("gradients"),
      arg("scalar"), arg("branches"), arg("rows"), arg("stride"), arg("candidates"),
      arg("edges"), arg("tau"), arg("row_scale"), arg("stats"), arg("g_ce"), arg("g_kd"),
      arg("detach_teacher"), arg("stream"));
  m.def(
      "debiased_rows_cuda",
      [](Address from, Address to, int scalar, bool forward, int branches, std::int64_t rows,
         const Candidates& c, Address stream) {
        const RowArgs a = debias_args(from, to, branches, rows, c);
        check_launch("debiased_rows",
                     debias_rows_cuda(a, static_cast<Scalar>(scalar), forward, at<void>(stream)));
      },
      "Either pass on device pointers.", arg("from_"), arg("to"), arg("scalar"), arg("forward"),
      arg("branches"), arg("rows"), arg("candidates"), arg("stream"));
}
#endif

static void bind_batch_index(py::module_& m) {
  m.def(
      "batch_index",
      [](Address ids, bool wide_ids, std::int64_t n, Address lengths, bool wide_lengths,
         std::int64_t users, std::int64_t steps, const std::vector<Address>& arrays) {
        using I64 = std::int64_t;
        using I32 = std::int32_t;
        const BatchIndexArrays to = {
            at<I64>(arrays.at(0)), at<I32>(arrays.at(1)), at<I64>(arrays.at(2)),
            at<I32>(arrays.at(3)), at<I64>(arrays.at(4)), at<I64>(arrays.at(5)),
            at<I32>(arrays.at(6)), at<I64>(arrays.at(7)), at<I32>(arrays.at(8)),
            at<I32>(arrays.at(9))};
        return batch_index(at<void>(ids), wide_ids, n, at<void>(lengths), wide_lengths, users,
                           steps, to);
      },
      py::call_guard<py::gil_scoped_release>(),
      "Fills the arrays of a BatchIndex, given in the order of BatchIndexArrays; returns (distinct "
      "items, history entries, most rows).");
}

static py::dict build_info() {
  py::dict info;
  info["build"] = ODMT_FAST_BUILD;
  info["compiler"] = __VERSION__;
#ifdef ODMT_FAST_CUDA
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
#ifdef _OPENMP
  info["openmp"] = _OPENMP;
#else
  info["openmp"] = 0;
#endif
  return info;
}

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled operators of odmt_fast; raw pointers in, raw pointers out.";
  m.def("build_info", &build_info, "What was compiled, with which flags.");
  bind_batch_index(m);
  bind_cpu_kernels(m);
  bind_loss_rows(m);
  bind_search(m);
#ifdef ODMT_FAST_CUDA
  bind_cuda_rows(m);
#endif
}
