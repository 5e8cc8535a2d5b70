"""``python -m bench.gpu.suite [-k WORDS] FILES``: the tests that need a GPU, as one row."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.gpu.rows import append

NO_TESTS = 5
"""pytest's exit code where the words leave no test."""


def counted(report: Path) -> dict[str, Any]:
    """The row of a JUnit report."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            counts["failed"] += 1
            failures.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            counts["skipped" if "skipped" in kinds else "passed"] += 1
    return {"tests": counts, "failures": failures}


def tested(target: str, words: str) -> tuple[int, dict[str, Any]]:
    """(exit code, row) of pytest on a file or folder, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "-k", words, target]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        print(done.stdout, done.stderr, flush=True)
        if not report.exists():
            return done.returncode or 1, {"tests": {}, "failures": [target]}
        return done.returncode, counted(report)


def main() -> int:
    """Runs pytest on all files at once; 1 unless something passed and nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only tests whose names have these words")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    # Most of the time goes into compiling kernels, so the files share the device.
    with ThreadPoolExecutor(len(options.files)) as pool:
        done = list(pool.map(lambda file: tested(file, options.k), options.files))
    names = ("passed", "failed", "skipped")
    counts = {name: sum(row["tests"].get(name, 0) for _, row in done) for name in names}
    append({"tests": counts, "failures": [test for _, row in done for test in row["failures"]]})
    broken = [code for code, _ in done if code not in (0, NO_TESTS)]
    return 1 if broken or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
