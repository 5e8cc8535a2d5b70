"""bench/gpu.sh with an interpreter that only writes down what it is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu.sh"
INTERPRETER = """#!/usr/bin/env bash
echo "$PYTHONPATH|${TRITON_INTERPRET-unset}|$*" >> "$RECORD"
case "$*" in
    *bench/test_operators*) echo benched; sleep "${SLEEP:-0}" ;;
    *tests/gpu/test_loss.py*) echo "1 failed in 0.1s"; exit "${TESTS:-0}" ;;
    *tests/*) echo "3 passed in 0.1s" ;;
    -) exec python3 - ;;
esac
"""


def ran(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
    """Exit code, what was printed, and the calls of the interpreter."""
    python, record = tmp_path / "python", tmp_path / "record"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    record.touch()
    environment = {**os.environ, "PYTHON": str(python), "RECORD": str(record), **variables}
    done = subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=60
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
    assert re.search(
        rf"bench/test_operators.py --benchmark --results {out}.* -k dropout", calls[-1]
    )


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
    limits = [int(limit) for limit in re.findall(r"\bwithin (\d+) \S*[\"c]", text)]
    assert max(limits) + 10 < 9 * 60 and len(limits) == 4
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
