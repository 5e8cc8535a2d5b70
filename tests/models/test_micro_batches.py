"""Items in micro-batches: the forward of one pass bit for bit, its gradients but for the order of
their sums. Their memory: tests/bench/test_micro_items.py."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config, ModelConfig
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build

N_ITEMS = 23


def made(
    dtype: torch.dtype, modalities: tuple[str, ...] = ("text", "image"), width: int = 16
) -> tuple[SequentialModel, Batch]:
    """A model of two layers with much dropout, and a batch of 6 users."""
    generator = torch.Generator().manual_seed(3)
    sources = {}
    for name in modalities:
        tokens = torch.randn(N_ITEMS + 1, 4, 5, dtype=dtype, generator=generator)
        lengths = torch.randint(1, 5, (N_ITEMS + 1,), generator=generator)
        sources[name] = TokenTable.from_padded(tokens, torch.arange(4) < lengths[:, None])
    config = ModelConfig(width=width, max_seq_len=6, imt_layers=2, dropout=0.4)
    popularity = torch.ones(N_ITEMS + 1) / N_ITEMS
    model = build(config, popularity, sources, generator=generator).to(dtype).train()
    items = torch.randint(1, N_ITEMS + 1, (36,), generator=generator)
    batch = Batch(**batch_index(items, torch.full((6,), 6), 6)._asdict(), noise=torch.tensor([7]))
    return model, batch.with_features(tuple(s.gather(batch.items) for s in model.sources))


def step(
    dtype: torch.dtype, micro_items: int | None, **options: object
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and all gradients."""
    model, batch = made(dtype, **options)  # type: ignore[arg-type]
    model.items.micro_items = micro_items  # type: ignore[assignment]
    loss = model(batch, 3)["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_items", [1, 4, 7, 100])
@pytest.mark.parametrize("modalities", [("text", "image"), ("text",)], ids=str)
def test_loss_and_gradients_are_those_of_one_pass(
    micro_items: int, modalities: tuple[str, ...]
) -> None:
    loss, gradients = step(torch.float64, None, modalities=modalities)
    parts_loss, parts = step(torch.float64, micro_items, modalities=modalities)
    torch.testing.assert_close(parts_loss, loss, rtol=1e-12, atol=0)
    assert parts.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the extension is not built")
@pytest.mark.parametrize("micro_items", [4, 7])
def test_the_forward_has_the_bits_of_one_pass_and_steps_repeat_theirs(micro_items: int) -> None:
    loss, _ = step(torch.float32, None)
    first_loss, first = step(torch.float32, micro_items)
    again_loss, again = step(torch.float32, micro_items)
    assert torch.equal(first_loss, loss)
    assert torch.equal(again_loss, loss)
    for name, gradient in first.items():
        assert torch.equal(again[name], gradient), name


def test_an_odd_width_passes_as_a_whole_or_is_refused() -> None:
    loss, _ = step(torch.float64, None, width=6)
    assert torch.equal(step(torch.float64, 4, width=6)[0], loss)
    with pytest.raises(ValidationError, match="micro_items=4 needs a model.width that is a mult"):
        Config().updated({"training.micro_items": 4, "model.width": 6})
