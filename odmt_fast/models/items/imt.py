"""IMT on distinct items without padding (paper section 3.2, identities 1 to 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens, TokenSource
from odmt_fast.kernels.distilled_softmax import MAX_BRANCHES
from odmt_fast.kernels.item_tokens import Packed, item_tokens
from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT
from odmt_fast.models.block import Affine, Block
from odmt_fast.models.initial import linear_default, xavier_normal
from odmt_fast.models.items.base import ItemEncoder, id_table
from odmt_fast.models.noise import Noise, Site, counted_from

PART_TOKENS = 6_144
"""At most this many tokens are recomputed at once, where the items are not counted."""


class IMT(ItemEncoder):
    """The item Transformer: ID embedding and frozen tokens of an item -> one embedding per branch.

    Args:
        config: the architecture.
        n_items: items are 1..n_items, row 0 of the ID table is padding.
        feature_dims: modality -> width of its tokens, in token order.

    Attributes:
        recompute: whether the backward encodes the items once more instead of keeping activations.
        micro_items: items at a time, which implies `recompute`; None = as many as have
            `PART_TOKENS` tokens.
    """

    def __init__(self, config: ModelConfig, n_items: int, feature_dims: Mapping[str, int]) -> None:
        super().__init__()
        width = config.width
        self.mask = config.mask
        self.branches = ("id", *feature_dims)
        self.modalities = tuple(feature_dims)
        self.recompute = False
        self.micro_items: int | None = None
        self.id_embedding = id_table(config, n_items, config.id_features)
        self.id_projection = nn.Linear(config.id_features, width)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(dim, width) for name, dim in feature_dims.items()}
        )
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.imt_layers))
        shapes = (len(self.branches), width, width), (len(self.branches), width)
        self.heads = nn.ModuleList([Affine(*shapes), Affine(*shapes)])

    @property
    def float8(self) -> bool:
        """Whether the blocks' linear maps multiply in float8 (`kernels/linear/float8.py`)."""
        return all(block.float8 for block in self.blocks)

    @float8.setter
    def float8(self, value: bool) -> None:
        for block in self.blocks:
            assert isinstance(block, Block)
            block.float8 = value

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for the IDs, torch's defaults for the maps, as officially."""
        xavier_normal(generator, self.id_embedding.weight)
        for layer in (self.id_projection, *self.projections.values(), *self.heads):
            assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
            linear_default(generator, layer.weight, layer.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.initialise(linear_default, generator)

    def forward(
        self,
        items: Tensor,
        features: tuple[PackedTokens, ...],
        dtype: torch.dtype,
        noise: Noise,
    ) -> Tensor:
        """Embeddings [K, U, d] of distinct `items` (int64 [U]); branch 0 is the ID branch.

        Where activations are recomputed the items pass in micro-batches: first all of them without
        a graph, and when the gradient of their embeddings is known each once more, with its slice
        of it. The memory is that of one micro-batch; the noise, and where a row's bits do not
        depend on how many rows there are the embeddings, are those of one pass. The gradient of a
        weight is summed over the micro-batches, the last one first. Splitting them waits for the
        lengths, which a GPU step notices.

        Args:
            items: dense ids, no padding.
            features: tokens of the items, one entry per modality.
            dtype: of the computation; parameters keep theirs.
            noise: of the step.

        Raises:
            ValueError: `features` are not those of the encoder's modalities.
        """
        if len(features) != len(self.modalities):
            raise ValueError(
                f"the batch carries tokens of {len(features)} modalities, the model reads "
                f"{', '.join(self.modalities)}; give the collator the model's sources"
            )
        # Outside the micro-batches: the table has one gradient, however many there are.
        ids = self.id_embedding(items).to(dtype)
        sites = noise.sites(1 + Block.SITES * len(self.blocks))
        if not (self.training and (self.recompute or self.micro_items)):
            return self._encode(ids, features, sites)
        encoded: list[Tensor] = []
        item = token = 0
        for own_ids, tokens in self._parts(ids, features):
            own_sites = self._sites_from(sites, item, token)
            encoded.append(
                checkpoint(
                    self._encode,
                    own_ids,
                    tokens,
                    own_sites,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            )
            item += len(own_ids)
            token += len(own_ids) + sum(modality.values.shape[0] for modality in tokens)
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded, dim=1)

    def _parts(
        self, ids: Tensor, features: tuple[PackedTokens, ...]
    ) -> list[tuple[Tensor, tuple[PackedTokens, ...]]]:
        """The micro-batches: the ID embeddings of their items and the tokens."""
        most = self.micro_items or max(1, PART_TOKENS // _longest(features))
        if self.id_projection.out_features % 4:
            most = len(ids)  # a micro-batch could begin within four random numbers of a draw
        tokens = [modality.split(most) for modality in features]
        return [
            (own_ids, tuple(modality[number] for modality in tokens))
            for number, own_ids in enumerate(torch.split(ids, most))
        ]

    def _sites_from(self, sites: tuple[Site, ...], item: int, token: int) -> tuple[Site, ...]:
        """Dropout of a micro-batch that begins at `item` and `token` of the batch."""
        found = [counted_from(sites[0], token * self.id_projection.out_features)]
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            readout = number == len(self.blocks) - 1
            first = 1 + Block.SITES * number
            found += block.sites_from_row(
                sites[first : first + Block.SITES],
                item * len(self.branches) if readout else token,
            )
        return tuple(found)

    def _encode(
        self, ids: Tensor, features: tuple[PackedTokens, ...], sites: tuple[Site, ...]
    ) -> Tensor:
        """`forward` of one part; `sites` is the dropout after the tokens and that of the blocks."""
        x, cu_seqlens, readouts = self._before_readout(ids, features, sites)
        first, second, third = sites[-Block.SITES :]
        x = self._last_block.readout(
            x,
            cu_seqlens,
            readouts,
            max_seqlen=_longest(features),
            mask=self.mask,
            sites=(first, second, third),
        )
        return self._branch_heads(x.view(*readouts.shape, -1))

    @torch.no_grad()
    def attention(self, items: Tensor, features: tuple[PackedTokens, ...]) -> Tensor:
        """What the tokens that become the branches read in the last block, without dropout.

        Args:
            items: int64 [U], dense ids.
            features: their tokens, as for `forward`.

        Returns:
            [K, K]: row = the branch, column = whose tokens it reads, both in the order of
            `branches`; rows sum to 1; mean over items and heads.
        """
        off = Noise(0.0, None, items.device).sites(1 + Block.SITES * len(self.blocks))
        x, cu_seqlens, readouts = self._before_readout(self.id_embedding(items), features, off)
        # Tokens are in the order of the modalities, the ID last.
        lengths = torch.stack([*(t.lengths for t in features), torch.ones_like(items)], dim=1)
        kinds = torch.arange(lengths.shape[1], device=items.device).repeat(len(items))
        shares = self._last_block.readout_shares(
            x,
            cu_seqlens,
            readouts,
            kinds.repeat_interleave(lengths.flatten(), output_size=len(x)),
            max_seqlen=_longest(features),
            mask=self.mask,
        )
        # Branches begin with the ID.
        return shares[..., : len(self.branches)].mean(0).roll((1, 1), (0, 1))

    @property
    def _last_block(self) -> Block:
        block = self.blocks[-1]
        assert isinstance(block, Block)
        return block

    def _before_readout(
        self, ids: Tensor, features: tuple[PackedTokens, ...], sites: tuple[Site, ...]
    ) -> Packed:
        """The hidden states that the last block reads, and where they lie."""
        layers = (*self.projections.values(), self.id_projection)
        x, cu_seqlens, readouts = item_tokens(
            (*(tokens.values.to(ids.dtype) for tokens in features), ids),
            tuple(tokens.lengths for tokens in features),
            tuple(_weight(layer) for layer in layers),
            tuple(_bias(layer) for layer in layers),
            **sites[0],
        )
        for number, block in enumerate(self.blocks[:-1]):
            first = 1 + Block.SITES * number
            x = block(
                x,
                cu_seqlens,
                max_seqlen=_longest(features),
                mask=self.mask,
                sites=(sites[first], sites[first + 1], sites[first + 2]),
            )
        return Packed(x, cu_seqlens, readouts)

    def _branch_heads(self, readouts: Tensor) -> Tensor:
        """[U, R, d], ID last -> [K, U, d], ID first."""
        items, branches, width = readouts.shape
        x = readouts.roll(1, dims=1).transpose(0, 1).reshape(branches * items, width)
        first, second = self.heads
        x = _project(F.leaky_relu(_project(x, first)), second)
        return x.view(branches, items, width)


def _longest(features: tuple[PackedTokens, ...]) -> int:
    """An upper bound of an item's tokens, its ID token included."""
    return sum(tokens.max_length for tokens in features) + 1


def _project(x: Tensor, layer: nn.Module) -> Tensor:
    """A linear map or a group of them, in the dtype of x."""
    return linear(x, _weight(layer), _bias(layer))


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias


def check_limits(sources: Mapping[str, TokenSource]) -> None:
    """Raises ValueError for more modalities or tokens than the operators take."""
    if 1 + len(sources) > MAX_BRANCHES:
        raise ValueError(
            f"{', '.join(sources)} and id are {1 + len(sources)} branches, at most "
            f"{MAX_BRANCHES} are trained together; leave modalities out"
        )
    lengths = {name: tokens.max_length for name, tokens in sources.items()}
    if sum(lengths.values()) + 1 > LONGEST_SEGMENT:
        raise ValueError(
            f"an item has up to {' + '.join(f'{n} {name}' for name, n in lengths.items())} + 1 id "
            f"tokens, at most {LONGEST_SEGMENT} are read together; extract fewer (for texts "
            "odmt-fast extract --max-tokens N)"
        )
