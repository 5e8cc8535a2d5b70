"""AdamW that updates of a table of rows only those that a step read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class RowAdamW(torch.optim.AdamW):
    """AdamW; a parameter with a sparse gradient is an AdamW of its own per row.

    A row is updated in the steps that read it, as if these were all steps there are: its moments,
    its count of steps (and so its bias correction) and its weight decay stand still in the others.
    AdamW proper would go on with them: it moves a row that is not read along its old moments, and
    shrinks it by ``1 - lr weight_decay``, in every step. A step takes time and memory for the rows
    it reads, not for the table.

    State of such a parameter [n, d]: ``exp_avg`` and ``exp_avg_sq`` like it, and ``step`` fp32 [n],
    which counts exactly to 16.7 million.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates everything with a gradient; a sparse one must be coalesced.

        Raises:
            ValueError: a closure is given, which no step here needs.
        """
        if closure is not None:
            raise ValueError("RowAdamW.step takes no closure; compute the gradients before it")
        sparse: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._update_rows(parameter, group)
                    sparse.append((parameter, parameter.grad))
                    parameter.grad = None
        super().step()
        for parameter, gradient in sparse:
            parameter.grad = gradient

    def _update_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] = parameter.new_zeros(len(parameter), dtype=torch.float32)
        rows, gradient = parameter.grad.indices()[0], parameter.grad.values()
        beta_1, beta_2 = group["betas"]
        steps = state["step"][rows] + 1
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - beta_1)
        square = state["exp_avg_sq"][rows].mul_(beta_2)
        square.addcmul_(gradient, gradient, value=1 - beta_2)
        for name, values in (("step", steps), ("exp_avg", mean), ("exp_avg_sq", square)):
            state[name].index_copy_(0, rows, values)
        # Powers in float64: 0.999 ** 1 loses three digits to the subtraction in fp32.
        count = steps.double()[:, None]
        size = group["lr"] / (1 - beta_1**count)
        root = (square / (1 - beta_2**count).to(square.dtype)).sqrt_().add_(group["eps"])
        values = parameter[rows].mul_(1 - group["lr"] * group["weight_decay"])
        values.sub_(mean.div_(root).mul_(size.to(mean.dtype)))
        parameter.index_copy_(0, rows, values)


def with_dense_values(parameters: Iterable[Tensor]) -> list[Tensor]:
    """For functions that know no sparse gradients: what has one is replaced by its values.

    A sparse gradient is coalesced; a stand-in's gradient is the memory of its values, so that
    whatever scales the one scales the other.
    """
    dense = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values = parameter.grad.values()
            parameter = torch.empty_like(values)
            parameter.grad = values
        dense.append(parameter)
    return dense
