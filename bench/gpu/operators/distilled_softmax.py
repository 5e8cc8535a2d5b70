"""The loss: both engines, the reference eager and compiled, and what comes nearest elsewhere.

No host time is counted (bench.gpu.stopwatch), so that the compiled reference is timed as if it were
replayed from a CUDA graph. Between the sizes with rivals and beyond them stand both engines alone:
the first number of chunks at which the one without logits is the faster belongs into
`STORED_CHUNKS` of kernels/distilled_softmax/configs.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from bench.gpu.case import Case, Missing, Setting, Tensors, Variant, Work
from bench.gpu.operators.batches import BRANCHES, LossProblem
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.distilled_softmax import distilled_softmax
from odmt_fast.kernels.distilled_softmax.op import MEMORY_BUDGET_BYTES
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax as reference
from odmt_fast.models.losses.distilled import edges

TAU = 0.3
WEIGHT = 0.5


def cases(setting: Setting) -> Iterator[Case]:
    """Batches of users, the official size first; then both engines where they may cross."""
    for users in (4,) if setting.tiny else (128, 1024, 8192):
        yield case(setting, users)
    for users in (6,) if setting.tiny else (3072, 16384):
        yield case(setting, users, rivals=False)


def case(setting: Setting, users: int, *, rivals: bool = True) -> Case:
    """One batch; the floor is every product of scores once and of gradients twice."""
    problem = LossProblem.of(setting, users)
    inputs = problem.input_bytes
    work = Work((problem.product, 2 * problem.product), (inputs, 2 * inputs))
    chunks = problem.logits_bytes / MEMORY_BUDGET_BYTES
    label = f"{users:,} users: {problem.label}, {chunks:.1f} chunks of logits"
    made = variants(setting, problem) if rivals else engines(setting, problem)
    return Case("distilled_softmax", label, work, made)


def engines(setting: Setting, problem: LossProblem) -> Iterator[Variant]:
    """What is chosen, and on a GPU each engine by force."""
    yield _variant(setting, problem, "ours", distilled_softmax)
    if setting.device.type == "cuda":
        for name, backend in (("stored (CUDA)", "cuda"), ("never stored (Triton)", "triton")):
            forced_one = partial(_forced, backend)
            yield _variant(setting, problem, f"ours, logits {name}", forced_one)


def _variant(
    setting: Setting,
    problem: LossProblem,
    name: str,
    function: Callable[..., Tensors],
    *,
    slow_start: bool = False,
) -> Variant:
    upstream = (
        torch.ones(BRANCHES, device=setting.device),
        torch.full((BRANCHES,), WEIGHT, device=setting.device),
    )
    pairs, leaves = edges(BRANCHES), problem.leaves()
    return Variant(
        name,
        lambda: function(*leaves, problem.columns, tau=TAU, edges=pairs),
        leaves,
        upstream,
        slow_start=slow_start,
    )


def variants(setting: Setting, problem: LossProblem) -> Iterator[Variant | Missing]:
    """The reference first."""
    yield _variant(setting, problem, "reference, eager", reference)
    yield from engines(setting, problem)
    compiled = setting.compiled(reference)
    yield _variant(setting, problem, "reference, torch.compile", compiled, slow_start=True)
    yield liger(setting, problem)
    yield cut_cross_entropy(setting, problem)


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


def liger(setting: Setting, problem: LossProblem) -> Variant | Missing:
    """Three calls of Liger's chunked linear JSD with beta 0, one per edge, its hard loss as CE."""
    lacks = "lacks gradients of the teachers, history of the user, multiplicity of columns"
    try:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    except ImportError as error:
        return Missing("Liger chunked JSD x 3", f"not installed ({error}); {lacks}")
    loss = LigerFusedLinearJSDLoss(
        1.0, TAU**2 * WEIGHT, beta=0.0, temperature=TAU, compiled=not setting.tiny
    )
    queries, items = problem.leaves()
    bias = (-problem.columns.log_p).to(queries.dtype)

    def forward() -> Tensors:
        # The ensemble's logits are one product of the branches side by side.
        all_queries = torch.cat(tuple(queries.detach() / BRANCHES), 1)
        teachers = {-1: (all_queries, torch.cat(tuple(items.detach()), 1))}
        teachers |= {t: (queries[t].detach(), items[t].detach()) for t in range(BRANCHES)}
        return tuple(
            loss(queries[s], items[s], *teachers[t], problem.columns.targets, bias, bias)
            for s, t in edges(BRANCHES)
        )

    ones = tuple(
        torch.ones((), dtype=queries.dtype, device=queries.device) for _ in edges(BRANCHES)
    )
    return Variant(
        "Liger chunked JSD x 3",
        lambda: tuple(term.to(queries.dtype) for term in forward()),
        (queries, items),
        ones,
        None,
        lacks,
    )


def cut_cross_entropy(setting: Setting, problem: LossProblem) -> Variant | Missing:
    """Three calls of cut-cross-entropy: the hard terms only."""
    lacks = "lacks all distillation, popularity, history of the user, multiplicity of columns"
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ImportError as error:
        return Missing("cut-cross-entropy x 3", f"not installed ({error}); {lacks}")
    queries, items = problem.leaves()
    kind = "torch_compile" if setting.tiny else "cce"

    def forward() -> Tensors:
        return tuple(
            linear_cross_entropy(u, e, problem.columns.targets, impl=kind).float()
            for u, e in zip(queries, items, strict=True)
        )

    ones = tuple(torch.ones((), device=queries.device) for _ in range(BRANCHES))
    return Variant("cut-cross-entropy x 3", forward, (queries, items), ones, None, lacks)
