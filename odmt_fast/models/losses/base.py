"""What all losses share."""

from __future__ import annotations

from torch import Tensor, nn

from odmt_fast.batch.batch import Batch


class Loss(nn.Module):
    """Compares user states with the candidates of a batch; subclasses define ``forward``.

    Attributes:
        weighs_rows: whether ``batch.row_scale`` weighs the rows; with a loss that does not, batches
            are never padded.
    """

    weighs_rows = False

    def kd_weight(self, epoch: float) -> float | None:
        """All that changes from epoch to epoch, as a weight; None where nothing does.

        A loader computes it and the batch carries it, so that a step is a function of tensors: a
        captured one calls ``forward`` once, at an epoch that is NaN, and repeats what it did.

        Args:
            epoch: from 1.
        """
        return None

    def forward(
        self, states: Tensor, items: Tensor, batch: Batch, log_p: Tensor, epoch: float
    ) -> dict[str, Tensor]:
        """Named scalars; ``"loss"`` comes first and is minimised, all of them are logged.

        Args:
            states: [K, M, d] user states of the rows.
            items: [K, U, d] embeddings of the candidates.
            batch: the index arrays.
            log_p: [U] log share of each candidate in the training interactions.
            epoch: from 1.
        """
        raise NotImplementedError
