"""`fit`: a dataset in memory into recommendations, by way of a run that every command can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from odmt_fast.config import Config
from odmt_fast.data.interactions import Interactions
from odmt_fast.data.store import MANIFEST
from odmt_fast.features.extract import extract
from odmt_fast.features.index import OtherStoreError
from odmt_fast.features.registry import BUILT_IN
from odmt_fast.retrieval import Recommender
from odmt_fast.storage import Digest
from odmt_fast.training.report import Reporter
from odmt_fast.workflow.trained import train_and_test
from odmt_fast.workflow.workspace import MODALITIES, default_store

_SECTIONS = ("model", "training", "evaluation", "features")
_ENCODERS: dict[str, str] = {modality: name for name, modality in BUILT_IN.items()}


def fit(
    dataset: Interactions,
    config: Config | None = None,
    *,
    encoders: Mapping[str, str] | None = None,
    fresh: bool = False,
    reporter: Reporter | None = None,
    **overrides: Any,
) -> Recommender:
    """Encodes texts and pictures, trains, and recommends with the best epoch.

    All of it lies in the run directory (``training.output``), the dataset in ``dataset/`` below it:
    ``odmt-fast evaluate`` and the other commands take the directory as it is. Called again with the
    same arguments it goes on where it stopped, or only reads what is finished.

    Args:
        dataset: such as `Dataset.from_frames` makes; features are extracted of what it has, less
            what ``features.modalities`` leaves out and ``features.stores`` brings.
        config: None = the defaults.
        encoders: "text", "image" -> name of the encoder, see `odmt_fast.features.load_encoder`; by
            default those that need no weights.
        fresh: replace what another `fit` left in the run directory.
        reporter: is told how the training goes; None chooses one.
        overrides: settings by their names (``epochs=5, width=128, output="runs/mine"``), those of
            the model before those of the training, and these before the others.

    Raises:
        ValueError: a setting does not exist or is refused, or the run directory holds a run on
            something else; see `odmt_fast.training.train` for its errors.
    """
    config = (config or Config()).updated({_dotted(name): v for name, v in overrides.items()})
    if config.data.path is not None:
        raise ValueError(f"data.path={config.data.path} is set beside a dataset; leave it out")
    place = config.training.output / "dataset"
    if not fresh:
        _check_same(dataset, place)
    dataset.save(place)
    stores, names = dict(config.features.stores), _ENCODERS | dict(encoders or {})
    wanted = config.features.modalities
    for modality in MODALITIES:
        named = wanted is None or modality in wanted
        if modality in dataset.items.modalities and named and modality not in stores:
            stores[modality] = default_store(place, modality)
            try:
                extract(dataset.items, modality, names[modality], stores[modality], overwrite=fresh)
            except OtherStoreError as other:
                raise ValueError(
                    f'{other.what}; pass fresh=True to replace it and its run, or output="DIR" for '
                    "another run"
                ) from other
    config = config.updated({"data.path": place, "features.stores": stores})
    trained = train_and_test(config, reporter, resume=not fresh)
    if trained.best is None:
        raise ValueError("the training was interrupted; call fit again to go on")
    return trained.workspace.recommender(trained.best)


def _dotted(name: str) -> str:
    for section in _SECTIONS:
        if name in type(getattr(Config(), section)).model_fields:
            return f"{section}.{name}"
    raise ValueError(
        f"{name!r} is not a setting; the sections of odmt_fast.Config have them: "
        f"{', '.join(_SECTIONS)}"
    )


def _check_same(dataset: Interactions, place: Path) -> None:
    """Raises a ValueError where another dataset lies at `place`."""
    if (place / MANIFEST).is_file() and _digest(Interactions.load(place)) != _digest(dataset):
        raise ValueError(
            f"{place} holds another dataset; pass fresh=True to replace it and its run, or "
            'output="DIR" for another run'
        )


def _digest(data: Interactions) -> str:
    digest = Digest().add_array(data.sequences.offsets).add_array(data.sequences.items)
    if data.parts is not None:
        digest.add_array(data.parts)
    for values in (data.users, data.items.ids, data.items.texts):
        for value in values:
            digest.add(value)
    for image in data.items.images:
        digest.add(None if image is None else image.digest())
    return digest.hex
