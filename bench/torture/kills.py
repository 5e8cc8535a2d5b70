"""SIGKILL at random moments of training and extraction: what is resumed ends as if never killed."""

from __future__ import annotations

import csv
import random
import shutil
import time
from pathlib import Path
from typing import Any

from bench.torture.session import kill_after, run
from bench.torture.shop import ENCODERS, Shop
from bench.torture.tally import Tally
from odmt_fast.storage import file_digest, load_tensors

# Sessions get longer with every kill of a run, so that each comes to its end.
_LONGER = 1.15


def kill_training(shop: Shop, folder: Path, seed: int, kills: int) -> Tally:
    """Kills `kills` training sessions; every run that was resumed must equal the shop's own."""
    tally = Tally("training killed and resumed")
    expected = state_of_run(shop.run)
    seconds = _duration(lambda: run(*shop.train(folder / "whole"), seconds=300))
    chance = random.Random(seed)
    life = 0
    while kills > 0:
        output = folder / f"life-{seed}-{life}"
        died, kills = _live(shop.train(output), seconds, chance, kills, tally)
        if died:
            found = state_of_run(output)
            different = [name for name in expected if found.get(name) != expected[name]]
            _judge(tally, died, different)
        shutil.rmtree(output, ignore_errors=True)
        life += 1
    return tally


def kill_extraction(shop: Shop, folder: Path, seed: int, kills: int) -> Tally:
    """Kills `kills` extractions; every store that was resumed must have the bytes of the shop's."""
    tally = Tally("extraction killed and resumed")
    chance = random.Random(seed)
    spare = folder / "whole"
    seconds = {m: _duration(lambda m=m: run(*shop.extract(m, spare / m))) for m in ENCODERS}
    shutil.rmtree(spare)
    life = 0
    while kills > 0:
        modality = chance.choice(list(ENCODERS))
        expected = state_of_store(shop.dataset / "features" / modality)
        out = folder / f"store-{seed}-{life}"
        died, kills = _live(shop.extract(modality, out), seconds[modality], chance, kills, tally)
        if died:
            found = state_of_store(out)
            names = sorted({*expected, *found})
            _judge(tally, died, [n for n in names if found.get(n) != expected.get(n)])
        shutil.rmtree(out, ignore_errors=True)
        life += 1
    return tally


def _live(
    words: list[str | Path], seconds: float, chance: random.Random, kills: int, tally: Tally
) -> tuple[int, int]:
    """Kills sessions of one life until one ends by itself; (sessions killed, kills left)."""
    died = 0
    while True:
        last = kills == 0
        moment = 600.0 if last else chance.uniform(0, seconds) * _LONGER**died
        outcome = kill_after(moment, words)
        if outcome.code == 0:
            return died, kills
        if outcome.code is not None or outcome.crashed and outcome.signal != 9:
            tally.count("crashes", outcome.last_line)
            return 0, kills
        died, kills = died + 1, kills - 1


def _judge(tally: Tally, died: int, different: list[str]) -> None:
    for _ in range(died - 1):
        tally.count("unchanged")
    if different:
        tally.count("silent", f"after {died} kills: {', '.join(different[:5])}")
    else:
        tally.count("unchanged")


def _duration(body: Any) -> float:
    began = time.monotonic()
    body()
    return time.monotonic() - began


def state_of_run(folder: Path) -> dict[str, Any]:
    """What must not depend on how often a run was killed: weights, optimiser, scores, epochs."""
    tensors, header = load_tensors(folder / "checkpoints" / "last" / "checkpoint.safetensors")
    best, _ = load_tensors(folder / "checkpoints" / "best" / "model.safetensors")
    state: dict[str, Any] = {
        name: (str(value.dtype), value.flatten().view(-1).tolist())
        for name, value in tensors.items()
    }
    state |= {f"best/{name}": value.flatten().tolist() for name, value in best.items()}
    progress = header["progress"]
    state["best epoch"] = progress["best_epoch"], progress["best_score"]
    with (folder / "logs" / "epochs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "samples_per_second")
    state["epochs.csv"] = [{k: v for k, v in row.items() if k not in timed} for row in rows]
    return state


def state_of_store(folder: Path) -> dict[str, str]:
    """Digests of the files of a token store; nothing of the killed may be left but the lock."""
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".lock")]
    return {file.name: file_digest(file) for file in files}
