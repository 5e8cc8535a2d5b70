"""Extraction: order, missing items, resuming after a kill, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from odmt_fast.features.encoder import Encoder, EncoderIdentity, EncoderOptions
from odmt_fast.features.extract import extract
from odmt_fast.features.hashed_words import HashedWords
from odmt_fast.features.store import StoreError, TokenStore
from odmt_fast.storage import atomic

ONE_ITEM_A_SHARD = 1


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name[0] != "."}


class Backwards(Encoder[str]):
    """One token a letter, handed out in reverse order; dies after `allowed` texts."""

    def __init__(self, allowed: int = 1000, value: float | None = None) -> None:
        self.dim, self.max_length = 2, 100
        self.identity = EncoderIdentity("backwards", None, "0", {})
        self.allowed, self.value = allowed, value
        self.encoded: list[str] = []

    def encode(self, inputs: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        for position in reversed(range(len(inputs))):
            if len(self.encoded) == self.allowed:
                raise KeyboardInterrupt
            self.encoded.append(inputs[position])
            letters = torch.tensor([float(ord(letter)) for letter in inputs[position]])
            if self.value is not None:
                letters[0] = self.value
            yield position, torch.stack([letters, letters], dim=1)


def test_items_keep_their_order_and_missing_ones_own_a_zero_token(
    tmp_path: Path, catalogue: Any
) -> None:
    store = extract(catalogue, "text", Backwards(), tmp_path, dtype="float32")
    assert store.item_ids == catalogue.ids
    assert store.missing == (2, 6)
    for item in range(1, 8):
        packed = store.gather(torch.tensor([item]))
        text = catalogue.texts[item - 1]
        wanted = [0.0] if item in store.missing else [float(ord(letter)) for letter in text]
        assert packed.values[:, 0].tolist() == wanted
        assert packed.lengths.tolist() == [len(wanted)]


@pytest.mark.parametrize("allowed", range(6))
def test_interrupted_extraction_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, catalogue: Any, allowed: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    size = 2 * 100 * 2 * 2  # two items a shard
    extract(catalogue, "text", Backwards(), whole, shard_bytes=size)
    with pytest.raises(KeyboardInterrupt):
        extract(
            catalogue, "text", Backwards(allowed if allowed < 5 else 4), broken, shard_bytes=size
        )
    with pytest.raises(StoreError, match="unfinished .* run the same extraction again"):
        TokenStore.open(broken)
    second = Backwards()
    extract(catalogue, "text", second, broken, shard_bytes=size)
    assert contents(broken) == contents(whole)
    assert not list(broken.glob(".part-*"))
    texts = [text for text in catalogue.texts if text and text.strip()]
    assert len(second.encoded) == len(texts) - min(allowed, 4)


# plan.json, the encoder's state, four shards, index.json.
@pytest.mark.parametrize("renames", range(7))
def test_killed_between_any_two_renames_it_ends_with_the_same_bytes(
    tmp_path: Path, catalogue: Any, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments: dict[str, Any] = {"options": EncoderOptions(width=16), "shard_bytes": 1664}
    extract(catalogue, "image", "pca-patches", whole, **arguments)
    left = [renames]

    def replace_until_killed(source: Path, target: Path) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", replace_until_killed)
        with pytest.raises(KeyboardInterrupt):
            extract(catalogue, "image", "pca-patches", broken, **arguments)
    extract(catalogue, "image", "pca-patches", broken, **arguments)
    assert contents(broken) == contents(whole)


def test_a_process_killed_outright_is_continued(tmp_path: Path, catalogue: Any) -> None:
    code = """
import os, signal, sys
from types import SimpleNamespace
from odmt_fast.features.extract import extract
texts = tuple(sys.argv[2].split("|"))
items = SimpleNamespace(ids=tuple(str(i) for i in range(len(texts))), texts=texts, images=())
def stop(done, total):
    if sys.argv[3] == "kill" and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
