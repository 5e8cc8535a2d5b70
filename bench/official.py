"""The official code's training step, from a clone named by ODMT_OFFICIAL.

Its ``model.model.Model`` is imported as published (it needs torch and numpy only; no stand-ins),
and the step is that of ``main.py::train``: batch to the device, zero_grad, autocast in the device's
default dtype (fp16 on CUDA), scaled backward, unscale, clip at 5, AdamW, the NaN test that waits
for the device. Left out, in its favour: DDP on one GPU, and the loader.
"""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.operators.case import CannotRun
from bench.workload import EPOCH, Workload

ENVIRONMENT_VARIABLE = "ODMT_OFFICIAL"
IMAGE_TOKENS = 50  # written into its forward


def code_folder(workload: Workload) -> str:
    """Where its modules are.

    Raises:
        CannotRun: no clone is named, or it cannot compute the workload.
    """
    clone = os.environ.get(ENVIRONMENT_VARIABLE)
    if not clone:
        raise CannotRun(f"no clone given by {ENVIRONMENT_VARIABLE}")
    if not Path(clone, "code", "model", "model.py").exists():
        raise CannotRun(f"{ENVIRONMENT_VARIABLE}={clone} has no code/model/model.py")
    if workload.image_tokens != IMAGE_TOKENS:
        raise CannotRun(
            f"its forward takes {IMAGE_TOKENS} image tokens, got {workload.image_tokens}"
        )
    return str(Path(clone, "code"))


def arguments(workload: Workload) -> Namespace:
    """Its command line at the workload's sizes (run_arts.py; random start of the IDs)."""
    return Namespace(
        embedding_dim=workload.width,
        id_embedding_dim=workload.width,
        text_embedding_dim=workload.width,
        image_embedding_dim=workload.width,
        max_seq_len=workload.steps,
        num_words_title=workload.text_tokens,
        item_tower="modal",
        ft_layer="trm",
        version="v1",
        init=0,
        merged_att_layers=workload.layers,
        num_attention_heads=2,
        transformer_block=2,
        drop_rate=workload.dropout,
        alpha=20,
        tau=0.3,
    )


def official_model(workload: Workload, device: torch.device) -> nn.Module:
    """Its Model on random features of the workload, which lie on the device as in its main.py."""
    code = code_folder(workload)
    sys.path.insert(0, code)
    try:
        module = importlib.import_module("model.model")
    finally:
        sys.path.remove(code)
    text, _, image = workload.features
    popularity = workload.popularity.tolist()
    torch.manual_seed(workload.seed)
    model: nn.Module = module.Model(
        arguments(workload), popularity, workload.used_items, text.to(device), image.to(device)
    )
    return model.to(device).train()


def official_step(workload: Workload, device: torch.device) -> Callable[[], Tensor]:
    """One step of its loop; returns the loss."""
    model = official_model(workload, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    item_ids, log_mask = workload.padded
    _, text_mask, _ = workload.features
    # Token ids, which its Model does not read, then their mask.
    masks = text_mask[item_ids].long()
    text = torch.cat([torch.zeros_like(masks), masks], dim=2)
    data = [item_ids, text, log_mask]
    if device.type == "cuda":
        data = [tensor.pin_memory() for tensor in data]

    def step() -> Tensor:
        sample_ids, sample_text, mask = (tensor.to(device) for tensor in data)
        sample_text = sample_text.view(-1, sample_text.shape[-1])
        sample_ids = sample_ids.view(-1)
        optimizer.zero_grad()
        with torch.autocast(device.type), _runs_on(device):
            ce, kl = model(EPOCH, sample_ids, sample_text, mask, device)
        loss = ce + kl
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=5, norm_type=2)
        scaler.step(optimizer)
        scaler.update()
        torch.isnan(ce.detach()).item()
        return loss.detach()

    return step


class _Reshape(TorchFunctionMode):
    """`view` copies where it must."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is Tensor.view:
            function = Tensor.reshape
        return function(*args, **(kwargs or {}))


def _runs_on(device: torch.device) -> AbstractContextManager[object]:
    """Nothing on CUDA. On a CPU its forward views a slice that only a copy to CUDA makes whole."""
    return nullcontext() if device.type == "cuda" else _Reshape()
