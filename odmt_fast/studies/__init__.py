"""What a run is compared with and how it is drawn: baselines, grids of runs, and plots."""

from __future__ import annotations

from odmt_fast.studies.baselines import BASELINES, FEATURED, possible, run_baselines

__all__ = ["BASELINES", "FEATURED", "possible", "run_baselines"]
