"""Image tokens without weights: patches in the principal components of the catalogue's own patches.

Each image is stretched to 80 x 80 and cut into 5 x 5 patches of 16 x 16 pixels. The first
components, whitened, are a patch's token; since the item Transformer knows no positions, the low
cosines of the patch's place are appended. The summary token is the mean of the patch tokens: its
place is zero, as no patch's is.

The same pictures give the same bits whatever the threads, batches and instruction set of a product:
pixels are whole numbers of 8 bits, so in float64 their products with each other and with components
rounded to 35 bits are exact, and the order of the sums cannot matter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderIdentity, EncoderOptions, Picture
from odmt_fast.features.pictures import read_batches
from odmt_fast.storage import write_atomically
from odmt_fast.threads import one_core_pool

_GRID, _PATCH = 5, 16
_PIXELS = 3 * _PATCH * _PATCH
_WHITE = 255
_WIDTH = 128
_PLACE = 8
_FIT_IMAGES = 1024
# 768 products of an 8-bit pixel and a component of so many bits stay below 2^53, exact in float64.
_COMPONENT_BITS = 35
# Directions with less variance than this share of the first one's are noise of the resampling.
_VARIANCE_FLOOR = 1e-6


class PcaPatches(Encoder[Picture]):
    """ "pca-patches": a summary token and 25 patch tokens an image; `fit` before `encode`.

    Args:
        options: `width` (default 128, of which 8 say the place of the patch), batch_size, threads.

    Raises:
        ValueError: a width that leaves no component or asks for more than a patch has.
    """

    def __init__(self, options: EncoderOptions = DEFAULTS) -> None:
        self.dim = options.width or _WIDTH
        self.max_length = 1 + _GRID * _GRID
        if not _PLACE < self.dim <= _PLACE + _PIXELS:
            raise ValueError(
                f"width={self.dim} must be in {_PLACE + 1}..{_PLACE + _PIXELS} for pca-patches"
            )
        self._options = options
        self._settings: dict[str, Any] = {"grid": _GRID, "patch": _PATCH, "width": self.dim}
        self._state: dict[str, Tensor] | None = None
        self._place = _places()

    def fit(self, inputs: Sequence[Picture], state: Path) -> None:
        """Finds the components of up to 1,024 images spread evenly over the catalogue."""
        kept = self._read(state)
        self._state = self._fitted(inputs) if kept is None else kept
        self.identity = EncoderIdentity(
            name="pca-patches", layer=None, weights=_digest(self._state), settings=self._settings
        )

    def save(self, state: Path) -> None:
        """Writes mean [768] and projection [768, width - 8], so that new items can be encoded."""
        assert self._state is not None, "fit before save"
        tensors, tag = self._state, {"odmt_fast": json.dumps(self._settings)}
        if self._read(state) is None:
            write_atomically(state, lambda file: save_file(tensors, file, metadata=tag))

    def encode(self, inputs: Sequence[Picture]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [50, dim])."""
        if self._state is None:
            raise ValueError("pca-patches was not fitted; call fit with the catalogue's images")
        components, unit, shift = _exact(self._state)
        for first, patches in self._batches(inputs):
            tokens = (patches @ components * unit - shift).float()
            for row, states in enumerate(tokens):
                patch_tokens = torch.cat([states, self._place], dim=1)
                yield first + row, torch.cat([patch_tokens.mean(0, keepdim=True), patch_tokens])

    def _fitted(self, inputs: Sequence[Picture]) -> dict[str, Tensor]:
        count = min(len(inputs), _FIT_IMAGES)
        total = torch.zeros(_PIXELS, dtype=torch.float64)
        products = torch.zeros(_PIXELS, _PIXELS, dtype=torch.float64)
        for _, patches in self._batches([inputs[i * len(inputs) // count] for i in range(count)]):
            rows = patches.reshape(-1, _PIXELS)
            total += rows.sum(0)
            products += rows.T @ rows
        patches_seen = max(1, count * _GRID * _GRID)
        mean = total / patches_seen
        covariance = (products / patches_seen - mean.outer(mean)) / _WHITE**2
        mean = mean / _WHITE
        # LAPACK splits its sums by the number of threads.
        with one_core_pool(1, "eigh") as pool:
            variances, directions = pool.submit(torch.linalg.eigh, covariance).result()
        # Ascending order; the sign is arbitrary, so let the largest entry be positive.
        variances, directions = variances.flip(0), directions.flip(1)
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        components = self.dim - _PLACE
        kept = variances > _VARIANCE_FLOOR * variances[0].clamp(min=1e-12)
        scale = torch.where(kept, variances.clamp(min=1e-12).rsqrt(), 0.0) * largest[0].sign()
        projection = (directions * scale)[:, :components]
        return {"mean": mean.float(), "projection": projection.float().contiguous()}

    def _read(self, state: Path) -> dict[str, Tensor] | None:
        if not state.is_file():
            return None
        with safe_open(state, framework="pt") as file:
            if json.loads((file.metadata() or {}).get("odmt_fast", "{}")) != self._settings:
                return None
            return {name: file.get_tensor(name).clone() for name in ("mean", "projection")}

    def _batches(self, inputs: Sequence[Picture]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index of the first, float64 [images, 25, 768], whole numbers in 0..255)."""
        options = self._options
        for first, images in read_batches(
            inputs, _patches, batch_size=options.batch_size, threads=options.threads
        ):
            yield first, torch.stack(images).double()


def _patches(image: Any) -> Tensor:
    """uint8 [25, 768]: the patches row by row."""
    from PIL import Image

    side = _GRID * _PATCH
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    grid = pixels.reshape(_GRID, _PATCH, _GRID, _PATCH, 3).transpose(0, 2, 1, 3, 4)
    return torch.from_numpy(grid.reshape(-1, _PIXELS))


def _exact(state: dict[str, Tensor]) -> tuple[Tensor, float, Tensor]:
    """Components as whole numbers, and what makes tokens of their products with pixels.

    Returns:
        float64 [768, width - 8] of at most 35 bits; what one stands for, in pixels of 0..255; and
        float64 [width - 8], the mean's own token.
    """
    mean, projection = (state[name].double() for name in ("mean", "projection"))
    exponent = _COMPONENT_BITS - 1 - math.frexp(max(float(projection.abs().max()), 1e-6))[1]
    # NumPy adds the rows one after the other, in one thread.
    shift = (mean[:, None] * projection).numpy().sum(axis=0)
    unit = 2.0**-exponent / _WHITE
    return (projection * 2.0**exponent).round(), unit, torch.from_numpy(shift)


def _places() -> Tensor:
    """float32 [25, 8]: cosines 1..4 of a patch's row and column, mean square 1 over the grid."""
    steps = (torch.arange(_GRID, dtype=torch.float64) + 0.5) * math.pi / _GRID
    waves = torch.cos(steps[:, None] * torch.arange(1, _PLACE // 2 + 1)) * 2**0.5
    rows = waves.repeat_interleave(_GRID, 0)
    return torch.cat([rows, waves.repeat(_GRID, 1)], dim=1).float()


def _digest(state: dict[str, Tensor]) -> str:
    digest = sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()
