"""The official feature layout ``[n_items + 1, T, d]`` as a token source."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.features.tokens import PackedTokens


@dataclass(frozen=True)
class PaddedTokens:
    """Padded features, packed when they are gathered.

    Attributes:
        values: [n_items + 1, T, d_f].
        ragged: whether items have fewer than T real tokens, so that a mask must come with the call.
    """

    values: Tensor
    ragged: bool

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""
        return self.values.shape[2]

    @property
    def n_items(self) -> int:
        """Items 1..n_items have tokens."""
        return self.values.shape[0] - 1

    @property
    def max_length(self) -> int:
        """T."""
        return self.values.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the tokens."""
        return self.values.dtype

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], T for each of `items`."""
        return torch.full_like(items, self.max_length)

    def gather(self, items: Tensor, mask: Tensor | None = None) -> PackedTokens:
        """Tokens of `items` (int64 [U]) where `mask` ([U, T]) is nonzero; all T without a mask.

        Raises:
            ValueError: the features are ragged and no mask was given, or an item's first token,
                whose output is the branch's, is masked.
        """
        if mask is None and self.ragged:
            raise ValueError(
                "t_feat is padded and its mask comes only with the official call; give the model "
                "TokenTable.from_padded(t_feat, mask) to encode items by id"
            )
        padded = self.values[items]
        if mask is None:
            lengths = items.new_full((items.shape[0],), self.max_length)
            return PackedTokens(padded.flatten(0, 1), lengths, self.max_length)
        keep = mask != 0
        if not bool(keep[:, 0].all()):
            item = int(items[int((~keep[:, 0]).nonzero()[0, 0])])
            raise ValueError(
                f"the text mask of item {item} hides its first token, whose output is the text "
                "branch; give an item without text one zero token with mask 1"
            )
        return PackedTokens(padded[keep], keep.sum(1), self.max_length)


def as_tensor(name: str, features: Tensor | NDArray[Any]) -> Tensor:
    """Features [n_items + 1, T, d_f] as a tensor over the same memory.

    A memory-mapped array is not read; one opened read-only is mapped again, copy on write. Any
    other read-only array is copied.

    Raises:
        ValueError: the array has other dimensions, or a dtype that tensors lack.
    """
    if isinstance(features, np.ndarray):
        if not features.flags.writeable:
            features = _writable(features)
        try:
            features = torch.from_numpy(features)
        except TypeError as error:
            raise ValueError(
                f"{name} features are an array of {features.dtype}; convert it, for example by "
                ".astype('float32')"
            ) from error
    if features.dim() != 3:
        raise ValueError(
            f"{name} features must be [item_num + 1, tokens, width], got {tuple(features.shape)}"
        )
    return features


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename:
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return np.memmap(
            array.filename, array.dtype, "c", offset=array.offset, shape=array.shape, order=order
        )
    return array.copy()
