"""Every model by name: which items, users and loss it is made of.

A new model is one function here; a new user encoder one file and one line of `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odmt_fast.config import Config, ModelConfig
from odmt_fast.features.tokens import TokenSource, first_tokens
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.initial import id_start
from odmt_fast.models.items.base import ItemEncoder
from odmt_fast.models.items.embedding import IdEmbedding
from odmt_fast.models.items.fdsa import IdAndFeatures
from odmt_fast.models.items.imt import IMT, check_limits
from odmt_fast.models.items.modality import OneModality
from odmt_fast.models.items.pooled import Pooled
from odmt_fast.models.items.unisrec import UniSRec
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.losses.distilled import DistilledSoftmax
from odmt_fast.models.losses.softmax import Softmax
from odmt_fast.models.users.base import UserEncoder
from odmt_fast.models.users.fdsa import FDSA
from odmt_fast.models.users.gru4rec import GRU4Rec
from odmt_fast.models.users.hstu import HSTU
from odmt_fast.models.users.ligr import LiGR
from odmt_fast.models.users.nextitnet import NextItNet
from odmt_fast.models.users.sasrec import SASRec

Sources = Mapping[str, TokenSource]
"""Modality -> tokens of all items."""

Assembly = tuple[ItemEncoder, Loss]
"""Item encoder and loss of a model."""

MOST_ENCODED = 2048
"""Items of a catalogue that may be encoded from features as a whole in every step."""

Backbone = Callable[[ModelConfig, int], UserEncoder]
"""User encoder from the configuration and the number of branches, all read alike."""

BACKBONES: dict[str, Backbone] = {
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "nextitnet": NextItNet,
    "hstu": HSTU,
    "ligr": LiGR,
}
"""``model.backbone`` -> user encoder."""

JOINED: dict[str, Callable[[ModelConfig, Backbone], UserEncoder]] = {"fdsa": FDSA}
"""``model.name`` -> user encoder around the backbone, where that does not read every branch."""


def odmt(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """The paper's model; without modalities it is `id_only`."""
    if not sources:
        return id_only(config, n_items, sources)
    return imt(config, n_items, sources)


