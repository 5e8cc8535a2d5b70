"""Dropout in plain torch, and the random numbers every operator of the project shares.

Philox4x32 with 7 rounds (Salmon et al., SC 2011): key = the two halves of the seed, counter =
(lo32(c), hi32(c), 0, 0). Element e of a tensor takes word e % 4 of counter e // 4, so a mask can be
formed again by any backend, in any order, and is never stored.

Rows may form equal consecutive groups, one per branch. The elements of a group are counted from its
own first one, GROUP after that of the group before: rows appended to a group move no other's noise.
The whole counting begins at 0, or at the second number of a seed [2]: consecutive parts of a tensor
then have the noise that they have in the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 7
LOW = 0xFFFFFFFF
GROUP = 1 << 48


def threshold(p: float) -> int:
    """Words below this unsigned 32-bit number are dropped."""
    return min(LOW, round(p * 2**32))


def kept_scale(p: float) -> float:
    """What a kept element is multiplied by."""
    return 1.0 / (1.0 - p)


def philox(counter: Tensor, seed: Tensor) -> Tensor:
    """Four random 32-bit words for each counter.

    Args:
        counter: int64, any shape.
        seed: int64 [1].

    Returns:
        int64 [*counter.shape, 4], values in [0, 2**32).
    """
    key_0, key_1 = seed & LOW, (seed >> 32) & LOW
    c_0, c_1 = counter & LOW, (counter >> 32) & LOW
    c_2 = c_3 = torch.zeros_like(counter)
    for _ in range(ROUNDS):
        # The 64-bit products wrap around as signed numbers; their bits are still exact.
        product_0, product_2 = c_0 * 0xD2511F53, c_2 * 0xCD9E8D57
        c_0, c_1 = ((product_2 >> 32) & LOW) ^ c_1 ^ key_0, product_2 & LOW
        c_2, c_3 = ((product_0 >> 32) & LOW) ^ c_3 ^ key_1, product_0 & LOW
        key_0, key_1 = (key_0 + 0x9E3779B9) & LOW, (key_1 + 0xBB67AE85) & LOW
    return torch.stack([c_0, c_1, c_2, c_3], dim=-1)


def keep_mask(first: Tensor, n: int, p: float, seed: Tensor) -> Tensor:
    """Which of the elements first, first + 1, .., first + n - 1 are kept.

    Args:
        first: int64, any shape, multiples of 4.
        n: elements in each run.
        p: probability of dropping.
        seed: int64 [1], or [2] with the element that the counting begins at, a multiple of 4.

    Returns:
        bool [*first.shape, n].
    """
    if len(seed) == 2:
        first, seed = first + seed[1], seed[:1]
    quads = torch.arange((n + 3) // 4, device=first.device)
    words = philox(first.unsqueeze(-1) // 4 + quads, seed)
    return words.flatten(-2)[..., :n] >= threshold(p)


def with_first(seed: Tensor | None) -> Tensor | None:
    """The seed [2] that Triton kernels read; one without a first element counts from 0."""
    if seed is None or len(seed) == 2:
        return seed
    return torch.nn.functional.pad(seed, (0, 1))


def dropout_reference(x: Tensor, p: float, seed: Tensor, groups: int = 1) -> Tensor:
    """x / (1 - p) where the element is kept, else 0; any shape, any float dtype.

    An element counts by its flat index in its group, one of `groups` equal parts of x.
    """
    first = torch.arange(groups, device=x.device) * GROUP
    keep = keep_mask(first, x.numel() // groups, p, seed).view(x.shape)
    return torch.where(keep, x * kept_scale(p), torch.zeros_like(x))
