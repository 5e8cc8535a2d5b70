"""What a run is compared with and how it is drawn: baselines and plots."""

from __future__ import annotations

from odmt_fast.studies.baselines import BASELINES, run_baselines
from odmt_fast.studies.sasrec import SASRec, train_sasrec

__all__ = ["BASELINES", "SASRec", "run_baselines", "train_sasrec"]
