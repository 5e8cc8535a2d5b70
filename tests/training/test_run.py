"""Whole runs: what they leave, how they go on, when they stop, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.toy_run import (
    STEPS,
    Crash,
    CrashAfter,
    Silent,
    ToyModel,
    differences,
    scripted,
    state_of,
    table,
    toy_features,
    toy_split,
    toy_train,
)

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.training.checkpoint import BEST, LAST, load, load_weights, save
from odmt_fast.training.errors import NonFiniteLossError, ResumeError
from odmt_fast.training.loop import TrainingLoop
from odmt_fast.training.run import train


def test_a_run_learns_and_leaves_its_files(tmp_path: Path) -> None:
    reporter = Silent()
    model = ToyModel()
    result = toy_train(tmp_path, model=model, epochs=10, reporter=reporter)
    assert result.status == "finished"
    assert result.epochs == len(result.history) == 10
    assert result.output == tmp_path
    losses = [record.losses["id/ce"] for record in result.history]
    assert losses[-1] < 0.9 * losses[0]
    scores = [record.score for record in result.history]
    assert result.best_score == max(scores)
    assert result.best_epoch == scores.index(max(scores)) + 1

    steps, epochs = table(tmp_path / "logs/steps.csv"), table(tmp_path / "logs/epochs.csv")
    assert [int(row["step"]) for row in steps[:4]] == [3, 4, 7, 8]
    assert list(steps[0])[2:] == [
        "loss",
        "id/ce",
        "text/ce",
        "text/kd",
        "id/kd",
        "kd_weight",
        "gradient_norm",
    ]
    assert [float(row["score"]) for row in epochs] == scores
    first = 3 / 4 * float(steps[0]["loss"]) + 1 / 4 * float(steps[1]["loss"])
    assert float(epochs[0]["loss"]) == pytest.approx(first)
    assert Config.model_validate_json((tmp_path / "config.json").read_text()).training.epochs == 10
    for name, weight in load_weights(tmp_path / "checkpoints/last").items():
        assert torch.equal(weight, model.state_dict()[name])
    assert [epoch for epoch, _ in reporter.epochs] == list(range(1, 11))
    assert len(reporter.steps) == 10 * STEPS
    assert reporter.steps[-1].seconds_left == 0
    assert reporter.closed == 1
    assert "12 users, 1 left out" in reporter.messages[0]


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"workers": 2}], ids=str)
@pytest.mark.parametrize("steps", [1, 3, 4, 5, 11])
def test_a_crashed_run_goes_on_as_if_it_had_not(
    tmp_path: Path, steps: int, options: dict[str, Any]
) -> None:
    toy_train(tmp_path / "whole", **options)
    with pytest.raises(Crash):
        toy_train(tmp_path / "parts", reporter=CrashAfter(steps), **options)
    torch.manual_seed(12345)
    # Other initial weights, which the checkpoint must replace.
    model = ToyModel()
    with torch.no_grad():
        model.table.zero_()
    toy_train(tmp_path / "parts", model=model, **options)
    assert differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []


def test_dropout_differs_between_seeds(tmp_path: Path) -> None:
    # Guards the tests above: the noise does matter to the toy model.
    states = [
        state_of(toy_train(tmp_path / str(seed), seed=seed, batch_size=12).output)
        for seed in (1, 2)
    ]
    assert "last" in differences(*states)


def test_a_run_says_where_memory_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("odmt_fast.training.run.keep_freed_memory", lambda: False)
    reporter = Silent()
    toy_train(tmp_path, epochs=1, reporter=reporter)
    assert "freed memory is not kept" in reporter.messages[1]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = toy_train(tmp_path)
    before = state_of(tmp_path)
    reporter = Silent()
    again = toy_train(tmp_path, reporter=reporter)
    assert reporter.messages == ["nothing left to train after epoch 3"]
    assert again == first
    assert differences(before, state_of(tmp_path)) == []


def test_more_epochs_extend_a_run(tmp_path: Path) -> None:
    toy_train(tmp_path / "whole", epochs=4)
    toy_train(tmp_path / "parts", epochs=2)
    toy_train(tmp_path / "parts", epochs=4)
    assert differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []


def test_a_different_run_is_not_continued(tmp_path: Path) -> None:
    toy_train(tmp_path, epochs=1)
    with pytest.raises(ResumeError, match=r"processes was 3 and is 4; training.learning_rate was"):
        toy_train(tmp_path, epochs=1, batch_size=4, learning_rate=0.5)
    result = toy_train(tmp_path, epochs=1, batch_size=4, resume=False)
    assert result.history[0].step == 3
    assert len(table(tmp_path / "logs/epochs.csv")) == 1


def test_a_run_of_another_generator_is_not_continued(tmp_path: Path) -> None:
    output = toy_train(tmp_path, epochs=1).output
    tensors, header = load(output / "checkpoints" / LAST)
    save(output / "checkpoints" / LAST, {**tensors, "random/cpu": torch.get_rng_state()}, header)
    with pytest.raises(ResumeError, match=r"written by odmt_fast 0\.1.*--fresh"):
        toy_train(tmp_path, epochs=2)
    assert load_weights(output / "checkpoints" / "last").keys() == ToyModel().state_dict().keys()


def test_another_number_of_threads_is_told(tmp_path: Path) -> None:
    allowed, told = torch.get_num_threads(), f"OMP_NUM_THREADS={torch.get_num_threads()} gives"
    toy_train(tmp_path, epochs=1)
    same, other = Silent(), Silent()
    toy_train(tmp_path, epochs=2, reporter=same)
    try:
        torch.set_num_threads(allowed + 1)
        toy_train(tmp_path, epochs=3, reporter=other)
    finally:
        torch.set_num_threads(allowed)
    assert not any(told in text for text in same.messages)
    assert any(told in text for text in other.messages)


def test_another_padding_is_told(tmp_path: Path) -> None:
    toy_train(tmp_path, epochs=1)
    path, same, other = tmp_path / "checkpoints" / LAST, Silent(), Silent()
    toy_train(tmp_path, epochs=2, reporter=same)
    tensors, header = load(path)
    assert header["padded_to"] == []
    save(path, tensors, {**header, "padded_to": [[4, 9, 16, 3, 12]]})
    toy_train(tmp_path, epochs=3, reporter=other)
    assert not any("batches as they are" in text for text in same.messages)
    assert any("batches as they are, before padded to 1 sizes" in text for text in other.messages)


def test_other_data_is_not_continued(tmp_path: Path) -> None:
    toy_train(tmp_path, epochs=1)
    path = tmp_path / "checkpoints" / LAST
    _, header = load(path)
    split = toy_split()
    items = split.train.items.copy()
    items[3] += 1
    other = type(split)(**{**vars(split), "train": type(split.train)(items, split.train.offsets)})
    config = Config.model_validate_json((tmp_path / "config.json").read_text())
    with pytest.raises(ResumeError, match="training sequences differ"):
        train(ToyModel(), other, toy_features(), config, scripted([1.0]), Silent())


def test_patience_ends_a_run_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    options = {"epochs": 9, "patience": 2}
    scores = [0.1, 0.3, 0.3, 0.2, 0.9]
    reporter = Silent()
    result = toy_train(tmp_path, evaluate=scripted(scores), reporter=reporter, **options)
    assert (result.status, result.epochs) == ("stopped early", 4)
    assert (result.best_epoch, result.best_score) == (2, 0.3)
    assert reporter.epochs == [(1, True), (2, True), (3, False), (4, False)]
    # The weights of epoch 2 are those of a run that ends there.
    toy_train(tmp_path / "two", evaluate=scripted(scores), **{**options, "epochs": 2})
    best = load_weights(tmp_path)
    last = load_weights(tmp_path / "two" / "checkpoints" / "last")
    assert all(torch.equal(best[name], last[name]) for name in last)
    # Spent patience stays spent; more of it goes on.
    assert toy_train(tmp_path, evaluate=scripted([]), **options).status == "stopped early"
    more = toy_train(tmp_path, evaluate=scripted([0.9]), **{**options, "patience": 3, "epochs": 5})
    assert (more.best_epoch, more.status) == (5, "finished")


def test_a_best_checkpoint_that_was_not_written_any_more_is_made_up_for(tmp_path: Path) -> None:
    toy_train(tmp_path, epochs=1)
    best = tmp_path / "checkpoints" / BEST
    expected = load(best)[0]
    best.unlink()
    toy_train(tmp_path, epochs=1)
    assert all(torch.equal(expected[name], value) for name, value in load(best)[0].items())


class Poisoned(ToyModel):
    """One loss term of one step is not a number."""

    def __init__(self, step: int, term: str) -> None:
        super().__init__()
        self.left, self.term = step, term

    def forward(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        terms = super().forward(batch, epoch)
        self.left -= 1
        if self.left:
            return terms
        if self.term in terms:
            terms[self.term] = terms[self.term] + torch.nan
            terms["loss"] = terms["loss"] + terms[self.term]
        else:
            # A finite loss with an infinite gradient.
            terms["loss"] = terms["loss"] + (self.table[:1] * 0).sqrt().sum()
        return terms


@pytest.mark.parametrize("term", ["text/ce", "id/kd", "gradient_norm"])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, term: str) -> None:
    reporter = Silent()
    with pytest.raises(NonFiniteLossError, match="became NaN or infinite at step 7") as caught:
        toy_train(tmp_path, model=Poisoned(7, term), reporter=reporter)
    error = caught.value
    assert (error.epoch, error.step, error.terms) == (2, 7, (term,))
    assert error.checkpoint == tmp_path / "checkpoints" / LAST
    assert str(error.checkpoint) in str(error)
    tensors, header = load(error.checkpoint)
    assert header["progress"]["total_steps"] == 6
    assert all(
        bool(value.isfinite().all()) for value in tensors.values() if value.is_floating_point()
    )
    assert reporter.closed == 1


@pytest.mark.parametrize(
    ("options", "saved", "reports"),
    [({"checkpoint_steps": 3}, 3, 0), ({"log_steps": 2}, 0, 2)],
    ids=["found by a checkpoint", "found by a log row"],
)
def test_losses_looked_at_late_never_reach_a_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    saved: int,
    reports: int,
) -> None:
    monkeypatch.setattr(TrainingLoop, "_sees_every_step", property(lambda self: False))
    reporter = Silent()
    options = {"log_steps": 20, "checkpoint_steps": None, "batch_size": 1, **options}
    with pytest.raises(NonFiniteLossError, match="at step 5") as caught:
        toy_train(tmp_path, model=Poisoned(5, "text/ce"), reporter=reporter, **options)
    assert caught.value.terms == ("text/ce",)
    assert len(reporter.steps) == reports
    header = load(tmp_path / "checkpoints" / LAST)[1]
    assert header["progress"]["total_steps"] == saved


def test_validation_cannot_disturb_training(tmp_path: Path) -> None:
    def greedy(model: torch.nn.Module) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(1000)
        return {"ndcg@10": 1.0}

    one = toy_train(tmp_path / "a", evaluate=greedy)
    toy_train(tmp_path / "b", evaluate=lambda model: {"ndcg@10": 1.0})
    assert differences(state_of(tmp_path / "a"), state_of(tmp_path / "b")) == []
    assert one.best_epoch == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "fp16' needs a GPU"),
        ({"device": "cuda:77"}, "cuda:77' does not exist"),
        ({"recompute": True}, "ToyModel has no items.recompute"),
        ({"micro_items": 4}, "ToyModel has no items.micro_items"),
        ({"log_steps": 0}, "log_steps"),
        ({"checkpoint_steps": 0}, "checkpoint_steps"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes"),
        ({"evaluate": lambda m: {"hr@10": 1.0}}, "returned hr@10, and neither ensemble/ndcg@10"),
        ({"evaluate": lambda m: {"ndcg@10": float("nan")}}, "scores must be finite"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_work_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_train(tmp_path, **options)


def test_nobody_to_train_on_is_refused(tmp_path: Path) -> None:
    split = toy_split()
    lonely = type(split)(**{**vars(split), "train": split.train.tail(1)})
    config = Config().updated({"training.output": tmp_path, "training.device": "cpu"})
    with pytest.raises(ValueError, match="none of the 13 users has 2 training items"):
        train(ToyModel(), lonely, toy_features(), config, scripted([]), Silent())


def test_checkpoints_follow_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from odmt_fast.training import checkpoint

    saved: list[int] = []
    real = checkpoint.save

    def counting(path: Path, tensors: Any, header: Any) -> None:
        if path.name == LAST.name:
            saved.append(header["progress"]["total_steps"])
        real(path, tensors, header)

    monkeypatch.setattr(checkpoint, "save", counting)
    toy_train(tmp_path / "none", checkpoint_steps=None)
    assert saved == [0, 4, 8, 12]
    saved.clear()
    toy_train(tmp_path / "clock", checkpoint_steps=None, checkpoint_minutes=1e-9)
    assert saved == list(range(13))
    assert json.loads((tmp_path / "clock" / "config.json").read_text())["training"]["epochs"] == 3


def test_a_run_says_that_the_extension_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "odmt_fast.training.run.extension_missing", lambda _: "no extension; reinstall it"
    )
    reporter = Silent()
    toy_train(tmp_path, epochs=1, reporter=reporter)
    told = [message for message in reporter.messages if "extension" in message]
    assert len(told) == 1 and told[0].endswith("memory: no extension; reinstall it")
