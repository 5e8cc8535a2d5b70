"""Processes as a launcher would start them, each a fork of this one: torch is imported once.

For scripts that a test runs in a process of their own: pytest's has threads, which do not survive.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch

from odmt_fast.processes import joined


def start(count: int, body: Callable[[int], Any]) -> list[int]:
    """Forks `count` processes as a launcher would start them; their ids."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            code = 1
            try:
                with joined(torch.device("cpu")):
                    body(rank)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        ids.append(pid)
    return ids


def statuses(ids: list[int]) -> list[int]:
    """Waits; exit codes, negative for signals. Like a launcher, ends the others of a killed one."""
    found: dict[int, int] = {}
    while len(found) < len(ids):
        pid, status = os.wait()
        found[pid] = os.waitstatus_to_exitcode(status)
        if found[pid] == -signal.SIGKILL:
            for other in set(ids) - set(found):
                os.kill(other, signal.SIGTERM)
    return [found[pid] for pid in ids]


def run(count: int, body: Callable[[int], Any]) -> None:
    """Runs `body(rank)` in every process; ends with an error if one fails."""
    if any(codes := statuses(start(count, body))):
        sys.exit(f"processes ended with {codes}; see the tracebacks above")
