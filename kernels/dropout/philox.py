"""Philox masks inside Triton kernels: bit for bit those of `reference.keep_mask`.

One counter gives four words, so a tile whose elements run in aligned groups of four ("quads") asks
for a quarter of the counters and interleaves the words; any other tile picks one word per element,
at four times the arithmetic.
"""

import triton
import triton.language as tl

GROUP = tl.constexpr(1 << 48)  # reference.GROUP


@triton.jit
def first_counter(seed_ptr):
    """Counter of the element that the counting begins at, int64."""
    return tl.load(seed_ptr + 1) >> 2


@triton.jit
def keep_of_quads(seed, c_lo, c_hi, threshold):
    """Which elements are kept, for tiles of counters.

    c_lo, c_hi: uint32 [.., n], the halves of the counters of elements 4 c .. 4 c + 3.
    Returns bool [.., 4 n].
    """
    w_0, w_1, w_2, w_3 = tl.philox(seed, c_lo, c_hi, c_lo * 0, c_lo * 0, 7)
    limit = threshold.to(tl.uint32)
    # Narrow before interleaving: the exchange between threads then moves bytes, not words.
    k_0 = (w_0 >= limit).to(tl.int8)
    k_1 = (w_1 >= limit).to(tl.int8)
    k_2 = (w_2 >= limit).to(tl.int8)
    k_3 = (w_3 >= limit).to(tl.int8)
    return tl.interleave(tl.interleave(k_0, k_2), tl.interleave(k_1, k_3)) != 0


@triton.jit
def keep_of_elements(seed, o_element, threshold):
    """Which elements are kept; o_element: int64, any shape."""
    counter = o_element >> 2
    c_lo = (counter & 0xFFFFFFFF).to(tl.uint32)
    c_hi = (counter >> 32).to(tl.uint32)
    w_0, w_1, w_2, w_3 = tl.philox(seed, c_lo, c_hi, c_lo * 0, c_lo * 0, 7)
    word = (o_element & 3).to(tl.int32)
    low = tl.where(word == 0, w_0, w_1)
    high = tl.where(word == 2, w_2, w_3)
    return tl.where(word < 2, low, high) >= threshold.to(tl.uint32)
