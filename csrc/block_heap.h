// A heap for large blocks that keeps what is freed.

#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace odmt {

// Blocks lie in one reserved range of addresses, the lowest that fits is taken, neighbours that are
// free become one. Nothing but these blocks lies there, so no small allocation of a long life can
// keep two of them apart. Pages of freed blocks stay resident until `give_back`.
class BlockHeap {
 public:
  static constexpr std::size_t kSmallest = std::size_t{1} << 20;  // smaller ones are malloc's
  static constexpr std::size_t kGranule = std::size_t{1} << 16;   // size and alignment of a block

  // Reserves addresses, no memory; false if the system refuses.
  bool reserve();
  // A block of at least `bytes`, or null when the range is full.
  void* allocate(std::size_t bytes);
  void free(void* block);
  bool owns(const void* address) const {
    return static_cast<std::size_t>(static_cast<const char*>(address) - base_) < reserved_;
  }
  // Returns the pages of free blocks to the system.
  void give_back();
  // Bytes in blocks that are in use.
  std::size_t used();
  // Bytes below the highest block that are free; their pages may be resident.
  std::size_t unused();

  // Around fork(2), so that a child never inherits the lock taken.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  using Blocks = std::map<std::size_t, std::size_t>;  // offset -> bytes

  std::mutex mutex_;
  char* base_ = nullptr;
  std::size_t reserved_ = 0;
  std::size_t top_ = 0;  // nothing at or above it was ever used
  Blocks free_;
  Blocks used_;
};

}  // namespace odmt
