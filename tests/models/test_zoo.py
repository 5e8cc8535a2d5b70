"""Every model of the zoo: float64 against its formula written out, causal, packed as padded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.models import SequentialModel
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.gru4rec import GRU4Rec
from odmt_fast.models.users.sasrec import SASRec
from odmt_fast.models.zoo import BACKBONES, MODELS, build

N_ITEMS, S = 9, 4
USERS = [[1, 2, 3], [2, 4, 2, 5, 7], [6, 1], [8, 9, 8, 9, 8]]


def make(
    name: str,
    backbone: str = "sasrec",
    dropout: float = 0.0,
    item_encoder_dropout: float | None = None,
    item_dropout: float | dict[str, float] = 0.0,
) -> SequentialModel:
    config = ModelConfig(
        name=name,
        backbone=backbone,
        width=8,
        max_seq_len=S,
        dropout=dropout,
        item_encoder_dropout=item_encoder_dropout,
        item_dropout=item_dropout,
        user_layers=2,
    )
    generator = torch.Generator().manual_seed(5)
    sources = {
        modality: TokenTable.from_padded(torch.randn(N_ITEMS + 1, 3, 5, generator=generator))
        for modality in ("text", "image")
    }
    shares = torch.rand(N_ITEMS + 1, generator=generator) + 0.1
    return build(config, shares, sources, generator=generator).double()


def batch_of(model: SequentialModel, users: list[list[int]] = USERS) -> Batch:
    items = torch.tensor([item for user in users for item in user])
    index = batch_index(items, torch.tensor([len(user) for user in users]), S)
    batch = Batch(**index._asdict())
    return batch.with_features(tuple(source.gather(batch.items) for source in model.sources))


def official_loss(model: SequentialModel, states: Tensor, columns: Tensor) -> Tensor:
    """The official cross entropy over every occurrence, row by row."""
    occurrences = [item for user in USERS for item in user]
    losses, first, row = [], 0, 0
    for user in USERS:
        for step in range(len(user) - 1):
            target = first + step + 1
            logits = columns[occurrences] @ states[row] - model.log_p[occurrences]
            own = torch.tensor([c in user and j != target for j, c in enumerate(occurrences)])
            logits = logits.masked_fill(own, -1e4)
            losses.append(F.cross_entropy(logits[None], torch.tensor([target])))
            row += 1
        first += len(user)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "odmt"])
def test_losses_are_the_official_ones_of_their_scores(name: str, backbone: str) -> None:
    model = make(name, backbone)
    batch = batch_of(model)
    catalogue = model.encode_catalogue()
    states = model.users(catalogue[:, batch.items], batch, Noise(0.0, None, torch.device("cpu")))
    if name == "lf":
        states, catalogue = (x.transpose(0, 1).flatten(1) for x in (states, catalogue))
        expected = official_loss(model, states, catalogue / 3)
    else:
        expected = official_loss(model, states[0], catalogue[0])
    got = model(batch, 1.0)
    assert list(got)[0] == "loss"
    torch.testing.assert_close(got["loss"], expected)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        *((name, "sasrec") for name in MODELS),
        *((name, other) for name in ("odmt", "fdsa") for other in BACKBONES if other != "sasrec"),
    ],
)
def test_every_parameter_has_a_right_gradient(name: str, backbone: str) -> None:
    model = make(name, backbone)
    batch = batch_of(model)
    model(batch, 3.0)["loss"].backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        # One random direction, by central differences.
        direction = torch.randn(
            parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-6 * direction
                values.append(model(batch, 3.0)["loss"])
                parameter -= sign * 1e-6 * direction
        slope = float(values[0] - values[1]) / 2e-6
        assert math.isclose(slope, float((parameter.grad * direction).sum()), abs_tol=1e-6), label


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_state_sees_no_later_step_and_no_other_user(backbone: str) -> None:
    model = make("id", backbone)
    catalogue = model.encode_catalogue()

    def last(*users: list[int]) -> Tensor:
        items = torch.tensor([item for user in users for item in user])
        offsets = torch.tensor([0, *(len(user) for user in users)]).cumsum(0)
        return model.encode_users(catalogue, items, offsets)

    together = last([1, 2, 3], [4], [5, 6, 7, 8])
    for place, user in enumerate(([1, 2, 3], [4], [5, 6, 7, 8])):
        torch.testing.assert_close(together[:, place], last(user)[:, 0])
    batch = batch_of(model)
    noise = Noise(0.0, None, torch.device("cpu"))
    embedded = catalogue[:, batch.items]
    states = model.users(embedded, batch, noise)
    # Another item at the last step of the second user changes that state alone.
    row = int(batch.cu_seqlens[2]) - 1
    inputs = batch.inputs.clone()
    inputs[row] = (inputs[row] + 1) % len(batch.items)
    changed = model.users(embedded, replace(batch, inputs=inputs), noise)
    assert (states != changed).any(-1).nonzero().tolist() == [[0, row]]


def test_gru4rec_is_torchs_gru_per_branch() -> None:
    config = ModelConfig(width=6, max_seq_len=S, user_layers=2)
    encoder = GRU4Rec(config, 3).double()
    with torch.no_grad():
        encoder.initialise(torch.Generator().manual_seed(1))
    items = torch.randn(3, N_ITEMS + 1, 6, dtype=torch.float64)
    offsets = torch.tensor([0, 2, 3, 7])
    history = torch.tensor([1, 2, 3, 4, 5, 6, 7])
    got = encoder.encode(items, history, offsets)
    for branch in range(3):
        gru = nn.GRU(6, 6, num_layers=2, batch_first=True).double()
        for layer, ours in enumerate(encoder.layers):
            theirs = {
                f"weight_ih_l{layer}": ours.input.weight[branch],
                f"weight_hh_l{layer}": ours.state.weight[branch],
                f"bias_ih_l{layer}": ours.input.bias[branch],
                f"bias_hh_l{layer}": ours.state.bias[branch],
            }
            gru.load_state_dict({**gru.state_dict(), **theirs})
        for user, (start, end) in enumerate(zip(offsets, offsets[1:], strict=False)):
            states, _ = gru(items[branch, history[start:end]][None])
            expected = F.linear(states[0, -1], encoder.out.weight[branch], encoder.out.bias[branch])
            torch.testing.assert_close(got[branch, user], expected)


@pytest.mark.parametrize("name", MODELS)
def test_one_generator_decides_weights_and_steps(name: str) -> None:
    torch.manual_seed(1)
    first = make(name, dropout=0.3).train()
    torch.manual_seed(2)
    second = make(name, dropout=0.3).train()
    for (label, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), label
    losses = [
        model(replace(batch_of(model), noise=torch.tensor([seed])), 1.0)["loss"].item()
        for model, seed in ((first, 7), (second, 7), (second, 8))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_an_item_loses_the_same_elements_as_an_input_and_as_a_candidate() -> None:
    model, plain = make("id", item_dropout=0.5).train(), make("id").train()
    batch = replace(batch_of(model), noise=torch.tensor([3]))
    (site,) = Noise(0.5, batch.noise, torch.device("cpu")).sites(1)
    with torch.no_grad():
        table = plain.get_parameter("items.id_embedding.weight")
        table[batch.items] = dropout_reference(table[batch.items], 0.5, site["seed"])
        assert (table[batch.items] == 0).any()
    assert torch.equal(model(batch, 1.0)["loss"], plain(batch, 1.0)["loss"])
    assert not torch.equal(model.eval()(batch, 1.0)["loss"], plain(batch, 1.0)["loss"])


def test_item_dropout_by_branch_leaves_the_others_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(item_dropout: float | dict[str, float]) -> Tensor:
        model, found = make("odmt", item_dropout=item_dropout).train(), []
        users = model.users.forward
        monkeypatch.setattr(model.users, "forward", lambda *a: found.append(a[0]) or users(*a))
        model(replace(batch_of(model), noise=torch.tensor([3])), 1.0)["loss"].backward()
        return found[0].detach()

    plain, ids, same = read(0.0), read({"id": 0.5}), read({"id": 0.5, "text": 0.5, "image": 0.5})
    assert torch.equal(ids[1:], plain[1:])
    dropped = ids[0] == 0
    assert 0.3 < dropped.double().mean() < 0.7
    assert torch.equal(ids[0][~dropped], 2 * plain[0][~dropped])
    assert torch.equal(same, read(0.5))
    both = read({"id": 0.5, "image": 0.25})
    assert torch.equal(both[1], plain[1])
    assert not torch.equal(both[0] == 0, both[2] == 0)


def test_item_dropout_names_branches_of_the_model() -> None:
    with pytest.raises(ValueError, match=r"'ids', which is none .* id, text, image"):
        make("odmt", item_dropout={"ids": 0.2})


@pytest.mark.parametrize(("inside", "silent"), [(None, False), (0.3, False), (0.0, True)])
def test_the_item_encoder_can_have_a_dropout_of_its_own(
    inside: float | None, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("odmt", dropout=0.3, item_encoder_dropout=inside).train()
    batch = replace(batch_of(model), noise=torch.tensor([3]))
    read: list[Tensor] = []
    users = model.users.forward
    monkeypatch.setattr(model.users, "forward", lambda *a: read.append(a[0]) or users(*a))
    loss = model(batch, 1.0)["loss"]
    plain = model.encode_items(batch.own_items)
    assert torch.equal(read[0], plain) == silent
    assert not torch.equal(loss, model.eval()(batch, 1.0)["loss"])


def test_initial_values_have_the_official_spread() -> None:
    config = ModelConfig(width=64, max_seq_len=50)
    users = SASRec(config, 3)
    with torch.no_grad():
        users.initialise(torch.Generator().manual_seed(1))
    block = users.blocks[0]
    assert float(block.qkv.detach().std()) == pytest.approx(math.sqrt(2 / 128), rel=0.02)
    assert float(block.up.weight.std()) == pytest.approx(math.sqrt(2 / 320), rel=0.02)
    assert float(users.positions.std()) == pytest.approx(math.sqrt(2 / 114), rel=0.02)
    assert float(block.up.bias.abs().max()) == 0.0
    items = build(
        ModelConfig(width=64, max_seq_len=5),
        torch.ones(301) / 300,
        {"text": TokenTable.from_padded(torch.randn(301, 2, 16))},
        generator=torch.Generator().manual_seed(1),
    ).items
    assert float(items.id_embedding.weight.std()) == pytest.approx(math.sqrt(2 / 365), rel=0.03)
    assert float(items.projections["text"].weight.abs().max()) == pytest.approx(1 / 4, rel=0.01)
    assert float(items.blocks[0].down.weight.abs().max()) == pytest.approx(1 / 16, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "bert"}, "model.name='bert' is not known; choose from odmt, id, text, image, ef"),
        (
            {"backbone": "rnn"},
            "model.backbone='rnn' is not known; choose from sasrec, gru4rec, nextitnet",
        ),
        ({"id_init": "text"}, "there are none of text; use --set model.id_init=xavier"),
        ({"name": "text"}, "reads text features, and there are none; extract them or use --set"),
        ({"name": "fdsa"}, "model.name=fdsa reads features, and there are none; extract some"),
        ({"name": "unisrec"}, "model.name=unisrec reads features, and there are none"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_said(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(ModelConfig(width=8, **settings), torch.ones(4) / 3)


def test_a_model_without_ids_starts_none() -> None:
    text = {"text": TokenTable.from_padded(torch.randn(4, 2, 8))}
    with pytest.raises(ValueError, match=r"model.name=text has no IDs that model.id_init=text"):
        build(ModelConfig(width=8, name="text", id_init="text"), torch.ones(4) / 3, text)
