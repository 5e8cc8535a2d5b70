"""A search for settings by validation, with the same budget for every model (needs Optuna)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odmt_fast.config import Config
from odmt_fast.evaluation.ranking import NonFiniteVectorsError
from odmt_fast.randomness import stream
from odmt_fast.storage import FolderLock, write_atomically
from odmt_fast.studies.space import Space, space_of, suggest
from odmt_fast.training.checkpoint import LAST, peek
from odmt_fast.training.errors import NonFiniteLossError
from odmt_fast.training.progress import EpochRecord, Progress
from odmt_fast.training.report import Reporter, StepReport
from odmt_fast.workflow.trained import train_run

if TYPE_CHECKING:
    import optuna

Tell = Callable[[str], None]
STORAGE = "optuna.db"
_DIVERGED = "diverged"
# Where a search runs, which may change between two sessions.
_ELSEWHERE: dict[str, Any] = {
    "data.path": None,
    "features.stores": {},
    "training.device": "auto",
    "training.workers": 0,
}


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        name: its folder below that of the model; a run like any other.
        state: "complete", "pruned" (others were better at its epochs), or "diverged".
        score: its best validation score so far; None where it diverged.
        epochs: it was trained for.
        settings: what it tried.
    """

    name: str
    state: str
    score: float | None
    epochs: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class TuneResult:
    """What the search found for one model.

    Attributes:
        trials: in their order.
        config: the settings of the best complete one.
    """

    trials: tuple[Tried, ...]
    config: Config

    @property
    def best(self) -> Tried:
        """The complete trial of the highest score, the earliest of equals."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda trial: trial.score or 0.0)


def tune(
    rows: Mapping[str, tuple[Config, Mapping[str, Any]]],
    space: Space,
    folder: Path,
    *,
    trials: int,
    epochs: int,
    pruner: str,
    reporter: Callable[[str], Reporter],
    tell: Tell,
) -> dict[str, TuneResult]:
    """Tries settings of each model by Optuna's TPE and keeps all of it in ``folder/optuna.db``.

    What a trial tries follows from the seed, its number and the trials before it. Called again the
    search goes on: a trial that was interrupted from its checkpoint, and with more `trials` beyond
    its end. Only validation targets are looked at.

    Args:
        rows: name of a model -> its settings, and those of them that are not searched.
        space: see `space.Space`; checked.
        folder: of the search; ``<row>/trial-<n>`` is the run of a trial.
        trials: of each model, those that were pruned or diverged included.
        epochs: the most of a trial.
        pruner: ends a trial that is worse than the "median" of the others at its epoch; that is not
            among the best quarter at epochs 1, 4, 16, .. (successive halving, "asha"); or none.
        reporter: makes one that shows this metric.
        tell: told in one line what happens.

    Raises:
        FolderInUseError: the search is being run.
        ImportError: Optuna is not installed.
        ValueError: the folder holds another search, or no trial of a model was completed.
    """
    if trials < 1:
        raise ValueError(f"--trials {trials} must be at least 1")
    with FolderLock(folder, "odmt-fast tune"):
        found = {}
        for name, (config, fixed) in rows.items():
            config = config.updated({"training.epochs": epochs})
            search = _Search(name, config, space_of(space, config, fixed), folder, pruner)
            while (number := len(search.tried()) + 1) <= trials:
                tell(f"{name}: trial {number}/{trials}")
                search.next(number, reporter(config.evaluation.metric), tell)
            found[name] = search.result()
        text = json.dumps(
            {name: [asdict(trial) for trial in result.trials] for name, result in found.items()},
            indent=2,
        )
        write_atomically(folder / "tune.json", lambda part: part.write_text(text + "\n", "utf-8"))
    return found


class _Search:
    """The trials of one model.

    Args:
        name: of the model, and of its study in the storage.
        config: what every trial starts from.
        space: what it may choose.
        folder: of all searches.
        pruner: see `tune`.
    """

    def __init__(self, name: str, config: Config, space: Space, folder: Path, pruner: str) -> None:
        import optuna

        self._optuna = optuna
        self._config, self._space, self._folder = config, space, folder / name
        self._study = optuna.create_study(
            storage=f"sqlite:///{folder / STORAGE}",
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(optuna, pruner),
        )
        self._check_same()
        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            # Its process is gone. The next trial tries the same, in the same folder.
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)

    def tried(self) -> tuple[Tried, ...]:
        """The trials that are over."""
        state = self._optuna.trial.TrialState
        over = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state in (state.COMPLETE, state.PRUNED) or _DIVERGED in trial.user_attrs
        ]
        return tuple(
            Tried(
                name=_folder(number),
                state=_DIVERGED if _DIVERGED in trial.user_attrs else trial.state.name.lower(),
                score=max(trial.intermediate_values.values(), default=None),
                epochs=len(trial.intermediate_values),
                settings=trial.user_attrs["settings"],
            )
            for number, trial in enumerate(over, 1)
        )

    def next(self, number: int, reporter: Reporter, tell: Tell) -> None:
        """Trains trial `number`, from its checkpoint where it has one."""
        seed = stream(self._config.training.seed, "trial", step=number) % 2**32
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask()
        settings = suggest(trial, self._space)
        trial.set_user_attr("settings", settings)
        state = self._optuna.trial.TrialState
        output = self._folder / _folder(number)
        watching = _Watching(trial, reporter, self._config.training.epochs, self._optuna)
        tell(", ".join(f"{name}={value}" for name, value in settings.items()))
        try:
            config = self._config.updated({**settings, "training.output": output})
            watching.repeat(output)
            _, result = train_run(config, watching)
            self._study.tell(trial, result.best_score)
        except self._optuna.TrialPruned:
            tell(f"pruned: others were better after {watching.epochs} epochs")
            self._study.tell(trial, state=state.PRUNED)
        except (NonFiniteLossError, NonFiniteVectorsError) as error:
            tell(f"diverged: {error}")
            trial.set_user_attr(_DIVERGED, str(error))
            self._study.tell(trial, state=state.FAIL)

    def result(self) -> TuneResult:
        """All trials and the best settings."""
        trials = self.tried()
        if not any(trial.state == "complete" for trial in trials):
            raise ValueError(
                f"no trial of {self._study.study_name} was completed; allow more --trials, or "
                "search lower learning rates"
            )
        best = TuneResult(trials, self._config).best
        return TuneResult(trials, self._config.updated(dict(best.settings)))

    def _check_same(self) -> None:
        """Refuses to go on with a search of other settings, budget or space."""
        config = self._config.updated(_ELSEWHERE).model_dump(mode="json")
        now = json.loads(json.dumps({"config": config, "search": self._space}, default=str))
        before = self._study.user_attrs.get("made_of", now)
        if before != now:
            raise ValueError(
                f"{self._folder} was searched with other settings, --epochs or space; give "
                "another --output"
            )
        self._study.set_user_attr("made_of", now)


class _Watching:
    """A reporter that tells Optuna every score, and ends the training of a hopeless trial."""

    def __init__(self, trial: optuna.Trial, inner: Reporter, last: int, library: Any) -> None:
        self._trial, self._inner, self._last, self._optuna = trial, inner, last, library
        self.epochs = 0

    def repeat(self, output: Path) -> None:
        """Tells the epochs that were trained before the trial was interrupted."""
        header = peek(output / "checkpoints" / LAST)
        if header:
            for record in Progress.from_json(header["progress"]).history:
                self._tell(record)

    def message(self, text: str) -> None:
        """Passed on."""
        self._inner.message(text)

    def step(self, report: StepReport) -> None:
        """Passed on."""
        self._inner.step(report)

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Passed on; raises TrialPruned where the trial is over."""
        self._inner.epoch(record, best)
        self._tell(record)

    def close(self) -> None:
        """Passed on."""
        self._inner.close()

    def _tell(self, record: EpochRecord) -> None:
        self._trial.report(record.score, record.epoch)
        self.epochs = record.epoch
        if record.epoch < self._last and self._trial.should_prune():
            raise self._optuna.TrialPruned


def _folder(number: int) -> str:
    return f"trial-{number}"


def _pruner(library: Any, name: str) -> optuna.pruners.BasePruner:
    pruners: Mapping[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: library.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "asha": lambda: library.pruners.SuccessiveHalvingPruner(min_resource=1),
        "none": library.pruners.NopPruner,
    }
    if name not in pruners:
        raise ValueError(f"--pruner {name} does not exist; use {', '.join(pruners)}")
    return pruners[name]()
