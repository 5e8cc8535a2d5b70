"""What the ID token reads: against the attention of the reference, and where nothing is fused."""

from __future__ import annotations

import pytest
import torch
from models.features import catalogue, model

from odmt_fast.evaluation.attention import attention_of_id
from odmt_fast.models.items.imt import IMT


@pytest.mark.parametrize("mask", ["asymmetric", "symmetric"])
def test_the_shares_are_those_of_the_probabilities(mask: str) -> None:
    made = model("odmt", catalogue())
    encoder = made.items
    assert isinstance(encoder, IMT)
    encoder.mask = mask  # type: ignore[assignment]
    heads, states = encoder.blocks[-1].heads, {}

    def keep(_: object, arguments: tuple[torch.Tensor, ...], found: torch.Tensor) -> None:
        states["x"], states["cu"] = found, arguments[1]

    encoder.blocks[-2].register_forward_hook(keep)
    items = torch.arange(1, made.n_items + 1)
    features = tuple(source.gather(items) for source in made.sources)
    found = encoder.attention(items, features)
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=found.dtype))
    assert bool((found[1:, 0] == 0).all()) == (mask == "asymmetric")  # do they read the ID?

    w_q, w_k, _ = encoder.blocks[-1].qkv.view(3, *encoder.blocks[-1].out.shape).unbind(0)
    head = w_q.shape[0] // heads
    wanted = torch.zeros(3, dtype=found.dtype)
    for number, (begin, end) in enumerate(zip(states["cu"], states["cu"][1:], strict=False)):
        x = states["x"][begin:end]
        q, k = (x[-1:] @ w_q.T).view(heads, head), (x @ w_k.T).view(-1, heads, head)
        p = (torch.einsum("hd,jhd->hj", q, k) / head**0.5).softmax(1).mean(0)
        texts = int(features[0].lengths[number])
        wanted += torch.stack([p[-1], p[:texts].sum(), p[texts:-1].sum()]).detach() / len(items)
    torch.testing.assert_close(found[0], wanted)
    shares = attention_of_id(made)
    assert list(shares) == ["id", "text", "image"]
    assert list(shares.values()) == pytest.approx(wanted.tolist())


def test_other_encoders_have_none() -> None:
    for name in ("ef", "fdsa", "id"):
        assert attention_of_id(model(name, catalogue())) == {}
