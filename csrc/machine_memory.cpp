#include "machine_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace odmt {
namespace {

constexpr std::size_t kUnknown = std::numeric_limits<std::size_t>::max();

// The number after `name` at the beginning of a line; kUnknown where there is none.
std::size_t entry(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word, rest;
  std::size_t value;
  while (file >> word) {
    if (word == name && file >> value) return value;
    file.clear();
    std::getline(file, rest);
  }
  return kUnknown;
}

std::size_t number(const char* path) {
  std::ifstream file(path);
  std::size_t value;
  return file >> value ? value : kUnknown;  // "max" is no number
}

}  // namespace

std::size_t memory_left() {
  std::size_t left = kUnknown;
  const std::size_t available = entry("/proc/meminfo", "MemAvailable:");
  const std::size_t swap = entry("/proc/meminfo", "SwapFree:");
  if (available != kUnknown) left = (available + (swap == kUnknown ? 0 : swap)) * 1024;
  // In a container its own group is mounted here; pages of files are given up when memory is short.
  const std::size_t most = number("/sys/fs/cgroup/memory.max");
  const std::size_t now = number("/sys/fs/cgroup/memory.current");
  if (most != kUnknown && now != kUnknown) {
    const std::size_t files = entry("/sys/fs/cgroup/memory.stat", "file");
    const std::size_t held = now - (files == kUnknown ? 0 : std::min(files, now));
    left = std::min(left, most - std::min(most, held));
  }
  return left;
}

}  // namespace odmt
