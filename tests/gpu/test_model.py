"""The whole model on a GPU: the official results, mixed precision, determinism."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_cases import NAMES, Golden, load
from torch import Tensor

from odmt_fast import ODMT
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.rank_of_target import rank_of_target

pytestmark = pytest.mark.gpu


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    """Every golden case in turn."""
    return load(request.param)


@pytest.fixture(params=["chosen", "triton", "reference"])
def backend(request: pytest.FixtureRequest, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is chosen by itself, and one for all operators that have it."""
    if (
        request.param == "triton"
        and golden.args.embedding_dim // golden.args.num_attention_heads % 8
    ):
        pytest.skip("the Triton kernels take head sizes that are multiples of 8")
    if request.param != "chosen":
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, request.param)
    return str(request.param)


def build(golden: Golden, device: torch.device, dropout: float | None = None) -> ODMT:
    """The case's model, its features on the device as the official code has them."""
    args = golden.args
    if dropout is not None:
        args = type(args)(**{**vars(args), "drop_rate": dropout})
    features = golden["input/text_features"], golden["input/image_features"]
    model = ODMT(args, golden["input/popularity"], golden.n_items, *features)
    model.load_state_dict(golden.group("param"))
    model.features = {n: replace(f, values=f.values.to(device)) for n, f in model.features.items()}
    return model.to(device)


def arguments(golden: Golden, device: torch.device) -> tuple[Tensor, Tensor, Tensor, torch.device]:
    """Of the official call, on the device."""
    ids = golden["input/item_ids"].view(-1)
    mask = golden["input/text_mask"][ids].long()
    text = torch.cat([torch.zeros_like(mask), mask], dim=1)
    return ids.to(device), text.to(device), golden["input/log_mask"].to(device), device


def test_losses(golden: Golden, backend: str, device: torch.device) -> None:
    model = build(golden, device)
    for epoch, expected in golden.losses.items():
        ce, kl = model(epoch, *arguments(golden, device))
        assert abs(ce.item() - expected["ce"]) < 1e-5 * max(1, abs(expected["ce"]))
        assert abs(kl.item() - expected["kl"]) < 1e-5 * max(1, abs(expected["kl"]))


def test_gradients(golden: Golden, backend: str, device: torch.device) -> None:
    model = build(golden, device)
    ce, kl = model(golden.grad_epoch, *arguments(golden, device))
    (ce + kl).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    gradients |= {n: torch.zeros_like(p) for n, p in model.unused.named_parameters("unused")}
    got = model.official_keys().to_official(gradients)
    for name, gradient in golden.group("grad").items():
        error = (got[name].cpu() - gradient).norm() / gradient.norm().clamp_min(1e-8)
        assert error < 1e-4, (name, error)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision_stays_near(
    golden: Golden, dtype: torch.dtype, device: torch.device
) -> None:
    model = build(golden, device)
    epoch, expected = next(iter(golden.losses.items()))
    with torch.autocast("cuda", dtype):
        ce, kl = model(epoch, *arguments(golden, device))
    (ce + kl).backward()
    assert abs(ce.item() - expected["ce"]) < 0.03 * max(1, abs(expected["ce"]))
    assert abs(kl.item() - expected["kl"]) < 0.03 * max(1, abs(expected["kl"]))
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("autocast", [False, True])
def test_equal_seeds_give_equal_bits(autocast: bool, device: torch.device) -> None:
    golden = load(NAMES[0])
    model = build(golden, device, dropout=0.2)

    def gradients() -> list[Tensor]:
        torch.manual_seed(5)
        model.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            ce, kl = model(golden.grad_epoch, *arguments(golden, device))
        (ce + kl).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    first = gradients()
    for _ in range(3):
        for a, b in zip(first, gradients(), strict=True):
            assert torch.equal(a, b)


def test_ranks_equal_those_of_the_cpu(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)

    # Small whole numbers: every score is exact in any order, and ties are real.
    def whole(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=generator).float()

    users, items = 50, 2000
    history = torch.randint(1, items, (users, 6), generator=generator)
    given = (
        whole(3, users, 16),
        whole(3, items, 16),
        torch.randint(1, items, (users,), generator=generator),
        torch.arange(0, 6 * users + 1, 6),
        history.flatten(),
    )
    expected = rank_of_target(*given)
    got = rank_of_target(*(x.to(device) for x in given))
    # Of the mean of three branches only the order is exact, not the thirds.
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a[:3].cpu(), b[:3])
