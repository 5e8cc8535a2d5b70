"""Small picture files in a file of tensors: "content", uint8, one after the other, "offsets"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def packed(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Tensors "content", uint8 [bytes], and "offsets", int64 [n + 1], of n files in their order."""
    sizes = torch.tensor([0, *map(len, files.values())], dtype=torch.int64)
    content = torch.frombuffer(bytearray(b"".join(files.values())), dtype=torch.uint8)
    return {"content": content, "offsets": sizes.cumsum(0)}


def unpacked(tensors: Mapping[str, Tensor], items: Iterable[str]) -> dict[str, bytes]:
    """The inverse of `packed`; `items` names the n files."""
    content, offsets = tensors["content"].numpy().tobytes(), tensors["offsets"].tolist()
    bounds = zip(offsets, offsets[1:], strict=False)
    return {item: content[start:end] for item, (start, end) in zip(items, bounds, strict=True)}
