"""The matmul library is found by trying, and every answer computes the same map."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.kernels.linear import libraries, linear
from odmt_fast.kernels.linear.libraries import Libraries, onednn_runs


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_chosen", None)
    onednn_runs.cache_clear()
    yield
    onednn_runs.cache_clear()


@pytest.mark.parametrize("fault", ["absent", "another signature", "no primitive", "wrong values"])
@pytest.mark.usefixtures("fresh")
def test_a_torch_without_the_private_entries_runs_on_public_ones(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entries:
        def __getattr__(self, name: str) -> object:
            if fault == "absent":
                raise AttributeError(name)

            def entry(*arguments: object) -> object:
                if fault == "another signature":
                    raise TypeError("takes 3 positional arguments")
                if fault == "no primitive":
                    raise RuntimeError("could not create a primitive")
                return torch.zeros(4, 4)

            return entry

    monkeypatch.setattr(torch.ops, "mkldnn", Entries())
    chosen = libraries.current()
    assert not chosen.fp32_by_onednn and not chosen.bf16_by_onednn
    # What another machine recorded does not bring back what cannot run here.
    kept = Libraries.from_json(Libraries(True, True, True).to_json())
    assert kept == Libraries(False, False, True)
    x, weight = torch.randn(4, 8), torch.randn(6, 8)
    for dtype in (torch.float32, torch.bfloat16):
        y = linear(x.to(dtype), weight)
        torch.testing.assert_close(y.float(), x @ weight.t(), rtol=0.05, atol=0.05)


@pytest.mark.usefixtures("fresh")
def test_the_choice_is_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        libraries, "measure", lambda: calls.append(1) or Libraries(False, False, True)
    )
    assert libraries.current() is libraries.current()
    assert len(calls) == 1
    libraries.use(Libraries(False, False, False))
    assert libraries.narrow(torch.ones(1, dtype=torch.bfloat16))
    assert not libraries.narrow(torch.ones(1)) and len(calls) == 1


def test_products_of_bf16_in_fp32_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_chosen", Libraries(False, False, False))
    left, right = torch.randn(2, 5, 64).bfloat16(), torch.randn(2, 64, 3).bfloat16()
    exact = left.double() @ right.double()
    error = (libraries.bmm(left, right).double() - exact).abs()
    # The rounding to bf16, and what fp32 sums may add to it.
    assert bool((error <= exact.abs() * 2**-8 * 1.01 + 1e-5).all())
