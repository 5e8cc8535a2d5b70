"""The plain padded model of the paper: the oracle of the tests and the baseline of the benches.

It computes every padded slot of every occurrence, as the official code does, and is written to be
read beside the paper (arXiv 2308.04067, sections 3.2 to 3.4) and the official ``model/model.py``.
Parameter names and creation order are the official ones, so a state dict travels both ways and one
seed gives the same initial weights. Shapes: B users, S input steps, N = B (S + 1) item slots, T_m
tokens of modality m, d width, K branches ("id", one per modality).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.objective.ramp import ramp_up
from odmt_fast.official.names import prefix

# Finite, so that a masked logit times a zero probability is zero (official model.py, modules.py).
MASKED_LOGIT = -1e4
MASKED_STEP = -1e9
LAYER_NORM_EPS = 1e-6


class MultiHeadAttention(nn.Module):
    """Post-norm multi-head attention without projection biases (official modules.py)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.w_Q = nn.Linear(width, width, bias=False)
        self.w_K = nn.Linear(width, width, bias=False)
        self.w_V = nn.Linear(width, width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n, L, d], additive mask broadcastable to [n, heads, L, L] -> [n, L, d]."""
        n, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(n, length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.w_Q(x)), split(self.w_K(x)), split(self.w_V(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        heads = self.dropout(scores.softmax(-1)) @ v
        out = self.fc(heads.transpose(1, 2).reshape(n, length, width))
        return self.layer_norm(x + self.dropout(out))


class FeedForward(nn.Module):
    """Post-norm position-wise network d -> 4d -> d with ReLU (official modules.py)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, 4 * width)
        self.w_2 = nn.Linear(4 * width, width)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d] -> [..., d]."""
        return self.layer_norm(x + self.dropout(self.w_2(F.relu(self.w_1(x)))))


class Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.multi_head_attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n, L, d], additive mask -> [n, L, d]."""
        return self.feed_forward(self.multi_head_attention(x, mask))


class PositionalEncoder(nn.Module):
    """Learned absolute positions, LayerNorm, dropout, blocks (official modules.py)."""

    def __init__(self, steps: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(steps, width)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.transformer_blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, S, d], additive mask [B, 1, S, S] -> [B, S, d]."""
        x = self.dropout(self.layer_norm(x + self.position_embedding.weight[: x.shape[1]]))
        for block in self.transformer_blocks:
            x = block(x, mask)
        return x


class UserEncoder(nn.Module):
    """SASRec over right-aligned item embeddings (official user_encoders.py)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transformer_encoder = PositionalEncoder(
            config.max_seq_len,
            config.width,
            config.user_heads,
            config.user_layers,
            config.dropout,
        )
        self.initialise()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws the official initial values; None draws from torch's default generator."""
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, input_embs: Tensor, log_mask: Tensor, local_rank: torch.device | int | str = "cpu"
    ) -> Tensor:
        """input_embs [B, S, d], log_mask [B, S] (0 at padding) -> states [B, S, d]."""
        steps = log_mask.shape[1]
        causal = torch.ones(steps, steps, dtype=torch.bool, device=log_mask.device).tril()
        readable = (log_mask != 0)[:, None, None, :] & causal
        mask = torch.zeros(readable.shape, dtype=input_embs.dtype, device=input_embs.device)
        mask = mask.masked_fill(~readable.to(mask.device), MASKED_STEP)
        states: Tensor = self.transformer_encoder(input_embs, mask)
        return states


