"""A small shop with everything a command can work on, made by the commands themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.torture.session import run
from odmt_fast.data.demo import DemoOptions, write_demo

ENCODERS = {"text": "hashed-words", "image": "pca-patches"}
SETTINGS = (
    "model.width=16",
    "model.max_seq_len=8",
    "training.batch_size=32",
    "training.epochs=3",
    "training.tensorboard=false",
    "training.device=cpu",
    "training.checkpoint_steps=2",
)


@dataclass(frozen=True)
class Shop:
    """Where things lie: the raw shop, the dataset with its stores, a finished run."""

    folder: Path

    @property
    def raw(self) -> Path:
        """Files as a shop would bring them."""
        return self.folder / "shop"

    @property
    def dataset(self) -> Path:
        """The prepared dataset, its token stores below."""
        return self.folder / "dataset"

    @property
    def run(self) -> Path:
        """A finished run."""
        return self.folder / "run"

    def train(self, output: Path | None = None) -> list[str | Path]:
        """The words that train into `output`."""
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return ["train", "--data", self.dataset, "--output", output or self.run, *settings]

    def extract(self, modality: str, out: Path) -> list[str | Path]:
        """The words that extract into `out`."""
        words: list[str | Path] = ["extract", self.dataset, "--modality", modality]
        # Saved every few items, so that a shop of 80 is killed between its parts too.
        words += ["--checkpoint-minutes", "0.0002"]
        return [*words, "--encoder", ENCODERS[modality], "--out", out]

    def evaluate(self) -> list[str | Path]:
        """The words that rank the test targets of the run."""
        return ["evaluate", self.run, "--json"]


def make_shop(folder: Path, users: int = 150, items: int = 80) -> Shop:
    """Makes the shop in `folder`.

    Raises:
        RuntimeError: a command failed; its message is passed on.
    """
    shop = Shop(folder)
    write_demo(shop.raw, DemoOptions(users=users, items=items, side=32))
    commands = [["prepare", shop.raw, shop.dataset]]
    commands += [shop.extract(m, shop.dataset / "features" / m) for m in ENCODERS]
    commands += [shop.train(), shop.evaluate()]
    for words in commands:
        done = run(*words, seconds=300)
        if done.code:
            raise RuntimeError(f"odmt-fast {' '.join(map(str, words))}: {done.last_line}")
    return shop
