"""``python -m bench.gpu.suite [-k WORDS] FILES``: the tests that need a GPU, as one row."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from bench.gpu.rows import append


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


def main() -> int:
    """Runs pytest; 1 unless something passed and nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only tests whose names have these words")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "-k", options.k, *options.files]
        code = subprocess.run(command, check=False).returncode
        if not report.exists():
            return code or 1
        row = counted(report)
    append(row)
    return 1 if code or not row["tests"]["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
