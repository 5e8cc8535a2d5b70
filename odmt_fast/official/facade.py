"""`odmt_fast.ODMT`: what code written for the official model touches, over our model.

Its call, its attributes, its state dict; the computation is `SequentialModel`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import TokenSource, device_of, first_tokens
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.initial import id_start
from odmt_fast.models.items.imt import IMT
from odmt_fast.models.users.sasrec import SASRec
from odmt_fast.models.zoo import imt
from odmt_fast.official.modules import UserEncoder, branch_head
from odmt_fast.official.padded import PaddedTokens, as_tensor
from odmt_fast.official.reference import Parameters
from odmt_fast.official.state import DEAD, Keys, model_state, prefix
from odmt_fast.official.views import ItemTransformerView, View

Features = Tensor | NDArray[Any] | TokenSource
"""Frozen tokens of every item, in memory or in a store."""


class Dead(nn.Module):
    """What the official IMT owns and never reads: it travels in state dicts and is not trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("token_type_embeddings_weight", torch.empty(2, width))
        self.register_buffer("layer_norm_weight", torch.empty(width))
        self.register_buffer("layer_norm_bias", torch.empty(width))


class ODMT(SequentialModel):
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
        ValueError: settings of another model, features of another number of items, more branches or
            tokens than the operators take, or a popularity of another length or that is no share.
    """

    items: IMT
    unused: Dead
    popularity_argument = "pop_prob_list"

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
        config = ModelConfig.from_official(args)
        if (config.name, config.backbone) != ("odmt", "sasrec"):
            raise ValueError(
                f"ODMT is model.name=odmt with model.backbone=sasrec, got {config.name} with "
                f"{config.backbone}; odmt_fast.models.zoo.build makes that model"
            )
        given = {"text": t_feat, "image": v_feat, **(modalities or {})}
        features = {
            name: _source(name, tokens, item_num)
            for name, tokens in given.items()
            if tokens is not None
        }
        shares = np.asarray(pop_prob_list, dtype=np.float64)
        if shares.shape != (item_num + 1,):
            raise ValueError(
                f"pop_prob_list must have item_num + 1 = {item_num + 1} entries, got {shares.shape}"
            )
        # Shapes only: the values are drawn by the reference, in the official order.
        with torch.device("meta"):
            items, loss = imt(config, item_num, features)
            users = SASRec(config, 1 + len(features))
        super().__init__(
            items,
            users,
            loss,
            shares,
            tuple(features.values()),
            dropout=config.dropout,
            item_encoder_dropout=config.item_encoder_dropout,
            item_dropout=config.item_dropout,
        )
        self.unused = Dead(config.width)
        for part in (self.items, self.users):
            part.to_empty(device=torch.get_default_device())
        self.args, self.config, self.features = args, config, features
        self.pop_prob_list = torch.from_numpy(shares.copy()).float()
        start = None
        if config.id_init != "xavier":
            start = id_start(config, {name: _first(source) for name, source in features.items()})
        dims = {name: tokens.dim for name, tokens in features.items()}
        self.load_state_dict(Parameters(config, item_num, dims, start, generator).state_dict())

    @property
    def item_num(self) -> int:
        """Number of items."""
        return self.n_items

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The official training call (official model.py::Model.forward).

        Called with a `Batch` first, as our training does, it is `SequentialModel.forward`.

        Args:
            epoch: 1-based epoch, for the ramp-up.
            sample_items_id: int64 [B (S + 1)], left-padded item ids.
            sample_items_text: [B (S + 1), 2 T], token ids then their mask; only the mask is read.
            log_mask: [B, S], nonzero at real inputs.
            local_rank: the official device argument; the model's own device is used.

        Returns:
            The summed cross entropies and the weighted distillation, scalars.
        """
        if "batch" in named or isinstance(next(iter(arguments), None), Batch):
            return super().forward(*arguments, **named)
        return self._official_step(*arguments, **named)

    def _official_step(
        self,
        epoch: float,
        sample_items_id: Tensor,
        sample_items_text: Tensor,
        log_mask: Tensor,
        local_rank: torch.device | int | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        kind, logq = self.config.candidates, self.config.logq
        if (kind, logq) != ("in_batch", "official"):
            raise ValueError(
                f"model.candidates={kind} with model.logq={logq} is decided where a Batch is made; "
                "pass one, or set in_batch and official for the official arguments"
            )
        device = self.log_p.device
        valid = torch.cat([log_mask != 0, log_mask.new_ones(log_mask.shape[0], 1) != 0], dim=1)
        ids = sample_items_id.view_as(valid)[valid]
        index = batch_index(ids.cpu(), valid.sum(1).cpu(), self.users.max_seq_len)
        batch = Batch(**index._asdict()).to(device)
        self.check_popularity(batch.items)
        # Any occurrence of an item tells its text mask.
        occurrence = torch.empty_like(batch.items).scatter_(
            0, batch.occurrences, torch.arange(batch.occurrences.shape[0], device=device)
        )
        half = sample_items_text.shape[1] // 2
        masks = sample_items_text[valid.view(-1), half:].to(device)[occurrence]
        features = []
        for name, source in self.features.items():
            items = batch.items.to(device_of(source))
            if name == "text" and isinstance(source, PaddedTokens):
                features.append(source.gather(items, masks))
            else:
                features.append(source.gather(items))
        terms = super().forward(
            batch.with_features(tuple(tokens.to(device) for tokens in features)), epoch
        )
        ce = torch.stack([terms[f"{branch}/ce"] for branch in self.branches]).sum()
        return ce, terms["loss"] - ce

    # -- attributes --------------------------------------------------------------------------------

    @property
    def t_feat(self) -> Any:
        """Text features as they were given; None without them."""
        return _given(self.features.get("text"))

    @property
    def v_feat(self) -> Any:
        """Image features as they were given; None without them."""
        return _given(self.features.get("image"))

    @property
    def id_encoder(self) -> nn.Embedding:
        """ID embedding table."""
        return self.items.id_embedding

    @property
    def id_proj(self) -> nn.Linear:
        """Projection of the ID embedding."""
        return self.items.id_projection

    @property
    def text_proj(self) -> nn.Linear:
        """Projection of the text tokens."""
        return cast(nn.Linear, self.items.projections["text"])

    @property
    def image_proj(self) -> nn.Linear:
        """Projection of the image tokens."""
        return cast(nn.Linear, self.items.projections["image"])

    @property
    def IMT(self) -> ItemTransformerView:
        """The item Transformer on padded tokens of text and image."""
        return ItemTransformerView(self.config, self._official_parameters("IMT"), self.training)

    @property
    def id_dnns(self) -> View:
        """Head of the ID branch."""
        return self._head("id")

    @property
    def t_dnns(self) -> View:
        """Head of the text branch."""
        return self._head("text")

    @property
    def v_dnns(self) -> View:
        """Head of the image branch."""
        return self._head("image")

    @property
    def id_user_encoder(self) -> View:
        """User encoder of the ID branch on padded sequences."""
        return self._user_encoder("id")

    @property
    def t_user_encoder(self) -> View:
        """User encoder of the text branch on padded sequences."""
        return self._user_encoder("text")

    @property
    def v_user_encoder(self) -> View:
        """User encoder of the image branch on padded sequences."""
        return self._user_encoder("image")

    def _head(self, branch: str) -> View:
        return View(
            lambda: branch_head(self.config.width),
            self._official_parameters(f"{prefix(branch)}_dnns"),
            self.training,
        )

    def _user_encoder(self, branch: str) -> View:
        return View(
            lambda: UserEncoder(self.config),
            self._official_parameters(f"{prefix(branch)}_user_encoder"),
            self.training,
        )

    def _official_parameters(self, module: str) -> Any:
        """A function giving the parameters below an official sub-module, by their local names."""
        start = module + "."

        def parameters() -> dict[str, Tensor]:
            state = self.official_keys().to_official(dict(self.named_parameters()))
            return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}

        return parameters

    # -- state dict --------------------------------------------------------------------------------

    def official_keys(self) -> Keys:
        """The translation between our state dict and the official one."""
        return Keys(self.branches, self.config.imt_layers, self.config.user_layers)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Loads our state dict, or an official one (always strictly).

        Either may lie in a whole checkpoint and may carry the prefixes of wrappers; see
        `odmt_fast.official.model_state`.

        Raises:
            ValueError: there is no state dict in the checkpoint.
            RuntimeError: keys are missing or unexpected; all are named.
        """
        state = model_state(state_dict)
        if self.official_keys().are_official(state):
            state = self.official_keys().from_official(state)
        elif state.keys().isdisjoint(DEAD):  # of a run: training keeps no dead keys
            own = super().state_dict()
            state |= {key: own[key] for key in DEAD}
        return super().load_state_dict(state, strict=strict, assign=assign)

    def state_dict(  # type: ignore[override]  # torch's overloads; it forwards the same arguments
        self, *args: Any, official: bool = False, **options: Any
    ) -> dict[str, Any]:
        """As of any module; with `official` under the official keys and shapes, as copies."""
        state: dict[str, Any] = super().state_dict(*args, **options)
        if not official:
            return state
        values = self.official_keys().to_official(state)
        return {key: value.detach().clone() for key, value in values.items()}


def state_dict(model: ODMT) -> dict[str, Tensor]:
    """The model's state under the official keys and shapes."""
    return model.state_dict(official=True)


def _given(source: TokenSource | None) -> Any:
    return source.values if isinstance(source, PaddedTokens) else source


def _first(source: TokenSource) -> Tensor:
    """[n_items + 1, d_f] first token of every item; row 0 (padding) as the source has it, or 0."""
    return source.values[:, 0] if isinstance(source, PaddedTokens) else first_tokens(source)


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
