"""TokenTable: what it gathers, and that importing it costs nothing but torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from odmt_fast.features.tokens import TokenTable


def test_gather_returns_the_tokens_of_each_item_in_order_and_with_repeats() -> None:
    values = torch.arange(12.0).reshape(6, 2)
    table = TokenTable(values, torch.tensor([0, 0, 1, 4, 6]))
    packed = table.gather(torch.tensor([3, 1, 3, 2]))
    assert packed.lengths.tolist() == [2, 1, 2, 3]
    assert torch.equal(packed.values, values[[4, 5, 0, 4, 5, 1, 2, 3]])
    assert (packed.max_length, table.dim, table.n_items, table.dtype) == (3, 2, 3, torch.float32)


def test_gather_of_nothing_is_empty() -> None:
    table = TokenTable(torch.ones(2, 3), torch.tensor([0, 0, 1, 2]))
    packed = table.gather(torch.empty(0, dtype=torch.int64))
    assert packed.values.shape == (0, 3)
    assert packed.lengths.shape == (0,)


def test_from_padded_drops_padding_and_refuses_an_item_without_tokens() -> None:
    features = torch.arange(24.0).reshape(3, 4, 2)
    mask = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    table = TokenTable.from_padded(features, mask)
    assert torch.equal(table.values, torch.cat([features[1, :2], features[2]]))
    assert table.offsets.tolist() == [0, 0, 2, 6]
    mask[1] = 0
    with pytest.raises(ValueError, match="no token for item 1"):
        TokenTable.from_padded(features, mask)


def test_import_loads_no_heavy_package() -> None:
    code = (
        "import sys, odmt_fast.features.tokens as t;"
        "print([m for m in ('PIL', 'transformers', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
