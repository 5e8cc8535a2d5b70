"""Token states of any Hugging Face text encoder (BERT, RoBERTa, MiniLM, CLIP's text tower, ...)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderIdentity, EncoderOptions
from odmt_fast.features.huggingface import (
    load_model,
    load_part,
    pick_layer,
    precision,
)
from odmt_fast.features.weights import weights_digest


class HuggingFaceText(Encoder[str]):
    """The states of a text's real tokens, [CLS] (or whatever the tokenizer puts first) first.

    An encoder whose tokenizer puts nothing before the words (T5) gets the mean of the states there.

    Args:
        name: folder or hub name.
        options: layer, max_tokens, lower_case, batch_size, device, compute, offline.

    Raises:
        ValueError: it cannot be loaded, reads no text, or lacks the layer or the positions.
        ImportError: transformers is not installed.
    """

    def __init__(self, name: str, options: EncoderOptions = DEFAULTS) -> None:
        def load(where: str) -> Any:
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(where, local_files_only=options.offline)

        self._name, self._options = name, options
        self.group = options.batch_size
        self._model: Any = load_model(name, options, "text_model", "input_ids")
        self._tokenizer = load_part(name, "tokenizer", load)
        limit = self._tokenizer.model_max_length
        # Encoders without learned positions have no such entry; a bare tokenizer knows no limit.
        limit = min(limit, getattr(self._model.config, "max_position_embeddings", limit))
        if options.max_tokens > limit:
            raise ValueError(
                f"max_tokens={options.max_tokens} is more than the {limit} encoder={name!r} reads"
            )
        probe = self._token_ids(["a"])[0]
        self._prefixed = probe[0] in self._tokenizer.all_special_ids
        self.dim = self._states([probe])[0].shape[1]
        self.max_length = options.max_tokens + (not self._prefixed)
        self.identity = EncoderIdentity(
            name=name,
            layer=options.layer,
            weights=weights_digest(self._model, _vocabulary_digest(self._tokenizer)),
            settings={
                "max_tokens": options.max_tokens,
                "lower_case": options.lower_case,
                "compute": options.compute,
            },
        )

    def encode(self, inputs: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [L, dim]), the longest texts first so that batches pad little."""
        ids = self._token_ids(inputs)
        order = sorted(range(len(ids)), key=lambda row: (-len(ids[row]), row))
        step = self._options.batch_size
        for first in range(0, len(order), step):
            batch = order[first : first + step]
            yield from zip(batch, self._states([ids[row] for row in batch]), strict=True)

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        cased = [text.lower() for text in texts] if self._options.lower_case else list(texts)
        encoded = self._tokenizer(cased, truncation=True, max_length=self._options.max_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _states(self, ids: list[list[int]]) -> list[Tensor]:
        """float32 [L, dim] of each text, on the CPU."""
        lengths = [len(row) for row in ids]
        padded = torch.full((len(ids), max(lengths)), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        device = self._options.torch_device
        with torch.no_grad(), precision(self._options):
            outputs = self._model(
                input_ids=padded.to(device),
                attention_mask=mask.to(device),
                output_hidden_states=self._options.layer is not None,
            )
        states = pick_layer(outputs, self._options.layer, self._name).float().cpu()
        real = [states[row, :length] for row, length in enumerate(lengths)]
        if self._prefixed:
            return real
        return [torch.cat([tokens.mean(0, keepdim=True), tokens]) for tokens in real]


def _vocabulary_digest(tokenizer: Any) -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(repr((type(tokenizer).__name__, vocabulary)).encode()).hexdigest()
