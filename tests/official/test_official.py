"""What code written for the official model touches."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from golden_cases import Golden, load

from odmt_fast import ODMT, Config, ModelConfig
from odmt_fast.official.reference import Model


@pytest.fixture(scope="module")
def case() -> Golden:
    return load("asymmetric_two_layers")


def build(case: Golden, args: object) -> ODMT:
    model = ODMT(
        args,
        case["input/popularity"],
        case.n_items,
        case["input/text_features"],
        case["input/image_features"],
    )
    model.load_state_dict(case.group("param"))
    return model.eval()


def test_three_import_styles_build_the_same_model(case: Golden) -> None:
    config = ModelConfig.from_official(case.args)
    loose = type("Arguments", (), dict(vars(case.args)))()
    models = [build(case, args) for args in (case.args, config, Config(model=config), loose)]
    states = [model.state_dict() for model in models]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)
    assert {model.config for model in models} == {config}


def test_our_state_dict_round_trip(case: Golden) -> None:
    model, other = build(case, case.args), build(case, case.args)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(model.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_a_wrong_official_state_dict_is_refused_by_name(case: Golden) -> None:
    state = case.group("param")
    state["surprise"] = state.pop("text_proj.bias")
    with pytest.raises(RuntimeError, match=r"missing: text_proj\.bias; unexpected: surprise"):
        build(case, case.args).load_state_dict(state)


def test_one_seed_gives_reference_and_engine_the_same_weights(case: Golden) -> None:
    config = ModelConfig.from_official(case.args)
    features = {"text": case["input/text_features"], "image": case["input/image_features"]}
    torch.manual_seed(3)
    reference = Model(config, case["input/popularity"], case.n_items, features)
    torch.manual_seed(3)
    model = ODMT(config, case["input/popularity"], case.n_items, *features.values())
    got = model.official_keys().to_official(model.state_dict())
    for name, value in reference.state_dict().items():
        assert torch.equal(got[name], value), name


def test_the_official_evaluation_finds_its_modules(case: Golden) -> None:
    model = build(case, case.args)
    ids = torch.arange(case.n_items + 1)
    text_mask = case["input/text_mask"].float()
    with torch.no_grad():
        outputs = model.IMT(
            model.id_proj(model.id_encoder(ids)),
            model.text_proj(model.t_feat[ids]),
            text_mask,
            model.image_proj(model.v_feat[ids]),
            torch.ones(case.n_items + 1, model.v_feat.shape[1]),
            case.args.version,
        )
        heads = (model.id_dnns, model.t_dnns, model.v_dnns)
        embeddings = [head(x) for head, x in zip(heads, outputs, strict=True)]
    for name, values in zip(model.branches, embeddings, strict=True):
        torch.testing.assert_close(
            values[1:], case[f"item_embedding/{name}"][1:], atol=1e-5, rtol=1e-5
        )

    log_mask = case["input/log_mask"]
    inputs = embeddings[0][case["input/item_ids"][:, :-1]]
    reference = Model(
        ModelConfig.from_official(case.args),
        case["input/popularity"],
        case.n_items,
        {"text": model.t_feat, "image": model.v_feat},
    ).eval()
    reference.load_state_dict(case.group("param"))
    with torch.no_grad():
        got = model.id_user_encoder(inputs, log_mask, "cpu")
        expected = reference.get_submodule("id_user_encoder")(inputs, log_mask)
        torch.testing.assert_close(got, expected)
        offsets = torch.nn.functional.pad(log_mask.sum(1).long().cumsum(0), (1, 0))
        packed = case["input/item_ids"][:, :-1][log_mask != 0]
        states = model.encode_users(torch.stack(embeddings), packed, offsets)
    torch.testing.assert_close(states[0], got[:, -1], atol=1e-5, rtol=1e-5)


def test_gradients_flow_through_the_official_modules(case: Golden) -> None:
    model = build(case, case.args)
    model.t_dnns(torch.ones(2, case.args.embedding_dim)).sum().backward()
    gradient = model.items.heads[0].weight.grad
    assert gradient is not None
    assert float(gradient[1].abs().sum()) > 0.0 == float(gradient[0].abs().sum())


def test_the_table_is_a_copy_of_the_first_tokens() -> None:
    case = load("constant_weight_init_features")
    assert case.args.init != 0
    features = case["input/text_features"], case["input/image_features"]
    model = ODMT(case.args, case["input/popularity"], case.n_items, *features)
    text, image = (tokens[:, 0] for tokens in features)
    start = {1: (text + image) / 2, 2: image, 3: text}[case.args.init]
    assert torch.equal(model.id_encoder.weight, start)
    before = features[0].clone()
    model.id_encoder.weight.data.zero_()
    assert torch.equal(features[0], before)


def test_a_hidden_first_token_is_refused(case: Golden) -> None:
    model = build(case, case.args)
    mask = case["input/text_mask"][[3, 4]].clone()
    mask[1, 0] = 0
    with pytest.raises(ValueError, match="text mask of item 4 hides its first token"):
        model.features["text"].gather(torch.tensor([3, 4]), mask)


def test_every_dropout_of_a_configuration_is_used() -> None:
    config = ModelConfig(width=8, dropout=0.3, item_encoder_dropout=0.1, item_dropout={"text": 0.2})
    model = ODMT(config, [1.0, *[0.2] * 5], 5, torch.randn(6, 2, 4))
    assert (model.dropout, model.item_encoder_dropout) == (0.3, 0.1)
    assert model.item_dropout == (0.0, 0.2)


@pytest.mark.parametrize("other", [{"name": "id"}, {"backbone": "hstu"}])
def test_settings_of_another_model_are_refused(other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="ODMT is model.name=odmt .*zoo.build makes that"):
        ODMT(ModelConfig(**other), [1.0, *[0.2] * 5], 5)


def test_arguments_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match="args lacks id_embedding_dim, max_seq_len"):
        ModelConfig.from_official(Namespace(embedding_dim=8))
