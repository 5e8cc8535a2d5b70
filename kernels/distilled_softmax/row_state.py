"""The state of rows in the forward: tuples of vectors of BLOCK_M, moved from tile to tile.

State     (top [K + 1], sum [K], soft [K + 1], centre [E], cross [E], target [K]), see README.md;
          cross is summed around centre, the student's score at the teacher's top column
"""

import triton
import triton.language as tl

from odmt_fast.kernels.distilled_softmax.tile import LOWEST, exponentials, inv_tau_of, score_of


@triton.jit
def empty_rows(K: tl.constexpr, E: tl.constexpr, BLOCK_M: tl.constexpr):
    """(top, sum, soft, centre, cross, target) of rows that have seen no column."""
    zero = tl.zeros((BLOCK_M,), tl.float32)
    top, sums, soft, centre, cross, target = (), (), (), (), (), ()
    for _ in tl.static_range(K + 1):
        top = top + (zero + LOWEST,)
        soft = soft + (zero,)
    for _ in tl.static_range(K):
        sums = sums + (zero,)
        target = target + (zero,)
    for _ in tl.static_range(E):
        centre = centre + (zero,)
        cross = cross + (zero,)
    return top, sums, soft, centre, cross, target


@triton.jit
def rescaled(rows, top, centre, inv_tau, K: tl.constexpr, TEACHERS: tl.constexpr):
    """The sums of rows moved from their own tops to higher ones, the cross terms to centre."""
    old_top, old_sums, old_soft, old_centre, old_cross, target = rows
    sums, soft, cross = (), (), ()
    for t in tl.static_range(K + 1):
        soft = soft + (old_soft[t] * tl.exp((old_top[t] - top[t]) * inv_tau_of(inv_tau, t, K)),)
    for k in tl.static_range(K):
        sums = sums + (old_sums[k] * tl.exp(old_top[k] - top[k]),)
    for e in tl.static_range(len(TEACHERS)):
        risen = old_top[TEACHERS[e]] - top[TEACHERS[e]]
        scale = tl.exp(risen * inv_tau_of(inv_tau, TEACHERS[e], K))
        moved = old_cross[e] + old_soft[TEACHERS[e]] * (old_centre[e] - centre[e])
        cross = cross + (moved * scale,)
    return top, sums, soft, centre, cross, target


@triton.jit
def tops_with_tile(
    rows,
    z,
    b_w,
    K: tl.constexpr,
    SOFT: tl.constexpr,
    STUDENTS: tl.constexpr,
    TEACHERS: tl.constexpr,
):
    """Tops and centres after one more tile."""
    old_top, old_centre = rows[0], rows[3]
    top, centre = (), old_centre
    for t in tl.static_range(K + 1):
        if t < K or SOFT[t]:
            b_z = tl.where(b_w > 0.0, score_of(z, t, K), LOWEST)
            highest = tl.max(b_z, axis=1)
            top = top + (tl.maximum(old_top[t], highest),)
            new = ()
            for e in tl.static_range(len(STUDENTS)):
                if TEACHERS[e] == t:
                    at_top = tl.where(b_z >= highest[:, None], z[STUDENTS[e]], LOWEST)
                    there = tl.max(at_top, axis=1)
                    new = new + (tl.where(highest > old_top[t], there, centre[e]),)
                else:
                    new = new + (centre[e],)
            centre = new
        else:
            top = top + (old_top[t],)
    return top, centre


@triton.jit
def with_tile(
    rows,
    z,
    b_w,
    m_target,
    inv_tau,
    K: tl.constexpr,
    SOFT: tl.constexpr,
    STUDENTS: tl.constexpr,
    TEACHERS: tl.constexpr,
):
    """The rows after one more tile of scores z and weights b_w."""
    top, centre = tops_with_tile(rows, z, b_w, K, SOFT, STUDENTS, TEACHERS)
    _, old_sums, old_soft, _, cross, old_target = rescaled(rows, top, centre, inv_tau, K, TEACHERS)
    sums, soft, target = (), (), ()
    for t in tl.static_range(K + 1):
        if t < K:
            sums = sums + (old_sums[t] + tl.sum(exponentials(b_w, z[t], top[t], 1.0), axis=1),)
            target = target + (old_target[t] + tl.sum(tl.where(m_target, z[t], 0.0), axis=1),)
        if SOFT[t]:
            # One softened tile at a time: all of them together do not fit the registers.
            b_p = exponentials(b_w, score_of(z, t, K), top[t], inv_tau_of(inv_tau, t, K))
            soft = soft + (old_soft[t] + tl.sum(b_p, axis=1),)
            new = ()
            for e in tl.static_range(len(STUDENTS)):
                if TEACHERS[e] == t:
                    b_x = z[STUDENTS[e]] - centre[e][:, None]
                    new = new + (cross[e] + tl.sum(b_p * b_x, axis=1),)
                else:
                    new = new + (cross[e],)
            cross = new
        else:
            soft = soft + (old_soft[t],)
    return top, sums, soft, centre, cross, target


