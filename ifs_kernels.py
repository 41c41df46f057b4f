"""The inner loops that everything waits for, compiled for the CPU by numba: splats, pictures, growth and mass.

Each has a twin in plain PyTorch, in `ifs_model`, `ifs_raster` and `ifs_collage`, which runs on GPUs and where numba is
missing. Arrays are NumPy's.

Letters in shapes: B systems, K outer words, M inner words, L letters of a word, S side of the picture, C cells or
candidates, n maps, P points, and Q their images that are kept. R + 1 numbers are half of what is symmetric, from its
middle on.
"""

import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import config, njit


BLOCK = 1024  # points that are worked on at once: they stay in the nearest cache
SHADES = 20  # steps that a point can lie further out in a cell than another
SLIVER, ALIKE = 0.125, 2.0**-6  # as in `ifs_cover`
CORES = config.NUMBA_NUM_THREADS  # threads that share tiles
PARTS = 4  # of the tiles, for each thread: some take longer than others
_options = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# As it is written, on every machine: what is chosen may hang on the last bit.
_exact, _exact_part = njit(**_options), njit(no_cpython_wrapper=True, **_options)  # parts are called by loops alone
# Kernels are loops over numbers: to copy arrays or to add two of them takes numba seconds to compile.
# Sums may be taken in any fixed order, so that they run in vectors; NaN and infinity keep their meaning.
_options["fastmath"] = {"reassoc", "contract"}
_compiled, _compiled_part = njit(**_options), njit(no_cpython_wrapper=True, **_options)


