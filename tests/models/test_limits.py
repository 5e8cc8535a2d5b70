"""What the operators cannot take is refused before anything is trained, by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from odmt_fast import ODMT, ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.data import Sequences, Split, leave_one_out
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.kernels.distilled_softmax import MAX_BRANCHES, SMALLEST_TAU
from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT

N_ITEMS = 6


def model(popularity: list[float] | None = None, tokens: int = 1, modalities: int = 2) -> ODMT:
    config = ModelConfig(width=8, max_seq_len=3, imt_layers=1, user_layers=1, imt_heads=1)
    features = [torch.zeros(N_ITEMS + 1, tokens, 4) for _ in range(modalities)]
    others = {f"more{number}": x for number, x in enumerate(features[2:])}
    shares = [1.0, *[1 / N_ITEMS] * N_ITEMS] if popularity is None else popularity
    return ODMT(config, shares, N_ITEMS, *features[:2], others)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tau", SMALLEST_TAU, None), ("max_seq_len", 1, LONGEST_SEGMENT), ("dropout", 0.0, None)],
)
def test_settings_have_the_bounds_of_the_operators(
    name: str, least: float, most: int | None
) -> None:
    beyond = [least - 1 if name == "max_seq_len" else least - 1e-9, float("nan"), float("inf")]
    beyond += [] if most is None else [most + 1]
    for value in beyond:
        with pytest.raises(ValidationError, match=name):
            ModelConfig(**{name: value})
    for value in [least] if most is None else [least, most]:
        assert getattr(ModelConfig(**{name: value}), name) == value


def test_as_many_branches_as_the_loss_takes() -> None:
    assert len(model(modalities=MAX_BRANCHES - 1).branches) == MAX_BRANCHES
    with pytest.raises(
        ValueError, match=f"are {MAX_BRANCHES + 1} branches, at most {MAX_BRANCHES}"
    ):
        model(modalities=MAX_BRANCHES)


def test_as_many_tokens_as_the_attention_takes() -> None:
    most = (LONGEST_SEGMENT - 1) // 2
    model(tokens=most)
    with pytest.raises(ValueError, match=rf"{most + 1} text \+ {most + 1} image \+ 1 id tokens"):
        model(tokens=most + 1)


@pytest.mark.parametrize("value", [float("nan"), -0.25, float("inf")])
def test_a_popularity_that_is_no_share_is_named_by_item(value: float) -> None:
    with pytest.raises(ValueError, match=rf"pop_prob_list\[3\] is {value}"):
        model([1.0, 0.2, 0.2, value, 0.2, 0.2, 0.2])


def test_a_target_without_popularity_is_named_before_its_loss() -> None:
    never_trained = model([1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.0])
    batch = Batch(**batch_index(torch.tensor([1, 2, 3]), torch.tensor([3]), 3)._asdict())
    never_trained.check_popularity(batch.items)
    with pytest.raises(ValueError, match=r"pop_prob_list\[6\] is 0, but the item is trained on"):
        never_trained.check_popularity(torch.tensor([1, 6]))
    masks = torch.ones(4, 2)  # the official call: token ids, then their mask
    with pytest.raises(ValueError, match=r"pop_prob_list\[6\] is 0"):
        never_trained(1.0, torch.tensor([1, 2, 3, 6]), masks, torch.ones(1, 3))


@pytest.mark.parametrize("value", [0.0, float("nan"), -0.1])
def test_a_split_has_a_share_for_every_item_it_trains_on(value: float) -> None:
    split = leave_one_out(Sequences.from_lists([[1, 2, 3, 4, 5]]), N_ITEMS, 3)
    assert split.popularity[N_ITEMS] == 0.0  # never trained on
    shares = split.popularity.copy()
    shares[2] = value
    fields = {name: getattr(split, name) for name in Split.__dataclass_fields__}
    with pytest.raises(ValueError, match=rf"popularity\[2\] is {np.float64(value)}"):
        Split(**{**fields, "popularity": shares})
