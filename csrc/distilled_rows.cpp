// Python entry points of the distilled softmax's row passes; baseline instruction set; dispatch.

#define ODMT_LANES 4
#define ODMT_ROWS_ISA rows_baseline
#include "distilled_rows.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "distilled_rows_cpu.h"
#include "distilled_rows_module.h"

namespace py = pybind11;

namespace odmt_fast {
namespace {

struct Isa {
  const char* name;
  const RowPasses* passes;
};

// Instruction sets this processor has, best first.
const std::vector<Isa>& isas() {
  static const std::vector<Isa> found = [] {
    std::vector<Isa> list;
#if defined(__x86_64__)
#ifdef ODMT_FAST_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bf16")) {
      list.push_back({"avx512", &rows_avx512});
    }
#endif
#ifdef ODMT_FAST_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      list.push_back({"avx2", &rows_avx2});
    }
#endif
#endif
    list.push_back({"baseline", &rows_baseline});
    return list;
  }();
  return found;
}

const RowPasses& passes_of(const std::string& name) {
  for (const Isa& isa : isas()) {
    if (name.empty() || name == isa.name) return *isa.passes;
  }
  throw std::invalid_argument("isa " + name + " is not built or not supported by this processor");
}

// Contiguous shares of the rows to threads. A row is one thread's work, so no result depends on
// how many there are.
void over_rows(const RowArgs& args, bool bf16, RowPass pass) {
  const int64_t padded = (args.columns + 15) / 16 * 16;
  std::vector<float> log_p(padded, 0.0f);
  std::copy(args.log_p, args.log_p + args.columns, log_p.begin());
  RowArgs a = args;
  a.log_p = log_p.data();
#pragma omp parallel
  {
#ifdef _OPENMP
    const int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
#else
    const int64_t threads = 1, me = 0;
#endif
    const int64_t begin = a.rows * me / threads, end = a.rows * (me + 1) / threads;
    if (begin < end) {
      std::vector<float> weights(padded, 0.0f);
      for (int64_t c = 0; c < a.columns; ++c) weights[c] = static_cast<float>(a.counts[c]);
      pass(a, bf16, begin, end, weights.data());
    }
  }
}

RowArgs row_args(uintptr_t logits, int branches, int64_t rows, const ColumnPointers& c,
                 const std::vector<std::pair<int, int>>& edges, double tau, uintptr_t stats) {
  if (branches < 1 || branches > kMaxBranches) {
    throw std::invalid_argument("branches must be 1.." + std::to_string(kMaxBranches) + ", got " +
                                std::to_string(branches));
  }
  if (edges.size() > kMaxEdges) {
    throw std::invalid_argument("at most " + std::to_string(kMaxEdges) + " edges, got " +
                                std::to_string(edges.size()));
  }
  RowArgs a = {};
  a.logits = pointer<const void>(logits);
  a.branches = branches;
  a.rows = rows;
  a.columns = c.columns;
  a.log_p = pointer<const float>(c.log_p);
  a.counts = pointer<const int32_t>(c.counts);
  a.targets = pointer<const int64_t>(c.targets);
  a.row_user = pointer<const int32_t>(c.row_user);
  a.history_offsets = pointer<const int32_t>(c.history_offsets);
  a.history = pointer<const int32_t>(c.history);
  a.edges.count = static_cast<int>(edges.size());
  for (size_t e = 0; e < edges.size(); ++e) {
    const auto [student, teacher] = edges[e];
    if (student < 0 || student >= branches || teacher < -1 || teacher >= branches) {
      throw std::invalid_argument("edge (" + std::to_string(student) + ", " +
                                  std::to_string(teacher) + ") names no branch");
    }
    a.edges.student[e] = static_cast<int8_t>(student);
    a.edges.teacher[e] = static_cast<int8_t>(teacher < 0 ? branches : teacher);
  }
  a.tau = static_cast<float>(tau);
  a.stats = pointer<float>(stats);
  return a;
}

// Adds the rows' terms to totals [branches + edges] fp64, in the order of the rows.
void forward(uintptr_t logits, bool bf16, int branches, int64_t rows, const ColumnPointers& c,
             const std::vector<std::pair<int, int>>& edges, double tau, uintptr_t stats,
             uintptr_t totals, const std::string& isa) {
  RowArgs a = row_args(logits, branches, rows, c, edges, tau, stats);
  const RowPass pass = passes_of(isa).forward;
  py::gil_scoped_release release;
  check_columns(c, rows);
  const int64_t width = branches + a.edges.count;
  std::vector<float> terms(rows * width);
  a.terms = terms.data();
  over_rows(a, bf16, pass);
  double* total = pointer<double>(totals);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i) total[i] += terms[r * width + i];
  }
}

