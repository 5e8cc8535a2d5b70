"""A training step whose forward and backward are one graph of torch.compile.

Compiled are the item encoder, the user encoders, the loss, and the gradients of all three: linear
maps, activations and index operations become Inductor's code, and our operators (attention, norms,
dropout, the loss) stay what they are, custom ops that a graph sees as one node each. Not compiled
are the loader, clipping and AdamW, which on a GPU are one kernel already, and validation.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config

_MOST_GRAPHS = 64
_COMPILER = ("torch._dynamo.", "torch._inductor.", "torch._functorch.")


def compiled(model: nn.Module, config: Config, processes: int = 1) -> nn.Module:
    """`model` to call in a training step, compiled where ``training.compile`` asks for it.

    Sizes are symbols of the graph, so that batches of other sizes need no other, but where one is 1
    or equals another one by chance; the first batch compiles, which takes a minute or more.

    Raises:
        ValueError: ``training.compile`` does not go with another setting.
    """
    if not config.training.compile:
        return model
    settings = config.training
    reasons = {
        "training.recompute=True reads lengths on the host": settings.recompute,
        "training.micro_items reads lengths on the host": settings.micro_items is not None,
        "training.float8=True tries the device's products": settings.float8,
        "model.id_table=sparse has gradients of some rows": config.model.id_table == "sparse",
        f"{processes} processes exchange gradients in the backward": processes > 1,
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise ValueError(
            f"training.compile=True makes one graph of a step, and {reason}; use --set "
            "training.compile=false, or change that"
        )
    return CompiledModel(model)


class CompiledModel(nn.Module):
    """Calls `model` as one graph; parameters and mode are the model's own.

    Args:
        model: called with a batch and the epoch.
        backend: of torch.compile.
    """

    def __init__(self, model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
        super().__init__()
        self.model = model
        options: dict[str, Any] = {"fullgraph": True, "dynamic": True, "backend": backend}
        # Torch 2.13 lets a run have more graphs than eight, after which it stops.
        if "recompile_limit" in signature(torch.compile).parameters:
            options["recompile_limit"] = _MOST_GRAPHS
        self._graph = torch.compile(model, **options)

    def forward(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """The model's terms.

        Raises:
            RuntimeError: torch.compile cannot make one graph of the model, or no code of it.
        """
        try:
            # The arrays of a batch lie in one block; a graph would be bound to where in it.
            terms: Any = self._graph(batch.map(torch.clone), epoch)
        except Exception as error:
            if not f"{type(error).__module__}.".startswith(_COMPILER):
                raise
            raise RuntimeError(
                f"torch.compile failed on {type(self.model).__name__} ({type(error).__name__}: "
                f"{str(error).strip().splitlines()[0]}); train with --set training.compile=false"
            ) from error
        return dict(terms)
