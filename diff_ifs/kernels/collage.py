"""Collages: gaps between images, the search for a single map whose image fills one, and the error
of a picture put together from its images, with its gradient.

Letters in shapes: C candidates, E trials, U and P pixels; B systems, n maps, S side of the picture.
"""

from functools import partial

import numpy as np

from diff_ifs.kernels.jit import CORES, by_system, exact, exact_part, turn_and_flip


def gap(maps, pixels, middle, side: int):
    """Which pixels (P,) no image falls into, of `side` a side, as `fit.collage.Collage.gap`."""
    met = np.zeros((side, side), np.bool_)
    missed = np.empty(len(pixels), np.bool_)
    _gap_loop(maps, pixels, middle, met, missed)
    return missed


@exact
def _gap_loop(maps, pixels, middle, met, missed):
    quarter, side = 0.5 / len(met), len(met)
    for k in range(len(maps)):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(len(pixels)):
            for shift in (-quarter, quarter):  # two a pixel leave no holes
                x, y = pixels[p, 0] + middle[0] + shift, pixels[p, 1] + middle[1] + shift
                u, v = a * x + b * y + e, c * x + d * y + f
                if abs(u) <= 1 and abs(v) <= 1:
                    met[_cell(u, v, side)] = True
    for p in range(len(pixels)):
        missed[p] = not met[_cell(pixels[p, 0] + middle[0], pixels[p, 1] + middle[1], side)]


@exact_part
def _cell(x, y, side):
    """Row and column of the pixel that holds a place in the picture."""
    return min(int((1 - y) * side / 2), side - 1), min(int((1 + x) * side / 2), side - 1)


def hill_climb(
    maps, left, pixels, away, middle, noise, cap: float, share: float, widest: float, finest: float
):
    """Maps (C, 2, 3) and costs (C,) as those of `fit.collage.Collage.climb`."""
    found, costs = maps.copy(), np.empty(len(maps))
    _hill_climb_loop(
        found,
        left,
        pixels,
        away,
        middle,
        noise,
        cap,
        share,
        widest,
        finest,
        np.empty((2, 3)),
        costs,
    )
    return found, costs


@exact
def _hill_climb_loop(
    maps, left, pixels, away, middle, noise, cap, share, widest, finest, tried, costs
):
    for p in range(len(maps)):
        best, step = maps[p], 0.3
        costs[p] = _collage_cost(best, left, pixels, away, middle, cap, share)
        for trial in noise[p]:
            if step < finest:
                break
            size = step * (
                np.sqrt(abs(best[0, 0] * best[1, 1] - best[0, 1] * best[1, 0])) / 2 + 0.05
            )
            for i in range(2):
                for j in range(3):
                    tried[i, j] = best[i, j] + size * trial[i, j] * (0.5 if j == 2 else 1.0)
            q, r = turn_and_flip(tried)
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


@exact_part
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
        before = _distance(
            (d * x - b * y) / determinant, (a * y - c * x) / determinant, away, middle
        )
        missed += min(scale * before, cap) ** 2
    return area * stray / len(pixels) + share * missed / len(left)


@exact_part
def _distance(x, y, away, middle):
    x, y, side = x + middle[0], y + middle[1], len(away)
    across, up = min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)
    row, column = _cell(across, up, side)
    beyond = (x - across) * (x - across) + (y - up) * (y - up)
    return away[row, column] + (np.sqrt(beyond) if beyond > 0 else 0.0)


def collage_errors(maps, picture):
    """The mean square (B,) by which the collages of maps (B, n, 2, 3) miss a picture (S, S), and
    its gradient, like maps.
    """
    errors, gradient = np.empty(len(maps)), np.zeros_like(maps)
    by_system(partial(_collage_errors_loop, picture), CORES, maps, errors, gradient)
    return errors, gradient


