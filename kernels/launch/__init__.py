"""What launching a kernel needs: checks, the backend, the device's limits, tuned tiles."""

from __future__ import annotations
