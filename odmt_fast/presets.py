"""Settings to start from, by name: overlays of the defaults (docs/choosing-settings.md)."""

from __future__ import annotations

from odmt_fast.config import ByBranch, Config, IdInit, ModelConfig, TrainingConfig


def _published(*, epochs: int, tau: float, alpha: float, id_init: IdInit) -> Config:
    return Config(
        model=ModelConfig(
            width=768, max_seq_len=12, dropout=0.1, tau=tau, alpha=alpha, id_init=id_init
        ),
        training=TrainingConfig(
            batch_size=128, epochs=epochs, learning_rate=1e-4, weight_decay=0.1
        ),
    )


def _measured(
    *,
    max_seq_len: int,
    dropout: float,
    item_dropout: ByBranch = 0.0,
    batch_size: int,
    epochs: int,
    patience: int,
) -> Config:
    """A row of bench.comparison: one layer for the users, no dropout inside IMT."""
    return Config(
        model=ModelConfig(
            width=64,
            max_seq_len=max_seq_len,
            user_layers=1,
            user_heads=1,
            dropout=dropout,
            item_encoder_dropout=0.0,
            item_dropout=item_dropout,
            alpha=0.02,
        ),
        training=TrainingConfig(
            batch_size=batch_size,
            epochs=epochs,
            learning_rate=1e-3,
            weight_decay=0.0,
            patience=patience,
        ),
    )


PRESETS: dict[str, Config] = {
    # Measured by bench.quality on 800 people and 400 films (bench/results/quality_mini.json).
    "small": Config(
        model=ModelConfig(width=32, dropout=0.1, alpha=0.02),
        training=TrainingConfig(batch_size=64, epochs=50, learning_rate=2e-3),
    ),
    # Measured by bench.comparison on 3,271 people and 4,807 films (docs/results.md, row odmt).
    "medium": _measured(max_seq_len=200, dropout=0.1, batch_size=64, epochs=150, patience=20),
    # Measured by bench.comparison on Amazon Beauty, 9 interactions each (row odmt-id-dropout).
    "sparse": _measured(
        max_seq_len=50,
        dropout=0.2,
        item_dropout={"id": 0.2},
        batch_size=128,
        epochs=100,
        patience=10,
    ),
    # The defaults: dropout and ramp-up of the official code at width 64.
    "official": Config(),
    # Official run_stream.py, run_arts.py, run_office.py, run_hm.py (first of each list).
    "stream": _published(epochs=40, tau=0.5, alpha=50, id_init="text"),
    "arts": _published(epochs=31, tau=0.3, alpha=20, id_init="mean"),
    "office": _published(epochs=30, tau=0.4, alpha=40, id_init="mean"),
    "hm": _published(epochs=30, tau=0.5, alpha=60, id_init="mean"),
}
