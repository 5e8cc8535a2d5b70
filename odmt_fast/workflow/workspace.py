"""What a configuration names, opened: dataset, split, features, and the model over them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from odmt_fast.config import Config
from odmt_fast.data import Interactions, Split
from odmt_fast.data.split import users_of_targets
from odmt_fast.evaluation import (
    Credit,
    EvaluationReport,
    EvaluationResult,
    by_input_length,
    by_popularity,
    by_training,
    evaluate,
    exposures,
)
from odmt_fast.evaluation.attention import attention_of_id
from odmt_fast.evaluation.id_share import id_share
from odmt_fast.evaluation.metrics import METRICS
from odmt_fast.evaluation.ranks import Ranks, ranks_file
from odmt_fast.features.encoder import Modality
from odmt_fast.features.store import TokenStore
from odmt_fast.kernels.distilled_softmax import MAX_BRANCHES
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build
from odmt_fast.randomness import torch_generator
from odmt_fast.retrieval import KnownUsers, Origin, Parts, Recommender
from odmt_fast.storage import Digest
from odmt_fast.training.checkpoint import BEST, load_model
from odmt_fast.training.identity import data_identity, differences
from odmt_fast.training.libraries import choose
from odmt_fast.training.precision import training_device

MODALITIES: tuple[Modality, ...] = ("text", "image")


@dataclass(frozen=True)
class Workspace:
    """A dataset as one configuration sees it.

    Attributes:
        config: with the paths of dataset and stores filled in.
        data: the prepared dataset.
        split: that of the source, or leave-one-out.
    """

    config: Config
    data: Interactions
    split: Split

    @classmethod
    def open(cls, config: Config) -> Workspace:
        """Loads and splits the dataset; the stores may come later.

        Raises:
            ValueError: no dataset is named, or (DataError) it cannot be read.
        """
        if config.data.path is None:
            raise ValueError("no dataset is given; use --data DIR or data.path")
        if not config.data.path.exists():
            raise ValueError(
                f"the dataset {config.data.path} (data.path) does not exist; name where it is now "
                "with --data DIR"
            )
        data = Interactions.load(config.data.path)
        split = data.split(
            config.model.max_seq_len, full_history=config.evaluation.compat != "official"
        )
        return cls(config, data, split)

    def with_settings(self, changed: Mapping[str, Any]) -> Workspace:
        """The same dataset under other settings (dotted names), such as those of the ranking."""
        return replace(self, config=self.config.updated(dict(changed)))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads beside the IDs, text and image first."""
        features = self.config.features
        wanted = features.modalities
        if wanted is None:
            wanted = (*self.data.items.modalities, *features.stores)
        first = tuple(name for name in MODALITIES if name in wanted)
        return (*first, *dict.fromkeys(name for name in wanted if name not in MODALITIES))

    def with_default_stores(self) -> Workspace:
        """Names the stores that `odmt-fast extract` puts beside the dataset, if none is named.

        Of text and image, those that the dataset has.
        """
        path, features = self.config.data.path, self.config.features
        if path is None or features.stores:
            return self
        beside = {file.parent.name for file in default_store(path, "").glob("*/index.json")}
        absent = set(MODALITIES) - set(self.data.items.modalities)
        wanted = beside - absent if features.modalities is None else beside & set(self.modalities)
        stores = {name: default_store(path, name) for name in sorted(wanted)}
        return replace(self, config=self.config.updated({"features.stores": stores}))

    def stores(self) -> dict[str, TokenStore]:
        """The token stores of `modalities`, in their order, checked against the catalogue.

        Raises:
            ValueError: a store is not named, or (StoreError) not one of this catalogue.
        """
        order = self.modalities
        paths = self.config.features.stores
        for name in order:
            if name not in paths:
                others = ",".join(other for other in order if other != name)
                raise ValueError(
                    f"no {name} features are given; run odmt-fast extract {self.config.data.path} "
                    f"--modality {name}, name a store with --store {name}=DIR, or train without "
                    f"them: --set features.modalities=[{others}]"
                )
        paths = {name: paths[name] for name in order}
        if 1 + len(order) > MAX_BRANCHES:
            raise ValueError(
                f"{', '.join(order)} and id are {1 + len(order)} branches, at most {MAX_BRANCHES} "
                f"are trained together; name at most {MAX_BRANCHES - 1} stores by --store NAME=DIR"
            )
        for modality, path in paths.items():
            if not path.exists():
                raise ValueError(
                    f"the {modality} store {path} (features.stores) does not exist; name where it "
                    f"is now with --store {modality}=DIR"
                )
        opened = {name: TokenStore.open(paths[name]) for name in order}
        for store in opened.values():
            store.check_items(self.data.items.ids)
        return opened

    def model(self, stores: Mapping[str, TokenStore]) -> SequentialModel:
        """A fresh model over `stores`."""
        generator = torch_generator(self.config.training.seed, "initial values")
        return build(self.config, self.split.popularity, stores, generator=generator)

    def inputs(self, stores: Mapping[str, TokenStore]) -> dict[str, str]:
        """Digests of what a run is made of beside its split, as `training.train` records them."""
        items, sequences = self.data.items, self.data.sequences
        catalogue = Digest()
        for item, text in zip(items.ids, items.texts, strict=True):
            catalogue.add(item).add(text)
        whole = Digest().add_array(sequences.offsets).add_array(sequences.items)
        return {
            "ids and texts of the catalogue": catalogue.hex,
            "whole sequences": whole.hex,
            **{f"{name} features": store.digest for name, store in stores.items()},
        }

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Metrics on the validation targets, as `odmt_fast.training.train` wants them.

        Of ``evaluation.valid_targets`` of them where it is set.
        """
        ranked, settings = self.ranked, self.config.evaluation
        targets = ranked.validated(settings.valid_targets)
        model = _sequential(model)
        metrics = evaluate(model, *targets, settings, popularity=ranked.popularity).flat()
        share = id_share(model)
        reads = {f"id_attention_{name}": x for name, x in attention_of_id(model).items()}
        return metrics | ({} if share is None else {"id_share": share}) | reads

    def evaluate(self, model: nn.Module, part: str = "test") -> EvaluationResult:
        """Ranks the targets of ``"valid"`` or ``"test"``, popularity as the yardstick."""
        ranked, settings = self.ranked, self.config.evaluation
        return evaluate(
            _sequential(model), *ranked.part(part), settings, popularity=ranked.popularity
        )

    def report(
        self, model: SequentialModel, result: EvaluationResult, part: str = "test"
    ) -> EvaluationReport:
        """All there is to tell of a `result` that `evaluate` had of the same model and part."""
        ranked, settings = self.ranked, self.config.evaluation
        k = 10 if 10 in settings.k else max(settings.k)
        bought = ranked.train.counts(self.data.n_items)
        return EvaluationReport(
            result=result,
            slices=self.slices(result),
            k=k,
            exposure=exposures(model, *ranked.part(part), k, settings, bought),
            credit=Credit.of(result, k),
            ranked=self.what_is_ranked,
        )

    def slices(self, result: EvaluationResult) -> dict[str, EvaluationResult]:
        """A `result` cut by the training of the targets, their popularity, and the inputs."""
        shares = self.split.popularity
        return {
            **by_training(result, shares),
            **by_popularity(result, shares),
            **by_input_length(result),
        }

    @property
    def what_is_ranked(self) -> str:
        """What a target stands for, in words: a ready-made split may hold several of a user."""
        several = self.split.kind != "leave-one-out" and self.config.evaluation.targets == "all"
        return "targets" if several else "users"

    @property
    def ranked(self) -> Split:
        """The split with the targets that are ranked, as ``evaluation.targets`` says."""
        if self.config.evaluation.targets == "all":
            return self.split
        return self.split.with_targets(self._kept("valid"), self._kept("test"))

    def owners(self, part: Literal["valid", "test"]) -> NDArray[np.int64]:
        """int64 [B], the user of each ranked target of a part, ascending."""
        return users_of_targets(self.data.sequences, self.data.parts, part)[self._kept(part)]

    def _kept(self, part: Literal["valid", "test"]) -> NDArray[np.bool_]:
        """bool [B], which targets of a part are ranked."""
        owners = users_of_targets(self.data.sequences, self.data.parts, part)
        if self.config.evaluation.targets == "all":
            return np.ones(owners.size, bool)
        return np.diff(owners, prepend=-1) > 0  # ascending: the first of every user

    def keep_ranks(self, result: EvaluationResult, part: Literal["valid", "test"]) -> Path:
        """Writes the rank of every target beside the run's best epoch, which `result` is of.

        Raises:
            StorageError: the run's folder cannot be written.
        """
        run, data = self.config.training.output, self.data
        made_of = {
            **self.inputs({}),
            # What the ranking leaves out beside the target's own history.
            "evaluation.compat": self.config.evaluation.compat,
        }
        users = [data.users[user] for user in self.owners(part).tolist()]
        ranks = Ranks.of(result, users, data.items.ids, made_of, run / "checkpoints" / BEST)
        ranks.save(path := ranks_file(run, part))
        return path

    def recommender(self, model: SequentialModel) -> Recommender:
        """Recommendations from a trained `model`, the dataset's users known with all they did."""
        known = KnownUsers(self.data.users, self.data.sequences)
        seed, ensemble = self.config.training.seed, self.config.evaluation.ensemble
        items = self.data.items
        return Recommender(
            Parts.of(model, self.config.model, items, known, seed=seed, ensemble=ensemble)
        )

    def origin(self, weights: Path) -> Origin:
        """What a model card tells of the run.

        Args:
            weights: of the model; the metrics are told where the run's kept ranks are theirs.
        """
        metrics: dict[str, float] = {}
        file = weights if weights.is_file() else weights / BEST.name
        with suppress(ValueError):  # none are kept, or of another checkpoint
            kept = Ranks.load(self.config.training.output, "test", file)
            names = [f"{kind}@{k}" for k in kept.k for kind in METRICS]
            metrics = {name: float(kept.gains(name).mean()) for name in names}
        sequences = self.data.sequences
        training = self.config.training.model_dump(mode="json", exclude={"output"})
        return Origin(len(sequences), len(sequences.items), training, metrics)


