"""The sequences that every library trains on: `behaviors.tsv` without its last two items a user.

Read by the interpreters of the other libraries too, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def training_sequences(behaviors: Path) -> dict[str, list[str]]:
    """User -> items, oldest first, but those that validate and test."""
    found = {}
    for line in behaviors.read_text("utf-8").splitlines():
        user, _, items = line.partition("\t")
        found[user] = items.split()[:-2]
    return found


def task() -> dict[str, Any]:
    """What to train, from the first argument: settings, and the sequences by their path."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    return settings


def tell(version: str, users: int, samples: int, seconds: list[float]) -> None:
    """Prints the result as the last line.

    Args:
        version: of the library.
        users: in the training sequences.
        samples: that an epoch is made of.
        seconds: of every epoch.
    """
    found = {"version": version, "users": users, "samples": samples, "seconds": seconds}
    print(json.dumps(found))
