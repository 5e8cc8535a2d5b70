"""``python -m bench.validation``: what validating after every epoch costs, at 100,000 items.

A training step with its batch from the loader, the catalogue encoded once, and a part of the users
ranked among all its items, as a run does the three. An epoch is as many steps as its users fill,
and a validation is the catalogue and all users' ranks: steps and users are alike, and the page says
how many were measured. There are twice as many users as items, as among Amazon's reviews; with
fewer, an epoch is shorter and the catalogue is not.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.results import save, timed
from bench.shop import Shop, endless
from bench.table import table
from odmt_fast.evaluation import evaluate
from odmt_fast.evaluation.ranking import evaluating
from odmt_fast.models.base import SequentialModel
from odmt_fast.training.precision import MixedPrecision, resolve
from odmt_fast.training.step import TrainingStep, adamw

ITEMS, USERS, BATCH, STEPS, RANKED = 100_000, 200_000, 128, 15, 2_048
SAMPLE = 25_000
BAR = 0.05
"""Of an epoch, what validating may cost."""


@dataclass
class Encoded:
    """A model whose catalogue is encoded already."""

    model: SequentialModel
    catalogue: Tensor

    @property
    def branches(self) -> tuple[str, ...]:
        """Of the model."""
        return self.model.branches

    def encode_catalogue(self) -> Tensor:
        """What was encoded."""
        return self.catalogue

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        """As the model does."""
        return self.model.encode_users(catalogue, items, offsets)


def measured(shop: Shop, batch: int, steps: int, ranked: int) -> dict[str, Any]:
    """Seconds of each part."""
    device = torch.device("cpu")
    config, model = shop.config, shop.model().train()
    precision = MixedPrecision(resolve(config.training.precision, device), device)
    step = TrainingStep(model, adamw(model, config.training), precision, config.training.clip_norm)
    seconds = []
    start = time.perf_counter()
    for number in islice(endless(shop.loader(shop.collator(device), batch, device)), steps + 2):
        step(number, 1)
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    start = time.perf_counter()
    with evaluating(model) as catalogue:
        encoding = time.perf_counter() - start
        some = shop.sequences.part(0, ranked)
        history = some.cut(0, -1)
        start = time.perf_counter()
        evaluate(Encoded(model, catalogue), some, history, config.evaluation)
        ranking = time.perf_counter() - start
    return {
        "precision": resolve(config.training.precision, device),
        "step_seconds": seconds[2:],  # the first two make kernels and memory
        "catalogue_seconds": encoding,
        "ranking_seconds": ranking,
    }


def main() -> None:
    """Measures and saves ``validation.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation", description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--width", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--tokens", type=int, default=12, help="most text tokens, and image tokens")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--ranked", type=int, default=RANKED, help="users of the measured ranking")
    options = parser.parse_args()
    rows = []
    for width in options.width:
        sizes = {"items": options.items, "users": options.users, "width": width}
        tokens = {"text_tokens": options.tokens, "image_tokens": options.tokens}
        shop = Shop(**sizes, **tokens)
        row = {**sizes, **tokens, "batch": options.batch, "ranked": options.ranked}
        rows.append(row | measured(shop, options.batch, options.steps, options.ranked))
        print(json.dumps(rows[-1]), flush=True)
    save(timed("validation"), rows)


def section(results: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    rows = results["rows"]
    body, shares, sampled = [], [], []
    for row in rows:
        epoch = median(row["step_seconds"]) * -(-row["users"] // row["batch"])
        catalogue = row["catalogue_seconds"]
        ranking = row["ranking_seconds"] * row["users"] / row["ranked"]
        shares.append((catalogue + ranking) / epoch)
        sampled.append((catalogue + ranking * SAMPLE / row["users"]) / epoch)
        cells = (epoch, catalogue, ranking)
        body.append(
            [
                f"{row['width']}",
                row["precision"],
                *(f"{s:,.0f}" for s in cells),
                f"{shares[-1]:.1%}",
                f"{sampled[-1]:.1%}",
            ]
        )
    row = rows[0]
    head = ["width", "precision", "epoch s", "catalogue s", "ranking s", "of the epoch"]
    head.append(f"{SAMPLE:,} targets")
    met, enough = (sum(share <= BAR for share in found) for found in (shares, sampled))
    return "\n".join(
        [
            "## Validation",
            "",
            f"Validating after every epoch: the catalogue of {row['items']:,} items encoded, and "
            f"{row['users']:,} users ranked in it by every branch and the ensemble; of text and "
            f"picture up to {row['text_tokens']} tokens each. An epoch is the median of "
            f"{len(row['step_seconds'])} steps of {row['batch']} users times their number, the "
            f"ranking that of {row['ranked']:,} users times theirs. The bar is {BAR:.0%} of an "
            f"epoch: {met} of {len(rows)} meet it. With `evaluation.valid_targets={SAMPLE}` (the "
            f"last column) {enough} do: a sample chooses the epoch, the test ranks everybody. Made "
            "by `python -m bench.validation`.",
            "",
            table(head, body, left=2),
        ]
    )


if __name__ == "__main__":
    main()
