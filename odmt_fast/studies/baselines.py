"""The baselines, evaluated as the model is: leave-one-out over the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from odmt_fast.config import Config
from odmt_fast.data.split import Split
from odmt_fast.evaluation import EvaluationResult, evaluate, evaluate_scores
from odmt_fast.studies.counts import CoOccurrence, Markov, Popularity
from odmt_fast.studies.sasrec import train_sasrec

_COUNTED: dict[str, Callable[..., Popularity | CoOccurrence | Markov]] = {
    "popularity": Popularity,
    "co-occurrence": CoOccurrence,
    "markov": Markov,
}
BASELINES = (*_COUNTED, "sasrec")


def run_baselines(
    split: Split,
    n_items: int,
    config: Config,
    names: Sequence[str] = BASELINES,
    progress: Callable[[str], None] | None = None,
) -> dict[str, EvaluationResult]:
    """Fits each baseline on the training part and ranks the test targets.

    Args:
        split: of the dataset.
        n_items: items of the catalogue.
        config: the evaluation's settings; SASRec takes model and training settings from it too.
        names: of `BASELINES`, in the order wanted.
        progress: told in one line what happens.

    Raises:
        ValueError: a name is no baseline.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no baseline; choose from {', '.join(BASELINES)}")
    tell = progress or (lambda line: None)
    results: dict[str, EvaluationResult] = {}
    for name in names:
        tell(f"{name}: fitting on {len(split.train)} users")
        if name == "sasrec":
            model = train_sasrec(
                split,
                n_items,
                config,
                lambda epoch, score: tell(
                    f"sasrec: epoch {epoch}, {config.evaluation.metric} {score:.4f} (validation)"
                ),
            )
            results[name] = evaluate(model, split.test, split.test_history, config.evaluation)
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