class ItemTransformer(nn.Module):
    """IMT: one Transformer over the tokens of an item (paper section 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.dropout = nn.Dropout(config.dropout)
        # The official module owns these two and never uses them; they travel in its checkpoints.
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.transformer_blocks = nn.ModuleList(
            Block(width, config.heads, config.dropout) for _ in range(config.imt_layers)
        )

    def forward(
        self, ids: Tensor, tokens: Sequence[Tensor], masks: Sequence[Tensor], *, asymmetric: bool
    ) -> list[Tensor]:
        """Fuses the representations of n items.

        Args:
            ids: [n, d], projected ID embeddings.
            tokens: one [n, T_m, d] per modality, projected.
            masks: one [n, T_m] per modality, 0 at tokens that must not be read.
            asymmetric: no text or image token reads the ID token.

        Returns:
            [n, d] for the ID token and for the first token of each modality, in this order.
        """
        x = self.dropout(torch.cat([*tokens, ids[:, None]], dim=1))
        length = x.shape[1]
        readable = torch.cat([*masks, ids.new_ones(ids.shape[0], 1)], dim=1) != 0
        readable = readable[:, None, None, :].expand(-1, 1, length, -1).clone()
        if asymmetric:
            readable[:, :, :-1, -1] = False
        mask = torch.zeros(readable.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~readable, MASKED_LOGIT)
        for block in self.transformer_blocks:
            x = block(x, mask)
        outputs, first = [x[:, -1]], 0
        for group in tokens:
            outputs.append(x[:, first])
            first += group.shape[1]
        return outputs


def branch_head(width: int) -> nn.Sequential:
    """The map behind each IMT output (official id_dnns, t_dnns, v_dnns)."""
    return nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))


def distillation(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """tau^2 times the mean cross entropy of softened logits [M, N]; no side is detached."""
    soft = (teacher / tau).softmax(-1)
    return -(soft * (student / tau).log_softmax(-1)).sum(-1).mean() * tau**2


class Parameters(nn.Module):
    """Every parameter of the official model under its official name, freshly initialised.

    Args:
        config: the architecture.
        item_num: number of items; ids are 1..item_num, 0 is padding.
        dims: modality -> width of its tokens; "text" and "image" first, where there are any.
        id_start: [item_num + 1, id width] the ID table starts from (see `ModelConfig.id_init`);
            None for a random start.
        generator: what to draw from; None is torch's default generator. In equal states both give
            the same values.
    """

    def __init__(
        self,
        config: ModelConfig,
        item_num: int,
        dims: Mapping[str, int],
        id_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.branches = ("id", *dims)
        if generator is None:
            self._create(item_num, dims)
        else:
            with torch.device("meta"):
                self._create(item_num, dims)
            _draw(self.to_empty(device=generator.device), generator)
        if id_start is None:
            nn.init.xavier_normal_(self.id_encoder.weight, generator=generator)
        elif id_start.shape != self.id_encoder.weight.shape:
            raise ValueError(
                f"id_init={config.id_init!r} starts from first tokens {tuple(id_start.shape)}, but "
                f"the ID table is {tuple(self.id_encoder.weight.shape)}; set id_width to the "
                "features' width or id_init='xavier'"
            )
        else:
            with torch.no_grad():
                self.id_encoder.weight.copy_(id_start)

    def _create(self, item_num: int, dims: Mapping[str, int]) -> None:
        """Adds the modules in the official order: it decides what a seed initialises."""
        config, width = self.config, self.config.width
        for branch in self.branches:
            self.add_module(f"{prefix(branch)}_user_encoder", UserEncoder(config))
        self.id_encoder = nn.Embedding(item_num + 1, config.id_features, padding_idx=0)
        self.id_proj = nn.Linear(config.id_features, width)
        for name, dim in dims.items():
            self.add_module(f"{name}_proj", nn.Linear(dim, width))
        for branch in self.branches:
            self.add_module(f"{prefix(branch)}_dnns", branch_head(width))
        self.IMT = ItemTransformer(config)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Draws what the constructors of `module` drew from the default generator, in their order."""
    for child in module.children():
        _draw(child, generator)
    if isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, generator=generator)
    elif isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif isinstance(module, UserEncoder):
        module.initialise(generator)


def id_start(config: ModelConfig, firsts: Mapping[str, Tensor]) -> Tensor | None:
    """The ID table's first values from the first tokens [n_items + 1, d_m] of the modalities.

    The official code lets the table share the features' memory for `init` 2 and 3, so that training
    changes the first token too; a copy is taken here.

    Raises:
        ValueError: a modality that `ModelConfig.id_init` asks for is not among `firsts`.
    """
    if config.id_init == "xavier":
        return None
    wanted = ("text", "image") if config.id_init == "mean" else (config.id_init,)
    if absent := [name for name in wanted if name not in firsts]:
        raise ValueError(
            f"model.id_init={config.id_init} starts the IDs from {' and '.join(wanted)} features, "
            f"and there are none of {' and '.join(absent)}; use --set model.id_init=xavier"
        )
    return firsts[wanted[0]] if len(wanted) == 1 else (firsts["text"] + firsts["image"]) / 2


