"""Token states of any Hugging Face image encoder (ViT, CLIP, MAE, Swin, MobileNet, ResNet, ...)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderIdentity, EncoderOptions, Picture
from odmt_fast.features.huggingface import (
    load_model,
    load_part,
    pick_layer,
    precision,
)
from odmt_fast.features.index import canonical_json
from odmt_fast.features.pictures import read_batches
from odmt_fast.features.weights import weights_digest

_OFFICIAL_SIZE = 224
# What the learned summary token of the transformers that have one is called.
_SUMMARY_PARAMETERS = ("cls_token", "class_token", "class_embedding")


class HuggingFaceImage(Encoder[Picture]):
    """The states of an image's patches, a summary token first.

    The summary is [CLS] where the encoder has one (ViT, CLIP, MAE), else its pooled output or the
    mean of the patches (Swin, MobileNet, ResNet). A convolutional output [C, h, w] is h * w patch
    tokens. ViTMAE sees all patches in their own order, not a random quarter as officially.

    Args:
        name: folder or hub name.
        options: layer, normalisation, batch_size, threads, device, compute, offline.

    Raises:
        ValueError: it cannot be loaded, reads no images, or lacks the layer.
        ImportError: transformers or Pillow is not installed.
    """

    def __init__(self, name: str, options: EncoderOptions = DEFAULTS) -> None:
        from PIL import Image

        self._name, self._options = name, options
        self.group = options.batch_size
        self._model: Any = load_model(name, options, "vision_model", "pixel_values")
        self._is_mae = self._model.config.model_type == "vit_mae"
        if self._is_mae:
            self._model.config.mask_ratio = 0.0
        self._has_summary = any(
            parameter.rpartition(".")[2] in _SUMMARY_PARAMETERS
            for parameter, _ in self._model.named_parameters()
        )
        preprocessing: dict[str, Any] = {"normalisation": options.normalisation}
        self._processor: Any = None
        if options.normalisation == "encoder":
            self._processor = load_part(name, "image processor", self._load_processor)
            preprocessing = self._processor.to_dict()
        probe = self._states([self._pixels(Image.new("RGB", (64, 64)))])[0]
        self.max_length, self.dim = probe.shape
        self.identity = EncoderIdentity(
            name=name,
            layer=options.layer,
            weights=weights_digest(self._model),
            settings={
                "preprocessing": canonical_json(preprocessing),
                "compute": options.compute,
            },
        )

    def encode(self, inputs: Sequence[Picture]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [L, dim]) in order."""
        options = self._options
        for first, pixels in read_batches(
            inputs, self._pixels, batch_size=options.batch_size, threads=options.threads
        ):
            for row, states in enumerate(self._states(pixels)):
                yield first + row, states

    def _load_processor(self, where: str) -> Any:
        # The name in `transformers` itself is a placeholder without torchvision up to 5.17.
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        # Pillow everywhere: torchvision resizes a little differently and is often not there.
        load: Any = AutoImageProcessor.from_pretrained
        return load(where, backend="pil", local_files_only=self._options.offline)

    def _pixels(self, image: Any) -> Tensor:
        """float32 [3, H, W] of an RGB image."""
        if self._processor is not None:
            pixels: Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
            return pixels
        from PIL import Image

        size = (_OFFICIAL_SIZE, _OFFICIAL_SIZE)
        stretched = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return torch.from_numpy(stretched.copy()).permute(2, 0, 1).float() / 127.5 - 1.0

    def _states(self, pixels: list[Tensor]) -> Tensor:
        """float32 [images, L, dim] on the CPU."""
        device, layer = self._options.torch_device, self._options.layer
        batch = torch.stack(pixels).to(device)
        extra = {"noise": self._patch_order(batch)} if self._is_mae else {}
        with torch.no_grad(), precision(self._options):
            outputs = self._model(
                pixel_values=batch, output_hidden_states=layer is not None, **extra
            )
        states = pick_layer(outputs, layer, self._name).float()
        if states.dim() == 4:
            states = states.flatten(2).transpose(1, 2)
        if not self._has_summary:
            pooled = outputs.get("pooler_output") if layer is None else None
            summary = states.mean(1) if pooled is None else pooled.float().flatten(1)
            states = torch.cat([summary[:, None], states], dim=1)
        return states.cpu()

    def _patch_order(self, batch: Tensor) -> Tensor:
        """float32 [images, patches], ascending: MAE keeps patches in the order of noise."""
        size = self._model.config.patch_size
        patches = (batch.shape[2] // size) * (batch.shape[3] // size)
        return torch.arange(patches, device=batch.device).float().expand(batch.shape[0], -1)
