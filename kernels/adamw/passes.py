"""Norm of all gradients; then clipping, AdamW and the narrow copy of the weights.

Tables    addresses [5, P] int64: weight, gradient, exp_avg, exp_avg_sq, copy; sizes [3, P] int64:
          elements, first chunk, group; owner [C] int32: tensor of a chunk
Memory    the norm reads the gradients; the update reads gradients, weights and both moments, and
          writes weights, moments and copies: 30 bytes an element with a copy of two bytes
Order     each program of the norm walks every PROGRAMS-th chunk and leaves one partial sum; one
          program adds them and works out the factors of every tensor in float64. No atomics: equal
          runs are equal bit for bit
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.adamw.configs import REVIEWED
from odmt_fast.kernels.adamw.tables import Layout
from odmt_fast.kernels.launch.device import device_of, on_device_of

FACTORS = 7  # of a tensor: see factors_kernel
_COPY_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def tensor_at(addresses_ptr, i, TYPE: tl.constexpr, ALIGNED: tl.constexpr):  # -> pointer
    """The tensor whose address is entry i of the table."""
    tensor_ptr = tl.load(addresses_ptr + i).to(tl.pointer_type(TYPE))
    if ALIGNED:
        tensor_ptr = tl.multiple_of(tensor_ptr, 16)
    return tensor_ptr


@triton.jit(do_not_specialize=["C", "P"])
def squares_kernel(
    addresses_ptr,
    sizes_ptr,
    owner_ptr,
    partial_ptr,  # fp32 [PROGRAMS]
    C,
    P,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i_program = tl.program_id(0)
    b_squares = tl.zeros([BLOCK], tl.float32)
    for i_chunk in range(i_program, C, tl.num_programs(0)):
        i_tensor = tl.load(owner_ptr + i_chunk)
        first = (i_chunk - tl.load(sizes_ptr + P + i_tensor)) * BLOCK
        left = tl.load(sizes_ptr + i_tensor) - first
        gradient_ptr = tensor_at(addresses_ptr, P + i_tensor, tl.float32, ALIGNED)
        left = tl.where(gradient_ptr.to(tl.int64) != 0, left, 0)
        if left >= BLOCK:
            b_gradient = tl.load(gradient_ptr + first + tl.arange(0, BLOCK))
        else:
            o = tl.arange(0, BLOCK)
            b_gradient = tl.load(gradient_ptr + first + o, mask=o < left, other=0.0)
        b_squares += b_gradient * b_gradient
    tl.store(partial_ptr + i_program, tl.sum(b_squares, axis=0))


@triton.jit
def power(b_base, b_exponent, BITS: tl.constexpr):  # -> float64
    """base ** exponent for whole exponents below 2 ** BITS, by squaring: no library takes part."""
    b_power = tl.full(b_base.shape, 1.0, tl.float64)
    for _ in range(BITS):
        b_power = tl.where((b_exponent & 1) != 0, b_power * b_base, b_power)
        b_base = b_base * b_base
        b_exponent = b_exponent >> 1
    return b_power


@triton.jit(do_not_specialize=["N", "P"])
def factors_kernel(
    addresses_ptr,
    sizes_ptr,
    partial_ptr,
    settings_ptr,  # fp64 [G, 5]
    found_inf_ptr,
    steps_ptr,  # fp32 [P]
    norm_ptr,  # fp32 [1]
    live_ptr,  # int64 [P], elements to update
    factors_ptr,  # fp32 [P, FACTORS]
    clip_norm,
    N,
    P,
    SCALED: tl.constexpr,
    FACTORS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    b_squares = tl.zeros([BLOCK], tl.float64)
    for i in range(0, N, BLOCK):
        o = i + tl.arange(0, BLOCK)
        b_squares += tl.load(partial_ptr + o, mask=o < N, other=0.0).to(tl.float64)
    norm = tl.sqrt(tl.sum(b_squares, axis=0))
    tl.store(norm_ptr, norm.to(tl.float32))
    clip = clip_norm / (norm + 1e-6)
    clip = tl.where(clip > 1.0, 1.0, clip)  # a NaN stays one, as in torch
    active = P
    if SCALED:
        active = tl.where(tl.load(found_inf_ptr) == 0.0, P, 0)
    for i in range(0, P, BLOCK_P):
        o_p = i + tl.arange(0, BLOCK_P)
        m_p = o_p < P
        m_active = tl.load(addresses_ptr + P + o_p, mask=o_p < active, other=0) != 0
        b_step = tl.load(steps_ptr + o_p, mask=m_p, other=0.0)
        b_step = tl.where(m_active, b_step + 1.0, b_step)
        tl.store(steps_ptr + o_p, b_step, mask=m_p)
        o_group = tl.load(sizes_ptr + 2 * P + o_p, mask=m_p, other=0) * 5
        b_lr = tl.load(settings_ptr + o_group)
        b_beta1 = tl.load(settings_ptr + o_group + 1)
        b_beta2 = tl.load(settings_ptr + o_group + 2)
        b_eps = tl.load(settings_ptr + o_group + 3)
        b_decay = tl.load(settings_ptr + o_group + 4)
        # A tensor that never had a step has no factors; nothing reads them.
        b_first = tl.where(b_step > 0.0, 1.0 - power(b_beta1, b_step.to(tl.int32), 31), 1.0)
        b_second = tl.where(b_step > 0.0, 1.0 - power(b_beta2, b_step.to(tl.int32), 31), 1.0)
        b_root = tl.sqrt(b_second)
        b_live = tl.load(sizes_ptr + o_p, mask=m_active, other=0)
        tl.store(live_ptr + o_p, b_live, mask=m_p)
        p_factors = factors_ptr + o_p * FACTORS
        tl.store(p_factors, tl.zeros_like(b_step) + clip.to(tl.float32), mask=m_p)
        tl.store(p_factors + 1, (1.0 - b_lr * b_decay).to(tl.float32), mask=m_p)
        tl.store(p_factors + 2, (1.0 - b_beta1).to(tl.float32), mask=m_p)
        tl.store(p_factors + 3, b_beta2.to(tl.float32), mask=m_p)
        tl.store(p_factors + 4, (1.0 - b_beta2).to(tl.float32), mask=m_p)
        # lr / first * m / (sqrt(v / second) + eps) = m * rate / (sqrt(v) + eps * root)
        tl.store(p_factors + 5, (b_lr / b_first * b_root).to(tl.float32), mask=m_p)
        tl.store(p_factors + 6, (b_eps * b_root).to(tl.float32), mask=m_p)


@triton.jit
def load_run(tensor_ptr, left, WHOLE: tl.constexpr, BLOCK: tl.constexpr):  # -> fp32 [BLOCK]
    o = tl.arange(0, BLOCK)
    if WHOLE:
        return tl.load(tensor_ptr + o)
    else:
        return tl.load(tensor_ptr + o, mask=o < left, other=0.0)


@triton.jit
def store_run(tensor_ptr, b_values, left, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    if WHOLE:
        tl.store(tensor_ptr + o, b_values)
    else:
        tl.store(tensor_ptr + o, b_values, mask=o < left)


@triton.jit
def update_run(
    weight_ptr,
    gradient_ptr,
    mean_ptr,
    square_ptr,
    copy_ptr,
    factors_ptr,
    left,
    copied,
    WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b_gradient = load_run(gradient_ptr, left, WHOLE, BLOCK)
    b_mean = load_run(mean_ptr, left, WHOLE, BLOCK)
    b_square = load_run(square_ptr, left, WHOLE, BLOCK)
    b_weight = load_run(weight_ptr, left, WHOLE, BLOCK)
    b_gradient *= tl.load(factors_ptr)
    b_mean += (b_gradient - b_mean) * tl.load(factors_ptr + 2)
    b_square *= tl.load(factors_ptr + 3)
    b_square += b_gradient * b_gradient * tl.load(factors_ptr + 4)
    b_root = tl.sqrt_rn(b_square) + tl.load(factors_ptr + 6)
    b_weight *= tl.load(factors_ptr + 1)
    b_weight -= b_mean * tl.load(factors_ptr + 5) / b_root
    store_run(mean_ptr, b_mean, left, WHOLE, BLOCK)
    store_run(square_ptr, b_square, left, WHOLE, BLOCK)
    store_run(weight_ptr, b_weight, left, WHOLE, BLOCK)
    if copied:
        store_run(copy_ptr, b_weight.to(copy_ptr.dtype.element_ty), left, WHOLE, BLOCK)


@triton.jit(do_not_specialize=["P"])
def update_kernel(
    addresses_ptr,
    sizes_ptr,
    owner_ptr,
    live_ptr,
    factors_ptr,
    P,
    COPY: tl.constexpr,
    ALIGNED: tl.constexpr,
    FACTORS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i_chunk = tl.program_id(0)
    i_tensor = tl.load(owner_ptr + i_chunk)
    first = (i_chunk - tl.load(sizes_ptr + P + i_tensor)) * BLOCK
    left = tl.load(live_ptr + i_tensor) - first
    weight = tensor_at(addresses_ptr, i_tensor, tl.float32, ALIGNED) + first
    gradient = tensor_at(addresses_ptr, P + i_tensor, tl.float32, ALIGNED) + first
    mean = tensor_at(addresses_ptr, 2 * P + i_tensor, tl.float32, ALIGNED) + first
    square = tensor_at(addresses_ptr, 3 * P + i_tensor, tl.float32, ALIGNED) + first
    copy = tensor_at(addresses_ptr, 4 * P + i_tensor, COPY, ALIGNED) + first
    copied = tl.load(addresses_ptr + 4 * P + i_tensor) != 0
    factors = factors_ptr + i_tensor * FACTORS
    if left >= BLOCK:  # without a mask loads and stores are 16 bytes wide
        update_run(weight, gradient, mean, square, copy, factors, left, copied, True, BLOCK)
    elif left > 0:
        update_run(weight, gradient, mean, square, copy, factors, left, copied, False, BLOCK)


def adamw_passes(
    addresses: torch.Tensor,
    aligned: bool,
    places: Layout,
    steps: torch.Tensor,
    settings: torch.Tensor,
    clip_norm: float,
    found_inf: torch.Tensor | None,
    copy: torch.dtype,
) -> torch.Tensor:
    """Launch on the tables, chunks of `REVIEWED.block` elements. Returns the norm, fp32 [].

    Args:
        aligned: whether every address is a multiple of 16.
        copy: dtype of the copies, if there are any.
    """
    tensors, chunks, config = steps.shape[0], places.owner.shape[0], REVIEWED
    programs = max(1, min(chunks, config.waves * device_of(steps).processors))
    partial, norm = steps.new_empty(programs), steps.new_empty(())
    live = steps.new_empty(tensors, dtype=torch.int64)
    factors = steps.new_empty(tensors, FACTORS)
    tile = {"BLOCK": config.block, "num_warps": config.num_warps}
    with on_device_of(steps):
        squares_kernel[(programs,)](
            addresses, places.sizes, places.owner, partial, chunks, tensors, ALIGNED=aligned, **tile
        )
        factors_kernel[(1,)](
            addresses,
            places.sizes,
            partial,
            settings,
            found_inf,
            steps,
            norm,
            live,
            factors,
            clip_norm,
            programs,
            tensors,
            SCALED=found_inf is not None,
            FACTORS=FACTORS,
            BLOCK=1024,
            BLOCK_P=64,
            num_warps=4,
        )
        if chunks:
            update_kernel[(chunks,)](
                addresses,
                places.sizes,
                places.owner,
                live,
                factors,
                tensors,
                COPY=_COPY_TYPES[copy],
                ALIGNED=aligned,
                FACTORS=FACTORS,
                **tile,
            )
    return norm
