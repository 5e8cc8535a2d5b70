"""SASRec of RecBole (``pip install recbole "numpy<2" "pandas<3" "setuptools<81"``).

Its samples are the prefixes of the sequences, each with one target.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from sequences import task, tell, training_sequences

NAME = "sequences"
HEADER = "user_id:token\titem_id:token\ttimestamp:float"


def main() -> None:
    """Trains as the task says, an epoch a fit, so that each can be timed."""
    wanted = task()
    del sys.argv[1:]  # RecBole reads them
    sequences = training_sequences(Path(wanted["behaviors"]))
    # It logs where it stands, whatever its settings.
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        lines = [
            f"{user}\t{item}\t{time_}"
            for user, items in sequences.items()
            for time_, item in enumerate(items)
        ]
        folder = Path(place, NAME)
        folder.mkdir()
        (folder / f"{NAME}.inter").write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")
        config = Config(model="SASRec", dataset=NAME, config_dict=_settings(wanted, place))
        init_seed(wanted["seed"], reproducibility=True)
        torch.set_num_threads(wanted["threads"])
        training, _, _ = data_preparation(config, create_dataset(config))
        model = get_model("SASRec")(config, training.dataset).to("cpu")
        trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
        seconds = []
        for _ in range(wanted["epochs"]):
            began = time.perf_counter()
            trainer.fit(training, saved=False, show_progress=False)
            seconds.append(time.perf_counter() - began)
    users = sum(len(items) > 1 for items in sequences.values())
    tell(f"RecBole {recbole.__version__}", users, len(training.dataset), seconds)


def _settings(wanted: dict, place: str) -> dict:
    return {
        "data_path": place,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "seed": wanted["seed"],
        "hidden_size": wanted["width"],
        "inner_size": 4 * wanted["width"],
        "n_layers": wanted["layers"],
        "n_heads": wanted["heads"],
        "hidden_dropout_prob": wanted["dropout"],
        "attn_dropout_prob": wanted["dropout"],
        "MAX_ITEM_LIST_LENGTH": wanted["steps"],
        "train_batch_size": wanted["batch"],
        "learning_rate": wanted["learning_rate"],
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "epochs": 1,
        "eval_step": 0,
        # Nothing is held out: what is given is the training part.
        "eval_args": {
            "split": {"RS": [1.0, 0.0, 0.0]},
            "order": "TO",
            "group_by": "user",
            "mode": "full",
        },
        "log_wandb": False,
        "show_progress": False,
    }


if __name__ == "__main__":
    main()
