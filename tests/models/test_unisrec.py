"""The adaptors of UniSRec against their formula, expert by expert, and what a modality alone is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models.features import DIMS, N_ITEMS, WIDTH, catalogue, means, model
from torch import Tensor

from odmt_fast.models.items.unisrec import EXPERTS, Adaptor
from odmt_fast.models.noise import Noise


@pytest.mark.parametrize("modalities", [("text", "image"), ("text",)], ids=str)
def test_items_are_ids_and_what_the_experts_make_of_features(modalities: tuple[str, ...]) -> None:
    sources = catalogue(modalities)
    unisrec = model("unisrec", sources)
    expected = unisrec.items.id_embedding.weight[1:]
    for name, source in sources.items():
        adaptor, x = unisrec.items.adaptors[name], means(source)
        gates = torch.softmax(x @ adaptor.gates.T, dim=1)
        for expert in range(EXPERTS):
            whitened = (x - adaptor.centre[expert]) @ adaptor.whitening[expert].T
            expected = expected + gates[:, expert, None] * whitened
    assert unisrec.branches == ("unisrec",)
    torch.testing.assert_close(unisrec.encode_catalogue()[0, 1:], expected.detach())


def test_gradients_of_an_adaptor() -> None:
    adaptor = Adaptor(3, 2).double()
    with torch.no_grad():
        for parameter in adaptor.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    names = [name for name, _ in adaptor.named_parameters()]

    def adapted(x: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(adaptor, given, (x, {"dropout": 0.0, "seed": None}))

    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(adapted, [x.requires_grad_(), *adaptor.parameters()])


def test_noise_is_a_function_of_its_seed() -> None:
    unisrec = model("unisrec", catalogue())
    items = torch.arange(1, N_ITEMS + 1)
    features = tuple(source.gather(items) for source in unisrec.sources)
    drawn = [
        unisrec.items(items, features, torch.float64, Noise(p, torch.tensor([seed]), items.device))
        for p, seed in ((0.3, 7), (0.3, 7), (0.3, 8), (0.0, 7))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(drawn[3][0], unisrec.encode_catalogue()[0, 1:])


def test_adaptors_begin_as_officially() -> None:
    adaptor = Adaptor(300, 64)
    with torch.no_grad():
        adaptor.initialise(torch.Generator().manual_seed(1))
    assert float(adaptor.whitening.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert not adaptor.centre.any() and not adaptor.gates.any()


@pytest.mark.parametrize("name", ["text", "image"])
def test_a_modality_alone_is_a_map_of_its_mean_token(name: str) -> None:
    sources = catalogue()
    alone = model(name, sources)
    projection = alone.items.projection
    assert projection.weight.shape == (WIDTH, DIMS[name])
    assert alone.branches == (name,)
    expected = F.linear(means(sources[name]), projection.weight, projection.bias).detach()
    torch.testing.assert_close(alone.encode_catalogue()[0, 1:], expected)