@exact
def _collage_errors_loop(picture, maps, errors, gradient):
    n, size, one = maps.shape[1], len(picture), np.uint32(1)
    half, last, flattest, share = size / 2, size - 1.001, 2 / size, -2 / size**2
    back, ends, bare = np.empty((n, 2, 2)), np.empty((n, 2), np.int64), np.empty(size)
    # of each map and column: what the map draws there, its slopes, and where that comes from
    drawn = np.empty((n, 5, size))
    for b in range(len(maps)):
        total = 0.0
        for i in range(n):
            _invert(maps[b, i], flattest, back[i])
        for row in range(size):
            bare[:] = 1.0
            for i in range(n):
                up = 1 - (row + 0.5) / half - maps[b, i, 1, 2]
                _find_ends(back[i], half * (1 + maps[b, i, 0, 2]), half * up, size, ends[i])
                first, end = ends[i]
                free, value, by_x, by_y = bare[first:end], drawn[i, 0], drawn[i, 1], drawn[i, 2]
                across_there, up_there = drawn[i, 3], drawn[i, 4]
                for m in range(len(free)):
                    right = (first + m + 0.5) / half - 1 - maps[b, i, 0, 2]
                    x = back[i, 0, 0] * right + back[i, 0, 1] * up
                    y = back[i, 1, 0] * right + back[i, 1, 1] * up
                    u, v, value[m] = (1 + x) * half - 0.5, (1 - y) * half - 0.5, 0.0
                    if u > 0 and v > 0 and u < last and v < last:
                        c, r = np.uint32(u), np.uint32(v)
                        across, down = u - c, v - r
                        left, low_left = picture[r, c], picture[r + one, c]
                        top = picture[r, c + one] - left
                        bottom = picture[r + one, c + one] - low_left
                        fall = low_left + bottom * across - left - top * across
                        value[m] = left + top * across + fall * down
                        by_x[m] = half * (top + (bottom - top) * down)
                        by_y[m] = -half * fall
                        across_there[m], up_there[m] = x, y
                        free[m] *= 1 - value[m]
            for column in range(size):
                missed = 1 - bare[column] - picture[row, column]
                total += missed * missed
            for i in range(n):
                first, end = ends[i]
                free, wanted, value = bare[first:end], picture[row, first:end], drawn[i, 0]
                by = gradient[b, i]
                for m in range(len(free)):
                    missed = 1 - free[m] - wanted[m]
                    if missed != 0 and value[m] > 0:
                        pull = share * missed * free[m] / max(1 - value[m], 1e-3)
                        for k in range(2):
                            back_up = (
                                drawn[i, 1, m] * back[i, 0, k] + drawn[i, 2, m] * back[i, 1, k]
                            )
                            by[k, 0] += pull * back_up * drawn[i, 3, m]
                            by[k, 1] += pull * back_up * drawn[i, 4, m]
                            by[k, 2] += pull * back_up
        errors[b] = total / size**2


@exact_part
def _find_ends(back, left, up, size, ends):
    """The first column of a row, and the one after the last, whose places, taken back, may lie in
    the picture: all that do, and a few beside them.

    left: column in which the image of the middle lies, and up: how high the row lies above it.
    """
    low, high = 0.0, 1.0 * size
    for k, sign in ((0, 1.0), (1, -1.0)):
        slope = sign * back[k, 0]
        at = (size - 1) / 2 + sign * (back[k, 1] * up) + slope * (0.5 - left)
        if abs(slope) > 1e-9:
            first, second = -at / slope, (size - 1 - at) / slope
            low, high = max(low, min(first, second) - 1), min(high, max(first, second) + 2)
    # written so that not even NaN leaves the picture
    ends[0] = int(low) if low < size else size
    ends[1] = int(high) if 0 < high <= size else 0


@exact_part
def _invert(map_, flattest, inverse):
    """The inverse of A, as if no singular value were less than `flattest`."""
    (a, b), (c, d) = (map_[0, 0], map_[0, 1]), (map_[1, 0], map_[1, 1])
    turn, flip = turn_and_flip(map_)
    large, small = max(turn + flip, flattest), max(abs(turn - flip), flattest)
    small = small if turn >= flip else -small
    p, q = (large + small) / 4 / max(turn, 1e-12), (large - small) / 4 / max(flip, 1e-12)
    e, f = p * (a + d) + q * (a - d), q * (b + c) - p * (c - b)
    g, h = q * (b + c) + p * (c - b), p * (a + d) - q * (a - d)
    determinant = e * h - f * g
    inverse[0, 0], inverse[0, 1] = h / determinant, -f / determinant
    inverse[1, 0], inverse[1, 1] = -g / determinant, e / determinant