class Model(Parameters):
    """ODMT as published, generalised to any number of modalities.

    Args:
        config: the architecture.
        pop_prob_list: [n_items + 1] share of each item in the training interactions, [0] = 1.
        item_num: number of items; ids are 1..item_num, 0 is padding.
        features: modality -> frozen token features [n_items + 1, T_m, d_m]; "text", "image" first,
            where there are any.
        masks: modality -> [n_items + 1, T_m], 0 at padded tokens; absent = all tokens are real.
    """

    def __init__(
        self,
        config: ModelConfig,
        pop_prob_list: Tensor | Sequence[float],
        item_num: int,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(
            config,
            item_num,
            {name: tokens.shape[-1] for name, tokens in features.items()},
            id_start(config, {name: tokens[:, 0] for name, tokens in features.items()}),
        )
        # In fp32, as the official FloatTensor.
        self.log_p = torch.as_tensor(pop_prob_list).float().log()
        self.features = dict(features)
        masks = masks or {}
        self.masks = {
            name: masks.get(name, torch.ones(tokens.shape[:2], device=tokens.device))
            for name, tokens in features.items()
        }

    def encode_items(self, item_ids: Tensor) -> list[Tensor]:
        """Embeddings [n, d] of items [n] for every branch."""
        names = self.branches[1:]
        ids = self.id_proj(self.id_encoder(item_ids))
        dtype = self.id_proj.weight.dtype
        tokens = [
            self.get_submodule(f"{name}_proj")(self.features[name][item_ids].to(dtype))
            for name in names
        ]
        masks = [self.masks[name][item_ids] for name in names]
        outputs = self.IMT(ids, tokens, masks, asymmetric=self.config.mask == "asymmetric")
        return [
            self.get_submodule(f"{prefix(branch)}_dnns")(output)
            for branch, output in zip(self.branches, outputs, strict=True)
        ]

    def loss_terms(self, item_ids: Tensor, log_mask: Tensor) -> tuple[Tensor, Tensor]:
        """CE per branch [K] and KD per edge [K] (modality <- id, ..., id <- ensemble).

        Args:
            item_ids: int64 [B, S + 1], left-padded with 0; every slot is a column.
            log_mask: [B, S], nonzero at real inputs.
        """
        users, slots = item_ids.shape
        steps = slots - 1
        columns = item_ids.reshape(-1)
        embeddings = self.encode_items(columns)
        log_p = self.log_p.to(embeddings[0])[columns]
        valid = log_mask.reshape(-1) != 0
        padding = torch.cat([log_mask == 0, log_mask.new_zeros(users, 1) != 0], dim=1).reshape(-1)
        target = torch.arange(users * slots, device=columns.device).view(users, slots)[:, 1:]
        target = target.reshape(-1)
        # Columns whose item the user has anywhere in the sequence, the row's own target excepted.
        seen = (item_ids[:, :, None] == columns).any(1).repeat_interleave(steps, 0)
        seen.scatter_(1, target[:, None], False)
        logits = []
        for branch, e in zip(self.branches, embeddings, strict=True):
            encoder = self.get_submodule(f"{prefix(branch)}_user_encoder")
            states = encoder(e.view(users, slots, -1)[:, :-1], log_mask, e.device)
            z = states.reshape(users * steps, -1) @ e.t() - log_p
            z = z.masked_fill(padding, MASKED_LOGIT).masked_fill(seen, MASKED_LOGIT)
            logits.append(z[valid])
        target = target[valid]
        ce = torch.stack([F.cross_entropy(z, target) for z in logits])
        ensemble = torch.stack(logits).mean(0)
        tau = self.config.tau
        if len(logits) == 1:  # nobody to learn from
            return ce, ce[:0]
        kd = [distillation(z, logits[0], tau) for z in logits[1:]]
        kd.append(distillation(logits[0], ensemble, tau))
        return ce, torch.stack(kd)

    def forward(self, epoch: float, item_ids: Tensor, log_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The summed cross entropies and the weighted distillation (paper section 3.4)."""
        ce, kd = self.loss_terms(item_ids, log_mask)
        return ce.sum(), ramp_up(epoch, self.config.alpha) * kd.sum()
