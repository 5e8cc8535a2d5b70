"""Attention within segments: SDPA's backends, FlexAttention, xformers, the compiled reference.

The rivals get padded tensors as they like them, the mask as a bias in their dtype, and neither
padding nor unpadding nor the making of the mask is counted. Padded queries read the first key, so
that no softmax is empty. Where torch attends to packed tokens itself (nested tensors, causal mask
only) it gets them packed.
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
SEED = 7


def cases(setting: Setting) -> Iterator[Case]:
    """Items with the lengths of the official settings, with dropout too, then users."""
    heads, size = (2, 16) if setting.tiny else (2, 384)
    lengths = (3, 9) if setting.tiny else (57, 81)
    official, many = (4, 6) if setting.tiny else (722, 5000)
    items = partial(Problem, setting, heads=heads, size=size, mask="asymmetric")
    yield items(official, *lengths).case("items")
    yield items(many, *lengths).case("items")
    yield items(official, *lengths, dropout=DROPOUT).case("items")
    users, shortest, longest = (5, 2, 4) if setting.tiny else (3 * 1024, 2, 12)
    yield Problem(setting, users, shortest, longest, heads, size, "causal").case("users")


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
    dropout: float = 0.0

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

    @cached_property
    def bias(self) -> Tensor:
        """`allowed` as a summand of the scores, in bf16."""
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
        tensor = self.upstream.numel() * self.upstream.element_size()
        product = 2.0 * self.pairs * self.heads * self.size
        return Work((2 * product, 5 * product), (4 * tensor, 7 * tensor))

    def case(self, what: str) -> Case:
        """All variants."""
        label = (
            f"{self.segments:,} {what} of {self.shortest}-{self.longest} tokens, "
            f"{self.heads} heads of {self.size}, {self.mask}, dropout {self.dropout}, bf16"
        )
        return Case("packed_attention", label, self.work, self.variants())

    def variants(self) -> Iterator[Variant | Missing]:
        """The reference first, what compiles last."""
        reference = partial(
            packed_attention_reference,
            cu_seqlens=self.cu_seqlens,
            max_seqlen=self.longest,
            mask=self.mask,
            scale=self.size**-0.5,
            dropout=self.dropout,
            seed=self.seed,
        )
        qkv = self.fused.unbind(1)
        yield self._variant("reference, eager", reference, qkv, self.upstream)
        yield self._ours()
        leaf = tuple(self.padded(x).transpose(1, 2) for x in qkv)
        upstream = self.padded(self.upstream).transpose(1, 2)
        # torch draws other random numbers: with dropout the results differ by design.
        heads_second = None if self.dropout else self._unpadded(lambda x: x.transpose(1, 2))
        for name, backend in BACKENDS.items():
            sdpa = partial(self._sdpa, backend)
            yield self._variant(name, sdpa, leaf, upstream, heads_second)
        if self.mask == "causal":
            packed = None if self.dropout else tuple
            yield self._variant("SDPA, nested tensors", self._nested, qkv, self.upstream, packed)
        yield self._xformers(qkv)
        yield self._flex(leaf, upstream, heads_second)
        compiled = self.setting.compiled(reference)
        name = "reference, torch.compile"
        yield self._variant(name, compiled, qkv, self.upstream, slow_start=True)

    def _variant(
        self,
        name: str,
        function: Callable[..., Tensor],
        qkv: Tensors,
        upstream: Tensor,
        comparable: Callable[[Tensors], Tensors] | None = tuple,
        slow_start: bool = False,
    ) -> Variant:
        leaves = tuple(x.detach().clone().requires_grad_() for x in qkv)
        return Variant(
            name,
            lambda: function(*leaves),
            leaves,
            (upstream,),
            comparable,
            slow_start=slow_start,
        )

    def _unpadded(self, view: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
        return lambda results: tuple(view(x)[self.valid] for x in results)

    def _ours(self) -> Variant:
        fused = self.fused.clone().requires_grad_()
        return Variant(
            "ours",
            lambda: packed_self_attention(
                fused,
                self.cu_seqlens,
                max_seqlen=self.longest,
                mask=self.mask,
                scale=self.size**-0.5,
                dropout=self.dropout,
                seed=self.seed,
            ),
            (fused,),
            (self.upstream,),
            lambda results: (results[0], *results[1].unbind(1)),
        )

    def _sdpa(self, backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
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

    def _xformers(self, qkv: Tensors) -> Variant | Missing:
        try:
            from xformers.ops import memory_efficient_attention
        except ImportError as error:
            return Missing("xformers", f"not installed ({error})")
        # Its kernels want rows of the bias that start at multiples of 8 elements.
        wide = -(-self.longest // 8) * 8
        bias = self.upstream.new_full((self.segments, 1, self.longest, wide), float("-inf"))
        bias[..., : self.longest] = self.bias
        bias = bias.expand(-1, self.heads, -1, -1)[..., : self.longest]
        padded = tuple(self.padded(x) for x in qkv)
        attention = partial(memory_efficient_attention, attn_bias=bias, p=self.dropout)
        comparable = None if self.dropout else self._unpadded(lambda x: x)
        return self._variant("xformers", attention, padded, self.padded(self.upstream), comparable)

    def _flex(
        self, leaf: Tensors, upstream: Tensor, comparable: Callable[[Tensors], Tensors] | None
    ) -> Variant | Missing:
        if self.dropout:
            return Missing("FlexAttention", "has no dropout")
        if self.setting.device.type != "cuda":
            return Missing("FlexAttention", "has no backward outside of CUDA")
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def allows(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return readable(self.mask, self.lengths[b], i, j)

        blocks = create_block_mask(
            allows, self.segments, None, self.longest, self.longest, device=str(upstream.device)
        )
        attention = partial(
            self.setting.compiled(flex_attention),
            block_mask=blocks,
            # So few queries would go to its kernel for decoding, which is not made for training.
            kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
        )
        return self._variant(
            "FlexAttention", attention, leaf, upstream, comparable, slow_start=True
        )


def readable(mask: str, length: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """May query i of a segment read key j? Queries past its end read the first key."""
    allowed = j < length
    if mask == "causal":
        allowed = allowed & (j <= i)
    if mask == "asymmetric":
        allowed = allowed & ((j < length - 1) | (i == length - 1))
    return allowed | ((i >= length) & (j == 0))
