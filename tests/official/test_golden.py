"""`ODMT` reproduces the official code on the golden cases, called the official way."""

from __future__ import annotations

import pytest
import torch
from golden_cases import Golden
from torch import Tensor

from odmt_fast import ODMT, official
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE, extension_missing, triton_missing


@pytest.fixture(
    autouse=True,
    params=["reference", "cpu", pytest.param("triton", marks=pytest.mark.interpreter)],
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend that runs on a CPU, each for all operators that have it."""
    missing = {"cpu": extension_missing, "triton": triton_missing}.get(request.param)
    if missing is not None and (reason := missing("cpu")):
        pytest.skip(reason)
    args = request.getfixturevalue("golden").args
    heads = (args.num_attention_heads, args.merged_att_layers)
    if request.param == "triton" and any(args.embedding_dim // h % 8 for h in heads):
        pytest.skip("the Triton kernels take head sizes that are multiples of 8")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, request.param)
    return str(request.param)


def build(golden: Golden) -> ODMT:
    model = ODMT(
        golden.args,
        golden["input/popularity"],
        golden.n_items,
        golden["input/text_features"],
        golden["input/image_features"],
    )
    model.load_state_dict(golden.group("param"))
    return model


def official_arguments(golden: Golden) -> tuple[Tensor, Tensor, Tensor, str]:
    ids = golden["input/item_ids"].view(-1)
    mask = golden["input/text_mask"][ids].long()
    return ids, torch.cat([torch.zeros_like(mask), mask], dim=1), golden["input/log_mask"], "cpu"


def test_losses(golden: Golden) -> None:
    model = build(golden)
    for epoch, expected in golden.losses.items():
        ce, kl = model(epoch, *official_arguments(golden))
        assert abs(ce.item() - expected["ce"]) < 1e-5 * max(1, abs(expected["ce"]))
        assert abs(kl.item() - expected["kl"]) < 1e-5 * max(1, abs(expected["kl"]))


def test_gradients(golden: Golden) -> None:
    model = build(golden)
    ce, kl = model(golden.grad_epoch, *official_arguments(golden))
    (ce + kl).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    got = model.official_keys().to_official(gradients)
    expected = golden.group("grad")
    assert got.keys() == expected.keys(), "every parameter has a gradient"
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm() / gradient.norm().clamp_min(1e-8)
        assert error < 1e-4, (name, error)


def test_item_embeddings(golden: Golden) -> None:
    model = build(golden).eval()
    ids = torch.arange(1, golden.n_items + 1)
    text = model.features["text"].gather(ids, golden["input/text_mask"][ids])
    image = model.features["image"].gather(ids)
    with torch.no_grad():
        got = model.encode_items(ids, (text, image))
    for name, values in zip(model.branches, got, strict=True):
        torch.testing.assert_close(
            values, golden[f"item_embedding/{name}"][1:], atol=1e-5, rtol=1e-5
        )


def test_official_state_dict_round_trip(golden: Golden) -> None:
    expected = golden.group("param")
    got = official.state_dict(build(golden))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
