"""Runs of a study beside each other, each in a process of its own."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TextIO

import torch

from odmt_fast.config import Config
from odmt_fast.storage.atomic import naming
from odmt_fast.training.report import PlainReporter
from odmt_fast.workflow.trained import train_and_test

LOG = "train.log"
_TERMINATED = 143


def train_beside(configs: Mapping[str, Config], jobs: int, tell: Callable[[str], None]) -> None:
    """Trains each configuration, at most `jobs` at a time; each has its share of the threads.

    What a run tells goes to ``train.log`` in its folder. One that fails stops no other; started
    again, those that are finished are kept and the others go on.

    Args:
        configs: of the runs, by name.
        jobs: processes.
        tell: told in one line what begins and ends.

    Raises:
        RuntimeError: runs failed; names the first with its log.
    """
    context = get_context("spawn")
    waiting, running, failed = deque(configs), dict[str, BaseProcess](), list[str]()
    threads = max(1, torch.get_num_threads() // jobs)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.popleft()
                tell(f"{name}: begins, see {configs[name].training.output / LOG}")
                running[name] = context.Process(target=_train, args=(configs[name], threads))
                running[name].start()
            ended = wait([process.sentinel for process in running.values()])
            for name, process in [*running.items()]:
                if process.sentinel in ended:
                    process.join()
                    del running[name]
                    failed += [name] if process.exitcode else []
                    tell(f"{name}: {'failed' if process.exitcode else 'is finished'}")
    finally:
        # On the way out by Ctrl-C or SIGTERM: each ends after its step, with a checkpoint.
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
    if failed:
        log = configs[failed[0]].training.output / LOG
        raise RuntimeError(
            f"{len(failed)} of {len(configs)} runs failed: {', '.join(failed)}; {log} says why; "
            "run the study again to go on with them"
        )


def _train(config: Config, threads: int) -> None:
    """In the child: one run, from its beginning or where it stopped, to its end."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a Ctrl-C at the terminal is the parent's, which ends us once
    signal.signal(signal.SIGTERM, _end)
    torch.set_num_threads(threads)
    folder = config.training.output
    with naming(folder / LOG):
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / LOG).open("a", encoding="utf-8")
    with log:
        _train_telling(config, log)


def _train_telling(config: Config, log: TextIO) -> None:
    try:
        train_and_test(config, PlainReporter(log), resume=True)
    except Exception as error:
        print(f"error: {error}", file=log)
        raise SystemExit(1) from None


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)
