"""Text tokens without weights: words and their character n-grams, hashed to fixed random vectors.

A word's token is the sum of a vector for the word and one for each of its n-grams (fastText's idea:
words that share a stem share a direction), so it needs no vocabulary and meets no unknown word.
Vectors are integers drawn from a hash and a counter, summed exactly and divided once: the same bits
on every platform, in every process.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderIdentity, EncoderOptions

_ALGORITHM = "hashed-words 1"
_WIDTH = 256
_NGRAMS = (3, 4, 5)
# Ideographs and kana stand alone, as in BERT's tokenizer: they are written without spaces.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")


class HashedWords(Encoder[str]):
    """ "hashed-words": one token a word, a summary token (their mean) first; unit mean square.

    Args:
        options: `max_tokens` (summary included), `lower_case`, `width` (default 256).
    """

    def __init__(self, options: EncoderOptions = DEFAULTS) -> None:
        self.dim = options.width or _WIDTH
        self.max_length = options.max_tokens
        self._lower_case = options.lower_case
        self._token = lru_cache(maxsize=1 << 16)(self._word_token)
        self.identity = EncoderIdentity(
            name="hashed-words",
            layer=None,
            weights=sha256(_ALGORITHM.encode()).hexdigest(),
            settings={"max_tokens": options.max_tokens, "lower_case": options.lower_case},
        )

    def encode(self, inputs: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [1 + words, dim])."""
        for position, text in enumerate(inputs):
            words = self._words(text)[: max(1, self.max_length - 1)]
            tokens = np.stack([self._token(word) for word in words])
            # Not of the scaled tokens: long words, which say more, then weigh more.
            summary = _unit(tokens.astype(np.int64).sum(0))
            states = np.concatenate([summary[None], np.stack([_unit(token) for token in tokens])])
            yield position, torch.from_numpy(states[: self.max_length])

    def _words(self, text: str) -> list[str]:
        text = unicodedata.normalize("NFKC", text)
        return _WORD.findall(text.lower() if self._lower_case else text) or [text]

    def _word_token(self, word: str) -> NDArray[Any]:
        """int32 [dim], the unscaled token of a word."""
        framed = f"<{word}>"
        grams = [framed[start : start + n] for n in _NGRAMS for start in range(len(framed) - n + 1)]
        # The word weighs as much as its n-grams together (independent vectors add in squares).
        token = _vector(f"w {word}", self.dim) * max(1, isqrt(len(grams)))
        for gram in grams:
            token += _vector(f"g {gram}", self.dim)
        return token


def _vector(piece: str, width: int) -> NDArray[Any]:
    """int32 [width], odd numbers in -255..255: splitmix64 of (the piece's hash, a counter)."""
    key = int.from_bytes(blake2b(piece.encode(), digest_size=8).digest(), "little")
    counter = np.arange(1, -(-width // 8) + 1, dtype=np.uint64)
    z = np.uint64(key) + counter * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z.astype("<u8").view(np.int8)[:width].astype(np.int32) * 2 + 1


def _unit(token: NDArray[Any]) -> NDArray[Any]:
    """float32, mean square 1; exact sums and correctly rounded steps, hence reproducible."""
    exact = token.astype(np.int64)
    mean_square = float((exact * exact).sum()) / exact.shape[0]
    unit: NDArray[Any] = (exact / np.sqrt(max(mean_square, 1.0))).astype(np.float32)
    return unit
