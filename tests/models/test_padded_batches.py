"""Dummies change nothing: what is real stays as it was, bit for bit, and learns nothing of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.capacities import Limits, Sizes
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.padding import pad, sizes_of
from odmt_fast.config import ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import PackedTokens, TokenTable
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import BACKBONES, MODELS, build

N_ITEMS, S, WIDTH = 30, 6, 32
INTERPRETED = [
    pytest.mark.interpreter,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") != "1",
        reason="needs TRITON_INTERPRET=1 (make test-interpret)",
    ),
]
CASES = [
    *(
        pytest.param(backend, name, backbone, id=f"{backend}-{name}-{backbone}")
        for backend in ("reference", "cpu")
        for name in MODELS
        for backbone in BACKBONES
    ),
    pytest.param("triton", "odmt", "sasrec", marks=INTERPRETED, id="triton-odmt-sasrec"),
    pytest.param("triton", "id", "sasrec", marks=INTERPRETED, id="triton-id-sasrec"),
]
TOLERANCES = {torch.float32: 3e-6, torch.bfloat16: 2e-2}
"""A library may sum a product of other many rows in another order."""


def make(name: str, backbone: str, dropout: float) -> SequentialModel:
    config = ModelConfig(
        name=name,
        backbone=backbone,
        width=WIDTH,
        max_seq_len=S,
        dropout=dropout,
        item_dropout=dropout,
        alpha=0.5,
    )
    generator = torch.Generator().manual_seed(5)
    sources = {}
    for modality, longest in (("text", 4), ("image", 3)):
        features = torch.randn(N_ITEMS + 1, longest, 5, generator=generator)
        lengths = torch.randint(1, longest + 1, (N_ITEMS + 1, 1), generator=generator)
        sources[modality] = TokenTable.from_padded(features, torch.arange(longest) < lengths)
    shares = torch.rand(N_ITEMS + 1, generator=generator) + 0.1
    return build(config, shares, sources, generator=generator)


def batches(model: SequentialModel, candidates: Candidates | None = None) -> tuple[Batch, Batch]:
    """A batch, and the same with 3 dummy users of 11 rows and 5 dummy items."""
    draws = np.random.default_rng(2)
    users = [draws.integers(1, N_ITEMS + 1, n).tolist() for n in (7, 3, 2, 5, 7, 4)]
    collate = Collator(Sequences.from_lists(users), S, model.sources, candidates)
    batch = replace(collate(np.arange(len(users))), noise=torch.tensor([77]))
    sizes = sizes_of(batch)
    capacity = Sizes(
        users=sizes.users + 3,
        rows=sizes.rows + 11,
        items=sizes.items + 5,
        history=sizes.history + 4,
        tokens=tuple(own + 8 for own in sizes.tokens),
    )
    return batch, pad(batch, capacity, Limits(S, collate.limits.longest))


@dataclass
class Ran:
    """A step: named terms, embeddings and states with their gradients, those of the weights."""

    terms: dict[str, Tensor]
    items: Tensor
    states: Tensor
    weights: dict[str, Tensor]

    def real(self, batch: Batch) -> dict[str, Tensor]:
        """All of it that is not of a dummy, `batch` being the one without."""
        columns, rows = slice(len(batch.items)), slice(batch.n_rows)
        assert self.items.grad is not None and self.states.grad is not None
        return {
            **self.terms,
            "items": self.items[:, columns],
            "states": self.states[:, rows],
            "gradient of items": self.items.grad[:, columns],
            "gradient of states": self.states.grad[:, rows],
            **self.weights,
        }


def run(model: SequentialModel, batch: Batch, dtype: torch.dtype) -> Ran:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: object, arguments: object, output: Tensor) -> None:
            output.retain_grad()
            seen[name] = output

        return hook

    hooks = [getattr(model, name).register_forward_hook(keep(name)) for name in ("items", "users")]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        terms = model.train()(batch, 1)
    terms["loss"].backward()
    for hook in hooks:
        hook.remove()
    weights = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return Ran(terms, seen["items"], seen["users"], weights)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("backend", "name", "backbone"), CASES)
def test_dummies_change_nothing(
    monkeypatch: pytest.MonkeyPatch, backend: str, name: str, backbone: str, dtype: torch.dtype
) -> None:
    if backend == "triton" and dtype == torch.bfloat16:
        pytest.skip("tests/kernels hold the kernels in bf16; the interpreter is slow")
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    model = make(name, backbone, 0.2)
    batch, padded = batches(model)
    plain, full = run(model, batch, dtype), run(model, padded, dtype)
    expected, got = plain.real(batch), full.real(batch)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1e-3, float(value.detach().abs().max()))
        assert (got[name] - value).abs().max() <= TOLERANCES[dtype] * scale, name
    assert full.items.grad is not None and full.states.grad is not None
    for dummies in (full.items[:, len(batch.items) :], full.states[:, batch.n_rows :]):
        assert dummies.isfinite().all()
    assert not full.items.grad[:, len(batch.items) :].any()
    assert not full.states.grad[:, batch.n_rows :].any()
    ids = [g for n, g in full.weights.items() if n.endswith("id_embedding.weight")]
    assert not any(g[0].any() for g in ids)


@pytest.mark.parametrize("name", ["odmt", "lf"])
def test_the_noise_of_the_items_does_not_move(name: str) -> None:
    model = make(name, "sasrec", 0.4)
    batch, padded = batches(model)
    expected, got = (
        run(model, b, torch.float32).items[:, : len(batch.items)] for b in (batch, padded)
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["odmt", "ef", "lf"])
def test_nobody_reads_the_dummies(name: str) -> None:
    """Their tokens are 1e4, and memory that nobody has written is NaN."""
    model = make(name, "sasrec", 0.2)
    batch, padded = batches(model)
    expected = run(model, padded, torch.float32).real(batch)
    poisoned = []
    for tokens, own in zip(padded.features, sizes_of(batch).tokens, strict=True):
        values = tokens.values.clone()
        values[own:] = 1e4
        poisoned.append(PackedTokens(values, tokens.lengths, tokens.max_length))
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        got = run(model, padded.with_features(tuple(poisoned)), torch.float32).real(batch)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("logq", ["official", "recsys25"])
@pytest.mark.parametrize("kind", ["mixed", "sampled", "full"])
def test_dummies_are_nobodys_candidates(kind: str, logq: str) -> None:
    model = make("odmt", "sasrec", 0.0)
    config = ModelConfig(candidates=kind, logq=logq, draws=40)
    batch, padded = batches(model, Candidates(config, np.full(N_ITEMS + 1, 1 / N_ITEMS), seed=1))
    assert batch.log_q is not None and len(batch.items) > len(batch.inputs.unique())
    plain, full = run(model, batch, torch.float32), run(model, padded, torch.float32)
    expected, got = plain.real(batch), full.real(batch)
    for name, value in expected.items():
        scale = max(1e-3, float(value.detach().abs().max()))
        assert (got[name] - value).abs().max() <= TOLERANCES[torch.float32] * scale, name
    assert full.items.grad is not None and not full.items.grad[:, len(batch.items) :].any()


@pytest.mark.parametrize("logq", ["official", "recsys25"])
@pytest.mark.parametrize("candidates", ["mixed", "sampled", "full"])
def test_other_candidates_are_padded_too(candidates: str, logq: str) -> None:
    config = ModelConfig(candidates=candidates, logq=logq, draws=5)
    shares = np.array([1.0, *[1 / N_ITEMS] * N_ITEMS])
    model = make("id", "sasrec", 0.2)
    batch, padded = batches(model, Candidates(config, shares, seed=1))
    assert padded.log_q is not None and len(padded.log_q) == len(batch.items) + 5
    expected, got = (run(model, b, torch.float32).real(batch) for b in (batch, padded))
    for name, value in expected.items():
        scale = max(1e-3, float(value.detach().abs().max()))
        assert (got[name] - value).abs().max() <= 3e-6 * scale, name
