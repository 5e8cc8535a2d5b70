"""Pictures of item spaces, on two axes (needs matplotlib; t-SNE scikit-learn, UMAP umap-learn)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.studies.plots import COLOURS, GREY, new_figure, save_figure
from odmt_fast.studies.spaces import ItemSpaces

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

PROJECTIONS = ("tsne", "umap", "pca")
_PACKAGES = {"tsne": "scikit-learn", "umap": "umap-learn"}
_LIGHT = "#d9d9d9"

Flat = Mapping[str, NDArray[np.float64]]


def project(spaces: ItemSpaces, kind: str, *, seed: int) -> Flat:
    """Every space on two axes, [N, 2], by cosine: vectors are brought to length 1.

    Raises:
        ValueError: `kind` is none of `PROJECTIONS`, or its package is not installed.
    """
    if kind not in PROJECTIONS:
        raise ValueError(f"--projection {kind} does not exist; use {', '.join(PROJECTIONS)}")
    flat = {}
    for name, vectors in spaces.named().items():
        unit = torch.nn.functional.normalize(vectors, dim=1)
        try:
            flat[name] = _two_axes(unit, kind, seed % 2**32)
        except ImportError as error:
            raise ValueError(
                f"--projection {kind} needs {_PACKAGES[kind]} ({error}); pip install "
                f"{_PACKAGES[kind]}, or use --projection pca"
            ) from error
    return flat


def plot_labels(spaces: ItemSpaces, flat: Flat, out: Path) -> Path:
    """Items coloured by the first of the most frequent labels that they have."""
    counts = Counter(word for words in spaces.labels for word in words)
    frequent = [word for word, _ in counts.most_common(len(COLOURS))]
    firsts = [next((w for w in frequent if w in words), None) for words in spaces.labels]
    groups = {
        word: (torch.tensor([first == word for first in firsts]), colour)
        for word, colour in zip(frequent, COLOURS, strict=False)
    }
    rest = torch.tensor([first is None for first in firsts])
    return _plot(spaces, flat, {"others": (rest, _LIGHT), **groups}, out)


def plot_sales(spaces: ItemSpaces, flat: Flat, out: Path) -> Path:
    """Rarely sold items against the others, and the best sold quarter."""
    best = spaces.sales >= spaces.sales.double().quantile(0.75)
    rare = spaces.rare
    least, most = spaces.rare_sales, int(spaces.sales[best].min())
    groups = {
        f"{least + 1} to {most - 1} sales": (~rare & ~best, _LIGHT),
        f"{most} or more": (best & ~rare, COLOURS[0]),
        f"at most {least}": (rare, COLOURS[2]),
    }
    return _plot(spaces, flat, groups, out)


def _plot(
    spaces: ItemSpaces, flat: Flat, groups: Mapping[str, tuple[Tensor, str]], out: Path
) -> Path:
    """Spaces before above those after, each below its own; one legend."""
    columns = [*spaces.before, *(name for name in spaces.after if name not in spaces.before)]
    rows = ("before", "after") if spaces.before else ("after",)
    figure = new_figure(height=0.6 + 2.75 * len(rows))
    handles: dict[str, Artist] = {}
    for row, when in enumerate(rows):
        for column, name in enumerate(columns):
            if (points := flat.get(f"{name} {when}")) is None:
                continue
            place = row * len(columns) + column + 1
            axes = figure.add_subplot(len(rows), len(columns), place)
            _dress(axes, f"{name}, {when}")
            for label, (members, colour) in groups.items():
                if bool(members.any()):
                    chosen = points[members.numpy()]
                    size = max(2.0, min(12.0, 6000 / len(points)))
                    handles[label] = axes.scatter(
                        chosen[:, 0],
                        chosen[:, 1],
                        s=size,
                        c=colour,
                        alpha=0.75,
                        linewidths=0,
                        label=label,
                    )
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
        markerscale=2.5,
    )
    return save_figure(figure, out)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GREY)


def _two_axes(unit: Tensor, kind: str, seed: int) -> NDArray[np.float64]:
    if kind == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(unit) - 1) / 3)
        found = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(
            unit.numpy()
        )
    elif kind == "umap":
        from umap import UMAP

        found = UMAP(random_state=seed).fit_transform(unit.numpy())
    else:
        centred = unit - unit.mean(0)
        found = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T).numpy()
    flat: NDArray[np.float64] = np.asarray(found, dtype=np.float64)
    return flat
