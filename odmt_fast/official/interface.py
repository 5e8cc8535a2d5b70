"""What code written for the official model touches: its call, its attributes, its state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from odmt_fast import reference
from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import TokenSource
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.objective import LossTerms
from odmt_fast.official.checkpoint import model_state
from odmt_fast.official.names import prefix
from odmt_fast.official.padded import PaddedTokens, device_of
from odmt_fast.official.state import Keys
from odmt_fast.official.views import ItemTransformerView, View


class OfficialInterface(nn.Module):
    """Mixed into `odmt_fast.ODMT`; holds no computation of its own."""

    config: ModelConfig
    branches: tuple[str, ...]
    item_num: int
    features: dict[str, TokenSource]
    items: Any

    def check_popularity(self, items: Tensor) -> None:
        """See `odmt_fast.ODMT.check_popularity`."""
        raise NotImplementedError

    def loss(self, batch: Batch, epoch: float) -> LossTerms:
        """See `odmt_fast.ODMT.loss`."""
        raise NotImplementedError

    def forward(
        self,
        epoch: float,
        sample_items_id: Tensor,
        sample_items_text: Tensor,
        log_mask: Tensor,
        local_rank: torch.device | int | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The official training call (official model.py::Model.forward).

        Args:
            epoch: 1-based epoch, for the ramp-up.
            sample_items_id: int64 [B (S + 1)], left-padded item ids.
            sample_items_text: [B (S + 1), 2 T], token ids then their mask; only the mask is read.
            log_mask: [B, S], nonzero at real inputs.
            local_rank: the official device argument; the model's own device is used.

        Returns:
            The summed cross entropies and the weighted distillation, scalars.
        """
        device = self.items.id_embedding.weight.device
        valid = torch.cat([log_mask != 0, log_mask.new_ones(log_mask.shape[0], 1) != 0], dim=1)
        ids = sample_items_id.view_as(valid)[valid]
        index = batch_index(ids.cpu(), valid.sum(1).cpu(), self.config.max_seq_len)
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
            if name == "text" and isinstance(source, PaddedTokens):
                features.append(source.gather(batch.items.to(source.values.device), masks))
            else:
                features.append(source.gather(batch.items.to(device_of(source))))
        terms = self.loss(batch.with_features(tuple(f.to(device) for f in features)), epoch)
        return terms.ce.sum(), terms.weight * terms.kd.sum()

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
        table: nn.Embedding = self.items.id_embedding
        return table

    @property
    def id_proj(self) -> nn.Linear:
        """Projection of the ID embedding."""
        projection: nn.Linear = self.items.id_projection
        return projection

    @property
    def text_proj(self) -> nn.Linear:
        """Projection of the text tokens."""
        projection: nn.Linear = self.items.projections["text"]
        return projection

    @property
    def image_proj(self) -> nn.Linear:
        """Projection of the image tokens."""
        projection: nn.Linear = self.items.projections["image"]
        return projection

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
            lambda: reference.branch_head(self.config.width),
            self._official_parameters(f"{prefix(branch)}_dnns"),
            self.training,
        )

    def _user_encoder(self, branch: str) -> View:
        return View(
            lambda: reference.UserEncoder(self.config),
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


def state_dict(model: OfficialInterface) -> dict[str, Tensor]:
    """The model's state under the official keys and shapes."""
    return model.state_dict(official=True)


def _given(source: TokenSource | None) -> Any:
    return source.values if isinstance(source, PaddedTokens) else source
