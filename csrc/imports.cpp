// Import tables as the ELF specification has them: relocations of the kinds JUMP_SLOT and GLOB_DAT
// name a symbol and the address of the pointer to it. Other systems have no such table.

#include "imports.h"

#if defined(__linux__) && defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__))

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

namespace odmt {
namespace {

#ifdef __x86_64__
constexpr unsigned kJumpSlot = R_X86_64_JUMP_SLOT, kGlobalData = R_X86_64_GLOB_DAT;
#else
constexpr unsigned kJumpSlot = R_AARCH64_JUMP_SLOT, kGlobalData = R_AARCH64_GLOB_DAT;
#endif

struct Search {
  const char* library;
  std::initializer_list<Redirect> redirects;
  std::vector<std::vector<void**>> slots;  // per redirect
  ElfW(Addr) relro_begin = 0, relro_end = 0;
};

bool is_file(const char* path, const char* name) {
  const char* slash = std::strrchr(path, '/');
  return std::strcmp(slash ? slash + 1 : path, name) == 0;
}

int search(dl_phdr_info* info, std::size_t, void* data) {
  auto& found = *static_cast<Search*>(data);
  if (!is_file(info->dlpi_name, found.library)) return 0;
  const ElfW(Addr) base = info->dlpi_addr;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(base + segment.p_vaddr);
    } else if (segment.p_type == PT_GNU_RELRO) {
      found.relro_begin = base + segment.p_vaddr;
      found.relro_end = found.relro_begin + segment.p_memsz;
    }
  }
  // Some loaders relocate the pointers of this table, some leave offsets there.
  const auto address = [base](ElfW(Addr) value) { return value < base ? base + value : value; };
  ElfW(Addr) symbols = 0, strings = 0, tables[2] = {};
  std::size_t sizes[2] = {};
  for (const ElfW(Dyn)* entry = dynamic; entry && entry->d_tag != DT_NULL; ++entry) {
    switch (entry->d_tag) {
      case DT_SYMTAB: symbols = address(entry->d_un.d_ptr); break;
      case DT_STRTAB: strings = address(entry->d_un.d_ptr); break;
      case DT_RELA: tables[0] = address(entry->d_un.d_ptr); break;
      case DT_RELASZ: sizes[0] = entry->d_un.d_val; break;
      case DT_JMPREL: tables[1] = address(entry->d_un.d_ptr); break;
      case DT_PLTRELSZ: sizes[1] = entry->d_un.d_val; break;
    }
  }
  if (!symbols || !strings) return 1;
  for (int table = 0; table < 2; ++table) {
    const auto* entry = reinterpret_cast<const ElfW(Rela)*>(tables[table]);
    for (std::size_t i = 0; tables[table] && i < sizes[table] / sizeof(ElfW(Rela)); ++i) {
      const unsigned kind = ELF64_R_TYPE(entry[i].r_info);
      if (kind != kJumpSlot && kind != kGlobalData) continue;
      const auto& symbol =
          reinterpret_cast<const ElfW(Sym)*>(symbols)[ELF64_R_SYM(entry[i].r_info)];
      const char* name = reinterpret_cast<const char*>(strings) + symbol.st_name;
      std::size_t number = 0;
      for (const auto& redirect : found.redirects) {
        if (std::strcmp(name, redirect.symbol) == 0) {
          found.slots[number].push_back(reinterpret_cast<void**>(base + entry[i].r_offset));
        }
        ++number;
      }
    }
  }
  return 1;
}

bool protect(void** slot, int protection) {
  const std::size_t page = sysconf(_SC_PAGESIZE);
  const auto address = reinterpret_cast<ElfW(Addr)>(slot) / page * page;
  return mprotect(reinterpret_cast<void*>(address), page, protection) == 0;
}

}  // namespace

bool redirect_imports(const char* library, std::initializer_list<Redirect> redirects) {
  Search found{library, redirects, std::vector<std::vector<void**>>(redirects.size())};
  dl_iterate_phdr(&search, &found);
  for (const auto& slots : found.slots) {
    if (slots.empty()) return false;
    for (void** slot : slots) {
      if (!protect(slot, PROT_READ | PROT_WRITE)) return false;
    }
  }
  std::size_t number = 0;
  for (const auto& redirect : redirects) {
    for (void** slot : found.slots[number]) __atomic_store_n(slot, redirect.target, __ATOMIC_RELEASE);
    ++number;
  }
  for (const auto& slots : found.slots) {
    for (void** slot : slots) {
      const auto address = reinterpret_cast<ElfW(Addr)>(slot);
      if (found.relro_begin <= address && address < found.relro_end) protect(slot, PROT_READ);
    }
  }
  return true;
}

}  // namespace odmt

#else

namespace odmt {

bool redirect_imports(const char*, std::initializer_list<Redirect>) { return false; }

}  // namespace odmt

#endif
