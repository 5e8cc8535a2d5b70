"""A plain SASRec on IDs: what the modalities and the distillation have to beat.

Kang and McAuley, ICDM 2018, with the loss of ODMT's ID branch (in-batch softmax, corrected for
popularity, the user's own items excluded) and the budget of the run it is compared with: the same
width, layers, heads, steps, batches, epochs, optimiser and choice of the best epoch. Written on
``torch.nn`` alone, apart from the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from odmt_fast.config import Config, ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import Split
from odmt_fast.evaluation import evaluate

# Finite, as in the official loss.
_EXCLUDED = -1e4

Progress = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the validation score."""


class SASRec(nn.Module):
    """Item embeddings and a causal Transformer; a `Ranker` of one branch.

    Args:
        config: width, steps, layers, heads and dropout; the rest is not read.
        n_items: items of the catalogue; id 0 is padding.
    """

    branches = ("sasrec",)

    def __init__(self, config: ModelConfig, n_items: int) -> None:
        super().__init__()
        self.max_seq_len = config.max_seq_len
        self.items = nn.Embedding(n_items + 1, config.width, padding_idx=0)
        self.positions = nn.Embedding(config.max_seq_len, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.user_heads,
            4 * config.width,
            config.dropout,
            batch_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.user_layers, enable_nested_tensor=False)
        nn.init.xavier_normal_(self.items.weight)
        nn.init.xavier_normal_(self.positions.weight)

    def forward(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """States [B, T, d] of left-aligned inputs [B, T, d] with `lengths` [B] real ones each."""
        steps = embeddings.shape[1]
        # Positions are counted from the end, as in the engine: the last input is at S - 1.
        position = torch.arange(steps, device=lengths.device) + (
            self.max_seq_len - lengths[:, None]
        )
        x = embeddings + self.positions(position.clamp(max=self.max_seq_len - 1))
        future = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        states: Tensor = self.layers(self.dropout(self.norm(x)), mask=future)
        return states

    def loss(self, users: list[Tensor], log_p: Tensor) -> Tensor:
        """In-batch loss over whole training sequences (int64, 2 to S + 1 items each).

        Args:
            users: one tensor per user, oldest first.
            log_p: [n_items + 1], log share of each item in the training sequences.
        """
        device = self.items.weight.device
        padded = pad_sequence(users, batch_first=True).to(device)
        lengths = torch.tensor([len(user) - 1 for user in users], device=device)
        columns, where, counts = torch.unique(padded, return_inverse=True, return_counts=True)
        real = columns != 0
        states = self(self.items(padded[:, :-1]), lengths)
        rows = torch.arange(states.shape[1], device=device) < lengths[:, None]
        target = where[:, 1:][rows]
        logits = states[rows] @ self.items(columns).t() - log_p[columns] + counts.log()
        seen = torch.zeros(len(users), len(columns), dtype=torch.bool, device=device)
        seen.scatter_(1, where, True)
        seen = seen[rows.nonzero()[:, 0]].scatter(1, target[:, None], False) | ~real
        logits = logits.masked_fill(seen, _EXCLUDED)
        # A target's other occurrences are history: it stands as a single column.
        single = -counts.log()[target]
        logits = logits.scatter_add(1, target[:, None], single[:, None])
        return F.cross_entropy(logits, target)

    def encode_catalogue(self) -> Tensor:
        """[1, n_items + 1, d]."""
        return self.items.weight.detach()[None]

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor, /) -> Tensor:
        """States [1, B, d] after the last input of each user."""
        lengths = offsets.diff()
        padded = pad_sequence(list(torch.split(items, lengths.tolist())), batch_first=True)
        states = self(catalogue[0][padded], lengths)
        return states[torch.arange(len(lengths), device=lengths.device), lengths - 1][None]


def train_sasrec(
    split: Split, n_items: int, config: Config, progress: Progress | None = None
) -> SASRec:
    """Trains as long as `config` says and returns the best epoch, in eval mode.

    Raises:
        ValueError: the loss became NaN or inf.
    """
    training = config.training
    torch.manual_seed(training.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SASRec(config.model, n_items).to(
        device if training.device == "auto" else training.device
    )
    log_p = _log_shares(split.popularity).to(model.items.weight)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    order = np.random.default_rng(training.seed)
    best, best_epoch, kept = -math.inf, 0, model.state_dict()
    for epoch in range(1, training.epochs + 1):
        model.train()
        for users in _batches(split.train, training.batch_size, order):
            loss = model.loss(users, log_p)
            if not bool(loss.isfinite()):
                raise ValueError(f"the loss of SASRec is {loss.item()} in epoch {epoch}")
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            optimizer.step()
        result = evaluate(model, split.valid, split.valid_history, config.evaluation)
        score = result.value(config.evaluation.metric)
        if progress is not None:
            progress(epoch, score)
        if score > best:
            best, best_epoch = score, epoch
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        if epoch - best_epoch >= training.patience:
            break
    model.load_state_dict(kept)
    return model.eval()


def _batches(train: Sequences, batch_size: int, order: np.random.Generator) -> list[list[Tensor]]:
    users = [user for user in order.permutation(len(train)).tolist() if len(train[user]) > 1]
    return [
        [torch.tensor(train[user], dtype=torch.int64) for user in users[start : start + batch_size]]
        for start in range(0, len(users), batch_size)
    ]


def _log_shares(popularity: NDArray[np.float64]) -> Tensor:
    """log p; an item that is only ever a target of the evaluation is no column, any value does."""
    return torch.from_numpy(np.log(np.maximum(popularity, np.finfo(np.float64).tiny)))
