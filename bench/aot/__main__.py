"""python -m bench.aot: compile the registered launches and csrc, and write docs/kernels_aot.md.

With --json the rows go to standard output instead, for tests. Compiled kernels are cached in
TRITON_CACHE_DIR, or in a folder that is removed again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    """Parse, compile, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.aot", description=__doc__)
    parser.add_argument(
        "operators", nargs="*", help="default: all that registered cases, and csrc (needs nvcc)"
    )
    parser.add_argument("--official", action="store_true", help="only the official shapes")
    parser.add_argument("--json", action="store_true", help="print rows, write no file")
    parser.add_argument("--output", type=Path, default=Path("docs/kernels_aot.md"))
    options = parser.parse_args()

    # Both must hold before Triton is imported.
    os.environ.pop("TRITON_INTERPRET", None)
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("TRITON_CACHE_DIR", cache)
        from bench.aot import device_code
        from bench.aot.compiler import compile_launch
        from bench.aot.registry import cases, operators
        from bench.aot.report import markdown

        wanted = options.operators or [*operators(), device_code.NAME]
        if device_code.NAME in wanted and (missing := device_code.nvcc_missing()):
            parser.error(f"csrc: {missing}; name the operators that are wanted without it")
        rows = []
        for operator, case, sm in cases(
            [name for name in wanted if name != device_code.NAME], options.official
        ):
            print(f"sm_{sm} {operator}: {case.name}", file=sys.stderr)
            rows += compile_launch(operator, case.name, sm, case.launch)
        if device_code.NAME in wanted:
            rows += device_code.compile_sources()
    if options.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
    else:
        options.output.write_text(markdown(rows))


if __name__ == "__main__":
    main()
