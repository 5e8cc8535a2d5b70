"""Where the items of a trained run of `bench.comparison movielens` lie, before and after the model.

``python -m bench.spaces --run runs/comparison/movielens/runs/odmt/seed-1`` looks at it with
``odmt-fast studies features`` and writes ``bench/results/studies/movielens-spaces.json`` and the
pictures ``docs/images/movielens-spaces-*.png``; ``make report`` writes the table of
docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import results
from bench.table import table
from bench.trainings import run

NAME = "studies/movielens-spaces"
MARKS = ("<!-- spaces -->", "<!-- /spaces -->")
IMAGES = results.ROOT / "docs" / "images"
LABEL = r"\(\d{4}\)\. ([A-Z][\w-]*(?:, [A-Z][\w-]*)*)\."  # genres, as examples/genres.py reads them
GROUPS = ("all", "rare", "others")


def measure(trained: Path, projection: str, label: str = LABEL) -> None:
    """Writes results and pictures of a run; `label` as ``studies features`` takes it."""
    with tempfile.TemporaryDirectory() as place:
        words = ("--label", label, "--projection", projection, "--out", place)
        run("studies", "features", str(trained), *words)
        found = json.loads(Path(place, "features.json").read_text("utf-8"))
        IMAGES.mkdir(parents=True, exist_ok=True)
        for picture in ("sales", "labels"):
            shutil.copyfile(
                Path(place, f"{picture}.png"), IMAGES / f"movielens-spaces-{picture}.png"
            )
    rows = [{"space": name, **values} for name, values in found.pop("spaces").items()]
    results.save(NAME, rows, projection=projection, **found)


def section(found: Mapping[str, Any]) -> str:
    """Agreement, uniformity and CKA."""
    head = [
        "space",
        *(f"{what}, {group}" for what in ("agreement", "uniformity") for group in GROUPS),
    ]
    body = [
        [
            row["space"],
            *(_cell(row[what].get(g)) for what in ("agreement", "uniformity") for g in GROUPS),
        ]
        for row in found["rows"]
    ]
    alike = [[" / ".join(pair["of"]), f"{pair['value']:.4f}"] for pair in found["cka"]]
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join(
        [
            f"{found['items']:,} items; rare: the {found['rare']['items']:,} with at most "
            f"{found['rare']['sales at most']:,} interactions; kinds are genres, agreement by "
            f"chance {found['chance']:.4f}.",
            "",
            table(head, body),
            "",
            table(["linear CKA of", "value"], alike),
            "",
            *(f"![{name}](images/movielens-spaces-{name}.png)" for name in ("sales", "labels")),
            "",
            f"<sub>{machine}</sub>",
        ]
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True, help="of ODMT, trained")
    parser.add_argument("--projection", default="tsne", help="tsne, umap or pca")
    asked = parser.parse_args()
    measure(asked.run, asked.projection)
    print(section(results.load(NAME)))


if __name__ == "__main__":
    main()