extract(items, "text", "hashed-words", sys.argv[1], shard_bytes=1, progress=stop)
"""
    texts = "|".join(text for text in catalogue.texts * 2 if text and text.strip())

    def run(path: Path, mode: str) -> int:
        command = [sys.executable, "-c", code, str(path), texts, mode]
        return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}).returncode

    present = tuple(texts.split("|"))
    items = replace(
        catalogue,
        ids=tuple(str(row) for row in range(len(present))),
        texts=present,
        images=(None,) * len(present),
    )
    extract(items, "text", "hashed-words", tmp_path / "whole", shard_bytes=1)
    assert run(tmp_path / "broken", "kill") == -signal.SIGKILL
    assert not (tmp_path / "broken" / "index.json").exists()
    assert run(tmp_path / "broken", "go") == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_finished_store_is_only_opened(tmp_path: Path, catalogue: Any) -> None:
    extract(catalogue, "text", Backwards(), tmp_path)
    before = contents(tmp_path)
    again = Backwards()
    extract(catalogue, "text", again, tmp_path)
    assert again.encoded == []
    assert contents(tmp_path) == before


def test_another_extraction_is_refused_unless_overwritten(tmp_path: Path, catalogue: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    extract(catalogue, "text", "hashed-words", tmp_path)
    longer = EncoderOptions(max_tokens=9)
    with pytest.raises(StoreError, match="encoder setting max_tokens is 30, not 9"):
        extract(catalogue, "text", "hashed-words", tmp_path, options=longer)
    edited = replace(catalogue, texts=("other", *catalogue.texts[1:]))
    with pytest.raises(StoreError, match="the text of 1 items changed since, first that of 'i0'"):
        extract(edited, "text", "hashed-words", tmp_path)
    store = extract(catalogue, "text", "hashed-words", tmp_path, options=longer, overwrite=True)
    assert store.max_length == 9
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwriting_deletes_nothing_before_it_is_done(tmp_path: Path, catalogue: Any) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    small = {"shard_bytes": ONE_ITEM_A_SHARD}
    with pytest.raises(KeyboardInterrupt):
        extract(catalogue, "text", Backwards(3), out, **small)
    begun = contents(out)
    for stop, options in ((2, {}), (3, {"dtype": "float32"})):  # interrupted twice, differently
        with pytest.raises(KeyboardInterrupt):
            extract(catalogue, "text", Backwards(stop), out, overwrite=True, **small, **options)
        assert begun.items() <= contents(out).items()
    store = extract(catalogue, "text", "hashed-words", out, overwrite=True)
    assert store.n_items == 7
    extract(catalogue, "text", "hashed-words", fresh)
    assert contents(out) == contents(fresh)


def test_a_damaged_shard_of_an_unfinished_store_is_written_again(
    tmp_path: Path, catalogue: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(catalogue, "text", Backwards(3), tmp_path, shard_bytes=ONE_ITEM_A_SHARD)
    damaged = tmp_path / "shard-00000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    store = extract(catalogue, "text", Backwards(), tmp_path, shard_bytes=ONE_ITEM_A_SHARD)
    assert store.gather(torch.tensor([1])).values[0, 0] == ord("R")


def test_progress_counts_every_item_once_and_what_was_done_before(
    tmp_path: Path, catalogue: Any
) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        extract(catalogue, "text", Backwards(3), tmp_path, shard_bytes=ONE_ITEM_A_SHARD)
    extract(
        catalogue,
        "text",
        Backwards(),
        tmp_path,
        shard_bytes=ONE_ITEM_A_SHARD,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0][0] > 3
    assert seen == sorted(seen)
    assert seen[-1] == (7, 7)


def test_a_nan_names_the_item(tmp_path: Path, catalogue: Any) -> None:
    with pytest.raises(ValueError, match="item 'i0' has a NaN or infinite text feature"):
        extract(catalogue, "text", Backwards(value=float("nan")), tmp_path)


def test_an_unreadable_image_names_the_item(tmp_path: Path, catalogue: Any) -> None:
    class Broken:
        def load(self) -> Any:
            raise OSError("cut short")

        def digest(self) -> str:
            return "0"

    images = (*catalogue.images[:2], Broken(), *catalogue.images[3:])
    with pytest.raises(ValueError, match="image of item 'i2' cannot be read: cut short"):
        extract(replace(catalogue, images=images), "image", "pca-patches", tmp_path)


def test_a_catalogue_without_the_modality_is_all_zero_tokens(
    tmp_path: Path, catalogue: Any
) -> None:
    empty = replace(catalogue, texts=(None,) * 7, images=(None,) * 7)
    for modality, encoder in (("text", "hashed-words"), ("image", "pca-patches")):
        store = extract(empty, modality, encoder, tmp_path / modality)  # type: ignore[arg-type]
        assert len(store.missing) == 7
        assert store.table().values.shape[0] == 7
        assert not store.table().values.any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_storage_dtype(tmp_path: Path, catalogue: Any, dtype: str) -> None:
    store = extract(catalogue, "text", "hashed-words", tmp_path, dtype=dtype)
    assert store.dtype == getattr(torch, dtype)
    [(_, exact)] = HashedWords(EncoderOptions()).encode([catalogue.texts[0]])
    assert torch.equal(store.gather(torch.tensor([1])).values, exact.to(store.dtype))


def test_an_empty_catalogue_is_refused(tmp_path: Path, catalogue: Any) -> None:
    empty = replace(catalogue, ids=(), texts=(), images=())
    with pytest.raises(ValueError, match="items is empty"):
        extract(empty, "text", "hashed-words", tmp_path)


def test_a_wrong_encoder_name_costs_no_store(tmp_path: Path, catalogue: Any) -> None:
    extract(catalogue, "text", "hashed-words", tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        extract(catalogue, "text", "./nowhere", tmp_path, overwrite=True)
    TokenStore.open(tmp_path)


def test_unknown_dtype_is_refused(tmp_path: Path, catalogue: Any) -> None:
    with pytest.raises(ValueError, match="dtype='int8' is not stored; use float32, float16"):
        extract(catalogue, "text", "hashed-words", tmp_path, dtype="int8")
