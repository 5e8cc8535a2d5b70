// What Python hands to the CPU kernels: addresses, sizes and tuples of them, as their structs.

#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels.h"

namespace odmt_fast {

using Address = std::uintptr_t;

template <class T>
static T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// (threshold, scale, address of the int64 seed, its length); an address of 0 means no dropout, a
// second number is the first element.
using DropoutArgument = std::tuple<std::uint32_t, float, Address, int>;
// (address, token stride, head stride)
using HeadsArgument = std::tuple<Address, std::int64_t, std::int64_t>;

static Type type_of(bool is_bf16) { return is_bf16 ? Type::bf16 : Type::f32; }

static Dropout dropout_of(const DropoutArgument& argument) {
  const auto [threshold, scale, address, length] = argument;
  if (!address) return {false, threshold, scale, 0, 0};
  const std::uint64_t* seed = at<const std::uint64_t>(address);
  return {true, threshold, scale, seed[0], length > 1 ? seed[1] : 0};
}

static Heads heads_of(const HeadsArgument& argument) {
  const auto [address, token, head] = argument;
  return {at<void>(address), token, head};
}

static Mask mask_of(const std::string& name) {
  if (name == "asymmetric") return Mask::asymmetric;
  if (name == "symmetric") return Mask::symmetric;
  if (name == "causal") return Mask::causal;
  throw std::invalid_argument("mask must be asymmetric, symmetric or causal, got " + name);
}

// (bf16, address of cu_seqlens int32 [segments + 1], segments, heads, width, mask, scale, dropout,
// groups of tokens, threads)
using AttentionArgument = std::tuple<bool, Address, std::int64_t, std::int64_t, std::int64_t,
                                     std::string, float, DropoutArgument, std::int64_t, int>;

static AttentionShape attention_of(const AttentionArgument& argument) {
  const auto& [is_bf16, cu_seqlens, segments, heads, width, mask, scale, dropout, groups,
               threads] = argument;
  const std::int32_t* cu = at<const std::int32_t>(cu_seqlens);
  const std::int64_t tokens = segments ? cu[segments] : 0;
  for (std::int64_t i = 0; i < segments; ++i)
    if (cu[i + 1] < cu[i] || cu[i + 1] - cu[i] > 512)
      throw std::invalid_argument("cu_seqlens: segment " + std::to_string(i) + " has length " +
                            std::to_string(cu[i + 1] - cu[i]) + ", not within 0..512");
  // About 20000 multiply-adds are worth waking another thread.
  const std::int64_t work = tokens * heads * width * (segments ? tokens / segments + 1 : 1);
  const int useful = (int)std::min<std::int64_t>(threads, 1 + work / 20000);
  const std::int64_t group_tokens = std::max<std::int64_t>(1, tokens / groups);
  return {type_of(is_bf16), segments, heads, width, cu, mask_of(mask), scale, dropout_of(dropout),
          group_tokens,     std::max(1, useful)};
}

}  // namespace odmt_fast
