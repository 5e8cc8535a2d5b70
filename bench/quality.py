"""Reference against engine with dropout on, several seeds: does one noise per item change quality?

``python -m bench.quality demo`` (or ``mini``, given the shared MovieLens data) trains both on the
same batches from the same weights and writes ``bench/results/quality_<dataset>.json``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.results import save
from odmt_fast import ODMT, ModelConfig, reference
from odmt_fast.batch import BatchLoader, Collator
from odmt_fast.batch.batch import Batch
from odmt_fast.config import EvaluationConfig
from odmt_fast.data import Interactions, Split, leave_one_out, read
from odmt_fast.data.demo import DemoOptions, write_demo
from odmt_fast.evaluation import evaluate
from odmt_fast.features.extract import extract
from odmt_fast.features.tokens import TokenTable
from odmt_fast.training import keep_freed_memory

SHARED = Path(os.environ.get("ODMT_FAST_SHARED", Path(__file__).parents[2] / "shared"))


@dataclass(frozen=True)
class Setting:
    """A small training run.

    Attributes:
        steps: S.
        batch: users of a batch.
        epochs: of every run.
        learning_rate: of AdamW, weight decay 0.1.
        dropout: of every site.
        tokens: tokens kept of each modality, the first ones.
    """

    steps: int
    batch: int
    epochs: int
    learning_rate: float
    dropout: float
    tokens: int


SETTINGS = {
    "demo": Setting(steps=16, batch=64, epochs=20, learning_rate=2e-3, dropout=0.1, tokens=5),
    "mini": Setting(steps=20, batch=64, epochs=20, learning_rate=2e-3, dropout=0.1, tokens=5),
}


def interactions(name: str, folder: Path) -> Interactions:
    """A demo shop of 800 people and 300 items, or movielens-posters-mini."""
    if name == "demo":
        return read(write_demo(folder / "shop", DemoOptions(users=800, items=300)), "official")
    return read(SHARED / "data" / "movielens-posters-mini", "official")


def first_tokens(table: TokenTable, most: int) -> TokenTable:
    """The table with at most `most` tokens an item."""
    lengths = table.offsets.diff().clamp(max=most)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    rows = torch.arange(int(offsets[-1])) + torch.repeat_interleave(
        table.offsets[:-1] - offsets[:-1], lengths
    )
    return TokenTable(table.values[rows].float(), offsets)


def padded(table: TokenTable, n_items: int) -> tuple[Tensor, Tensor]:
    """The official layout: features [n + 1, T, d] and mask [n + 1, T]."""
    lengths = table.offsets.diff()
    mask = torch.arange(table.max_length) < lengths[:, None]
    features = torch.zeros(n_items + 1, table.max_length, table.dim)
    features[mask] = table.values
    mask[0, 0] = True
    return features, mask.float()


def padded_batch(batch: Batch, steps: int) -> tuple[Tensor, Tensor]:
    """item_ids [B, S + 1] and log_mask [B, S] of a packed batch."""
    lengths = batch.offsets.diff()
    real = torch.arange(steps + 1) >= (steps + 1 - lengths)[:, None]
    item_ids = torch.zeros(real.shape, dtype=torch.int64)
    item_ids[real] = batch.items[batch.occurrences]
    return item_ids, real[:, :-1].float()


def trained(
    engine: ODMT,
    loss: Callable[[Batch, int], Tensor],
    model: nn.Module,
    split: Split,
    setting: Setting,
    seed: int,
) -> dict[str, float]:
    """Trains `model` and ranks the test targets with its weights in the engine."""
    loader = BatchLoader(Collator(split.train, setting.steps), batch_size=setting.batch, seed=seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=setting.learning_rate, weight_decay=0.1, fused=True
    )
    model.train()
    for epoch in range(1, setting.epochs + 1):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad(set_to_none=True)
            loss(batch, epoch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
    if model is not engine:
        engine.load_state_dict(model.state_dict())
    result = evaluate(engine, split.test, split.test_history, EvaluationConfig())
    return {name: result.value("hr@10", name) for name in result.names}


def main() -> None:
    """Runs all seeds of one dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    setting = SETTINGS[options.dataset]
    keep_freed_memory()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = interactions(options.dataset, Path(folder))
        n_items = len(data.items.ids)
        split = leave_one_out(data.sequences, n_items, setting.steps)
        encoders = {"text": "hashed-words", "image": "pca-patches"}
        tables = {
            name: first_tokens(
                extract(data.items, name, encoder, Path(folder) / name).table(), setting.tokens
            )
            for name, encoder in encoders.items()
        }
        config = ModelConfig(width=32, max_seq_len=setting.steps, dropout=setting.dropout, alpha=5)
        wide = {name: padded(table, n_items) for name, table in tables.items()}
        for seed in range(1, options.seeds + 1):
            for implementation in ("reference", "engine"):
                torch.manual_seed(seed)
                engine = ODMT(config, split.popularity, n_items, *tables.values())
                model: nn.Module = engine
                if implementation == "engine":

                    def loss(batch: Batch, epoch: int, engine: ODMT = engine) -> Tensor:
                        return engine.loss(batch, epoch).total
                else:
                    torch.manual_seed(seed)
                    model = plain = reference.Model(
                        config,
                        torch.from_numpy(split.popularity.copy()),
                        n_items,
                        {name: features for name, (features, _) in wide.items()},
                        {name: mask for name, (_, mask) in wide.items()},
                    )

                    def loss(batch: Batch, epoch: int, plain: reference.Model = plain) -> Tensor:
                        ce, kd = plain(epoch, *padded_batch(batch, setting.steps))
                        return ce + kd

                hr = trained(engine, loss, model, split, setting, seed)
                row = {"implementation": implementation, "seed": seed, **hr}
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
                rows.append(row)
    print(save(f"quality_{options.dataset}", rows))


if __name__ == "__main__":
    main()
