"""Losses of systems with their gradients, and the step of Adam.

Letters in shapes: B systems, n maps, P points, S side of the picture.
"""

import numpy as np

from diff_ifs.kernels.jit import by_system, compiled, solved, turn_and_flip
from diff_ifs.kernels.picture import look_loss
from diff_ifs.kernels.splat import splat, splat_gradient
from diff_ifs.kernels.words import outer_and_inner_words, outer_and_inner_words_gradient


def word_loss(
    maps, first, second, to, floor: float, excess_pull: float, alphas, discs, look, threads: int
):
    """Losses (B,) as those of `ifs_model.word_loss`, and their gradient for the maps.

    maps, first, second, to, floor: as in `outer_and_inner_words`; alphas: (B,); discs: (B, 2 R + 1,
    2 R + 1); look: away, taps, target and levels as in `look_loss`. Each thread takes as many
    systems at once as stay in the cache of a core.
    """
    away, taps, target, levels = look
    losses, gradient = np.empty_like(alphas), np.empty_like(maps)
    together = max(1, 2**16 // target.size)

    def work(maps, first, second, alphas, discs, losses, gradient) -> None:
        for low in range(0, len(maps), together):
            part = slice(low, low + together)
            words = maps[part], first[part], second[part], to, floor
            points = [half.astype(alphas.dtype) for half in outer_and_inner_words(*words)]
            density, excess = splat(*points, len(target))
            loss, by_density = look_loss(
                density, discs[part], away, taps, alphas[part], target, levels
            )
            losses[part] = loss + excess * alphas.dtype.type(excess_pull)
            by_excess = np.full_like(excess, excess_pull)
            by_points = splat_gradient(*points, by_density, by_excess)
            gradient[part] = outer_and_inner_words_gradient(
                *words, *(by.astype(maps.dtype) for by in by_points)
            )

    given = maps, first, second, alphas, discs, losses, gradient
    by_system(work, threads, *given, together=together)
    return losses, gradient


def descend(maps, gradient, first, second, k: int, rate: float, bound: float):
    """The maps (B, n, 2, 3) after the k-th step of Adam, projected to contractions; moves its
    moments, too.
    """
    moved = np.empty_like(maps)
    flat = (array.reshape(-1, 2, 3) for array in (maps, gradient, first, second, moved))
    _descend_loop(*flat, 1 - 0.9**k, 1 - 0.99**k, rate, bound)
    return moved


@compiled
def _descend_loop(maps, gradient, first, second, moved, first_share, second_share, rate, bound):
    for p in range(len(maps)):
        for i in range(2):
            for j in range(3):
                g = gradient[p, i, j] if np.isfinite(gradient[p, i, j]) else 0.0
                g = min(max(g, -1e15), 1e15)  # its square is finite
                first[p, i, j] += 0.1 * (g - first[p, i, j])
                second[p, i, j] += 0.01 * (g * g - second[p, i, j])
                update = (
                    first[p, i, j] / first_share / (np.sqrt(second[p, i, j] / second_share) + 1e-8)
                )
                moved[p, i, j] = maps[p, i, j] - rate * update
        q, r = turn_and_flip(moved[p])
        if q + r > bound:  # clamp the singular values, as `ifs_model.contract` does
            larger, smaller = bound, min(max(q - r, -bound), bound)
            (a, b), (c, d) = (moved[p, 0, 0], moved[p, 0, 1]), (moved[p, 1, 0], moved[p, 1, 1])
            turn = (larger + smaller) / (4 * q) if q > 0 else 0.0
            flip = (larger - smaller) / (4 * r) if r > 0 else 0.0
            moved[p, 0, 0] = turn * (a + d) + flip * (a - d)
            moved[p, 1, 1] = turn * (a + d) - flip * (a - d)
            moved[p, 1, 0] = turn * (c - b) + flip * (c + b)
            moved[p, 0, 1] = flip * (c + b) - turn * (c - b)


def tree_points(maps, letters, parents, roots: int):
    """Points (2, P), each the image of its parent under the map of its letter; the first ones are
    fixed points.
    """
    points = np.empty((2, len(letters)), maps.dtype)
    _tree_points_loop(maps, letters, parents, roots, points)
    return points


def tree_points_gradient(maps, points, letters, parents, gradient, roots: int):
    """Gradient of `tree_points` for the maps (n, 2, 3), from that of its points (2, P), which is
    used up.
    """
    by_maps = np.zeros(maps.shape)
    _tree_points_gradient_loop(maps, points, letters, parents, roots, gradient, by_maps)
    return by_maps


def tree_loss(maps, letters, parents, roots, to, weight: float, alphas, discs, look, threads: int):
    """Losses (B,) as those of `ifs_model.tree_loss`, and their gradient for the maps (B, n, 2, 3).

    letters, parents, roots: lists of what `tree_points` takes; to: (2, 3); alphas, discs, look: as
    in `word_loss`.
    """
    away, taps, target, levels = look
    losses, gradient = np.empty_like(alphas), np.empty_like(maps)

    def work(maps, letters, parents, roots, alphas, discs, losses, gradient) -> None:
        for b in range(len(maps)):
            points = tree_points(maps[b], letters[b], parents[b], roots[b])
            shares = np.full((1, 1), weight, maps.dtype), np.ones((1, points.shape[1]), maps.dtype)
            places = to[None, None], points[None], *shares
            density, excess = splat(*places, len(target))
            part = slice(b, b + 1)
            losses[part], by_density = look_loss(
                density, discs[part], away, taps, alphas[part], target, levels
            )
            by_points = splat_gradient(*places, by_density, np.zeros_like(excess))[1][0]
            gradient[b] = tree_points_gradient(
                maps[b], points, letters[b], parents[b], by_points, roots[b]
            )

    by_system(work, threads, maps, letters, parents, roots, alphas, discs, losses, gradient)
    return losses, gradient


@compiled
def _tree_points_loop(maps, letters, parents, roots, points):
    for p in range(roots):
        k = letters[p]
        points[0, p], points[1, p] = solved(maps[k], maps[k, 0, 2], maps[k, 1, 2])
    for p in range(roots, len(letters)):
        k, parent = letters[p], parents[p]
        x, y = points[0, parent], points[1, parent]
        points[0, p] = maps[k, 0, 0] * x + maps[k, 0, 1] * y + maps[k, 0, 2]
        points[1, p] = maps[k, 1, 0] * x + maps[k, 1, 1] * y + maps[k, 1, 2]


@compiled
def _tree_points_gradient_loop(maps, points, letters, parents, roots, gradient, by_maps):
    for p in range(len(letters) - 1, -1, -1):
        k, parent, by_x, by_y = letters[p], parents[p], gradient[0, p], gradient[1, p]
        if p >= roots:
            gradient[0, parent] += maps[k, 0, 0] * by_x + maps[k, 1, 0] * by_y
            gradient[1, parent] += maps[k, 0, 1] * by_x + maps[k, 1, 1] * by_y
        else:  # a fixed point, which is its own parent
            parent = p
            by_x, by_y = solved(maps[k, :, :2].T, by_x, by_y)
        x, y = points[0, parent], points[1, parent]
        by_maps[k, 0, 0] += by_x * x
        by_maps[k, 0, 1] += by_x * y
        by_maps[k, 0, 2] += by_x
        by_maps[k, 1, 0] += by_y * x
        by_maps[k, 1, 1] += by_y * y
        by_maps[k, 1, 2] += by_y