def default_store(dataset: Path, modality: str) -> Path:
    """Where the features of a dataset go unless another place is named."""
    return dataset / "features" / modality


def _sequential(model: nn.Module) -> SequentialModel:
    if not isinstance(model, SequentialModel):
        raise TypeError(f"model must be a SequentialModel, got {type(model).__name__}")
    return model


def weights_of(run: Path, checkpoint: str) -> Path:
    """Where ``--checkpoint`` points: the best or last of a run, or a path."""
    return run / "checkpoints" / checkpoint if checkpoint in ("best", "last") else Path(checkpoint)


def trained_model(
    workspace: Workspace, weights: Path, *, allow_other_features: bool = False
) -> SequentialModel:
    """The model with the weights found at `weights`, in eval mode on the configured device.

    Args:
        workspace: dataset and settings.
        weights: see `training.checkpoint.load_model`.
        allow_other_features: go on, after saying so, where data or features are not those that the
            run was trained on.

    Raises:
        ValueError: they are not.
    """
    stores = workspace.stores()
    state, header = load_model(weights)
    choose(header.get("libraries"))
    settings = workspace.config.model.model_dump(mode="json")
    saved = header.get("identity", {})
    if changed := differences(saved, {f"model.{name}": settings[name] for name in settings}):
        raise ValueError(
            f"{workspace.config.training.output / 'config.json'} is not what {weights} was trained "
            f"with: {'; '.join(changed)}; put back a copy of it"
        )
    found = data_identity(workspace.split, workspace.inputs(stores))
    if changed := differences(saved, found):
        if not allow_other_features:
            raise ValueError(
                f"{weights} was trained on something else: {'; '.join(changed)}; put these back, "
                "name them with --data and --store, or go on with --allow-other-features"
            )
        print(f"note: trained on something else: {'; '.join(changed)}", file=sys.stderr)
    model = workspace.model(stores)
    model.load_state_dict(state)
    return model.to(training_device(workspace.config.training.device)).eval()
