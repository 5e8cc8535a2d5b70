"""The Triton searches in the interpreter: ragged tiles, ties, excluded and allowed items."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.rank_of_target import rank_of_target
from odmt_fast.kernels.rank_of_target import reference as rank_law
from odmt_fast.kernels.rank_of_target.configs import SearchConfig
from odmt_fast.kernels.top_k import reference as top_k_law
from odmt_fast.kernels.top_k import top_k

pytestmark = pytest.mark.interpreter
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter sorts an element at a time."""
    monkeypatch.setenv("ODMT_FAST_BACKEND", "triton")
    tile = SearchConfig(block_m=4, block_n=16, block_d=16, num_warps=4, num_stages=2)
    monkeypatch.setattr("odmt_fast.kernels.rank_of_target.fwd.reviewed", lambda *_: tile)
    monkeypatch.setattr("odmt_fast.kernels.top_k.fwd.reviewed", lambda *_: tile)


def make_case(
    branches: int, users: int, n: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Small whole numbers, so that products are exact and many are equal."""
    g = torch.Generator().manual_seed(users)
    queries = torch.randint(-2, 3, (branches, users, width), generator=g).mul(branches).to(dtype)
    items = torch.randint(-2, 3, (branches, n, width), generator=g).to(dtype)
    targets = torch.randint(1, n, (users,), generator=g)
    lengths = torch.randint(0, 6, (users,), generator=g)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    history = torch.randint(0, n, (int(offsets[-1]),), generator=g)
    history[: lengths[0]] = targets[0]  # a target in its own history
    return queries, items, targets, offsets, history


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("repeats", ["rank", "miss"])
@pytest.mark.parametrize("shape", [(1, 5, 40, 8), (2, 9, 33, 20), (3, 4, 2, 1)], ids=str)
def test_ranks(
    shape: tuple[int, int, int, int], repeats: rank_law.Repeats, dtype: torch.dtype
) -> None:
    queries, items, *rest = make_case(*shape, dtype=dtype)
    allowed = torch.arange(shape[2]) % 3 != 1
    for some in (None, allowed):
        got = rank_of_target(queries, items, *rest, repeats=repeats, allowed=some)
        expected = rank_law.rank_of_target(
            queries.double(), items.double(), *rest, repeats, allowed=some
        )
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_equal_items_tie_wherever_they_stand() -> None:
    g = torch.Generator().manual_seed(3)
    queries, items = torch.randn(2, 6, 21, generator=g), torch.randn(2, 60, 21, generator=g)
    items[:, [7, 16, 47, 59]] = items[:, 30:31]
    none = torch.zeros(7, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    _, ties = rank_of_target(queries, items, torch.full((6,), 30), *none)
    assert ties.eq(4).all()


@pytest.mark.parametrize(
    ("users", "n", "k", "dtype"),
    [(5, 40, 1, torch.float32), (3, 21, 16, torch.bfloat16), (6, 5, 7, torch.float16)],
    ids=str,
)
def test_top_k(users: int, n: int, k: int, dtype: torch.dtype) -> None:
    queries, items, _, *rest = make_case(1, users, n, 5, dtype)
    for allowed in (None, torch.arange(n) % 4 != 1):
        ids, scores = top_k(queries[0], items[0], k, *rest, allowed=allowed)
        law = top_k_law.top_k(queries[0].double(), items[0].double(), k, *rest, allowed)
        assert torch.equal(ids, law[0])
        assert torch.equal(scores.double(), law[1])


def test_too_many_to_keep_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, items, _, *rest = make_case(1, 2, 300, 3, torch.float32)
    with pytest.raises(RuntimeError, match="it keeps at most 128 items of a user, got k=129"):
        top_k(queries[0], items[0], 129, *rest)
    monkeypatch.delenv("ODMT_FAST_BACKEND")
    assert top_k(queries[0], items[0], 129, *rest)[0].ge(1).all()
