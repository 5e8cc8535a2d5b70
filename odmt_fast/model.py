"""ODMT: item encoder, user encoders and objective, assembled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odmt_fast import reference
from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens, TokenSource
from odmt_fast.items import ItemEncoder
from odmt_fast.kernels.distilled_softmax import MAX_BRANCHES
from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT
from odmt_fast.noise import Noise
from odmt_fast.objective import LossTerms, objective, ramp_up
from odmt_fast.official.interface import OfficialInterface
from odmt_fast.official.padded import PaddedTokens, as_tensor, device_of, first_tokens
from odmt_fast.users import Steps, UserEncoders

Features = Tensor | NDArray[Any] | TokenSource
"""Frozen tokens of every item, in memory or in a store."""


class ODMT(OfficialInterface):
    """Online Distillation-enhanced Multi-modal Transformer (arXiv 2308.04067), fast and exact.

    The same function as the official model at the cost of what is needed: each distinct item once,
    no padding, only the outputs that are read. With dropout, one noise is drawn per item and step
    instead of one per occurrence; nothing else differs.

    Args:
        args: `ModelConfig`, `Config`, or any object with the official argument names.
        pop_prob_list: [item_num + 1] share of each item in the training interactions, [0] = 1.
        item_num: number of items; ids are 1..item_num, 0 is padding.
        t_feat: frozen text tokens, [item_num + 1, T, d_t] (a tensor or a NumPy array, memory-mapped
            or not) or a `TokenSource`; None where items have no text.
        v_feat: frozen image tokens, [item_num + 1, V, d_v], likewise.
        modalities: further modalities by name, each one more token group and branch.
        generator: draws the initial values, in the official order; None draws them, as the official
            code does, from torch's default generator, which ``torch.manual_seed`` rules.

    Raises:
        ValueError: features of another number of items, more branches or tokens than the operators
            take, or a popularity of another length or that is no share.
    """

    def __init__(
        self,
        args: Any,
        pop_prob_list: Sequence[float] | NDArray[np.floating] | Tensor,
        item_num: int,
        t_feat: Features | None = None,
        v_feat: Features | None = None,
        modalities: Mapping[str, Features] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.args = args
        self.config = config = ModelConfig.from_official(args)
        self.item_num = item_num
        given = {"text": t_feat, "image": v_feat, **(modalities or {})}
        self.features = {
            name: _source(name, tokens, item_num)
            for name, tokens in given.items()
            if tokens is not None
        }
        self.branches = ("id", *self.features)
        _check_limits(self.features)
        dims = {name: tokens.dim for name, tokens in self.features.items()}
        # A copy: a split's popularity is read-only.
        popularity = torch.tensor(np.asarray(pop_prob_list, dtype=np.float64))
        if popularity.shape != (item_num + 1,):
            raise ValueError(
                f"pop_prob_list must have item_num + 1 = {item_num + 1} entries, got "
                f"{tuple(popularity.shape)}"
            )
        if (wrong := ~(popularity.isfinite() & (popularity >= 0.0))).any():
            item = int(wrong.nonzero()[0])
            raise ValueError(
                f"pop_prob_list[{item}] is {float(popularity[item])}; the share of an item in the "
                "training interactions is between 0 and 1"
            )
        # Shapes only: the values are drawn by the reference, in the official order.
        with torch.device("meta"):
            self.items = ItemEncoder(config, item_num, dims)
            self.users = UserEncoders(config, len(self.branches))
        self.to_empty(device=torch.get_default_device())
        self.pop_prob_list = popularity.float()
        self.log_p: Tensor
        self.register_buffer("log_p", self.pop_prob_list.log(), persistent=False)
        # The official IMT owns these and never reads them: they travel in its checkpoints.
        self.unused = nn.ParameterDict(
            {
                "token_type_embeddings_weight": torch.empty(2, config.width),
                "layer_norm_weight": torch.empty(config.width),
                "layer_norm_bias": torch.empty(config.width),
            }
        )
        start = None
        if config.id_init != "xavier":
            firsts: dict[str, Tensor] = {
                name: first_tokens(self.features[name])
                for name in ("text", "image")
                if name in self.features
            }
            start = reference.id_start(config, firsts)
        drawn = reference.Parameters(config, item_num, dims, start, generator)
        self.load_state_dict(drawn.state_dict())

    def check_popularity(self, items: Tensor) -> None:
        """Raises ValueError unless all `items` (int64 ids) have a share; a loss needs its log."""
        log_p = self.log_p[items.to(self.log_p.device)]
        if (missing := log_p.isinf()).any():
            raise ValueError(
                f"pop_prob_list[{int(items[missing.to(items.device)][0])}] is 0, but the item is "
                "trained on; give the shares of the training interactions"
            )

    def loss(self, batch: Batch, epoch: float) -> LossTerms:
        """The training loss of a batch at a 1-based epoch (which sets the ramp-up).

        Under ``torch.autocast`` the computation runs in its dtype, from master weights, with
        statistics and losses in fp32. In training mode dropout is decided by ``batch.noise``; a
        batch without it (not from a `BatchLoader`) draws from torch's default generator.
        """
        dtype = self._compute_dtype()
        dropout = self.config.dropout if self.training else 0.0
        noise = Noise(dropout, batch.noise, self.log_p.device)
        with torch.autocast(self.log_p.device.type, enabled=False):
            features = batch.features or self._gather(batch.items)
            items = self.items(batch.items, features, dtype, noise)
            steps = Steps(batch.row_input, batch.positions, batch.row_offsets, batch.max_rows)
            return objective(
                self.users(items, steps, noise),
                items,
                batch,
                self.log_p[batch.items],
                tau=self.config.tau,
                weight=ramp_up(epoch, self.config.alpha),
                detach_teacher=self.config.detach_teacher,
            )

    def encode_items(self, items: Tensor, features: tuple[PackedTokens, ...] = ()) -> Tensor:
        """Embeddings [K, U, d] of `items` (int64 [U], ids in 1..item_num)."""
        dtype = self._compute_dtype()
        with torch.autocast(self.log_p.device.type, enabled=False):
            return self.items(items, features or self._gather(items), dtype)

    @torch.no_grad()
    def encode_catalogue(self, chunk_tokens: int = 65_536) -> Tensor:
        """Embeddings [K, item_num + 1, d] of all items, without dropout; row 0 is zero.

        Args:
            chunk_tokens: tokens encoded at a time, which bounds the memory.
        """
        device = self.log_p.device
        longest = sum(tokens.max_length for tokens in self.features.values()) + 1
        chunk = max(1, chunk_tokens // longest)
        training = self.training
        self.eval()
        try:
            ids = torch.arange(1, self.item_num + 1, device=device)
            encoded = [self.encode_items(part) for part in torch.split(ids, chunk)]
        finally:
            self.train(training)
        return torch.cat(
            [encoded[0].new_zeros(encoded[0].shape[0], 1, encoded[0].shape[2]), *encoded], dim=1
        )

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """States [K, B, d] after the last input of each user.

        Args:
            catalogue: [K, item_num + 1, d], see `encode_catalogue`.
            items: int64 [N], inputs of the users one after the other, oldest first.
            offsets: int64 [B + 1]; every user has 1 to S inputs.
        """
        lengths = offsets.diff()
        steps = torch.arange(items.shape[0], device=items.device)
        steps = steps - torch.repeat_interleave(offsets[1:], lengths, output_size=items.shape[0])
        states = self.users(
            catalogue,
            Steps(
                columns=items,
                positions=steps + self.config.max_seq_len,
                offsets=offsets.to(torch.int32),
                longest=self.config.max_seq_len,
            ),
        )
        return states[:, offsets[1:] - 1]

    def _gather(self, items: Tensor) -> tuple[PackedTokens, ...]:
        return tuple(
            tokens.gather(items.to(device_of(tokens))).to(items.device)
            for tokens in self.features.values()
        )

    def _compute_dtype(self) -> torch.dtype:
        device = self.log_p.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.items.id_embedding.weight.dtype


def _source(name: str, tokens: Features, item_num: int) -> TokenSource:
    """Features as a token source; only the official text is padded raggedly."""
    source: TokenSource
    if isinstance(tokens, Tensor | np.ndarray):
        source = PaddedTokens(as_tensor(name, tokens), name == "text")
    else:
        source = tokens
    if source.n_items != item_num:
        raise ValueError(
            f"{name} features have {source.n_items} items, the model has item_num={item_num}; "
            "extract them from the same catalogue"
        )
    return source


def _check_limits(features: Mapping[str, TokenSource]) -> None:
    """Raises ValueError for more modalities or tokens than the operators take."""
    if 1 + len(features) > MAX_BRANCHES:
        raise ValueError(
            f"{', '.join(features)} and id are {1 + len(features)} branches, at most "
            f"{MAX_BRANCHES} are trained together; leave modalities out"
        )
    lengths = {name: tokens.max_length for name, tokens in features.items()}
    if sum(lengths.values()) + 1 > LONGEST_SEGMENT:
        raise ValueError(
            f"an item has up to {' + '.join(f'{n} {name}' for name, n in lengths.items())} + 1 id "
            f"tokens, at most {LONGEST_SEGMENT} are read together; extract fewer (for texts "
            "odmt-fast extract --max-tokens N)"
        )
