"""How a run goes, on a terminal or in a log: one short line an epoch."""

from __future__ import annotations

from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import StepReport, default_reporter


class EpochLines:
    """Reports like training does by default, with the epochs cut to one metric.

    Args:
        metric: the metric shown, of every ranking.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._inner = default_reporter()

    def message(self, text: str) -> None:
        """Passed on."""
        self._inner.message(text)

    def step(self, report: StepReport) -> None:
        """Passed on."""
        self._inner.step(report)

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Loss, and the metric of every ranking on the validation targets."""
        shown = "  ".join(
            f"{name.removesuffix('/' + self._metric)} {value:.4f}"
            for name, value in record.metrics.items()
            if name.endswith("/" + self._metric)
        )
        self._inner.message(
            f"epoch {record.epoch:>3}  loss {record.losses['loss']:8.4f}  "
            f"{self._metric.upper()}: {shown}{'  *best*' if best else ''}"
        )

    def close(self) -> None:
        """Passed on."""
        self._inner.close()
