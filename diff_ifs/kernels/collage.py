"""The search for a single map whose image fills a gap.

Letters in shapes: C candidates, E trials, U and P pixels.
"""

import numpy as np

from diff_ifs.kernels.jit import exact, exact_part, turn_and_flip


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
