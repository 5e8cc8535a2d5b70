"""The device and the precision of a run: autocast around the loss, loss scaling for fp16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from odmt_fast.config import Precision, TrainingConfig
from odmt_fast.kernels.linear.float8 import float8_missing
from odmt_fast.kernels.linear.libraries import current
from odmt_fast.processes import launched, local_device

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_device(name: str) -> torch.device:
    """The device that ``training.device`` names; ``auto`` is a GPU, or else the CPU.

    Without a number it is the first GPU, or of several processes the one of this process.

    Raises:
        ValueError: the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if device.index is not None and launched().count > 1:
            raise ValueError(
                f"training.device={name!r} is one device for {launched().count} processes; use "
                "'cuda', which gives each its own"
            )
        device = torch.device("cuda", local_device() if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise ValueError(
                f"training.device={str(device)!r} does not exist: torch sees "
                f"{torch.cuda.device_count()} CUDA devices; use 'auto' or 'cpu', and not more "
                "processes than devices"
            )
    return device


def resolve(precision: Precision, device: torch.device) -> Precision:
    """The precision that ``training.precision`` means on `device`.

    ``auto`` is bf16 where products of bf16 are fast (CUDA from sm_80, CPUs with an instruction for
    them, as measured), else fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and current().bf16_is_fast else "fp32"


def check_float8(settings: TrainingConfig, device: torch.device) -> None:
    """Raises ValueError where ``training.float8`` is set and cannot be had."""
    if not settings.float8:
        return
    if settings.precision != "bf16":
        raise ValueError(
            f"training.float8=True goes with training.precision=bf16, got {settings.precision}; "
            "use --precision bf16, or --set training.float8=false"
        )
    if (missing := float8_missing(device)) is not None:
        raise ValueError(f"training.float8=True: {missing}; use --set training.float8=false")


@contextmanager
def products_of_fp32(precision: Precision) -> Iterator[None]:
    """Within it torch multiplies fp32 on a GPU by TF32 where `precision` is tf32, else exactly."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class MixedPrecision:
    """How the steps of a run compute: fp32, or bf16/fp16 by autocast with fp32 weights.

    tf32 is fp32 but for the products (`products_of_fp32`).

    fp16 gradients underflow, so their loss is scaled (``torch.amp.GradScaler``), and a step whose
    gradients overflow is left out and the scale lowered; that is no error.

    Raises:
        ValueError: fp16 or tf32 on the CPU, which has no arithmetic for it.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if precision in ("fp16", "tf32") and device.type == "cpu":
            raise ValueError(
                f"training.precision={precision!r} needs a GPU; use 'bf16' or 'fp32' on cpu"
            )
        self._device = device
        self._dtype = _DTYPES.get(precision)
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None

    @property
    def skips_overflows(self) -> bool:
        """Whether a step with infinite gradients is left out instead of being an error."""
        return self._scaler is not None

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Leaves the unscaled gradients of `loss` in the parameters."""
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, **arguments: Any) -> None:
        """Updates the weights, `arguments` to the optimiser; in fp16 if no gradient overflowed."""
        if self._scaler is None:
            optimizer.step(**arguments)
            return
        self._scaler.step(optimizer, **arguments)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """What a resumed run needs to know; numbers only."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from `state`."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)
