"""From one system to another: maps are matched, and each goes its way by its polar
decomposition.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

DIRECTIONS = 64  # in which the attractors' outermost points stand for their hulls


def matched(
    first: np.ndarray, second: np.ndarray, hulls: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Pairs (m, 2) of maps of two systems (n, 2, 3) whose images of the hull are near each other.

    hulls: for each system, its outermost points (V, 2) in the same directions. Every map has a
    partner: where one system has more maps, those left over share the nearest of the other's.
    """
    images = [
        hull @ maps[:, :, :2].mT + maps[:, None, :, 2]
        for maps, hull in zip((first, second), hulls, strict=True)
    ]
    cost = np.square(images[0][:, None] - images[1]).sum(-1).mean(-1)  # (n, n')
    rows, columns = linear_sum_assignment(cost)
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    pairs += [(row, int(cost[row].argmin())) for row in set(range(len(first))) - set(rows.tolist())]
    pairs += [
        (int(cost[:, column].argmin()), column)
        for column in set(range(len(second))) - set(columns.tolist())
    ]
    return np.array(sorted(pairs))


def turn_and_stretch(linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The angles (m,) and symmetric stretches (m, 2, 2) of linear maps (m, 2, 2): A = R(angle) S.

    A map that mirrors stretches by a negative factor along the axis along which it shrinks more.
    """
    left, sizes, right = np.linalg.svd(linear)
    flipped = np.linalg.det(left) * np.linalg.det(right) < 0
    left[flipped, :, 1] *= -1
    sizes[flipped, 1] *= -1
    turn = left @ right
    return np.arctan2(turn[:, 1, 0], turn[:, 0, 0]), right.mT @ (sizes[..., None] * right)


def between(first: np.ndarray, second: np.ndarray, middle: np.ndarray, part: float) -> np.ndarray:
    """Maps (m, 2, 3) on the way from maps to their partners, `part` of it, from 0 to 1.

    Angles change the shorter way round, stretches and the image of `middle` evenly. As a mean of
    two stretches stretches by no more than the larger, contractions stay contractions.
    """
    (angle, stretch), (last_angle, last_stretch) = (
        turn_and_stretch(maps[:, :, :2]) for maps in (first, second)
    )
    angle = angle + part * ((last_angle - angle + np.pi) % (2 * np.pi) - np.pi)
    stretch = (1 - part) * stretch + part * last_stretch
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2) @ stretch
    images = [maps[:, :, :2] @ middle + maps[:, :, 2] for maps in (first, second)]
    at = (1 - part) * images[0] + part * images[1]
    return np.concatenate([linear, (at - linear @ middle)[..., None]], -1)


def outermost(points: np.ndarray) -> np.ndarray:
    """The outermost (V, 2) of points (P, 2) in DIRECTIONS directions, counter-clockwise from the
    right.
    """
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    return points[(points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(0)]
