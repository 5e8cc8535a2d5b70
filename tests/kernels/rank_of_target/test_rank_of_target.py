"""rank_of_target: against hand-made numbers, sorting, and the reference, with ties and repeats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.launch.catalogue import excluded
from odmt_fast.kernels.rank_of_target import rank_of_score, rank_of_target, reference, tiled


def make_case(
    *, branches: int = 3, users: int = 7, n: int = 50, width: int = 8, dtype: torch.dtype, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    queries = torch.randn(branches, users, width, generator=g, dtype=torch.float64).to(dtype)
    items = torch.randn(branches, n, width, generator=g, dtype=torch.float64).to(dtype)
    items[:, 0] = 100.0  # padding that would win everywhere if it counted
    items[:, 5:9] = items[:, 4:5]  # five equal items
    targets = torch.randint(1, n, (users,), generator=g)
    targets[0] = 6
    lengths = torch.randint(0, 6, (users,), generator=g)
    lengths[-1] = 0
    offsets = torch.zeros(users + 1, dtype=torch.int64)
    offsets[1:] = lengths.cumsum(0)
    history = torch.randint(1, n, (int(offsets[-1]),), generator=g)
    return queries, items, targets, offsets, history


def test_hand_made_ranks_of_two_branches_and_their_mean() -> None:
    # One user, d = 1, u = 1: scores are the item vectors themselves.
    queries = torch.ones(2, 1, 1)
    items = torch.tensor([[9.0, 4, 3, 2, 1, 2], [9.0, 0, 5, 4, 8, 4]]).unsqueeze(-1)
    ranks, ties = rank_of_target(
        queries, items, torch.tensor([3]), torch.tensor([0, 1]), torch.tensor([2])
    )
    # Item 2 is excluded. Branch 0: 4 > 2, item 5 ties. Branch 1: 8 > 4, item 5 ties.
    # Mean: 2, -, 3, 4.5, 3.
    assert ranks[:, 0].tolist() == [2, 2, 2]
    assert ties[:, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("repeats", ["rank", "miss"])
@pytest.mark.parametrize("users", [1, 2, 7, 40])
@pytest.mark.parametrize("seed", range(3))
def test_tiled_equals_reference(users: int, seed: int, repeats: reference.Repeats) -> None:
    case = make_case(users=users, dtype=torch.float64, seed=seed)
    # Small whole numbers: every product is exact, so that ties do not hang on rounding.
    case = (case[0].mul(3).round(), case[1].mul(3).round(), *case[2:])
    expected = reference.rank_of_target(*case, repeats)
    for tile_bytes in (1, 4 * users * 8 * 20, 1 << 20):
        out = excluded(case[3], case[4], None, case[1].shape[1])
        got = tiled.rank_of_target(*case[:3], out, repeats, tile_bytes)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("width", [3, 8, 96])
@pytest.mark.parametrize("users", [1, 2, 3, 64])
def test_equal_items_tie_in_fp32_whatever_the_tiles(users: int, width: int) -> None:
    queries, items, targets, offsets, history = make_case(
        users=users, n=300, width=width, dtype=torch.float32, seed=users
    )
    targets[:] = 6
    for tile_bytes in (1, 16 * users * 37, 1 << 20):
        nothing = excluded(torch.zeros_like(offsets), history[:0], None, 300)
        _, ties = tiled.rank_of_target(queries, items, targets, nothing, "rank", tile_bytes)
        assert ties.eq(4).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_ranks_match_sorting(dtype: torch.dtype) -> None:
    queries, items, targets, offsets, history = make_case(dtype=dtype, seed=11, n=200)
    items[:, 5:9] = torch.randn(items[:, 5:9].shape).to(dtype)
    ranks, ties = rank_of_target(queries, items, targets, offsets, history)
    scores = queries.float() @ items.float().transpose(1, 2)
    scores = torch.cat([scores, scores.mean(0, keepdim=True)])
    assert not ties.any()
    for user, target in enumerate(targets.tolist()):
        past = set(history[offsets[user] : offsets[user + 1]].tolist()) - {target}
        for branch in range(4):
            order = scores[branch, user].argsort(descending=True).tolist()
            order = [item for item in order if item != 0 and item not in past]
            assert ranks[branch, user] == order.index(target) + 1


def test_a_repeated_target_is_ranked_or_missed() -> None:
    queries, items, _, _, _ = make_case(users=1, dtype=torch.float64, seed=1)
    history, target = torch.tensor([10, 12, 12, 20]), torch.tensor([12])
    offsets = torch.tensor([0, 4])
    ranked, _ = rank_of_target(queries, items, target, offsets, history)
    others = torch.tensor([10, 20])
    plain, _ = rank_of_target(queries, items, target, torch.tensor([0, 2]), others)
    assert torch.equal(ranked, plain)
    missed, ties = rank_of_target(queries, items, target, offsets, history, repeats="miss")
    # 49 items, three distinct ones excluded: 46 finite scores stand above.
    assert missed.eq(47).all()
    assert ties.eq(2).all()


def test_forced_reference_and_default_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(dtype=torch.float64, seed=5)
    expected = rank_of_target(*case)
    monkeypatch.setenv("ODMT_FAST_BACKEND", "reference")
    assert torch.equal(rank_of_target(*case)[0], expected[0])


def test_rank_of_score_takes_any_scores() -> None:
    scores = torch.tensor([[[9.0, 1, 2, 3, 3]]])
    ranks, ties = rank_of_score(scores, torch.tensor([3]), torch.tensor([0, 0]), torch.tensor([]))
    assert (ranks.item(), ties.item()) == (1, 1)


def test_custom_op_passes_opcheck_and_compiles() -> None:
    case = make_case(dtype=torch.float32, seed=2)
    torch.library.opcheck(torch.ops.odmt_fast.rank_of_target.default, (*case, None, "rank"))
    compiled = torch.compile(rank_of_target, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*case), rank_of_target(*case), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(3, 7), "queries must be"),
        (1, torch.zeros(3, 50, 9), "items must be"),
        (1, torch.zeros(3, 50, 8, dtype=torch.float64), "items must be"),
        (2, torch.zeros(6, dtype=torch.int64), "targets must be"),
        (3, torch.zeros(7, dtype=torch.int64), "history_offsets must be"),
    ],
)
def test_wrong_arguments_are_named(position: int, value: Tensor, message: str) -> None:
    case = list(make_case(dtype=torch.float32, seed=0))
    case[position] = value
    with pytest.raises(ValueError, match=message):
        rank_of_target(*case)
    with pytest.raises(ValueError, match="repeats must be 'rank' or 'miss', got 'drop'"):
        rank_of_target(*make_case(dtype=torch.float32, seed=0), repeats="drop")


QUERIES, ITEMS, TARGETS, OFFSETS, HISTORY = range(5)


@pytest.mark.parametrize("backend", ["", "reference"])
@pytest.mark.parametrize(
    ("argument", "place", "value", "message"),
    [
        (TARGETS, 3, -1, r"targets\[3\] is -1, not an item of 1..49"),
        (TARGETS, 3, 0, r"targets\[3\] is 0, not an item of 1..49"),
        (TARGETS, 3, 50, r"targets\[3\] is 50, not an item of 1..49"),
        (HISTORY, 2, -1, r"history\[2\] is -1, not an item of 0..49"),
        (HISTORY, 2, 50, r"history\[2\] is 50, not an item of 0..49"),
        (OFFSETS, 0, 1, "history_offsets must run from 0 to H="),
        (OFFSETS, 0, -1, "history_offsets must run from 0 to H="),
        (OFFSETS, -1, 10**6, "history_offsets must run from 0 to H=.*to 1000000"),
        (OFFSETS, 1, 10**6, "history_offsets must ascend, got 1000000 before .* at user 1"),
        (QUERIES, (1, 2, 3), float("nan"), r"queries\[1, 2, 3\] is nan"),
        (QUERIES, (1, 2, 3), float("-inf"), r"queries\[1, 2, 3\] is -inf"),
        (ITEMS, (2, 49, 0), float("nan"), r"items\[2, 49, 0\] is nan"),
        (ITEMS, (2, 49, 0), float("inf"), r"items\[2, 49, 0\] is inf"),
    ],
)
def test_wrong_values_are_named(
    argument: int,
    place: int | tuple[int, ...],
    value: float,
    message: str,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    case = make_case(dtype=torch.float32, seed=0)
    case[argument][place] = value
    with pytest.raises(ValueError, match=f"^rank_of_target: {message}"):
        rank_of_target(*case)


@pytest.mark.parametrize("argument", range(5))
@pytest.mark.parametrize("kind", [torch.complex64, torch.int16, torch.float16, "meta"])
def test_every_argument_of_another_kind_is_named(argument: int, kind: torch.dtype | str) -> None:
    names = ("queries", "items", "targets", "history_offsets", "history")
    case = list(make_case(dtype=torch.float32, seed=0))
    case[argument] = case[argument].to(kind)  # type: ignore[call-overload]
    name = "items" if (argument, kind) == (QUERIES, torch.float16) else names[argument]
    with pytest.raises(ValueError, match=f"^rank_of_target: {name} "):
        rank_of_target(*case)


@pytest.mark.parametrize("backend", ["", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("users", "n", "width"), [(0, 50, 8), (0, 1, 8), (0, 1, 0), (1, 2, 1), (3, 20, 0)]
)
def test_little_or_nothing_to_rank(
    users: int,
    n: int,
    width: int,
    dtype: torch.dtype,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    targets = torch.ones(users, dtype=torch.int64)
    offsets = torch.zeros(users + 1, dtype=torch.int32)
    ranks, ties = rank_of_target(
        torch.ones(2, users, width, dtype=dtype),
        torch.ones(2, n, width, dtype=dtype),
        targets,
        offsets,
        torch.zeros(0, dtype=torch.int32),
    )
    # All items are equal: each is first, with all others.
    assert ranks.dtype == ties.dtype == torch.int64
    assert ranks.equal(torch.ones(3, users, dtype=torch.int64))
    assert ties.equal(torch.full((3, users), n - 2))


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    if extension_missing("cpu"):
        pytest.skip("the extension is not built")
    from odmt_fast import _C

    before = _C.isa()
    if not _C.use_isa(request.param):
        pytest.skip(f"no {request.param} here")
    yield request.param
    _C.use_isa(before)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**31),
    branches=st.integers(1, 4),
    users=st.integers(1, 70),
    n=st.integers(2, 400),
    width=st.integers(0, 20),
    share=st.sampled_from([None, 0.0, 0.3, 0.95]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_every_instruction_set_equals_a_float64_sort(
    isa: str,
    seed: int,
    branches: int,
    users: int,
    n: int,
    width: int,
    share: float | None,
    dtype: torch.dtype,
) -> None:
    g = torch.Generator().manual_seed(seed)
    queries = torch.randint(-3, 4, (branches, users, width), generator=g) * branches
    items = torch.randint(-3, 4, (branches, n, width), generator=g)
    targets = torch.randint(1, n, (users,), generator=g)
    lengths = torch.randint(0, 9, (users,), generator=g)
    history = torch.randint(0, n, (int(lengths.sum()),), generator=g)
    # The first user's history is everything but the target; half of the others repeat theirs.
    rest = [i for i in range(1, n) if i != targets[0]]
    history = torch.cat([torch.tensor(rest, dtype=torch.int64), history[lengths[0] :]])
    lengths[0] = len(rest)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    ends = offsets[1:][(lengths > 0) & (torch.arange(users) % 2 == 1)] - 1
    history[ends] = targets[(lengths > 0) & (torch.arange(users) % 2 == 1)]
    allowed = None if share is None else torch.rand(n, generator=g) < share
    case = queries.to(dtype), items.to(dtype), targets, offsets, history
    exact = queries.double(), items.double(), targets, offsets, history
    for repeats in ("rank", "miss"):
        got = rank_of_target(*case, allowed=allowed, repeats=repeats)
        expected = reference.rank_of_target(*exact, repeats, allowed)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        out = excluded(offsets, history, allowed, n)
        tiles = tiled.rank_of_target(*exact[:3], out, repeats, 1 << 12)
        torch.testing.assert_close(tiles, expected, rtol=0, atol=0)
    assert got[0].shape[0] == branches + (branches > 1)


@pytest.mark.parametrize("width", [3, 96, 257])
def test_equal_items_tie_for_any_number_of_threads(isa: str, width: int) -> None:
    g = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 50, width, generator=g)
    items = torch.randn(3, 20_000, width, generator=g)
    items[:, [77, 9_999, 19_998, 19_999]] = items[:, 6:7]
    targets = torch.full((50,), 6)
    targets[25:] = torch.randint(1, 20_000, (25,), generator=g)
    nothing = torch.zeros(51, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(rank_of_target(queries, items, targets, *nothing))
    finally:
        torch.set_num_threads(threads)
    assert found[0][1][:, :25].eq(4).all()
    for ranks, ties in found[1:]:
        assert torch.equal(ranks, found[0][0]) and torch.equal(ties, found[0][1])
