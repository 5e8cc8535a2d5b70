"""HSTU against its formula, one user, branch and head at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from models.encoders import LENGTHS, SILENT, STEPS, WIDTH, encoder, one_by_one, table, users
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.models.users.hstu import HSTU

HEAD = WIDTH // 2


def norm(x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def plain(model: HSTU, x: Tensor, branch: int) -> Tensor:
    """The layers of the paper on the items x [n, d] of one user."""
    n = len(x)
    x = math.sqrt(WIDTH) * x + model.positions[branch, STEPS - n :]
    for layer in model.layers:
        u, v, q, k = (F.silu(norm(x) @ w.T) for w in layer.uvqk[branch].chunk(4))
        heads = []
        for head in (slice(0, HEAD), slice(HEAD, None)):
            mixed = []
            for i in range(n):
                scores = [q[i, head] @ k[j, head] for j in range(i + 1)]
                weights = [
                    F.silu(score + layer.distance_bias[branch, i - j]) / STEPS
                    for j, score in enumerate(scores)
                ]
                mixed.append(sum(w * v[j, head] for j, w in enumerate(weights)))
            heads.append(torch.stack(mixed))
        gated = u * norm(torch.cat(heads, dim=1))
        x = x + F.linear(gated, layer.out.weight[branch], layer.out.bias[branch])
    return x


@pytest.mark.parametrize("lengths", [(1,), (2, 1), LENGTHS], ids=str)
def test_states_are_those_of_the_formula(lengths: tuple[int, ...]) -> None:
    model, items, rows = encoder("hstu", branches=2), table(branches=2), users(*lengths)
    got = model(items, rows, SILENT)
    for branch in range(2):
        expected = [plain(model, items[branch, user.inputs], branch) for user in one_by_one(rows)]
        torch.testing.assert_close(got[branch], torch.cat(expected))


def test_initial_values_have_their_spread() -> None:
    model = HSTU(ModelConfig(width=64, max_seq_len=500), 2)
    with torch.no_grad():
        model.initialise(torch.Generator().manual_seed(1))
    layer = model.layers[0]
    for values, spread in (
        (model.positions, 1 / 8),
        (layer.uvqk, 1 / 8),
        (layer.out.weight, 1 / 8),
        (layer.distance_bias, 0.02),
    ):
        assert float(values.detach().std()) == pytest.approx(spread, rel=0.06)
