"""Losses over drawn candidates: their formulas written out, and the full softmax they estimate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast import ODMT
from odmt_fast.batch.batch import Batch
from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.collate import Collator
from odmt_fast.config import ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.losses.distilled import DistilledSoftmax
from odmt_fast.models.losses.softmax import Softmax
from odmt_fast.models.zoo import MODELS, MOST_ENCODED, build

N_ITEMS, S, DRAWS, WIDTH = 9, 4, 20, 6
USERS = [[1, 2, 3], [2, 4, 2, 5, 7], [6, 1], [8, 9, 8, 1, 8]]
KINDS = ("in_batch", "mixed", "sampled", "full")
LOGQ = ("official", "none", "positive_uncorrected", "recsys25")


class Given(Candidates):
    """Candidates whose draws are given."""

    def __init__(
        self, config: ModelConfig, draws: Sequence[int], shares: NDArray[np.float64]
    ) -> None:
        super().__init__(config, shares, 1)
        self.given = np.array(draws, dtype=np.int64)

    def draw(self, epoch: int, step: int) -> NDArray[np.int64]:
        return self.given


def shares() -> NDArray[np.float64]:
    times = np.bincount([item for user in USERS for item in user], minlength=N_ITEMS + 1)
    return np.concatenate([[1.0], times[1:] / times.sum()])


def batch_of(candidates: Candidates) -> Batch:
    return Collator(Sequences.from_lists(USERS), S, candidates=candidates)(np.arange(4), 1, 0)


def vectors(
    batch: Batch, branches: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """States [K, M, d] and the catalogue [K, n_items + 1, d]."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(branches, batch.n_rows, WIDTH, generator=generator, dtype=dtype)
    catalogue = torch.randn(branches, N_ITEMS + 1, WIDTH, generator=generator, dtype=dtype)
    return states.requires_grad_(), catalogue.requires_grad_()


def loss_of(loss: Loss, batch: Batch, states: Tensor, catalogue: Tensor) -> dict[str, Tensor]:
    log_p = torch.from_numpy(shares()).log()[batch.items]
    return loss(states, catalogue[:, batch.items], batch, log_p, 1.0)


def expected_ce(
    config: ModelConfig, batch: Batch, draws: list[int], states: Tensor, catalogue: Tensor
) -> Tensor:
    """[K] cross entropies, row by row and put by put."""
    own = [item for user in USERS for item in user]
    kind, logq = config.candidates, config.logq
    put = {"in_batch": own, "mixed": own + draws, "sampled": draws}.get(kind, range(1, N_ITEMS + 1))
    odds = np.concatenate([[0.0], np.full(N_ITEMS, 1 / N_ITEMS)])
    n = len(draws) if kind in ("mixed", "sampled") else 0
    counts = (len(own) if kind in ("in_batch", "mixed") else 0) * shares() + n * odds
    q = np.ones(N_ITEMS + 1)
    if kind != "full" and logq != "none":
        q = counts if logq == "recsys25" else counts / counts[1:].sum()
    log_q = torch.from_numpy(np.log(np.maximum(q, 1e-300))).to(states.dtype)
    total = []
    for k in range(len(states)):
        rows = []
        for r in range(batch.n_rows):
            user, target = USERS[int(batch.row_user[r])], int(batch.items[batch.targets[r]])
            f = catalogue[k] @ states[k, r]
            bare = kind == "full" or logq in ("positive_uncorrected", "recsys25")
            z_target = f[target] - (0.0 if bare else log_q[target])
            others = [f[c] - log_q[c] for c in put if c not in user]
            rows.append(torch.stack([z_target, *others]).logsumexp(0) - z_target)
        total.append(torch.stack(rows).mean())
    return torch.stack(total)


