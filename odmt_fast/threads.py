"""Threads that use one core each, whatever torch is allowed elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch


def one_core_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads use one core each and leave the caller's OpenMP threads alone.

    Args:
        workers: threads; all of them are started here.
        name: prefix of their names.
    """
    threads = torch.get_num_threads()
    ready = threading.Barrier(workers + 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=_use_one_core)
    # Every task blocks its thread until all threads exist.
    for _ in range(workers):
        pool.submit(ready.wait)
    ready.wait()
    # The last call decides for threads still to come, which must not inherit the workers' one.
    torch.set_num_threads(threads)
    return pool


def _use_one_core() -> None:
    # A thread takes the process's number when torch first asks it, so ask before setting its own.
    torch.get_num_threads()
    torch.set_num_threads(1)
