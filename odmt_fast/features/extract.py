"""Items in, token store out: what ``odmt-fast extract`` runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from odmt_fast.features.encoder import DEFAULTS, Encoder, EncoderOptions, Picture
from odmt_fast.features.index import DTYPES, INDEX_FILE, STATE_FILE, OtherStoreError, Plan
from odmt_fast.features.parts import ShardParts
from odmt_fast.features.registry import load_encoder
from odmt_fast.features.store import TokenStore
from odmt_fast.features.writer import StoreWriter, remove_store, replace_store, store_files
from odmt_fast.processes import Processes
from odmt_fast.storage import Digest, FolderLock

if TYPE_CHECKING:
    from odmt_fast.data import ItemTable

_BESIDE = ".new"
_DIGEST_THREADS = 4
Progress = Callable[[int, int], None]
"""Called with (items done, items in all), also for items done by an earlier run."""


def extract(
    items: ItemTable,
    modality: str,
    encoder: str | Encoder[Any],
    out: str | Path,
    *,
    inputs: Sequence[Any] | None = None,
    options: EncoderOptions = DEFAULTS,
    dtype: str = "float16",
    shard_bytes: int = 256 << 20,
    checkpoint_minutes: float = 0.5,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TokenStore:
    """Encodes the texts or images of a catalogue into a token store.

    Interrupted at any moment and called again with the same arguments, it goes on where it last
    saved and ends with the same bytes; called on a finished store it only opens it. Where
    torch.distributed was initialised all its processes call this: the first one plans and ends the
    store, the shards are shared out, and the bytes are those of one process.

    Args:
        items: the catalogue; row i becomes dense item i + 1. A missing (None or blank) text, or a
            missing image, becomes one zero token.
        modality: "text" or "image"; any name where `inputs` are given.
        encoder: "hashed-words", "pca-patches", a folder or a hub name (`load_encoder`), or an
            encoder already loaded, whose own options then count.
        out: folder of the store.
        inputs: what is encoded of each item in the place of its text or image, None where it is
            missing; strings, or objects with a `digest`.
        options: layer, lengths, preprocessing, device.
        dtype: how tokens are stored: "float16", "bfloat16" or "float32".
        shard_bytes: about how large a shard gets.
        checkpoint_minutes: how often an unfinished shard is saved: a killed process costs at most
            this much work and that of one batch, Ctrl-C and SIGTERM only the batch.
        overwrite: make the store anew, beside `out`, and put it in the place of the one there
            when it is finished.
        progress: told after each item, by the first process of its own ones.

    Raises:
        ValueError: no items, unknown dtype or encoder, or an item (it is named) whose image cannot
            be read or whose features are NaN or infinite.
        OtherStoreError: `out` holds a store of something else and `overwrite` is not set.
    """
    if not checkpoint_minutes >= 0:
        raise ValueError(f"--checkpoint-minutes {checkpoint_minutes:g} must be at least 0")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not stored; use {', '.join(DTYPES)}")
    if not items.ids:
        raise ValueError("items is empty; there is nothing to extract")
    out = Path(out)
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, modality, options)
    if inputs is None:
        inputs = inputs_of(items, modality)
    processes = Processes.current()
    if not processes.first:
        _help(encoder, inputs, checkpoint_minutes, processes)
        return TokenStore.open(out)
    with FolderLock(out, "odmt-fast extract"):
        beside = out / _BESIDE
        if (beside / INDEX_FILE).is_file():  # finished, and interrupted while it moved
            replace_store(beside, out)
        made = beside if overwrite and store_files(out) else out
        plan = _planned(made, items, modality, encoder, inputs, dtype, shard_bytes)
        try:
            writer = StoreWriter.begin(made, plan)
        except OtherStoreError:
            if made == out:
                raise
            remove_store(beside)  # what an interrupted --overwrite with other arguments left
            writer = StoreWriter.begin(made, plan)
        pending: list[int] = []
        if not writer.finished:
            encoder.save(made / STATE_FILE)
            pending = writer.pending()
        processes.from_first((made, pending))
        _write_own(writer, pending, encoder, inputs, checkpoint_minutes, processes, progress)
        processes.wait()
        writer.finish()
        if made != out:
            replace_store(beside, out)
        processes.wait()
    return TokenStore.open(out)


def _help(
    encoder: Encoder[Any], inputs: Sequence[Any], checkpoint_minutes: float, processes: Processes
) -> None:
    """Encodes this process's share of what the first one planned."""
    made, pending = processes.from_first((Path(), list[int]()))
    if pending:
        encoder.fit([value for value in inputs if value is not None], made / STATE_FILE)
        writer = StoreWriter.begun(made)
        _write_own(writer, pending, encoder, inputs, checkpoint_minutes, processes, None)
    processes.wait()  # all shards are there
    processes.wait()  # the store is


