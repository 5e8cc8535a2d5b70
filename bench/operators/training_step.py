"""The training step on a GPU at the official settings: reference, tuned, compiled, ours, official.

From the batch's copy to the update. `bench.step` measures the step of a CPU, in processes of their
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice

import torch
from torch import Tensor, nn

from bench.baselines import Tuned
from bench.official import official_step
from bench.operators.case import Case, Run, Setting, Variant, Work
from bench.shop import Shop, endless
from bench.workload import EPOCH, Workload
from odmt_fast.batch import BatchLoader, Collator
from odmt_fast.config import TrainingConfig
from odmt_fast.studies.floor import needed_work
from odmt_fast.training.compiled import CompiledModel
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

CLIP = 5.0
USERS = (128, 512, 1024, 4096)
"""Of the batches on a GPU; the catalogue grows with them."""
TINY = Workload(users=4, width=32, steps=5, text_tokens=9, items=40)
TINY_SHOP = Shop(users=12, items=40, width=32, steps=5, text_tokens=9, image_tokens=3)


def cases(setting: Setting) -> Iterator[Case]:
    """Batches of short users beside rivals, then runs over a shop."""
    if setting.tiny:
        yield Step(setting, TINY)
        yield WholeShop(setting, TINY_SHOP, 4)
    elif setting.cuda:
        for users in USERS:
            yield Step(setting, Workload(users=users, items=max(5000, 20 * users)))
        shop = Shop()
        yield WholeShop(setting, shop, 128)
        yield WholeShop(setting, shop, 1024)


@dataclass(frozen=True)
class Step(Case):
    """One batch; every implementation has its own dropout."""

    operator = "training_step"
    workload: Workload

    @property
    def label(self) -> str:
        """Users; the rest is official."""
        return f"{self.workload.users:,} users, official settings"

    @cached_property
    def work(self) -> Work:
        """The needed FLOP of the batch."""
        batch = self.workload.packed_batch
        return Work(needed_work(self.workload.config, batch, batch.features).total, 0.0)

    def variants(self) -> Iterator[Variant]:
        """Ours first."""
        yield Variant("ours, bf16", partial(self._engine, "bf16"))
        if self.setting.cuda:
            yield Variant("ours, fp16", partial(self._engine, "fp16"))
        yield Variant("reference, bf16", partial(self._reference, "reference"))
        yield Variant("tuned reference, bf16", partial(self._reference, "tuned"))
        yield Variant("official code, fp16", self._official)
        compiled = partial(self._engine, "bf16", compiled=True)
        yield Variant("ours, torch.compile, bf16", compiled, slow_start=True)
        name = "tuned reference, torch.compile, bf16"
        yield Variant(name, partial(self._reference, "compiled"), slow_start=True)

    def _engine(self, precision: str, *, compiled: bool = False) -> Run:
        """Ours, by the classes that train; tokens are gathered on the device."""
        device = torch.device(self.setting.device)
        model = self.workload.engine().to(device)
        sources = [tokens.to(device) for tokens in self.workload.sources]
        optimizer = adamw(model, TrainingConfig(learning_rate=1e-4))
        scaled = MixedPrecision(precision, device)  # type: ignore[arg-type]
        # The benches' own test takes the backend that generates no code.
        backend = "eager" if self.setting.tiny else "inductor"
        called = CompiledModel(model, backend) if compiled else model
        step = TrainingStep(called, optimizer, scaled, CLIP)
        batch = self.workload.batch
        batch = batch.map(lambda x: x.pin_memory()) if self.setting.cuda else batch

        def run() -> Tensor:
            moved = batch.map(lambda x: x.to(device, non_blocking=True))
            features = tuple(tokens.gather(moved.items) for tokens in sources)
            terms, _ = step(moved.with_features(features), EPOCH)
            return terms["loss"].detach()

        return Run(run, comparable=None)

    def _reference(self, kind: str) -> Run:
        """The reference as it is, tuned (SDPA, no padded slots), or tuned and compiled."""
        device = torch.device(self.setting.device)
        reference = self.workload.reference().to(device)
        reference.log_p = reference.log_p.to(device)
        reference.features = {name: x.to(device) for name, x in reference.features.items()}
        reference.masks = {name: x.to(device) for name, x in reference.masks.items()}
        model: nn.Module = reference
        if kind != "reference":
            model = Tuned(reference, compiled=kind == "compiled" and not self.setting.tiny)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        data = [
            tensor.pin_memory() if self.setting.cuda else tensor for tensor in self.workload.padded
        ]

        def step() -> Tensor:
            item_ids, log_mask = (tensor.to(device, non_blocking=True) for tensor in data)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16):
                ce, kd = model(EPOCH, item_ids, log_mask)
            (ce + kd).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            return (ce + kd).detach()

        return Run(step, comparable=None)

    def _official(self) -> Run:
        step: Callable[[], Tensor] = official_step(self.workload, torch.device(self.setting.device))
        return Run(step, comparable=None)


@dataclass(frozen=True)
class WholeShop(Case):
    """What a run does: another batch every step, from the loader, of full-length users.

    The whole ID table gets a gradient and an update; tokens are read from where a run keeps them.
    """

    operator = "training_step"
    shop: Shop
    batch_size: int

    @property
    def label(self) -> str:
        """Users and catalogue; the rest is official."""
        return f"{self.batch_size:,} full-length users of {self.shop.items:,} items"

    @cached_property
    def _device(self) -> torch.device:
        return torch.device(self.setting.device)

    @cached_property
    def _collate(self) -> Collator:
        return self.shop.collator(self._device)

    @cached_property
    def work(self) -> Work:
        """The needed FLOP of a batch, mean of the first eight."""
        loader = BatchLoader(self._collate, batch_size=self.batch_size, seed=self.shop.seed)
        batches = list(islice(endless(loader), 8))
        config = self.shop.config.model
        flop = sum(needed_work(config, batch, batch.features).total for batch in batches)
        return Work(flop / len(batches), 0.0)

    def variants(self) -> Iterator[Variant]:
        """Ours."""
        yield Variant("ours, bf16", self._engine)

    def _engine(self) -> Run:
        model = self.shop.model().to(self._device)
        optimizer = adamw(model, self.shop.config.training)
        step = TrainingStep(model, optimizer, MixedPrecision("bf16", self._device), CLIP)
        coming = endless(self.shop.loader(self._collate, self.batch_size, self._device))

        def run() -> Tensor:
            terms, _ = step(next(coming), EPOCH)
            return terms["loss"].detach()

        return Run(run, comparable=None)
