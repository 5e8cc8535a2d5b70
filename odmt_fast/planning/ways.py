"""The ways to take a step: so many users, with all activations kept or some recomputed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Way:
    """One row of a plan.

    Attributes:
        batch_size: ``training.batch_size``.
        micro_items: ``training.micro_items``; None keeps all activations.
    """

    batch_size: int
    micro_items: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Dotted names and their values."""
        return {
            "training.batch_size": self.batch_size,
            "training.micro_items": self.micro_items,
            "training.recompute": False,
        }

    @property
    def yaml(self) -> str:
        """The lines of a file for ``train``."""
        lines = ["training:", f"  batch_size: {self.batch_size}"]
        return "\n".join(
            lines + ([f"  micro_items: {self.micro_items}"] if self.micro_items else [])
        )

    def __str__(self) -> str:
        return "one pass" if self.micro_items is None else f"micro_items={self.micro_items}"
