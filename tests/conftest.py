"""The same tests on any machine: lower instruction sets, and signals in the background too.

``ODMT_TEST_ISA`` limits our own dispatch in the tests.
"""

from __future__ import annotations

import os
import signal

import pytest

from odmt_fast.kernels.backend import extension_missing


@pytest.fixture(scope="session", autouse=True)
def limited_dispatch() -> None:
    """Runs everything on the instruction set that is asked for; see ``make test-isa``."""
    name = os.environ.get("ODMT_TEST_ISA")
    if name is None or extension_missing("cpu") is not None:
        return
    from odmt_fast import _C

    if not _C.use_isa(name):
        pytest.exit(f"ODMT_TEST_ISA={name} is not built, or this CPU does not have it", 1)


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """A shell starts what runs in the background (``make test &``) with SIGINT ignored, and what
    that starts inherits it; the tests that interrupt a run need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
