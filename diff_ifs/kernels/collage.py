"""Collages: the search for a single map whose image fills a gap, and the error of a picture put
together from its images, with its gradient.

Letters in shapes: C candidates, E trials, U and P pixels; B systems, n maps, S side of the picture.
"""

from functools import partial

import numpy as np

from diff_ifs.kernels.jit import CORES, by_system, exact, exact_part, turn_and_flip


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
    column, row = (
        min(int((1 + across) * side / 2), side - 1),
        min(int((1 - up) * side / 2), side - 1),
    )
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
    n, size = maps.shape[1], len(picture)
    half, last, flattest = size / 2, size - 1.001, 2 / size
    back = np.empty((n, 2, 2))
    values, slopes, places = np.empty(n), np.empty((n, 2)), np.empty((n, 2))
    for b in range(len(maps)):
        total = 0.0
        for i in range(n):
            _invert(maps[b, i], flattest, back[i])
        for row in range(size):
            for column in range(size):
                bare = 1.0
                for i in range(n):
                    right = (column + 0.5) / half - 1 - maps[b, i, 0, 2]
                    up = 1 - (row + 0.5) / half - maps[b, i, 1, 2]
                    x = back[i, 0, 0] * right + back[i, 0, 1] * up
                    y = back[i, 1, 0] * right + back[i, 1, 1] * up
                    u, v, values[i] = (1 + x) * half - 0.5, (1 - y) * half - 0.5, 0.0
                    if u > 0 and v > 0 and u < last and v < last:
                        c, r = int(u), int(v)
                        across, down = u - c, v - r
                        top, left = picture[r, c + 1] - picture[r, c], picture[r, c]
                        bottom = picture[r + 1, c + 1] - picture[r + 1, c]
                        fall = picture[r + 1, c] + bottom * across - left - top * across
                        values[i] = left + top * across + fall * down
                        slopes[i, 0] = half * (top + (bottom - top) * down)
                        slopes[i, 1] = -half * fall
                        places[i, 0], places[i, 1] = x, y
                        bare *= 1 - values[i]
                missed = 1 - bare - picture[row, column]
                total += missed * missed
                if missed == 0:
                    continue
                for i in range(n):
                    if values[i] > 0:
                        pull = -2 * missed * bare / max(1 - values[i], 1e-3) / size**2
                        for k in range(2):
                            back_up = slopes[i, 0] * back[i, 0, k] + slopes[i, 1] * back[i, 1, k]
                            gradient[b, i, k, 0] += pull * back_up * places[i, 0]
                            gradient[b, i, k, 1] += pull * back_up * places[i, 1]
                            gradient[b, i, k, 2] += pull * back_up
        errors[b] = total / size**2


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
