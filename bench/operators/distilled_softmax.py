"""The loss: both engines, the reference eager and compiled, and what comes nearest elsewhere.

No host time is counted on a GPU (bench.stopwatch), so that the compiled reference is timed as if it
were replayed from a CUDA graph. Between the sizes with rivals and beyond them stand both engines
alone: the first number of chunks at which the one without logits is the faster belongs into
`STORED_CHUNKS` of kernels/distilled_softmax/configs.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from bench.operators.batches import BRANCHES, LossCase
from bench.operators.case import CannotRun, Run, Setting, Tensors, Variant, Work, leaf
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.distilled_softmax import distilled_softmax
from odmt_fast.kernels.distilled_softmax.op import MEMORY_BUDGET_BYTES
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax as reference
from odmt_fast.models.losses.distilled import edges

TAU = 0.3
WEIGHT = 0.5


def cases(setting: Setting) -> Iterator[LossCase]:
    """Batches of users, the official size first; then both engines where they may cross."""
    for users in setting.size(tiny=(4,), cpu=(64, 512), cuda=(128, 1024, 8192)):
        yield DistilledSoftmax(setting, users)
    for users in setting.size(tiny=(6,), cpu=(), cuda=(3072, 16384)):
        yield DistilledSoftmax(setting, users, rivals=False)


@dataclass(frozen=True)
class DistilledSoftmax(LossCase):
    """One batch; the floor is every product of scores once and of gradients twice."""

    operator = "distilled_softmax"
    rivals: bool = True

    @property
    def work(self) -> Work:
        """Logits need not be stored."""
        return Work(3 * self.product, 3 * self.input_bytes)

    def variants(self) -> Iterator[Variant]:
        """The reference first, where it fits."""
        if self.rivals:
            yield Variant("reference, eager", partial(self._run, reference))
        yield Variant("ours", partial(self._run, distilled_softmax))
        if self.setting.cuda:
            for name, backend in (("stored (CUDA)", "cuda"), ("never stored (Triton)", "triton")):
                engine = partial(_forced, backend)
                yield Variant(f"ours, logits {name}", partial(self._run, engine), self._chunks())
        if self.rivals:
            yield from self.compiled("reference, torch.compile", self._run, reference)
        if self.rivals and (self.setting.cuda or self.setting.tiny):
            lacks = "lacks gradients of the teachers, history of the user, multiplicity of columns"
            yield Variant("Liger chunked JSD x 3", self._liger, lacks)
            lacks = "lacks all distillation, popularity, history, multiplicity of columns"
            yield Variant("cut-cross-entropy x 3", self._cut_cross_entropy, lacks)

    def _chunks(self) -> str:
        rows = self.workload.batch.n_rows
        logits = 2 * BRANCHES * rows * self.workload.batch.items.shape[0]
        return f"{logits / MEMORY_BUDGET_BYTES:.1f} chunks of logits"

    def _run(self, function: Callable[..., Tensors]) -> Run:
        upstream = (
            torch.ones(BRANCHES, device=self.setting.device),
            torch.full((BRANCHES,), WEIGHT, device=self.setting.device),
        )
        pairs, leaves = edges(BRANCHES), leaf(*self.tensors)
        return Run(
            lambda: function(*leaves, self.candidates, tau=TAU, edges=pairs), leaves, upstream
        )

    def _liger(self) -> Run:
        """Three calls of its chunked linear JSD with beta 0, one per edge, its hard loss as CE."""
        try:
            from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
        except ImportError as error:
            raise CannotRun(f"not installed ({error})") from None
        loss = LigerFusedLinearJSDLoss(
            1.0, TAU**2 * WEIGHT, beta=0.0, temperature=TAU, compiled=not self.setting.tiny
        )
        queries, items = leaf(*self.tensors)
        bias = (-self.candidates.log_p).to(queries.dtype)

        def forward() -> Tensors:
            # The ensemble's logits are one product of the branches side by side.
            all_queries = torch.cat(tuple(queries.detach() / BRANCHES), 1)
            teachers = {-1: (all_queries, torch.cat(tuple(items.detach()), 1))}
            teachers |= {t: (queries[t].detach(), items[t].detach()) for t in range(BRANCHES)}
            return tuple(
                loss(queries[s], items[s], *teachers[t], self.candidates.targets, bias, bias).to(
                    queries.dtype
                )
                for s, t in edges(BRANCHES)
            )

        ones = tuple(queries.new_ones(()) for _ in edges(BRANCHES))
        return Run(forward, (queries, items), ones, None)

    def _cut_cross_entropy(self) -> Run:
        """Three calls: the hard terms only."""
        try:
            from cut_cross_entropy import linear_cross_entropy
        except ImportError as error:
            raise CannotRun(f"not installed ({error})") from None
        queries, items = leaf(*self.tensors)
        kind = "torch_compile" if self.setting.tiny else "cce"

        def forward() -> Tensors:
            return tuple(
                linear_cross_entropy(u, e, self.candidates.targets, impl=kind).float()
                for u, e in zip(queries, items, strict=True)
            )

        ones = tuple(torch.ones((), device=queries.device) for _ in range(BRANCHES))
        return Run(forward, (queries, items), ones, None)


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """One backend for every operator called inside."""
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    os.environ[ENVIRONMENT_VARIABLE] = backend
    try:
        yield
    finally:
        del os.environ[ENVIRONMENT_VARIABLE]
        if before is not None:
            os.environ[ENVIRONMENT_VARIABLE] = before


def _forced(backend: str, *arguments: object, **options: object) -> Tensors:
    with forced(backend):
        return distilled_softmax(*arguments, **options)  # type: ignore[arg-type]
