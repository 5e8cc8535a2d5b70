"""``python -m bench.gpu.section NAME``: one section of benches, its rows as they come."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from importlib import import_module

import torch

from bench.gpu.case import Setting, measure
from bench.gpu.rates import Rates
from bench.gpu.rows import SECONDS_VARIABLE, append

OPERATORS = {
    "attention": ("packed_attention",),
    "loss": ("distilled_softmax",),
    "rows": ("readout_attention", "residual_norm", "dropout", "debiased_logits"),
}


def main() -> int:
    """Runs the section; 1 when something of ours failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=(*OPERATORS, "step"))
    parser.add_argument("--device", default="cuda", help="cpu: tiny sizes, to try the harness")
    options = parser.parse_args()
    device = torch.device(options.device)
    tiny = device.type == "cpu"
    # Rivals stop being prepared when a quarter of the time is left.
    deadline = time.monotonic() + 0.75 * float(os.environ.get(SECONDS_VARIABLE, "inf"))
    setting = Setting(device, tiny, deadline)
    rates = Rates.measured(device, tiny=tiny)
    append({"rates": asdict(rates)})
    failed = 0
    if options.section == "step":
        from bench.gpu.training import rows

        for row in rows(setting, rates):
            failed += row.get("ours", False) and "error" in row
            append(row)
        return min(failed, 1)
    for operator in OPERATORS[options.section]:
        for case in import_module(f"bench.gpu.operators.{operator}").cases(setting):
            for row in measure(case, rates, setting, seconds=0.0 if tiny else 2.5):
                failed += row.get("ours", False) and "error" in row
                append(row)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
