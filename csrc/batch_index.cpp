// The index arrays of a training batch (kernels/batch_index): distinct items by a radix sort of the
// occurrences, then one pass over the users.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace py = pybind11;

namespace {

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

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

// Where the arrays of kernels/batch_index/reference.py::BatchIndex go; items, counts and history
// have room for all occurrences.
struct Arrays {
  std::int64_t* items;
  std::int32_t* counts;
  std::int64_t *occurrences, *offsets;
  std::int32_t* row_offsets;
  std::int64_t *row_input, *row_target;
  std::int32_t* row_user;
  std::int64_t* positions;
  std::int32_t *history_offsets, *history;
};

// Returns (distinct items, history entries, most rows of a user).
template <class Id, class Length>
std::tuple<std::int64_t, std::int64_t, std::int64_t> build(const Id* ids, std::int64_t n,
                                                           const Length* lengths,
                                                           std::int64_t users, std::int64_t steps,
                                                           const Arrays& to) {
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
  to.offsets[0] = to.row_offsets[0] = to.history_offsets[0] = 0;
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
    to.offsets[b + 1] = place;
    to.row_offsets[b + 1] = static_cast<std::int32_t>(row);
    to.history_offsets[b + 1] = static_cast<std::int32_t>(entries);
  }
  return {distinct, entries, most};
}

// arrays: addresses in the order of `Arrays`.
auto batch_index(std::uintptr_t ids, bool wide_ids, std::int64_t n, std::uintptr_t lengths,
                 bool wide_lengths, std::int64_t users, std::int64_t steps,
                 const std::vector<std::uintptr_t>& arrays) {
  using I64 = std::int64_t;
  using I32 = std::int32_t;
  const Arrays to = {at<I64>(arrays.at(0)), at<I32>(arrays.at(1)), at<I64>(arrays.at(2)),
                     at<I64>(arrays.at(3)), at<I32>(arrays.at(4)), at<I64>(arrays.at(5)),
                     at<I64>(arrays.at(6)), at<I32>(arrays.at(7)), at<I64>(arrays.at(8)),
                     at<I32>(arrays.at(9)), at<I32>(arrays.at(10))};
  if (wide_ids && wide_lengths) return build(at<I64>(ids), n, at<I64>(lengths), users, steps, to);
  if (wide_ids) return build(at<I64>(ids), n, at<I32>(lengths), users, steps, to);
  if (wide_lengths) return build(at<I32>(ids), n, at<I64>(lengths), users, steps, to);
  return build(at<I32>(ids), n, at<I32>(lengths), users, steps, to);
}

}  // namespace

void bind_batch_index(py::module_& m) {
  m.def("batch_index", &batch_index, py::call_guard<py::gil_scoped_release>(),
        "Fills the arrays of a BatchIndex; returns (distinct items, history entries, most rows).");
}
