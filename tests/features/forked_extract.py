"""Extracts a catalogue by two processes; run by test_extract_by_processes.py.

forked_extract.py FOLDER [DIE]: stores FOLDER/text and FOLDER/image; with DIE the second process
kills itself after its first shard.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from features.shard_catalogue import extract_both  # noqa: E402
from forking import start, statuses  # noqa: E402

from odmt_fast.features.writer import StoreWriter  # noqa: E402


def main(folder: Path, die: bool) -> None:
    """See the top; exits with the worst of the processes' codes."""
    write = StoreWriter.write

    def body(rank: int) -> None:
        def write_and_die(*arguments: Any) -> None:
            write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        if die and rank == 1:
            StoreWriter.write = write_and_die  # type: ignore[method-assign]
        extract_both(folder)

    codes = statuses(start(2, body))
    sys.exit(0 if codes == ([codes[0], -signal.SIGKILL] if die else [0, 0]) else f"codes {codes}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["DIE"])
