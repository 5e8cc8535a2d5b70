// Materialised debiased logits: one pass over the scores, and its transpose over their gradients.

#include <pybind11/pybind11.h>

#include <math.h>
#include <string.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "distilled_rows_module.h"

namespace py = pybind11;

namespace odmt_fast {
namespace {

inline float widen(float x) { return x; }
inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, uint16_t* out) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  *out = x == x ? static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16) : 0x7FC0;
}

// out = score - log p + log count; the target counts once; the user's other columns are -1e4.
template <class T>
void debias(const T* scores, float* out, int branches, int64_t rows, const ColumnPointers& c) {
  const int64_t n = c.columns;
  const float* log_p = pointer<const float>(c.log_p);
  const int32_t* counts = pointer<const int32_t>(c.counts);
  const int32_t* offsets = pointer<const int32_t>(c.history_offsets);
  const int32_t* history = pointer<const int32_t>(c.history);
  std::vector<float> log_count(n);
  for (int64_t i = 0; i < n; ++i) log_count[i] = logf(static_cast<float>(counts[i]));
#pragma omp parallel for
  for (int64_t i = 0; i < branches * rows; ++i) {
    const int64_t target = pointer<const int64_t>(c.targets)[i % rows];
    const int32_t user = pointer<const int32_t>(c.row_user)[i % rows];
    const T* from = scores + i * n;
    float* to = out + i * n;
    const float z_target = widen(from[target]) - log_p[target];
    for (int64_t k = 0; k < n; ++k) to[k] = widen(from[k]) - log_p[k] + log_count[k];
    for (int32_t h = offsets[user]; h < offsets[user + 1]; ++h) to[history[h]] = kExcluded;
    to[target] = z_target;
  }
}

// The gradient of the scores: that of the logits, 0 where the column is excluded.
template <class T>
void undebias(const float* gradient, T* out, int branches, int64_t rows, const ColumnPointers& c) {
  const int64_t n = c.columns;
  const int32_t* offsets = pointer<const int32_t>(c.history_offsets);
  const int32_t* history = pointer<const int32_t>(c.history);
#pragma omp parallel for
  for (int64_t i = 0; i < branches * rows; ++i) {
    const int64_t target = pointer<const int64_t>(c.targets)[i % rows];
    const int32_t user = pointer<const int32_t>(c.row_user)[i % rows];
    const float* from = gradient + i * n;
    T* to = out + i * n;
    for (int64_t k = 0; k < n; ++k) narrow(from[k], to + k);
    for (int32_t h = offsets[user]; h < offsets[user + 1]; ++h) to[history[h]] = T(0);
    narrow(from[target], to + target);
  }
}

void forward(uintptr_t scores, bool bf16, uintptr_t out, int branches, int64_t rows,
             const ColumnPointers& c) {
  py::gil_scoped_release release;
  check_columns(c, rows);
  float* to = pointer<float>(out);
  bf16 ? debias(pointer<const uint16_t>(scores), to, branches, rows, c)
       : debias(pointer<const float>(scores), to, branches, rows, c);
}

void backward(uintptr_t gradient, uintptr_t out, bool bf16, int branches, int64_t rows,
              const ColumnPointers& c) {
  py::gil_scoped_release release;
  check_columns(c, rows);
  const float* from = pointer<const float>(gradient);
  bf16 ? undebias(from, pointer<uint16_t>(out), branches, rows, c)
       : undebias(from, pointer<float>(out), branches, rows, c);
}

#ifdef ODMT_FAST_CUDA
void on_cuda(uintptr_t from, uintptr_t to, int scalar, bool forward, int branches, int64_t rows,
             const ColumnPointers& c, uintptr_t stream) {
  RowArgs a = {};
  a.logits = pointer<const void>(from);
  a.gradients = pointer<void>(to);
  a.branches = branches;
  a.rows = rows;
  a.columns = c.columns;
  a.log_p = pointer<const float>(c.log_p);
  a.counts = pointer<const int32_t>(c.counts);
  a.targets = pointer<const int64_t>(c.targets);
  a.row_user = pointer<const int32_t>(c.row_user);
  a.history_offsets = pointer<const int32_t>(c.history_offsets);
  a.history = pointer<const int32_t>(c.history);
  check_launch("debiased_rows",
               debias_rows_cuda(a, static_cast<Scalar>(scalar), forward, pointer<void>(stream)));
}
#endif

[[noreturn]] void outside(const char* what, int64_t at, int64_t value, int64_t limit) {
  throw std::out_of_range(std::string(what) + "[" + std::to_string(at) +
                          "] = " + std::to_string(value) + " is outside 0.." +
                          std::to_string(limit - 1));
}

}  // namespace

void check_columns(const ColumnPointers& c, int64_t rows) {
  const int32_t* offsets = pointer<const int32_t>(c.history_offsets);
  const int32_t* history = pointer<const int32_t>(c.history);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t target = pointer<const int64_t>(c.targets)[r];
    const int64_t user = pointer<const int32_t>(c.row_user)[r];
    if (target < 0 || target >= c.columns) outside("targets", r, target, c.columns);
    if (user < 0 || user >= c.users) outside("row_user", r, user, c.users);
  }
  for (int64_t b = 0; b < c.users; ++b) {
    if (offsets[b] < 0 || offsets[b + 1] < offsets[b] || offsets[b + 1] > c.history_size) {
      outside("history_offsets", b + 1, offsets[b + 1], c.history_size + 1);
    }
  }
  for (int64_t h = 0; h < c.history_size; ++h) {
    if (history[h] < 0 || history[h] >= c.columns) outside("history", h, history[h], c.columns);
  }
}

#ifdef ODMT_FAST_CUDA
void check_launch(const char* what, int error) {
  if (error) throw std::runtime_error(std::string(what) + ": " + cuda_error_name(error));
}
#endif

void bind_columns(py::module_& m) {
  using py::arg;
  py::class_<ColumnPointers>(m, "ColumnPointers", "Addresses of a Columns.")
      .def(py::init([](int64_t columns, int64_t users, int64_t history_size, uintptr_t log_p,
                       uintptr_t counts, uintptr_t targets, uintptr_t row_user,
                       uintptr_t history_offsets, uintptr_t history) {
             return ColumnPointers{columns, users,    history_size,    log_p,  counts,
                                   targets, row_user, history_offsets, history};
           }),
           arg("columns"), arg("users"), arg("history_size"), arg("log_p"), arg("counts"),
           arg("targets"), arg("row_user"), arg("history_offsets"), arg("history"));
  m.def("debiased_rows_forward", &forward, "Debiased, masked logits (fp32) of scores.",
        arg("scores"), arg("bf16"), arg("out"), arg("branches"), arg("rows"), arg("columns"));
  m.def("debiased_rows_backward", &backward, "Gradients of the scores.", arg("gradient"),
        arg("out"), arg("bf16"), arg("branches"), arg("rows"), arg("columns"));
#ifdef ODMT_FAST_CUDA
  m.def("debiased_rows_cuda", &on_cuda, "Either pass on device pointers.", arg("from_"),
        arg("to"), arg("scalar"), arg("forward"), arg("branches"), arg("rows"), arg("columns"),
        arg("stream"));
#endif
}

}  // namespace odmt_fast
