#!/usr/bin/env bash
# bench/gpu.sh [--sanitize] OUT [PYTEST OPTION ...]: everything that wants a GPU, on a bare box without network.
#
# Builds the package (into a folder that is removed again), runs the tests marked `gpu` (OUT/<file>.log and
# .xml), then measures, each part with a time limit of its own: training steps of 128, 512, 1,024 and 4,096
# users beside the official code in fp16, the reference and the tuned baseline; every operator beside its
# rivals; what torch.compile makes of all of them, which takes it longest. Rows are saved as they come in
# OUT/operators_<gpu>.json and, unless options choose some, at the end in bench/results, where `make report`
# finds them. Ends within 9 minutes; the exit code is not 0 when anything failed or was cut short. Needs nvcc, a
# C++ compiler, and Python with torch, triton, numpy, pydantic, safetensors, xxhash, filelock, pybind11,
# setuptools, pytest and pytest-benchmark; what is absent is named first, and what can run without it does.
# Options are pytest's: `bench/gpu.sh out -k packed_attention` measures some, `bench/gpu.sh out --tiny`
# tries every part in sizes for which a CPU will do.
#
#   ODMT_OFFICIAL=<clone of xyliugo/ODMT>   adds the official code to the training step
#   PYTHON=<interpreter>                    default python3
#   PYTHONPATH=<folder>                     packages the box lacks (pip install --target <folder> *.whl)
#   ODMT_FAST_TUNE=1                        searches tiles first: bench/tuned/<gpu>.json; it takes long
#   --sanitize                              compute-sanitizer over the small kernel tests, no benches
set -um -o pipefail # m: without job control, what runs in the background would ignore the interrupt
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} failed=0 sanitize=
if [ "${1:-}" = --sanitize ]; then sanitize=1 && shift; fi
: "${1:?names no folder for the results: bench/gpu.sh OUT}"
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit
shift
site=$(mktemp -d) && trap 'rm -rf "$site"' EXIT
# The built package, then the checkout, whose odmt_fast has neither kernels nor extension; nothing
# inherited that would change what is measured.
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
unset ODMT_FAST_BACKEND TRITON_INTERPRET

# within SECOND COMMAND ...: interrupts the command at that second of the run, so that pytest
# reports what it has, and kills it, with all it started, ten seconds later.
within() { timeout --signal=INT --kill-after=10 $(($1 > SECONDS ? $1 - SECONDS : 1)) "${@:2}"; }
tests=("$python" -m pytest -q -p no:cacheprovider -m gpu)

"$python" - <<'PYTHON'
from importlib.util import find_spec

NEEDED = "torch triton numpy pydantic safetensors xxhash filelock pybind11 setuptools pytest pytest_benchmark"
if absent := [name for name in NEEDED.split() if find_spec(name) is None]:
    print(f"not installed: {', '.join(absent)}; PYTHONPATH may bring them (bench/gpu.sh)")
PYTHON
within 70 "$python" -m pip install . --no-build-isolation --no-deps --quiet --target "$site" || failed=1

if [ -n "$sanitize" ]; then
    # torch's pool would hide what is written past a tensor but inside the pool.
    PATH=$PATH:$(dirname "$(command -v nvcc || echo .)") PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
        within 520 compute-sanitizer --tool memcheck --error-exitcode 9 --target-processes all \
        "${tests[@]}" -k small tests/gpu || failed=1
    exit $failed
fi

# Most of the time goes into compiling kernels, so the files share the device.
declare -A running
for file in $(grep -rlE '^pytestmark = .*\bmark\.gpu\b|^\s*@pytest\.mark\.gpu\b' tests --include='test_*.py'); do
    report=$out/$(echo "${file%.py}" | tr / -)
    within 190 "${tests[@]}" "$file" --junitxml="$report.xml" >"$report.log" 2>&1 &
    running[$file]=$!
done
for file in "${!running[@]}"; do
    wait "${running[$file]}" || failed=1
    echo "$file: $(tail -n 1 "$out/$(echo "${file%.py}" | tr / -).log")"
done
bench=("$python" -m pytest bench/test_operators.py --benchmark --add --results "$out" -p no:cacheprovider -q
    --benchmark-columns=median,stddev,rounds)
rm -f "$out"/operators*.json
chosen=
# measure SECOND MARKS OPTION ...: one part of the benches; the options may leave nothing of it.
measure() {
    local code=0
    within "$1" "${bench[@]}" -m "$2" "${@:3}" || code=$?
    [ $code = 5 ] && return
    chosen=1
    [ $code = 0 ] || failed=1
}
measure 310 'step and not slow_start' "$@"
measure 400 'not step and not slow_start' "$@"
measure 525 'slow_start' "$@"
[ -n "$chosen" ] || { echo "no bench is chosen by: $*"; failed=1; }
if [ $# = 0 ]; then
    for file in "$out"/operators_*.json; do
        [ -e "$file" ] && [ "$(dirname "$file")" != "$PWD/bench/results" ] && cp "$file" bench/results/
    done
fi
exit $failed
