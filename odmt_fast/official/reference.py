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
from odmt_fast.models.initial import id_start
from odmt_fast.models.losses.distilled import ramp_up
from odmt_fast.official.modules import (
    MASKED_LOGIT,
    ItemTransformer,
    UserEncoder,
    branch_head,
)
from odmt_fast.official.state import prefix


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
