"""What a training step would launch on a GPU, read off the step itself without one.

The model, the batch and every operator's launch functions run unchanged on meta tensors, which have
shapes and no values. Counted are torch's operators that do work, the Triton launches, and the calls
of the compiled extension. Milliseconds are a prediction: the larger of a launch's bytes over the
memory's rate and its FLOP over that of the matrix units; those of a Triton kernel by bytes alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.results import save
from bench.table import table
from odmt_fast import ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import PackedTokens, TokenTable
from odmt_fast.kernels.launch.device import KNOWN, assume
from odmt_fast.kernels.linear.copies import keep
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build
from odmt_fast.planning.counting import is_view, product_flop

META = torch.device("meta")
BYTES_PER_SECOND = 0.78 * 4.3e12
FLOP_PER_SECOND = 0.72 * 790e12
"""Of an H200 in bf16; the shares are what kernels of these kinds commonly reach."""
GAP_SECONDS = 1e-6
"""Between two kernels, by a graph or by a host that keeps ahead."""
NOT_LAUNCHED = {
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view",
}  # fmt: skip
WAITS = {"_local_scalar_dense", "nonzero", "unique", "_unique2", "equal", "is_nonzero"}


@dataclass(frozen=True)
class Launch:
    """One kernel, or what torch runs for one operator.

    Attributes:
        stage: of the step.
        name: of the operator or kernel.
        arguments: shapes and dtypes of tensors, and the other arguments, in words.
        bytes: of all tensors read and written, each once.
        flop: of a matrix product; 0 for everything else.
    """

    stage: str
    name: str
    arguments: str
    bytes: int
    flop: float

    @property
    def seconds(self) -> float:
        """Predicted."""
        return max(self.bytes / BYTES_PER_SECOND, self.flop / FLOP_PER_SECOND) + GAP_SECONDS


@dataclass
class _Trace(TorchDispatchMode):
    launches: list[Launch] = field(default_factory=list)
    stage: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in WAITS:
            raise RuntimeError(f"{name} waits for the device in stage {self.stage}")
        made = func(*args, **kwargs)
        if not is_view(func) and name not in NOT_LAUNCHED:
            self.add(name, (args, kwargs), made, product_flop(name, args))
        return made

    def add(self, name: str, given: Any, made: Any = (), flop: float = 0.0) -> None:
        """Notes a launch."""
        tensors = {id(x): x for x in tree_leaves((given, made)) if isinstance(x, Tensor)}
        size = sum(x.numel() * x.element_size() for x in tensors.values())
        words = [_word(x) for x in tree_leaves(given)]
        self.launches.append(Launch(self.stage, name, ", ".join(words), size, flop))


def _word(x: object) -> str:
    return f"{x.dtype}{list(x.shape)}" if isinstance(x, Tensor) else repr(x)


@contextmanager
def _as_a_gpu(trace: _Trace) -> Iterator[None]:
    """Meta tensors stand for those of an sm_90 device; launches are noted instead of made."""
    from triton.runtime import JITFunction

    from odmt_fast import _C

    def launched(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        trace.add(self.__name__, (args, options))

    def called(name: str) -> Any:
        return lambda **arguments: trace.add(name, ())

    kernels = "odmt_fast.kernels"
    nothing = {
        "torch.autocast": lambda *_, **__: nullcontext(),
        f"{kernels}.launch.checks.check_holds_values": lambda *_: None,
        f"{kernels}.launch.backends.triton_missing": lambda _: None,
        f"{kernels}.distilled_softmax.op.triton_missing": lambda _: None,
        f"{kernels}.distilled_softmax.op.cuda_extension_missing": lambda _: None,
        f"{kernels}.distilled_softmax.rows.stream": lambda _: 0,
        f"{kernels}.linear.op.triton_missing": lambda _: None,
        f"{kernels}.item_tokens.op.triton_missing": lambda _: None,
        f"{kernels}.gathered_rows.op.triton_missing": lambda _: None,
        f"{kernels}.feed_forward.gpu._one_product_runs": lambda *_: True,
        f"{kernels}.linear.products.wide_products_run": lambda *_: True,
    }
    with ExitStack() as stack:
        stack.enter_context(assume(KNOWN[90]))
        stack.enter_context(patch.object(JITFunction, "run", launched))
        for target, replacement in nothing.items():
            stack.enter_context(patch(target, replacement))
        for name in ("distilled_rows_cuda_forward", "distilled_rows_cuda_backward"):
            stack.enter_context(patch.object(_C, name, called(name), create=True))
        yield


def trace_step(model: SequentialModel, batch: Batch, dtype: torch.dtype) -> list[Launch]:
    """Launches of forward and backward; the optimiser's are not counted.

    Args:
        model: on the meta device, in training mode.
        batch: on the meta device.
        dtype: of the computation.
    """
    trace = _Trace()
    model.zero_grad(set_to_none=True)
    with ExitStack() as stack:
        stack.enter_context(_as_a_gpu(trace))
        stack.enter_context(patch.object(type(model), "_compute_dtype", lambda _: dtype))
        for name in ("items", "users", "loss"):
            part = getattr(model, name)

            def enter(_: object, __: object, name: str = name) -> None:
                trace.stage = f"{name} forward"

            def leave(_: object, __: object, made: Any, name: str = name) -> None:
                if isinstance(made, Tensor) and made.requires_grad:
                    made.register_hook(lambda _: setattr(trace, "stage", f"{name} backward"))

            stack.callback(part.register_forward_pre_hook(enter).remove)
            stack.callback(part.register_forward_hook(leave).remove)
        stack.enter_context(trace)
        trace.stage = "items forward"
        keep(model.parameters())
        model(batch, 1)  # casts the weights, whose copies the optimiser renews on the way
        trace.launches.clear()
        trace.stage = "items forward"
        loss = model(batch, 1)["loss"]
        trace.stage = "loss backward"
        loss.backward()
    return trace.launches


def meta_model(config: ModelConfig, items: int, dims: dict[str, int]) -> SequentialModel:
    """A model of `items` items whose weights have no values, in training mode."""
    sources = {
        name: TokenTable(torch.empty(items, dim), torch.arange(items + 2).clamp(min=1) - 1)
        for name, dim in dims.items()
    }
    model = build(config, torch.full((items + 1,), 0.5), sources)
    return model.to(META).train()


def full_batch(users: int = 128, items: int = 784, tokens: int = 54_891) -> Batch:
    """Full-length users of 13 items; every item has 50 image tokens, the rest are text."""
    rows, width = 12 * users, 768

    def ints(n: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(n, dtype=dtype, device=META)

    narrow = torch.int32
    features = tuple(
        PackedTokens(torch.empty(n, width, dtype=torch.float16, device=META), ints(items), longest)
        for n, longest in ((tokens - 51 * items, 30), (50 * items, 50))
    )
    return Batch(
        items=ints(items), counts=ints(items, narrow), occurrences=ints(13 * users),
        cu_seqlens=ints(users + 1, narrow), inputs=ints(rows), targets=ints(rows),
        row_user=ints(rows, narrow), positions=ints(rows),
        history_offsets=ints(users + 1, narrow), history=ints(13 * users, narrow), max_seqlen=12,
        features=features, row_scale=torch.empty(rows, device=META), dummy_users=0, noise=ints(1),
        kd_weight=torch.empty(1, dtype=torch.float64, device=META),
    )  # fmt: skip


def stages(launches: list[Launch]) -> list[dict[str, Any]]:
    """What every stage comes to, and the last row all of them."""
    rows = []
    for stage in [*dict.fromkeys(launch.stage for launch in launches), "total"]:
        own = [launch for launch in launches if stage in ("total", launch.stage)]
        rows.append(
            {
                "stage": stage,
                "launches": len(own),
                "bytes": sum(launch.bytes for launch in own),
                "flop": sum(launch.flop for launch in own),
                "predicted_seconds": sum(launch.seconds for launch in own),
            }
        )
    return rows


def section(results: dict[str, Any]) -> str:
    """The predicted table of docs/performance.md."""
    body = [
        [
            row["stage"],
            f"{row['launches']}",
            f"{row['bytes'] / 1e9:.2f}",
            f"{row['flop'] / 1e12:.2f}",
            f"{1e3 * row['predicted_seconds']:.2f}",
        ]
        for row in results["rows"]
    ]
    return "\n".join(
        [
            "## A step on a GPU, predicted",
            "",
            "**Predicted, not measured**: no GPU has run it. Forward and backward of the official "
            "model in bf16 on 128 full-length users (784 items, 54,891 tokens, 1,536 rows), run on "
            "tensors without values, every launch noted; the optimiser is not in it. A launch "
            f"takes the larger of its bytes at {BYTES_PER_SECOND / 1e12:.2f} TB/s and its FLOP at "
            f"{FLOP_PER_SECOND / 1e12:.0f} TFLOP/s (what an H200 may reach), and "
            f"{1e6 * GAP_SECONDS:.0f} us. FLOP are those of torch's matrix products: a Triton "
            "kernel counts by its bytes alone, the two passes over the rows of the loss by their "
            "launch alone, and an operator of torch as one launch though it may make several. Made "
            "by `python -m bench.launches --save`, some seconds.",
            "",
            table(["stage", "launches", "GB", "TFLOP", "predicted ms"], body),
        ]
    )


def official_step() -> list[Launch]:
    """Of the official sizes: width 768, two layers, 128 full-length users, bf16."""
    config = ModelConfig(width=768, max_seq_len=12, dropout=0.1, tau=0.3, alpha=20)
    model = meta_model(config, 5_000, {"text": 768, "image": 768})
    return trace_step(model, full_batch(), torch.bfloat16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print every launch")
    parser.add_argument("--save", action="store_true", help="keep it for docs/performance.md")
    arguments = parser.parse_args()
    found = official_step()
    if arguments.list:
        for one in found:
            print(f"{one.stage:16} {one.name:36} {one.bytes:>12,} {one.arguments}")
    rows = stages(found)
    print(section({"rows": rows}))
    if arguments.save:
        save("launches", rows)
