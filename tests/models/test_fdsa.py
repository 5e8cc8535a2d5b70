"""FDSA against two SASRecs of one branch each, joined by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from models.features import STEPS, WIDTH, catalogue, means, model

from odmt_fast.config import ModelConfig
from odmt_fast.models.users.sasrec import SASRec

HISTORY, OFFSETS = torch.tensor([1, 2, 3, 4, 5, 6, 7]), torch.tensor([0, 2, 3, 7])


@pytest.mark.parametrize("modalities", [("text", "image"), ("image",)], ids=str)
def test_scores_are_those_of_two_encoders_joined(modalities: tuple[str, ...]) -> None:
    sources = catalogue(modalities)
    fdsa = model("fdsa", sources)
    items = fdsa.items
    features = torch.stack(
        [F.linear(means(sources[name]), *items.projections[name].parameters()) for name in sources]
    )
    weights = torch.softmax(features @ items.attention, dim=0)
    mixed = (weights[..., None] * features).sum(0)
    ids = items.id_embedding.weight[1:]
    states = []
    for branch, table in enumerate((ids, mixed)):
        stream = SASRec(ModelConfig(width=WIDTH, max_seq_len=STEPS, user_layers=1), 1).double()
        mine = {k: v[branch : branch + 1] for k, v in fdsa.users.streams.state_dict().items()}
        stream.load_state_dict(mine)
        states.append(stream.encode(F.pad(table, (0, 0, 1, 0))[None], HISTORY, OFFSETS)[0])
    joined = F.linear(torch.cat(states, dim=1), *fdsa.users.join.parameters())

    embedded = fdsa.encode_catalogue()
    got = fdsa.encode_users(embedded, HISTORY, OFFSETS)
    assert fdsa.branches == ("fdsa",)
    torch.testing.assert_close(got[0] @ embedded[0, 1:].T, joined @ ids.T)


def test_features_are_read_and_not_scored() -> None:
    sources = catalogue()
    fdsa = model("fdsa", sources)
    embedded = fdsa.encode_catalogue()
    other = embedded.clone()
    other[0, :, WIDTH:] += 1  # the features of every item
    before = fdsa.encode_users(embedded, HISTORY, OFFSETS)
    assert torch.equal(before[0] @ embedded[0].T, before[0] @ other[0].T)
    assert not torch.equal(before, fdsa.encode_users(other, HISTORY, OFFSETS))
