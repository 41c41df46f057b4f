"""The splat of outer words times inner words into densities, and its gradient.

Letters in shapes: B systems, K outer words, M inner words, S side of the picture.
"""

import numpy as np

from diff_ifs.kernels.jit import BLOCK, by_system, compiled, compiled_part


def splat(outer, inner, outer_shares, inner_shares, size: int, threads: int = 1):
    """Density (B, S, S) and excess (B,) of the points outer[k] inner[m].

    outer: (B, K, 2, 3) maps to pixel coordinates; inner: (B, 2, M) points; shares: (B, K) and (B,
    M), the factors of their weights. The excess is Σ w |p − q|₁ over all points p, with q the
    nearest place in the picture.
    """
    density = np.empty((len(outer), size, size), outer.dtype)
    excess = np.empty(len(outer), outer.dtype)
    by_system(_splat_loop, threads, outer, inner, outer_shares, inner_shares, density, excess)
    return density, excess


def splat_gradient(
    outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient, threads: int = 1
):
    """Gradients of `splat` for outer, inner and both shares, from those of the density and the
    excess.
    """
    gradients = [np.zeros_like(array) for array in (outer, inner, outer_shares, inner_shares)]
    given = (outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient)
    by_system(_splat_gradient_loop, threads, *given, *gradients)
    return gradients


@compiled_part
def _room(outer, inner):
    """Arrays for what `_place` finds of a block of points: u, v, pixel, right and low."""
    room, real = min(inner.shape[2], BLOCK), outer.dtype
    place = np.empty(room, real), np.empty(room, real), np.empty(room, np.uint32)
    return *place, np.empty(room, real), np.empty(room, real)


@compiled_part
def _place(outer, x, y, size, u, v, pixel, right, low):
    """Where the points (x, y) fall under one outer word.

    u, v: pixel coordinates; pixel: which one of a picture with two more on each side, to which
    points far outside are clamped; right, low: how far beyond its centre. Numbers have the type of
    x: others would halve the speed.
    """
    real = x.dtype.type
    a, b, e = outer[0, 0], outer[0, 1], outer[0, 2]
    c, d, f = outer[1, 0], outer[1, 1], outer[1, 2]
    for m in range(len(x)):
        u[m] = a * x[m] + b * y[m] + e
        v[m] = c * x[m] + d * y[m] + f
        # Written so that not even NaN leaves the picture.
        across = min(u[m], real(size)) + real(2) if u[m] > real(-2) else real(0)
        down = min(v[m], real(size)) + real(2) if v[m] > real(-2) else real(0)
        column, row = np.int32(across), np.int32(down)
        pixel[m] = row * np.int32(size + 4) + column
        right[m], low[m] = across - real(column), down - real(row)


@compiled
def _splat_loop(outer, inner, outer_shares, inner_shares, density, excess):
    size, real, side = density.shape[1], outer.dtype.type, np.uint32(density.shape[1] + 4)
    u, v, pixel, right, low = _room(outer, inner)
    for b in range(len(outer)):
        picture, beyond, last = np.zeros((size + 4) * (size + 4), outer.dtype), 0.0, real(size - 1)
        for begin in range(0, inner.shape[2], BLOCK):
            x, y = inner[b, 0, begin : begin + BLOCK], inner[b, 1, begin : begin + BLOCK]
            shares = inner_shares[b, begin : begin + BLOCK]
            for k in range(outer.shape[1]):
                _place(outer[b, k], x, y, size, u, v, pixel, right, low)
                share, outside = outer_shares[b, k], real(0)
                for m in range(len(x)):
                    outside += shares[m] * (
                        max(-u[m], u[m] - last, real(0)) + max(-v[m], v[m] - last, real(0))
                    )
                beyond += share * outside
                for m in range(len(x)):
                    weight = share * shares[m]
                    lower = weight * low[m]
                    upper = weight - lower
                    upper_right, lower_right = upper * right[m], lower * right[m]
                    above = pixel[m]
                    below = above + side
                    picture[above] += upper - upper_right
                    picture[above + np.uint32(1)] += upper_right
                    picture[below] += lower - lower_right
                    picture[below + np.uint32(1)] += lower_right
        excess[b] = beyond
        for row in range(size):
            inside = picture[(row + 2) * (size + 4) + 2 :]
            for column in range(size):
                density[b, row, column] = inside[column]


