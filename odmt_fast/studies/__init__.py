"""What a run is compared with and how it is drawn: baselines and plots."""

from __future__ import annotations

from odmt_fast.studies.baselines import BASELINES, FUSING, run_baselines

__all__ = ["BASELINES", "FUSING", "run_baselines"]
