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

from odmt_fast.batch.sampler import UserSampler
from odmt_fast.config import Config, ModelConfig
from odmt_fast.data.split import Split
from odmt_fast.evaluation import evaluate
from odmt_fast.randomness import torch_generator
from odmt_fast.training.precision import training_device

# Finite, as in the official loss.
_EXCLUDED = -1e4

Progress = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the validation score."""


Drop = Callable[[Tensor], Tensor]
"""Dropout, whatever it draws from."""


class Layer(nn.Module):
    """``nn.TransformerEncoderLayer`` (post-norm, ReLU) whose dropout is given with the call.

    Args:
        width: d; the feed-forward network has 4 d.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def initialise(self, generator: torch.Generator | None) -> None:
        """As torch does, from `generator`."""
        for linear in (self.out, self.up, self.down):
            bound = linear.in_features**-0.5
            nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        nn.init.xavier_uniform_(self.qkv.weight, generator=generator)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)
        for norm in (self.attention_norm, self.norm):
            norm.reset_parameters()

    def forward(self, x: Tensor, future: Tensor, drop: Drop) -> Tensor:
        """x [B, T, d], future bool [T, T], True where a step must not be read -> [B, T, d]."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
        attended = drop(scores.masked_fill(future, -math.inf).softmax(-1)) @ v
        x = self.attention_norm(x + drop(self.out(attended.transpose(1, 2).flatten(2))))
        y: Tensor = self.norm(x + drop(self.down(drop(F.relu(self.up(x))))))
        return y


class SASRec(nn.Module):
    """Item embeddings and a causal Transformer; a `Ranker` of one branch.

    Args:
        config: width, steps, layers, heads and dropout; the rest is not read.
        n_items: items of the catalogue; id 0 is padding.
        generator: draws the initial values, on the CPU; None is torch's default generator.
    """

    branches = ("sasrec",)

    def __init__(
        self, config: ModelConfig, n_items: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.max_seq_len, self.dropout = config.max_seq_len, config.dropout
        # Shapes only: the constructors would draw from the default generator.
        with torch.device("meta"):
            self.items = nn.Embedding(n_items + 1, config.width, padding_idx=0)
            self.positions = nn.Embedding(config.max_seq_len, config.width)
            self.norm = nn.LayerNorm(config.width)
            self.layers = nn.ModuleList(
                Layer(config.width, config.user_heads) for _ in range(config.user_layers)
            )
        self.to_empty(device="cpu")
        nn.init.xavier_normal_(self.items.weight, generator=generator)
        nn.init.xavier_normal_(self.positions.weight, generator=generator)
        self.norm.reset_parameters()
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.initialise(generator)

    def forward(
        self, embeddings: Tensor, lengths: Tensor, noise: torch.Generator | None = None
    ) -> Tensor:
        """States [B, T, d] of left-aligned inputs [B, T, d] with `lengths` [B] real ones each.

        Dropout draws from `noise`; without it nothing is dropped.
        """
        steps = embeddings.shape[1]
        # Positions are counted from the end, as in the engine: the last input is at S - 1.
        position = torch.arange(steps, device=lengths.device) + (
            self.max_seq_len - lengths[:, None]
        )
        x = embeddings + self.positions(position.clamp(max=self.max_seq_len - 1))
        future = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        drop = self._drop(noise)
        x = drop(self.norm(x))
        for layer in self.layers:
            x = layer(x, future, drop)
        return x

    def _drop(self, noise: torch.Generator | None) -> Drop:
        if noise is None or self.dropout == 0:
            return lambda x: x
        kept = 1 - self.dropout
        return lambda x: x * torch.empty_like(x).bernoulli_(kept, generator=noise) / kept

    def loss(
        self, users: list[Tensor], log_p: Tensor, noise: torch.Generator | None = None
    ) -> Tensor:
        """In-batch loss over whole training sequences (int64, 2 to S + 1 items each).

        Args:
            users: one tensor per user, oldest first.
            log_p: [n_items + 1], log share of each item in the training sequences.
            noise: what dropout draws from, on the model's device; None drops nothing.
        """
        device = self.items.weight.device
        padded = pad_sequence(users, batch_first=True).to(device)
        lengths = torch.tensor([len(user) - 1 for user in users], device=device)
        columns, where, counts = torch.unique(padded, return_inverse=True, return_counts=True)
        real = columns != 0
        states = self(self.items(padded[:, :-1]), lengths, noise)
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
    seed, device = training.seed, training_device(training.device)
    model = SASRec(config.model, n_items, torch_generator(seed, "sasrec/initial values"))
    model = model.to(device)
    log_p = _log_shares(split.popularity).to(model.items.weight)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    users = np.flatnonzero(np.diff(split.train.offsets) >= 2)
    sampler = UserSampler(users, training.batch_size, seed)
    best, best_epoch, kept = -math.inf, 0, model.state_dict()
    for epoch in range(1, training.epochs + 1):
        model.train()
        order = sampler.order(epoch)
        for step in range(sampler.steps):
            batch = [
                torch.tensor(split.train[user], dtype=torch.int64)
                for user in sampler.batch(order, step)
            ]
            noise = torch_generator(seed, "sasrec/dropout", epoch, step, device=device)
            loss = model.loss(batch, log_p, noise)
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


def _log_shares(popularity: NDArray[np.float64]) -> Tensor:
    """log p; an item that is only ever a target of the evaluation is no column, any value does."""
    return torch.from_numpy(np.log(np.maximum(popularity, np.finfo(np.float64).tiny)))
