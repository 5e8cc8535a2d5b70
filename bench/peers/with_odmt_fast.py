"""Our SASRec on the same sequences, against the whole catalogue as the others are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import odmt_fast
from bench.peers.sequences import task, tell
from odmt_fast.config import Config
from odmt_fast.data import read
from odmt_fast.workflow.trained import train_run


def main() -> None:
    """Trains as the task says; validation, which the others leave out, is not in the seconds."""
    wanted = task()
    torch.set_num_threads(wanted["threads"])
    data = read(Path(wanted["behaviors"]).parent, "official", decode_images=False)
    with tempfile.TemporaryDirectory() as place:
        config = Config().updated(
            {
                "data.path": data.save(Path(place, "dataset")),
                "model.name": "id",
                "model.width": wanted["width"],
                "model.user_layers": wanted["layers"],
                "model.user_heads": wanted["heads"],
                "model.dropout": wanted["dropout"],
                "model.max_seq_len": wanted["steps"],
                "model.candidates": wanted["candidates"],
                "training.batch_size": wanted["batch"],
                "training.learning_rate": wanted["learning_rate"],
                "training.weight_decay": 0.0,
                "training.epochs": wanted["epochs"],
                "training.patience": wanted["epochs"],
                "training.precision": "fp32",
                "training.device": "cpu",
                "training.seed": wanted["seed"],
                "training.tensorboard": False,
                "training.output": Path(place, "run"),
            }
        )
        workspace, result = train_run(config)
    users = len(workspace.split.train)
    seconds = [epoch.seconds for epoch in result.history]
    tell(f"odmt_fast {odmt_fast.__version__}", users, users, seconds)


if __name__ == "__main__":
    main()
