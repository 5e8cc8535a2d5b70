"""`SequentialModel`: what all models share, whatever their parts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import BatchSource, PackedTokens, TokenSource, device_of
from odmt_fast.kernels.dropout import dropout
from odmt_fast.models.gathered import gathered
from odmt_fast.models.items.base import ItemEncoder
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import UserEncoder


class SequentialModel(nn.Module):
    """Items are encoded once each, users read them in order, the loss compares the two.

    ``model(batch, epoch)`` is the loss. Under ``torch.autocast`` the computation runs in its dtype,
    from master weights, with statistics and losses in fp32. In training mode dropout is decided by
    ``batch.noise``; a batch without it (not from a `BatchLoader`) draws from torch's default
    generator.

    Args:
        items: distinct items to embeddings.
        users: embeddings to states.
        loss: states to named terms.
        popularity: [n_items + 1] share of each item in the training interactions, [0] = 1.
        sources: tokens of all items, one source per modality the item encoder reads; the catalogue
            is encoded from them. In training the loader gathers the tokens into the batch.
        dropout: probability, of every site in training mode but those of `item_encoder_dropout`.
        item_encoder_dropout: probability, of the sites inside `items`; None = `dropout`.
        item_dropout: probability, of an item's embedding in training mode; the item is the same
            wherever a step reads it, as an input and as a candidate. By branch: 0 for those that
            are not named.

    Raises:
        ValueError: popularity or sources of another catalogue, a popularity that is no share, or
            dropout of a branch that is not there.
    """

    log_p: Tensor
    popularity_argument = "popularity"
    """What messages call the shares."""

    def __init__(
        self,
        items: ItemEncoder,
        users: UserEncoder,
        loss: Loss,
        popularity: Sequence[float] | NDArray[np.floating] | Tensor,
        sources: Sequence[TokenSource] = (),
        *,
        dropout: float = 0.0,
        item_encoder_dropout: float | None = None,
        item_dropout: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__()
        self.items, self.users, self.loss = items, users, loss
        self.sources, self.dropout = tuple(sources), dropout
        self.item_encoder_dropout = (
            dropout if item_encoder_dropout is None else item_encoder_dropout
        )
        self.item_dropout = _by_branch(item_dropout, self.branches)
        self.read_from: tuple[BatchSource, ...] = ()
        self.register_buffer(
            "log_p", _log_shares(popularity, self.popularity_argument), persistent=False
        )
        for source in self.sources:
            if source.n_items != self.n_items:
                raise ValueError(
                    f"features have {source.n_items} items, the popularity {self.n_items}; extract "
                    "them from the same catalogue"
                )

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the K branches, each with its own embeddings and states."""
        return self.items.branches

    @property
    def n_items(self) -> int:
        """Items are 1..n_items, 0 is padding."""
        return self.log_p.shape[0] - 1

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws the initial values of items and users; None draws from torch's default one."""
        self.items.initialise(generator)
        self.users.initialise(generator)

    def check_popularity(self, items: Tensor) -> None:
        """Raises ValueError unless all `items` (int64 ids) have a share; a loss needs its log."""
        log_p = self.log_p[items.to(self.log_p.device)]
        if (missing := log_p.isinf()).any():
            item = int(items[missing.to(items.device)][0])
            raise ValueError(
                f"{self.popularity_argument}[{item}] is 0, but the item is trained on; give the "
                "shares of the training interactions"
            )

    def forward(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Named terms of the loss of a batch, ``"loss"`` first, at a 1-based epoch."""
        dtype = self._compute_dtype()
        on = float(self.training)
        noise = Noise(on * self.dropout, batch.noise, self.log_p.device)
        with torch.autocast(self.log_p.device.type, enabled=False):
            features = tuple(tokens.gathered() for tokens in batch.features)
            within = noise.at(on * self.item_encoder_dropout)
            items = self.items(batch.own_items, features, dtype, within)
            if self.training:
                items = self._dropped(items, noise)
            if batch.encoders is not None:
                items = gathered(items, len(batch.items), batch.encoders)
            states = self.users(items, batch, noise)
            terms: dict[str, Tensor] = self.loss(
                states, items, batch, self.log_p[batch.items], epoch
            )
        return terms

    def encode_items(self, items: Tensor, features: tuple[PackedTokens, ...] = ()) -> Tensor:
        """Embeddings [K, U, d] of `items` (int64 [U], ids in 1..n_items), without dropout.

        Args:
            items: distinct ids.
            features: their tokens; gathered from the sources when absent, or from `read_from`
                where a run keeps them elsewhere.
        """
        if not features:
            features = tuple(
                source.gather(items.to(device_of(source))).to(items.device).gathered()
                for source in self.read_from or self.sources
            )
        dtype = self._compute_dtype()
        with torch.autocast(self.log_p.device.type, enabled=False):
            encoded: Tensor = self.items(
                items, features, dtype, Noise(0.0, None, self.log_p.device)
            )
        return encoded

    @torch.no_grad()
    def encode_catalogue(self, chunk_tokens: int = 65_536) -> Tensor:
        """Embeddings [K, n_items + 1, d] of all items, without dropout; row 0 is zero.

        Args:
            chunk_tokens: tokens encoded at a time, which bounds the memory.
        """
        longest = sum(source.max_length for source in self.sources) + 1
        training = self.training
        self.eval()
        try:
            ids = torch.arange(1, self.n_items + 1, device=self.log_p.device)
            parts = torch.split(ids, max(1, chunk_tokens // longest))
            encoded = [self.encode_items(part) for part in parts]
        finally:
            self.train(training)
        padding = encoded[0].new_zeros(encoded[0].shape[0], 1, encoded[0].shape[2])
        return torch.cat([padding, *encoded], dim=1)

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """States [K, B, d] after the last input of each user; see `UserEncoder.encode`."""
        return self.users.encode(catalogue, items, offsets)

    def _dropped(self, items: Tensor, noise: Noise) -> Tensor:
        """Embeddings [K, U, d] after `item_dropout`; one pass where the branches have the same."""
        first, *others = self.item_dropout
        if all(p == first for p in others):
            (site,) = noise.at(first).sites(1)
            return dropout(items, site["dropout"], site["seed"], len(items))
        dropped = []
        for branch, p in zip(items, self.item_dropout, strict=True):
            (site,) = noise.at(p).sites(1)
            dropped.append(dropout(branch, site["dropout"], site["seed"]))
        return torch.stack(dropped)

    def _compute_dtype(self) -> torch.dtype:
        device = self.log_p.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return next(self.items.parameters()).dtype


def _by_branch(given: float | Mapping[str, float], branches: tuple[str, ...]) -> tuple[float, ...]:
    """The item dropout of each branch."""
    if not isinstance(given, Mapping):
        return (given,) * len(branches)
    if unknown := [name for name in given if name not in branches]:
        raise ValueError(
            f"item_dropout has {unknown[0]!r}, which is none of the model's branches; name some of "
            f"{', '.join(branches)}, or give one number for all"
        )
    return tuple(given.get(name, 0.0) for name in branches)


def _log_shares(
    popularity: Sequence[float] | NDArray[np.floating] | Tensor, argument: str
) -> Tensor:
    """[n_items + 1] fp32 logarithms, -inf where an item has no share."""
    # A copy: a split's popularity is read-only.
    shares = torch.tensor(np.asarray(popularity, dtype=np.float64))
    if shares.dim() != 1 or not len(shares):
        raise ValueError(f"{argument} must be [n_items + 1], got {tuple(shares.shape)}")
    if (wrong := ~(shares.isfinite() & (shares >= 0.0))).any():
        item = int(wrong.nonzero()[0])
        raise ValueError(
            f"{argument}[{item}] is {float(shares[item])}; the share of an item in the training "
            "interactions is between 0 and 1"
        )
    return shares.float().log()
