// The index arrays of a training batch (kernels/batch_index): distinct items by a radix sort of the
// occurrences, then one pass over the users.

#include "batch_index.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace odmt_fast {
namespace {

struct Occurrence {
  std::uint64_t id;
  std::int64_t place;
};

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("batch_index: " + what);
}

template <class Length>
void check_lengths(const Length* lengths, std::int64_t users, std::int64_t occurrences,
                   std::int64_t steps) {
  std::int64_t total = 0;
  for (std::int64_t b = 0; b < users; ++b) {
    if (lengths[b] < 1 || lengths[b] > steps + 1)
      refuse("user " + std::to_string(b) + " has " + std::to_string(lengths[b]) +
             " items; cut sequences to 1 to max_seq_len + 1 = " + std::to_string(steps + 1));
    total += lengths[b];
  }
  if (total != occurrences)
    refuse("lengths sum to " + std::to_string(total) + ", but there are " +
           std::to_string(occurrences) + " item_ids");
}

template <class Length>
[[noreturn]] void refuse_id(std::int64_t id, std::int64_t place, const Length* lengths) {
  std::int64_t user = 0;
  for (std::int64_t end = lengths[0]; end <= place; end += lengths[++user]) {
  }
  refuse("user " + std::to_string(user) + " has item id " + std::to_string(id) +
         "; ids start at 1, 0 is padding and must be left out");
}

// Occurrences in order of their ids: least significant digit first, only as many as the ids have.
template <class Id, class Length>
std::vector<Occurrence> sorted_occurrences(const Id* ids, std::int64_t n, const Length* lengths) {
  constexpr int digit_bits = 11, digits = 1 << digit_bits;
  std::vector<Occurrence> sorted(n), other(n);
  std::uint64_t highest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (ids[i] < 1) refuse_id(ids[i], i, lengths);
    sorted[i] = {static_cast<std::uint64_t>(ids[i]), i};
    highest |= sorted[i].id;
  }
  for (int shift = 0; shift < 64 && highest >> shift; shift += digit_bits) {
    std::int64_t first[digits + 1] = {};
    for (const Occurrence& o : sorted) ++first[(o.id >> shift & (digits - 1)) + 1];
    for (int d = 1; d < digits; ++d) first[d] += first[d - 1];
    for (const Occurrence& o : sorted) other[first[o.id >> shift & (digits - 1)]++] = o;
    sorted.swap(other);
  }
  return sorted;
}

void sort_short(std::int32_t* values, std::int64_t n) {
  if (n > 48) return std::sort(values, values + n);
  for (std::int64_t i = 1; i < n; ++i) {
    const std::int32_t value = values[i];
    std::int64_t j = i;
    for (; j > 0 && values[j - 1] > value; --j) values[j] = values[j - 1];
    values[j] = value;
  }
}

template <class Id, class Length>
BatchIndexSizes build(const Id* ids, std::int64_t n, const Length* lengths, std::int64_t users,
                      std::int64_t steps, const BatchIndexArrays& to) {
  check_lengths(lengths, users, n, steps);
  std::int64_t distinct = 0;
  std::uint64_t last = 0;
  for (const Occurrence& o : sorted_occurrences(ids, n, lengths)) {
    if (o.id != last) {
      to.items[distinct] = static_cast<std::int64_t>(last = o.id);
      to.counts[distinct++] = 0;
    }
    ++to.counts[distinct - 1];
    to.occurrences[o.place] = distinct - 1;
  }
  std::int64_t row = 0, entries = 0, place = 0, most = 0;
  to.row_offsets[0] = to.history_offsets[0] = 0;
  for (std::int64_t b = 0; b < users; ++b) {
    const std::int64_t length = lengths[b], rows = length - 1;
    const std::int64_t* columns = to.occurrences + place;
    most = std::max(most, rows);
    for (std::int64_t t = 0; t < rows; ++t, ++row) {
      to.row_input[row] = columns[t];
      to.row_target[row] = columns[t + 1];
      to.row_user[row] = static_cast<std::int32_t>(b);
      to.positions[row] = steps - rows + t;
    }
    std::int32_t* own = to.history + entries;
    for (std::int64_t t = 0; t < length; ++t) own[t] = static_cast<std::int32_t>(columns[t]);
    sort_short(own, length);
    entries += std::unique(own, own + length) - own;
    place += length;
    to.row_offsets[b + 1] = static_cast<std::int32_t>(row);
    to.history_offsets[b + 1] = static_cast<std::int32_t>(entries);
  }
  return {distinct, entries, most};
}

}  // namespace

BatchIndexSizes batch_index(const void* ids, bool wide_ids, std::int64_t n, const void* lengths,
                            bool wide_lengths, std::int64_t users, std::int64_t steps,
                            const BatchIndexArrays& to) {
  const auto with_lengths = [&](const auto* typed_ids) {
    return wide_lengths
               ? build(typed_ids, n, static_cast<const std::int64_t*>(lengths), users, steps, to)
               : build(typed_ids, n, static_cast<const std::int32_t*>(lengths), users, steps, to);
  };
  return wide_ids ? with_lengths(static_cast<const std::int64_t*>(ids))
                  : with_lengths(static_cast<const std::int32_t*>(ids));
}

}  // namespace odmt_fast
