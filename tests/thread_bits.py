"""Whether this machine's matmul gives the same bits for one thread and for two; measured."""

from __future__ import annotations

from functools import cache

import pytest
import torch


@cache
def _product_that_differs() -> str | None:
    generator = torch.Generator().manual_seed(1)
    allowed = torch.get_num_threads()
    try:
        for rows in (64, 200, 512):
            for inner, outer in ((16, 48), (16, 64), (64, 16), (64, 256), (128, 128)):
                x, dy, w = (
                    torch.randn(shape, generator=generator)
                    for shape in ((rows, inner), (rows, outer), (outer, inner))
                )
                products = []
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    products.append((x @ w.t(), dy @ w, dy.t() @ x))
                if any(not torch.equal(*pair) for pair in zip(*products, strict=True)):
                    return f"{rows} rows, {inner} to {outer}"
    finally:
        torch.set_num_threads(allowed)
    return None


def skip_where_products_depend_on_threads() -> None:
    """MKL's kernels for AVX2 do; those for AVX-512 do not."""
    if where := _product_that_differs():
        pytest.skip(f"torch's own fp32 product depends on the number of threads here ({where})")
