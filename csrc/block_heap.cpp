#include "block_heap.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>

namespace odmt {

bool BlockHeap::reserve() {
  // Twice what the machine has leaves room for holes; a range is not memory.
  const std::size_t memory = std::size_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const std::size_t bytes = 2 * memory / kGranule * kGranule;
  void* range = mmap(nullptr, bytes + kGranule, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return false;
  const auto address = reinterpret_cast<std::uintptr_t>(range);
  base_ = static_cast<char*>(range) + (kGranule - address % kGranule) % kGranule;
  reserved_ = bytes;
  return true;
}

void* BlockHeap::allocate(std::size_t bytes) {
  if (bytes > reserved_) return nullptr;
  bytes = (bytes + kGranule - 1) / kGranule * kGranule;
  const std::lock_guard<std::mutex> guard(mutex_);
  std::size_t offset = top_;
  auto block = free_.begin();
  while (block != free_.end() && block->second < bytes) ++block;
  if (block != free_.end()) {
    offset = block->first;
    const std::size_t rest = block->second - bytes;
    free_.erase(block);
    if (rest) free_[offset + bytes] = rest;
  } else {
    // The highest free block may end at the top, and grows then.
    const auto last = free_.empty() ? free_.end() : std::prev(free_.end());
    const bool grows = last != free_.end() && last->first + last->second == top_;
    if (grows) offset = last->first;
    if (offset + bytes > reserved_) return nullptr;
    if (grows) free_.erase(last);
    top_ = offset + bytes;
  }
  used_[offset] = bytes;
  return base_ + offset;
}

void BlockHeap::free(void* block) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto taken = used_.find(static_cast<char*>(block) - base_);
  std::size_t offset = taken->first, bytes = taken->second;
  used_.erase(taken);
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + bytes) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  free_[offset] = bytes;
}

void BlockHeap::give_back() {
  const std::lock_guard<std::mutex> guard(mutex_);
  for (const auto& [offset, bytes] : free_) madvise(base_ + offset, bytes, MADV_DONTNEED);
}

std::size_t BlockHeap::used() {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::size_t total = 0;
  for (const auto& block : used_) total += block.second;
  return total;
}

std::size_t BlockHeap::unused() {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::size_t total = 0;
  for (const auto& block : free_) total += block.second;
  return total;
}

}  // namespace odmt
