"""The ready grid around ODMT: one setting at a time, all else as it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args

from odmt_fast.config import Config, IdInit
from odmt_fast.studies.grid import Grid

PARTS = ("mask", "id_init", "alpha", "tau", "detach_teacher", "layers")
"""What can be varied."""
BASE = "as-given"

_VALUES: Mapping[str, tuple[Any, ...]] = {
    "mask": ("asymmetric", "symmetric"),
    "alpha": (0.0, 0.02, 0.2, 20.0, 100.0),
    "tau": (0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "detach_teacher": (False, True),
}
_LAYERS = (1, 2, 3)


def ablation(
    base: Config, dims: Mapping[str, int], parts: Collection[str], seeds: Sequence[int]
) -> Grid:
    """A row as given, and one for every other value of each part; compared against the first.

    Args:
        base: of the runs.
        dims: modality -> width of its tokens, which is that of an ID table they begin.
        parts: among `PARTS`.
        seeds: of every row.

    Raises:
        ValueError: an unknown part, or a model without distillation.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"--only {unknown[0]} is no part; choose from {', '.join(PARTS)}")
    if base.model.name != "odmt" or not dims:
        raise ValueError(
            f"model.name={base.model.name} with {len(dims)} modalities has nothing to ablate; it "
            "is for odmt with features (odmt-fast study takes any grid)"
        )
    rows: dict[str, dict[str, Any]] = {BASE: {}}
    for part in parts:
        if part == "layers":
            rows |= dict(_layers(base))
        elif part == "id_init":
            rows |= dict(_starts(base, dims))
        else:
            rows |= {
                f"{part}={value}": {f"model.{part}": value}
                for value in _VALUES[part]
                if value != getattr(base.model, part)
            }
    return Grid.of({"rows": rows, "seeds": [*seeds], "against": BASE}, base)


def _layers(base: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("imt_layers", "user_layers"):
        for value in _LAYERS:
            if value != getattr(base.model, name):
                # The heads stay: officially they are as many as the layers.
                heads = {"model.imt_heads": base.model.heads} if name == "imt_layers" else {}
                yield f"{name}={value}", {f"model.{name}": value, **heads}


def _starts(base: Config, dims: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The starts of the ID table that the features allow, at their width."""
    for start in get_args(IdInit):
        read = {"xavier": (), "mean": ("text", "image")}.get(start, (start,))
        widths = {dims.get(name) for name in read}
        if start == base.model.id_init or None in widths or len(widths) > 1:
            continue
        yield (
            f"id_init={start}",
            {
                "model.id_init": start,
                "model.id_width": next(iter(widths), base.model.id_width),
            },
        )
