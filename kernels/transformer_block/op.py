"""transformer_block and readout_block: checks, and one backward where all parts have kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.checks import check_dropout
from odmt_fast.kernels.linear.op import check_master, check_rows, linear_backend
from odmt_fast.kernels.packed_attention import op as packed_attention
from odmt_fast.kernels.packed_attention.segments import check_segments
from odmt_fast.kernels.readout_attention import op as readout_attention
from odmt_fast.kernels.residual_norm import op as residual_norm
from odmt_fast.kernels.transformer_block.problem import Seeds, Shape, Weights
from odmt_fast.kernels.transformer_block.reference import (
    readout_block_reference,
    transformer_block_reference,
)


def transformer_block(
    x: Tensor, cu_seqlens: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """LN(h + FFN(h)) with h = LN(x + O attention(x)), every step on packed rows.

    Args:
        x: [R, d]; with G groups its rows form G equal consecutive groups.
        cu_seqlens: int32 [n + 1], see `packed_attention`.
        weights: masters; their gradients keep their own dtype.
        seeds: of the three dropout sites.
        shape: all else.

    Returns:
        [R, d] in x's dtype.

    Raises:
        ValueError: shapes, dtypes, devices or values that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, class TransformerBlock.
    """
    _check("transformer_block", x, cu_seqlens, weights, seeds, shape, packed_attention.MASKS)
    if _differentiated(x, weights) and not shape.float8:
        attention = packed_attention.backend_of(
            x, x.shape[1] // shape.heads, shape.max_seqlen, shape.dropout[0]
        )
        if attention == "triton" and _rest_has_kernels(x, weights):
            from odmt_fast.kernels.transformer_block.gpu import written_block

            return written_block(x, cu_seqlens, weights, seeds, shape)
    return transformer_block_reference(x, cu_seqlens, weights, seeds, shape)


def readout_block(
    x: Tensor, cu_seqlens: Tensor, readouts: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """`transformer_block` for a few rows of every segment only (identity 3 of docs/design.md).

    Keys and values are never formed: ``q . (W_K h) = (W_K^T q) . h`` and
    ``sum_j p_j W_V h_j = W_V sum_j p_j h_j``.

    Args:
        x: [L, d] hidden states of all tokens.
        cu_seqlens: int32 [U + 1], see `readout_attention`.
        readouts: int64 [U, R], rows of x to compute, none twice; the last one of a segment is the
            one that reads all where the mask is "asymmetric".
        weights: masters without groups.
        seeds: of the three dropout sites.
        shape: all else.

    Returns:
        [U R, d] in x's dtype. Errors as above.
    """
    _check("readout_block", x, cu_seqlens, weights, seeds, shape, readout_attention.MASKS)
    if len(readouts) + 1 != len(cu_seqlens) or weights.qkv.dim() != 2:
        raise ValueError(
            f"readout_block: readouts must be [U, R] for U={len(cu_seqlens) - 1} segments and qkv "
            f"[3 d, d], got {list(readouts.shape)} and {list(weights.qkv.shape)}"
        )
    if _differentiated(x, weights) and not shape.float8:
        attention = readout_attention.backend_of(
            x, readouts.shape[1], shape.heads, shape.max_seqlen
        )
        if attention == "triton" and _rest_has_kernels(x, weights):
            from odmt_fast.kernels.transformer_block.readout import written_readout

            return written_readout(x, cu_seqlens, readouts, weights, seeds, shape)
    return readout_block_reference(x, cu_seqlens, readouts, weights, seeds, shape)


def _check(
    op: str,
    x: Tensor,
    cu_seqlens: Tensor,
    weights: Weights,
    seeds: Seeds,
    shape: Shape,
    masks: tuple[str, ...],
) -> None:
    check_rows(op, x, weights.qkv, "qkv")
    width, groups = x.shape[1], weights.qkv.shape[:-2]
    hidden = weights.up.shape[-2]
    sizes = {
        "qkv": (3 * width, width),
        "out": (width, width),
        "up": (hidden, width),
        "up_bias": (hidden,),
        "down": (width, hidden),
    }
    for name, weight in zip(weights._fields, weights, strict=True):
        check_master(op, name, weight, (*groups, *sizes.get(name, (width,))), x)
    if shape.heads < 1 or width % shape.heads:
        raise ValueError(f"{op}: heads must divide the width {width}, got {shape.heads}")
    if shape.groups != (len(weights.qkv) if groups else 1):
        raise ValueError(f"{op}: groups={shape.groups}, but qkv is {list(weights.qkv.shape)}")
    if shape.mask not in masks:
        raise ValueError(f"{op}: mask must be one of {', '.join(masks)}, got {shape.mask!r}")
    for p, seed in zip(shape.dropout, seeds, strict=True):
        check_dropout(op, p, seed, x.device)
    check_segments(op, cu_seqlens, shape.max_seqlen, x.shape[0], x)


def _differentiated(x: Tensor, weights: Weights) -> bool:
    """Whether a backward in eager mode may come; a compiled graph fuses the parts itself."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(weight.requires_grad for weight in weights)


def _rest_has_kernels(x: Tensor, weights: Weights) -> bool:
    return (
        residual_norm.backend_of(x) == "triton"
        and linear_backend("feed_forward", x, weights.up, triton=True) == "triton"
    )
