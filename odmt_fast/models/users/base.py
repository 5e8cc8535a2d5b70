"""What all user encoders share: the rows they read, and the state a recommendation starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from odmt_fast.models.noise import Noise


class Rows(Protocol):
    """The input steps of some users, packed; a `Batch` is one.

    Attributes:
        inputs: int64 [M], column of each step's item in the item embeddings.
        positions: int64 [M], right-aligned position 0..S-1.
        row_user: int32 [M], user of the step.
        cu_seqlens: int32 [B + 1], where the steps of each user begin and end.
        max_seqlen: an upper bound of a user's steps.
    """

    @property
    def inputs(self) -> Tensor: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def row_user(self) -> Tensor: ...
    @property
    def cu_seqlens(self) -> Tensor: ...
    @property
    def max_seqlen(self) -> int: ...


@dataclass(frozen=True)
class Histories:
    """`Rows` of users to recommend for."""

    inputs: Tensor
    positions: Tensor
    row_user: Tensor
    cu_seqlens: Tensor
    max_seqlen: int


class UserEncoder(nn.Module):
    """Turns the items of users into states; needs neither item encoder nor dataset.

    Subclasses define ``forward`` and ``initialise``.

    Args:
        max_seq_len: S, the most steps a user has.
    """

    def __init__(self, max_seq_len: int) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step, which sees none later."""
        raise NotImplementedError

    def initialise(self, generator: torch.Generator | None) -> None:
        """Draws the initial values; None draws from torch's default generator."""
        raise NotImplementedError

    def encode(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """States [K, B, d] after the last input of each user, without dropout.

        Args:
            catalogue: [K, n_items + 1, d] embeddings of all items.
            items: int64 [N], inputs of the users one after the other, oldest first.
            offsets: int64 [B + 1]; every user has 1 to S inputs.
        """
        total, lengths = items.shape[0], offsets.diff()
        users = torch.arange(lengths.shape[0], device=items.device)
        row_user = users.repeat_interleave(lengths, output_size=total)
        # Counted from the end: the last input is at S - 1.
        positions = torch.arange(total, device=items.device) - offsets[1:][row_user]
        rows = Histories(
            inputs=items,
            positions=positions + self.max_seq_len,
            row_user=row_user.to(torch.int32),
            cu_seqlens=offsets.to(torch.int32),
            max_seqlen=self.max_seq_len,
        )
        states: Tensor = self(catalogue, rows, Noise(0.0, None, items.device))
        return states[:, offsets[1:] - 1]


def steps(rows: Rows) -> Tensor:
    """int64 [M]: how many steps of the same user come before the row."""
    return (
        torch.arange(len(rows.inputs), device=rows.inputs.device) - rows.cu_seqlens[rows.row_user]
    )


def branch_segments(rows: Rows, branches: int) -> Tensor:
    """int32 [K B + 1]: where the users lie when the rows of branch k follow those of k - 1."""
    total = len(rows.inputs)
    branch = torch.arange(branches, dtype=torch.int32, device=rows.cu_seqlens.device)
    starts = (rows.cu_seqlens[:-1] + branch[:, None] * total).reshape(-1)
    return torch.cat([starts, rows.cu_seqlens[-1:] + (branches - 1) * total])
