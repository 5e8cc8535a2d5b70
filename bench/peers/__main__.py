"""``python -m bench.peers``: SASRec of RecTools, RecBole and ours, users a second, one run each.

Each library has an interpreter of its own, in an environment where it is installed::

    python -m venv tools && tools/bin/pip install "rectools[torch]"
    python -m venv bole && bole/bin/pip install recbole "numpy<2" "pandas<3" "setuptools<81"
    python -m bench.peers --rectools tools/bin/python --recbole bole/bin/python

A library without ``--NAME PYTHON``, or that cannot run there, is left out, and said so. All train
the same sequences (Amazon Beauty, the last two items of a user left out) with the same width,
steps, blocks, heads, dropout, batch and learning rate, in fp32, against the whole catalogue. The
first epoch warms up. An epoch has the first ``--users`` sequences, for of all some libraries take
minutes. Writes ``bench/results/peers.json``; ``make report`` writes the table of
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from bench import results
from bench.table import table
from bench.trainings import SOURCES

NAME = "peers"
FOLDER = Path(__file__).parent
SOURCE = SOURCES / "amazon-beauty-esasrec"
LIBRARIES = ("rectools", "recbole")
CATALOGUE = "the whole catalogue"
SETTINGS = {
    "width": 64,
    "steps": 50,
    "layers": 1,
    "heads": 1,
    "dropout": 0.2,
    "batch": 128,
    "learning_rate": 0.001,
    "seed": 1,
}


def measured(command: Sequence[str], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Runs one side in a process of its own and reads its last line.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    threads = str(wanted["threads"])
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(
        [*command, json.dumps(wanted)],
        cwd=results.ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command[-1]} failed: {' '.join(done.stderr.split()[-40:])}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(
    behaviors: Path,
    pythons: Mapping[str, str | None],
    threads: int,
    epochs: int,
    settings: Mapping[str, Any] = SETTINGS,
) -> list[dict[str, Any]]:
    """A row for every library that is there, and for ours against the catalogue and in the batch.

    Args:
        behaviors: the sequences.
        pythons: library -> its interpreter; None leaves it out.
        threads: of each.
        epochs: of each; the first one is not counted.
        settings: of each.
    """
    wanted = {**settings, "behaviors": str(behaviors), "threads": threads, "epochs": epochs}
    rows = []
    for name, python in pythons.items():
        print(name, flush=True)
        if python is None:
            print(f"left out: no --{name} PYTHON is given", flush=True)
            continue
        try:
            found = measured((python, str(FOLDER / f"with_{name}.py")), wanted)
        except RuntimeError as error:
            print(f"left out: {error}", flush=True)
            continue
        rows.append({"against": CATALOGUE, **found})
    ours = (sys.executable, "-m", "bench.peers.with_odmt_fast")
    for candidates, against in {"full": CATALOGUE, "in_batch": "the items of the batch"}.items():
        print(f"odmt_fast, {against}", flush=True)
        found = measured(ours, {**wanted, "candidates": candidates})
        rows.append({"against": against, **found})
    return rows


def first_users(source: Path, users: int, folder: Path) -> Path:
    """The first `users` sequences of `source`, as ``behaviors.tsv`` in `folder`."""
    behaviors = folder / "behaviors.tsv"
    with source.open(encoding="utf-8") as lines:
        behaviors.write_text("".join(islice(lines, users)), encoding="utf-8")
    return behaviors


def section(found: Mapping[str, Any]) -> str:
    """The table of docs/performance.md."""
    body = []
    slowest = max(median(row["seconds"][1:]) for row in found["rows"])
    for row in found["rows"]:
        seconds = median(row["seconds"][1:])
        body.append(
            [
                row["version"],
                row["against"],
                f"{row['samples']:,}",
                f"{seconds:.1f}",
                f"{row['users'] / seconds:,.0f}",
                f"{slowest / seconds:.1f}",
            ]
        )
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in SETTINGS.items())
    head = [
        "SASRec of",
        "scored against",
        "samples an epoch",
        "s per epoch",
        "users/s",
        "times the slowest",
    ]
    return "\n".join(
        [
            "## SASRec beside other libraries",
            "",
            f"The first {found['rows'][0]['users']:,} users of {found['source']}: one run each of "
            f"{found['epochs']} epochs, the first not counted, fp32, {found['threads']} threads; "
            f"{settings}. RecBole makes a sample of every prefix of a sequence, with one target; "
            "the others take a sequence at once, with a target at every step. Made by "
            "`python -m bench.peers`, whose docstring says how.",
            "",
            table(head, body, left=2),
        ]
    )


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for library in LIBRARIES:
        parser.add_argument(f"--{library}", metavar="PYTHON", help="interpreter that has it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--users", type=int, default=2048, help="the first so many sequences")
    asked = parser.parse_args()
    pythons = {library: getattr(asked, library) for library in LIBRARIES}
    with tempfile.TemporaryDirectory() as place:
        behaviors = first_users(SOURCE / "behaviors.tsv", asked.users, Path(place))
        rows = compare(behaviors, pythons, asked.threads, asked.epochs)
    about = {"source": SOURCE.name, "threads": asked.threads, "epochs": asked.epochs}
    results.save(NAME, rows, **about)
    print(section({**about, "rows": rows}))


if __name__ == "__main__":
    main()
