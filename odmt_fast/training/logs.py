"""The log files of a run; a resumed run cuts them back to its checkpoint and goes on from there."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odmt_fast.storage import file_digest
from odmt_fast.storage.atomic import naming
from odmt_fast.training.errors import CheckpointError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Value = int | float | str


class CsvLog:
    """A table that grows by rows; the first row fixes the columns.

    Args:
        path: the file.
        size: bytes of it that belong to the run so far; the rest was written after the checkpoint
            the run goes on from and is dropped. 0 begins anew.
        digest: of these bytes; None does not look.

    Raises:
        CheckpointError: the file is not as the run left it.
    """

    def __init__(self, path: Path, size: int, digest: str | None = None) -> None:
        self._path = path
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", newline="", encoding="utf-8")
            found = os.fstat(self._file.fileno()).st_size
            if found < size:
                raise CheckpointError(
                    f"{path} has {found} bytes, the run wrote {size}; put back a copy of it, or "
                    "train with --fresh"
                )
            self._file.truncate(size)
            if digest is not None and file_digest(path) != digest:
                raise CheckpointError(
                    f"{path} is not as the run left it; put back a copy of it, or train with "
                    "--fresh"
                )
        try:
            with path.open(newline="", encoding="utf-8") as existing:
                self._columns = next(csv.reader(existing), None)
        except (UnicodeDecodeError, csv.Error) as error:
            raise CheckpointError(
                f"{path} is damaged: {error}; put back a copy of it, or train with --fresh"
            ) from error
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, row: Mapping[str, Value]) -> None:
        """Appends a row.

        Raises:
            ValueError: its columns are not those of the rows before.
        """
        columns = list(row)
        if self._columns is None:
            self._columns = columns
            self._writer.writerow(columns)
        if columns != self._columns:
            raise ValueError(
                f"{self._path} has the columns {self._columns}, a new row has {columns}; "
                "validation must return the same metrics in every epoch"
            )
        with naming(self._path):
            self._writer.writerow(row.values())
            self._file.flush()

    def sync(self) -> tuple[int, str]:
        """Makes everything written so far durable; how many bytes that is, and their digest."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size, file_digest(self._path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class RunLogs:
    """``steps.csv``, ``epochs.csv``, ``diagnoses.csv`` and TensorBoard events under one directory.

    Args:
        directory: where they lie.
        kept: bytes of each CSV file to keep and their digest, as `sync` returned them; empty begins
            anew.
        step: steps of the run so far; TensorBoard hides what it knows of later ones.
        tensorboard: write events too; see `tensorboard_missing`.
    """

    def __init__(
        self,
        directory: Path,
        kept: Mapping[str, Sequence[Any]],
        step: int,
        *,
        tensorboard: bool,
    ) -> None:
        self._tables = {
            name: CsvLog(directory / name, *kept.get(name, (0,)))
            for name in ("steps.csv", "epochs.csv", "diagnoses.csv")
        }
        self._board = _board(directory / "tensorboard", step) if tensorboard else None

    def step(self, step: int, row: Mapping[str, Value]) -> None:
        """Logs an interval of steps that ended with `step`."""
        self._write("steps.csv", step, row, "train")

    def epoch(self, step: int, row: Mapping[str, Value]) -> None:
        """Logs an epoch that ended with `step`."""
        self._write("epochs.csv", step, row, "epoch")

    def diagnoses(self, epoch: int, lines: Iterable[str]) -> None:
        """Logs what `diagnostics` found after an epoch."""
        for line in lines:
            self._tables["diagnoses.csv"].write({"epoch": epoch, "diagnosis": line})

    def sync(self) -> dict[str, tuple[int, str]]:
        """Makes the logs durable; the size of each CSV file and its digest."""
        if self._board is not None:
            self._board.flush()
        return {name: table.sync() for name, table in self._tables.items()}

    def close(self) -> None:
        """Closes all files."""
        for table in self._tables.values():
            table.close()
        if self._board is not None:
            self._board.close()

    def _write(self, name: str, step: int, row: Mapping[str, Value], group: str) -> None:
        self._tables[name].write(row)
        if self._board is None:
            return
        for column, value in row.items():
            # Epochs share the axis of the steps, else hiding later steps would not reach them.
            self._board.add_scalar(f"{group}/{column.replace('@', '_at_')}", value, step)


def tensorboard_missing() -> str | None:
    """Why no TensorBoard events can be written; None when they can."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        return f"tensorboard is not installed ({error}); pip install tensorboard"
    return None


def _board(directory: Path, step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    if step == 0:
        for events in directory.glob("events.out.tfevents.*"):
            events.unlink()
    return SummaryWriter(str(directory), purge_step=step + 1 if step else None)
