"""Pictures of a chaos game with a memory: of maps that may not follow each other, and of maps that
are hidden.

Such a game has an attractor for each of its letters (a graph-directed system; Mauldin and Williams
1988): A_k, what map k has just produced, is f_k(∪ A_j) over all j that it may follow. They are
grown side by side, one point of each letter in each cell of a grid. Where cells are larger than
half a pixel, as in a zoom, words that shrink them are drawn.

Letters in shapes: m letters, K words, P points, S side of the picture. Points are (2, P), in the
world.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from diff_ifs.backend import load_kernels
from diff_ifs.draw.coverage import dilate
from diff_ifs.draw.geometry import MEMORY, OVERHEAD, Progress, View, Window
from diff_ifs.formats.contraction import contraction, stretches, supports
from diff_ifs.formats.rules import Chain, composed

AT_ONCE = 1 << 20  # points that are played or mapped at once


class Clouds:
    """The attractors of all letters of a chain as clouds of points, with cells of at most a quarter
    of a pixel where there is room for that.

    points: of each letter; boxes (m, 4): right, top, left and bottom of each, as seen from a point
    of them, `middle`.
    """

    def __init__(self, chain: Chain, pixel: float, progress: Progress = bool):
        room = 1 << 23  # cells of all letters together
        starts = _starts(chain)
        self.chain, self.middle = chain, next(game(chain, 1000, starts[0]))[0][:, -1]
        maps = chain.maps.copy()
        maps[:, :, 2] += maps[:, :, :2] @ self.middle - self.middle
        boxes = supports(maps, chain.follows, contraction(maps, chain.follows), 512)[:, ::128]
        self.boxes = 1.01 * boxes + 0.01 * np.abs(boxes).max()
        right, top, left, bottom = self.boxes.max(axis=0)
        fine = pixel / 4 / stretches(chain.finals[:, :, :2]).max()
        self.cell = max(fine, math.sqrt((right + left) * (top + bottom) * len(maps) / room))
        columns, rows = (math.ceil(side / self.cell) + 2 for side in (right + left, top + bottom))
        corner = np.array([-left - self.cell, -bottom - self.cell])
        maps[:, :, 2] = (maps[:, :, 2] + maps[:, :, :2] @ corner - corner) / self.cell
        corner = (self.middle + corner)[:, None]
        free, most = (
            np.ones((len(maps), rows * columns), bool),
            int(chain.follows.sum(axis=1).max()),
        )
        step, found = max(1, AT_ONCE // most), []
        # Where maps are slow, growth finds little by itself: it starts from many points of a game.
        waiting = [next(game(chain, (1 << 18) // len(starts), start)) for start in starts]
        waiting = [((points - corner) / self.cell, letters) for points, letters in waiting]
        while waiting:
            points, letters = waiting.pop()
            if len(letters) > step:
                waiting.append((points[:, step:], letters[step:]))
                points, letters = points[:, :step], letters[:step]
            new, new_letters = (
                np.empty((2, most * len(letters))),
                np.empty(most * len(letters), int),
            )
            arrays = maps, chain.follows, points, letters, free, columns, new, new_letters
            count = load_kernels().iterate_by_letter(*arrays)
            progress(new.shape[1])
            if count:
                waiting.append((new[:, :count].copy(), new_letters[:count].copy()))
                found.append(waiting[-1])
        points, letters = (np.concatenate(some, axis=-1) for some in zip(*found, strict=True))
        points = points * self.cell + corner
        self.points = [np.ascontiguousarray(points[:, letters == k]) for k in range(len(maps))]

    def words(self, window: Window, side: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yield words, as maps (2, 3) into the pixels of a picture, and the letters whose points
        they draw there.

        Those that miss the picture are dropped; those that leave cells wider than half a pixel are
        replaced by their children, while that leaves not too many points to draw.
        """
        most, drawn, follows = 1 << 30, 0, self.chain.follows.T
        shown = np.flatnonzero(self.chain.opacities > 0)
        found = composed(into(window, side), self.chain.finals)
        letters, found = np.tile(shown, len(found)), np.repeat(found, len(shown), axis=0)
        right, top, left, bottom = self.boxes.T
        corners = [np.stack([x, y], axis=1) for x in (-left, right) for y in (-bottom, top)]
        corners = np.stack(corners, axis=2) + self.middle[:, None]  # (m, 2, 4)
        sizes = np.array([points.shape[1] for points in self.points])
        while len(found):
            seen = found[:, :, :2] @ corners[letters] + found[:, :, 2:]
            here = ((seen.max(axis=2) >= 0) & (seen.min(axis=2) <= side)).all(axis=1)
            found, letters = found[here], letters[here]
            small = stretches(found[:, :, :2]) * self.cell <= 0.5
            small |= drawn + sizes[letters].sum() * len(sizes) > most
            drawn += sizes[letters[small]].sum()
            yield from zip(found[small], letters[small].tolist(), strict=True)
            found = composed(found[~small], self.chain.maps[letters[~small]])
            parent, letters = np.nonzero(follows[letters[~small]])
            found = found[parent]


