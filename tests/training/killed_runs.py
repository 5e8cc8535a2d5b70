"""Kills training processes and checks that nothing of it shows in the end.

Run by test_killed_runs.py in a process of its own: every session of a run is a fork of it, so that
torch is imported once. Prints how many sessions were killed; exits with 1 on a difference.

    killed_runs.py DIRECTORY moments    # kill once at every file operation of a run, then resume
    killed_runs.py DIRECTORY random     # kill at random times until a run gets through
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch._dynamo  # noqa: E402, F401 - optimisers import it; here once instead of in every fork
from training.toy_run import differences, state_of, toy_train  # noqa: E402

from odmt_fast.storage import tensors  # noqa: E402


def session(body: Callable[[], Any]) -> int:
    """Forks a process that runs `body`; its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return pid


def survived(pid: int) -> bool:
    """Waits for a session; whether it came to its end. Any other failure ends everything."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.WEXITSTATUS(status):
        sys.exit("a session failed; see its traceback above")
    return True


def die_at(moment: int) -> None:
    """Lets this process kill itself at the given file operation, counted from 0."""
    left = [moment]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    os.fsync = counted(os.fsync)
    os.replace = counted(os.replace)
    tensors.save_file = counted(tensors.save_file)


def compare(name: str, expected: dict[str, Any], output: Path) -> None:
    """Ends with an error if a run differs from the uninterrupted one."""
    if different := differences(expected, state_of(output)):
        sys.exit(f"{name}: {', '.join(different)} differ from the uninterrupted run")


def every_moment(directory: Path, expected: dict[str, Any], options: dict[str, Any]) -> int:
    """Kills one run at each of its file operations."""
    for moment in range(10_000):
        output = directory / f"moment-{moment}"

        def killed(output: Path = output, moment: int = moment) -> None:
            die_at(moment)
            toy_train(output, **options)

        if survived(session(killed)):
            return moment
        assert survived(session(lambda output=output: toy_train(output, **options)))
        compare(f"killed at file operation {moment}", expected, output)
    raise AssertionError("the run never ended")


def random_times(
    directory: Path, expected: dict[str, Any], options: dict[str, Any], seconds: float
) -> int:
    """Kills three runs, with and without loader threads, at random times."""
    chance = random.Random()
    kills = 0
    for run, workers in enumerate((0, 2, 1)):
        output = directory / f"random-{run}"
        while True:
            pid = session(
                lambda output=output, workers=workers: toy_train(output, workers=workers, **options)
            )
            # Later sessions get longer, so that even a slow machine comes to an end.
            time.sleep(chance.uniform(0, seconds / 2) * (1 + kills / 20))
            os.kill(pid, signal.SIGKILL)
            if survived(pid):
                break
            kills += 1
        compare(f"killed at random times, {workers} workers", expected, output)
    return kills


def main(directory: Path, how: str) -> None:
    """Makes the uninterrupted run, then the killed ones."""
    # What a killed process wrote is safe in the page cache; waiting for the disk guards against
    # power cuts, which are not tested here.
    os.fsync = lambda file: None
    options = {"epochs": 2, "checkpoint_steps": 3} if how == "moments" else {"epochs": 6}
    began = time.monotonic()
    assert survived(session(lambda: toy_train(directory / "whole", **options)))
    seconds = time.monotonic() - began
    expected = state_of(directory / "whole")
    if how == "moments":
        print(every_moment(directory, expected, options))
    else:
        print(random_times(directory, expected, options, seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
