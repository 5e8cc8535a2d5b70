"""Which implementation of an operator runs: the fastest that can, or the one that is forced.

``ODMT_FAST_BACKEND=reference|cpu|triton|cuda|xformers`` forces one for every operator that has it;
a forced backend that cannot run raises and names what is missing. Operators without that backend
(`batch_index` runs on the CPU only) keep their own choice; xformers is never anybody's own choice.
Only ``op.py`` files call `choose`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

BACKENDS = ("reference", "cpu", "triton", "cuda", "xformers")
ENVIRONMENT_VARIABLE = "ODMT_FAST_BACKEND"

Missing = Callable[[str], str | None]
"""device type -> why the backend cannot run on it, or None when it can."""
Watcher = Callable[[str, str, str, Mapping[str, Missing]], None]
"""(operator, device type, chosen backend, candidates) -> nothing."""

_watcher: Watcher | None = None


def forced() -> str | None:
    """The backend named by the environment, checked; None when nothing is forced."""
    name = os.environ.get(ENVIRONMENT_VARIABLE) or None
    if name is not None and name not in BACKENDS:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE}={name!r} is not a backend; use one of {', '.join(BACKENDS)}"
        )
    return name


def choose(op: str, device_type: str, candidates: Mapping[str, Missing]) -> str:
    """The name of the backend of `op` to run for tensors on `device_type`.

    Args:
        op: operator name, for the message.
        device_type: ``tensor.device.type``.
        candidates: backend name -> its `Missing` check, fastest first.

    Raises:
        RuntimeError: the forced backend cannot run here; the message says what is missing.
    """
    name = forced()
    if name is None or name not in candidates:
        name = next(n for n, missing in candidates.items() if missing(device_type) is None)
    elif (reason := candidates[name](device_type)) is not None:
        raise RuntimeError(f"{ENVIRONMENT_VARIABLE}={name}: {op} cannot run: {reason}")
    if _watcher is not None:
        _watcher(op, device_type, name, candidates)
    return name


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tells `watcher` of every choice of this process, in whichever thread it is made."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


def runs_anywhere(device_type: str) -> str | None:
    """`Missing` check of a backend made of torch operators."""
    return None


@cache
def _extension_error() -> str | None:
    try:
        from odmt_fast import _C  # noqa: F401
    except ImportError as error:
        return (
            f"the compiled extension odmt_fast._C is not available ({error}); "
            "reinstall with a C++ compiler on the PATH and ODMT_FAST_EXT=cpu"
        )
    return None


def extension_missing(device_type: str) -> str | None:
    """`Missing` check of the C++ extension's CPU side."""
    if device_type != "cpu":
        return f"the cpu backend takes CPU tensors, got {device_type}"
    return _extension_error()


@cache
def _cuda_extension_error() -> str | None:
    error = _extension_error()
    if error is not None:
        return error
    from odmt_fast import _C

    if hasattr(_C, "distilled_rows_cuda_forward"):
        return None
    return "odmt_fast._C was built without CUDA; reinstall with nvcc and ODMT_FAST_EXT=cuda"


def cuda_extension_missing(device_type: str) -> str | None:
    """`Missing` check of the C++ extension's CUDA side."""
    if device_type != "cuda":
        return f"the cuda backend takes CUDA tensors, got {device_type}"
    return _cuda_extension_error()


@cache
def _triton_error() -> str | None:
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"triton is not installed ({error}); pip install triton"
    return None


def triton_missing(device_type: str) -> str | None:
    """`Missing` check of a Triton kernel: a CUDA tensor, or the interpreter."""
    if _triton_error() is not None:
        return _triton_error()
    if device_type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton kernels take CUDA tensors (or TRITON_INTERPRET=1), got {device_type}"
    return None


@cache
def _xformers_error() -> str | None:
    try:
        import xformers.ops  # noqa: F401
    except ImportError as error:
        return f"xformers is not installed ({error}); pip install 'odmt_fast[xformers]'"
    return None


def xformers_missing(device_type: str) -> str | None:
    """`Missing` check of xformers, which is imported for tensors it could take only."""
    if device_type != "cuda":
        return f"xformers takes CUDA tensors, got {device_type}"
    return _xformers_error()
