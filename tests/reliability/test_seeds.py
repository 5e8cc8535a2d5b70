"""One seed decides everything: the same bits in other processes, threads, orders of events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thread_bits import skip_where_products_depend_on_threads

from odmt_fast import ODMT, ModelConfig
from odmt_fast.config import Config
from odmt_fast.features.store import TokenStore
from odmt_fast.features.tokens import TokenTable
from odmt_fast.randomness import numpy_generator, stream, torch_generator
from odmt_fast.training.checkpoint import BEST, LAST, load
from odmt_fast.workflow.trained import train_and_test

TRAINING = {
    "model.width": 16,
    "model.max_seq_len": 6,
    "model.dropout": 0.2,
    "training.batch_size": 12,
    "training.epochs": 2,
    "training.device": "cpu",
    "training.precision": "fp32",
    "training.tensorboard": False,
}
SETTINGS = tuple(word for key, value in TRAINING.items() for word in ("--set", f"{key}={value}"))
# On the instruction set that the tests are limited to, as this process is.
COMMAND = """
import os, sys
from odmt_fast.cli import main
if name := os.environ.get("ODMT_TEST_ISA"):
    from odmt_fast import _C
    assert _C.use_isa(name)
sys.exit(main())
"""
# The process is gone when it is about to write its first checkpoint.
KILLED = f"""
import os, signal
from odmt_fast.training import checkpoint
checkpoint.save = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
{COMMAND}
"""


def start(
    *words: object, threads: int = 1, hash_seed: int = 0, script: str = COMMAND
) -> subprocess.Popen[str]:
    """``odmt-fast WORDS`` in a process of its own."""
    environment = {"PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they printed, once all have ended well."""
    outcomes = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outcomes, strict=True):
        assert process.returncode == 0, errors
    return [out for out, _ in outcomes]


def bits(run: Path) -> dict[str, bytes]:
    """Every tensor of a run's checkpoints."""
    return {
        f"{file}:{name}": tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for file in (LAST, BEST)
        for name, tensor in load(run / "checkpoints" / file)[0].items()
    }


def differing(one: Path, other: Path) -> list[str]:
    a, b = bits(one), bits(other)
    return sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of the command line in one thread."""
    run = tmp_path_factory.mktemp("whole")
    finish([start("train", "--data", dataset, "--output", run, *SETTINGS, hash_seed=1)])
    return run


def test_train_twice_gives_the_same_bits(dataset: Path, whole: Path, tmp_path: Path) -> None:
    finish([start("train", "--data", dataset, "--output", tmp_path, *SETTINGS, hash_seed=2)])
    assert differing(whole, tmp_path) == []


def test_two_threads_compute_the_bits_of_one(dataset: Path, whole: Path, tmp_path: Path) -> None:
    skip_where_products_depend_on_threads()
    finish([start("train", "--data", dataset, "--output", tmp_path, *SETTINGS, threads=2)])
    assert differing(whole, tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_before_the_first_checkpoint(dataset: Path, whole: Path, tmp_path: Path) -> None:
    words = ("train", "--data", dataset, "--output", tmp_path, *SETTINGS)
    killed = start(*words, script=KILLED)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not list(tmp_path.rglob("*.safetensors"))
    finish([start(*words, hash_seed=3)])
    assert differing(whole, tmp_path) == []


def test_two_trainings_at_once_share_no_generator(
    dataset: Path, whole: Path, tmp_path: Path
) -> None:
    stores = {name: dataset / "features" / name for name in ("text", "image")}
    base = Config().updated({**TRAINING, "data.path": dataset, "features.stores": stores})
    before, allowed = torch.get_rng_state(), torch.get_num_threads()
    threads = [
        threading.Thread(
            target=train_and_test,
            args=(base.updated({"training.seed": seed, "training.output": tmp_path / str(seed)}),),
            kwargs={"resume": True},
        )
        for seed in (1, 5)
    ]
    torch.set_num_threads(1)  # as the run that is compared with; new threads take it over
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(allowed)
    assert differing(whole, tmp_path / "1") == []
    other = [name for name in differing(whole, tmp_path / "5") if name.startswith(f"{LAST}:model/")]
    assert len(other) > 30
    assert torch.equal(torch.get_rng_state(), before)


def test_extract_twice_gives_the_same_bits(dataset: Path, tmp_path: Path) -> None:
    words = ("extract", dataset, "--modality", "image", "--width", 64, "--out")
    finish([start(*words, tmp_path / str(n), threads=n, hash_seed=n) for n in (1, 2)])
    first, second = (TokenStore.open(tmp_path / str(n)).table() for n in (1, 2))
    kept = TokenStore.open(dataset / "features" / "image").table()
    for table in (first, second):
        assert torch.equal(table.values, kept.values)
        assert torch.equal(table.offsets, kept.offsets)


def test_baselines_twice_give_the_same_figures(dataset: Path, tmp_path: Path) -> None:
    some = ("--models", "popularity,co-occurrence,markov,sasrec,unisrec")
    words = ("baselines", "--data", dataset, *SETTINGS, *some, "--json", "-o")
    first, second = finish([start(*words, tmp_path / str(n), hash_seed=n) for n in (1, 2)])
    assert json.loads(first) == json.loads(second)
    assert {"sasrec", "unisrec"} <= json.loads(first).keys()


def test_the_demo_twice_gives_the_same_bits_and_takes_the_seed(tmp_path: Path) -> None:
    small = ("--users", 60, "--items", 80, *SETTINGS, "--epochs", 1, "--seed", 7, "--json")
    one, two = (
        json.loads(out)
        for out in finish(
            [start("demo", *small, "-o", tmp_path / str(n), hash_seed=n) for n in (1, 2)]
        )
    )
    assert differing(tmp_path / "1" / "run", tmp_path / "2" / "run") == []
    assert (one["metrics"], one["examples"]) == (two["metrics"], two["examples"])
    assert json.loads((tmp_path / "2/shop/demo.json").read_text())["options"]["seed"] == 7


def test_streams_are_apart_and_never_change() -> None:
    # Written down: a run that is resumed after an upgrade must draw what it would have drawn.
    assert stream(1, "order", 1) == 2811693010245971299
    assert stream(-1, "dropout", 2, 3) == 1247085741416030580
    drawn = [
        stream(seed, what, epoch, step)
        for seed in (0, 1, -1, 2**40)
        for what in ("dropout", "order")
        for epoch in (0, 1)
        for step in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= value < 2**62 for value in drawn)
    assert np.array_equal(numpy_generator(1, "x").random(3), numpy_generator(1, "x").random(3))
    assert torch_generator(1, "x").initial_seed() == stream(1, "x")


def small_model(**options: Any) -> ODMT:
    features = [TokenTable.from_padded(torch.ones(6, 2, 4)) for _ in range(2)]
    return ODMT(ModelConfig(width=8), [1.0, *[0.2] * 5], 5, *features, **options)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_generator_gives_the_weights_of_manual_seed(seed: int) -> None:
    before = torch.get_rng_state()
    drawn = small_model(generator=torch.Generator().manual_seed(seed)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        official = small_model().state_dict()
    assert drawn.keys() == official.keys()
    for name, value in official.items():
        assert torch.equal(drawn[name], value), name
