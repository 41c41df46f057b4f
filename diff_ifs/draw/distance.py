"""Distances from an attractor, strip by strip.

Letters in shapes: S side of the picture, H rows of a strip, Q pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.coverage import dilate
from diff_ifs.draw.figures import figure
from diff_ifs.draw.geometry import (
    MEMORY,
    Progress,
    Quality,
    View,
    Window,
    nearest_point,
    strip_rows,
)
from diff_ifs.draw.pixels import occupied_pixels

FAR = 1 << 40  # a row or a column beyond all


def distance(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    margin: float | None = None,
    quality: Quality = "final",
) -> Tensor:
    """Distance (S, S), float64, in world units from each pixel to the nearest that holds a point of
    the attractor.

    Pixels stand for their centres. What is further away than the window is wide is known to a few
    thousandths. With a `margin`, only points of the attractor up to so far outside the window
    count, and where none are, all is infinite.
    """
    return torch.cat(
        list(distance_strips(maps, View(window, size, recursion, quality=quality), margin))
    )


def distance_strips(
    maps: Tensor,
    view: View,
    margin: float | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield the distances of `distance` in strips (H, S) from the top. Pens and sub-pixels of the
    view do not count.

    Within a strip, the distance is that of a Euclidean distance transform. Of all that lies above
    it, only the lowest pixel of each column can be the nearest one, and so on for each side; a
    pixel that is nearer to an edge of the strip than to anything in it looks these up in a k-d
    tree.
    """
    view = replace(view, supersample=1)
    if margin is None:
        width, far, row = view.window[1] - view.window[0], FarField(maps, view, memory), 0
        for strip in distance_strips(maps, view, width, memory, progress):
            yield far.filled(strip, row)
            row += len(strip)
        return
    size, pixel = view.size, (view.window[1] - view.window[0]) / view.size
    reach = math.ceil(margin / pixel)
    left, right, top, bottom = _around(Attractor(maps, view, memory), reach)
    rows = strip_rows(bottom - top, 48 * (right - left), memory)
    whole = rows == bottom - top
    attractor = Attractor(maps, view, memory, whole)
    starts = (
        [top]
        if whole
        else sorted({*range(top, 0, rows), *range(0, size, rows), *range(size, bottom, rows)})
    )
    strips = list(zip(starts, [*starts[1:], bottom], strict=True))
    highest, lowest = [], []  # rows of the outermost taken pixels of each column, strip by strip
    if len(strips) == 1:
        near = _to_taken(occupied_pixels(attractor, (left, right, top, bottom), progress))
        yield near[-top : size - top, -left : size - left] * pixel
        return
    for first, last in strips:
        taken = occupied_pixels(attractor, (left, right, first, last), progress)
        highest.append(first + _first(taken, 0))
        lowest.append(last - 1 - _first(taken.flip(0), 0))
    for number, (first, last) in enumerate(strips):
        if not 0 <= first < size:
            continue
        taken = occupied_pixels(attractor, (left, right, first, last), progress)
        before, within, after = taken.split([-left, size, right - size], dim=1)
        near = _to_taken(within)
        columns, lines = torch.arange(left, right), torch.arange(first, last)
        around = [
            torch.stack([row, columns]) for row in _nearest(lowest[:number], highest[number + 1 :])
        ]
        around.append(torch.stack([lines, -1 - _first(before.flip(1), 1)]))
        around.append(torch.stack([lines, size + _first(after, 1)]))
        around = torch.cat(around, dim=1)
        around = around[:, (around.abs() < FAR // 2).all(0)]
        if around.shape[1]:
            _look_around(near, first, around)
        yield near * pixel


class FarField:
    """What lies further from a window than it is wide, W, seen in a picture about its middle.

    If the nearest point of the attractor is d away from the middle, no point of the window has its
    nearest one further away from the middle than d + √2 W: a picture that reaches d + 1.5 W to each
    side shows it.
    """

    def __init__(self, maps: Tensor, view: View, memory: int):
        self.maps, self.view, self.memory = maps.double().cpu(), view, memory
        self.tree: cKDTree | None = None

    def filled(self, strip: Tensor, top: int) -> Tensor:
        """Distances (H, S) of rows from `top` on, with those beyond the window's width filled
        in."""
        (left, right, _, high), size = self.view.window, self.view.size
        row, column = (strip > right - left).nonzero().double().unbind(1)
        if not len(row):
            return strip
        if self.tree is None:
            self.tree = self._tree()
        pixel = (right - left) / size
        there = torch.stack(
            [left + (column + 0.5) * pixel, high - (row + top + 0.5) * pixel], dim=1
        )
        strip = strip.clone()
        strip[row.long(), column.long()] = torch.from_numpy(
            self.tree.query(there.numpy(), workers=-1)[0]
        )
        return strip

    def _tree(self) -> cKDTree:
        """The middles of pixels at the edges of what is taken, in the world."""
        left, right, low, high = self.view.window
        corners = (
            None
            if self.view.figure is None
            else figure(self.view.figure, self.maps, self.view.world)
        )
        x, y = (left + right) / 2, (low + high) / 2
        u, v = nearest_point(self.maps, x, y, self.view.recursion, corners)
        near, half = math.hypot(u - x, v - y), math.inf
        # it may be that a figure comes nearer than its corners
        while near + 1.5 * (right - left) < 0.8 * half:
            half = near + 1.5 * (right - left)
            view = replace(self.view, window=(x - half, x + half, y - half, y + half), size=2048)
            taken = occupied_pixels(
                Attractor(self.maps, view, self.memory), (0, view.size, 0, view.size)
            )
            row, column = (taken & dilate(~taken, 1)).nonzero().double().unbind(1)
            pixel = 2 * half / view.size
            tree = cKDTree(
                torch.stack(
                    [x - half + (column + 0.5) * pixel, y + half - (row + 0.5) * pixel], 1
                ).numpy()
            )
            near = tree.query([x, y])[0] + 2 * pixel
        return tree


def _around(attractor: Attractor, reach: int) -> tuple[int, int, int, int]:
    """The tile of the picture, and of what lies up to `reach` pixels outside of it."""
    box, size = attractor.box, attractor.side
    left, top = (min(0, max(-reach, math.floor(edge))) for edge in (box[0], box[2]))
    right, bottom = (max(size, min(size + reach, math.ceil(edge) + 1)) for edge in (box[1], box[3]))
    return left, right, top, bottom


def _to_taken(taken: Tensor) -> Tensor:
    """Distances (H, S), float64, in pixels to the nearest that is taken, or infinite."""
    if not taken.any():
        return torch.full(taken.shape, torch.inf, dtype=torch.float64)
    return torch.from_numpy(distance_transform_edt(~taken.numpy()))


def _first(taken: Tensor, axis: int) -> Tensor:
    """Where along an axis the first pixel is taken; FAR where none is."""
    if not taken.shape[axis]:
        return torch.full_like(taken.any(axis), FAR, dtype=torch.long)
    return torch.where(taken.any(axis), taken.byte().argmax(axis), FAR)


def _nearest(above: list[Tensor], below: list[Tensor]) -> list[Tensor]:
    """For each column the lowest row of those above, and the highest one of those below."""
    return [torch.stack(rows).aminmax(dim=0)[k] for rows, k in ((above, 1), (below, 0)) if rows]


def _look_around(near: Tensor, first: int, around: Tensor) -> None:
    """Lower distances (H, S), in pixels, to what pixels at (row, column), (2, Q), outside of the
    strip allow.
    """
    height, width = near.shape
    row, column = torch.arange(height)[:, None], torch.arange(width)
    edge = torch.minimum(
        torch.minimum(row + 1, height - row), torch.minimum(column + 1, width - column)
    )
    tree = cKDTree(around.T.numpy())
    for some in (near > edge).nonzero().split(1 << 20):
        found, _ = tree.query((some + torch.tensor([first, 0])).numpy(), workers=-1)
        near[some[:, 0], some[:, 1]] = near[some[:, 0], some[:, 1]].minimum(torch.from_numpy(found))
