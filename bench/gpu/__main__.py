"""``python -m bench.gpu OUT``: the whole run; writes OUT/<gpu>.json and prints one table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.machine import absent, machine, slug
from bench.gpu.plan import ROOT, WHOLE_SECONDS, Section, sections
from bench.gpu.process import run
from bench.gpu.results import SCHEMA, load, read_rows, save
from bench.gpu.rows import ROWS_VARIABLE, SECONDS_VARIABLE
from bench.gpu.summary import HEAD, lines, states
from bench.table import table

NOT_INHERITED = ("ODMT_FAST_BACKEND", "TRITON_INTERPRET")
"""Variables that would change what is measured."""


def run_all(plan: Sequence[Section], out: Path, scratch: Path, environment: dict[str, str]) -> Path:
    """Runs the sections one after the other, saving after each; the path of the results.

    A section may run until the seconds of all sections up to it are over, so none of them can make
    the whole late.
    """
    facts = machine(ROOT)
    results: dict[str, Any] = {"schema": SCHEMA, "machine": facts, "sections": {}}
    path = out / f"{slug(facts['gpu'])}.json"
    deadline = time.monotonic()
    for section in plan:
        deadline += section.seconds
        limit = min(deadline - time.monotonic(), WHOLE_SECONDS)
        print(f"{section.name}: up to {limit:.0f} s", flush=True)
        results["sections"][section.name] = _record(section, limit, scratch, environment)
        save(path, results)
        error = results["sections"][section.name]["error"]
        if error:
            print(error, flush=True)
    return path


def _record(
    section: Section, limit: float, scratch: Path, environment: dict[str, str]
) -> dict[str, Any]:
    record: dict[str, Any] = {"limit": round(limit, 1), "rows": [], "rates": None}
    if section.missing:
        return record | {"state": "skipped", "seconds": 0.0, "error": section.missing}
    handed = scratch / f"{section.name}.jsonl"
    outcome = run(
        section.command,
        limit=limit,
        log=scratch / f"{section.name}.log",
        environment={
            **environment,
            **dict(section.variables),
            ROWS_VARIABLE: str(handed),
            SECONDS_VARIABLE: str(limit),
        },
        folder=ROOT,
    )
    record["rows"], record["rates"] = read_rows(handed)
    return record | {
        "state": outcome.state,
        "seconds": round(outcome.seconds, 1),
        "error": outcome.error,
    }


def environment_of(inherited: Mapping[str, str], site: Path | None) -> dict[str, str]:
    """What every section gets: the installed package, the checkout, then the caller's paths.

    The checkout brings `bench` and `tests`; its `odmt_fast` has neither kernels nor extension.

    Args:
        inherited: the caller's variables.
        site: where the build installs; None where an installed package is used.
    """
    paths = [*([str(site)] if site else []), str(ROOT)]
    paths += [p for p in inherited.get("PYTHONPATH", "").split(os.pathsep) if p and p not in paths]
    kept = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}


def report(results: dict[str, Any]) -> str:
    """What the run prints at its end."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    body = lines(results)
    shown = [table(HEAD, body, left=2)] if body else []
    return "\n".join(["", facts, *shown, *states(results)])


def main() -> int:
    """0 when every section that could run did, and every test passed."""
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the JSON")
    parser.add_argument("--sanitize", action="store_true", help="compute-sanitizer, no benches")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--only", help="names of sections, separated by commas")
    options = parser.parse_args()
    if absent():
        print(f"not installed: {', '.join(absent())}; PYTHONPATH may bring them (bench/gpu.sh)")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        site = scratch / "site"
        plan = list(sections(options.device, site, sanitize=options.sanitize))
        if options.only:
            wanted = {"build", *options.only.split(",")}
            unknown = wanted - {section.name for section in plan} - {"build"}
            if unknown:
                parser.error(f"--only: no section {', '.join(sorted(unknown))}")
            plan = [section for section in plan if section.name in wanted]
        environment = environment_of(os.environ, site if options.device == "cuda" else None)
        path = run_all(plan, options.out.absolute(), scratch, environment)
    results = load(path)
    print(report(results))
    print(path)
    bad = [name for name, s in results["sections"].items() if s["state"] in ("failed", "timeout")]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
