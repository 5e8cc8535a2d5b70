"""The official sub-modules as callables over our fused parameters.

The official evaluation calls ``model.IMT(...)``, ``model.t_dnns(...)`` and
``model.id_user_encoder(...)`` on padded tensors. Each view runs the padded reference module with
the official slices of our parameters, so outputs (padded steps included) and gradients are the
official ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.official.modules import ItemTransformer


class View:
    """One official sub-module.

    Args:
        build: makes the reference module; only its structure is kept.
        parameters: its parameters under their official names, taken anew at every call.
        training: whether the model is in training mode (dropout).
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        parameters: Callable[[], dict[str, Tensor]],
        training: bool,
    ) -> None:
        with torch.device("meta"):
            self._module = build().train(training)
        self._parameters = parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self._module, self._parameters(), args, kwargs)


class ItemTransformerView(View):
    """``model.IMT`` with the official call."""

    def __init__(
        self, config: ModelConfig, parameters: Callable[[], dict[str, Tensor]], training: bool
    ) -> None:
        super().__init__(lambda: ItemTransformer(config), parameters, training)

    def __call__(
        self,
        id_feats: Tensor,
        lang_feats: Tensor,
        lang_attention_mask: Tensor,
        visn_feats: Tensor,
        visn_attention_mask: Tensor,
        cut: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[n, d], [n, T, d], [n, T], [n, V, d], [n, V], version -> ID, text, image [n, d]."""
        ids, text, image = super().__call__(
            id_feats,
            (lang_feats, visn_feats),
            (lang_attention_mask, visn_attention_mask),
            asymmetric=cut == "v1",
        )
        return ids, text, image
