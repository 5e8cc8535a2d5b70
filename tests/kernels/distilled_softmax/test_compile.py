"""The kernels of the loss compiled for GPUs that are not here: no spills, tiles that fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


COMPILE = """
import sys, torch
from bench.aot.compiler import compile_launch
from odmt_fast.kernels.debiased_logits.reference import Columns
from odmt_fast.kernels.distilled_softmax import bwd, fwd
from odmt_fast.kernels.distilled_softmax.spec import Spec, stats_width
meta = lambda *s, dtype=torch.bfloat16: torch.empty(*s, dtype=dtype, device="meta")
K, M, U, D, i = 3, 1000, 900, 768, torch.int32
f = torch.float32
columns = Columns(meta(U, dtype=f), meta(U, dtype=i), meta(M, dtype=torch.int64),
                  meta(M, dtype=i), meta(129, dtype=i), meta(999, dtype=i))
spec = Spec(0.3, ((1, 0), (2, 0), (0, -1)), False, 1)
q, e = meta(K, M, D), meta(K, U, D)
def launch():
    fwd.distilled_softmax_fwd(q, e, columns, spec)
    stats = meta(M, stats_width(K), dtype=f)
    bwd.distilled_softmax_bwd((meta(3, dtype=f), meta(3, dtype=f)), q, e, columns, spec, stats)
for one in compile_launch("distilled_softmax", "K3-D768-bf16", int(sys.argv[1]), launch):
    print(one.kernel, one.registers, one.spill_bytes, one.shared_bytes <= one.shared_limit)
"""


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_compiles_without_spills(tmp_path, architecture):
    pytest.importorskip("triton")
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(architecture)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len({name for name, *_ in kernels}) == 4
    for name, registers, spilled, fits in kernels:
        assert spilled == "0" and fits == "True", (
            f"{name}: {registers} registers, {spilled} spilled"
        )


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_row_passes_compile_by_nvcc(tmp_path):
    architectures = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in (80, 90, 100)]
    source, output = ROOT / "csrc/distilled_rows.cu", tmp_path / "rows.o"
    command = ["nvcc", "-std=c++17", "--threads=0", "-Xptxas=-O1", f"-I{ROOT / 'csrc'}"]
    done = subprocess.run(
        [*command, *architectures, "-c", str(source), "-o", str(output)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert output.stat().st_size > 0