# Where the statistics of a row stand, in multiples of M: `spec.stats_width` has the order.
@triton.constexpr_function
def sum_place(k: int, branches: int) -> int:
    """Of branch k's sum; the tops come first."""
    return branches + 1 + k


@triton.constexpr_function
def soft_place(t: int, branches: int) -> int:
    """Of the softened sum of teacher t."""
    return 2 * branches + 1 + t


@triton.constexpr_function
def cross_place(student: int, teacher: int, branches: int) -> int:
    """Of the cross term of a pair."""
    return 3 * branches + 2 + teacher * branches + student


@triton.constexpr_function
def partial_width(branches: int, pairs: int) -> int:
    """fp32 values a share of a row leaves: top, sum, soft, centre, cross, target."""
    return 4 * branches + 2 + 2 * pairs


@triton.jit
def store_each(p_out, values, m_m, M, n: tl.constexpr):
    for i in tl.static_range(n):
        tl.store(p_out + i * M, values[i], mask=m_m)


@triton.jit
def load_each(p_in, m_m, M, other, n: tl.constexpr):
    values = ()
    for i in tl.static_range(n):
        values = values + (tl.load(p_in + i * M, mask=m_m, other=other),)
    return values


@triton.jit
def store_rows(p_out, rows, m_m, M, K: tl.constexpr, E: tl.constexpr):
    top, sums, soft, centre, cross, target = rows
    store_each(p_out, top, m_m, M, K + 1)
    store_each(p_out + (K + 1) * M, sums, m_m, M, K)
    store_each(p_out + (2 * K + 1) * M, soft, m_m, M, K + 1)
    store_each(p_out + (3 * K + 2) * M, centre, m_m, M, E)
    store_each(p_out + (3 * K + 2 + E) * M, cross, m_m, M, E)
    store_each(p_out + (3 * K + 2 + 2 * E) * M, target, m_m, M, K)


@triton.jit
def load_rows(p_in, m_m, M, K: tl.constexpr, E: tl.constexpr):
    return (
        load_each(p_in, m_m, M, 0.0, K + 1),
        load_each(p_in + (K + 1) * M, m_m, M, 1.0, K),
        load_each(p_in + (2 * K + 1) * M, m_m, M, 1.0, K + 1),
        load_each(p_in + (3 * K + 2) * M, m_m, M, 0.0, E),
        load_each(p_in + (3 * K + 2 + E) * M, m_m, M, 0.0, E),
        load_each(p_in + (3 * K + 2 + 2 * E) * M, m_m, M, 0.0, K),
    )


@triton.jit
def added(a, b, n: tl.constexpr):
    total = ()
    for i in tl.static_range(n):
        total = total + (a[i] + b[i],)
    return total


@triton.jit
def joined(a, b, inv_tau, K: tl.constexpr, TEACHERS: tl.constexpr):
    """The rows of two shares of the columns."""
    top, centre = (), ()
    for t in tl.static_range(K + 1):
        top = top + (tl.maximum(a[0][t], b[0][t]),)
    for e in tl.static_range(len(TEACHERS)):
        m_later = b[0][TEACHERS[e]] > a[0][TEACHERS[e]]
        centre = centre + (tl.where(m_later, b[3][e], a[3][e]),)
    a = rescaled(a, top, centre, inv_tau, K, TEACHERS)
    b = rescaled(b, top, centre, inv_tau, K, TEACHERS)
    return (
        top,
        added(a[1], b[1], K),
        added(a[2], b[2], K + 1),
        centre,
        added(a[4], b[4], len(TEACHERS)),
        added(a[5], b[5], K),
    )
