"""Attention within segments: SDPA's backends, FlexAttention, xformers, the compiled reference.

The rivals get padded tensors as they like them, the mask as a bias in their dtype, and neither
padding nor unpadding nor the making of the mask is counted. Padded queries read the first key, so
that no softmax is empty. Who attends to packed tokens gets them packed: torch's nested tensors
(causal mask only), and xformers, by masks that are made before (`kernels.packed_attention`'s
backend makes them in every call).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.operators.case import CannotRun, Case, Run, Setting, Tensors, Variant, Work, leaf
from odmt_fast.kernels.packed_attention import packed_self_attention
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference

BACKENDS = {
    "SDPA efficient": SDPBackend.EFFICIENT_ATTENTION,
    "SDPA cuDNN": SDPBackend.CUDNN_ATTENTION,
    "SDPA flash": SDPBackend.FLASH_ATTENTION,
    "SDPA math": SDPBackend.MATH,
}
DROPOUT = 0.1
SEED = 7


def cases(setting: Setting) -> Iterator[Case]:
    """Items with the lengths of the official settings, with dropout too, then users."""
    lengths = setting.size(tiny=(3, 9), cpu=(57, 81), cuda=(57, 81))
    for items in setting.size(tiny=(4, 6), cpu=(64,), cuda=(722, 5000)):
        yield PackedAttention(setting, items, *lengths, "asymmetric")
    items = setting.size(tiny=4, cpu=64, cuda=722)
    yield PackedAttention(setting, items, *lengths, "asymmetric", DROPOUT)
    users = setting.size(tiny=(5, 2, 4), cpu=(3 * 64, 2, 12), cuda=(3 * 1024, 2, 12))
    yield PackedAttention(setting, *users, "causal")


@dataclass(frozen=True)
class PackedAttention(Case):
    """Random q, k, v of segments of uniform lengths."""

    operator = "packed_attention"
    segments: int
    shortest: int
    longest: int
    mask: str
    dropout: float = 0.0
    heads: int = 2

    @property
    def size(self) -> int:
        """Of a head."""
        return self.setting.size(tiny=16, cpu=384, cuda=384)

    @property
    def label(self) -> str:
        """Segments, heads, mask."""
        return (
            f"{self.segments:,} segments of {self.shortest}-{self.longest} tokens, "
            f"{self.heads} heads of {self.size}, {self.mask}, dropout {self.dropout}"
        )

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
        return self.setting.randn(*shape)

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

    @cached_property
    def bias(self) -> Tensor:
        """`allowed` as a summand of the scores."""
        forbidden = self.upstream.new_full((), float("-inf"))
        return torch.where(self.allowed, torch.zeros_like(forbidden), forbidden)

    @cached_property
    def seed(self) -> Tensor | None:
        """Of our dropout; None without."""
        return torch.tensor([SEED], device=self.lengths.device) if self.dropout else None

    @property
    def pairs(self) -> float:
        """Pairs of query and key that the mask allows, of all segments and one head."""
        n = self.lengths.double()
        each = {"symmetric": n**2, "causal": n * (n + 1) / 2, "asymmetric": (n - 1) ** 2 + n}
        return float(each[self.mask].sum())

    @property
    def work(self) -> Work:
        """Tensors moved once; 2 products of the allowed pairs forward, 5 backward."""
        product = 2.0 * self.pairs * self.heads * self.size
        return Work(7 * product, 11 * self.upstream.nbytes)

    @cached_property
    def padded_qkv(self) -> Tensors:
        """q, k, v [n, L, H, D]."""
        return tuple(self.padded(x) for x in self.fused.unbind(1))

    def variants(self) -> Iterator[Variant]:
        """The reference first."""
        reference = partial(self._packed, self._reference)
        yield Variant("reference, eager", reference)
        yield Variant("ours", self._ours)
        # On a CPU torch has one way worth taking, and takes it.
        backends = BACKENDS if self.setting.cuda else {"SDPA": None}
        for name, backend in backends.items():
            yield Variant(name, partial(self._heads_second, partial(self._sdpa, backend)))
        if self.mask == "causal" and (self.setting.cuda or self.setting.tiny):
            nested = partial(self._packed, self._nested, self._comparable(lambda x: x))
            yield Variant("SDPA, nested tensors", nested)
        if self.setting.cuda or self.setting.tiny:
            yield Variant("xformers", self._xformers)
            yield Variant("xformers, packed", self._xformers_packed)
            yield Variant("FlexAttention", self._flex, slow_start=True)
        yield from self.compiled("reference, torch.compile", self._packed, self._reference)

    def _comparable(self, view: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors] | None:
        # torch draws other random numbers: with dropout the results differ by design.
        return None if self.dropout else lambda results: tuple(view(x) for x in results)

    def _packed(
        self,
        function: Callable[..., Tensor],
        comparable: Callable[[Tensors], Tensors] | None = tuple,
    ) -> Run:
        leaves = leaf(*self.fused.unbind(1))
        return Run(lambda: function(*leaves), leaves, (self.upstream,), comparable)

    def _heads_second(self, function: Callable[..., Tensor]) -> Run:
        leaves = leaf(*(x.transpose(1, 2) for x in self.padded_qkv))
        upstream = self.padded(self.upstream).transpose(1, 2)
        comparable = self._comparable(lambda x: x.transpose(1, 2)[self.valid])
        return Run(lambda: function(*leaves), leaves, (upstream,), comparable)

    def _reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention_reference(
            q,
            k,
            v,
            cu_seqlens=self.cu_seqlens,
            max_seqlen=self.longest,
            mask=self.mask,
            scale=self.size**-0.5,
            dropout=self.dropout,
            seed=self.seed,
        )

    def _ours(self) -> Run:
        (fused,) = leaf(self.fused)

        def forward() -> Tensor:
            return packed_self_attention(
                fused,
                self.cu_seqlens,
                max_seqlen=self.longest,
                mask=self.mask,
                scale=self.size**-0.5,
                dropout=self.dropout,
                seed=self.seed,
            )

        def comparable(results: Tensors) -> Tensors:
            return (results[0], *results[1].unbind(1))

        return Run(forward, (fused,), (self.upstream,), comparable)

    def _sdpa(self, backend: SDPBackend | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with nullcontext() if backend is None else sdpa_kernel(backend):
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=self.bias, dropout_p=self.dropout
            )

    def _nested(self, *qkv: Tensor) -> Tensor:
        bounds = {"min_seqlen": self.shortest, "max_seqlen": self.longest}
        q, k, v = (
            torch.nested.nested_tensor_from_jagged(x, self.cu_seqlens, **bounds).transpose(1, 2)
            for x in qkv
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout)
        return out.transpose(1, 2).values()

    def _xformers(self) -> Run:
        try:
            from xformers.ops import memory_efficient_attention
        except ImportError as error:
            raise CannotRun(f"not installed ({error})") from None
        # Its kernels want rows of the bias that start at multiples of 8 elements.
        wide = -(-self.longest // 8) * 8
        bias = self.upstream.new_full((self.segments, 1, self.longest, wide), float("-inf"))
        bias[..., : self.longest] = self.bias
        bias = bias.expand(-1, self.heads, -1, -1)[..., : self.longest]
        leaves = leaf(*self.padded_qkv)
        attention = partial(memory_efficient_attention, attn_bias=bias, p=self.dropout)
        upstream, comparable = self.padded(self.upstream), self._comparable(lambda x: x[self.valid])
        return Run(lambda: attention(*leaves), leaves, (upstream,), comparable)

    def _xformers_packed(self) -> Run:
        try:
            from odmt_fast.kernels.packed_attention import by_xformers
        except ImportError as error:
            raise CannotRun(f"not installed ({error})") from None
        planned = by_xformers.calls(self.cu_seqlens, self.mask)
        attention = partial(
            by_xformers.memory_efficient_attention, p=self.dropout, scale=self.size**-0.5
        )
        return self._packed(
            lambda q, k, v: by_xformers.attend(q, k, v, planned, attention),
            self._comparable(lambda x: x),
        )

    def _flex(self) -> Run:
        if self.dropout:
            raise CannotRun("has no dropout")
        if not self.setting.cuda:
            raise CannotRun("has no backward outside of CUDA")
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def allows(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return readable(self.mask, self.lengths[b], i, j)

        blocks = create_block_mask(
            allows, self.segments, None, self.longest, self.longest, device=self.setting.device
        )
        attention = partial(
            torch.compile(flex_attention, dynamic=False),
            block_mask=blocks,
            # So few queries would go to its kernel for decoding, which is not made for training.
            kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
        )
        return self._heads_second(attention)


def readable(mask: str, length: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """May query i of a segment read key j? Queries past its end read the first key."""
    allowed = j < length
    if mask == "causal":
        allowed = allowed & (j <= i)
    if mask == "asymmetric":
        allowed = allowed & ((j < length - 1) | (i == length - 1))
    return allowed | ((i >= length) & (j == 0))
