"""The run: sections under time limits, JSON after each, exit codes, tables, the page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import bench.report
from bench.gpu import __main__ as gpu_main
from bench.gpu import results, suite, summary
from bench.gpu.machine import machine, slug
from bench.gpu.plan import ROOT, WHOLE_SECONDS, Section, gpu_tests, sections
from bench.gpu.process import run
from bench.gpu.rows import ROWS_VARIABLE, append

APPEND = "import json, os; f = open(os.environ['ODMT_FAST_ROWS'], 'a'); "
FLOOR = {"forward": 0.5, "backward": 0.5, "both": 1.0, "bound": "copy"}


def row(variant: str, ms: float = 2.0, **more: Any) -> dict[str, Any]:
    times = {name: {"ms": ms, "p20": ms, "p80": ms} for name in ("forward", "backward", "both")}
    head = {"operator": "op", "case": "small", "variant": variant, "note": ""}
    head["ours"] = variant.startswith("ours")
    return {**head, **times, "floor": FLOOR, "peak_bytes": 2**20, "rounds": 5} | {
        "moved_bytes": 6e6,
        **more,
    }


def made_up() -> dict[str, Any]:
    head = {"operator": "op", "case": "small"}
    rows = [
        row("reference", 4.0),
        row("ours"),
        row("ours, other engine", 3.0, error="differs from the reference by 0.3"),
        {**head, "variant": "rival", "ours": False, "note": "", "error": "RuntimeError: no\nmore"},
        {**head, "variant": "absent", "skipped": "not installed"},
    ]
    tests = {"tests": {"passed": 3, "failed": 1, "skipped": 0}, "failures": ["gpu::test_x"]}
    tests["file"] = "tests/gpu/test_x.py"
    done = {"state": "done", "seconds": 3.0, "limit": 9.0, "error": None}
    return {
        "schema": results.SCHEMA,
        "machine": {"gpu": "Made Up 9000", "date": "2026-01-01"},
        "sections": {
            "tests": {**done, "state": "failed", "error": "exit code 1\n..", "rates": None}
            | {"rows": [tests]},
            "ops": {**done, "rates": {"copy_bytes": 3e12, "matmul_flop": 7e14}, "rows": rows},
        },
    }


def run_plan(tmp_path: Path, *plan: Section) -> dict[str, Any]:
    path = gpu_main.run_all(plan, tmp_path / "out", tmp_path, dict(os.environ))
    return results.load(path)["sections"]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_sections_fail_and_time_out_alone(tmp_path: Path) -> None:
    written = json.dumps(row("ours"))
    slow = (
        f"{APPEND} f.write({written!r} + '\\n' + '{{\"cut'); f.flush(); import time; time.sleep(60)"
    )
    start = time.monotonic()
    recorded = run_plan(
        tmp_path,
        Section("slow", 1.5, python(slow)),
        Section("broken", 5, python("print('before'); raise SystemExit('why')")),
        Section("absent", 5, python(""), missing="no tool"),
        Section("good", 5, python(f"{APPEND} f.write({written!r} + '\\n')")),
    )
    assert time.monotonic() - start < 10
    assert [s["state"] for s in recorded.values()] == ["timeout", "failed", "skipped", "done"]
    assert recorded["slow"]["rows"] == [json.loads(written)]  # what was complete is kept
    assert "ran past its" in recorded["slow"]["error"]
    assert "why" in recorded["broken"]["error"] and "before" in recorded["broken"]["error"]
    assert recorded["good"]["rows"] == [json.loads(written)]
    # Time the others did not need is added.
    assert recorded["good"]["limit"] > 10


def test_a_timeout_ends_what_the_section_started(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    command = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    log = tmp_path / "log"
    done = run(command, limit=1, log=log, environment=os.environ, folder=tmp_path)
    assert done.state == "timeout" and done.seconds < 3
    time.sleep(3)
    assert not mark.exists()


@pytest.mark.parametrize("sanitize", [False, True])
def test_the_plan_fits_into_nine_minutes(sanitize: bool, tmp_path: Path) -> None:
    plan = list(sections("cuda", tmp_path, sanitize=sanitize))
    assert sum(section.seconds for section in plan) <= WHOLE_SECONDS - 15
    assert plan[0].name == "build"


def test_gpu_tests_are_found() -> None:
    found = gpu_tests(ROOT)
    assert "tests/gpu/test_operators.py" in found and "tests/batch/test_loader.py" in found
    assert all((ROOT / path).exists() for path in found)


def test_the_suite_counts_and_refuses_a_run_that_tested_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x\n")
    test = tmp_path / "test_it.py"
    test.write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_a(): pass\ndef test_b(): assert 0\n"
        "def test_c(): pytest.skip('no device')\n"
    )
    rows = tmp_path / "rows"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), ROWS_VARIABLE: str(rows)}

    def suite_run(*arguments: str) -> int:
        command = [sys.executable, "-m", "bench.gpu.suite", *arguments, str(test)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True
        ).returncode

    assert suite_run() == 1
    assert suite_run("-k", "test_c") == 1
    assert suite_run("-k", "test_a") == 0
    first = json.loads(rows.read_text().splitlines()[0])
    assert first["tests"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert first["failures"] == ["test_it::test_b"] and first["file"] == str(test)
    (last,), _ = results.read_rows(rows)  # of a file that comes again, the last row counts
    assert last["tests"] == {"passed": 1, "failed": 0, "skipped": 0}


def test_a_suite_whose_time_is_up_reports_what_was_tested(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x\n")
    test, report, started = (tmp_path / n for n in ("test_slow.py", "report.xml", "started"))
    test.write_text(
        "import time\ndef test_a(): pass\n"
        f"def test_b(): open({str(started)!r}, 'w'); time.sleep(300)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", str(test)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert suite.ended(process, time.monotonic()) not in suite.COMPLETE
    assert suite.counted(report, cut=True)["tests"] == {"passed": 1, "failed": 0, "skipped": 0}


def test_a_process_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "LAST_SECONDS", 4.1)
    code = "import signal, time; signal.signal(2, 1); print(flush=True); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert suite.ended(process, time.monotonic()) == signal.SIGKILL


def test_results_survive_the_disk_and_refuse_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "made.json"
    results.save(path, made_up())
    assert results.load(path) == made_up()
    assert [p.name for p in path.parent.iterdir()] == ["made.json"]
    broken = made_up()
    broken["sections"]["ops"]["rows"].append({"operator": "op", "case": "c", "variant": "v"})
    with pytest.raises(ValueError, match="neither times nor an error"):
        results.save(path, broken)
    broken["sections"]["ops"]["state"] = "maybe"
    with pytest.raises(ValueError, match="'maybe'"):
        results.check(broken)
    assert results.load(path) == made_up()


def test_the_table_has_ratios_floors_and_reasons() -> None:
    lines = {line[1]: line for line in summary.lines(made_up())}
    assert all(len(line) == len(summary.HEAD) for line in lines.values())
    assert lines["reference"][0] == "op: small" and lines["ours"][0] == ""
    ratio, share = summary.HEAD.index("time / ours"), summary.HEAD.index("of the floor")
    assert lines["reference"][ratio] == "2.00" and lines["ours"][ratio] == "1.00"
    assert lines["ours"][share] == "25% 25% 50% (copy)"  # forward, backward, both
    assert lines["ours"][summary.HEAD.index("GB/s")] == "3"  # 6 MB in 2 ms
    assert lines["ours, other engine"][-1].startswith("FAILED: differs")
    assert lines["rival"][-1] == "did not run: RuntimeError: no"
    assert lines["absent"][-1] == "skipped: not installed"
    tests, ops = summary.states(made_up())
    assert "3 passed, 1 failed" in tests and "FAILED gpu::test_x" in tests
    assert "3.00 TB/s" in ops and "700 TFLOP/s" in ops


def test_the_page_gets_a_section_per_gpu(tmp_path: Path) -> None:
    path = tmp_path / "made_up_9000.json"
    results.save(path, made_up())
    section = bench.report.gpu_section(path)
    assert section.startswith("## Made Up 9000\n")
    assert re.search(r"\| op: small \| reference +\|", section)
    assert "date 2026-01-01" in section


def test_main_writes_prints_and_returns_one_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = python(f"{APPEND} f.write({json.dumps(row('ours'))!r} + '\\n')")
    plan = [Section("good", 9, good), Section("bad", 9, python("raise SystemExit(3)"))]
    monkeypatch.setattr(gpu_main, "sections", lambda *_, **__: iter(plan))
    monkeypatch.setattr(gpu_main, "machine", lambda root: {"gpu": "NVIDIA H100 80GB HBM3"})
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["gpu.sh", str(out)])
    assert gpu_main.main() == 1
    assert (out / "nvidia_h100_80gb_hbm3.json").exists()
    assert re.search(r"\| op: small \| ours +\|", capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["gpu.sh", str(out), "--only", "good"])
    assert gpu_main.main() == 0
    monkeypatch.setattr(sys, "argv", ["gpu.sh", str(out), "--only", "goood"])
    with pytest.raises(SystemExit):
        gpu_main.main()


def test_what_the_caller_brings_on_the_path_stays_there(tmp_path: Path) -> None:
    caller = {"PYTHONPATH": f"{ROOT}{os.pathsep}/wheels", "TRITON_INTERPRET": "1", "HOME": "/h"}
    got = gpu_main.environment_of(caller, tmp_path)
    # The installed package hides the checkout's, which has no extension.
    assert got["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), str(ROOT), "/wheels"]
    assert "TRITON_INTERPRET" not in got and got["HOME"] == "/h"


def test_the_script_names_what_is_absent_and_runs_the_rest(tmp_path: Path) -> None:
    """The command itself, at tiny sizes, by an interpreter that finds no pybind11."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pybind11'] = None\n")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    script = str(ROOT / "bench" / "gpu.sh")
    command = [script, "--device", "cpu", "--only", "attention", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not installed: pybind11" in done.stdout
    assert re.search(r"\| packed_attention: 4 items .* \| reference, eager", done.stdout)
    (written,) = (tmp_path / "out").iterdir()
    assert results.load(written)["sections"]["attention"]["state"] == "done"


def test_machine_names_versions_and_file() -> None:
    facts = machine(ROOT)
    assert {"gpu", "date", "python", "torch"} <= facts.keys()
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"


def test_rows_are_printed_where_no_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ROWS_VARIABLE, raising=False)
    append({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
