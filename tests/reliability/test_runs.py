"""A run is tied to what it was made of, belongs to one process, and says what is damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from odmt_fast.data import Interactions
from odmt_fast.storage import FolderLock
from odmt_fast.training.checkpoint import BEST, LAST, load

Command = Callable[..., Any]


def files_of(run: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(run)): f.read_bytes()
        for f in run.rglob("*")
        if f.is_file() and not f.name.startswith(".lock")
    }


def other_features(place: Any, command: Command) -> None:
    store = place.dataset / "features" / "text"
    words = ("extract", place.dataset, "--modality", "text", "--width", 64, "--max-tokens", 3)
    assert command(*words, "--overwrite", "--out", store).status == 0


def test_other_features_are_refused_by_every_command_and_nothing_is_written(
    place: Any, command: Command
) -> None:
    other_features(place, command)
    before = files_of(place.run)
    for words in (
        place.train(),
        ["evaluate", place.run],
        ["recommend", place.run, "--user", "u00001"],
    ):
        refusal = command(*words).refusal
        assert "text features differ" in refusal
        assert ("--fresh" if words[0] == "train" else "--allow-other-features") in refusal
        assert "resume=" not in refusal
    assert files_of(place.run) == before
    went_on = command("evaluate", place.run, "--allow-other-features")
    assert went_on.status == 0
    assert "text features differ" in went_on.err


def test_a_finished_run_asked_for_another_store_keeps_its_configuration(
    place: Any, command: Command, tmp_path: Path
) -> None:
    other = tmp_path / "other-store"
    shutil.copytree(place.dataset / "features" / "image", other)
    shutil.rmtree(place.dataset / "features" / "image")
    words = ("extract", place.dataset, "--modality", "image", "--width", 64, "--dtype", "float32")
    assert command(*words).status == 0
    before = (place.run / "config.json").read_bytes()
    assert "image features differ" in command(*place.train()).refusal
    assert (place.run / "config.json").read_bytes() == before
    assert (
        command(
            *place.train(
                "--store",
                f"image={other}",
                "--store",
                f"text={place.dataset / 'features' / 'text'}",
            )
        ).status
        == 0
    )


@pytest.mark.parametrize("what", ["texts", "test targets"])
def test_changed_data_is_named(place: Any, command: Command, what: str) -> None:
    data = Interactions.load(place.dataset)
    if what == "texts":
        texts = ("another title", *data.items.texts[1:])
        items = type(data.items)(data.items.ids, texts, data.items.images)
        data = Interactions(data.users, items, data.sequences, data.report)
    else:
        items = data.sequences.items.copy()
        last = data.sequences.offsets[1] - 1
        items[last] = items[last] % data.n_items + 1
        sequences = type(data.sequences)(items, data.sequences.offsets)
        data = Interactions(data.users, data.items, sequences, data.report)
    data.save(place.dataset)
    name = {"texts": "ids and texts of the catalogue differ"}.get(what, "test targets differ")
    assert name in command("evaluate", place.run).refusal
    assert name in command(*place.train()).refusal


def test_an_override_goes_on_and_is_recorded(place: Any, command: Command) -> None:
    longer = place.train("--epochs", 3)
    refused = command(*longer, "--set", "training.learning_rate=0.0001").refusal
    assert "training.learning_rate was 0.001 and is 0.0001" in refused
    assert "--override training.learning_rate=" in refused
    went_on = command(*longer, "--override", "training.learning_rate=0.0001")
    assert went_on.status == 0
    assert (
        "training.learning_rate was 0.001 and is 0.0001 (--override)" in went_on.err + went_on.out
    )
    (entry,) = load(place.run / "checkpoints" / LAST)[1]["overrides"]
    assert entry["changes"] == ["training.learning_rate was 0.001 and is 0.0001"]
    assert (
        "it takes training.learning_rate"
        in command(*longer, "--override", "model.width=32").refusal
    )


def test_the_second_training_is_told_who_holds_the_run(place: Any, command: Command) -> None:
    with FolderLock(place.run, "odmt-fast train"):
        refusal = command(*place.train("--epochs", 3)).refusal
    assert f"{place.run} is in use: odmt-fast train (pid {os.getpid()} on " in refusal
    assert command(*place.train("--epochs", 3)).status == 0
    rows = (place.run / "logs" / "epochs.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


@pytest.mark.parametrize("file", [LAST, BEST])
def test_one_flipped_bit_of_a_checkpoint_is_found(place: Any, command: Command, file: Path) -> None:
    path = place.run / "checkpoints" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    words = place.train() if file == LAST else ["evaluate", place.run]
    refusal = command(*words).refusal
    assert f"{path} is damaged" in refusal
    assert "diverged" not in refusal


@pytest.mark.parametrize(
    "damage",
    [
        "a shard in its place",
        "best in its place",
        "a log cut short",
        "a log of other bytes",
        "a digit of a log",
    ],
)
def test_a_run_with_foreign_files_names_them(place: Any, command: Command, damage: str) -> None:
    last, log = place.run / "checkpoints" / LAST, place.run / "logs" / "epochs.csv"
    if damage == "a shard in its place":
        shutil.copy(next((place.dataset / "features").rglob("shard-*")), last)
    elif damage == "best in its place":
        shutil.copy(place.run / "checkpoints" / BEST, last)
    elif damage == "a log cut short":
        log.write_bytes(log.read_bytes()[:10])
    elif damage == "a digit of a log":
        content = bytearray(log.read_bytes())
        content[-5] ^= 1
        log.write_bytes(content)
    else:
        log.write_bytes(b"\xff" * len(log.read_bytes()))
    named = log if "log" in damage else last
    assert str(named) in command(*place.train("--epochs", 3)).refusal


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"model": {"width": "wide"}}', b"[]"])
def test_a_damaged_configuration_is_named_and_not_printed(
    place: Any, command: Command, content: bytes
) -> None:
    (place.run / "config.json").write_bytes(content)
    refusal = command("evaluate", place.run).refusal
    assert f"{place.run / 'config.json'} is damaged" in refusal
    assert len(refusal) < 400


def test_an_edited_configuration_is_refused(place: Any, command: Command) -> None:
    path = place.run / "config.json"
    config = json.loads(path.read_text())
    config["model"]["user_heads"] = 4
    path.write_text(json.dumps(config))
    assert "model.user_heads was 2 and is 4" in command("evaluate", place.run).refusal


def test_a_run_moves_with_its_dataset(
    place: Any, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metrics(*words: object) -> dict[str, Any]:
        values = json.loads(command("evaluate", *words, "--json").out)
        del values["run"]
        return values

    first = metrics(place.run)
    moved = tmp_path / "elsewhere"
    shutil.move(place.folder, moved)
    monkeypatch.chdir(moved)
    assert metrics("run") == first
    # Moved apart: the message says what is looked for, and the flag helps.
    shutil.move(moved / "dataset", tmp_path / "data")
    refusal = command("evaluate", "run").refusal
    assert "dataset" in refusal and "--data DIR" in refusal and "prepare" not in refusal
    assert metrics("run", "--data", tmp_path / "data") == first


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signalled_command_saves_and_does_not_let_the_next_one_start(
    place: Any, number: signal.Signals, status: int
) -> None:
    words = [
        str(word) for word in place.train("--epochs", "1000", "--set", "training.patience=1000")
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from odmt_fast.cli import main; sys.exit(main())",
            *words,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = [next(line for line in process.stdout if line.startswith("epoch"))]
    process.send_signal(number)
    seen += process.stdout.readlines()
    assert process.wait(60) == status, seen
    assert any(f"{number.name}: stopped after step" in line for line in seen)
    assert not any("best epoch 0" in line or "-inf" in line for line in seen)
    load(place.run / "checkpoints" / LAST)


def test_a_full_disk_is_one_line_with_the_path(
    place: Any, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odmt_fast.storage import tensors

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensors, "save_file", full)
    refusal = command(*place.train("--epochs", 3)).refusal
    assert f"{place.run / 'checkpoints'}" in refusal
    assert refusal.endswith("cannot be written: no space left on device")


def test_weights_that_are_not_finite_never_reach_a_checkpoint(place: Any, command: Command) -> None:
    words = place.train("--epochs", 30, "--override", "training.learning_rate=1e36")
    refusal = command(*words, "--override", "training.clip_norm=1e30").refusal
    assert "became NaN or infinite at step" in refusal
    assert "--override training.learning_rate=1e+35" in refusal
    tensors, _ = load(place.run / "checkpoints" / LAST)
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())
    # The remedy works as it is printed.
    words = place.train("--epochs", 3, "--override", "training.learning_rate=1e-4")
    assert command(*words).status == 0


def test_vectors_of_other_names_are_refused(place: Any, command: Command, tmp_path: Path) -> None:
    from odmt_fast.retrieval import load_vectors
    from odmt_fast.storage import DamagedFileError

    assert command("recommend", place.run, "--export", tmp_path).status == 0
    assert load_vectors(tmp_path, "items").values.shape[0] == 80
    names = tmp_path / "items.json"
    names.write_text(names.read_text().replace("p00001", "p00009", 1))
    with pytest.raises(DamagedFileError, match="items.json is damaged or belongs to other"):
        load_vectors(tmp_path, "items")
    tensors = load_file(tmp_path / "users.safetensors")
    save_file(tensors, tmp_path / "users.safetensors")
    with pytest.raises(DamagedFileError, match="users.safetensors"):
        load_vectors(tmp_path, "users")
