"""AdamW that clips on the way: all tensors of a model in three launches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.adamw import Entry, Resident, Tables, adamw
from odmt_fast.kernels.linear.copies import Kept, keep


class ClippingAdamW(torch.optim.AdamW):
    """torch.optim.AdamW whose step clips the norm of the gradients first (`kernels/adamw`).

    State and settings are torch's: a ``state_dict`` of either goes into the other. Step numbers are
    on the device. Linear maps read the narrow copies of the weights that a step leaves behind.

    Args:
        parameters: float32, contiguous, on one device; tensors or groups.
        lr: learning rate; a tensor on the device may change without a launch being made anew.
        weight_decay: decoupled.
        betas: decay of the means of the gradients and of their squares.
        eps: added to the root of the mean square.

    Attributes:
        gradient_norm: [] float32, of all gradients before the last step clipped them.
    """

    gradient_norm: Tensor

    def __init__(
        self,
        parameters: Iterable[Any],
        *,
        lr: float | Tensor,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
        )
        self._begin()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            for flag in ("amsgrad", "maximize"):
                if group.get(flag):
                    raise ValueError(f"ClippingAdamW has no {flag}; load it into torch.optim.AdamW")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._begin()

    def _begin(self) -> None:
        self._tables, self._settings = Tables(), Resident(torch.float64)
        self._stepped: dict[Tensor, Kept] = {}

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, *, clip_norm: float = math.inf
    ) -> float | None:
        """Clips and updates every parameter with a gradient, which keeps its value.

        Waits for no device. In fp16 the gradients must be unscaled before
        (``GradScaler.unscale_``); a step whose gradients overflowed changes nothing.

        Args:
            closure: computes the loss and its gradients first.
            clip_norm: limit of the 2-norm of all gradients together.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if getattr(self, "grad_scale", None) is not None:
            raise ValueError("the gradients are scaled; call scaler.unscale_(optimizer) first")
        entries = self._entries()
        if not entries:
            raise ValueError("no parameter has a gradient; call backward() before step()")
        self.gradient_norm = adamw(
            entries,
            self._steps,
            self._group_settings(entries[0].weight.device),
            clip_norm=clip_norm,
            tables=self._tables,
            found_inf=getattr(self, "found_inf", None),
        )
        for entry in entries:
            if entry.copy is not None:
                self._stepped[entry.weight].rewritten(entry.weight, entry.copy)
        return loss

    def _entries(self) -> list[Entry]:
        """The parameters that have or had a gradient; `_steps` counts their steps in this order."""
        groups = [(p, i) for i, group in enumerate(self.param_groups) for p in group["params"]]
        known = [(p, i) for p, i in groups if p.grad is not None or self.state.get(p)]
        if len(known) != len(self._stepped):
            self._adopt([p for p, _ in known])
        narrow = [self._stepped[p].current(p) for p, _ in known]
        dtype = next((copy.dtype for copy in narrow if copy is not None), None)
        return [
            Entry(
                p,
                None if p.grad is None else p.grad.contiguous(),
                self.state[p]["exp_avg"],
                self.state[p]["exp_avg_sq"],
                group,
                copy if copy is not None and copy.dtype == dtype else None,
            )
            for (p, group), copy in zip(known, narrow, strict=True)
        ]

    def _adopt(self, parameters: list[Tensor]) -> None:
        """Begins the state of new parameters, and puts all step numbers into one tensor."""
        for p in parameters:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        steps = [self.state[p]["step"].to(p.device, torch.float32) for p in parameters]
        self._steps = torch.stack(steps) if steps else torch.zeros(0)
        for p, step in zip(parameters, self._steps.unbind(), strict=True):
            self.state[p]["step"] = step
        self._stepped = dict(zip(parameters, keep(parameters), strict=True))

    def _group_settings(self, device: torch.device) -> Tensor:
        """float64 [G, 5]: lr, betas, eps, weight decay."""
        rates = [group["lr"] for group in self.param_groups]
        values = tuple(
            (
                0.0 if isinstance(lr, Tensor) else float(lr),
                *map(float, group["betas"]),
                float(group["eps"]),
                float(group["weight_decay"]),
            )
            for lr, group in zip(rates, self.param_groups, strict=True)
        )
        settings = self._settings.of(values, device)
        for row, lr in zip(settings, rates, strict=True):
            if isinstance(lr, Tensor):
                row[0].copy_(lr, non_blocking=True)
        return settings