@compiled
def _splat_gradient_loop(
    outer,
    inner,
    outer_shares,
    inner_shares,
    density_g,
    excess_g,
    outer_g,
    inner_g,
    outer_s,
    inner_s,
):
    size, real, side = density_g.shape[1], outer.dtype.type, np.uint32(density_g.shape[1] + 4)
    u, v, pixel, right, low = _room(outer, inner)
    g00, g01, g10, g11 = np.empty_like(u), np.empty_like(u), np.empty_like(u), np.empty_like(u)
    picture = np.zeros((size + 4) * (size + 4), outer.dtype)
    for b in range(len(outer)):
        pull, last = excess_g[b], real(size - 1)
        for row in range(size):
            inside = picture[(row + 2) * (size + 4) + 2 :]
            for column in range(size):
                inside[column] = density_g[b, row, column]
        for begin in range(0, inner.shape[2], BLOCK):
            x, y = inner[b, 0, begin : begin + BLOCK], inner[b, 1, begin : begin + BLOCK]
            by_x, by_y = inner_g[b, 0, begin : begin + BLOCK], inner_g[b, 1, begin : begin + BLOCK]
            shares, by_shares = (
                inner_shares[b, begin : begin + BLOCK],
                inner_s[b, begin : begin + BLOCK],
            )
            for k in range(outer.shape[1]):
                _place(outer[b, k], x, y, size, u, v, pixel, right, low)
                for m in range(len(x)):
                    above = pixel[m]
                    below = above + side
                    g00[m], g01[m] = picture[above], picture[above + np.uint32(1)]
                    g10[m], g11[m] = picture[below], picture[below + np.uint32(1)]
                share, by = outer_shares[b, k], outer_g[b, k]
                u_by_x, u_by_y = outer[b, k, 0, 0] * share, outer[b, k, 0, 1] * share
                v_by_x, v_by_y = outer[b, k, 1, 0] * share, outer[b, k, 1, 1] * share
                ux = uy = u1 = vx = vy = v1 = by_share = real(0)
                for m in range(len(x)):
                    top, bottom = g01[m] - g00[m], g11[m] - g10[m]  # differences along u
                    left = g00[m] + top * right[m]
                    down = g10[m] + bottom * right[m] - left  # difference along v
                    by_weight, by_u, by_v = (
                        left + down * low[m],
                        top + (bottom - top) * low[m],
                        down,
                    )
                    by_weight += pull * (
                        max(-u[m], u[m] - last, real(0)) + max(-v[m], v[m] - last, real(0))
                    )
                    by_u += pull if u[m] > last else -pull if u[m] < real(0) else real(0)
                    by_v += pull if v[m] > last else -pull if v[m] < real(0) else real(0)
                    by_u, by_v = by_u * shares[m], by_v * shares[m]
                    ux += by_u * x[m]
                    uy += by_u * y[m]
                    u1 += by_u
                    vx += by_v * x[m]
                    vy += by_v * y[m]
                    v1 += by_v
                    by_share += by_weight * shares[m]
                    by_x[m] += u_by_x * by_u + v_by_x * by_v
                    by_y[m] += u_by_y * by_u + v_by_y * by_v
                    by_shares[m] += by_weight * share
                by[0, 0] += share * ux
                by[0, 1] += share * uy
                by[0, 2] += share * u1
                by[1, 0] += share * vx
                by[1, 1] += share * vy
                by[1, 2] += share * v1
                outer_s[b, k] += by_share
