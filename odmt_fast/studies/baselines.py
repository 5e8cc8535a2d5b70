"""The baselines, trained and evaluated as the model is: the same loop, loss and ranking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from torch import nn

from odmt_fast.config import Config
from odmt_fast.data.split import Split
from odmt_fast.evaluation import EvaluationResult, evaluate, evaluate_scores
from odmt_fast.features.tokens import TokenSource
from odmt_fast.models.zoo import build
from odmt_fast.randomness import torch_generator
from odmt_fast.studies.counts import CoOccurrence, Markov, Popularity
from odmt_fast.training import load_weights, train
from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import StepReport

_COUNTED: dict[str, Callable[..., Popularity | CoOccurrence | Markov]] = {
    "popularity": Popularity,
    "co-occurrence": CoOccurrence,
    "markov": Markov,
}
_TRAINED: dict[str, dict[str, str]] = {
    "sasrec": {"model.name": "id", "model.backbone": "sasrec"},
    "sasrec-text": {"model.name": "text", "model.backbone": "sasrec"},
    "sasrec-image": {"model.name": "image", "model.backbone": "sasrec"},
    "gru4rec": {"model.name": "id", "model.backbone": "gru4rec"},
    "nextitnet": {"model.name": "id", "model.backbone": "nextitnet"},
    "hstu": {"model.name": "id", "model.backbone": "hstu"},
    "ligr": {"model.name": "id", "model.backbone": "ligr"},
    "ef": {"model.name": "ef"},
    "lf": {"model.name": "lf"},
    "fdsa": {"model.name": "fdsa"},
    "unisrec": {"model.name": "unisrec"},
}
_ALONE = {"sasrec-text": "text", "sasrec-image": "image"}
"""Baselines of one modality."""
BASELINES = (*_COUNTED, *_TRAINED)
FEATURED = frozenset({*_ALONE, "ef", "lf", "fdsa", "unisrec"})
"""Baselines that read features; those without a backbone in their name take that of the run."""

Tell = Callable[[str], None]


class _Lines:
    """A reporter of one line an epoch."""

    def __init__(self, name: str, metric: str, tell: Tell) -> None:
        self._name, self._metric, self._tell = name, metric, tell

    def message(self, text: str) -> None:
        self._tell(f"{self._name}: {text}")

    def step(self, report: StepReport) -> None:
        pass

    def epoch(self, record: EpochRecord, best: bool) -> None:
        self._tell(
            f"{self._name}: epoch {record.epoch}, {self._metric} {record.score:.4f} (validation)"
        )

    def close(self) -> None:
        pass


def possible(modalities: Collection[str]) -> tuple[str, ...]:
    """The baselines that can be run with features of `modalities`, in their order."""

    def fits(name: str) -> bool:
        if name in _ALONE:
            return _ALONE[name] in modalities
        return name not in FEATURED or len(modalities) > 0

    return tuple(filter(fits, BASELINES))


def run_baselines(
    split: Split,
    n_items: int,
    config: Config,
    names: Sequence[str] = tuple(_COUNTED),
    progress: Tell | None = None,
    *,
    sources: Mapping[str, TokenSource] | None = None,
    resume: bool = True,
) -> dict[str, EvaluationResult]:
    """Fits each baseline on the training part and ranks the test targets.

    What is trained has the budget of the run it is compared with: model and training settings are
    those of `config`, but for the model's name, and backbone where its own name says one. It trains
    in ``<output>/baselines/<name>`` and goes on there when it was interrupted.

    Args:
        split: of the dataset.
        n_items: items of the catalogue.
        config: of the run to compare with.
        names: of `BASELINES`, in the order wanted.
        progress: told in one line what happens.
        sources: modality -> tokens of all items, for those of `FEATURED`.
        resume: go on with baselines begun before; False trains them again.

    Raises:
        ValueError: a name is no baseline.
        ResumeError: a baseline was begun with other settings.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no baseline; choose from {', '.join(BASELINES)}")
    tell = progress or (lambda line: None)
    results: dict[str, EvaluationResult] = {}
    for name in names:
        tell(f"{name}: fitting on {len(split.train)} users")
        if name in _TRAINED:
            results[name] = _train(name, split, config, tell, sources or {}, resume=resume)
        else:
            results[name] = evaluate_scores(
                name,
                _COUNTED[name](split.train, split.popularity).score,
                split.test,
                split.test_history,
                n_items,
                config.evaluation,
            )
    return results


def _train(
    name: str,
    split: Split,
    config: Config,
    tell: Tell,
    sources: Mapping[str, TokenSource],
    *,
    resume: bool,
) -> EvaluationResult:
    output = config.training.output / "baselines" / name
    config = config.updated(
        {**_TRAINED[name], "model.id_init": "xavier", "training.output": output}
    )
    generator = torch_generator(config.training.seed, "initial values")
    model = build(config, split.popularity, sources, generator=generator)

    def validate(model: nn.Module) -> Mapping[str, float]:
        targets = split.validated(config.evaluation.valid_targets)
        return evaluate(model, *targets, config.evaluation).flat()  # type: ignore[arg-type]

    lines = _Lines(name, config.evaluation.metric, tell)
    train(model, split, model.sources, config, validate, lines, resume=resume)
    model.load_state_dict(load_weights(output))
    result = evaluate(model, split.test, split.test_history, config.evaluation)
    # A baseline of one branch is called by its name.
    return result if len(result.names) > 1 else replace(result, names=(name,))
