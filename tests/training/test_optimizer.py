"""ClippingAdamW by its reference: torch's AdamW behind clipping, and its state both ways."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odmt_fast.kernels.linear import cast
from odmt_fast.kernels.linear.copies import keep
from odmt_fast.training import checkpoint
from odmt_fast.training.optimizer import ClippingAdamW

CLIP = 0.5


class Net(nn.Module):
    """Two linear maps and a weight that is not used before it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.late = nn.Parameter(torch.ones(2))

    def loss(self, x: Tensor, late: bool = False) -> Tensor:
        y = self.body(x)
        y = y * self.late if late else y
        y = y + self.more if hasattr(self, "more") else y
        return (y - 1).square().sum()


def ours(net: nn.Module, **options: Any) -> ClippingAdamW:
    return ClippingAdamW(net.parameters(), **{"lr": 0.05, "weight_decay": 0.1, **options})


def theirs(net: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)


def train(net: Net, optimizer: torch.optim.AdamW, batches: Tensor, late: bool = False) -> Tensor:
    """The norms of all steps."""
    norms = []
    for x in batches:
        optimizer.zero_grad()
        net.loss(x, late).backward()
        if isinstance(optimizer, ClippingAdamW):
            optimizer.step(clip_norm=CLIP)
            norms.append(optimizer.gradient_norm)
        else:
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), CLIP))
            optimizer.step()
    return torch.stack(norms)


def assert_alike(a: nn.Module, b: nn.Module) -> None:
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=2e-6, atol=2e-6)


@pytest.fixture
def batches() -> Tensor:
    return torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(1))


def test_it_is_clipping_and_then_adamw(batches: Tensor) -> None:
    a, b = Net(), Net()
    first, second = ours(a), theirs(b)
    torch.testing.assert_close(train(a, first, batches), train(b, second, batches))
    assert not first.state.get(a.late)
    torch.testing.assert_close(train(a, first, batches, True), train(b, second, batches, True))
    assert_alike(a, b)
    assert [float(first.state[p]["step"]) for p in a.parameters()] == [3.0, 6.0, 6.0, 6.0, 6.0]


@pytest.mark.parametrize("to_ours", [False, True])
def test_state_goes_both_ways(batches: Tensor, to_ours: bool) -> None:
    def moved(source: Net, trained: torch.optim.AdamW, ours_next: bool) -> tuple[Net, Any]:
        net = copy.deepcopy(source)
        optimizer = ours(net) if ours_next else theirs(net)
        tensors = checkpoint.optimizer_tensors(source, trained)
        tensors = {name: value.clone() for name, value in tensors.items()}
        checkpoint.restore_optimizer(net, optimizer, tensors)
        return net, optimizer

    net = Net()
    optimizer = theirs(net) if to_ours else ours(net)
    train(net, optimizer, batches)
    (a, first), (b, second) = (moved(net, optimizer, side) for side in (True, False))
    train(a, first, batches, True)
    train(b, second, batches, True)
    assert_alike(a, b)
    names = checkpoint.optimizer_tensors(a, first)
    assert names.keys() == checkpoint.optimizer_tensors(b, second).keys()
    for name, value in checkpoint.optimizer_tensors(b, second).items():
        assert names[name].shape == value.shape and names[name].dtype == value.dtype
        torch.testing.assert_close(names[name], value, rtol=2e-5, atol=2e-6)


def test_state_dicts_and_deep_copies_go_on(batches: Tensor) -> None:
    net = Net()
    optimizer = ours(net)
    train(net, optimizer, batches)
    other = Net()
    other.load_state_dict(net.state_dict())
    plain = theirs(other)
    plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin, both = copy.deepcopy((net, optimizer))
    train(other, plain, batches)
    train(twin, both, batches)
    train(net, optimizer, batches)
    assert_alike(net, other)
    assert_alike(net, twin)


def test_groups_and_a_learning_rate_in_a_tensor(batches: Tensor) -> None:
    a, b = Net(), Net()
    rate = torch.tensor(0.05)
    first = ClippingAdamW(
        [{"params": a.body.parameters()}, {"params": [a.late], "weight_decay": 0.0, "lr": 0.01}],
        lr=rate,
        weight_decay=0.1,
    )
    second = torch.optim.AdamW(
        [{"params": b.body.parameters()}, {"params": [b.late], "weight_decay": 0.0, "lr": 0.01}],
        lr=0.05,
        weight_decay=0.1,
    )
    train(a, first, batches, True)
    train(b, second, batches, True)
    for net, optimizer in ((a, first), (b, second)):
        net.more = nn.Parameter(torch.ones(2))
        optimizer.add_param_group({"params": [net.more], "lr": 0.05})
    rate.fill_(0.2)
    second.param_groups[0]["lr"] = 0.2
    train(a, first, batches, True)
    train(b, second, batches, True)
    assert_alike(a, b)


def test_a_scaled_step_that_overflows_is_left_out(batches: Tensor) -> None:
    net = Net()
    optimizer = ours(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(factor: float, unscale: bool = True) -> None:
        optimizer.zero_grad()
        scaler.scale(net.loss(batches[0]) * factor).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer, clip_norm=CLIP)
        scaler.update()

    before = copy.deepcopy(net)
    step(1e38)
    assert_alike(net, before)
    assert scaler.get_scale() == 2.0
    step(1.0)
    other = Net()
    train(other, theirs(other), batches[:1])
    assert_alike(net, other)
    with pytest.raises(ValueError, match=r"call scaler.unscale_\(optimizer\) first"):
        step(1.0, unscale=False)


def test_what_it_cannot_do_is_refused() -> None:
    net = Net()
    state = torch.optim.AdamW(net.parameters(), amsgrad=True).state_dict()
    with pytest.raises(ValueError, match=r"no amsgrad; load it into torch.optim.AdamW"):
        ours(net).load_state_dict(state)
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        ours(net).step()


def current(weight: Tensor) -> Tensor | None:
    return keep([weight])[0].current(weight)


def test_a_step_leaves_current_copies(batches: Tensor) -> None:
    net = Net()
    weight, optimizer = net.body[0].weight, ours(net)
    train(net, optimizer, batches[:1])
    first = cast(weight, torch.bfloat16)
    train(net, optimizer, batches)
    kept = current(weight)
    assert kept is not None and kept.data_ptr() == first.data_ptr()
    assert torch.equal(kept, weight.detach().bfloat16())
    assert cast(weight, torch.bfloat16).data_ptr() == kept.data_ptr()
    with torch.no_grad():
        weight.mul_(2)
    assert current(weight) is None
    train(net, optimizer, batches[:1])  # must not call what it did not write current
    assert current(weight) is None
    assert torch.equal(cast(weight, torch.bfloat16), weight.bfloat16())