@pytest.mark.parametrize("logq", LOGQ)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["softmax", "distilled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_losses_are_their_formula_with_gradients(
    dtype: torch.dtype, name: str, kind: str, logq: str
) -> None:
    config = ModelConfig(candidates=kind, logq=logq, draws=DRAWS)  # type: ignore[arg-type]
    draws = Candidates(config, shares(), 4).draw(1, 0).tolist()
    batch = batch_of(Given(config, draws, shares()))
    states, catalogue = vectors(batch, 2, dtype)
    branches = ("id", "text")
    if name == "softmax":
        loss = loss_of(Softmax(branches), batch, states, catalogue)["loss"]
    else:
        terms = loss_of(DistilledSoftmax(branches, tau=0.5, alpha=0.0), batch, states, catalogue)
        loss = terms["id/ce"] + terms["text/ce"]
        assert all(bool(term.isfinite()) for term in terms.values())
    expected = expected_ce(config, batch, draws, states, catalogue).sum()
    got, want = (torch.autograd.grad(x, (states, catalogue)) for x in (loss, expected))
    # The corrections of a batch are fp32 whatever the dtype.
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(loss, expected.to(dtype), **close)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **close)


def test_the_whole_catalogue_is_the_softmax_over_it() -> None:
    batch = batch_of(Candidates(ModelConfig(candidates="full"), shares(), 1))
    states, catalogue = vectors(batch, 1)
    loss = loss_of(Softmax(["id"]), batch, states, catalogue)["loss"]
    scores = states[0] @ catalogue[0].t()
    for row, (user, target) in enumerate(zip(batch.row_user, batch.targets, strict=True)):
        for item in {0, *USERS[int(user)]} - {int(batch.items[target])}:
            scores[row, item] = -torch.inf
    expected = torch.nn.functional.cross_entropy(scores, batch.items[batch.targets])
    torch.testing.assert_close(loss, expected)


