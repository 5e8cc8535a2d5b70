"""Item vectors before and after the item Transformer, and what can be counted in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.features.tokens import device_of
from odmt_fast.models import SequentialModel
from odmt_fast.randomness import numpy_generator, torch_generator

NEIGHBOURS = 10
_RARE = 0.25
_PAIRS = 1 << 20
_AT_ONCE = 1 << 13
"""Pairs whose vectors are held together: 80 MB each side at width 1,280."""


@dataclass(frozen=True)
class ItemSpaces:
    """The same N items in several spaces.

    Attributes:
        items: int64 [N], dense ids, ascending.
        before: modality -> float64 [N, d_m], the mean of an item's frozen tokens.
        after: branch -> float64 [N, d], what the model makes of them.
        sales: int64 [N], training interactions of each.
        labels: [N] sets of words; empty ones are of unknown kind.
    """

    items: Tensor
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    sales: Tensor
    labels: tuple[frozenset[str], ...]

    @property
    def rare_sales(self) -> int:
        """An item with at most so many sales is a rare one: the rarest quarter."""
        return int(self.sales.double().quantile(_RARE))

    @property
    def rare(self) -> Tensor:
        """bool [N]."""
        return self.sales <= self.rare_sales

    def named(self) -> dict[str, Tensor]:
        """All spaces: ``text before``, .., ``id after``, .."""
        return {
            **{f"{name} before": vectors for name, vectors in self.before.items()},
            **{f"{name} after": vectors for name, vectors in self.after.items()},
        }


def item_spaces(
    model: SequentialModel,
    counts: NDArray[np.int64],
    labels: Sequence[frozenset[str]],
    *,
    most: int,
    seed: int,
) -> ItemSpaces:
    """Of a trained model.

    Args:
        model: in eval mode.
        counts: int64 [n_items + 1], training interactions of each item.
        labels: of item i at i - 1.
        most: items that are looked at; of a larger catalogue a sample without replacement.
        seed: of the sample.

    Raises:
        ValueError: fewer than 3 items.
    """
    n_items = model.n_items
    if min(n_items, most) < 3:
        raise ValueError(f"{min(n_items, most)} items are too few; look at 3 or more (--items)")
    drawn = numpy_generator(seed, "looked-at items").permutation(n_items)[:most]
    items = 1 + torch.from_numpy(np.sort(drawn))
    catalogue = model.encode_catalogue().cpu()[:, items].double()
    before = {}
    for name, source in zip(model.items.modalities, model.sources, strict=True):
        tokens = source.gather(items.to(device_of(source))).to("cpu")
        owners = torch.repeat_interleave(torch.arange(len(items)), tokens.lengths)
        sums = torch.zeros(len(items), tokens.values.shape[1], dtype=torch.float64)
        sums.index_add_(0, owners, tokens.values.double())
        before[name] = sums / tokens.lengths[:, None]
    after = dict(zip(model.branches, catalogue, strict=True))
    sales = torch.from_numpy(counts)[items]
    kinds = tuple(labels[item - 1] for item in items.tolist())
    return ItemSpaces(items, before, after, sales, kinds)


def labels_in(texts: Sequence[str | None], pattern: str) -> list[frozenset[str]]:
    """The words that the first group of `pattern` finds in each text, separated by , or |.

    Raises:
        ValueError: the pattern is no regular expression with a group, or finds nothing.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--label {pattern!r} is no regular expression: {error}") from error
    if expression.groups < 1:
        raise ValueError(f"--label {pattern!r} has no group; put what is the label in ( )")
    found = []
    for text in texts:
        match = expression.search(text or "")
        words = re.split(r"[,|]", match[1] or "") if match else []
        found.append(frozenset(word.strip() for word in words if word.strip()))
    if not any(found):
        raise ValueError(
            f"--label {pattern!r} finds nothing in the texts; the first is {texts[0]!r}"
        )
    return found


