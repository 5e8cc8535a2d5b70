"""Carries batches to the device of the model while the device is busy with earlier ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.packet import send
from odmt_fast.features.tokens import TableRows


@dataclass(frozen=True)
class Staged:
    """A batch on its way in blocks of memory: usable once `arrived` has passed (None: at once)."""

    batch: Batch
    blocks: tuple[Tensor, ...] = ()
    arrived: torch.cuda.Event | None = None


class DeviceStage:
    """Sends batches to `device`.

    To a CUDA device a batch goes as one block through page-locked memory on a stream of its own, so
    the copy runs beside the kernels of the previous steps. `send` runs in any thread, `receive` in
    the thread that uses the batch. Tokens in page-locked host memory are fetched on that stream
    too; a table on the device is read by the model itself.
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
            return Staged(send(batch, self.device)[0])
        with torch.cuda.stream(self._stream):
            moved, block = send(batch, self.device, pinned=True)
            moved, fetched = _fetched(moved)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)
        return Staged(moved, (block, *fetched), arrived)

    def receive(self, staged: Staged) -> Batch:
        """The batch, safe to use on the current stream of the device."""
        if staged.arrived is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(staged.arrived)
            # The memory belongs to the copy stream: its reuse must wait for this stream's reads.
            for block in staged.blocks:
                block.record_stream(stream)
        return staged.batch


def _fetched(batch: Batch) -> tuple[Batch, list[Tensor]]:
    """The batch with the tokens that lie in host memory fetched from there, and these."""
    features, fetched = list(batch.features), []
    for place, tokens in enumerate(features):
        if isinstance(tokens, TableRows) and tokens.table.device.type == "cpu":
            features[place] = tokens = tokens.gathered()
            fetched.append(tokens.values)
    return batch.with_features(tuple(features)), fetched
