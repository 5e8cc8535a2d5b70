"""setup.py: what it builds, where it falls back, what it refuses; on tiny sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
#include <Python.h>
#ifndef ODMT_FAST_BUILD
#error "the build does not say what it is"
#endif
int from_other_source();
static PyObject* answer(PyObject*, PyObject*) { return PyLong_FromLong(from_other_source()); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, nullptr}, {nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods};
PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
"""
OTHER = "int from_other_source() { return 42; }\n"
DEVICE = """
__global__ void nothing() {}
int from_other_source() { return cudaSuccess == 0 ? 43 : 0; }
"""

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")

Build = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """setup.py and the packages, with a csrc of its own."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("odmt_fast", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text("test\n")
    csrc = tmp_path / "csrc"
    csrc.mkdir()
    (csrc / "module.cpp").write_text(MODULE)
    (csrc / "other.cpp").write_text(OTHER)
    return tmp_path


@pytest.fixture
def build(project: Path) -> Build:
    """build(mode, **environment) runs build_ext there."""

    def run(mode: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        variables = {**os.environ, "ODMT_FAST_EXT": mode, **environment}
        return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True)

    return run


def built(project: Path) -> list[Path]:
    return list((project / "odmt_fast").glob("_C*.so"))


def python(code: str, *folders: Path) -> str:
    """Output of code in a Python that sees `folders` and the installed libraries, but no editable
    installation (those are .pth files, which -S leaves alone).
    """
    libraries = str(Path(torch.__file__).parents[1])
    path = os.pathsep.join([*map(str, folders), libraries])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ODMT_FAST_")}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.answer())
"""


