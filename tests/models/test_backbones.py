"""What every user encoder holds: no look ahead, packed as alone, K as K alone, noise by seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models.encoders import ITEMS, LENGTHS, SILENT, STEPS, WIDTH, encoder, one_by_one, table, users
from thread_bits import skip_where_products_depend_on_threads
from torch._subclasses.fake_tensor import FakeTensorMode

from odmt_fast.models.noise import Noise, Site
from odmt_fast.models.zoo import BACKBONES

every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


@every_backbone
def test_a_state_depends_on_its_own_steps_until_now(backbone: str) -> None:
    model, rows, items = encoder(backbone), users(*LENGTHS), table()
    before = model(items, rows, SILENT)
    for row, owner in enumerate(rows.row_user.tolist()):
        inputs = rows.inputs.clone()
        inputs[row] = (inputs[row] + 1) % ITEMS
        changed = (model(items, replace(rows, inputs=inputs), SILENT) != before).any(-1)[0]
        later = torch.arange(len(inputs)) >= row
        assert torch.equal(changed, later & (rows.row_user == owner)), row


@every_backbone
@pytest.mark.parametrize("lengths", [LENGTHS, (1,), (1, 1, 1), (STEPS,)], ids=str)
def test_users_together_are_users_alone(backbone: str, lengths: tuple[int, ...]) -> None:
    model, rows, items = encoder(backbone, branches=2), users(*lengths), table(branches=2)
    alone = [model(items, user, SILENT) for user in one_by_one(rows)]
    torch.testing.assert_close(model(items, rows, SILENT), torch.cat(alone, dim=1))
    # A bound of the lengths that is too large changes nothing: `encode` knows no better one.
    torch.testing.assert_close(
        model(items, replace(rows, max_seqlen=STEPS), SILENT), model(items, rows, SILENT)
    )


@every_backbone
def test_branches_together_are_branches_alone(backbone: str) -> None:
    model, rows, items = encoder(backbone, branches=3), users(*LENGTHS), table(branches=3)
    together = model(items, rows, SILENT)
    single = encoder(backbone)
    for branch in range(3):
        mine = slice(branch, branch + 1)
        single.load_state_dict({name: p[mine] for name, p in model.state_dict().items()})
        torch.testing.assert_close(together[mine], single(items[mine], rows, SILENT))


@every_backbone
def test_gradients_of_items_and_parameters(backbone: str) -> None:
    model, rows = encoder(backbone, branches=2, layers=1, steps=3), users(3, 1, steps=3)
    names = [name for name, _ in model.named_parameters()]

    def states(items: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, given, (items, rows, SILENT))

    inputs = [table(branches=2).requires_grad_(), *model.parameters()]
    # The numbers of one random direction each: all of them would take seconds.
    assert torch.autograd.gradcheck(states, inputs, fast_mode=True)


@every_backbone
def test_noise_is_a_function_of_its_seed(backbone: str) -> None:
    model, rows, items = encoder(backbone), users(*LENGTHS), table()
    states = [
        model(items, rows, Noise(0.3, torch.tensor([seed]), torch.device("cpu")))
        for seed in (7, 7, 8)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], model(items, rows, SILENT))


class OneSite(Noise):
    """Noise at site `number` alone."""

    def __init__(self, number: int) -> None:
        super().__init__(0.5, torch.tensor([7]), torch.device("cpu"))
        self.number, self.taken = number, 0

    def sites(self, count: int) -> tuple[Site, ...]:
        silent: Site = {"dropout": 0.0, "seed": None}
        given = [
            site if self.taken + place == self.number else silent
            for place, site in enumerate(super().sites(count))
        ]
        self.taken += count
        return tuple(given)


@pytest.mark.parametrize(
    ("backbone", "sites"),
    [("sasrec", 1 + 2 * 3), ("gru4rec", 1), ("nextitnet", 1), ("hstu", 1 + 2), ("ligr", 1 + 2 * 4)],
)
def test_every_site_drops(backbone: str, sites: int) -> None:
    model, rows, items = encoder(backbone), users(*LENGTHS), table()
    silent = model(items, rows, SILENT)
    for number in range(sites):
        noise = OneSite(number)
        assert not torch.equal(model(items, rows, noise), silent), number
        assert noise.taken == sites


# `packed_attention`, within the others, looks at the segments where that is free: on a CPU.
@pytest.mark.parametrize("backbone", ["gru4rec", "nextitnet", "hstu"])
def test_no_value_is_waited_for(backbone: str) -> None:
    model, rows, items = encoder(backbone, branches=2), users(*LENGTHS), table(branches=2)
    with FakeTensorMode(allow_non_fake_inputs=True):  # its tensors have no values to look at
        states = model(items, rows, SILENT)
        states.sum().backward()
    assert states.shape == (2, sum(LENGTHS), WIDTH)


@every_backbone
def test_two_threads_compute_the_bits_of_one(backbone: str) -> None:
    skip_where_products_depend_on_threads()
    rows, items = users(*LENGTHS * 60), table(branches=2).float()
    allowed, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = encoder(backbone, branches=2).float()
            given = items.clone().requires_grad_()
            states = model(given, rows, SILENT)
            states.square().sum().backward()
            found.append([states, given.grad, *(p.grad for p in model.parameters())])
    finally:
        torch.set_num_threads(allowed)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


@every_backbone
def test_bf16_is_close_to_fp32(backbone: str) -> None:
    model, rows, items = encoder(backbone, branches=2), users(*LENGTHS), table(branches=2)
    exact = model(items, rows, SILENT).detach()
    rounded = model.float()(items.bfloat16(), rows, SILENT).detach()
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.double() - exact).norm() / exact.norm()) < 0.03
    single = model(items.float(), rows, SILENT).detach()
    torch.testing.assert_close(single.double(), exact, atol=1e-4, rtol=1e-4)
