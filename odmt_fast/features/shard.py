"""One safetensors file of a token store: written at once, mapped into memory, checked.

Its ``lengths`` are the one place that says which tokens are whose; `TokenStore.offsets` sums them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from odmt_fast.features.index import DTYPES, EXTRACT_AGAIN, Plan, StoreError
from odmt_fast.storage import write_atomically


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_shard(path: Path, values: Tensor, lengths: Tensor, plan: Plan, number: int) -> None:
    """Writes tokens [P, dim] and lengths int32 [n] of a shard's items."""
    tag = json.dumps({"plan": plan.digest, "shard": number})
    tensors = {"values": values, "lengths": lengths}
    # One metadata entry: safetensors writes several in an order that changes between runs.
    write_atomically(path, lambda file: save_file(tensors, file, metadata={"odmt_fast": tag}))


def map_shard(path: Path, plan: Plan, number: int) -> tuple[Tensor, Tensor]:
    """Maps a shard into memory after checking its header, without reading the tokens.

    Returns:
        (values [P, dim], a view of the mapped file; lengths int32 [n]).

    Raises:
        StoreError: missing, truncated, other dtype or width, or part of another store.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing; {EXTRACT_AGAIN}")
    try:
        with safe_open(path, framework="pt") as file:
            tag = json.loads((file.metadata() or {}).get("odmt_fast", "{}"))
            values, lengths = file.get_tensor("values"), file.get_tensor("lengths")
    except Exception as error:  # safetensors raises its own and plain OSErrors
        raise StoreError(f"{path} is damaged or cut short ({error}); {EXTRACT_AGAIN}") from None
    if values.dtype != DTYPES[plan.dtype]:
        found = str(values.dtype).removeprefix("torch.")
        raise StoreError(f"{path} holds {found}, the index says {plan.dtype}")
    if values.dim() != 2 or values.shape[1] != plan.dim:
        shape = list(values.shape)
        raise StoreError(f"{path} holds tokens of shape {shape}, the index says width {plan.dim}")
    if tag != {"plan": plan.digest, "shard": number}:
        raise StoreError(
            f"{path} belongs to another store (other items, encoder or settings than the index)"
        )
    rows = plan.shards[number]
    if lengths.shape != (len(rows),) or int(lengths.sum()) != values.shape[0]:
        raise StoreError(
            f"{path} is damaged: lengths of {lengths.shape[0]} items, {int(lengths.sum())} tokens; "
            f"it should have {len(rows)} items, {values.shape[0]} tokens"
        )
    if int(lengths.min()) < 1:
        row = rows.start + int((lengths < 1).nonzero()[0])
        raise StoreError(f"{path} is damaged: item {plan.items[row]!r} has no token")
    return values, lengths


def pack(tokens: Sequence[Tensor], plan: Plan, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Joins the tokens of the items `rows` in the store's dtype.

    Raises:
        ValueError: an item has no token, another width, or a NaN or infinite feature.
    """
    dtype = DTYPES[plan.dtype]
    for row, states in zip(rows, tokens, strict=True):
        if states.dim() != 2 or states.shape[0] < 1 or states.shape[1] != plan.dim:
            raise ValueError(
                f"item {plan.items[row]!r} has {plan.modality} tokens of shape "
                f"{tuple(states.shape)}, they must be [L >= 1, {plan.dim}]"
            )
    lengths = torch.tensor([states.shape[0] for states in tokens], dtype=torch.int32)
    values = torch.cat([states.to(dtype) for states in tokens])
    if not bool(values.isfinite().all()):
        for row, states in zip(rows, tokens, strict=True):
            _check_finite(states, plan, row)
    return values, lengths


def _check_finite(states: Tensor, plan: Plan, row: int) -> None:
    if not bool(states.isfinite().all()):
        raise ValueError(
            f"item {plan.items[row]!r} has a NaN or infinite {plan.modality} feature; "
            "check its input and the encoder's weights"
        )
    if not bool(states.to(DTYPES[plan.dtype]).isfinite().all()):
        raise ValueError(
            f"item {plan.items[row]!r} has a {plan.modality} feature of "
            f"{float(states.abs().max()):.3g}, too large for {plan.dtype}; "
            "store bfloat16 or float32"
        )
