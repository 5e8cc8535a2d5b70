"""The backend of a Transformer operator, given the tensors it works on.

On top of what a machine has (`kernels.backend`) the dtype decides: the Triton kernels take float32,
bfloat16 and float16, as xformers does, the C++ code float32 and bfloat16, the reference everything.
float64 therefore always runs the reference, unless another backend is forced: then it raises.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import torch

from odmt_fast.kernels.backend import (
    Missing,
    choose,
    extension_missing,
    runs_anywhere,
    triton_missing,
    xformers_missing,
)

TRITON_DTYPES = CUDA_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CPU_DTYPES = (torch.float32, torch.bfloat16)
NO_XFORMERS = "it has no such backend"


@cache
def _cpu_module_error(op: str) -> str | None:
    try:
        import_module(f"odmt_fast.kernels.{op}.cpu")
    except ImportError as error:
        return f"odmt_fast.kernels.{op}.cpu cannot be imported ({error})"
    return None


def dtype_missing(dtype: torch.dtype, known: tuple[torch.dtype, ...]) -> str | None:
    """Why a backend for the `known` dtypes cannot run; None when it can."""
    return None if dtype in known else f"it takes {', '.join(map(str, known))}; got {dtype}"


def choose_backend(
    op: str,
    device_type: str,
    dtype: torch.dtype,
    triton_limit: str | None = None,
    fallback: str = "reference",
    xformers_limit: str | None = NO_XFORMERS,
) -> str:
    """ "triton", "cpu", `fallback` or "reference" for operator `op`; "xformers" where it is forced.

    Args:
        op: the operator's folder name.
        device_type: of the tensors.
        dtype: of the data.
        triton_limit: why the Triton kernels do not take these shapes; None when they do.
        fallback: what runs where neither does: torch operators, the reference or better ones.
        xformers_limit: why xformers does not take these arguments; None when it does. By default
            the operator has no such backend.

    Raises:
        RuntimeError: the backend forced by ODMT_FAST_BACKEND cannot run here.
    """
    return str(_chosen(op, device_type, dtype, triton_limit, fallback, xformers_limit))


# A compiled graph keeps the backend it was traced with.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _chosen(
    op: str,
    device_type: str,
    dtype: torch.dtype,
    triton_limit: str | None,
    fallback: str,
    xformers_limit: str | None,
) -> str:
    def triton(device_type: str) -> str | None:
        return triton_missing(device_type) or dtype_missing(dtype, TRITON_DTYPES) or triton_limit

    def cpu(device_type: str) -> str | None:
        return (
            extension_missing(device_type)
            or dtype_missing(dtype, CPU_DTYPES)
            or _cpu_module_error(op)
        )

    def xformers(device_type: str) -> str | None:
        return (
            xformers_missing(device_type) or dtype_missing(dtype, TRITON_DTYPES) or xformers_limit
        )

    last: dict[str, Missing] = {fallback: runs_anywhere, "reference": runs_anywhere}
    if xformers_limit != NO_XFORMERS:
        last["xformers"] = xformers  # behind what runs anywhere: only where it is forced
    return choose(op, device_type, {"triton": triton, "cpu": cpu, **last})
