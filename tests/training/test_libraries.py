"""The measured choice of matmul libraries is kept by the machine and by the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.toy_run import Crash, CrashAfter, Silent, toy_train

from odmt_fast.kernels.linear import libraries as kernel
from odmt_fast.kernels.linear.libraries import Libraries
from odmt_fast.training import libraries
from odmt_fast.training.checkpoint import LAST, load
from odmt_fast.training.precision import resolve


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An empty cache folder; how often was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "_chosen", None)
    measured: list[int] = []

    def measure() -> Libraries:
        measured.append(1)
        return Libraries(False, False, True, matmul_fp32=float(len(measured)))

    monkeypatch.setattr(kernel, "measure", measure)
    return measured


def test_the_answer_of_a_machine_is_kept(own_cache: list[int]) -> None:
    first = libraries.choose()
    kernel.use(None)
    assert libraries.choose() == first == kernel.current()
    assert len(own_cache) == 1
    assert libraries.choose(again=True).matmul_fp32 == 2
    assert libraries.choose().matmul_fp32 == 2


@pytest.mark.parametrize(
    "limit", ["ONEDNN_MAX_CPU_ISA=AVX2", "DNNL_MAX_CPU_ISA=AVX2", "ONEDNN_DEFAULT_FPMATH_MODE=BF16"]
)
def test_an_answer_holds_only_for_what_the_libraries_may_use(
    own_cache: list[int], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    name, value = limit.split("=")
    monkeypatch.delenv(name, raising=False)
    free = libraries.choose()
    monkeypatch.setenv(name, value)
    limited = libraries.choose()
    assert len(own_cache) == 2 and limited != free
    monkeypatch.delenv(name)
    assert libraries.choose() == free
    assert len(own_cache) == 2


def test_processors_of_one_name_are_told_apart_by_their_instructions(
    own_cache: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "_CPUINFO", tmp_path / "cpuinfo")
    keys = set()
    for flags in ("fpu avx2 fma", "fpu avx2 fma avx512_bf16", "apic fpu fma avx2"):
        text = f"processor\t: 0\nmodel name\t: Virtual CPU\nflags\t\t: {flags}\n\n"
        (tmp_path / "cpuinfo").write_text(text * 2)
        keys.add(libraries.machine_key())
    assert len(keys) == 2 and all(key.startswith("Virtual CPU, avx2 ") for key in keys)


def test_one_answer_for_any_number_of_threads(own_cache: list[int]) -> None:
    """Two measurements may differ, and a seed's bits with them."""
    allowed = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(libraries.choose())
    finally:
        torch.set_num_threads(allowed)
    assert answers[0] == answers[1] and len(own_cache) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_cache_is_measured_over(own_cache: list[int], content: str) -> None:
    libraries.cache_file().parent.mkdir(parents=True)
    libraries.cache_file().write_text(content)
    libraries.choose()
    assert libraries.machine_key() in libraries.cache_file().read_text()


def test_a_cache_that_cannot_be_written_gives_a_fixed_answer_and_is_said(
    own_cache: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "measure", lambda: Libraries(True, False, True))
    libraries.cache_file().parent.parent.write_text("a file where the folder should be")
    said: list[str] = []
    assert libraries.choose(say=said.append) == Libraries(False, False, True)
    assert "XDG_CACHE_HOME" in said[0]


def test_slow_bf16_is_no_trap_on_resuming(
    tmp_path: Path, own_cache: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_train(tmp_path / "run", epochs=1)
    monkeypatch.setattr(kernel, "measure", lambda: Libraries(False, False, False))
    libraries.choose(again=True)
    reporter = Silent()
    toy_train(tmp_path / "run", epochs=2, reporter=reporter)
    assert any("other last bits" in message for message in reporter.messages)
    # Found automatically when it began, bf16 stays the run's precision.
    assert (
        load(tmp_path / "run" / "checkpoints" / LAST)[1]["identity"]["training.precision"] == "bf16"
    )


def test_a_resumed_run_multiplies_as_it_began(tmp_path: Path, own_cache: list[int]) -> None:
    toy_train(tmp_path / "run", epochs=1)
    recorded = load(tmp_path / "run" / "checkpoints" / LAST)[1]["libraries"]
    assert recorded["matmul_fp32"] == 1
    libraries.choose(again=True)
    toy_train(tmp_path / "run", epochs=2)
    assert load(tmp_path / "run" / "checkpoints" / LAST)[1]["libraries"] == recorded


def test_a_run_killed_in_its_first_step_multiplies_as_it_began(
    tmp_path: Path, own_cache: list[int]
) -> None:
    with pytest.raises(Crash):
        toy_train(tmp_path / "run", reporter=CrashAfter(1), checkpoint_steps=1000)
    last = tmp_path / "run" / "checkpoints" / LAST
    _, header = load(last)
    assert header["progress"]["total_steps"] == 0
    assert header["libraries"]["matmul_fp32"] == 1
    libraries.choose(again=True)
    toy_train(tmp_path / "run", epochs=1)
    assert kernel.current().matmul_fp32 == 1
    assert load(last)[1]["libraries"] == header["libraries"]


def test_auto_is_bf16_where_its_products_are_fast(tmp_path: Path) -> None:
    kernel.use(Libraries(False, False, True))
    assert resolve("auto", torch.device("cpu")) == "bf16"
    kernel.use(Libraries(False, False, False))
    assert resolve("auto", torch.device("cpu")) == "fp32"
    assert resolve("bf16", torch.device("cpu")) == "bf16"


def test_bf16_without_fast_products_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "measure", lambda: Libraries(False, False, False))
    reporter = Silent()
    toy_train(tmp_path / "bf16", epochs=1, precision="bf16", reporter=reporter)
    assert sum("--precision fp32" in message for message in reporter.messages) == 1
    reporter = Silent()
    toy_train(tmp_path / "auto", epochs=1, precision="auto", reporter=reporter)
    assert "in fp32 (training.precision=auto)" in reporter.messages[0]
    assert '"precision": "fp32"' in (tmp_path / "auto" / "config.json").read_text()
