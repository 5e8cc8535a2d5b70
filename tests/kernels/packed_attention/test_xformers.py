"""packed_attention by xformers: its masks are ours; what it cannot do is refused by name.

Its kernels need a GPU (tests/gpu/test_xformers.py); here the calls it would get are computed from
the dense form of its own masks.
"""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from odmt_fast.config import Config
from odmt_fast.kernels import backend
from odmt_fast.kernels.packed_attention import packed_attention
from odmt_fast.kernels.packed_attention.op import MASKS
from odmt_fast.kernels.packed_attention.reference import (
    allowed_pairs,
    packed_attention_reference,
)
from odmt_fast.training.captured import capture_missing

SEGMENTS = [[3, 1, 0, 4], [1, 1], [5], [0, 2, 1], [0], [57, 81, 12]]
SCALE = 0.3


def segments(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def dense(q: Tensor, k: Tensor, v: Tensor, *, attn_bias: object) -> Tensor:
    """[1, Q, H, D] from the mask that xformers makes dense."""
    bias = attn_bias.materialize((q.shape[1], k.shape[1]), dtype=q.dtype)  # type: ignore[attr-defined]
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * SCALE + bias
    return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", SEGMENTS, ids=str)
def test_the_masks_are_ours(lengths: list[int], mask: str) -> None:
    by_xformers = pytest.importorskip("odmt_fast.kernels.packed_attention.by_xformers")
    cu, tokens = segments(lengths), sum(lengths)
    found = torch.zeros(tokens, tokens, dtype=torch.int64)
    for call in by_xformers.calls(cu, mask):
        rows = torch.arange(tokens) if call.queries is None else call.queries
        columns = torch.arange(tokens) if call.keys is None else call.keys
        read = call.bias.materialize((len(rows), len(columns))) == 0
        found.index_put_((rows[:, None], columns), read.long(), accumulate=True)
    allowed = allowed_pairs(cu, max(lengths), mask)
    expected = torch.block_diag(
        *(allowed[i, :n, :n] for i, n in enumerate(lengths) if n),
    )
    assert torch.equal(found, expected.reshape(tokens, tokens).long())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("lengths", SEGMENTS, ids=str)
def test_the_calls_together_are_the_reference(lengths: list[int], mask: str) -> None:
    by_xformers = pytest.importorskip("odmt_fast.kernels.packed_attention.by_xformers")
    torch.manual_seed(0)
    fused = torch.randn(sum(lengths), 3, 2, 8, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(sum(lengths), 2, 8, dtype=torch.float64)
    cu = segments(lengths)
    planned = by_xformers.calls(cu, mask)
    results = []
    for function in (
        lambda q, k, v: by_xformers.attend(q, k, v, planned, dense),
        lambda q, k, v: packed_attention_reference(q, k, v, cu, max(lengths), mask, SCALE),
    ):
        out = function(*fused.unbind(1))
        assert out.is_contiguous()
        results.append((out.detach(), *torch.autograd.grad(out, fused, upstream)))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "xformers")


def run(**settings: object) -> Tensor:
    x = torch.ones(4, 2, 16)
    arguments = {"max_seqlen": 4, "mask": "causal", "scale": SCALE, **settings}
    return packed_attention(x, x, x, segments([4]), **arguments)  # type: ignore[arg-type]


@pytest.mark.usefixtures("forced")
def test_tensors_that_are_not_on_a_gpu_are_refused_without_importing_it() -> None:
    known = set(sys.modules)
    with pytest.raises(RuntimeError, match="cannot run: xformers takes CUDA tensors, got cpu"):
        run()
    assert not {name for name in set(sys.modules) - known if name.startswith("xformers")}


@pytest.mark.usefixtures("forced")
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    backend._xformers_error.cache_clear()
    reason = backend.xformers_missing("cuda")
    backend._xformers_error.cache_clear()
    assert reason is not None and "pip install 'odmt_fast[xformers]'" in reason


@pytest.mark.usefixtures("forced")
def test_dropout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odmt_fast.kernels.launch.backends.xformers_missing", lambda _: None)
    with pytest.raises(RuntimeError, match="draws dropout from torch's generator.*use dropout=0"):
        run(dropout=0.1, seed=torch.tensor([1]))


def test_it_is_nobodys_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    chosen = []
    with backend.watched(lambda op, device, name, candidates: chosen.append((name, *candidates))):
        run()
    ((name, *candidates),) = chosen
    assert name != "xformers" and candidates[-1] == "xformers"


@pytest.mark.usefixtures("forced")
def test_other_operators_choose_for_themselves_and_steps_are_not_captured() -> None:
    from odmt_fast.kernels.dropout import dropout

    assert dropout(torch.ones(4, 8), 0.0, None).shape == (4, 8)
    missing = capture_missing(Config(), torch.device("cuda"), 1)
    assert missing is not None and "ODMT_FAST_BACKEND=xformers" in missing