def test_recsys25_has_the_gradient_of_its_paper() -> None:
    config = ModelConfig(candidates="sampled", draws=DRAWS, logq="recsys25", draw_power=0.5)
    batch = batch_of(Candidates(config, shares(), 9))
    states, catalogue = vectors(batch, 1)
    loss = loss_of(Softmax(["id"]), batch, states, catalogue)["loss"]
    odds = shares() ** 0.5
    odds[0] = 0.0
    odds = torch.from_numpy(odds / odds.sum())
    drawn = Candidates(config, shares(), 9).draw(1, 0).tolist()
    rows = []
    for r in range(batch.n_rows):
        user, y = USERS[int(batch.row_user[r])], int(batch.items[batch.targets[r]])
        f = catalogue[0] @ states[0, r]
        negatives = [c for c in drawn if c not in user]
        # q' and the draws left are both those given "not y": their product is n q.
        kept = DRAWS * (1 - odds[y])
        weighed = (f[negatives] - (odds[negatives] / (1 - odds[y])).log()).logsumexp(0)
        probability = f[y].exp() / (f[y].exp() + weighed.exp() / kept)
        rows.append((1 - probability).detach() * (weighed - f[y]))
    paper = torch.autograd.grad(torch.stack(rows).mean(), (states, catalogue))
    for a, b in zip(torch.autograd.grad(loss, (states, catalogue)), paper, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


class Small:
    """Two rows, five items of unequal popularity: every sequence of draws can be looked at."""

    users = ([1, 2], [3, 2])
    shares = np.array([1.0, 8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16])

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(8)
        self.states = torch.randn(1, 2, 3, dtype=torch.float64, generator=generator)
        catalogue = torch.randn(1, 6, 3, dtype=torch.float64, generator=generator)
        self.catalogue = catalogue.requires_grad_()

    def gradient(self, config: ModelConfig, draws: tuple[int, ...] = ()) -> Tensor:
        """Of the catalogue, [1, 6, 3]."""
        candidates = Given(config, draws, self.shares)
        collate = Collator(Sequences.from_lists(self.users), S, candidates=candidates)
        batch = collate(np.arange(2), 1, 0)
        log_p = torch.from_numpy(self.shares).log()[batch.items]
        items = self.catalogue[:, batch.items]
        terms = Softmax(["id"])(self.states, items, batch, log_p, 1.0)
        return torch.autograd.grad(terms["loss"], self.catalogue)[0]

    def expected(self, config: ModelConfig) -> Tensor:
        """The mean gradient over all sequences of draws."""
        n, total = config.draws, torch.zeros_like(self.catalogue)
        for draws in itertools.combinations_with_replacement(range(1, 6), n):
            times = np.bincount(draws)
            orders = math.factorial(n) // math.prod(map(math.factorial, times.tolist()))
            chance = orders * float(np.prod(self.shares[list(draws)]))
            total += chance * self.gradient(config, draws)
        return total

    def distance(self, gradient: Tensor) -> float:
        """From the gradient of the full softmax, relative."""
        whole = self.gradient(ModelConfig(candidates="full"))
        return float((gradient - whole).norm() / whole.norm())


def drawn(kind: str, logq: str, n: int) -> ModelConfig:
    return ModelConfig(candidates=kind, logq=logq, draws=n, draw_power=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mixed", "sampled"])
def test_the_expected_gradient_nears_that_of_the_full_softmax(kind: str) -> None:
    small = Small()
    one, three = (small.distance(small.expected(drawn(kind, "recsys25", n))) for n in (1, 3))
    assert three < 0.85 * one


@pytest.mark.parametrize("kind", ["mixed", "sampled"])
def test_with_many_draws_recsys25_alone_is_the_full_softmax(kind: str) -> None:
    small, n = Small(), 20_000
    draws = np.repeat(np.arange(1, 6), (small.shares[1:] * n).astype(int)).tolist()
    found = {logq: small.distance(small.gradient(drawn(kind, logq, n), draws)) for logq in LOGQ}
    assert found.pop("recsys25") < 1e-3
    assert min(found.values()) > 0.1


@pytest.mark.parametrize("logq", ["official", "recsys25"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_about_what_is_drawn(name: str, logq: str) -> None:
    config = ModelConfig(
        name=name, width=8, max_seq_len=S, candidates="sampled", draws=6, logq=logq, dropout=0.0
    )  # type: ignore[arg-type]
    features = torch.randn(N_ITEMS + 1, 2, 5, generator=torch.Generator().manual_seed(2))
    sources = {name: TokenTable.from_padded(features) for name in ("text", "image")}
    model = build(config, shares(), sources, generator=torch.Generator().manual_seed(1))
    users = Sequences.from_lists([[1, 2, 3], [4, 3]])

    def loss(draws: list[int]) -> Tensor:
        collate = Collator(users, S, model.sources, Given(config, draws, shares()))
        return model(collate(np.arange(2), 1, 0), 1.0)["loss"]

    drawn = loss([6, 6, 7, 8, 1, 6])
    assert drawn != loss([6, 6, 7, 9, 1, 6])
    drawn.backward()
    for part, table in model.items.named_modules():
        if part == "id_embedding":
            gradient = cast(Tensor, table.weight.grad)
            assert gradient.abs().sum(1).nonzero().flatten().tolist() == [1, 2, 3, 4, 6, 7, 8]


def test_official_arguments_leave_no_room_for_other_candidates() -> None:
    for change in ({"candidates": "mixed"}, {"logq": "none"}):
        config = ModelConfig(width=8, max_seq_len=3, imt_heads=1, **change)  # type: ignore[arg-type]
        model = ODMT(config, shares(), N_ITEMS, *[torch.zeros(N_ITEMS + 1, 2, 4)] * 2)
        with pytest.raises(ValueError, match="is decided where a Batch is made"):
            model(1.0, torch.tensor([1, 2, 3, 4]), torch.ones(4, 4), torch.ones(1, 3))


@pytest.mark.parametrize("name", MODELS)
def test_a_catalogue_of_features_is_not_encoded_as_a_whole(name: str) -> None:
    config = ModelConfig(name=name, candidates="full", width=8, imt_heads=2)

    def made(n_items: int) -> None:
        table = TokenTable.from_padded(torch.zeros(n_items + 1, 1, 4))
        build(config, np.ones(n_items + 1), {"text": table, "image": table})

    made(4)
    if name == "id":
        made(MOST_ENCODED + 1)
        return
    with pytest.raises(ValueError, match=rf"model.candidates=full with model.name={name}"):
        made(MOST_ENCODED + 1)
