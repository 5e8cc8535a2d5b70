"""item_tokens: checks and backend choice."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.backend import choose, runs_anywhere, triton_missing
from odmt_fast.kernels.item_tokens.reference import Packed, Tensors, item_tokens_reference
from odmt_fast.kernels.launch.backends import TRITON_DTYPES, dtype_missing
from odmt_fast.kernels.launch.checks import check_alike, check_dropout
from odmt_fast.kernels.linear.op import check_master, check_rows

OP = "item_tokens"
LARGEST_WIDTH = 8192  # a program of the Triton kernel holds whole rows in registers


def item_tokens(
    values: Tensors,
    lengths: Tensors,
    weights: Tensors,
    biases: Tensors,
    *,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Packed:
    """dropout of x W_m^T + b_m for the tokens of every modality m, packed item after item.

    Args:
        values: [P_m, a_m] tokens per modality, if there is any, item after item; then the IDs
            [U, a], one token an item. One dtype.
        lengths: int64 [U] per modality but the IDs: tokens of each item, at least 1, not looked
            at; they sum to P_m.
        weights: masters [d, a_m], the last one of the IDs.
        biases: masters [d].
        dropout: probability of dropping an element.
        seed: int64 [1] or [2], see `kernels.dropout`; element index row of the packed tokens * d +
            column.

    Returns:
        `Packed`, x in the dtype of the values.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/model.py, ``MergedAttentionFusion.forward``: the tokens of all modalities
    side by side, here without the padding.
    """
    _check(values, lengths, weights, biases, dropout, seed)
    given = values, lengths, weights, biases, dropout, seed
    # Items of an ID alone have nothing to bring side by side.
    if not lengths or _backend(values[-1], weights[0].shape[0]) == "reference":
        return item_tokens_reference(*given)
    from odmt_fast.kernels.item_tokens.gpu import item_tokens_gpu

    return item_tokens_gpu(*given)


def _backend(ids: Tensor, width: int) -> str:
    def triton(device_type: str) -> str | None:
        if torch.compiler.is_compiling():
            return "under torch.compile the compiler fuses the reference"
        if width > LARGEST_WIDTH:
            return f"the width is at most {LARGEST_WIDTH}, got {width}"
        return dtype_missing(ids.dtype, TRITON_DTYPES) or triton_missing(device_type)

    chosen = choose(OP, ids.device.type, {"triton": triton, "reference": runs_anywhere})
    return chosen if ids.numel() else "reference"


def _check(
    values: Tensors,
    lengths: Tensors,
    weights: Tensors,
    biases: Tensors,
    p: float,
    seed: Tensor | None,
) -> None:
    counts = len(values), len(lengths) + 1, len(weights), len(biases)
    if len(set(counts)) > 1 or not values:
        raise ValueError(
            f"{OP}: values, weights and biases must be those of the modalities and of the IDs, "
            f"lengths those of the modalities, got {len(values)}, {len(weights)}, "
            f"{len(biases)} and {len(lengths)}"
        )
    ids, width = values[-1], weights[0].shape[0]
    for m, (value, weight, bias) in enumerate(zip(values, weights, biases, strict=True)):
        check_rows(OP, value, weight, f"weights[{m}]")
        check_alike(OP, f"values[{m}]", value, "the IDs", ids)
        check_master(OP, f"weights[{m}]", weight, (width, value.shape[1]), value)
        check_master(OP, f"biases[{m}]", bias, (width,), value)
    for m, length in enumerate(lengths):
        if length.shape != ids.shape[:1] or length.dtype != torch.int64:
            raise ValueError(
                f"{OP}: lengths[{m}] must be torch.int64 [{len(ids)}], one of every ID, got "
                f"{length.dtype} {list(length.shape)}"
            )
        if length.device != ids.device:
            raise ValueError(f"{OP}: lengths[{m}] is on {length.device}, the IDs on {ids.device}")
    check_dropout(OP, p, seed, ids.device)
