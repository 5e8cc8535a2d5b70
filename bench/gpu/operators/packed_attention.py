"""Attention within segments: SDPA's backends, FlexAttention, xformers, the compiled reference.

The rivals get padded tensors as they like them, and neither padding nor unpadding is counted.
Padded queries read the first key, so that no softmax is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.gpu.case import Case, Missing, Setting, Tensors, Variant, Work
from odmt_fast.kernels.packed_attention import packed_self_attention
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference

BACKENDS = {
    "SDPA efficient": SDPBackend.EFFICIENT_ATTENTION,
    "SDPA cuDNN": SDPBackend.CUDNN_ATTENTION,
    "SDPA flash": SDPBackend.FLASH_ATTENTION,
    "SDPA math": SDPBackend.MATH,
}
DROPOUT = 0.1


def cases(setting: Setting) -> Iterator[Case]:
    """Items with the lengths of the official settings, then users of all branches."""
    heads, size = (2, 16) if setting.tiny else (2, 384)
    items, shortest, longest = ((4,), 3, 9) if setting.tiny else ((722, 5000), 57, 81)
    for n in items:
        problem = Problem(setting, n, shortest, longest, heads, size, "id_aware")
        yield problem.case(f"{n:,} items of {shortest}-{longest} tokens")
    users, shortest, longest = (5, 2, 4) if setting.tiny else (3 * 1024, 2, 12)
    problem = Problem(setting, users, shortest, longest, heads, size, "causal")
    yield problem.case(f"{users:,} users of {shortest}-{longest} steps")


@dataclass(frozen=True)
class Problem:
    """Random q, k, v of segments of uniform lengths, in bf16."""

    setting: Setting
    segments: int
    shortest: int
    longest: int
    heads: int
    size: int
    mask: str

    @cached_property
    def lengths(self) -> Tensor:
        """int64 [n]."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.segments,)
        drawn = torch.randint(self.shortest, self.longest + 1, shape, generator=generator)
        drawn[0] = self.longest
        return drawn.to(self.setting.device)

    @cached_property
    def valid(self) -> Tensor:
        """bool [n, L], the tokens that are no padding."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """int32 [n + 1]."""
        return F.pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def fused(self) -> Tensor:
        """q, k, v [P, 3, H, D]."""
        torch.manual_seed(0)
        shape = (int(self.lengths.sum()), 3, self.heads, self.size)
        return torch.randn(shape, dtype=torch.bfloat16, device=self.lengths.device)

    @cached_property
    def upstream(self) -> Tensor:
        """Gradient of the output [P, H, D]."""
        return torch.randn_like(self.fused[:, 0])

    def padded(self, x: Tensor) -> Tensor:
        """[P, H, D] -> [n, L, H, D]."""
        out = x.new_zeros(self.segments, self.longest, self.heads, self.size)
        out[self.valid] = x
        return out

    @cached_property
    def allowed(self) -> Tensor:
        """bool [n, 1, L, L]: may query i read key j?"""
        n = self.lengths.view(-1, 1, 1, 1)
        i = torch.arange(self.longest, device=n.device).view(1, 1, -1, 1)
        return readable(self.mask, n, i, i.transpose(2, 3))

    @property
    def settings(self) -> dict[str, object]:
        """Arguments of the operator."""
        return {"max_seqlen": self.longest, "mask": self.mask, "scale": self.size**-0.5}

    @property
    def work(self) -> Work:
        """Tensors moved once; 2 products of the allowed pairs forward, 5 backward."""
        tensor = self.upstream.numel() * self.upstream.element_size()
        product = 2.0 * float((self.lengths**2).sum()) * self.heads * self.size
        return Work((2 * product, 5 * product), (4 * tensor, 7 * tensor))

    def case(self, label: str) -> Case:
        """All variants."""
        label = f"{label}, {self.heads} heads of {self.size}, {self.mask}, bf16"
        return Case("packed_attention", label, self.work, self.variants())

    def variants(self) -> Iterator[Variant | Missing]:
        """The reference first."""
        reference = partial(
            packed_attention_reference,
            cu_seqlens=self.cu_seqlens,
            max_seqlen=self.longest,
            mask=self.mask,
            scale=self.size**-0.5,
        )
        qkv = self.fused.unbind(1)
        yield self._variant("reference, eager", reference, qkv, self.upstream)
        yield self._ours("ours")
        yield self._ours(f"ours, dropout {DROPOUT}", DROPOUT)
        leaf = tuple(self.padded(x).transpose(1, 2) for x in qkv)
        upstream = self.padded(self.upstream).transpose(1, 2)
        heads_second = self._unpadded(lambda x: x.transpose(1, 2))
        for name, backend in BACKENDS.items():
            sdpa = partial(self._sdpa, backend, 0.0)
            yield self._variant(name, sdpa, leaf, upstream, heads_second)
        sdpa = partial(self._sdpa, SDPBackend.EFFICIENT_ATTENTION, DROPOUT)
        name = f"SDPA efficient, dropout {DROPOUT}"
        yield self._variant(name, sdpa, leaf, upstream, None)
        yield self._xformers(qkv)
        compiled = self.setting.compiled(reference)
        yield self._variant("reference, torch.compile", compiled, qkv, self.upstream)
        yield self._flex(leaf, upstream, heads_second)

    def _variant(
        self,
        name: str,
        function: Callable[..., Tensor],
        qkv: Tensors,
        upstream: Tensor,
        comparable: Callable[[Tensors], Tensors] | None = tuple,
    ) -> Variant:
        leaves = tuple(x.detach().clone().requires_grad_() for x in qkv)
        return Variant(name, lambda: function(*leaves), leaves, (upstream,), comparable)

    def _unpadded(self, view: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
        return lambda results: tuple(view(x)[self.valid] for x in results)

    def _ours(self, name: str, dropout: float = 0.0) -> Variant:
        fused = self.fused.clone().requires_grad_()
        seed = torch.tensor([7], device=fused.device) if dropout else None
        return Variant(
            name,
            lambda: packed_self_attention(
                fused, self.cu_seqlens, dropout=dropout, seed=seed, **self.settings
            ),
            (fused,),
            (self.upstream,),
            None if dropout else lambda results: (results[0], *results[1].unbind(1)),
        )

    def _sdpa(self, backend: SDPBackend, dropout: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=self.allowed, dropout_p=dropout
            )

    def _xformers(self, qkv: Tensors) -> Variant | Missing:
        try:
            from xformers.ops import memory_efficient_attention
        except ImportError as error:
            return Missing("xformers", f"not installed ({error})")
        # Its kernels want rows of the bias that start at multiples of 8 elements.
        wide = -(-self.longest // 8) * 8
        bias = self.upstream.new_full((self.segments, 1, self.longest, wide), float("-inf"))
        bias[..., : self.longest].masked_fill_(self.allowed, 0.0)
        bias = bias.expand(-1, self.heads, -1, -1)[..., : self.longest]
        padded = tuple(self.padded(x) for x in qkv)
        attention = partial(memory_efficient_attention, attn_bias=bias)
        upstream = self.padded(self.upstream)
        return self._variant("xformers", attention, padded, upstream, self._unpadded(lambda x: x))

    def _flex(
        self, leaf: Tensors, upstream: Tensor, comparable: Callable[[Tensors], Tensors]
    ) -> Variant | Missing:
        if self.setting.device.type != "cuda":
            return Missing("FlexAttention", "has no backward outside of CUDA")
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def allows(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return readable(self.mask, self.lengths[b], i, j)

        blocks = create_block_mask(
            allows, self.segments, None, self.longest, self.longest, device=str(upstream.device)
        )
        attention = partial(self.setting.compiled(flex_attention), block_mask=blocks)
        return self._variant("FlexAttention", attention, leaf, upstream, comparable)


def readable(mask: str, length: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """May query i of a segment read key j? Queries past its end read the first key."""
    allowed = j < length
    if mask == "causal":
        allowed = allowed & (j <= i)
    if mask == "id_aware":
        allowed = allowed & ((j < length - 1) | (i == length - 1))
    return allowed | ((i >= length) & (j == 0))
