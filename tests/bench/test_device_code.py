"""What ptxas says of csrc, read."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from bench.aot.device_code import parsed  # noqa: E402

SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'void odmt_fast::(anonymous namespace)::forward_kernel\
<__nv_bfloat16, 3, true>(odmt_fast::RowArgs)' for 'sm_90'
ptxas info    : Function properties for void odmt_fast::(anonymous namespace)::forward_kernel<...>
    0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 71 registers, used 1 barriers, 1064 bytes smem, 1048 bytes cmem[0]
ptxas info    : Compiling entry function 'void odmt_fast::(anonymous namespace)::debias_kernel\
<float>(odmt_fast::RowArgs)' for 'sm_90'
ptxas info    : Function properties for void odmt_fast::(anonymous namespace)::debias_kernel<float>
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, 1048 bytes cmem[0]
"""


def test_every_kernel_is_found_with_what_it_takes() -> None:
    first, second = parsed(SAID, "rows.cu", 90)
    assert (first.kernel, first.case) == ("debias_kernel", "rows.cu, float32")
    assert (first.registers, first.spill_bytes, first.shared_bytes) == (28, 0, 0)
    assert second.case == "rows.cu, bfloat16, K=3, with edges"
    assert (second.registers, second.spill_bytes, second.shared_bytes) == (71, 24, 1064)
    assert second.shared_limit == 227 * 1024 and second.operator == "csrc"