def into(window: Window, side: int) -> np.ndarray:
    """The map (2, 3) from the world to pixels, of which the first is from 0 to 1."""
    scale = side / (window[1] - window[0])
    return np.array([[scale, 0.0, -scale * window[0]], [0.0, -scale, scale * window[3]]])


def game(chain: Chain, count: int, letter: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Play the game for ever from a letter: yield points (2, count) and the letters (count,) that
    produced them.
    """
    dice, chances = np.random.default_rng(0), chain.steps.cumsum(axis=1)
    chances[:, -1] = 2.0
    (x, y), warm = (0.0, 0.0), True
    while True:
        some = 5000 if warm else count  # what comes first is not on the attractor yet
        points, letters = np.empty((2, some)), np.empty(some, int)
        load_kernels().play(chain.maps, chances, letter, x, y, dice.random(some), points, letters)
        (x, y), letter = points[:, -1].tolist(), int(letters[-1])
        if not warm:
            yield points, letters
        warm = False


def _starts(chain: Chain) -> list[int]:
    """A letter of each part that a game never leaves."""
    left, starts = set(range(len(chain.maps))), []
    while left:
        seen = new = {min(left)}
        starts.append(min(left))
        while new:
            new = set(np.flatnonzero(chain.follows[list(new)].any(axis=0)).tolist()) - seen
            seen = seen | new
        left -= seen
    return starts


def coverage(view: View, memory: int = MEMORY, progress: Progress = bool) -> Tensor:
    """Coverage (S, S), float32 in [0, 1], of what the chain of a view draws, with its pen."""
    window, pixel = view.window, (view.window[1] - view.window[0]) / view.side
    pad = math.ceil(view.stroke / pixel)
    side, edge = view.side + 2 * pad, pad * pixel
    if (needed := OVERHEAD + 6 * side**2) > memory:
        raise MemoryError(f"such a picture is drawn at once, and needs {needed / 2**30:.1f} GiB")
    # With a border, which takes what lies outside.
    picture, digits = np.zeros((side + 2, side + 2), np.int16), np.zeros((1, 2))
    window = window[0] - edge, window[1] + edge, window[2] - edge, window[3] + edge
    clouds = Clouds(view.chain, pixel, progress)
    for word, letter in clouds.words(window, side):
        load_kernels().mark(word[None], digits, clouds.points[letter], 0, (1.0, 1.0), picture)
        progress(clouds.points[letter].shape[1])
    taken = torch.from_numpy(picture[1:-1, 1:-1] > 0)
    if pad:
        taken = dilate(taken, view.stroke / pixel)[pad:-pad, pad:-pad]
    return torch.nn.functional.avg_pool2d(taken[None].float(), view.supersample)[0]


def mass(chain: Chain, window: Window, size: int, progress: Progress = bool) -> Tensor:
    """The part (S, S), float64, of all points of a long game that each pixel shows: its measure,
    with some noise.

    An opacity o counts for 10^(log2 o), as in flam3.
    """
    weights = 10 ** np.log2(np.maximum(chain.opacities, 1e-30))
    finals, starts = composed(into(window, size), chain.finals), _starts(chain)
    rounds = math.ceil(max(1, 64 * size**2 / AT_ONCE) / len(starts))  # 64 points for each pixel
    sums = np.zeros(size**2)
    for start in starts:
        for _, (points, letters) in zip(range(rounds), game(chain, AT_ONCE, start), strict=False):
            for final, share in zip(finals, chain.shares, strict=True):
                x, y = final[:, :2] @ points + final[:, 2:]
                here = (x >= 0) & (x < size) & (y >= 0) & (y < size)
                place = y[here].astype(int) * size + x[here].astype(int)
                sums += np.bincount(place, share * weights[letters[here]], size**2)
            progress(AT_ONCE)
    return torch.from_numpy(sums.reshape(size, size) / (len(starts) * rounds * AT_ONCE))
