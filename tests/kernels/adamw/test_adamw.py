"""The step of AdamW behind clipping: the reference against torch's, its errors, its tables."""

from __future__ import annotations

import pytest
import torch
from adamw_cases import model, torch_run
from torch import Tensor

from odmt_fast.kernels.adamw import Entry, Tables, adamw
from odmt_fast.kernels.adamw.reference import adamw_reference
from odmt_fast.kernels.adamw.tables import Layout


@pytest.mark.parametrize("clip_norm", [1.0, float("inf")])
def test_the_reference_is_torchs(clip_norm: float) -> None:
    expected = torch_run(model(torch.float64), clip_norm)
    got = model(torch.float64).run(adamw, clip_norm, tables=Tables())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-12, atol=1e-12)


def test_the_reference_leaves_everything_where_a_gradient_overflowed() -> None:
    ours, untouched = model(torch.float32), model(torch.float32)
    ours.run(adamw_reference, 1.0, found_inf=torch.ones(1))
    for entry, before in zip(ours.entries, untouched.entries, strict=True):
        assert torch.equal(entry.weight, before.weight)
    assert not ours.steps.any()


def test_a_chunk_belongs_to_one_tensor() -> None:
    layout = Layout.of([5, 0, 8, 9], [0, 1, 0, 2], 4, torch.device("cpu"))
    assert layout.sizes.tolist() == [[5, 0, 8, 9], [0, 2, 2, 4], [0, 1, 0, 2]]
    assert layout.owner.tolist() == [0, 0, 2, 2, 3, 3, 3]


def test_tables_are_copied_when_they_change_and_only_then() -> None:
    entries, tables = model(torch.float32).entries, Tables()
    first, aligned = tables.addresses(entries)
    assert first[0].tolist() == [entry.weight.data_ptr() or 16 for entry in entries]
    assert not first[1].any() and not first[4].any() and aligned
    assert tables.addresses(entries)[0] is first
    moved = [*entries[:-1], entries[-1]._replace(gradient=torch.ones(9000))]
    assert tables.addresses(moved)[0][1, -1] == moved[-1].gradient.data_ptr()
    assert not tables.addresses([entries[0], *_shifted(entries[2])])[1]


def _shifted(entry: Entry) -> list[Entry]:
    return [entry._replace(weight=torch.zeros(4100)[1:])]


def test_what_does_not_fit_is_named() -> None:
    ours = model(torch.float32)
    entry, settings = ours.entries[0], ours.settings

    def refused(entry: Entry, match: str, steps: int = 1, settings: Tensor = settings) -> None:
        with pytest.raises(ValueError, match=match):
            adamw([entry], torch.zeros(steps), settings, clip_norm=1.0, tables=Tables())

    refused(entry, r"steps must be \[1\], got \[2\]", steps=2)
    refused(
        entry, r"settings must be torch.float64 \[G, 5\], got torch.float32", settings=ours.steps
    )
    refused(entry._replace(group=2), r"entries\[0\].group must be in 0..1, got 2")
    refused(
        entry._replace(gradient=torch.ones(7, 5).T), r"entries\[0\].gradient must .* contiguous"
    )
    refused(entry._replace(exp_avg=torch.ones(7, 5)), r"exp_avg must be torch.float32 \[5, 7\]")
    refused(entry._replace(copy=torch.ones(5, 7)), r"copy must be torch.bfloat16 or torch.float16")
    with pytest.raises(ValueError, match="at least one tensor"):
        adamw([], torch.zeros(0), settings, clip_norm=1.0, tables=Tables())
