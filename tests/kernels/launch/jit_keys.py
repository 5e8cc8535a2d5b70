"""Training steps on tensors without storage, their Triton launches recorded, nothing compiled.

A process of its own: the interpreter must be off, and Triton's driver is replaced. Prints as JSON
how many specialisations every kernel has after the first step, and after all.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.packet import send
from odmt_fast.config import ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.distilled_softmax import op as distilled_softmax
from odmt_fast.kernels.gathered_rows import op as gathered_rows
from odmt_fast.kernels.item_tokens import op as item_tokens
from odmt_fast.kernels.launch import backends, checks
from odmt_fast.kernels.launch.device import KNOWN, assume
from odmt_fast.kernels.linear import op as linear
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build

META = torch.device("meta")
BATCHES, N_ITEMS, WIDTH, STEPS, DIMS = 50, 200, 64, 12, {"text": 48, "image": 32}


class NoDevice:
    """What a launch asks of a driver."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def recorded(keys: dict[str, set[str]]) -> None:
    """Every launch from now on adds its specialisation to `keys` instead of running."""

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        binder = self.device_caches[0][-1]
        _, specialisation, rest = binder(*args, debug=False, instrumentation_mode="", **options)
        keys[self.__name__].add(repr((specialisation, sorted(rest.items()))))

    JITFunction.run = run


def batches(sources: tuple[TokenTable, ...]) -> Iterator[Batch]:
    """No two of one size, odd and even numbers of everything."""
    rng = np.random.default_rng(0)
    for step in range(BATCHES):
        lengths = rng.integers(2, STEPS + 2, 3 + step)
        users = [rng.integers(1, N_ITEMS + 1, length).tolist() for length in lengths]
        collate = Collator(Sequences.from_lists(users), STEPS, sources)
        yield collate(np.arange(len(users)))


def model() -> tuple[SequentialModel, tuple[TokenTable, ...]]:
    """ODMT with two modalities of ragged items."""
    lengths = torch.arange(N_ITEMS + 1) % 7 + 1
    sources = {
        name: TokenTable.from_padded(
            torch.zeros(N_ITEMS + 1, 7, dim, dtype=torch.float16),
            torch.arange(7) < lengths[:, None],
        )
        for name, dim in DIMS.items()
    }
    config = ModelConfig(width=WIDTH, max_seq_len=STEPS, dropout=0.1)
    made = build(config, torch.ones(N_ITEMS + 1) / N_ITEMS, sources)
    return made.to(META), tuple(sources.values())


def main() -> None:
    """Takes the steps and prints."""
    keys: dict[str, set[str]] = defaultdict(set)
    driver.set_active(NoDevice())
    recorded(keys)
    # Tensors without storage stand for those of a GPU; neither we nor autocast would take them.
    checks.check_holds_values = lambda *_: None
    for module in (backends, distilled_softmax, gathered_rows, item_tokens, linear):
        module.triton_missing = lambda _: None
    torch.autocast = lambda *_, **__: nullcontext()
    torch.is_autocast_enabled = lambda _: False
    trained, sources = model()
    counts: list[dict[str, int]] = []
    with assume(KNOWN[90]):
        for batch in batches(sources):
            sent, _ = send(replace(batch, noise=torch.zeros(1, dtype=torch.int64)), META)
            trained(sent, 1)["loss"].backward()
            counts.append({name: len(found) for name, found in keys.items()})
    print(json.dumps([counts[0], counts[-1]]))


if __name__ == "__main__":
    main()
