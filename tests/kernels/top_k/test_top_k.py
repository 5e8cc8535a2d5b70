"""top_k: against a sort of all scores, on every instruction set and backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.launch.catalogue import excluded
from odmt_fast.kernels.top_k import reference, tiled, top_k

Case = tuple[Tensor, Tensor, int, Tensor, Tensor]


def make_case(
    *, users: int = 7, n: int = 50, width: int = 8, k: int = 5, dtype: torch.dtype, seed: int = 0
) -> Case:
    """Small whole numbers: products are exact in every dtype, and many scores equal."""
    g = torch.Generator().manual_seed(seed)
    queries = torch.randint(-3, 4, (users, width), generator=g).to(dtype)
    items = torch.randint(-3, 4, (n, width), generator=g).to(dtype)
    items[0] = 3.0  # padding, which would often win if it counted
    lengths = torch.randint(0, 9, (users,), generator=g)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    history = torch.randint(0, n, (int(offsets[-1]),), generator=g)
    return queries, items, k, offsets, history


def brute_force(case: Case, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    queries, items, *rest = case
    return reference.top_k(queries.double(), items.double(), *rest, allowed)


def assert_same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1].double(), expected[1])


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


def test_by_hand() -> None:
    queries, items = torch.tensor([[1.0]]), torch.tensor([[9.0], [1], [3], [2], [3], [-1]])
    none = torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64)
    ids, scores = top_k(queries, items, 3, *none)
    assert (ids.tolist(), scores.tolist()) == ([[2, 4, 3]], [[3, 3, 2]])
    ids, scores = top_k(queries, items, 6, torch.tensor([0, 2]), torch.tensor([4, 1]))
    assert ids.tolist() == [[2, 3, 5, -1, -1, -1]]
    assert scores.tolist() == [[3, 2, -1, *[-torch.inf] * 3]]
    allowed = torch.tensor([True, True, False, False, False, True])
    assert top_k(queries, items, 2, *none, allowed=allowed)[0].tolist() == [[1, 5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("users", [1, 15, 16, 17, 47, 48, 49, 97])
def test_every_instruction_set_equals_sorting(isa: str, users: int, dtype: torch.dtype) -> None:
    for n, k, width in ((2, 1, 1), (203, 60, 7), (1500, 1000, 3)):
        case = make_case(users=users, n=n, k=k, width=width, dtype=dtype, seed=users)
        assert_same(top_k(*case), brute_force(case))
        allowed = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.6
        assert_same(top_k(*case, allowed=allowed), brute_force(case, allowed))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(0, 70),
    n=st.integers(1, 400),
    width=st.integers(0, 20),
    k=st.integers(1, 450),
    share=st.sampled_from([None, 0.0, 0.3, 0.95]),
)
def test_random_cases_equal_sorting(
    seed: int, users: int, n: int, width: int, k: int, share: float | None
) -> None:
    case = make_case(users=users, n=n, width=width, k=k, dtype=torch.float32, seed=seed)
    allowed = None
    if share is not None:
        allowed = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < share
    expected = brute_force(case, allowed)
    assert_same(top_k(*case, allowed=allowed), expected)
    out = excluded(case[3], case[4], allowed, n)
    assert_same(tiled.top_k(*case[:3], out, tile_bytes=4 * 37 * max(1, users)), expected)


def test_a_history_of_everything_leaves_nothing() -> None:
    queries, items = torch.ones(2, 4), torch.ones(9, 4)
    offsets, history = torch.tensor([0, 8, 15]), torch.tensor([*range(1, 9), *range(1, 8)])
    ids, scores = top_k(queries, items, 2, offsets, history)
    assert ids.tolist() == [[-1, -1], [8, -1]]
    assert scores[0].eq(-torch.inf).all() and scores[1].tolist() == [4, -torch.inf]


def test_any_number_of_threads_gives_the_same_bits(isa: str) -> None:
    g = torch.Generator().manual_seed(0)
    queries, items = torch.randn(70, 33, generator=g), torch.randn(20_000, 33, generator=g)
    items[10_000:] = items[:10_000]  # each score twice, in different blocks
    offsets, history = torch.zeros(71, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(top_k(queries, items, 40, offsets, history))
    finally:
        torch.set_num_threads(threads)
    for ids, scores in found[1:]:
        assert torch.equal(ids, found[0][0]) and torch.equal(scores, found[0][1])
    ids, scores = found[0]
    assert torch.equal(scores[:, ::2], scores[:, 1::2])
    assert torch.equal(ids[:, ::2] + 10_000, ids[:, 1::2])


@pytest.mark.parametrize("backend", ["", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_what_the_extension_does_not_take(
    dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    case = make_case(dtype=dtype)
    ids, scores = top_k(*case)
    assert scores.dtype == torch.promote_types(dtype, torch.float32)
    assert_same((ids, scores), brute_force(case))


def test_custom_op_passes_opcheck_and_compiles() -> None:
    case = make_case(dtype=torch.float32)
    queries, items, k, *history = case
    arguments = (queries, items, *history, None, k)
    torch.library.opcheck(torch.ops.odmt_fast.top_k.default, arguments)
    compiled = torch.compile(top_k, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*case), top_k(*case), rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["", "reference"])
@pytest.mark.parametrize(
    ("argument", "place", "value", "message"),
    [
        (0, (1, 2), float("nan"), r"queries\[1, 2\] is nan"),
        (1, (49, 0), float("inf"), r"items\[49, 0\] is inf"),
        (1, (49, 0), float("nan"), r"items\[49, 0\] is nan"),
        (3, 1, 10**6, "history_offsets must ascend, got 1000000"),
        (4, 2, 50, r"history\[2\] is 50, not an item of 0..49"),
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
    case = make_case(dtype=torch.float32)
    case[argument][place] = value  # type: ignore[index]
    with pytest.raises(ValueError, match=f"^top_k: {message}"):
        top_k(*case)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        (0, torch.zeros(7), r"queries must be floating \[B, D\], got \[7\]"),
        (0, torch.zeros(7, 8, dtype=torch.int64), "queries must be a floating tensor"),
        (1, torch.zeros(50, 9), r"items must be \[n, D=8\]"),
        (1, torch.zeros(0, 8), "items must be .* with a row 0 for padding"),
        (1, torch.zeros(50, 8, dtype=torch.float64), "items must be torch.float32"),
        (2, 0, "k must be at least 1, got 0"),
        (3, torch.zeros(7, dtype=torch.int64), "history_offsets must be"),
    ],
)
def test_wrong_arguments_are_named(argument: int, value: Tensor, message: str) -> None:
    case = list(make_case(dtype=torch.float32))
    case[argument] = value
    with pytest.raises(ValueError, match=f"^top_k: {message}"):
        top_k(*case)  # type: ignore[arg-type]
    case = list(make_case(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"^top_k: allowed must be torch.bool \[50\]"):
        top_k(*case, allowed=torch.ones(49, dtype=torch.bool))  # type: ignore[arg-type]
