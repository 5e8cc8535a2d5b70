"""The padded reference reproduces the official code on the golden cases."""

from __future__ import annotations

import torch
from golden_cases import Golden

from odmt_fast.config import ModelConfig
from odmt_fast.official.reference import Model


def build(golden: Golden) -> Model:
    model = Model(
        ModelConfig.from_official(golden.args),
        golden["input/popularity"],
        golden.n_items,
        {"text": golden["input/text_features"], "image": golden["input/image_features"]},
        {"text": golden["input/text_mask"]},
    )
    model.load_state_dict(golden.group("param"), strict=True)
    return model


def test_losses(golden: Golden) -> None:
    model = build(golden)
    for epoch, expected in golden.losses.items():
        ce, kl = model(epoch, golden["input/item_ids"], golden["input/log_mask"])
        assert abs(ce.item() - expected["ce"]) < 1e-5 * max(1, abs(expected["ce"]))
        assert abs(kl.item() - expected["kl"]) < 1e-5 * max(1, abs(expected["kl"]))


def test_gradients(golden: Golden) -> None:
    model = build(golden)
    ce, kl = model(golden.grad_epoch, golden["input/item_ids"], golden["input/log_mask"])
    (ce + kl).backward()
    expected = golden.group("grad")
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm() / gradient.norm().clamp_min(1e-8)
        assert error < 1e-4, (name, error)


def test_item_embeddings(golden: Golden) -> None:
    model = build(golden).eval()
    with torch.no_grad():
        got = model.encode_items(torch.arange(1, golden.n_items + 1))
    for name, values in zip(model.branches, got, strict=True):
        torch.testing.assert_close(
            values, golden[f"item_embedding/{name}"][1:], atol=1e-5, rtol=1e-5
        )
