#!/usr/bin/env bash
# The tests that reach C++, once under AddressSanitizer and UBSan: `make sanitize`.
# The instrumented package is built and stays in build/sanitize; the normal build is not touched.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
package=build/sanitize/lib
checks="-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
export ODMT_FAST_EXT=cpu PYTHONSAFEPATH=1

rm -rf "$package"
CXXFLAGS="-O1 -g1 -fno-omit-frame-pointer $checks" LDFLAGS="$checks" \
  "$python" setup.py --quiet build --build-base build/sanitize --build-lib "$package"

# Python itself is not instrumented: the runtime goes first, and with it the library whose
# exceptions it watches. Python's own pools would hide what lies beyond a small object.
library() { g++ -print-file-name="$1"; }
instrumented() {
  env LD_PRELOAD="$(library libasan.so):$(library libstdc++.so)" PYTHONPATH="$package" \
    PYTHONMALLOC=malloc OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$python" "$@"
}

# First that faults are seen: one value past the end of a tensor on every instruction set that runs
# here, and an address that no int64 may have. Each must end the process, and say why.
planted() {
  local report
  if report=$(instrumented -c "$2" 2>&1) || ! grep -q "$1" <<<"$report"; then
    printf 'sanitize: a planted fault went unseen (%s):\n%s\n' "$1" "$report" >&2
    exit 1
  fi
}
for isa in baseline avx2 avx512 amx; do
  use="import torch; from odmt_fast import _C; runs = _C.use_isa('$isa')"
  if [[ $(instrumented -c "$use; print(runs)") == True ]]; then
    planted "ERROR: AddressSanitizer" "$use; x = torch.ones(63); _C.relu(False, 4, 16, x.data_ptr(), 1)"
    echo "sanitize: sees $isa"
  fi
done
planted "misaligned address" "import torch; from odmt_fast import _C; n = torch.ones(8).long().data_ptr()
_C.batch_index(n, True, 1, n + 1, True, 1, 4, [n] * 10)"
echo "sanitize: sees undefined behaviour"

# --capture=sys: a report goes to the file descriptor of stderr, and must not end in pytest's copy.
# Left out: what runs no C++ of ours, and problems whose size makes minutes of what small ones show.
run() {
  instrumented -m pytest -q -x --hypothesis-seed=1 --capture=sys -p no:cacheprovider -m "not interpreter and not gpu" \
    -k "not fifty_thousand and not gradcheck and not compile and not opcheck" "$@"
}
operators=tests/kernels
run $operators/distilled_softmax $operators/debiased_logits &
loss=$!
failed=0
run $operators/{cpu,batch_index,dropout,feed_forward,linear,packed_attention,readout_attention} \
  $operators/{residual_norm,test_edges.py} tests/official/test_golden.py || failed=$?
wait $loss || failed=$?
[[ $failed == 0 ]] || echo "sanitize: failed with status $failed" >&2
exit $failed
