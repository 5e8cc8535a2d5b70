"""Build of odmt_fast: the packages, and the optional extension ``odmt_fast._C`` made of ``csrc/``.

``ODMT_FAST_EXT=auto|cpu|cuda|none`` says what to compile. ``auto`` takes the most that builds here
(cuda with nvcc, for the GPUs here; else cpu with a compiler, else none) and warns where it falls
back; a build that was asked for by name fails loudly, and cuda then knows every architecture.
torch is never imported: the extension sees raw pointers only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

CXX = "-std=c++17 -O3 -g0 -fPIC -fvisibility=hidden -ffp-contract=fast -Wno-psabi"
AVX2 = "-mavx2 -mfma -mf16c -mbmi2"
AVX512 = f"{AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16"
# A source named *_<isa>.cpp is compiled with these flags and entered only on a CPU that has them.
ISA = {"avx2": AVX2, "avx512": AVX512, "amx": f"{AVX512} -mamx-tile -mamx-bf16"}
CUDA_ARCHITECTURES = ("80", "90", "100")
CSRC = Path("csrc")
HEADERS = [*CSRC.glob("*.h"), *CSRC.glob("*.inl")]
WANTED = os.environ.get("ODMT_FAST_EXT", "auto")


def run(*command):
    """What a command prints, also in the RuntimeError when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def cuda_targets(nvcc):
    """What the CUDA sources are compiled for. Every architecture takes its time: asked for by name,
    all that are known and PTX for later ones; else those of the GPUs here, or where there are
    none, PTX alone, which the driver compiles for its GPU.
    """
    known = run(nvcc, "--list-gpu-arch").split()
    if WANTED == "cuda":
        found = [arch for arch in CUDA_ARCHITECTURES if f"compute_{arch}" in known]
        return [*(f"sm_{arch}" for arch in found), f"compute_{found[-1]}"]
    try:
        printed = run("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
    except (OSError, RuntimeError):
        printed = ""
    here = sorted({line.strip().replace(".", "") for line in printed.splitlines()})
    found = [f"sm_{arch}" for arch in here if f"compute_{arch}" in known]
    return found if found and len(found) == len(here) else [f"compute_{CUDA_ARCHITECTURES[0]}"]


def cuda_toolkit():
    """nvcc's command, the libraries to link and the targets; nvcc may be a wrapper."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise RuntimeError("nvcc is not on the PATH")
    top = re.search(r"\bTOP=(.*)", run(nvcc, "--dryrun", "-c", "x.cu"))
    root = Path(top[1].strip()) if top else Path(nvcc).parent.parent
    targets = cuda_targets(nvcc)
    virtual = [target.replace("sm_", "compute_") for target in targets]
    gencode = [f"-gencode=arch={v},code={t}" for v, t in zip(virtual, targets, strict=True)]
    command = [nvcc, "-std=c++17", "-O3", "-Xcompiler=-fPIC", "-cudart=static", "-t0", *gencode]
    return command, [f"-L{root}/lib64", "-lcudart_static", "-ldl", "-lrt", "-lpthread"], targets


class BuildExtension(build_ext):
    """Compiles csrc/*.cpp in parallel, each with the flags of its ISA, and csrc/*.cu by nvcc."""

    def build_extensions(self):
        best = ["cuda", "cpu"] if shutil.which("nvcc") else ["cpu"]
        for mode in best if WANTED == "auto" else [WANTED]:
            try:
                return self.compile_and_link(cuda=mode == "cuda")
            except Exception as error:
                if WANTED != "auto":
                    raise
                warnings.warn(f"odmt_fast: the {mode} build of csrc failed: {error}", stacklevel=1)
        self.extensions = []

    def accepts(self, flags):
        command = [*self.compiler.compiler_so, *flags.split(), "-fsyntax-only", "-xc++", os.devnull]
        return subprocess.run(command, capture_output=True).returncode == 0

    def compile_and_link(self, cuda):
        import pybind11

        nvcc, libraries, targets = cuda_toolkit() if cuda else ([], [], [])
        devices = sorted(CSRC.glob("*.cu")) if cuda else []
        openmp = [flag for flag in ["-fopenmp"] if self.accepts(flag)]
        isas = [name for name, flags in ISA.items() if self.accepts(flags)]
        info = [CXX, *openmp, "isa baseline", *isas, *targets]
        macros = [f"-DODMT_FAST_{name.upper()}" for name in [*isas, *["cuda"] * bool(devices)]]
        macros.append(f'-DODMT_FAST_BUILD="{" ".join(info)}"')
        include = [f"-I{path}" for path in (CSRC, pybind11.get_include(), *self.include_dirs)]
        newest = max((path.stat().st_mtime for path in HEADERS), default=0)
        # Those of the environment last, as everywhere: they may lower -O3 or add a sanitizer.
        theirs = os.environ.get("CXXFLAGS", "").split()
        cxx = [*self.compiler.compiler_so, *CXX.split(), *openmp, *theirs]
        key = repr((ISA, cxx, nvcc, macros, pybind11.__version__, self.get_ext_filename("_C")))
        # Kept between builds; pip gives every build a fresh build_temp.
        objects = Path("build", f"csrc-{hashlib.sha256(key.encode()).hexdigest()[:12]}")
        objects.mkdir(parents=True, exist_ok=True)

        def compile_one(source):
            target = objects / f"{source.name}.o"
            if not target.exists() or target.stat().st_mtime < max(newest, source.stat().st_mtime):
                isa = ISA.get(source.stem.rpartition("_")[2], "").split()
                command = nvcc if source.suffix == ".cu" else [*cxx, *isa]
                fresh = target.with_suffix(f".{os.getpid()}.o")
                start = time.monotonic()
                run(*command, *include, *macros, "-c", source, "-o", fresh)
                fresh.replace(target)
                print(f"compiled {source} in {time.monotonic() - start:.0f} s", flush=True)
            return str(target)

        unknown = {name for name in ISA if name not in isas}
        sources = [s for s in map(Path, extension.sources) if s.stem.split("_")[-1] not in unknown]
        # The slow ones first: nvcc's, the bindings and the kernels come late in the alphabet.
        ordered = devices + sources[::-1]
        print(f"compiling {len(ordered)} files of csrc", flush=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            linked = list(pool.map(compile_one, ordered))
        output = self.get_ext_fullpath(extension.name)
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        link = [*openmp, *(libraries if devices else [])]
        self.compiler.link_shared_object(linked, output, extra_postargs=link, target_lang="c++")


if WANTED not in ("auto", "cpu", "cuda", "none"):
    raise SystemExit(f"ODMT_FAST_EXT={WANTED!r}: use auto, cpu, cuda or none")
depends = [str(path) for path in (*HEADERS, *CSRC.glob("*.cu"))]
extension = Extension("odmt_fast._C", sorted(map(str, CSRC.glob("*.cpp"))), depends=depends)
kernels = ["odmt_fast.kernels"] + [f"odmt_fast.kernels.{name}" for name in find_packages("kernels")]
setup(
    packages=find_packages(include=["odmt_fast", "odmt_fast.*"]) + kernels,
    package_dir={"odmt_fast.kernels": "kernels"},
    ext_modules=[] if WANTED == "none" else [extension],
    cmdclass={"build_ext": BuildExtension},
)
