"""Carries batches to the device of the model while the device is busy with earlier ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from odmt_fast.batch.batch import Batch


@dataclass(frozen=True)
class Staged:
    """A batch on its way: usable once `arrived` has passed (None: at once)."""

    batch: Batch
    arrived: torch.cuda.Event | None = None


class DeviceStage:
    """Sends batches to `device`.

    To a CUDA device a batch goes through page-locked memory on a stream of its own, so the copy
    runs beside the kernels of the previous steps. `send` runs in any thread, `receive` in the
    thread that uses the batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Batch) -> Staged:
        """Starts the copy; does not wait for it on a CUDA device."""
        if self.device.type == "cpu":
            return Staged(batch)
        if self._stream is None:
            return Staged(batch.to(self.device))
        with torch.cuda.stream(self._stream):
            moved = batch.pin_memory().to(self.device, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)
        return Staged(moved, arrived)

    def receive(self, staged: Staged) -> Batch:
        """The batch, safe to use on the current stream of the device."""
        if staged.arrived is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(staged.arrived)
            # The memory belongs to the copy stream: its reuse must wait for this stream's reads.
            for tensor in staged.batch.tensors():
                tensor.record_stream(stream)
        return staged.batch
