// The searches' part of the Python module odmt_fast._C.

#include "module_search.h"

#include <pybind11/stl.h>

#include "arguments.h"

namespace py = pybind11;

namespace odmt_fast {

// (bf16, branches, users, items, width, queries, catalogue, allowed, rows, row count, offsets,
// excluded); allowed is 0 where every item takes part.
using SearchArgument =
    std::tuple<bool, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Address, Address, Address,
               Address, std::int64_t, Address, Address>;

static Search search_of(const SearchArgument& argument) {
  const auto& [is_bf16, branches, users, items, width, queries, catalogue, allowed, rows, row_count,
               offsets, excluded] = argument;
  if (items > INT32_MAX)
    throw std::invalid_argument("items must be fewer than 2^31, got " + std::to_string(items));
  using I64 = const std::int64_t;
  return {is_bf16,      branches,      users,     items,
          width,        at<void>(queries), at<void>(catalogue), at<const std::uint8_t>(allowed),
          at<I64>(rows), row_count,        at<I64>(offsets), at<I64>(excluded)};
}

void bind_search(py::module_& m) {
  m.def(
      "rank_of_target",
      [](const SearchArgument& argument, Address targets, bool miss, Address ranks, Address ties,
         int threads) {
        const Search search = search_of(argument);
        py::gil_scoped_release nogil;
        return rank_of_target(search, at<std::int64_t>(targets), miss, at<std::int64_t>(ranks),
                              at<std::int64_t>(ties), threads);
      },
      "Ranks and ties [rankings, users]; False when an item is not finite.");
  m.def(
      "top_k",
      [](const SearchArgument& argument, std::int64_t k, Address items, Address scores,
         int threads) {
        const Search search = search_of(argument);
        py::gil_scoped_release nogil;
        return top_k(search, k, at<std::int64_t>(items), at<float>(scores), threads);
      },
      "Items and scores [users, k]; False when an item is not finite.");
}

}  // namespace odmt_fast
