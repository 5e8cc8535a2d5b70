"""What is counted in item spaces, against values that are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from models.features import N_ITEMS, catalogue, means, model
from PIL import Image

from odmt_fast.studies.spaces import (
    item_spaces,
    labels_in,
    linear_cka,
    neighbour_agreement,
    summary,
    uniformity,
)
from odmt_fast.studies.spaces_plot import plot_labels, plot_sales, project


def test_cka_ignores_turns_and_scale_and_sees_independence() -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(500, 6, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q
    assert linear_cka(a, 3 * a @ turn + 5) == pytest.approx(1)
    other = torch.randn(500, 4, dtype=torch.float64, generator=generator)
    assert linear_cka(a, other) < 0.05
    # tr(KHLH) of the Gram matrices, as it is defined.
    middle = torch.eye(500, dtype=torch.float64) - 1 / 500
    k, l = (middle @ (x @ x.T) @ middle for x in (a, other))
    assert linear_cka(a, other) == pytest.approx(float((k * l).sum() / (k.norm() * l.norm())))


def test_uniformity_is_zero_for_a_point_and_low_for_a_sphere() -> None:
    point = torch.ones(50, 1, dtype=torch.float64)
    assert uniformity(point, seed=1) == 0
    pair = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert uniformity(pair, seed=1) == pytest.approx(-4)
    generator = torch.Generator().manual_seed(1)
    ball = torch.nn.functional.normalize(
        torch.randn(1100, 64, dtype=torch.float64, generator=generator)
    )
    every = torch.pdist(ball).square().mul(-2).exp().mean().log()
    assert uniformity(ball, seed=1) == pytest.approx(float(every), abs=0.01)  # of drawn pairs
    assert -4 < float(every) < -3.8


def test_neighbours_of_one_kind_are_counted_without_the_item_itself() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6], dtype=torch.float64)
    unit = torch.stack([angles.cos(), angles.sin()], 1)
    kinds = torch.tensor([0, 0, 1, 1, 1])
    same = kinds[:, None] == kinds
    assert neighbour_agreement(unit, same, 1).tolist() == [1, 1, 0, 1, 1]
    assert neighbour_agreement(unit, same, 99).tolist() == [0.25, 0.25, 0.5, 0.5, 0.5]


def test_labels_are_what_the_pattern_finds() -> None:
    texts = ["Alien (1979). Horror, Sci-Fi. A ship.", None, "No year."]
    found = labels_in(texts, r"\(\d{4}\)\. ([^.]+)\.")
    assert found == [frozenset({"Horror", "Sci-Fi"}), frozenset(), frozenset()]
    for pattern, message in (
        ("(", "no regular expression"),
        ("a", "has no group"),
        ("(z)", "nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            labels_in(texts, pattern)


def test_spaces_are_mean_tokens_and_branches(tmp_path: Path) -> None:
    sources = catalogue()
    made = model("odmt", sources).eval()
    counts = np.arange(N_ITEMS + 1)
    labels = [frozenset({"odd"} if item % 2 else {"even", "x"}) for item in range(1, N_ITEMS + 1)]
    labels[0] = frozenset()
    spaces = item_spaces(made, counts, labels, most=100, seed=1)
    assert spaces.items.tolist() == spaces.sales.tolist() == list(range(1, N_ITEMS + 1))
    for name, source in sources.items():
        torch.testing.assert_close(spaces.before[name], means(source))
    torch.testing.assert_close(spaces.after["text"], made.encode_catalogue()[1, 1:])
    assert spaces.rare.sum() == 3 and spaces.rare_sales == 3

    found = summary(spaces, seed=1)
    assert list(found["spaces"]) == [
        *("text before", "image before", "id after", "text after", "image after")
    ]
    # 8 labelled items, 4 odd and 4 even ones: 3 of 7 others are alike.
    assert found["labelled"] == 8 and found["chance"] == pytest.approx(3 / 7)
    values = found["spaces"]["id after"]
    assert values["agreement"]["all"] == pytest.approx(3 / 7)  # all 7 others are neighbours
    assert not math.isnan(values["uniformity"]["rare"])
    assert ["text before", "text after"] in [pair["of"] for pair in found["cka"]]
    assert len(found["cka"]) == 2 + 3

    flat = project(spaces, "pca", seed=1)
    assert flat["id after"].shape == (N_ITEMS, 2)
    for path in (
        plot_labels(spaces, flat, tmp_path / "labels.png"),
        plot_sales(spaces, flat, tmp_path / "sales.png"),
    ):
        with Image.open(path) as image:
            assert image.format == "PNG"
    with pytest.raises(ValueError, match="--projection flat does not exist; use tsne"):
        project(spaces, "flat", seed=1)


def test_a_sample_is_without_replacement_and_nothing_labelled_is_told() -> None:
    made = model("odmt", catalogue()).eval()
    none = [frozenset[str]()] * N_ITEMS
    spaces = item_spaces(made, np.ones(N_ITEMS + 1, int), none, most=5, seed=3)
    assert len(set(spaces.items.tolist())) == 5
    found = summary(spaces, seed=1)
    assert found["chance"] is None
    assert found["spaces"]["id after"]["agreement"]["all"] is None
    with pytest.raises(ValueError, match="2 items are too few"):
        item_spaces(made, np.ones(N_ITEMS + 1, int), none, most=2, seed=3)


@pytest.mark.parametrize("kind", ["tsne", "umap"])
def test_other_projections_say_what_they_need_or_draw(kind: str) -> None:
    made = model("odmt", catalogue()).eval()
    none = [frozenset[str]()] * N_ITEMS
    spaces = item_spaces(made, np.ones(N_ITEMS + 1, int), none, most=9, seed=3)
    try:
        assert project(spaces, kind, seed=1)["text before"].shape == (N_ITEMS, 2)
    except ValueError as error:
        assert f"--projection {kind} needs" in str(error) and "--projection pca" in str(error)
