"""The user encoder as one graph of torch's own operators, for runtimes that have no odmt_fast.

The engine reads packed rows of users of any length; the graph reads users padded to S steps, and
the engine's operators are replaced by what they are where all users have S rows. Padding comes
after a user's items: an encoder, of which no step sees a later one, never sees it.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from odmt_fast.kernels.residual_norm.reference import residual_norm_reference
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Histories, UserEncoder
from odmt_fast.retrieval.bundle import companion
from odmt_fast.retrieval.parts import Parts
from odmt_fast.retrieval.search import user_vectors
from odmt_fast.storage import write_atomically


class PaddedUsers(nn.Module):
    """Vectors of users whose histories are padded.

    Args:
        users: the encoder.
    """

    def __init__(self, users: UserEncoder) -> None:
        super().__init__()
        self.users = users

    def forward(self, vectors: Tensor, histories: Tensor) -> Tensor:
        """What is multiplied with the items' vectors.

        Args:
            vectors: float [K, n, d], "vectors" of the bundle's items.
            histories: int64 [B, S], the most recent items of each user, oldest first, numbered from
                1; 0 where there are no more, of which a user has less than S.

        Returns:
            [B, K d].
        """
        count, steps = histories.shape
        length = (histories > 0).sum(1, keepdim=True)
        step = torch.arange(steps, device=histories.device)
        user = torch.arange(count, device=histories.device)
        rows = Histories(
            inputs=torch.arange(count * steps, device=histories.device),
            positions=(step - length + steps).clamp(max=steps - 1).reshape(-1),
            row_user=user[:, None].expand(count, steps).reshape(-1),  # ONNX indexes by int64
            cu_seqlens=torch.arange(count + 1, dtype=torch.int32, device=user.device) * steps,
            max_seqlen=steps,
        )
        # Only what is read, which is contiguous however `vectors` lies in memory.
        read = vectors.index_select(1, (histories - 1).clamp(min=0).reshape(-1))
        states: Tensor = self.users(read, rows, Noise(0.0, None, histories.device))
        states = states.view(states.shape[0], count, steps, states.shape[2])
        last = (length - 1).view(1, count, 1, 1).expand(states.shape[0], -1, 1, states.shape[3])
        return user_vectors(states.gather(2, last).squeeze(2))


def exported(parts: Parts) -> ExportedProgram:
    """`PaddedUsers` of `parts` with any number of users and items, in fp32 on the CPU.

    Its operators are torch's alone.
    """
    module = PaddedUsers(copy.deepcopy(parts.users).cpu().float().eval())
    branches, _, width = parts.catalogue.shape
    vectors = torch.zeros(branches, 5, width)
    histories = torch.ones(3, parts.settings.max_seq_len, dtype=torch.int64)
    dims = {"vectors": {1: Dim("items", min=1)}, "histories": {0: Dim("users", min=1)}}
    with torch.no_grad():
        program = torch.export.export(
            module, (vectors, histories), dynamic_shapes=dims, strict=True
        )
    return program.run_decompositions(_as_torch())


def save_torch(program: ExportedProgram, parts: Parts, bundle: Path) -> Path:
    """Writes `exported` of `parts` as ``user_graph-*.pt2``, which ``torch.export.load`` reads."""
    graph = io.BytesIO()
    torch.export.save(program, graph)
    path = companion(bundle, parts, "user_graph", "pt2")
    write_atomically(path, lambda part: part.write_bytes(graph.getvalue()))
    return path


def save_onnx(program: ExportedProgram, parts: Parts, bundle: Path) -> Path:
    """Writes `exported` of `parts` as ``user_graph-*.onnx``: "vectors", "histories" -> "users".

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    require_onnx()
    made = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["vectors", "histories"],
        output_names=["users"],
        verbose=False,
    )
    assert made is not None
    path = companion(bundle, parts, "user_graph", "onnx")
    write_atomically(path, lambda part: made.save(part))
    return path


def require_onnx() -> None:
    """Raises an ImportError that names the extra, where onnx or onnxscript is not installed."""
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"--onnx needs {name}; pip install 'odmt_fast[onnx]'")


def _as_torch() -> dict[Any, Callable[..., Any]]:
    """The engine's operators -> what they compute."""
    ops = torch.ops.odmt_fast
    return {
        **torch.export.default_decompositions(),
        ops.packed_self_attention.default: _dense_attention,
        ops.residual_norm.default: _residual_norm,
    }


def _dense_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    *_: object,
) -> tuple[Tensor, Tensor]:
    """Causal attention where every segment has `max_seqlen` rows."""
    assert mask == "causal"
    heads, width = qkv.shape[2:]
    q, k, v = qkv.view(-1, max_seqlen, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    step = torch.arange(max_seqlen, device=qkv.device)
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(step[:, None] < step, -math.inf)
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, heads, width)
    return out, out


def _residual_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    seed: Tensor | None,
    eps: float,
    *_: object,
) -> tuple[Tensor, ...]:
    """Without dropout; the statistics for the backward have no reader here."""
    out = residual_norm_reference(x, residual, weight, bias, eps)
    return out, out, out, out
