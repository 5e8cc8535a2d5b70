"""Clipping and AdamW of all weights of the official model, against torch's fused optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from bench.operators.case import Case, Run, Setting, Tensors, Variant, Work
from bench.workload import Workload
from odmt_fast.kernels.adamw import Entry, Tables, adamw
from odmt_fast.kernels.adamw.reference import adamw_reference

LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-4, (0.9, 0.999), 1e-8, 0.1, 5.0
NORM = 1.0
"""Of all gradients: clipping multiplies by one, and every step has the same gradients."""


def cases(setting: Setting) -> Iterator[Case]:
    """On a GPU; on a CPU the engine takes torch's own."""
    if setting.tiny:
        yield AdamW(setting, Workload(users=4, width=32, steps=5, text_tokens=9, items=40))
    elif setting.cuda:
        yield AdamW(setting, Workload(users=128))


@dataclass(frozen=True)
class AdamW(Case):
    """Weights in fp32, random gradients.

    Where activations are 16 bits wide the weights of linear maps are copied to them too, as the
    next forward pass wants them.
    """

    operator = "adamw"
    workload: Workload

    @property
    def label(self) -> str:
        """The model; the ID table has the items of a batch."""
        copies = "" if self.setting.dtype == torch.float32 else f", {self.setting.name} copies"
        return f"all weights at width {self.workload.width}{copies}"

    @cached_property
    def weights(self) -> Tensors:
        """Of the model, as it begins."""
        parameters = self.workload.engine().parameters()
        return tuple(p.detach().to(self.setting.device) for p in parameters if p.requires_grad)

    @cached_property
    def gradients(self) -> Tensors:
        """Of one step."""
        torch.manual_seed(0)
        count = sum(weight.numel() for weight in self.weights)
        return tuple(torch.randn_like(w) * (NORM * count**-0.5) for w in self.weights)

    def copied(self, weights: Tensors) -> Tensors:
        """Those of linear maps, where they are wanted narrow."""
        return (
            () if self.setting.dtype == torch.float32 else tuple(w for w in weights if w.dim() > 1)
        )

    @property
    def work(self) -> Work:
        """Gradients read twice (the norm needs all), weights and moments read and written once."""
        count = sum(weight.numel() for weight in self.weights)
        copies = sum(weight.numel() for weight in self.copied(self.weights))
        return Work(0.0, 32.0 * count + self.setting.dtype.itemsize * copies)

    def variants(self) -> Iterator[Variant]:
        """The reference first."""
        yield Variant("reference, eager", partial(self._entries, adamw_reference))
        yield Variant("ours", self._ours)
        yield Variant("torch, clip_grad_norm_ and AdamW", partial(self._torch, fused=False))
        yield Variant("torch, clip_grad_norm_ and fused AdamW", partial(self._torch, fused=True))

    def _run(self, step: Callable[[], Tensor], weights: Tensors) -> Run:
        """`step` returns the norm; the weights are compared as the first step leaves them."""
        step()
        first = tuple(weight.detach().clone() for weight in weights)
        return Run(step, comparable=lambda results: (results[0], *first))

    def _entries(self, function: Callable[..., Tensor], **options: object) -> Run:
        weights = tuple(weight.clone() for weight in self.weights)
        narrow = {id(w): w.to(self.setting.dtype) for w in self.copied(weights)}
        entries = [
            Entry(w, g, torch.zeros_like(w), torch.zeros_like(w), 0, narrow.get(id(w)))
            for w, g in zip(weights, self.gradients, strict=True)
        ]
        device = self.setting.device
        steps = torch.zeros(len(entries), device=device)
        settings = torch.tensor([[LR, *BETAS, EPS, WEIGHT_DECAY]], dtype=torch.float64)
        settings = settings.to(device)
        return self._run(
            lambda: function(entries, steps, settings, clip_norm=CLIP, **options), weights
        )

    def _ours(self) -> Run:
        return self._entries(adamw, tables=Tables())

    def _torch(self, *, fused: bool) -> Run:
        weights = [nn.Parameter(weight.clone()) for weight in self.weights]
        for weight, gradient in zip(weights, self.gradients, strict=True):
            weight.grad = gradient.clone()
        settings = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": WEIGHT_DECAY}
        optimizer = torch.optim.AdamW(weights, fused=fused, **settings)  # type: ignore[arg-type]
        matrices = self.copied(tuple(weights))

        def step() -> Tensor:
            norm = nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            for matrix in matrices:
                matrix.detach().to(self.setting.dtype)
            return norm

        return self._run(step, tuple(weights))
