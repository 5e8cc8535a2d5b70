// The Python module odmt_fast._C: every source of csrc binds its own functions.

#include <pybind11/pybind11.h>

#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace py = pybind11;

void bind_batch_index(py::module_&);
void bind_cpu_kernels(py::module_&);
void bind_distilled_rows(py::module_&);

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
  bind_distilled_rows(m);
}
