"""`ODMT` computes the reference's function: random shapes, float64, every gradient."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from odmt_fast import ODMT, ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.official.reference import Model


@dataclass(frozen=True)
class Case:
    """A model pair on the same parameters and a batch both understand."""

    engine: ODMT
    reference: Model
    batch: Batch
    item_ids: Tensor
    log_mask: Tensor


def make_case(
    seed: int,
    *,
    users: int = 3,
    n_items: int = 12,
    steps: int = 4,
    modalities: int = 2,
    names: tuple[str, ...] = ("text", "image", "audio", "video"),
    repeats: bool = False,
    dtype: torch.dtype = torch.float64,
    dropout: float = 0.0,
    longest: int = 5,
    missing: bool = False,
    **config: object,
) -> Case:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    names = names[:modalities]
    settings_ = ModelConfig(
        **{"width": 16, "max_seq_len": steps, "dropout": dropout, "id_width": 8, **config}
    )
    features, masks = {}, {}
    for number, name in enumerate(names):
        tokens = integer(1, longest)
        features[name] = torch.randn(n_items + 1, tokens, 6 + number, dtype=dtype)
        lengths = torch.randint(1, tokens + 1, (n_items + 1,), generator=generator)
        masks[name] = (torch.arange(tokens) < lengths[:, None]).to(dtype)
        if missing:
            # A missing modality is one zero token.
            item = integer(1, n_items)
            features[name][item] = 0
            masks[name][item] = torch.arange(tokens) == 0
    popularity = torch.rand(n_items + 1, generator=generator) + 0.05
    reference = Model(settings_, popularity, n_items, features, masks).to(dtype)
    for parameter in reference.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).to(dtype)
    tables = {name: TokenTable.from_padded(features[name], masks[name]) for name in names}
    engine = ODMT(
        settings_,
        popularity,
        n_items,
        tables.pop("text", None),
        tables.pop("image", None),
        tables,
    ).to(dtype)
    engine.load_state_dict(reference.state_dict())

    sequences = []
    for _ in range(users):
        length = integer(1, steps + 1)
        pool = 2 if repeats else n_items
        sequences.append(torch.randint(1, pool + 1, (length,), generator=generator))
    if all(len(s) == 1 for s in sequences):
        sequences[0] = torch.tensor([1, 2])
    item_ids = torch.zeros(users, steps + 1, dtype=torch.int64)
    log_mask = torch.zeros(users, steps, dtype=dtype)
    for user, sequence in enumerate(sequences):
        item_ids[user, -len(sequence) :] = sequence
        if len(sequence) > 1:
            log_mask[user, -(len(sequence) - 1) :] = 1
    index = batch_index(
        torch.cat(sequences), torch.tensor([len(s) for s in sequences]), settings_.max_seq_len
    )
    batch = Batch(**index._asdict())
    batch = batch.with_features(tuple(source.gather(batch.items) for source in engine.sources))
    return Case(engine, reference, batch, item_ids, log_mask)


def named(terms: dict[str, Tensor], kind: str) -> Tensor:
    """The terms of a kind, in the order of the branches or edges."""
    found = [term for name, term in terms.items() if name.endswith(f"/{kind}")]
    return torch.stack(found) if found else terms["loss"].new_empty(0)


def compare(case: Case, tolerance: float = 1e-10) -> None:
    terms = case.engine(case.batch, epoch=3)
    ce, kd = case.reference.loss_terms(case.item_ids, case.log_mask)
    torch.testing.assert_close(named(terms, "ce"), ce, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(named(terms, "kd"), kd, atol=tolerance, rtol=tolerance)
    (ce.sum() + float(terms["kd_weight"]) * kd.sum()).backward()
    terms["loss"].backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in case.engine.named_parameters()
    }
    got = case.engine.official_keys().to_official(gradients)
    for name, parameter in case.reference.named_parameters():
        if name not in got:  # what the official model never reads
            assert parameter.grad is None
            continue
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = max(1.0, float(expected.abs().max()))
        assert (got[name] - expected).abs().max() <= tolerance * scale, name


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 5),
    steps=st.integers(1, 6),
    modalities=st.integers(0, 4),
    longest=st.integers(1, 7),
    repeats=st.booleans(),
    missing=st.booleans(),
    imt_layers=st.integers(1, 2),
    mask=st.sampled_from(["asymmetric", "symmetric"]),
    tau=st.floats(0.1, 2.0),
    alpha=st.sampled_from([0.02, 5.0]),
)
def test_engine_equals_reference(seed: int, **shape: object) -> None:
    compare(make_case(seed, **shape))


@pytest.mark.parametrize(
    "shape",
    [
        {"users": 1, "steps": 1, "n_items": 2},
        {"users": 1, "longest": 1},
        {"users": 6, "repeats": True, "n_items": 3},
        {"imt_layers": 3, "imt_heads": 4},
        {"imt_heads": 1, "user_heads": 4, "user_layers": 1},
        {"missing": True, "modalities": 4},
        {"modalities": 0, "imt_layers": 2, "users": 5},
        {"modalities": 1, "imt_layers": 2},
        {"names": ("image",), "imt_layers": 2},
        {"names": ("audio",)},
    ],
    ids=str,
)
def test_corner_cases(shape: dict[str, object]) -> None:
    compare(make_case(11, **shape))


@pytest.mark.parametrize("modalities", [0, 1, 2])
def test_fp32_backend_agrees(modalities: int) -> None:
    shape = {"dtype": torch.float32, "users": 5, "imt_layers": 2, "modalities": modalities}
    compare(make_case(5, **shape), tolerance=2e-5)


def test_a_step_is_reproduced_by_its_seed_and_varies_without() -> None:
    case = make_case(3, dropout=0.3, dtype=torch.float32)
    case.engine.train()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(case.engine(case.batch, epoch=3)["loss"].item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("modalities", "part_tokens"), [(2, 30), (0, 3)])
def test_recomputation_in_parts_changes_nothing(
    modalities: int, part_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_case(6, users=6, imt_layers=2, modalities=modalities)
    whole.engine(whole.batch, epoch=3)["loss"].backward()
    monkeypatch.setattr("odmt_fast.models.items.imt.PART_TOKENS", part_tokens)
    parts = make_case(6, users=6, imt_layers=2, modalities=modalities)
    parts.engine.train().items.recompute = True
    features = parts.engine.features.values()
    longest = sum(tokens.max_length for tokens in features) + 1
    assert 1 < part_tokens // longest < parts.batch.items.shape[0], (
        "several parts, several items in each"
    )
    parts.engine(parts.batch, epoch=3)["loss"].backward()
    for (name, a), b in zip(
        whole.engine.named_parameters(), parts.engine.parameters(), strict=True
    ):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("part_tokens", [30, 8192])
def test_recomputation_repeats_the_noise(part_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odmt_fast.models.items.imt.PART_TOKENS", part_tokens)
    gradients = []
    for runs_once in (False, True):
        case = make_case(4, dropout=0.2, dtype=torch.float32, imt_layers=3, imt_heads=2)
        case.engine.train().items.recompute = True
        if runs_once:
            monkeypatch.setattr(
                "odmt_fast.models.items.imt.checkpoint",
                lambda encode, *arguments, **_: encode(*arguments),
            )
        torch.manual_seed(0)
        case.engine(case.batch, epoch=3)["loss"].backward()
        gradients.append([p.grad for p in case.engine.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_detached_teachers_get_no_gradient_from_the_distillation() -> None:
    case = make_case(7, detach_teacher=True)
    terms = case.engine(case.batch, epoch=3)
    terms["text/kd"].backward()
    head = case.engine.users.positions.grad
    assert head is not None
    assert float(head[0].abs().max()) == 0.0, "the ID branch is the teacher of edge 0"
    assert float(head[1].abs().max()) > 0.0


def test_ids_alone_are_trained_by_the_plain_debiased_loss() -> None:
    case = make_case(8, modalities=0, users=5)
    terms = case.engine(case.batch, epoch=3)
    assert list(terms) == ["loss", "id/ce", "kd_weight"]
    assert torch.equal(terms["loss"], terms["id/ce"])
    assert case.engine.branches == ("id",)
    assert (case.engine.t_feat, case.engine.v_feat) == (None, None)


@pytest.mark.parametrize(("start", "lacking"), [("text", "text"), ("mean", "text and image")])
def test_ids_cannot_start_from_features_that_are_not_there(start: str, lacking: str) -> None:
    with pytest.raises(ValueError, match=f"none of {lacking}; use --set model.id_init=xavier"):
        make_case(1, modalities=0, id_init=start)


@pytest.mark.parametrize("modalities", [0, 2])
def test_bf16_autocast_stays_close_and_gives_fp32_gradients(modalities: int) -> None:
    case = make_case(9, dtype=torch.float32, users=5, modalities=modalities)
    with torch.autocast("cpu", torch.bfloat16):
        terms = case.engine(case.batch, epoch=3)
    exact = case.engine(case.batch, epoch=3)
    assert terms["loss"].dtype == torch.float32
    assert abs(float(terms["loss"]) - float(exact["loss"])) < 0.05 * float(exact["loss"])
    terms["loss"].backward()
    assert all(p.grad.dtype == torch.float32 for p in case.engine.users.parameters())
