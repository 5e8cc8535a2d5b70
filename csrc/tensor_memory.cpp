// Where torch's CPU tensors live: odmt_fast/training/memory.py.

#include <pthread.h>
#include <pybind11/pybind11.h>

#include <cerrno>
#include <cstdlib>

#include "block_heap.h"
#include "imports.h"
#include "machine_memory.h"

namespace {

// Never destroyed: tensors may outlive every static object.
odmt::BlockHeap& heap() {
  static auto* const it = new odmt::BlockHeap;
  return *it;
}

// Asking the system takes microseconds: for blocks whose pages take milliseconds.
constexpr std::size_t kChecked = std::size_t{64} << 20;

// The heap's range is not memory, so that nothing else would refuse a block the machine lacks.
bool lacks(std::size_t bytes) {
  if (bytes < kChecked) return false;
  const std::size_t left = odmt::memory_left();
  return bytes > left && bytes - left > heap().unused();
}

int allocate(void** out, std::size_t alignment, std::size_t bytes) {
  if (bytes >= odmt::BlockHeap::kSmallest && alignment <= odmt::BlockHeap::kGranule) {
    if (lacks(bytes)) return ENOMEM;
    *out = heap().allocate(bytes);
    if (*out) return 0;
  }
  return posix_memalign(out, alignment, bytes);
}

void release(void* block) {
  if (heap().owns(block)) {
    heap().free(block);
  } else {
    std::free(block);
  }
}

bool install() {
  if (!heap().reserve()) return false;
  pthread_atfork([] { heap().lock(); }, [] { heap().unlock(); }, [] { heap().unlock(); });
  // free first: no block of the heap may reach the other one.
  return odmt::redirect_imports("libc10.so",
                                {{"free", reinterpret_cast<void*>(&release)},
                                 {"posix_memalign", reinterpret_cast<void*>(&allocate)}});
}

// One attempt per process: an import table that is redirected stays so.
bool keep_freed_tensors() {
  static const bool installed = install();
  return installed;
}

}  // namespace

void bind_tensor_memory(pybind11::module_& m) {
  m.def("keep_freed_tensors", &keep_freed_tensors,
        "Serves torch's large CPU tensors from a heap that keeps what is freed, from now on; False "
        "where that is not possible.");
  m.def("release_freed_tensors", [] { heap().give_back(); },
        "Returns the memory of freed tensors to the system.");
  m.def("tensor_bytes", [] { return heap().used(); }, "Bytes of tensors that live in that heap.");
}
