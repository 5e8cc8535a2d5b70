#!/usr/bin/env bash
# bench/gpu.sh [--sanitize] [--only SECTION,SECTION] OUT: everything that wants a GPU, on a bare box without network.
#
# Builds the package (into a folder that is removed again), runs the tests marked `gpu`, the operator
# benches and the training step; writes OUT/<gpu>.json after every section and prints one table. Ends
# within 9 minutes; the exit code is not 0 when a section or a test failed. Needs nvcc, a C++ compiler,
# and Python with torch, triton, numpy, pydantic, safetensors, pybind11, setuptools and pytest; what is
# absent is named first, and what can run without it does.
#
#   ODMT_OFFICIAL=<clone of xyliugo/ODMT>   adds the official code to the training step
#   PYTHON=<interpreter>                    default python3
#   PYTHONPATH=<folder>                     packages the box lacks (pip install --target <folder> *.whl)
#   ODMT_FAST_TUNE=1                        searches tiles first: bench/tuned/<gpu>.json; with --only, it takes long
#   --sanitize                              compute-sanitizer over the small kernel tests, no benches
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m bench.gpu "$@"
