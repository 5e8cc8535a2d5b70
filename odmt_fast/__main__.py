"""``python -m odmt_fast``: the command line, also for ``torchrun -m odmt_fast train``."""

from __future__ import annotations

from odmt_fast.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
