"""``python -m bench.gpu.suite [-k WORDS] FILES``: the tests that need a GPU, a row per file."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.gpu.rows import SECONDS_VARIABLE, append

NO_TESTS = 5
"""pytest's exit code where the words leave no test."""
COMPLETE = (0, 1, NO_TESTS)
"""pytest's exit codes where every test was run: all passed, some failed, there was none."""
LAST_SECONDS = 10
"""Of the section's time, for pytest to report what was tested until then."""


def counted(report: Path, *, cut: bool = False) -> dict[str, Any]:
    """The row of a JUnit report; where pytest was `cut` short, its last test was not finished."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    cases = list(ET.parse(report).iter("testcase"))
    if cut and cases and not len(cases[-1]):
        cases.pop()
    for case in cases:
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            counts["failed"] += 1
            failures.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            counts["skipped" if "skipped" in kinds else "passed"] += 1
    return {"tests": counts, "failures": failures}


def tested(target: str, words: str, deadline: float) -> tuple[int, dict[str, Any]]:
    """(exit code, row) of pytest on a file or folder, in a process of its own.

    At the deadline (`time.monotonic`) pytest is interrupted, as from a keyboard: it then reports
    the tests that were done.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, printed = Path(folder, "report.xml"), Path(folder, "printed")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "-k", words, target]
        with printed.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        code = ended(process, deadline)
        print(printed.read_text(errors="replace"), flush=True)
        if not report.exists():
            return code, {"file": target, "tests": {}, "failures": [target]}
        return code, {"file": target, **counted(report, cut=code not in COMPLETE)}


def ended(process: subprocess.Popen[bytes], deadline: float) -> int:
    """pytest's exit code; interrupted at the deadline, killed where it does not take that in."""
    left = None if deadline == float("inf") else max(deadline - time.monotonic(), 0.1)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=left)
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=LAST_SECONDS - 4) or signal.SIGINT
    process.kill()
    process.wait()
    return signal.SIGKILL


def main() -> int:
    """Runs pytest on all files at once; 1 unless something passed, nothing failed, all ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only tests whose names have these words")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    seconds = float(os.environ.get(SECONDS_VARIABLE, "inf"))
    deadline = time.monotonic() + seconds - LAST_SECONDS

    def handed_over(file: str) -> tuple[int, dict[str, Any]]:
        code, row = tested(file, options.k, deadline)
        append(row)
        return code, row

    # Most of the time goes into compiling kernels, so the files share the device.
    with ThreadPoolExecutor(len(options.files)) as pool:
        done = list(pool.map(handed_over, options.files))
    passed = sum(row["tests"].get("passed", 0) for _, row in done)
    broken = [code for code, _ in done if code not in (0, NO_TESTS)]
    return 1 if broken or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
