"""LiGR against ``torch.nn.MultiheadAttention`` and a network written out, one user at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models.encoders import LENGTHS, SILENT, STEPS, WIDTH, encoder, one_by_one, table, users
from torch import Tensor, nn

from odmt_fast.models.users.ligr import LiGR, LiGRBlock


def plain_block(block: LiGRBlock, x: Tensor, branch: int) -> Tensor:
    """The block as published for eSASRec on x [n, d]."""

    def affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
        return layer.weight[branch], layer.bias[branch]

    def norm(y: Tensor, layer: nn.Module) -> Tensor:
        return F.layer_norm(y, (WIDTH,), *affine(layer), eps=1e-6)

    attention = nn.MultiheadAttention(WIDTH, block.heads, batch_first=True).double()
    weight, bias = affine(block.qkv)
    out_weight, out_bias = affine(block.out)
    attention.load_state_dict(
        {
            "in_proj_weight": weight,
            "in_proj_bias": bias,
            "out_proj.weight": out_weight,
            "out_proj.bias": out_bias,
        }
    )
    later = torch.ones(len(x), len(x)).triu(1).bool()
    y = norm(x, block.attention_norm)[None]
    y = attention(y, y, y, attn_mask=later, need_weights=False)[0][0]
    x = x + torch.sigmoid(F.linear(x, *affine(block.attention_gate))) * y
    y = norm(x, block.norm)
    first, third = block.up[branch].chunk(2)
    y = (F.silu(y @ first.T) * (y @ third.T)) @ block.down[branch].T
    return x + torch.sigmoid(F.linear(x, *affine(block.gate))) * y


def plain(model: LiGR, x: Tensor, branch: int) -> Tensor:
    x = x + model.positions[branch, STEPS - len(x) :]
    for block in model.blocks:
        x = plain_block(block, x, branch)
    return x


@pytest.mark.parametrize("lengths", [(1,), (2, 1), LENGTHS], ids=str)
def test_states_are_those_of_the_published_block(lengths: tuple[int, ...]) -> None:
    model, items, rows = encoder("ligr", branches=2), table(branches=2), users(*lengths)
    got = model(items, rows, SILENT)
    for branch in range(2):
        expected = [plain(model, items[branch, user.inputs], branch) for user in one_by_one(rows)]
        torch.testing.assert_close(got[branch], torch.cat(expected))
