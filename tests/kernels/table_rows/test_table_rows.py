"""table_rows: the law, what is refused, and who reads a table that lies elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels import table_rows as package
from odmt_fast.kernels.table_rows import op, table_rows

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class OnGpu(Tensor):
    """A CPU tensor that says it is on a GPU."""

    device = property(lambda self: torch.device("cuda", 1))  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]


def problem(dtype: torch.dtype, n: int = 11, width: int = 24, rows: int = 29) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    table = torch.randn(n, width, generator=generator).to(dtype)
    return table, torch.randint(n, (rows,), generator=generator)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_the_table(dtype: torch.dtype) -> None:
    table, rows = problem(dtype)
    got = table_rows(table, rows)
    assert got.dtype == dtype and torch.equal(got, torch.stack([table[i] for i in rows.tolist()]))


@pytest.mark.interpreter
@pytest.mark.usefixtures("poisoned_empty")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(11, 24, 29), (1, 1, 1), (3, 300, 8), (5, 768, 17), (4, 8, 0)])
def test_the_kernel_equals_the_law(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    from odmt_fast.kernels.table_rows.fwd import table_rows_fwd

    table, rows = problem(dtype, *shape)
    assert torch.equal(table_rows_fwd(table, rows), table[rows])


def test_wrong_arguments_are_named() -> None:
    table, rows = problem(torch.float32)
    with pytest.raises(ValueError, match=r"table must be contiguous \[n, d\], got \[24, 11\]"):
        table_rows(table.T, rows)
    with pytest.raises(ValueError, match=r"rows must be int64 \[P\], got torch.int32 \[29\]"):
        table_rows(table, rows.int())
    with pytest.raises(ValueError, match="table is on cpu, rows on meta; put both on one device"):
        table_rows(table, rows.to("meta"))
    with pytest.raises(ValueError, match="table is on cpu, rows on cuda:1"):
        table_rows(table, rows.as_subclass(OnGpu))  # not page-locked


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_pinned", lambda self: True)


def test_a_gpu_reads_a_page_locked_table_by_the_kernel(
    pinned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fwd = pytest.importorskip(f"{package.__name__}.fwd")
    table, rows = problem(torch.float32)
    given = []
    monkeypatch.setattr(fwd, "table_rows_fwd", lambda *both: given.append(both))
    table_rows(table, rows.as_subclass(OnGpu))
    assert given[0][0] is table


def test_a_page_locked_table_needs_triton(pinned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "triton_missing", lambda _: "triton is not installed")
    table, rows = problem(torch.float32)
    with pytest.raises(RuntimeError, match="the table is in host memory.*triton is not installed"):
        table_rows(table, rows.as_subclass(OnGpu))