def summary(spaces: ItemSpaces, *, seed: int) -> dict[str, Any]:
    """All numbers of all spaces, JSON values."""
    rare = spaces.rare
    groups = {"all": torch.ones_like(rare), "rare": rare, "others": ~rare}
    same = _same_label(spaces.labels)
    labelled = torch.tensor([bool(words) for words in spaces.labels])
    found: dict[str, Any] = {}
    for name, vectors in spaces.named().items():
        unit = torch.nn.functional.normalize(vectors, dim=1)
        agreement = None
        if int(labelled.sum()) > 1:
            agreement = neighbour_agreement(unit[labelled], same[labelled][:, labelled])
        found[name] = {
            "agreement": {
                group: _mean(agreement, members[labelled]) for group, members in groups.items()
            },
            "uniformity": {
                group: uniformity(unit[members], seed=seed)
                for group, members in groups.items()
                if int(members.sum()) > 1
            },
        }
    pairs = [(f"{name} before", f"{name} after") for name in spaces.before if name in spaces.after]
    pairs += combinations([f"{name} after" for name in spaces.after], 2)
    every = spaces.named()
    others = ~torch.eye(int(labelled.sum()), dtype=torch.bool)
    return {
        "items": len(spaces.items),
        "labelled": int(labelled.sum()),
        "rare": {"items": int(rare.sum()), "sales at most": spaces.rare_sales},
        "chance": float(same[labelled][:, labelled][others].double().mean())
        if int(labelled.sum()) > 1
        else None,
        "spaces": found,
        "cka": [{"of": [a, b], "value": linear_cka(every[a], every[b])} for a, b in pairs],
    }


def neighbour_agreement(unit: Tensor, same: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """[N] share of each item's nearest others, by cosine, that are of its kind.

    Args:
        unit: [N, d] of length 1.
        same: bool [N, N], whether two are of one kind.
        neighbours: at most N - 1 of them.
    """
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = cosine.topk(min(neighbours, len(unit) - 1), dim=1).indices
    return same.gather(1, nearest).double().mean(1)


def uniformity(unit: Tensor, *, seed: int) -> float:
    """``log mean exp(-2 |x - y|^2)`` over pairs of different items; lower is more spread out.

    0 where all are one point; about -4 on a sphere of many dimensions. Of many items, a million
    random pairs. Source: Wang and Isola, ICML 2020.

    Args:
        unit: [N, d] of length 1, N at least 2.
        seed: of the pairs.
    """
    if len(unit) ** 2 <= _PAIRS:
        distances = torch.pdist(unit).square()
    else:
        generator = torch_generator(seed, "pairs")
        first = torch.randint(len(unit), (_PAIRS,), generator=generator)
        step = torch.randint(1, len(unit), (_PAIRS,), generator=generator)
        pairs = torch.stack([first, (first + step) % len(unit)], dim=1)
        distances = torch.cat(
            [2 - 2 * unit[part].prod(1).sum(1) for part in torch.split(pairs, _AT_ONCE)]
        )
    return float((-2 * distances).exp().mean().log())


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of [N, d_a] and [N, d_b], in 0..1.

    1 where one is the other turned and scaled. Source: Kornblith et al., ICML 2019.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    together = (a.T @ b).square().sum()
    return float(together / ((a.T @ a).norm() * (b.T @ b).norm()))


def _same_label(labels: Sequence[frozenset[str]]) -> Tensor:
    """bool [N, N], whether two items have a label in common."""
    words = {word: place for place, word in enumerate(sorted(frozenset().union(*labels)))}
    has = torch.zeros(len(labels), max(len(words), 1))
    for row, own in enumerate(labels):
        has[row, [words[word] for word in own]] = 1
    return (has @ has.T) > 0


def _mean(values: Tensor | None, members: Tensor) -> float | None:
    if values is None or not bool(members.any()):
        return None
    return float(values[members].mean())
