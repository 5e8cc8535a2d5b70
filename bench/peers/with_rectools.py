"""SASRec of RecTools (``pip install "rectools[torch]"``), timed by a callback of its trainer."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import rectools
import torch
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from sequences import task, tell, training_sequences

SECONDS: list[float] = []


class Clock(Callback):
    """Appends the seconds of every training epoch to `SECONDS`, for RecTools copies its trainer."""

    def __init__(self) -> None:
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: object) -> None:
        """Starts it."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: object) -> None:
        """Stops it."""
        SECONDS.append(time.perf_counter() - self._began)


def main() -> None:
    """Trains as the task says."""
    wanted = task()
    torch.set_num_threads(wanted["threads"])
    torch.manual_seed(wanted["seed"])
    sequences = training_sequences(Path(wanted["behaviors"]))
    rows = [
        (user, item, 1.0, pd.Timestamp(place, unit="s"))
        for user, items in sequences.items()
        for place, item in enumerate(items)
    ]
    columns = ["user_id", "item_id", "weight", "datetime"]

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=wanted["epochs"],
            accelerator="cpu",
            callbacks=[Clock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_factors=wanted["width"],
        n_blocks=wanted["layers"],
        n_heads=wanted["heads"],
        dropout_rate=wanted["dropout"],
        session_max_len=wanted["steps"],
        batch_size=wanted["batch"],
        lr=wanted["learning_rate"],
        loss="softmax",
        epochs=wanted["epochs"],
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(pd.DataFrame(rows, columns=columns)))
    trained = sum(len(items) > 1 for items in sequences.values())
    tell(f"RecTools {rectools.__version__}", trained, trained, SECONDS)


if __name__ == "__main__":
    main()
