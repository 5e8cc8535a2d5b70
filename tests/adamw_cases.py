"""Parameters of several groups, and what torch makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from odmt_fast.kernels.adamw import Entry

SHAPES = ((5, 7), (1,), (4099,), (3, 2, 4), (0, 3), (4096,), (9000,))
GROUPS = (0, 0, 1, 1, 0, 0, 1)
SETTINGS = ((0.1, 0.9, 0.999, 1e-8, 0.1), (0.03, 0.8, 0.95, 1e-6, 0.0))


@dataclass
class Model:
    """Tensors in training, and the gradients of each step: of one tensor only in the second."""

    entries: list[Entry]
    steps: Tensor
    settings: Tensor
    gradients: list[list[Tensor]]

    def run(self, step: Callable[..., Tensor], clip_norm: float, **options: object) -> list[Tensor]:
        """Norms, then weights, moments and numbers of steps after all gradients."""
        norms = []
        for t, gradients in enumerate(self.gradients):
            given = [None if i == 2 and t != 1 else g for i, g in enumerate(gradients)]
            now = [e._replace(gradient=g) for e, g in zip(self.entries, given, strict=True)]
            norms.append(step(now, self.steps, self.settings, clip_norm=clip_norm, **options))
        tensors = [x for e in self.entries for x in (e.weight, e.exp_avg, e.exp_avg_sq)]
        return [*norms, *tensors, self.steps]


def model(dtype: torch.dtype, scale: float = 1.0, copies: torch.dtype | None = None) -> Model:
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...], factor: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * factor).to(dtype)

    weights = [drawn(shape) for shape in SHAPES]
    gradients = [[drawn(shape, scale) for shape in SHAPES] for _ in range(4)]
    entries = [
        Entry(
            weight,
            None,
            torch.zeros_like(weight),
            torch.zeros_like(weight),
            group,
            None if copies is None or i == 1 else torch.zeros_like(weight, dtype=copies),
        )
        for i, (weight, group) in enumerate(zip(weights, GROUPS, strict=True))
    ]
    settings = torch.tensor(SETTINGS, dtype=torch.float64)
    return Model(entries, torch.zeros(len(SHAPES)), settings, gradients)


def torch_run(ours: Model, clip_norm: float) -> list[Tensor]:
    """The same by torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW."""
    weights = [nn.Parameter(entry.weight.clone()) for entry in ours.entries]
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [w for w, g in zip(weights, GROUPS, strict=True) if g == i],
                "lr": lr,
                "betas": (beta1, beta2),
                "eps": eps,
                "weight_decay": decay,
            }
            for i, (lr, beta1, beta2, eps, decay) in enumerate(SETTINGS)
        ],
        foreach=False,
    )
    norms = []
    for t, gradients in enumerate(ours.gradients):
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            weight.grad = None if i == 2 and t != 1 else gradient.clone()
        norms.append(nn.utils.clip_grad_norm_(weights, clip_norm))
        optimizer.step()
    tensors, steps = [], []
    for weight in weights:
        state = optimizer.state[weight]
        tensors += [weight.detach(), state["exp_avg"], state["exp_avg_sq"]]
        steps.append(float(state["step"]))
    return [*norms, *tensors, torch.tensor(steps)]