def _planned(
    out: Path,
    items: ItemTable,
    modality: str,
    encoder: Encoder[Any],
    inputs: Sequence[Any],
    dtype: str,
    shard_bytes: int,
) -> Plan:
    """What the store at `out` is to hold; fits the encoder, or reads what it learnt before."""
    encoder.fit([value for value in inputs if value is not None], out / STATE_FILE)
    return Plan(
        modality=modality,
        encoder=encoder.identity.to_json(),
        dtype=dtype,
        dim=encoder.dim,
        shard_items=_shard_items(encoder, dtype, shard_bytes),
        items=tuple(items.ids),
        missing=tuple(row + 1 for row, value in enumerate(inputs) if value is None),
        inputs=_digests(inputs),
    )


@dataclass(frozen=True)
class _NamedPicture:
    """A picture that says whose it is when it cannot be read."""

    item: str
    source: Picture

    def load(self) -> Any:
        try:
            return self.source.load()
        except Exception as error:
            raise ValueError(f"image of item {self.item!r} cannot be read: {error}") from error

    def digest(self) -> str:
        try:
            return self.source.digest()
        except Exception as error:
            raise ValueError(f"image of item {self.item!r} cannot be read: {error}") from error


def inputs_of(items: ItemTable, modality: str) -> list[Any]:
    """What is encoded of each item, None where the modality is missing."""
    if modality == "text":
        return [text if text and text.strip() else None for text in items.texts]
    return [
        None if image is None else _NamedPicture(item, image)
        for item, image in zip(items.ids, items.images, strict=True)
    ]


def _write_own(
    writer: StoreWriter,
    pending: Sequence[int],
    encoder: Encoder[Any],
    inputs: Sequence[Any],
    checkpoint_minutes: float,
    processes: Processes,
    progress: Progress | None,
) -> None:
    """Writes every so manieth of the `pending` shards."""
    own = pending[processes.rank :: processes.count]
    others = sum(len(writer.plan.shards[number]) for number in set(pending) - set(own))
    in_all = len(inputs) - others
    done = in_all - sum(len(writer.plan.shards[number]) for number in own)

    def tell(items: int) -> None:
        if progress is not None:
            progress(done + items, in_all)

    for number in own:
        _write_shard(writer, number, encoder, inputs, 60 * checkpoint_minutes, tell)
        done += len(writer.plan.shards[number])
        tell(0)


def _write_shard(
    writer: StoreWriter,
    number: int,
    encoder: Encoder[Any],
    inputs: Sequence[Any],
    seconds: float,
    tell: Callable[[int], None],
) -> None:
    rows = writer.plan.shards[number]
    zero = torch.zeros(1, encoder.dim)
    missing = {row: zero for row in rows if inputs[row] is None}
    parts = writer.parts(number)
    rest = _encoded(encoder, inputs, parts, seconds, lambda count: tell(len(missing) + count))
    tokens = {**missing, **parts.tokens, **rest}
    writer.write(number, [tokens[row] for row in rows])


def _encoded(
    encoder: Encoder[Any],
    inputs: Sequence[Any],
    parts: ShardParts,
    seconds: float,
    tell: Callable[[int], None],
) -> dict[int, Tensor]:
    """Encodes what `parts` lacks of a shard, saving what is there every `seconds`.

    Returns:
        Row -> tokens of those that went into no part.
    """
    rows = parts.plan.shards[parts.number]
    left = [row for row in rows if inputs[row] is not None and row not in parts.tokens]
    fresh: dict[int, Tensor] = {}

    def save() -> None:
        # Whole groups only, so that the rest is grouped as if nothing had happened.
        whole = len(fresh) // encoder.group * encoder.group
        if kept := dict(islice(fresh.items(), whole)):
            parts.add(kept)
            for row in kept:
                del fresh[row]

    due = time.monotonic() + seconds
    try:
        for position, states in encoder.encode([inputs[row] for row in left]):
            fresh[left[position]] = states
            tell(len(parts.tokens) + len(fresh))
            if len(fresh) % encoder.group == 0 and time.monotonic() >= due:
                save()
                due = time.monotonic() + seconds
    except (KeyboardInterrupt, SystemExit):
        save()
        raise
    return fresh


def _shard_items(encoder: Encoder[Any], dtype: str, shard_bytes: int) -> int:
    item_bytes = encoder.max_length * encoder.dim * DTYPES[dtype].itemsize
    return max(1, shard_bytes // item_bytes)


def _digests(inputs: Sequence[Any]) -> tuple[str | None, ...]:
    """Digest of each item's content, so that changed inputs are not taken for those encoded."""

    def digest(value: Any) -> str | None:
        if value is None:
            return None
        return Digest().add(value).hex if isinstance(value, str) else str(value.digest())

    with ThreadPoolExecutor(_DIGEST_THREADS) as pool:
        return tuple(pool.map(digest, inputs))
