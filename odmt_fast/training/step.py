"""One training step: forward, backward, clipping, update."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from odmt_fast.batch.batch import Batch
from odmt_fast.config import TrainingConfig
from odmt_fast.kernels.adamw import runs_fast
from odmt_fast.training.optimizer import ClippingAdamW
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.row_adamw import RowAdamW, with_dense_values


def adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """The official optimiser: AdamW, one group, weight decay on every parameter.

    On a GPU it clips the gradients itself, in one pass with the update. A sparse embedding is
    updated row by row (`RowAdamW`).

    Source: official ``main.py::train``.

    Raises:
        ValueError: nothing is to be trained, or a sparse embedding in fp16.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model has no parameter that requires a gradient; nothing can be trained")
    sparse = any(isinstance(m, nn.Embedding) and m.sparse for m in model.modules())
    if sparse and config.precision == "fp16":
        # A fused AdamW is told of an overflow and leaves the step out by itself; rows are not.
        raise ValueError(
            "training.precision=fp16 does not go with model.id_table=sparse; use bf16 or fp32"
        )
    lr, weight_decay = config.learning_rate, config.weight_decay
    if not sparse and runs_fast(parameters):
        return ClippingAdamW(parameters, lr=lr, weight_decay=weight_decay)
    devices = {p.device.type for p in parameters}
    return (RowAdamW if sparse else torch.optim.AdamW)(
        parameters,
        lr=lr,
        weight_decay=weight_decay,
        fused=devices <= {"cpu", "cuda"},
        capturable=devices == {"cuda"},
    )


class TrainingStep:
    """Updates the weights of `model` by one batch.

    Args:
        model: called with a batch and the epoch it gives named terms, ``"loss"`` to minimise; of
            several processes one that averages their gradients (`averaging`).
        optimizer: over the model's parameters.
        precision: autocast and loss scaling.
        clip_norm: limit of the 2-norm of all gradients together.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: MixedPrecision,
        clip_norm: float,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._precision = precision
        self._clip_norm = clip_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def __call__(self, batch: Batch, epoch: float) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms and the gradient norm before clipping; waits for no device."""
        self._optimizer.zero_grad(set_to_none=True)
        with record_function("forward"), self._precision.autocast():
            terms: dict[str, Tensor] = self._model(batch, epoch)
        if batch.weight is not None:
            terms = {name: term * batch.weight[0].to(term.dtype) for name, term in terms.items()}
        with record_function("backward"):
            self._precision.backward(terms["loss"], self._optimizer)
        with record_function("optimizer"):
            norm = self._update()
        return terms, norm

    def _update(self) -> Tensor:
        """Clips, updates, and returns the norm before clipping."""
        if isinstance(self._optimizer, ClippingAdamW):
            self._precision.step(self._optimizer, clip_norm=self._clip_norm)
            return self._optimizer.gradient_norm
        norm = nn.utils.clip_grad_norm_(with_dense_values(self._parameters), self._clip_norm)
        self._precision.step(self._optimizer)
        return norm
