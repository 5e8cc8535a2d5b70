"""A configuration into a trained and tested run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from odmt_fast.config import Config
from odmt_fast.evaluation import EvaluationResult
from odmt_fast.models import SequentialModel
from odmt_fast.processes import joined, launched
from odmt_fast.training.precision import training_device
from odmt_fast.training.report import Reporter
from odmt_fast.training.run import TrainingResult, train
from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of


@dataclass(frozen=True)
class Trained:
    """What training brought.

    Attributes:
        workspace: what was trained on.
        training: how the run went.
        best: the model of the best epoch; None when the run was interrupted, and in every process
            but the first.
        test: the test targets ranked by it.
    """

    workspace: Workspace
    training: TrainingResult
    best: SequentialModel | None
    test: EvaluationResult | None


def train_and_test(
    config: Config,
    reporter: Reporter | None = None,
    *,
    resume: bool,
    overrides: Collection[str] = (),
) -> Trained:
    """Trains as `config` says, ranks the test targets with the best epoch, and keeps the ranks.

    Of the processes that torchrun started all train, and the first one ranks.
    """
    workspace, result = train_run(config, reporter, resume=resume, overrides=overrides)
    if result.status == "interrupted" or not launched().first:
        return Trained(workspace, result, None, None)
    best = trained_model(workspace, weights_of(result.output, "best"))
    test = workspace.evaluate(best)
    workspace.keep_ranks(test, "test")
    return Trained(workspace, result, best, test)


def train_run(
    config: Config,
    reporter: Reporter | None = None,
    *,
    resume: bool = True,
    overrides: Collection[str] = (),
) -> tuple[Workspace, TrainingResult]:
    """Trains as `config` says, and looks at no test target."""
    workspace = Workspace.open(config).with_default_stores()
    stores = workspace.stores()
    model = workspace.model(stores)
    inputs = workspace.inputs(stores)
    with joined(training_device(config.training.device)):
        result = train(
            model,
            workspace.split,
            model.sources,
            workspace.config,
            workspace.validate,
            reporter,
            resume=resume,
            inputs=inputs,
            overrides=overrides,
        )
    return workspace, result