def answer(extension: Path) -> str:
    command = [sys.executable, "-S", "-P", "-c", LOAD, str(extension)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_compiler
def test_cpu_build(project: Path, build: Build) -> None:
    (project / "csrc" / "wide_avx2.cpp").write_text(
        "#ifndef __AVX2__\n#error not compiled for its instruction set\n#endif\n"
    )
    done = build("cpu")
    assert done.returncode == 0, done.stderr
    (extension,) = built(project)
    assert answer(extension) == "42"
    assert "compiling 3 files" in done.stdout and "compiled csrc/wide_avx2.cpp" in done.stdout


def test_only_the_bindings_see_python() -> None:
    """A source with pybind11 takes some seconds more to compile, whatever it holds."""
    for path in (ROOT / "csrc").iterdir():
        if path.suffix in (".cpp", ".h", ".inl", ".cu") and not path.stem.startswith("module"):
            text = path.read_text()
            assert "pybind11" not in text and "Python.h" not in text, path.name


@needs_compiler
def test_a_second_build_compiles_what_changed(project: Path, build: Build) -> None:
    assert build("cpu").returncode == 0
    objects = sorted((project / "build").glob("csrc-*/*.o"))
    before = {path.name: path.stat().st_mtime_ns for path in objects}
    other = project / "csrc" / "other.cpp"
    other.write_text(OTHER.replace("42", "44"))
    later = max(before.values()) + 10**9
    os.utime(other, ns=(later, later))
    assert build("cpu").returncode == 0
    changed = {path.name for path in objects if path.stat().st_mtime_ns != before[path.name]}
    assert changed == {"other.cpp.o"}
    assert answer(built(project)[0]) == "44"


@needs_nvcc
@needs_compiler
def test_cuda_build_imports_without_a_gpu(project: Path, build: Build) -> None:
    (project / "csrc" / "other.cpp").unlink()
    (project / "csrc" / "device.cu").write_text(DEVICE)
    done = build("cuda")
    assert done.returncode == 0, done.stderr
    assert answer(built(project)[0]) == "43"


@pytest.mark.parametrize(
    ("wanted", "gpus", "targets"),
    [
        ("cuda", "9.0", "sm_80 sm_90 sm_100 compute_100"),
        ("auto", "9.0\\n9.0\\n", "sm_90"),
        ("auto", "8.0\\n9.0", "sm_80 sm_90"),
        ("auto", "8.0\\n12.1", "compute_80"),  # the compiler does not know one of them
        ("auto", None, "compute_80"),
    ],
)
def test_cuda_is_compiled_for_what_is_here(
    tmp_path: Path, wanted: str, gpus: str | None, targets: str
) -> None:
    archs = "".join(f"compute_{arch}\\n" for arch in (75, 80, 86, 90, 100))
    programs = {"nvcc": archs} | ({} if gpus is None else {"nvidia-smi": gpus})
    for name, prints in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '{prints}'\n")
        (tmp_path / name).chmod(0o755)
    code = (
        "import runpy, sys; sys.argv = ['setup.py', '--name']; "
        "made = runpy.run_path('setup.py', run_name='__main__'); "
        "print(*made['cuda_targets']('nvcc'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "ODMT_FAST_EXT": wanted},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == targets


@needs_compiler
def test_cuda_without_nvcc(project: Path, build: Build) -> None:
    compiler = Path(shutil.which("g++") or "").parent
    nvcc = shutil.which("nvcc")
    path = str(compiler) + os.pathsep + "/bin"
    if nvcc and Path(nvcc).parent in (compiler, Path("/bin")):
        pytest.skip("nvcc lies beside the compiler")
    asked = build("cuda", PATH=path)
    assert asked.returncode != 0 and "nvcc is not on the PATH" in asked.stderr
    done = build("auto", PATH=path)
    assert done.returncode == 0 and answer(built(project)[0]) == "42"


@needs_compiler
def test_broken_source_warns_in_auto_and_raises_when_asked_for(project: Path, build: Build) -> None:
    (project / "csrc" / "other.cpp").write_text("this is not C++\n")
    asked = build("cpu")
    assert asked.returncode != 0 and "other.cpp" in asked.stderr
    done = build("auto", PATH="/bin:/usr/bin")
    assert done.returncode == 0 and "the cpu build of csrc failed" in done.stderr
    assert built(project) == []


def test_no_compiler(project: Path, build: Build) -> None:
    missing = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++", "PATH": "/nowhere"}
    done = build("auto", **missing)
    assert done.returncode == 0 and "the cpu build of csrc failed" in done.stderr
    assert built(project) == [] and build("cpu", **missing).returncode != 0


def test_unknown_mode(build: Build) -> None:
    done = build("gpu")
    assert done.returncode != 0
    assert "ODMT_FAST_EXT='gpu': use auto, cpu, cuda or none" in done.stderr


REFERENCE_RUNS = """
import sys, torch
import odmt_fast
from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.kernels.packed_attention import packed_attention
from odmt_fast.kernels.residual_norm import residual_norm
assert "kernels" not in sys.modules
index = batch_index(torch.tensor([3, 1, 3]), torch.tensor([3]), 4)
q = torch.randn(5, 2, 16, requires_grad=True)
cu = torch.tensor([0, 2, 5], dtype=torch.int32)
out = packed_attention(q, q, q, cu, max_seqlen=3, mask="symmetric", scale=0.25).flatten(1)
residual_norm(out, out, torch.ones(32), torch.zeros(32), eps=1e-6).sum().backward()
print(extension_missing("cpu") is not None, index.items.tolist(), bool(q.grad.isfinite().all()))
"""


def test_without_the_extension_the_reference_runs(project: Path, tmp_path: Path) -> None:
    """The whole way of `ODMT_FAST_EXT=none pip install .`"""
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run(
        [*command, "--target", str(target), str(project)],
        env={**os.environ, "ODMT_FAST_EXT": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not list(target.glob("odmt_fast/_C*")) and not (target / "kernels").exists()
    operators = {path.parent.name for path in (target / "odmt_fast" / "kernels").glob("*/op.py")}
    assert operators == {path.parent.name for path in (ROOT / "kernels").glob("*/op.py")}
    assert python(REFERENCE_RUNS, target) == "True [1, 3] True"
    assert (target / "odmt_fast" / "py.typed").is_file()
    (about,) = target.glob("odmt_fast-*.dist-info")
    assert (about / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    described = Parser().parsestr((about / "METADATA").read_text())
    assert described["License-Expression"] == "Apache-2.0"
    assert "the odmt_fast contributors" in described["Author"]
    assert "Typing :: Typed" in described.get_all("Classifier", [])


def test_the_build_never_asks_for_torch() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert not any("torch" in requirement for requirement in requires)
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['setup.py', '--name']; "
        "runpy.run_path('setup.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0 and "odmt_fast" in done.stdout, done.stderr


def test_the_sources_see_no_torch() -> None:
    sources = [p for p in (ROOT / "csrc").iterdir() if p.suffix in (".cpp", ".h", ".inl", ".cu")]
    for path in sources:
        text = path.read_text()
        assert "torch/" not in text and "ATen" not in text, path.name
