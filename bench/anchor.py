"""Amazon Beauty, IDs alone, against published figures: kinds of candidates, and backbones.

``python -m bench.anchor`` prepares the shared data and trains examples/amazon-beauty.yaml once for
every kind of candidates and correction, and once on every other backbone. A finished run is written
to ``bench/results/studies/anchor.json`` at once; begun anew, the study goes on where it stopped,
inside a training too. ``--only NAME`` runs some of them. ``make report`` writes the table of
docs/results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import results
from bench.anchor_table import NAME
from bench.trainings import SOURCES, prepared_dataset, settings_of, sizes_of, trained
from odmt_fast.cli.settings import load_config
from odmt_fast.config import Config
from odmt_fast.models.zoo import BACKBONES
from odmt_fast.workflow.workspace import Workspace

EXAMPLE = results.ROOT / "examples" / "amazon-beauty.yaml"
SOURCE = SOURCES / "amazon-beauty-esasrec"
KINDS = ("in_batch", "mixed", "sampled", "full")
LOGQ = ("official", "recsys25")


@dataclass(frozen=True)
class Study:
    """What is trained on what.

    Attributes:
        source: the sequences.
        config: of all runs, but for candidates, seeds and paths.
    """

    source: Path = SOURCE
    config: Config = field(default_factory=lambda: load_config(EXAMPLE, None))

    def runs(self) -> Iterator[tuple[str, Config]]:
        """Name and configuration of every run; `full` leaves nothing to correct.

        The runs on other backbones, without dropout of items, and as wide as the configuration
        that the publication committed, are scored as the example says.
        """
        for kind in KINDS:
            for logq in LOGQ if kind != "full" else LOGQ[:1]:
                name = kind if kind == "full" else f"{kind}, {logq}"
                yield name, self.config.updated({"model.candidates": kind, "model.logq": logq})
        for backbone in BACKBONES:
            if backbone != self.config.model.backbone:
                yield f"on {backbone}", self.config.updated({"model.backbone": backbone})
        yield "no item dropout", self.config.updated({"model.item_dropout": 0.0})
        yield "width 256", self.config.updated({"model.width": 256})


def head_of(study: Study, workspace: Workspace) -> dict[str, Any]:
    """What all runs share, as JSON values."""
    return {
        "source": study.source.name,
        "config": settings_of(study.config, "model.candidates", "model.logq"),
        **sizes_of(workspace),
    }


def run_study(
    study: Study, seeds: int, work: Path, *, only: Collection[str] = (), fresh: bool = False
) -> None:
    """Runs what is missing for seeds 1 to `seeds`; data and runs lie in `work`."""
    dataset = prepared_dataset(study.source, work)
    workspace = Workspace.open(study.config.updated({"data.path": dataset}))
    record = results.Record(NAME, head_of(study, workspace), ("model", "seed"), fresh=fresh)
    for seed in range(1, seeds + 1):
        for name, config in study.runs():
            if (only and name not in only) or record.has(model=name, seed=seed):
                continue
            print(f"{name}, seed {seed}", flush=True)
            output = work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            own = {"data.path": dataset, "training.seed": seed, "training.output": output}
            _, figures = trained(config.updated(own), resume=not fresh)
            alone = {"metrics": figures["metrics"]["id"]}
            record.add({"model": name, "seed": seed, **figures, **alone})


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--work", type=Path, default=results.ROOT / "runs" / "anchor")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    study = Study()
    if unknown := set(options.only) - {name for name, _ in study.runs()}:
        known = "; ".join(name for name, _ in study.runs())
        raise SystemExit(f"--only {unknown.pop()!r} is not one of: {known}")
    run_study(study, options.seeds, options.work, only=options.only, fresh=options.fresh)


if __name__ == "__main__":
    main()
