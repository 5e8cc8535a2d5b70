// Chooses the instruction set once, from what was compiled and what the CPU and the system allow.

#include "dispatch.h"

#include <cstring>

#if defined(ODMT_FAST_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace odmt_fast {

namespace baseline {
Kernels table();
}
#ifdef ODMT_FAST_AVX2
namespace avx2 {
Kernels table();
}
#endif
#ifdef ODMT_FAST_AVX512
namespace avx512 {
Kernels table();
}
#endif
#if defined(ODMT_FAST_AMX) && defined(__linux__)
namespace amx {
Kernels table();
}

// The tiles exist and the kernel lets this process use them (their state is large, so it asks).
static bool may_use_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tile = d & (1u << 24), bf16 = d & (1u << 22);
  constexpr long request_permission = 0x1023, tile_data = 18;
  return tile && bf16 && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

// What runs here, best first.
static const std::vector<Kernels>& available() {
  static const std::vector<Kernels> tables = [] {
    std::vector<Kernels> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#ifdef ODMT_FAST_AVX512
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("bmi2");
#if defined(ODMT_FAST_AMX) && defined(__linux__)
    if (avx512 && may_use_tiles()) found.push_back(amx::table());
#endif
    if (avx512) found.push_back(avx512::table());
#endif
#ifdef ODMT_FAST_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
      found.push_back(avx2::table());
#endif
    found.push_back(baseline::table());
    return found;
  }();
  return tables;
}

static const Kernels*& active() {
  static const Kernels* table = &available().front();
  return table;
}

const Kernels& kernels() { return *active(); }

std::vector<const char*> isas() {
  std::vector<const char*> names;
  for (const Kernels& table : available()) names.push_back(table.isa);
  return names;
}

bool use_isa(const char* name) {
  for (const Kernels& table : available())
    if (std::strcmp(table.isa, name) == 0) {
      active() = &table;
      return true;
    }
  return false;
}

}  // namespace odmt_fast