def _by_system(kernel, threads: int, *arrays) -> None:
    """Run a kernel on all systems, shared out among threads; each is one thread's, so that sums keep their order."""
    parts = min(threads, len(arrays[0]))
    if parts <= 1:
        kernel(*arrays)
        return
    cuts = [len(arrays[0]) * k // parts for k in range(parts + 1)]
    own, *others = ([array[low:high] for array in arrays] for low, high in itertools.pairwise(cuts))
    given = [_workers(threads, os.getpid()).submit(kernel, *chunk) for chunk in others]
    kernel(*own)
    for future in given:
        future.result()


def _by_tile(kernel, corners, counts, *words) -> list:
    """What a kernel returns for parts of the tiles and their words, which threads share: a list for each value."""
    tiles, ends = len(corners), np.append(0, counts.cumsum())
    parts = min(CORES * PARTS, tiles) if CORES > 1 else 1
    if parts <= 1:
        return [[value] for value in kernel(corners, counts, *words)]
    cuts = [tiles * k // parts for k in range(parts + 1)]

    def run(low: int, high: int):
        return kernel(corners[low:high], counts[low:high], *(array[ends[low] : ends[high]] for array in words))

    return list(zip(*_workers(CORES + 1, os.getpid()).map(run, cuts, cuts[1:]), strict=True))


@functools.cache
def _workers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call: new ones each time cost a step a fifth. A forked process needs its own."""
    return ThreadPoolExecutor(threads - 1)


# --- Words: the halves of all points, and what their weights and their centre have to do with the maps ---


def halves(maps, first, second, to, floor: float):
    """Outer words (B, K, 2, 3) as maps into the frame `to`, inner words (B, 2, M) as points, and the shares of both.

    maps: (B, n, 2, 3); first, second: words (B, K, L) and (B, M, L); floor: that of `ifs_model.area_weights`. All
    numbers are float64.
    """
    systems, outer_words, inner_words = len(maps), first.shape[1], second.shape[1]
    outer, inner = np.empty((systems, outer_words, 2, 3)), np.empty((systems, 2, inner_words))
    shares = np.empty((systems, outer_words)), np.empty((systems, inner_words))
    _halves(maps, first, second, to, floor, _words_room(first, second, maps), outer, inner, *shares)
    return outer, inner, *shares


def halves_gradient(maps, first, second, to, floor: float, outer_g, inner_g, outer_s, inner_s):
    """Gradient of `halves` for the maps, from those of what it returns."""
    gradient, room = np.zeros_like(maps), _words_room(first, second, maps)
    _halves_gradient(maps, first, second, to, floor, room, outer_g, inner_g, outer_s, inner_s, gradient)
    return gradient


def _words_room(first, second, maps):
    """Room for the maps and shares of the beginnings of words, the empty one first, and for weights and a mean map."""
    longest = max(first.shape[2], second.shape[2])
    prefixes = np.empty((longest + 1, 2, 3))
    prefixes[0] = np.eye(2, 3)
    return prefixes, np.ones(longest + 1), np.empty(maps.shape[1]), np.empty((2, 3))


def words_by_weight(weights, rounds: int):
    """Words (B, K, L), as those of `ifs_model.words_by_weight`, for weights (B, n) and that many replacements."""
    (systems, n), size = weights.shape, 1 + rounds * (weights.shape[1] - 1)
    # A tree of all words so far: what a word is without its last letter, this letter, and how many there are.
    parents, letters, lengths = np.zeros((3, systems, 1 + rounds * n), np.int64)
    heavy, leaves = np.zeros((systems, size), weights.dtype), np.zeros((systems, size), np.int64)
    heavy[:, 0] = 1
    _split(weights, rounds, parents, letters, lengths, heavy, leaves)
    words = np.full((systems, size, lengths.max()), n)
    _spell_out(parents, letters, lengths, leaves, words)
    return words


@_exact
def _split(weights, rounds, parents, letters, lengths, heavy, leaves):
    n = weights.shape[1]
    for b in range(len(weights)):
        for done in range(rounds):
            place, first = 0, 1 + done * (n - 1)
            for k in range(1, first):
                if heavy[b, k] > heavy[b, place]:
                    place = k
            weight, parent = heavy[b, place], leaves[b, place]
            for letter in range(n):  # child 0 takes the place of its parent, the others the next free places
                child = 1 + done * n + letter
                parents[b, child], letters[b, child], lengths[b, child] = parent, letter, lengths[b, parent] + 1
                k = place if letter == 0 else first + letter - 1
                heavy[b, k], leaves[b, k] = weight * weights[b, letter], child


@_exact
def _spell_out(parents, letters, lengths, leaves, words):
    for b in range(len(words)):
        for k in range(words.shape[1]):
            node = leaves[b, k]
            for i in range(lengths[b, node] - 1, -1, -1):
                words[b, k, i] = letters[b, node]
                node = parents[b, node]


@_compiled_part
def _compose(f, g, composed):
    """f∘g"""
    for i in range(2):
        for j in range(3):
            composed[i, j] = f[i, 0] * g[0, j] + f[i, 1] * g[1, j]
        composed[i, 2] += f[i, 2]


@_compiled_part
def _measure(maps, floor, weights, mean):
    """Finds weights (n,) and their mean of the maps (2, 3); returns the centroid and the sum of the maps' areas.

    They are what `area_weights` and `centroid` of `ifs_model` say.
    """
    total = 0.0
    for k in range(len(maps)):
        q, r = _turn_and_flip(maps[k])
        weights[k] = (q + r) * max(abs(q - r), floor * (q + r)) + 1e-9
        total += weights[k]
    mean[:] = 0
    for k in range(len(maps)):
        weights[k] /= total
        for i in range(2):
            for j in range(3):
                mean[i, j] += weights[k] * maps[k, i, j]
    x, y = _solved(mean, mean[0, 2], mean[1, 2])
    return x, y, total


@_compiled_part
def _turn_and_flip(map_):
    """|α| and |β| of A = (z -> α z + β z̄)."""
    (a, b), (c, d) = (map_[0, 0], map_[0, 1]), (map_[1, 0], map_[1, 1])
    return np.hypot(a + d, c - b) / 2, np.hypot(a - d, c + b) / 2


@_compiled_part
def _solved(map_, x, y):
    """The solution p of (1 - A) p = (x, y)."""
    a, b, c, d = map_[0, 0], map_[0, 1], map_[1, 0], map_[1, 1]
    determinant = (1 - a) * (1 - d) - b * c
    return ((1 - d) * x + b * y) / determinant, ((1 - a) * y + c * x) / determinant


@_compiled_part
def _spell(maps, weights, word, prefixes, shares):
    """The maps (L+1, 2, 3) and shares (L+1,) of a word's beginnings, the empty one first; the number of its letters."""
    for i in range(len(word)):
        if word[i] == len(maps):  # from here on it is padding
            return i
        _compose(prefixes[i], maps[word[i]], prefixes[i + 1])
        shares[i + 1] = shares[i] * weights[word[i]]
    return len(word)


@_compiled
def _halves(maps, first, second, to, floor, room, outer, inner, outer_shares, inner_shares):
    prefixes, shares, weights, mean = room
    for b in range(len(maps)):
        x, y, _ = _measure(maps[b], floor, weights, mean)
        for k in range(first.shape[1]):
            end = _spell(maps[b], weights, first[b, k], prefixes, shares)
            _compose(to, prefixes[end], outer[b, k])
            outer_shares[b, k] = shares[end]
        for m in range(second.shape[1]):
            end = _spell(maps[b], weights, second[b, m], prefixes, shares)
            for i in range(2):
                inner[b, i, m] = prefixes[end, i, 0] * x + prefixes[end, i, 1] * y + prefixes[end, i, 2]
            inner_shares[b, m] = shares[end]


@_compiled_part
def _spell_gradient(maps, weights, word, end, prefixes, shares, by_map, by_share, by_maps, by_weights):
    """Adds what a word's map and share have to do with its letters; `by_map` (2, 3) is used up."""
    for i in range(end - 1, -1, -1):
        f, g, by_letter = prefixes[i], maps[word[i]], by_maps[word[i]]
        by_weights[word[i]] += by_share * shares[i]
        by_share *= weights[word[i]]
        for j in range(3):
            by_letter[0, j] += f[0, 0] * by_map[0, j] + f[1, 0] * by_map[1, j]
            by_letter[1, j] += f[0, 1] * by_map[0, j] + f[1, 1] * by_map[1, j]
        for row in range(2):
            x, y, e = by_map[row, 0], by_map[row, 1], by_map[row, 2]
            by_map[row, 0] = x * g[0, 0] + y * g[0, 1] + e * g[0, 2]
            by_map[row, 1] = x * g[1, 0] + y * g[1, 1] + e * g[1, 2]


@_compiled
def _halves_gradient(maps, first, second, to, floor, room, outer_g, inner_g, outer_s, inner_s, gradient):
    prefixes, shares, weights, mean = room
    by_map, by_weights = np.empty((2, 3)), np.empty(len(weights))
    for b in range(len(maps)):
        x, y, total = _measure(maps[b], floor, weights, mean)
        by_x, by_y = 0.0, 0.0
        by_weights[:] = 0
        for k in range(first.shape[1]):
            end = _spell(maps[b], weights, first[b, k], prefixes, shares)
            for j in range(3):
                by_map[0, j] = to[0, 0] * outer_g[b, k, 0, j] + to[1, 0] * outer_g[b, k, 1, j]
                by_map[1, j] = to[0, 1] * outer_g[b, k, 0, j] + to[1, 1] * outer_g[b, k, 1, j]
            _spell_gradient(
                maps[b], weights, first[b, k], end, prefixes, shares, by_map, outer_s[b, k], gradient[b], by_weights
            )
        for m in range(second.shape[1]):
            end = _spell(maps[b], weights, second[b, m], prefixes, shares)
            for i in range(2):
                by_map[i, 0], by_map[i, 1], by_map[i, 2] = inner_g[b, i, m] * x, inner_g[b, i, m] * y, inner_g[b, i, m]
                by_x += inner_g[b, i, m] * prefixes[end, i, 0]
                by_y += inner_g[b, i, m] * prefixes[end, i, 1]
            _spell_gradient(
                maps[b], weights, second[b, m], end, prefixes, shares, by_map, inner_s[b, m], gradient[b], by_weights
            )
        # The centroid (x, y) solves (1 - A) (x, y) = t, with (A, t) the weighted mean of the maps. The gradient (p, q)
        # for t solves the same with A transposed.
        mean[0, 1], mean[1, 0] = mean[1, 0], mean[0, 1]
        p, q = _solved(mean, by_x, by_y)
        mean_weight = 0.0
        for k in range(len(maps[b])):
            f, by = maps[b, k], gradient[b, k]
            by_weights[k] += p * (f[0, 0] * x + f[0, 1] * y + f[0, 2]) + q * (f[1, 0] * x + f[1, 1] * y + f[1, 2])
            for i in range(2):
                pull = weights[k] * (q if i else p)
                by[i, 0] += pull * x
                by[i, 1] += pull * y
                by[i, 2] += pull
            mean_weight += by_weights[k] * weights[k]
        for k in range(len(maps[b])):
            _area_gradient(maps[b, k], floor, (by_weights[k] - mean_weight) / total, gradient[b, k])


@_compiled_part
def _area_gradient(map_, floor, by_area, gradient):
    """Adds the gradient of the area that `_measure` gives to a map."""
    q, r = _turn_and_flip(map_)
    large, small = q + r, abs(q - r)
    if small > floor * large:
        by_large, by_small = by_area * small, by_area * large * np.sign(q - r)
    else:
        by_large, by_small = by_area * 2 * floor * large, 0.0
    (a, b), (c, d) = (map_[0, 0], map_[0, 1]), (map_[1, 0], map_[1, 1])
    turn = (by_large + by_small) / (4 * q) if q > 0 else 0.0
    flip = (by_large - by_small) / (4 * r) if r > 0 else 0.0
    gradient[0, 0] += turn * (a + d) + flip * (a - d)
    gradient[1, 1] += turn * (a + d) - flip * (a - d)
    gradient[1, 0] += turn * (c - b) + flip * (c + b)
    gradient[0, 1] += flip * (c + b) - turn * (c - b)


# --- The splat ---


def splat(outer, inner, outer_shares, inner_shares, size: int, threads: int = 1):
    """Density (B, S, S) and excess (B,) of the points outer[k] inner[m].

    outer: (B, K, 2, 3) maps to pixel coordinates; inner: (B, 2, M) points; shares: (B, K) and (B, M), the factors of
    their weights. The excess is Σ w |p − q|₁ over all points p, with q the nearest place in the picture.
    """
    density = np.empty((len(outer), size, size), outer.dtype)
    excess = np.empty(len(outer), outer.dtype)
    _by_system(_splat, threads, outer, inner, outer_shares, inner_shares, density, excess)
    return density, excess


def splat_gradient(outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient, threads: int = 1):
    """Gradients of `splat` for outer, inner and both shares, from those of the density and the excess."""
    gradients = [np.zeros_like(array) for array in (outer, inner, outer_shares, inner_shares)]
    given = (outer, inner, outer_shares, inner_shares, density_gradient, excess_gradient)
    _by_system(_splat_gradient, threads, *given, *gradients)
    return gradients


@_compiled_part
def _place(outer, x, y, size, u, v, pixel, right, low):
    """Where the points (x, y) fall under one outer word.

    u, v: pixel coordinates; pixel: which one of a picture with two more on each side, to which points far outside are
    clamped; right, low: how far beyond its centre. Numbers have the type of x: others would halve the speed.
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


@_compiled
def _splat(outer, inner, outer_shares, inner_shares, density, excess):
    size, room = density.shape[1], min(inner.shape[2], BLOCK)
    real, side = outer.dtype.type, np.uint32(size + 4)
    u, v, pixel = np.empty(room, outer.dtype), np.empty(room, outer.dtype), np.empty(room, np.uint32)
    right, low = np.empty(room, outer.dtype), np.empty(room, outer.dtype)
    for b in range(len(outer)):
        picture, beyond, last = np.zeros((size + 4) * (size + 4), outer.dtype), 0.0, real(size - 1)
        for begin in range(0, inner.shape[2], BLOCK):
            x, y = inner[b, 0, begin : begin + BLOCK], inner[b, 1, begin : begin + BLOCK]
            shares = inner_shares[b, begin : begin + BLOCK]
            for k in range(outer.shape[1]):
                _place(outer[b, k], x, y, size, u, v, pixel, right, low)
                share, outside = outer_shares[b, k], real(0)
                for m in range(len(x)):
                    outside += shares[m] * (max(-u[m], u[m] - last, real(0)) + max(-v[m], v[m] - last, real(0)))
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


@_compiled
def _splat_gradient(outer, inner, outer_shares, inner_shares, density_g, excess_g, outer_g, inner_g, outer_s, inner_s):
    size, room = density_g.shape[1], min(inner.shape[2], BLOCK)
    real, side = outer.dtype.type, np.uint32(size + 4)
    u, v, pixel = np.empty(room, outer.dtype), np.empty(room, outer.dtype), np.empty(room, np.uint32)
    right, low = np.empty(room, outer.dtype), np.empty(room, outer.dtype)
    g00, g01 = np.empty(room, outer.dtype), np.empty(room, outer.dtype)
    g10, g11 = np.empty(room, outer.dtype), np.empty(room, outer.dtype)
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
            shares, by_shares = inner_shares[b, begin : begin + BLOCK], inner_s[b, begin : begin + BLOCK]
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
                ux, uy, u1, vx, vy, v1, by_share = real(0), real(0), real(0), real(0), real(0), real(0), real(0)
                for m in range(len(x)):
                    top, bottom = g01[m] - g00[m], g11[m] - g10[m]  # differences along u
                    left = g00[m] + top * right[m]
                    down = g10[m] + bottom * right[m] - left  # difference along v
                    by_weight, by_u, by_v = left + down * low[m], top + (bottom - top) * low[m], down
                    by_weight += pull * (max(-u[m], u[m] - last, real(0)) + max(-v[m], v[m] - last, real(0)))
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


# --- The picture ---


def convolve(pictures, discs, rows=None):
    """Pictures (B, S, S), zero all around, each with its own disc (B, 2 R + 1, 2 R + 1), symmetric in both axes.

    rows: the first one that is wanted, and the one after the last; others are zero.
    """
    reach = discs.shape[1] // 2
    quarters, found = discs[:, reach:, reach:].copy(), np.empty_like(pictures)
    quarters[:, 0] /= 2  # because the middle is added to itself, row and column
    quarters[:, :, 0] /= 2
    _convolve(pictures, quarters, rows or (0, pictures.shape[1]), found)
    return found


@_compiled
def _convolve(pictures, quarters, rows, found):
    size, reach = pictures.shape[1], quarters.shape[1] - 1
    line = np.zeros(size + 2 * reach, pictures.dtype)
    middle = line[reach:]
    for b in range(len(pictures)):
        for row in range(size):
            found[b, row] = 0
            if row < rows[0] or row >= rows[1]:
                continue
            for away in range(reach + 1):  # rows so far up and down share their part of the disc
                up, down, part = row - away, row + away, pictures.dtype.type(1)
                if up < 0 and down >= size:
                    break
                if up < 0 or down >= size:  # one of them, taken twice
                    up, down, part = down if up < 0 else up, up if up >= 0 else down, pictures.dtype.type(0.5)
                above, below = pictures[b, up], pictures[b, down]
                for c in range(size):
                    middle[c] = part * (above[c] + below[c])
                _add_shifted(line, reach, np.int64(1), quarters[b, away], found[b, row])


@_compiled_part
def _add_shifted(line, middle, step, taps, sums):
    """Adds Σ taps[k] (line[middle - k step + c] + line[middle + k step + c]) to sums[c]; three taps at a time."""
    zero, last = taps.dtype.type(0), len(taps) - 1
    for k in range(0, last + 1, 3):
        second, third = min(k + 1, last), min(k + 2, last)  # beyond the last tap are some of nothing
        t0, t1, t2 = taps[k], taps[second] if k < last else zero, taps[third] if k + 1 < last else zero
        if t0 == zero and t1 == zero and t2 == zero:
            continue
        a0, b0 = line[middle - k * step :], line[middle + k * step :]
        a1, b1 = line[middle - second * step :], line[middle + second * step :]
        a2, b2 = line[middle - third * step :], line[middle + third * step :]
        for c in range(len(sums)):
            sums[c] += t0 * (a0[c] + b0[c]) + t1 * (a1[c] + b1[c]) + t2 * (a2[c] + b2[c])


def picture_loss(density, taps, alphas, target, levels: int, held, wanted):
    """Losses (B,) as those of `ifs_model.picture_loss`, and their gradient for the density (B, S, S).

    taps: half of the blur's Gaussian, (R + 1,); alphas: (B,); target: (S, S); held: rows outside of which the density
    is zero, wanted: rows of the gradient, the others are zero; rows are as in `convolve`.
    """
    low, high = rows = _more(held, len(taps) - 1, len(target))
    bare = blur(density, taps, -alphas, rows)
    np.exp(bare[:, low:high], out=bare[:, low:high])  # 1 minus the coverage; NumPy's runs in vectors
    bare[:, :low] = bare[:, high:] = 1
    losses, errors = np.zeros_like(alphas), [(1 - target) - bare]
    while len(errors) <= levels and errors[-1].shape[1] >= 8:
        half = errors[-1].shape[1] // 2
        errors.append(np.empty((len(bare), half, half), bare.dtype))
        _pool(errors[-2], errors[-1])
    coarser = np.empty((len(bare), 0, 0), bare.dtype)
    for error in reversed(errors):
        _weigh(error, coarser, losses)
        coarser = error
    low, high = _more(wanted, len(taps) - 1, len(target))
    bare[:, low:high] *= errors[0][:, low:high]
    return losses, blur(bare, taps, alphas, wanted)


def _more(rows, more: int, size: int):
    """So many more rows on either side."""
    return max(rows[0] - more, 0), min(rows[1] + more, size)


def look_loss(density, discs, away, taps, alphas, target, levels: int):
    """Losses (B,) as those of `ifs_model.look_loss`, and their gradient for the density (B, S, S).

    discs: of the pens, (B, 2 R + 1, 2 R + 1), with R = 0 for none; away: what a stray point adds, (S, S). The gradient
    holds only in rows that hold something and next to them: no point is shared with a pixel elsewhere.
    """
    size, reach, held = len(target), discs.shape[1] // 2, _held(density)
    wanted, reached = _more(held, 1, size), _more(held, reach, size)
    drawn = convolve(density, discs, reached) if reach else density
    losses, gradient = picture_loss(drawn, taps, alphas, target, levels, reached, _more(wanted, reach, size))
    _add_stray(drawn, away, losses, gradient)
    return losses, convolve(gradient, discs, wanted) if reach else gradient


def words_loss(maps, first, second, to, floor: float, excess_pull: float, alphas, discs, look, threads: int):
    """Losses (B,) as those of `ifs_model.words_loss`, and their gradient for the maps.

    maps, first, second, to, floor: as in `halves`; alphas: (B,); discs: (B, 2 R + 1, 2 R + 1); look: away, taps, target
    and levels as in `look_loss`. Each thread takes as many systems at once as stay in the cache of a core.
    """
    away, taps, target, levels = look
    losses, gradient = np.empty_like(alphas), np.empty_like(maps)
    together = max(1, 2**16 // target.size)

    def work(maps, first, second, alphas, discs, losses, gradient) -> None:
        for low in range(0, len(maps), together):
            part = slice(low, low + together)
            words = maps[part], first[part], second[part], to, floor
            points = [half.astype(alphas.dtype) for half in halves(*words)]
            density, excess = splat(*points, len(target))
            loss, by_density = look_loss(density, discs[part], away, taps, alphas[part], target, levels)
            losses[part] = loss + excess * alphas.dtype.type(excess_pull)
            by_excess = np.full_like(excess, excess_pull)
            by_points = splat_gradient(*points, by_density, by_excess)
            gradient[part] = halves_gradient(*words, *(by.astype(maps.dtype) for by in by_points))

    _by_system(work, threads, maps, first, second, alphas, discs, losses, gradient)
    return losses, gradient


@_compiled
def _add_stray(density, away, losses, gradient):
    for b in range(len(density)):
        total = 0.0
        for row in range(density.shape[1]):
            here = density.dtype.type(0)
            for c in range(density.shape[2]):
                here += density[b, row, c] * away[row, c]
                gradient[b, row, c] += away[row, c]
            total += here
        losses[b] += total


def blur(pictures, taps, scales, rows=None):
    """Pictures (B, S, S) times scales (B,), blurred; taps: half of the Gaussian, (R + 1,); rows: as in `convolve`."""
    size, halved, blurred = pictures.shape[1], taps.copy(), np.empty_like(pictures)
    halved[0] /= 2  # because the middle is added to itself
    padded = size + 2 * (len(taps) - 1)
    room = np.zeros(padded, taps.dtype), np.zeros(padded * size, taps.dtype), np.empty_like(taps)
    _blur(pictures, halved, scales, rows or (0, size), room, blurred)
    return blurred


@_compiled
def _blur(pictures, taps, scales, rows, room, blurred):
    size, reach = pictures.shape[1], len(taps) - 1
    line, lines, scaled = room  # lines: blurred along the rows
    middle = line[reach:]
    for b in range(len(pictures)):
        for k in range(reach + 1):
            scaled[k] = scales[b] * taps[k]
        for row in range(max(rows[0] - reach, 0), min(rows[1] + reach, size)):
            for c in range(size):
                middle[c] = pictures[b, row, c]
            along = lines[(reach + row) * size : (reach + row + 1) * size]
            for c in range(size):
                along[c] = 0
            _add_shifted(line, reach, np.int64(1), taps, along)
        for row in range(size):
            blurred_row = blurred[b, row]
            for c in range(size):
                blurred_row[c] = 0
            if rows[0] <= row < rows[1]:
                _add_shifted(lines, (reach + row) * size, size, scaled, blurred_row)


def _held(pictures):
    """The first row that holds something in any of the pictures (B, S, S) >= 0, and the one after the last."""
    rows = np.flatnonzero(np.einsum("brc->r", pictures))  # twice as fast as the method `sum`
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


@_compiled
def _pool(fine, coarse):
    """Means over 2 × 2 pixels, which leave out the last row and column of an odd picture."""
    quarter = fine.dtype.type(0.25)
    for b in range(len(fine)):
        for row in range(coarse.shape[1]):
            up, down = fine[b, 2 * row], fine[b, 2 * row + 1]
            for c in range(coarse.shape[2]):
                coarse[b, row, c] = quarter * (up[2 * c] + up[2 * c + 1] + down[2 * c] + down[2 * c + 1])


@_compiled
def _weigh(error, coarser, losses):
    """Add mean squared errors to the losses; errors become the gradient for them, given that for the pooled errors."""
    pixels, real = error.shape[1] * error.shape[2], error.dtype.type
    quarter, scale = real(0.25), real(2.0 / pixels)
    for b in range(len(error)):
        squares = 0.0
        for row in range(error.shape[1]):
            here = real(0)
            for c in range(error.shape[2]):
                here += error[b, row, c] * error[b, row, c]
                error[b, row, c] *= scale
            squares += here
        losses[b] += squares / pixels
        for row in range(2 * coarser.shape[1]):
            line, above = error[b, row], coarser[b, row // 2]
            for c in range(coarser.shape[2]):
                line[2 * c] += quarter * above[c]
                line[2 * c + 1] += quarter * above[c]


def misfits(even, bare, trials):
    """Mean squares (T, B) of exp(-trial * even) - bare, for pictures (B, P), one bare picture (P,) and T trials.

    On one thread: PyTorch shares even this out, and then waits for a core that others may have.
    """
    found, left = np.empty((len(trials), len(even)), even.dtype), np.empty_like(even)
    for trial, row in zip(trials, found, strict=True):
        np.multiply(even, -trial, out=left)
        np.exp(left, out=left)
        left -= bare
        np.einsum("bp,bp->b", left, left, out=row)
    return found / even.shape[1]


# --- The optimiser ---


def descend(maps, gradient, first, second, k: int, rate: float, bound: float):
    """The maps (B, n, 2, 3) after the k-th step of Adam, projected to contractions; moves its moments, too."""
    moved = np.empty_like(maps)
    flat = (array.reshape(-1, 2, 3) for array in (maps, gradient, first, second, moved))
    _descend(*flat, 1 - 0.9**k, 1 - 0.99**k, rate, bound)
    return moved


@_compiled
def _descend(maps, gradient, first, second, moved, first_share, second_share, rate, bound):
    for p in range(len(maps)):
        for i in range(2):
            for j in range(3):
                g = gradient[p, i, j] if np.isfinite(gradient[p, i, j]) else 0.0
                g = min(max(g, -1e15), 1e15)  # its square is finite
                first[p, i, j] += 0.1 * (g - first[p, i, j])
                second[p, i, j] += 0.01 * (g * g - second[p, i, j])
                update = first[p, i, j] / first_share / (np.sqrt(second[p, i, j] / second_share) + 1e-8)
                moved[p, i, j] = maps[p, i, j] - rate * update
        q, r = _turn_and_flip(moved[p])
        if q + r > bound:  # clamp the singular values, as `ifs_model.contract` does
            larger, smaller = bound, min(max(q - r, -bound), bound)
            (a, b), (c, d) = (moved[p, 0, 0], moved[p, 0, 1]), (moved[p, 1, 0], moved[p, 1, 1])
            turn = (larger + smaller) / (4 * q) if q > 0 else 0.0
            flip = (larger - smaller) / (4 * r) if r > 0 else 0.0
            moved[p, 0, 0] = turn * (a + d) + flip * (a - d)
            moved[p, 1, 1] = turn * (a + d) - flip * (a - d)
            moved[p, 1, 0] = turn * (c - b) + flip * (c + b)
            moved[p, 0, 1] = flip * (c + b) - turn * (c - b)


# --- The collage ---


def climb(maps, left, pixels, away, middle, noise, cap: float, share: float, widest: float, finest: float):
    """Maps (C, 2, 3) and costs (C,) as those of `ifs_collage.Collage.climb`."""
    found, costs = maps.copy(), np.empty(len(maps))
    _climb(found, left, pixels, away, middle, noise, cap, share, widest, finest, np.empty((2, 3)), costs)
    return found, costs


@_exact
def _climb(maps, left, pixels, away, middle, noise, cap, share, widest, finest, tried, costs):
    for p in range(len(maps)):
        best, step = maps[p], 0.3
        costs[p] = _collage_cost(best, left, pixels, away, middle, cap, share)
        for trial in noise[p]:
            if step < finest:
                break
            size = step * (np.sqrt(abs(best[0, 0] * best[1, 1] - best[0, 1] * best[1, 0])) / 2 + 0.05)
            for i in range(2):
                for j in range(3):
                    tried[i, j] = best[i, j] + size * trial[i, j] * (0.5 if j == 2 else 1.0)
            q, r = _turn_and_flip(tried)
            for i in range(2):
                for j in range(2):
                    tried[i, j] *= min(1.0, widest / (q + r))
            cost = _collage_cost(tried, left, pixels, away, middle, cap, share)
            if cost < costs[p]:
                for i in range(2):
                    for j in range(3):
                        best[i, j] = tried[i, j]
                costs[p] = cost
                step *= 1.5
            else:
                step *= 0.93


@_exact_part
def _collage_cost(map_, left, pixels, away, middle, cap, share):
    a, b, e = map_[0, 0], map_[0, 1], map_[0, 2]
    c, d, f = map_[1, 0], map_[1, 1], map_[1, 2]
    determinant = a * d - b * c
    area = abs(determinant)
    if not area > 1e-5:
        return np.inf
    scale, stray, missed = np.sqrt(area), 0.0, 0.0
    for p in range(len(pixels)):
        x, y = pixels[p, 0], pixels[p, 1]
        stray += min(_distance(a * x + b * y + e, c * x + d * y + f, away, middle), cap) ** 2
    for p in range(len(left)):
        x, y = left[p, 0] - e, left[p, 1] - f
        before = _distance((d * x - b * y) / determinant, (a * y - c * x) / determinant, away, middle)
        missed += min(scale * before, cap) ** 2
    return area * stray / len(pixels) + share * missed / len(left)


@_exact_part
def _distance(x, y, away, middle):
    x, y, side = x + middle[0], y + middle[1], len(away)
    across, up = min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)
    column, row = min(int((1 + across) * side / 2), side - 1), min(int((1 - up) * side / 2), side - 1)
    beyond = (x - across) * (x - across) + (y - up) * (y - up)
    return away[row, column] + (np.sqrt(beyond) if beyond > 0 else 0.0)


# --- Pens ---


def pen_ious(taken, wanted, reach: int):
    """IoUs (reach² + 1,) of wanted pixels (S, S) with what pens draw around taken ones (2 S, 2 S): see `ifs_fit`."""
    along, near = np.empty(taken.shape, np.int32), np.empty((2, len(taken)), np.int32)
    hits, misses = np.zeros(reach * reach + 2, np.int64), np.zeros(reach * reach + 2, np.int64)
    _count_by_pen(taken, wanted, reach, along, near, hits, misses)
    return (hits.cumsum() / np.maximum(hits.sum() + misses.cumsum(), 1))[:-1]


@_exact
def _count_by_pen(taken, wanted, reach, along, near, hits, misses):
    """Counts pixels by the squared distance from taken ones, in sub-pixels, within which half of each lies."""
    side, far = len(taken), reach * reach + 1
    for row in range(side):
        gap = reach + 1
        for column in range(side):
            gap = 0 if taken[row, column] else min(gap + 1, reach + 1)
            along[row, column] = gap
        gap = reach + 1
        for column in range(side - 1, -1, -1):
            gap = min(gap + 1, along[row, column])
            along[row, column] = gap * gap
    for row in range(side):
        here = near[row % 2]
        for column in range(side):
            here[column] = far
        for other in range(max(0, row - reach), min(side, row + reach + 1)):
            step = (row - other) * (row - other)
            for column in range(side):
                here[column] = min(here[column], along[other, column] + step)
        if row % 2:
            for column in range(0, side, 2):
                a, b, c, d = near[0, column], near[0, column + 1], near[1, column], near[1, column + 1]
                half = min(max(min(a, b), min(c, d)), max(a, b), max(c, d))  # the second smallest
                if wanted[row // 2, column // 2]:
                    hits[half] += 1
                else:
                    misses[half] += 1


# --- Growth ---


def spread(maps, points, free, columns: int, outermost):
    """The images (2, Q) of points (2, P) under maps (n, 2, 3) that are the first in free cells, and origins (Q,).

    Coordinates are in units of cells; `free` (C,) holds rows of `columns` cells, and is updated. Points outside share
    the cells of the border. The origin of the image of point p under map k is k P + p.

    With `outermost` (C, 8) instead of (0, 8), images count in free cells and next to them, and only if they lie further
    out there than all before, in one of eight directions: see `ifs_raster.Cells.watch_rim`. It is updated, too.
    """
    most = max(256, 2 * points.shape[1])
    new, origins, k, found = np.empty((2, most)), np.empty(most, np.int64), 0, 0
    room = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    while True:
        k, found = _spread(maps, points, free, columns, outermost, room, k, new, origins, found)
        if k == len(maps):
            return new[:, :found].copy(), origins[:found].copy()
        new = np.concatenate([new, np.empty_like(new)], axis=1)
        origins = np.concatenate([origins, np.empty_like(origins)])


def flood(maps, points, free, columns: int, levels: int):
    """Points (2, P), and after them, level by level, what `spread` finds until nothing is new; where levels end."""
    found, most = points.shape[1], points.shape[1] + np.count_nonzero(free)
    new, origins, ends = np.empty((2, most)), np.empty(most, np.int64), np.empty(min(levels, most) + 1, np.int64)
    new[:, :found], ends[0] = points, found
    room = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.int64)
    ends = ends[: _flood(maps, free, columns, room, new, origins, ends)]
    return new[:, : ends[-1]].copy(), ends.tolist()


@_exact
def _flood(maps, free, columns, room, new, origins, ends):
    """Notes where each level ends, and says how many there are."""
    x, y, cells = room
    first, found, rows = 0, ends[0], len(free) // columns
    for level in range(1, len(ends)):
        last = found
        for k in range(len(maps)):
            for begin in range(first, last, BLOCK):
                across, up = new[0, begin : min(begin + BLOCK, last)], new[1, begin : min(begin + BLOCK, last)]
                _find_cells(maps[k], across, up, columns, rows, x, y, cells)
                found = _claim(x, y, cells, len(across), free, 0, new, origins, found)
        if found == last:
            return level
        first, ends[level] = last, found
    return len(ends)


@_exact
def _spread(maps, points, free, columns, outermost, room, first, new, origins, found):
    """Goes on from the first map to the next one for which there may be no room, and says where it stands."""
    x, y, cells = room
    count = points.shape[1]
    for k in range(first, len(maps)):
        if found + count > len(origins):
            return k, found
        for begin in range(0, count, BLOCK):
            across, up = points[0, begin : begin + BLOCK], points[1, begin : begin + BLOCK]
            _find_cells(maps[k], across, up, columns, len(free) // columns, x, y, cells)
            here = x, y, cells, len(across), free, k * count + begin, new, origins, found
            found = _exceed(columns, outermost, *here) if len(outermost) else _claim(*here)
    return len(maps), found


@_exact_part
def _find_cells(map_, across, up, columns, rows, x, y, cells):
    a, b, e = map_[0, 0], map_[0, 1], map_[0, 2]
    c, d, f = map_[1, 0], map_[1, 1], map_[1, 2]
    for p in range(len(across)):
        x[p] = a * across[p] + b * up[p] + e
        y[p] = c * across[p] + d * up[p] + f
        # Written so that not even NaN leaves the grid.
        column = np.int32(min(x[p], columns - 1.0) if x[p] > 0 else 0.0)
        row = np.int32(min(y[p], rows - 1.0) if y[p] > 0 else 0.0)
        cells[p] = np.int64(row) * columns + column


@_exact_part
def _claim(x, y, cells, count, free, origin, new, origins, found):
    """Take the cells that are still free, and note who did; how many are noted by now."""
    for p in range(count):
        if free[cells[p]]:
            free[cells[p]] = False
            new[0, found], new[1, found], origins[found] = x[p], y[p], origin + p
            found += 1
    return found


@_exact_part
def _exceed(columns, outermost, x, y, cells, count, free, origin, new, origins, found):
    """Take what is free, or lies further out on the rim; as `_claim`."""
    for p in range(count):
        if _on_rim(free, cells[p], columns) and _is_further(x[p], y[p], outermost[cells[p]], cells[p], columns):
            free[cells[p]] = False
            new[0, found], new[1, found], origins[found] = x[p], y[p], origin + p
            found += 1
    return found


@_exact_part
def _on_rim(free, cell, columns):
    if cell <= columns or cell + columns + 1 >= len(free):
        return True
    for middle in (cell, cell - columns, cell + columns):
        if free[middle - 1] or free[middle] or free[middle + 1]:
            return True
    return False


@_exact_part
def _is_further(x, y, outermost, cell, columns):
    u, v, further = min(max(x - cell % columns, 0.0), 1.0), min(max(y - cell // columns, 0.0), 1.0), False
    for k, way in enumerate((u, v, (u + v) / 2, (u - v + 1) / 2)):
        ahead, back = 1 + int(way * SHADES), 1 + int((1 - way) * SHADES)
        if ahead > outermost[2 * k]:
            outermost[2 * k], further = ahead, True
        if back > outermost[2 * k + 1]:
            outermost[2 * k + 1], further = back, True
    return further


def support(offset, low, high, left, least, radius: float, enough: float):
    """The support function (D,) of an attractor on a ring of directions, from above: see `ifs_raster.bounds`."""
    found = np.full(len(least), radius)
    _tighten(offset, low, high, left, least, enough, found, np.empty_like(found))
    return found


@_exact
def _tighten(offset, low, high, left, least, enough, found, tighter):
    count = len(found)
    for _ in range(100_000):
        change = 0.0
        for d in range(count):
            most = least[d]
            for k in range(len(offset)):
                there = left[k, d]
                most = max(most, offset[k, d] + low[k, d] * found[there] + high[k, d] * found[(there + 1) % count])
            tighter[d] = min(found[d], most)
            change = max(change, found[d] - tighter[d])
        if change <= enough:
            return
        for d in range(count):
            found[d] = tighter[d]


def descendants(maps, letters, parents, roots: int):
    """Points (2, P), each the image of its parent under the map of its letter; the first ones are fixed points."""
    points = np.empty((2, len(letters)), maps.dtype)
    _grow(maps, letters, parents, roots, points)
    return points


def descendants_gradient(maps, points, letters, parents, gradient, roots: int):
    """Gradient of `descendants` for the maps (n, 2, 3), from that of its points (2, P), which is used up."""
    by_maps = np.zeros(maps.shape)
    _grow_gradient(maps, points, letters, parents, roots, gradient, by_maps)
    return by_maps


def grown_loss(maps, letters, parents, roots, to, weight: float, alphas, discs, look, threads: int):
    """Losses (B,) as those of `ifs_model.grown_loss`, and their gradient for the maps (B, n, 2, 3).

    letters, parents, roots: lists of what `descendants` takes; to: (2, 3); alphas, discs, look: as in `words_loss`.
    """
    away, taps, target, levels = look
    losses, gradient = np.empty_like(alphas), np.empty_like(maps)

    def work(maps, letters, parents, roots, alphas, discs, losses, gradient) -> None:
        for b in range(len(maps)):
            points = descendants(maps[b], letters[b], parents[b], roots[b])
            shares = np.full((1, 1), weight, maps.dtype), np.ones((1, points.shape[1]), maps.dtype)
            places = to[None, None], points[None], *shares
            density, excess = splat(*places, len(target))
            part = slice(b, b + 1)
            losses[part], by_density = look_loss(density, discs[part], away, taps, alphas[part], target, levels)
            by_points = splat_gradient(*places, by_density, np.zeros_like(excess))[1][0]
            gradient[b] = descendants_gradient(maps[b], points, letters[b], parents[b], by_points, roots[b])

    _by_system(work, threads, maps, letters, parents, roots, alphas, discs, losses, gradient)
    return losses, gradient


@_compiled
def _grow(maps, letters, parents, roots, points):
    for p in range(roots):
        k = letters[p]
        points[0, p], points[1, p] = _solved(maps[k], maps[k, 0, 2], maps[k, 1, 2])
    for p in range(roots, len(letters)):
        k, parent = letters[p], parents[p]
        x, y = points[0, parent], points[1, parent]
        points[0, p] = maps[k, 0, 0] * x + maps[k, 0, 1] * y + maps[k, 0, 2]
        points[1, p] = maps[k, 1, 0] * x + maps[k, 1, 1] * y + maps[k, 1, 2]


@_compiled
def _grow_gradient(maps, points, letters, parents, roots, gradient, by_maps):
    for p in range(len(letters) - 1, -1, -1):
        k, parent, by_x, by_y = letters[p], parents[p], gradient[0, p], gradient[1, p]
        if p >= roots:
            gradient[0, parent] += maps[k, 0, 0] * by_x + maps[k, 1, 0] * by_y
            gradient[1, parent] += maps[k, 0, 1] * by_x + maps[k, 1, 1] * by_y
        else:  # a fixed point, which is its own parent
            parent = p
            by_x, by_y = _solved(maps[k, :, :2].T, by_x, by_y)
        x, y = points[0, parent], points[1, parent]
        by_maps[k, 0, 0] += by_x * x
        by_maps[k, 0, 1] += by_x * y
        by_maps[k, 0, 2] += by_x
        by_maps[k, 1, 0] += by_y * x
        by_maps[k, 1, 1] += by_y * y
        by_maps[k, 1, 2] += by_y


# --- Mass ---


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


@_compiled
def deposit(maps, shares, points, weights, picture):
    """Add the masses of the images of particles (2, P) and (P,) under maps (K, 2, 3) to the pixels of a picture (H, W).

    Map k carries on the part shares[k]. Pixel (row, column) is where row <= y < row + 1 and column <= x < column + 1;
    points outside fall on its border.
    """
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


@_exact
def mark(maps, points, left: float, top: float, picture):
    """Set the pixels of a picture (H, W) in which the images of points (2, P) under maps (K, 2, 3) lie.

    Pixel (row, column) is where row <= y + top < row + 1 and column <= x + left < column + 1; points outside fall on
    its border.
    """
    last_column, last_row = picture.shape[1] - 1.0, picture.shape[0] - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e + left
            y = c * points[0, p] + d * points[1, p] + f + top
            column = int(min(x, last_column)) if x > 0 else 0
            row = int(min(y, last_row)) if y > 0 else 0
            picture[row, column] = True


# --- Covers of a picture: words for each of its tiles, and the pixels that they draw ---


@_exact_part
def _stretch(w):
    """Half the sum and half the difference of the singular values of a map (2, 3)."""
    a, b, c, d = w[0, 0], w[0, 1], w[1, 0], w[1, 1]
    return math.sqrt((a + d) ** 2 + (c - b) ** 2) / 2, math.sqrt((a - d) ** 2 + (c + b) ** 2) / 2


@_exact_part
def _depth(w, x, y, half, frame, shapes, depths, nearest, extents):
    """`ifs_cover.depth` of one spot in the image under one map."""
    a, b, c, d = w[0, 0], w[0, 1], w[1, 0], w[1, 1]
    wide, high, cell, span = frame[2], frame[3], frame[6], frame[7]
    off_x, off_y = x - (a * frame[0] + b * frame[1] + w[0, 2]), y - (c * frame[0] + d * frame[1] + w[1, 2])
    if abs(off_x) > abs(a) * wide + abs(b) * high + half or abs(off_y) > abs(c) * wide + abs(d) * high + half:
        return -np.inf
    q, r = _stretch(w)
    large, small = q + r, abs(q - r)
    inside, u, v = False, 0.0, 0.0
    if small > SLIVER * large:
        area = a * d - b * c
        u, v = (d * off_x - b * off_y) / area, (a * off_y - c * off_x) / area
        beyond_u, beyond_v = half * (abs(d) + abs(b)) / abs(area), half * (abs(a) + abs(c)) / abs(area)
        if abs(u) > wide + beyond_u or abs(v) > high + beyond_v:
            return -np.inf
        inside = abs(u) <= wide and abs(v) <= high
    if not inside:
        turn = math.atan2(2 * (a * b + c * d), a * a + c * c - b * b - d * d) / 2
        p, s = math.cos(turn), math.sin(turn)
        image_x, image_y = a * p + b * s, c * p + d * s
        square = max(image_x * image_x + image_y * image_y, 1e-300)
        length = math.sqrt(square)
        normal_x, normal_y = -image_y / length, image_x / length
        along, across = image_x * off_x + image_y * off_y, normal_x * off_x + normal_y * off_y
        margin = half * (abs(image_x) + abs(image_y))
        way = int((turn / math.pi + 0.5) * len(extents)) % len(extents)
        if along - margin > extents[way, 1] * square or along + margin < extents[way, 0] * square:
            return -np.inf
        if abs(across) > half * (abs(normal_x) + abs(normal_y)) + (wide + high) * small:
            return -np.inf
        along = min(max(along / square, -span), span)
        across = min(max(across / max(small, 1e-300), -span), span)
        if a * d < b * c:
            across = -across
        u, v = p * along - s * across, s * along + p * across
    u, v = u + frame[0], v + frame[1]
    rows, columns = shapes[0, 1], shapes[0, 2]
    column = min(max(int((u - frame[4]) / cell), 0), columns - 1)
    row = min(max(int((v - frame[5]) / cell), 0), rows - 1)
    place = row * columns + column
    if depths[place] > 0:
        return depths[place] * small
    close_u, close_v = nearest[place, 0], nearest[place, 1]
    away = math.sqrt((close_u - u) ** 2 + (close_v - v) ** 2)
    if inside and (away - 3 * cell) * small > math.sqrt(2.0) * half:
        return -np.inf
    x, y = x - (a * close_u + b * close_v + w[0, 2]), y - (c * close_u + d * close_v + w[1, 2])
    return -math.sqrt(x * x + y * y)


@_exact_part
def _sort(keys, count, order, room):
    """Fill `order` with the indices of `count` keys, the least first, and ties as they come; by merging in `room`."""
    for k in range(count):
        order[k] = k
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle, high = min(low + width, count), min(low + 2 * width, count)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or keys[order[i]] <= keys[order[j]]):
                    room[k] = order[i]
                    i += 1
                else:
                    room[k] = order[j]
                    j += 1
        for k in range(count):
            order[k] = room[k]
        width *= 2


@_exact_part
def _best(keys, heights, words, count, beam, colours, covers, frame, chosen, order, room, ranks):
    """`ifs_cover.best` of one tile, of which keys and heights are minus scores and minus addresses.

    Fills `chosen`, sorting in `order`, `room` and `ranks`; returns how many there are, and what is due.
    """
    different = high = kept = 0
    _sort(keys, count, order, room)
    for k in range(count):
        now, before = order[k], order[k - 1]
        alike = k > 0 and keys[now] - keys[before] <= ALIKE
        if alike:
            for i in range(2):
                a, b = words[before, i, 0] - words[now, i, 0], words[before, i, 1] - words[now, i, 1]
                shift = a * frame[0] + b * frame[1] + (words[before, i, 2] - words[now, i, 2])
                alike &= abs(shift) + abs(a) * frame[2] + abs(b) * frame[3] <= ALIKE
        if not alike:
            chosen[different] = now
            different += 1
        elif heights[now] < heights[chosen[different - 1]]:
            chosen[different - 1] = now
    if colours == 0:
        return min(different, beam), int(different > beam)
    for k in range(count):
        ranks[k] = count
    for k in range(different):
        ranks[chosen[k]] = k
    _sort(heights, count, order, room)
    needed = different
    for k in range(count):
        if ranks[order[k]] < count:
            chosen[kept] = order[k]
            kept += 1
            if -keys[order[k]] >= covers:
                needed = min(needed, kept)
    deep = beam // 2 if needed > beam else 0
    kept = due = 0
    for k in range(different):
        now = chosen[k]
        if ranks[now] < deep or high < beam - deep:
            high += ranks[now] >= deep
            chosen[kept] = now
            kept += 1
        elif due == 0:
            due = math.ceil(-heights[now] * colours)
    return kept, due


def refine(corners, counts, words, lengths, digits, maps, letters, *how):
    """`ifs_cover.Cover.refined`: counts (T,), words (K, 2, 3), lengths (K,), digits (K, 2), dues (T,).

    corners (T, 2) and counts (T,): tiles and how many words each has; maps (n, 2, 3) and letters (n, 2); how: what is
    known of the chart, as `ifs_cover.depth` takes it, and size, limit, thin, width, beam, colours, recursion and
    how many words each tile may look at; the last one returned is how many all did.
    """

    def work(corners, counts, *words):
        beam, tiles = how[9], len(corners)
        room = max(beam * len(maps), int(counts.max(initial=0)))
        found, kept, out = (
            (np.empty((size, 2, 3)), np.empty(size, np.int64), np.empty((size, 2)))
            for size in (room, beam, tiles * beam)
        )
        out_counts, dues = np.zeros((2, tiles), np.int64)
        keys, indices = np.empty((3, room)), np.empty((4, room), np.int64)
        given = corners, counts, *words, maps, letters
        end, looked_at = _refine(*given, *how, *found, *kept, *out, *keys, *indices, out_counts, dues)
        return out_counts, *(array[:end] for array in out), dues, looked_at

    *found, looked_at = _by_tile(work, corners, counts, words, lengths, digits)
    return *map(np.concatenate, found), sum(looked_at)


@_exact
def _refine(
    corners,
    counts,
    words,
    lengths,
    digits,
    maps,
    letters,
    frame,
    shapes,
    depths,
    nearest,
    extents,
    size,
    limit,
    thin,
    width,
    beam,
    colours,
    recursion,
    allowed,
    found,
    found_lengths,
    found_digits,
    kept,
    kept_lengths,
    kept_digits,
    out,
    out_lengths,
    out_digits,
    keys,
    heights,
    kept_keys,
    chosen,
    order,
    spare,
    ranks,
    out_counts,
    dues,
):
    half, first, end, all_looked_at = size / 2, 0, 0, 0
    none = np.int64(0)  # what it is passed to would be compiled once for a plain 0, and once for other numbers
    for i in range(len(corners)):
        x, y, count = corners[i, 0] + half, corners[i, 1] + half, none
        for k in range(first, first + counts[i]):
            score = _depth(words[k], x, y, half, frame, shapes, depths, nearest, extents)
            if score > -np.inf:
                _copy(words, lengths, digits, k, found, found_lengths, found_digits, count)
                keys[count], heights[count] = -score, -(digits[k, 0] + digits[k, 1])
                count += 1
        first, looked_at = first + counts[i], counts[i]
        while True:
            rooms = chosen, order, spare, ranks
            number, more = _best(keys, heights, found, count, beam, colours, 2.0 * size, frame, *rooms)
            dues[i] = max(dues[i], more)
            coarse = 0
            for k in range(number):
                _copy(found, found_lengths, found_digits, chosen[k], kept, kept_lengths, kept_digits, k)
                kept_keys[k] = keys[chosen[k]]
                q, r = _stretch(kept[k])
                large = q + r > limit and abs(q - r) > thin
                coarse += (large or kept_digits[k, 0] > width) and kept_lengths[k] < recursion
            if coarse == 0 or looked_at > allowed:
                break
            looked_at, count = looked_at + coarse * len(maps), none
            for k in range(number):
                q, r = _stretch(kept[k])
                large = q + r > limit and abs(q - r) > thin
                if not (large or kept_digits[k, 0] > width) or kept_lengths[k] >= recursion:
                    _copy(kept, kept_lengths, kept_digits, k, found, found_lengths, found_digits, count)
                    keys[count], heights[count] = kept_keys[k], -(kept_digits[k, 0] + kept_digits[k, 1])
                    count += 1
                    continue
                for j in range(len(maps)):
                    child = found[count]
                    for row in range(2):
                        a, b = kept[k, row, 0], kept[k, row, 1]
                        for column in range(3):
                            child[row, column] = a * maps[j, 0, column] + b * maps[j, 1, column]
                        child[row, 2] += kept[k, row, 2]
                    score = _depth(child, x, y, half, frame, shapes, depths, nearest, extents)
                    if score > -np.inf:
                        found_lengths[count] = kept_lengths[k] + 1
                        found_digits[count, 0] = kept_digits[k, 0] * letters[j, 0]
                        found_digits[count, 1] = kept_digits[k, 1] + kept_digits[k, 0] * letters[j, 1]
                        keys[count], heights[count] = -score, -(found_digits[count, 0] + found_digits[count, 1])
                        count += 1
        for k in range(number):
            _copy(kept, kept_lengths, kept_digits, k, out, out_lengths, out_digits, end + k)
        out_counts[i], end, all_looked_at = number, end + number, all_looked_at + looked_at
    return end, all_looked_at


@_exact_part
def _copy(words, lengths, digits, k, to_words, to_lengths, to_digits, at):
    """Copy one word."""
    for i in range(2):
        for j in range(3):
            to_words[at, i, j] = words[k, i, j]
        to_digits[at, i] = digits[k, i]
    to_lengths[at] = lengths[k]


def trace(corners, counts, words, lengths, digits, *how):
    """`ifs_cover.Cover.traced`: draw the words of tiles in a picture (H, W); the least in each tile (T,).

    how: the chart's frame, shapes, index, points and levels; size, fine, recursion and colours; the picture.
    For each pixel, the cells of the chart are looked up that a word may take into it, until one has a point that it
    does. Words of a picture in colours come in the order of their addresses, the highest first.
    """
    parts = _by_tile(lambda *tiles: [_trace(*tiles, *how)], corners, counts, words, lengths, digits)
    return np.concatenate(*parts)


@_exact
def _trace(
    corners,
    counts,
    words,
    lengths,
    digits,
    frame,
    shapes,
    index,
    points,
    levels,
    size,
    fine,
    recursion,
    colours,
    picture,
):
    least, end = np.empty(len(corners), np.int64), 0
    for i in range(len(corners)):
        left, top = corners[i, 0], corners[i, 1]
        right, bottom = min(left + size, picture.shape[1]), min(top + size, picture.shape[0])
        empty = 0
        for y in range(top, bottom):
            for x in range(left, right):
                empty += picture[y, x] == 0
        first, end = end, end + counts[i]
        for k in range(first, end):
            if empty == 0 and colours == 0:
                break
            a, b, c, d = words[k, 0, 0], words[k, 0, 1], words[k, 1, 0], words[k, 1, 1]
            q, r = _stretch(words[k])
            coarser, large = 0, (q + r) * frame[6]
            while coarser < len(shapes) - 1 and large * (2 << coarser) <= fine:
                coarser += 1
            scale, deepest = frame[6] * (1 << coarser), recursion - lengths[k]
            offset, rows, columns = shapes[coarser, 0], shapes[coarser, 1], shapes[coarser, 2]
            e, f = a * frame[4] + b * frame[5] + words[k, 0, 2], c * frame[4] + d * frame[5] + words[k, 1, 2]
            to_x, to_y = (a * scale, b * scale), (c * scale, d * scale)  # from cells
            area = to_x[0] * to_y[1] - to_x[1] * to_y[0]
            flat = not abs(area) > 1e-9 * ((q + r) * scale) ** 2
            per_x, per_y = (0.0, 0.0) if flat else (-to_y[0] / area, to_x[0] / area)
            reach = (abs(per_x) + abs(per_y)) / 2
            highest = max(1, math.ceil((digits[k, 0] + digits[k, 1]) * colours))
            for y in range(top, bottom):
                for x in range(left, right):
                    if picture[y, x] >= highest:
                        continue
                    low, high = 0.0, float(rows)
                    if not flat:
                        v = per_x * (x + 0.5 - e) + per_y * (y + 0.5 - f)
                        low, high = max(low, v - reach), min(high, v + reach)
                    if flat or reach > columns / 64:  # a row of pixels may take in rows of cells that are not near
                        low, high = _between(x - e, to_x[1], to_x[0] * columns, low, high)
                        low, high = _between(y - f, to_y[1], to_y[0] * columns, low, high)
                    if not low <= high:
                        continue
                    colour = picture[y, x]
                    for row in range(int(low), min(int(high), rows - 1) + 1):
                        start, stop = _between(x - e - to_x[1] * row, to_x[0], to_x[1], 0.0, float(columns))
                        start, stop = _between(y - f - to_y[1] * row, to_y[0], to_y[1], start, stop)
                        if not start <= stop:
                            continue
                        for column in range(int(start), min(int(stop), columns - 1) + 1):
                            p = index[offset + row * columns + column]
                            if p < 0 or levels[p] > deepest:
                                continue
                            u = a * points[0, p] + b * points[1, p] + words[k, 0, 2]
                            v = c * points[0, p] + d * points[1, p] + words[k, 1, 2]
                            if x <= u < x + 1 and y <= v < y + 1:
                                address = digits[k, 1] + digits[k, 0] * points[2, p] if colours > 0 else 0.0
                                colour = max(colour, int(address * colours) + 1)
                                if colour >= highest:
                                    break
                        if colour >= highest:
                            break
                    empty -= picture[y, x] == 0 and colour > 0
                    picture[y, x] = colour
        least[i] = colours + 1
        for y in range(top, bottom):
            for x in range(left, right):
                least[i] = min(least[i], picture[y, x])
    return least


@_exact_part
def _between(edge, slope, other, first, last):
    """`ifs_cover.between` for one coordinate, of which the edges are one apart: narrows what lies between two ends."""
    low, high = edge - max(other, 0.0), edge + 1 - min(other, 0.0)
    if slope > 1e-12:
        return max(first, low / slope), min(last, high / slope)
    if slope < -1e-12:
        return max(first, high / slope), min(last, low / slope)
    return first, last if low <= 0 <= high else first - 1.0
