"""What people read of an error."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.cli.errors import one_line


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 42949672960 bytes. Error code 12"
            ),
            " for a tensor of 40.00 GiB",
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of ..."
            ),
            " for a tensor of 2.50 GiB",
        ),
        (MemoryError(), ""),
    ],
)
def test_out_of_memory_names_the_remedy(error: BaseException, asked: str) -> None:
    assert one_line(error) == (
        f"out of memory{asked}; lower --set training.batch_size (for train) or "
        "evaluation.batch_size, or set training.micro_items=256"
    )


def test_torch_says_it_in_these_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert one_line(caught.value).startswith("out of memory for a tensor of 1073741824.00 GiB; ")