def imt(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """The item Transformer and online distillation, whatever modalities there are."""
    check_limits(sources)
    items = IMT(config, n_items, {name: source.dim for name, source in sources.items()})
    loss = DistilledSoftmax(
        items.branches,
        tau=config.tau,
        alpha=config.alpha,
        detach_teacher=config.detach_teacher,
    )
    return items, loss


def id_only(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """The backbone on IDs, as published for it; features are not read."""
    items = IdEmbedding(config, n_items)
    return items, Softmax(items.branches)


def early_fusion(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """EF: IDs and features become one embedding before the user encoder."""
    items = Pooled(config, n_items, _dims(sources), fused=True)
    return items, Softmax(items.branches)


def late_fusion(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """LF: a user encoder per modality, their scores averaged and trained together."""
    items = Pooled(config, n_items, _dims(sources), fused=False)
    return items, Softmax(items.branches, fused=True)


def one_modality(config: ModelConfig, n_items: int, sources: Sources, *, name: str) -> Assembly:
    """The backbone on the features of modality `name`, without IDs."""
    if name not in sources:
        raise ValueError(
            f"model.name={name} reads {name} features, and there are none; extract them or use "
            "--set model.name=id"
        )
    items = OneModality(config, name, sources[name].dim)
    return items, Softmax(items.branches)


def fdsa(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """FDSA: the backbone on IDs and on features, joined by `users.fdsa.FDSA`."""
    items = IdAndFeatures(config, n_items, _some_dims(config, sources))
    return items, Softmax(items.branches)


def unisrec(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    """UniSRec: IDs and whitened features, adapted by experts, are one embedding."""
    items = UniSRec(config, n_items, _some_dims(config, sources))
    return items, Softmax(items.branches)


MODELS: dict[str, Callable[[ModelConfig, int, Sources], Assembly]] = {
    "odmt": odmt,
    "id": id_only,
    "text": partial(one_modality, name="text"),
    "image": partial(one_modality, name="image"),
    "ef": early_fusion,
    "lf": late_fusion,
    "fdsa": fdsa,
    "unisrec": unisrec,
}
"""``model.name`` -> its assembly."""


def build(
    config: Config | ModelConfig,
    popularity: Sequence[float] | NDArray[np.floating] | Tensor,
    sources: Sources | None = None,
    *,
    generator: torch.Generator | None = None,
) -> SequentialModel:
    """A fresh model, as ``model.name`` and ``model.backbone`` say.

    Args:
        config: of the model, or a whole one.
        popularity: [n_items + 1] share of each item in the training interactions, [0] = 1.
        sources: modality -> tokens of all items, in the order of the branches.
        generator: draws the initial values; None draws from torch's default generator.

    Raises:
        ValueError: a name that is not known, or features that do not fit.
    """
    config = config.model if isinstance(config, Config) else config
    sources = sources or {}
    assemble = _named("model.name", config.name, MODELS)
    # Shapes only: the values are drawn below, from `generator` alone.
    with torch.device("meta"):
        items, loss = assemble(config, len(popularity) - 1, sources)
    _check_cost(config, items, len(popularity) - 1)
    if config.id_table == "sparse" and not hasattr(items, "id_embedding"):
        raise ValueError(
            f"model.id_table=sparse, but model.name={config.name} has no IDs; use --set "
            "model.id_table=dense"
        )
    model = SequentialModel(
        items.to_empty(device=torch.get_default_device()),
        user_encoder(config, len(items.branches)),
        loss,
        popularity,
        [sources[name] for name in items.modalities],
        dropout=config.dropout,
        item_encoder_dropout=config.item_encoder_dropout,
        item_dropout=config.item_dropout,
    )
    model.initialise(generator)
    if config.id_init != "xavier":
        start_ids(model, config, sources)
    return model


def user_encoder(config: ModelConfig, branches: int) -> UserEncoder:
    """The user encoder of a model of `branches`, its values not filled in yet.

    Raises:
        ValueError: ``model.backbone`` is not known.
    """
    backbone = _named("model.backbone", config.backbone, BACKBONES)
    with torch.device("meta"):
        if config.name in JOINED:
            users = JOINED[config.name](config, backbone)
        else:
            users = backbone(config, branches)
    return users.to_empty(device=torch.get_default_device())


def _check_cost(config: ModelConfig, items: ItemEncoder, n_items: int) -> None:
    """Refuses to encode a large catalogue from its features in every step."""
    if config.candidates == "full" and items.modalities and n_items > MOST_ENCODED:
        raise ValueError(
            f"model.candidates=full with model.name={config.name} encodes the features of all "
            f"{n_items:,} items in every step, at most {MOST_ENCODED:,} are; use --set "
            "model.candidates=mixed, or model.name=id, whose items are an embedding"
        )


def start_ids(model: SequentialModel, config: ModelConfig, sources: Sources) -> None:
    """Begins the ID table with the first tokens that ``model.id_init`` names.

    Raises:
        ValueError: they are absent, or of another width than the table, or there is no table.
    """
    if not hasattr(model.items, "id_embedding"):
        raise ValueError(
            f"model.name={config.name} has no IDs that model.id_init={config.id_init} could start; "
            "use --set model.id_init=xavier"
        )
    start = id_start(config, {name: first_tokens(source) for name, source in sources.items()})
    table = cast(nn.Embedding, model.items.get_submodule("id_embedding")).weight
    assert start is not None
    if start.shape != table.shape:
        raise ValueError(
            f"id_init={config.id_init!r} starts from first tokens {tuple(start.shape)}, but the ID "
            f"table is {tuple(table.shape)}; set id_width to the features' width or "
            "id_init='xavier'"
        )
    with torch.no_grad():
        table.copy_(start)


def _dims(sources: Sources) -> dict[str, int]:
    return {name: source.dim for name, source in sources.items()}


def _some_dims(config: ModelConfig, sources: Sources) -> dict[str, int]:
    if not sources:
        raise ValueError(
            f"model.name={config.name} reads features, and there are none; extract some or use "
            "--set model.name=id"
        )
    return _dims(sources)


def _named(setting: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"{setting}={name!r} is not known; choose from {', '.join(known)}")
    return known[name]
