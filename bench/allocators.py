"""Time and memory of the engine's step under the allocators one may choose from.

``python -m bench.allocators`` measures the step as glibc is, with freed memory kept (what training
does, `odmt_fast.training.memory`), and under jemalloc where it is installed; each in a process of
its own, in turns, so that a drift of the machine meets all alike. docs/performance.md shows it.
"""

from __future__ import annotations

import argparse
import ctypes.util
import statistics
from typing import Any

from bench.results import measured, save, timed
from bench.table import table

LIBRARY = "libjemalloc.so.2"
JEMALLOC = "dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0"
"""Keeps freed pages, large ones too: by default jemalloc gives them back after ten seconds, and
those of 8 MiB and more at once."""

GLIBC = {"glibc as it is": ("--as-is",), "glibc, freed memory kept": ()}


def variants() -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Name -> arguments of `bench.step` and variables, of every allocator found here."""
    found: dict[str, tuple[tuple[str, ...], dict[str, str]]]
    found = {name: (arguments, {}) for name, arguments in GLIBC.items()}
    if ctypes.util.find_library("jemalloc"):
        for name, settings in {"jemalloc": "", "jemalloc, freed memory kept": JEMALLOC}.items():
            variables = {"LD_PRELOAD": LIBRARY}
            found[name] = (
                ("--as-is",),
                variables | ({"MALLOC_CONF": settings} if settings else {}),
            )
    return found


def main() -> None:
    """Measures, saves `bench/results/allocators.json` and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--same", action="store_true", help="one batch, not another every step")
    options = parser.parse_args()
    common = ["--implementation", "engine", "--users", str(options.users)]
    common += ["--steps", str(options.steps), *([] if options.same else ["--vary"])]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for repeat in range(options.repeats):
        for dtype in ("fp32", "bf16"):
            for name, (arguments, variables) in variants().items():
                print(f"{repeat + 1} of {options.repeats}: {dtype}, {name}", flush=True)
                row = measured("bench.step", "--dtype", dtype, *common, *arguments, **variables)
                runs.setdefault((dtype, name), []).append(row)
    rows = [summary(dtype, name, of) for (dtype, name), of in runs.items()]
    save(timed("allocators"), rows, users=options.users, varied=not options.same)
    print(table(HEAD, [cells(row) for row in rows]))


HEAD = ("allocator", "dtype", "step ms", "p20-p80", "process peak GiB")


def summary(dtype: str, name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: all steps of all repeats, and the largest memory of any."""
    seconds = [second for run in runs for second in run["seconds"]]
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return {
        "allocator": name,
        "dtype": dtype,
        "seconds": statistics.median(seconds),
        "p20": fifths[0],
        "p80": fifths[-1],
        "peak_bytes": max(run["peak_bytes"] for run in runs),
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row as the table shows it."""
    return [
        row["allocator"],
        row["dtype"],
        f"{row['seconds'] * 1e3:,.0f}",
        f"{row['p20'] * 1e3:,.0f}-{row['p80'] * 1e3:,.0f}",
        f"{row['peak_bytes'] / 2**30:.2f}",
    ]


def section(results: dict[str, Any]) -> str:
    """The step under each allocator, and how to choose one."""
    return "\n".join(
        [
            "## The allocator",
            "",
            "On the CPU a step's time depends on who serves its tensors. `odmt-fast train` tells "
            "glibc to keep freed memory (`mallopt`); jemalloc is chosen by whoever starts the "
            "process (on Debian: `apt install libjemalloc2`):",
            "",
            f"    LD_PRELOAD={LIBRARY} MALLOC_CONF={JEMALLOC} odmt-fast train ...",
            "",
            f"Batch {results['users']}"
            f"{', another batch every step' if results['varied'] else ', one batch'}; "
            "`python -m bench.allocators`.",
            "",
            table(HEAD, [cells(row) for row in results["rows"]], left=2),
        ]
    )


if __name__ == "__main__":
    main()
