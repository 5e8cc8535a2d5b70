"""From the name of an encoder to the encoder."""

from __future__ import annotations

from typing import Any

from odmt_fast.features.brought import BroughtEncoder, is_code
from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderOptions, Modality
from odmt_fast.features.pooled import Pooled

BUILT_IN: dict[str, Modality] = {"hashed-words": "text", "pca-patches": "image"}
"""Encoders that need no weights, and what they encode."""


def load_encoder(name: str, modality: str, options: EncoderOptions = DEFAULTS) -> Encoder[Any]:
    """Loads the encoder called `name`.

    Args:
        name: "hashed-words" (text), "pca-patches" (image), ``module:factory`` or
            ``FILE.py:factory`` (a `CustomEncoder`), a folder with a Hugging Face model, or the name
            of one on the hub.
        modality: "text" or "image".
        options: layer, lengths, pooling, preprocessing, device.

    Raises:
        ValueError: no such encoder, or one of the other modality; says what can be given.
        ImportError: the encoder needs a package that is not installed; says which.
    """
    if modality not in ("text", "image"):
        raise ValueError(f"modality={modality!r} must be text or image")
    if name in BUILT_IN and BUILT_IN[name] != modality:
        fitting = next(other for other, kind in BUILT_IN.items() if kind == modality)
        raise ValueError(
            f"encoder={name!r} encodes {BUILT_IN[name]}, not {modality}; use {fitting!r}, "
            "a folder or a hub name"
        )
    encoder = _whole(name, modality, options)
    return Pooled(encoder, options.pooling) if options.pooling else encoder


def _whole(name: str, modality: str, options: EncoderOptions) -> Encoder[Any]:
    """The encoder with all its tokens."""
    # Imported here: only the encoder that is used may ask for Pillow or transformers.
    if name == "hashed-words":
        from odmt_fast.features.hashed_words import HashedWords

        return HashedWords(options)
    if name == "pca-patches":
        from odmt_fast.features.pca_patches import PcaPatches

        return PcaPatches(options)
    if is_code(name):
        return BroughtEncoder(name, modality, options)
    if modality == "text":
        from odmt_fast.features.huggingface_text import HuggingFaceText

        return HuggingFaceText(name, options)
    from odmt_fast.features.huggingface_image import HuggingFaceImage

    return HuggingFaceImage(name, options)
