"""Loading Hugging Face models and naming exactly which weights they are."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.kernels.linear.libraries import current

T = TypeVar("T")


def load_part(name: str, what: str, load: Callable[[str], T]) -> T:
    """Loads the tokenizer, processor or model of `name`, or says how to give another.

    Raises:
        ImportError: transformers is not installed.
        ValueError: `name` cannot be loaded.
    """
    builtin = "'hashed-words' (text) or 'pca-patches' (image)"
    try:
        import transformers
    except ImportError:
        raise ImportError(
            f"encoder={name!r} needs transformers: pip install 'odmt_fast[features]'; "
            f"{builtin} need no weights"
        ) from None
    is_path = name.startswith((".", "~", os.sep)) or Path(name).exists()
    path = Path(name).expanduser()
    if is_path and not (path / "config.json").is_file():
        raise ValueError(
            f"encoder={name!r} is not a folder with a Hugging Face model (no config.json in it)"
        )
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    try:
        return load(str(path) if is_path else name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = (
            "complete the folder"
            if is_path
            else "give a folder, a name in the local cache or one the hub can be asked for"
        )
        raise ValueError(
            f"the {what} of encoder={name!r} cannot be loaded ({reason}); {remedy}, "
            f"or use {builtin}"
        ) from error


def load_model(name: str, options: EncoderOptions, tower: str, inputs: str) -> Any:
    """The transformers model in evaluation mode, fp32, on the device.

    Args:
        name: folder or hub name.
        options: device, offline.
        tower: attribute of a two-tower model (CLIP) that is wanted, "text_model" or "vision_model".
        inputs: what the model must read, "input_ids" or "pixel_values".

    Raises:
        ValueError: it cannot be loaded, or reads something else.
    """

    def load(where: str) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(
            where, dtype=torch.float32, local_files_only=options.offline
        )

    model: Any = load_part(name, "model", load)
    model = getattr(model, tower, model)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if model.main_input_name != inputs:
        raise ValueError(
            f"encoder={name!r} ({type(model).__name__}) reads {model.main_input_name}, not {inputs}"
        )
    return model.eval().requires_grad_(False).to(options.torch_device)


def precision(options: EncoderOptions) -> AbstractContextManager[Any]:
    """The context in which a model runs; bf16 is autocast, where the device multiplies it fast."""
    device = options.torch_device.type
    if options.compute == "fp32":
        return nullcontext()
    if device == "cpu" and not current().bf16_is_fast:
        warnings.warn(
            "this CPU has no fast products of bf16: the encoder computes in fp32, which is faster "
            "here and more exact than the compute='bf16' that was asked for",
            stacklevel=2,
        )
        return nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)


def pick_layer(outputs: Any, layer: int | None, name: str) -> Tensor:
    """The hidden state asked for.

    Raises:
        ValueError: `layer` is not one of the model's.
    """
    if layer is None:
        states: Tensor = outputs.last_hidden_state
        return states
    count = len(outputs.hidden_states)
    if not -count <= layer < count:
        raise ValueError(
            f"layer={layer} does not exist in encoder={name!r}: it has hidden states "
            f"0..{count - 1} (the last is {count - 1} or -1)"
        )
    states = outputs.hidden_states[layer]
    return states
