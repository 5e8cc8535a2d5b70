"""Checkpoints as people keep them: wrapped, whole, with an optimizer, and features from NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_cases import Golden, load
from torch import Tensor

from odmt_fast import ODMT, ModelConfig, official
from odmt_fast.official.reference import Model


@pytest.fixture(scope="module")
def case() -> Golden:
    return load("asymmetric_two_layers")


def build(case: Golden, text: Any = None, image: Any = None) -> ODMT:
    return ODMT(
        case.args,
        case["input/popularity"],
        case.n_items,
        case["input/text_features"] if text is None else text,
        case["input/image_features"] if image is None else image,
    )


def official_values(model: ODMT) -> dict[str, Tensor]:
    return model.state_dict(official=True)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.module.{key}",
        lambda key: key.replace("IMT.", "IMT._orig_mod."),
    ],
)
@pytest.mark.parametrize("under", [None, "model_state_dict", "state_dict", "model"])
def test_wrapped_and_whole_checkpoints_load(
    case: Golden, wrap: Callable[[str], str], under: str | None
) -> None:
    expected = case.group("param")
    state = {wrap(key): value for key, value in expected.items()}
    model = build(case)
    model.load_state_dict({under: state, "optimizer": {}, "epoch": 3} if under else state)
    got = official_values(model)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], expected[key]) for key in expected)
    # Ours may be wrapped too.
    other = build(case)
    other.load_state_dict({wrap(key): value for key, value in model.state_dict().items()})
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_what_is_no_checkpoint_is_refused(case: Golden) -> None:
    model, state = build(case), case.group("param")
    with pytest.raises(ValueError, match="no model is found in a checkpoint with net, epoch"):
        model.load_state_dict({"net": state, "epoch": 3})
    with pytest.raises(ValueError, match=r"has id_proj\.bias twice, once as module\.id_proj\.bias"):
        model.load_state_dict({**state, "module.id_proj.bias": state["id_proj.bias"]})
    del state["id_encoder.weight"]
    with pytest.raises(RuntimeError, match=r"missing: id_encoder\.weight; build the model"):
        model.load_state_dict(state)


def test_a_saved_checkpoint_comes_back(case: Golden, tmp_path: Path) -> None:
    model, path = build(case), tmp_path / "epoch.pt"
    official.save(path, model, epoch=7)
    kept = torch.load(path, weights_only=True)
    assert kept["epoch"] == 7
    assert kept["model_state_dict"].keys() == case.group("param").keys()
    other = build(case)
    other.load_state_dict(kept)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    assert official.state_dict(model).keys() == kept["model_state_dict"].keys()


def adamw(parameters: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=3e-3, betas=(0.8, 0.95), weight_decay=0.2)


def trained_reference(case: Golden) -> tuple[Model, torch.optim.AdamW]:
    """The padded model after two updates by gradients of its own, the unused parameters none."""
    reference = Model(
        ModelConfig.from_official(case.args),
        case["input/popularity"],
        case.n_items,
        {"text": case["input/text_features"], "image": case["input/image_features"]},
    )
    optimizer = adamw(reference.parameters())
    for step in range(2):
        update(reference.named_parameters(), optimizer, step)
    return reference, optimizer


def gradient(name: str, like: Tensor, step: int) -> Tensor:
    return torch.randn(
        like.shape, generator=torch.Generator().manual_seed(hash_of(name) + step), dtype=like.dtype
    )


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[-6:], "little")


def update(parameters: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    for name, parameter in parameters:
        if "token_type_embeddings" in name or name.startswith("IMT.layer_norm"):
            continue
        parameter.grad = gradient(name, parameter, step)
    optimizer.step()


def test_an_official_optimizer_goes_on_here(case: Golden) -> None:
    reference, theirs = trained_reference(case)
    model = build(case)
    model.load_state_dict(reference.state_dict())
    ours = torch.optim.AdamW(model.parameters())
    checkpoint = {"model_state_dict": reference.state_dict(), "optimizer": theirs.state_dict()}
    ours.load_state_dict(official.optimizer_state(model, ours, checkpoint))
    assert ours.param_groups[0]["betas"] == (0.8, 0.95)
    assert ours.param_groups[0]["lr"] == 3e-3
    # One more update by the same gradients gives the same weights.
    update(reference.named_parameters(), theirs, 2)
    keys = model.official_keys()
    named = dict(reference.named_parameters())
    joined = keys.from_official({n: gradient(n, p, 2) for n, p in named.items()})
    for name, parameter in model.named_parameters():
        if not name.startswith("unused."):
            parameter.grad = joined[name]
    ours.step()
    got = official_values(model)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-7)


def test_an_optimizer_that_does_not_fit_is_refused(case: Golden) -> None:
    reference, theirs = trained_reference(case)
    model = build(case)
    ours = torch.optim.AdamW(model.parameters())
    state = theirs.state_dict()
    with pytest.raises(ValueError, match="no optimizer is found in a checkpoint with epoch"):
        official.optimizer_state(model, ours, {"epoch": 1})
    names = [name for name, _ in reference.named_parameters()]
    with pytest.raises(ValueError, match=rf"has {len(names)} parameters, the model 1; pass"):
        official.optimizer_state(model, ours, state, names[:1])
    with pytest.raises(ValueError, match="at the place of .* the parameter .* in the optimizer's"):
        official.optimizer_state(model, ours, state, names[::-1])
    index = names.index("text_proj.bias")
    part = next(i for i, name in enumerate(names) if name.endswith("w_Q.weight"))
    half = {**state, "state": {i: s for i, s in state["state"].items() if i != part}}
    with pytest.raises(ValueError, match=r"and none for .*w_Q\.weight.*fresh optimizer"):
        official.optimizer_state(model, ours, half)
    first, second = ({**state["param_groups"][0], "params": p} for p in ([*range(index)], []))
    second["params"], second["lr"] = [*range(index, len(names))], 1.0
    with pytest.raises(ValueError, match="groups differ in lr"):
        official.optimizer_state(model, ours, {**state, "param_groups": [first, second]})


@pytest.mark.parametrize("mode", ["array", "frozen", "r", "c", "slice"])
def test_numpy_features_are_those_of_tensors(case: Golden, tmp_path: Path, mode: str) -> None:
    text, image = (case[f"input/{name}_features"].numpy() for name in ("text", "image"))
    path = tmp_path / "image.npy"
    np.save(path, image)
    if mode == "frozen":
        image = image.copy()
        image.flags.writeable = False
    elif mode == "slice":
        np.save(path, np.concatenate([np.full_like(image[:1], 9.0), image]))
        image = np.load(path, mmap_mode="r")[1:]
    elif mode != "array":
        image = np.load(path, mmap_mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build(case, text, image)
    items = torch.tensor([3, 1])
    expected = build(case).features["image"].gather(items).values
    assert torch.equal(model.features["image"].gather(items).values, expected)
    assert torch.equal(model.v_feat, case["input/image_features"])


def test_features_of_other_shapes_and_dtypes_are_refused(case: Golden) -> None:
    text = case["input/text_features"].numpy()
    with pytest.raises(ValueError, match=r"text features must be \[item_num \+ 1, tokens, width\]"):
        build(case, text[:, 0])
    with pytest.raises(ValueError, match="text features are an array of object; convert it"):
        build(case, text.astype(object))
