"""The inner loops that everything waits for, compiled for the CPU by numba: splatting, growing, and adding up mass.

Each has a twin in plain PyTorch, in `ifs_model` and `ifs_raster`, which runs on GPUs and where numba is missing. Arrays
are NumPy's.

Letters in shapes: B systems, K outer words, M inner words, S side of the picture, C cells, n maps, P points.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, error_model="numpy")


def splat(outer, inner, outer_shares, inner_shares, size: int, threads: int):
    """Density (B, S+4, S+4), with two pixels of padding, and excess (B,) of the points outer[k] inner[m].

    outer: (B, K, 2, 3) maps to pixel coordinates; inner: (B, 2, M) points; shares: (B, K) and (B, M), the factors of
    their weights. The excess is Σ w |p − q|₁ over all points p, with q the nearest place in the picture.
    """
    density = np.zeros((len(outer), size + 4, size + 4), outer.dtype)
    excess = np.zeros(len(outer), outer.dtype)
    _by_system(_splat, threads, outer, inner, outer_shares, inner_shares, density, excess)
    return density, excess


def splat_gradient(outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient, threads: int):
    """Gradients of `splat` for outer, inner and both shares, from those of the density (padded) and the excess."""
    gradients = [np.zeros_like(array) for array in (outer, inner, outer_shares, inner_shares)]
    given = (outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient)
    _by_system(_splat_gradient, threads, *given, *gradients)
    return gradients


def _by_system(kernel, threads: int, *arrays) -> None:
    """Run a kernel on all systems, shared out among threads; each is one thread's, so that sums keep their order."""
    parts = min(threads, len(arrays[0]))
    if parts == 1:
        kernel(*arrays)
        return
    cuts = [len(arrays[0]) * k // parts for k in range(parts + 1)]
    chunks = [[array[low:high] for array in arrays] for low, high in itertools.pairwise(cuts)]
    list(_pool(threads, os.getpid()).map(lambda chunk: kernel(*chunk), chunks))


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call: new ones each time cost a step a fifth. A forked process needs its own."""
    return ThreadPoolExecutor(threads)


@_compiled
def _padded(u, size):
    """A coordinate clamped to the padded picture, counted from its edge; written so that not even NaN leaves it."""
    return min(u, size) + 2.0 if u > -2 else 0.0


@_compiled
def _splat(outer, inner, outer_shares, inner_shares, density, excess):
    size = density.shape[1] - 4
    for b in range(outer.shape[0]):
        picture, beyond = density[b], 0.0
        for k in range(outer.shape[1]):
            a, c, e = outer[b, k, 0, 0], outer[b, k, 0, 1], outer[b, k, 0, 2]
            d, f, g = outer[b, k, 1, 0], outer[b, k, 1, 1], outer[b, k, 1, 2]
            for m in range(inner.shape[2]):
                x, y = inner[b, 0, m], inner[b, 1, m]
                u, v = a * x + c * y + e, d * x + f * y + g
                weight = outer_shares[b, k] * inner_shares[b, m]
                beyond += weight * (max(-u, u - (size - 1), 0.0) + max(-v, v - (size - 1), 0.0))
                u, v = _padded(u, size), _padded(v, size)
                column, row = int(u), int(v)
                lower = weight * (v - row)
                upper = weight - lower
                upper_right, lower_right = upper * (u - column), lower * (u - column)
                picture[row, column] += upper - upper_right
                picture[row, column + 1] += upper_right
                picture[row + 1, column] += lower - lower_right
                picture[row + 1, column + 1] += lower_right
        excess[b] = beyond


@_compiled
def _splat_gradient(
    outer, inner, outer_shares, inner_shares, picture_grad, excess_grad, outer_g, inner_g, outer_s, inner_s
):
    size = picture_grad.shape[1] - 4
    for b in range(outer.shape[0]):
        picture, pull = picture_grad[b], excess_grad[b]
        for k in range(outer.shape[1]):
            a, c, e = outer[b, k, 0, 0], outer[b, k, 0, 1], outer[b, k, 0, 2]
            d, f, g = outer[b, k, 1, 0], outer[b, k, 1, 1], outer[b, k, 1, 2]
            share, sums, share_sum = outer_shares[b, k], np.zeros((2, 3)), 0.0
            for m in range(inner.shape[2]):
                x, y = inner[b, 0, m], inner[b, 1, m]
                u, v = a * x + c * y + e, d * x + f * y + g
                padded_u, padded_v = _padded(u, size), _padded(v, size)
                column, row = int(padded_u), int(padded_v)
                right, low = padded_u - column, padded_v - row
                g00, g01 = picture[row, column], picture[row, column + 1]
                g10, g11 = picture[row + 1, column], picture[row + 1, column + 1]
                top, bottom = g01 - g00, g11 - g10
                left = g00 + top * right
                down = g10 + bottom * right - left
                weight = share * inner_shares[b, m]
                by_u, by_v, by_weight = top + (bottom - top) * low, down, left + down * low
                if u < 0 or v < 0 or u > size - 1 or v > size - 1:
                    by_weight += pull * (max(-u, u - (size - 1), 0.0) + max(-v, v - (size - 1), 0.0))
                    by_u += pull * ((u > size - 1) - (u < 0))
                    by_v += pull * ((v > size - 1) - (v < 0))
                by_u, by_v = by_u * weight, by_v * weight
                sums[0, 0] += by_u * x
                sums[0, 1] += by_u * y
                sums[0, 2] += by_u
                sums[1, 0] += by_v * x
                sums[1, 1] += by_v * y
                sums[1, 2] += by_v
                share_sum += by_weight * inner_shares[b, m]
                inner_g[b, 0, m] += a * by_u + d * by_v
                inner_g[b, 1, m] += c * by_u + f * by_v
                inner_s[b, m] += by_weight * share
            outer_g[b, k] = sums
            outer_s[b, k] = share_sum


def spread(maps, points, free, columns: int):
    """The images (2, Q) of points (2, P) under maps (n, 2, 3) that are the first in free cells, and origins (Q,).

    Coordinates are in units of cells; `free` (C,) holds rows of `columns` cells, and is updated. Points outside share
    the cells of the border. The origin of the image of point p under map k is k P + p.
    """
    return _spread(maps, points, free, columns)


@_compiled
def _spread(maps, points, free, columns):
    last_column, last_row = columns - 1.0, len(free) // columns - 1.0
    found, room = 0, max(256, 2 * points.shape[1])
    new, origins = np.empty((2, room)), np.empty(room, np.int64)
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            column = int(min(x, last_column)) if x > 0 else 0  # written so that not even NaN leaves the grid
            row = int(min(y, last_row)) if y > 0 else 0
            cell = row * columns + column
            if free[cell]:
                free[cell] = False
                if found == room:
                    room *= 2
                    wider, longer = np.empty((2, room)), np.empty(room, np.int64)
                    wider[:, :found], longer[:found] = new, origins
                    new, origins = wider, longer
                new[0, found], new[1, found] = x, y
                origins[found] = k * points.shape[1] + p
                found += 1
    return new[:, :found].copy(), origins[:found].copy()


def merge(maps, shares, points, weights, rows: int, columns: int):
    """The images of particles (2, P) and (P,) under maps (n, 2, 3), merged in each cell: points (2, Q), weights (Q,).

    Map k carries on the part shares[k] of a particle's weight. All that falls into a cell becomes one particle at its
    centre of mass. Coordinates are in units of cells, of which there are rows × columns; points outside share the cells
    of the border.
    """
    sums = np.zeros((rows * columns, 3))
    return _merge(maps, shares, points, weights, sums, columns)


@_compiled
def _merge(maps, shares, points, weights, sums, columns):
    last_column, last_row = columns - 1.0, len(sums) // columns - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            mass = shares[k] * weights[p]
            column = int(min(x, last_column)) if x > 0 else 0  # written so that not even NaN leaves the grid
            row = int(min(y, last_row)) if y > 0 else 0
            cell = sums[row * columns + column]
            cell[0] += mass
            cell[1] += mass * x
            cell[2] += mass * y
    taken = 0
    for p in range(len(sums)):
        taken += sums[p, 0] > 0
    merged, masses, q = np.empty((2, taken)), np.empty(taken), 0
    for p in range(len(sums)):
        mass = sums[p, 0]
        if mass > 0:
            merged[0, q], merged[1, q], masses[q] = sums[p, 1] / mass, sums[p, 2] / mass, mass
            q += 1
    return merged, masses


def deposit(maps, shares, points, weights, picture) -> None:
    """Add the masses of the images of particles (2, P) and (P,) under maps (K, 2, 3) to the pixels of a picture (H, W).

    Map k carries on the part shares[k]. Pixel (row, column) is where row <= y < row + 1 and column <= x < column + 1;
    points outside fall on its border.
    """
    _deposit(maps, shares, points, weights, picture)


@_compiled
def _deposit(maps, shares, points, weights, picture):
    last_column, last_row = picture.shape[1] - 1.0, picture.shape[0] - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            column = int(min(x, last_column)) if x > 0 else 0
            row = int(min(y, last_row)) if y > 0 else 0
            picture[row, column] += shares[k] * weights[p]


def descendants(maps, roots, letters, parents):
    """Points (2, P), each the image of its parent under the map of its letter; the first ones are the roots (2, R)."""
    points = np.empty((2, len(letters)), maps.dtype)
    points[:, : roots.shape[1]] = roots
    _descend(maps, letters, parents, roots.shape[1], points)
    return points


def descendants_gradient(maps, points, letters, parents, gradient, roots: int):
    """Gradients of `descendants` for the maps (n, 2, 3) and the roots (2, R), from that of its points (2, P)."""
    gradient, by_maps = gradient.copy(), np.zeros(maps.shape)
    _ascend(maps, points, letters, parents, roots, gradient, by_maps)
    return by_maps.astype(maps.dtype), gradient[:, :roots]


@_compiled
def _descend(maps, letters, parents, roots, points):
    for p in range(roots, len(letters)):
        k, parent = letters[p], parents[p]
        x, y = points[0, parent], points[1, parent]
        points[0, p] = maps[k, 0, 0] * x + maps[k, 0, 1] * y + maps[k, 0, 2]
        points[1, p] = maps[k, 1, 0] * x + maps[k, 1, 1] * y + maps[k, 1, 2]


@_compiled
def _ascend(maps, points, letters, parents, roots, gradient, by_maps):
    for p in range(len(letters) - 1, roots - 1, -1):
        k, parent = letters[p], parents[p]
        x, y, by_x, by_y = points[0, parent], points[1, parent], gradient[0, p], gradient[1, p]
        by_maps[k, 0, 0] += by_x * x
        by_maps[k, 0, 1] += by_x * y
        by_maps[k, 0, 2] += by_x
        by_maps[k, 1, 0] += by_y * x
        by_maps[k, 1, 1] += by_y * y
        by_maps[k, 1, 2] += by_y
        gradient[0, parent] += maps[k, 0, 0] * by_x + maps[k, 1, 0] * by_y
        gradient[1, parent] += maps[k, 0, 1] * by_x + maps[k, 1, 1] * by_y
