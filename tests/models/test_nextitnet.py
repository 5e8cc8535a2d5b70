"""NextItNet against ``torch.nn.functional.conv1d`` of one user and branch at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models.encoders import LENGTHS, SILENT, WIDTH, encoder, one_by_one, table, users
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.models.users.nextitnet import NextItNet


def plain(model: NextItNet, x: Tensor, branch: int) -> Tensor:
    """The blocks of the paper on the items x [n, d] of one user."""
    dilations = [(1, 2), (4, 8), (1, 2)]
    for pair, block in zip(dilations, model.blocks, strict=False):
        y = x
        for dilation, half in zip(pair, (block.first, block.second), strict=True):
            kernel = half.taps.weight[branch].view(WIDTH, 3, WIDTH).transpose(1, 2)
            padded = F.pad(y.T[None], (2 * dilation, 0))
            y = F.conv1d(padded, kernel, half.taps.bias[branch], dilation=dilation)[0].T
            y = F.layer_norm(
                y, (WIDTH,), half.norm.weight[branch], half.norm.bias[branch], eps=1e-6
            ).relu()
        x = x + y
    return F.linear(x, model.out.weight[branch], model.out.bias[branch])


@pytest.mark.parametrize(
    ("layers", "lengths"), [(1, (1, 2)), (3, LENGTHS), (2, (40, 3, 40))], ids=str
)
def test_states_are_those_of_dilated_convolutions(layers: int, lengths: tuple[int, ...]) -> None:
    model, items = encoder("nextitnet", branches=2, layers=layers), table(branches=2)
    rows = users(*lengths, steps=max(lengths))
    got = model(items, rows, SILENT)
    for branch in range(2):
        expected = [plain(model, items[branch, user.inputs], branch) for user in one_by_one(rows)]
        torch.testing.assert_close(got[branch], torch.cat(expected))


def test_convolutions_begin_as_torchs() -> None:
    model = NextItNet(ModelConfig(width=64, max_seq_len=5), 2)
    with torch.no_grad():
        model.initialise(torch.Generator().manual_seed(1))
    first = model.blocks[0].first
    bound = (3 * 64) ** -0.5
    assert 0.98 * bound < float(first.taps.weight.detach().abs().max()) <= bound
    assert float(first.norm.weight.detach().min()) == 1.0