void backward(uintptr_t logits, uintptr_t gradients, bool bf16, int branches, int64_t rows,
              const ColumnPointers& c, const std::vector<std::pair<int, int>>& edges, double tau,
              uintptr_t stats, uintptr_t g_ce, uintptr_t g_kd, int64_t batch_rows,
              bool detach_teacher, const std::string& isa) {
  RowArgs a = row_args(logits, branches, rows, c, edges, tau, stats);
  const RowPass pass = passes_of(isa).backward;
  py::gil_scoped_release release;
  check_columns(c, rows);
  a.gradients = pointer<void>(gradients);
  a.g_ce = pointer<const float>(g_ce);
  a.g_kd = pointer<const float>(g_kd);
  a.inv_rows = 1.0f / static_cast<float>(batch_rows);
  a.detach_teacher = detach_teacher;
  over_rows(a, bf16, pass);
}

#ifdef ODMT_FAST_CUDA
void cuda_forward(uintptr_t logits, int scalar, int branches, int64_t rows,
                  const ColumnPointers& c, const std::vector<std::pair<int, int>>& edges,
                  double tau, uintptr_t stats, uintptr_t terms, uintptr_t stream) {
  RowArgs a = row_args(logits, branches, rows, c, edges, tau, stats);
  a.terms = pointer<float>(terms);
  check_launch("distilled_rows_forward",
               distilled_rows_cuda(a, static_cast<Scalar>(scalar), true, pointer<void>(stream)));
}

void cuda_backward(uintptr_t logits, uintptr_t gradients, int scalar, int branches, int64_t rows,
                   const ColumnPointers& c, const std::vector<std::pair<int, int>>& edges,
                   double tau, uintptr_t stats, uintptr_t g_ce, uintptr_t g_kd,
                   int64_t batch_rows, bool detach_teacher, uintptr_t stream) {
  RowArgs a = row_args(logits, branches, rows, c, edges, tau, stats);
  a.gradients = pointer<void>(gradients);
  a.g_ce = pointer<const float>(g_ce);
  a.g_kd = pointer<const float>(g_kd);
  a.inv_rows = 1.0f / static_cast<float>(batch_rows);
  a.detach_teacher = detach_teacher;
  check_launch("distilled_rows_backward",
               distilled_rows_cuda(a, static_cast<Scalar>(scalar), false, pointer<void>(stream)));
}
#endif

}  // namespace
}  // namespace odmt_fast

void bind_distilled_rows(py::module_& m) {
  using namespace odmt_fast;
  using py::arg;
  bind_columns(m);
  m.attr("distilled_rows_max_branches") = kMaxBranches;
  m.attr("distilled_rows_max_edges") = kMaxEdges;
  m.def("distilled_rows_stats", &stats_width, "Floats of statistics a row of K branches keeps.");
  m.def(
      "distilled_rows_isas",
      [] {
        std::vector<std::string> names;
        for (const Isa& isa : isas()) names.emplace_back(isa.name);
        return names;
      },
      "Instruction sets the row passes can run with here, best first.");
  m.def("distilled_rows_forward", &forward,
        "Statistics of rows of logits [branches, rows, columns]; adds their losses to totals.",
        arg("logits"), arg("bf16"), arg("branches"), arg("rows"), arg("columns"), arg("edges"),
        arg("tau"), arg("stats"), arg("totals"), arg("isa") = "");
  m.def("distilled_rows_backward", &backward,
        "Gradients of the logits, which they may overwrite.", arg("logits"), arg("gradients"),
        arg("bf16"), arg("branches"), arg("rows"), arg("columns"), arg("edges"), arg("tau"),
        arg("stats"), arg("g_ce"), arg("g_kd"), arg("batch_rows"), arg("detach_teacher"),
        arg("isa") = "");
#ifdef ODMT_FAST_CUDA
  m.def("distilled_rows_cuda_forward", &cuda_forward,
        "As distilled_rows_forward on device pointers; terms [rows, branches + edges] per row.",
        arg("logits"), arg("scalar"), arg("branches"), arg("rows"), arg("columns"), arg("edges"),
        arg("tau"), arg("stats"), arg("terms"), arg("stream"));
  m.def("distilled_rows_cuda_backward", &cuda_backward,
        "As distilled_rows_backward on device pointers.", arg("logits"), arg("gradients"),
        arg("scalar"), arg("branches"), arg("rows"), arg("columns"), arg("edges"), arg("tau"),
        arg("stats"), arg("g_ce"), arg("g_kd"), arg("batch_rows"), arg("detach_teacher"),
        arg("stream"));
#endif
}
