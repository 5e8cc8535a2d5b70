"""bench/gpu.sh with an interpreter that only writes down what it is asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.operators import OPERATORS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu.sh"
INTERPRETER = """#!/usr/bin/env bash
echo "$PYTHONPATH|${TRITON_INTERPRET-unset}|$*" >> "$RECORD"
case "$*" in
    *bench/test_operators*) ${BENCH:-echo benched} ${BENCH:+"$@"} ;;
    *tests/gpu/test_loss.py*) echo "1 failed in 0.1s"; exit "${TESTS:-0}" ;;
    *tests/*) echo "3 passed in 0.1s" ;;
    -) exec python3 - ;;
esac
"""


def ran(
    tmp_path: Path, *arguments: str, limit: float = 60, **variables: str
) -> tuple[int, str, list[str]]:
    """Exit code, what was printed, and the calls of the interpreter."""
    python, record = tmp_path / "python", tmp_path / "record"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    record.touch()
    environment = {**os.environ, "PYTHON": str(python), "RECORD": str(record), **variables}
    done = subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=limit
    )
    return done.returncode, done.stdout + done.stderr, record.read_text().splitlines()


def test_it_builds_tests_and_measures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    caller = {"PYTHONPATH": "/wheels", "TRITON_INTERPRET": "1"}
    code, printed, calls = ran(tmp_path, str(out), "-k", "dropout", **caller)
    assert code == 0, printed
    site, checkout, wheels = calls[0].split("|")[0].split(":")
    # The installed package hides the checkout's, which has no extension.
    assert (checkout, wheels) == (str(ROOT), "/wheels") and not Path(site).exists()
    assert all("|unset|" in call for call in calls)
    assert "pip install ." in calls[1] and f"--target {site}" in calls[1]
    tests = [call for call in calls if "-m gpu" in call]
    assert len(tests) == printed.count("3 passed") + printed.count("1 failed") > 5
    assert any("tests/batch/test_loader.py" in call for call in tests)
    assert (out / "tests-gpu-test_operators.log").read_text() == "3 passed in 0.1s\n"
    parts = [call for call in calls if "bench/test_operators.py --benchmark" in call]
    assert [re.search(r"rounds -m (.*) -k dropout$", part)[1] for part in parts] == [
        "step and not slow_start",
        "not step and not slow_start",
        "slow_start",
    ]
    assert all(f"--add --results {out} " in part for part in parts) and parts[-1] == calls[-1]


def test_a_failed_test_fails_the_run_and_stops_nothing(tmp_path: Path) -> None:
    code, printed, calls = ran(tmp_path, str(tmp_path / "out"), TESTS="1")
    assert code == 1 and "tests/gpu/test_loss.py: 1 failed" in printed
    assert "test_operators.py --benchmark" in calls[-1] and "benched" in printed


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pybind11'] = None\n")
    _, printed, _ = ran(tmp_path, str(tmp_path / "out"), PYTHONPATH=str(tmp_path))
    assert "not installed: " in printed and "pybind11" in printed


def test_the_limits_fit_into_nine_minutes_and_interrupt_what_runs() -> None:
    text = SCRIPT.read_text()
    limits = [int(limit) for limit in re.findall(r"^ *(?:within|measure) (\d+) ", text, re.M)]
    assert max(limits) + 10 < 9 * 60 and len(limits) == 6
    lines = re.findall(r"^(?:set -|within\(\)).*$", text, re.MULTILINE)
    code = "import time; print('begun', flush=True); time.sleep(30)"
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, f'within 1 {sys.executable} -c "{code}" & wait $!'])],
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.returncode == 124 and "KeyboardInterrupt" in done.stderr, done
    assert time.monotonic() - started < 20


def test_without_a_folder_it_says_so_and_does_nothing(tmp_path: Path) -> None:
    code, printed, calls = ran(tmp_path)
    assert code != 0 and "names no folder for the results" in printed and not calls
    (tmp_path / "file").touch()
    code, _, calls = ran(tmp_path, str(tmp_path / "file"))
    assert code != 0 and not calls


@pytest.mark.parametrize("tool", [True, False])
def test_sanitize_runs_the_small_tests_alone(tmp_path: Path, tool: bool) -> None:
    variables = {}
    if tool:
        (tmp_path / "bin").mkdir()
        fake = tmp_path / "bin" / "compute-sanitizer"
        fake.write_text('#!/usr/bin/env bash\necho "${@: -3}" >> "$RECORD"\n')
        fake.chmod(0o755)
        variables["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    code, printed, calls = ran(tmp_path, "--sanitize", str(tmp_path / "out"), **variables)
    assert not any("--benchmark" in call for call in calls)
    assert (code, calls[-1]) == (0, "-k small tests/gpu") if tool else code == 1, printed


def test_every_part_of_the_benches_runs_in_sizes_for_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "operators.json").write_text("stale")
    code, printed, calls = ran(tmp_path, str(out), "--tiny", BENCH=sys.executable, limit=400)
    assert code == 0, printed
    # An installed package is hidden by the checkout here; no other file is written.
    (file,) = out.glob("operators*.json")
    rows = json.loads(file.read_text())["rows"]
    assert [row["operator"] for row in rows][0] == "training_step"
    assert {row["operator"] for row in rows} == set(OPERATORS)
    assert not [row for row in rows if row["ours"] and "ms" not in row]
    compiled = [row for row in rows if "compile" in row["variant"]]
    assert len(compiled) > 5 and rows[-1] in compiled
    assert len({(r["operator"], r["case"], r["dtype"], r["variant"]) for r in rows}) == len(rows)


def test_options_that_choose_nothing_say_so(tmp_path: Path) -> None:
    (tmp_path / "nothing").write_text("#!/bin/sh\nexit 5\n")
    (tmp_path / "nothing").chmod(0o755)
    code, printed, _ = ran(
        tmp_path, str(tmp_path / "out"), "-k", "nosuch", BENCH=str(tmp_path / "nothing")
    )
    assert code == 1 and "no bench is chosen by: -k nosuch" in printed
