"""What a token store says about itself: the plan fixed before extraction, the index after it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

FORMAT = "odmt_fast.tokens"
VERSION = 3
READABLE = (2, VERSION)
"""Versions that are read; 2 repeated in the index what the shards say of their tokens."""
PLAN_FILE = "plan.json"
INDEX_FILE = "index.json"
STATE_FILE = "encoder.safetensors"

EXTRACT_AGAIN = "extract the features again: odmt-fast extract ... --overwrite"

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class StoreError(ValueError):
    """A token store that cannot be used; the message names what is wrong in one line."""


class OtherStoreError(StoreError):
    """A folder holds a store of something else.

    Attributes:
        what: which, and what differs.
    """

    def __init__(self, path: Path, difference: str) -> None:
        self.what = f"{path} holds another store: {difference}"
        super().__init__(
            f"{self.what}; pass --overwrite to replace it, or --out for another folder"
        )


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a store, known before the first item is encoded.

    Attributes:
        modality: "text" or "image".
        encoder: `EncoderIdentity.to_json()`.
        dtype: a key of `DTYPES`.
        dim: width of a token.
        shard_items: items of a shard (the last one has fewer).
        items: item ids; row i is dense item i + 1.
        missing: dense ids without this modality, ascending; each owns one zero token.
        inputs: digest of each item's text or picture as it is stored; None where it is missing.
    """

    modality: str
    encoder: dict[str, Any]
    dtype: str
    dim: int
    shard_items: int
    items: tuple[str, ...]
    missing: tuple[int, ...]
    inputs: tuple[str | None, ...]

    @property
    def shards(self) -> tuple[range, ...]:
        """Rows (dense id - 1) of each shard."""
        n, step = len(self.items), self.shard_items
        return tuple(range(first, min(first + step, n)) for first in range(0, n, step))

    @cached_property
    def digest(self) -> str:
        """sha256 that every shard carries; the encoder's name is left out (folders move)."""
        values = asdict(self)
        values["encoder"] = {k: v for k, v in self.encoder.items() if k != "name"}
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()

    def difference(self, other: Plan) -> str | None:
        """The first thing in which `other` would give other bytes, in words; None if nothing."""
        if (items := first_difference(self.items, other.items)) is not None:
            return items
        changed = [
            row
            for row, pair in enumerate(zip(self.inputs, other.inputs, strict=False))
            if pair[0] != pair[1]
        ]
        if changed:
            return (
                f"the {self.modality} of {len(changed)} items changed since, first that of "
                f"{self.items[changed[0]]!r}"
            )
        mine, theirs = _flat(self), _flat(other)
        # What follows from the others comes last: it would tell nobody what to change.
        for key in sorted({**mine, **theirs}, key="shard_items".__eq__):
            if mine.get(key) != theirs.get(key):
                return f"{key} is {mine.get(key)!r}, not {theirs.get(key)!r}"
        return None


@dataclass(frozen=True)
class Shard:
    """A file of the store.

    Attributes:
        file: name in the store's folder.
        bytes: size of the file.
        digest: XXH3 (128 bits) of the whole file (``xxh128sum`` prints the same).
    """

    file: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Index:
    """A finished store: the plan and the files, which say themselves where each item lies.

    Attributes:
        plan: what was extracted.
        shards: the files in item order.
    """

    plan: Plan
    shards: tuple[Shard, ...]

    def to_json(self) -> str:
        """The text of index.json."""
        body = {"shards": [asdict(shard) for shard in self.shards]}
        return canonical_json({**_header(), **asdict(self.plan), **body})

    @classmethod
    def from_json(cls, text: str, where: str) -> Index:
        """Reads `to_json`.

        Raises:
            StoreError: not JSON, another format, or parts that contradict each other.
        """
        values = _parse(text, where)
        values.pop("offsets", None)  # of version 2, like the tokens below
        try:
            listed = [dict(shard) for shard in values.pop("shards")]
            shards = tuple(
                Shard(**{key: shard[key] for key in shard if key != "tokens"}) for shard in listed
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{where} is damaged: shards ({error})") from None
        plan = _plan(values, where)
        if len(shards) != len(plan.shards):
            raise StoreError(
                f"{where} is damaged: {len(plan.items)} items in shards of {plan.shard_items} make "
                f"{len(plan.shards)} shards, it lists {len(shards)}"
            )
        return cls(plan, shards)


def read_text(file: Path) -> str:
    """The text of an index or a plan.

    Raises:
        StoreError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(
            f"{file} is damaged: not UTF-8 at byte {error.start}; {EXTRACT_AGAIN}"
        ) from None


def plan_to_json(plan: Plan) -> str:
    """The text of plan.json."""
    return canonical_json({**_header(), **asdict(plan)})


def plan_from_json(text: str, where: str) -> Plan:
    """Reads `plan_to_json`.

    Raises:
        StoreError: not JSON, or another format.
    """
    return _plan(_parse(text, where), where)


def first_difference(stored: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """Says where two lists of item ids first differ; None when they are equal."""
    for row, (have, want) in enumerate(zip(stored, wanted, strict=False)):
        if have != want:
            return f"item {row + 1} is {have!r} in the store, {want!r} in the catalogue"
    if len(stored) != len(wanted):
        return f"the store has {len(stored)} items, the catalogue {len(wanted)}"
    return None


def canonical_json(values: Any) -> str:
    """One text for equal values, on every platform."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _header() -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION}


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is not JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise StoreError(f"{where} does not describe a token store (format {FORMAT})")
    if values.get("version") not in READABLE:
        raise StoreError(
            f"{where} has version {values.get('version')!r}, this release reads "
            f"{' and '.join(map(str, READABLE))}; {EXTRACT_AGAIN}"
        )
    return {key: value for key, value in values.items() if key not in _header()}


def _plan(values: dict[str, Any], where: str) -> Plan:
    try:
        values["items"] = tuple(values["items"])
        values["missing"] = tuple(values["missing"])
        values["inputs"] = tuple(values["inputs"])
        plan = Plan(**values)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{where} is damaged: {error}") from None
    if len(plan.inputs) != len(plan.items):
        raise StoreError(f"{where} is damaged: {len(plan.items)} items, {len(plan.inputs)} inputs")
    if plan.dtype not in DTYPES:
        raise StoreError(f"{where} has dtype {plan.dtype!r}, known are {', '.join(DTYPES)}")
    if plan.shard_items < 1:
        raise StoreError(f"{where} has shard_items {plan.shard_items}, it must be at least 1")
    return plan


def _flat(plan: Plan) -> dict[str, Any]:
    values = {k: v for k, v in asdict(plan).items() if k not in ("items", "encoder", "inputs")}
    encoder = {k: v for k, v in plan.encoder.items() if k not in ("name", "settings")}
    settings = plan.encoder.get("settings", {})
    return {
        **{f"encoder setting {k}": v for k, v in settings.items()},
        **{f"encoder {k}": v for k, v in encoder.items()},
        **values,
    }
