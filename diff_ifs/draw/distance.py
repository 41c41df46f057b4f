"""Distances from an attractor, strip by strip.

Letters in shapes: S side of the picture, H rows of a strip, Q pixels.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.coverage import dilate
from diff_ifs.draw.geometry import MEMORY, Progress, Window, strip_rows
from diff_ifs.draw.pixels import occupied_pixels

FAR = 1 << 40
FAR_SIDE = 2048  # pixels of pictures that show what is far from a window


def distance(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    margin: float | None = None,
    progress: Progress = bool,
    rim: bool = True,
) -> Tensor:
    """Distance (S, S), float64, in world units from each pixel to the nearest that holds a point of the attractor.

    Pixels stand for their centres. What is further away than the window is wide is known to a few thousandths. With a
    `margin`, only points of the attractor up to so far outside the window count, and where none are, all is infinite.
    `rim` is that of `occupancy`.
    """
    return torch.cat(list(distance_strips(maps, window, size, recursion, margin, progress=progress, rim=rim)))


def distance_strips(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    margin: float | None = None,
    corners: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
    rim: bool = True,
) -> Iterator[Tensor]:
    """Yield the distances of `distance` in strips (H, S) from the top.

    Within a strip, the distance is that of a Euclidean distance transform. Of all that lies above it, only the lowest
    pixel of each column can be the nearest one, and so on for each side; a pixel that is nearer to an edge of the
    strip than to anything in it looks these up in a k-d tree.
    """
    if margin is None:
        far = FarField(maps, window, size, recursion, corners, memory)
        width = window[1] - window[0]
        strips = distance_strips(maps, window, size, recursion, width, corners, memory, progress, rim)
        row = 0
        for strip in strips:
            yield far.mended(strip, row)
            row += len(strip)
        return
    pixel = (window[1] - window[0]) / size
    reach = math.ceil(margin / pixel)
    attractor = Attractor(maps, window, size, recursion, corners, memory)
    attractor.rim = rim
    left, top = (min(0, max(-reach, math.floor(edge))) for edge in (attractor.box[0], attractor.box[2]))
    right, bottom = (max(size, min(size + reach, math.ceil(edge) + 1)) for edge in (attractor.box[1], attractor.box[3]))
    rows = strip_rows(bottom - top, 48 * (right - left), memory)
    whole = rows == bottom - top
    attractor.direct &= whole
    starts = [top] if whole else sorted({*range(top, 0, rows), *range(0, size, rows), *range(size, bottom, rows)})
    strips = list(zip(starts, [*starts[1:], bottom], strict=True))
    highest, lowest = [], []  # rows of the outermost taken pixels of each column, strip by strip
    if len(strips) == 1:
        taken = occupied_pixels(attractor, (left, right, top, bottom), progress).cpu()
        near = torch.full(taken.shape, torch.inf, dtype=torch.float64)
        if taken.any():
            near = torch.from_numpy(distance_transform_edt(~taken.numpy()))
        yield (near[-top : size - top, -left : size - left] * pixel).to(maps.device)
        return
    for first, last in strips:
        taken = occupied_pixels(attractor, (left, right, first, last), progress).cpu()
        highest.append(first + _first(taken, 0))
        lowest.append(last - 1 - _first(taken.flip(0), 0))
    for number, (first, last) in enumerate(strips):
        if not 0 <= first < size:
            continue
        taken = occupied_pixels(attractor, (left, right, first, last), progress).cpu()
        before, within, after = taken.split([-left, size, right - size], dim=1)
        near = torch.full(within.shape, torch.inf, dtype=torch.float64)
        if within.any():
            near = torch.from_numpy(distance_transform_edt(~within.numpy()))
        around = [
            *[
                torch.stack([row, torch.arange(left, right)])
                for row in _nearest(lowest[:number], highest[number + 1 :])
            ],
            *[torch.stack([torch.arange(first, last), -1 - _first(before.flip(1), 1)])],
            *[torch.stack([torch.arange(first, last), size + _first(after, 1)])],
        ]
        around = torch.cat(around, dim=1)
        around = around[:, (around.abs() < FAR // 2).all(0)]
        if around.shape[1]:
            _look_around(near, first, around)
        yield (near * pixel).to(maps.device)


class FarField:
    """What lies further away from a window than that is wide, seen in pictures that are twice as wide again and again.

    What a picture shows is the nearest of all for a point from which its edges are not nearer.
    """

    def __init__(self, maps: Tensor, window: Window, size: int, recursion: int, corners: Tensor | None, memory: int):
        self.window, self.size = window, size
        self.drawn_of = functools.partial(Attractor, maps, recursion=recursion, corners=corners, memory=memory)
        self.views: list[tuple[Window, cKDTree | None, bool]] = []  # each with what is taken, and whether that is all

    def view(self, number: int) -> tuple[Window, cKDTree | None, bool]:
        """The picture that is 4, 8, 16 … times as wide as the window: see `views`."""
        if number == len(self.views):
            left, right, low, high = self.window
            more = (2.0 ** (number + 1) - 0.5) * (right - left)
            wide = left - more, right + more, low - more, high + more
            attractor = self.drawn_of(wide, FAR_SIDE)
            taken = occupied_pixels(attractor, (0, FAR_SIDE, 0, FAR_SIDE))
            row, column = (taken & dilate(~taken, 1)).nonzero().cpu().double().unbind(1)
            pixel = (wide[1] - wide[0]) / FAR_SIDE
            places = torch.stack([wide[0] + (column + 0.5) * pixel, wide[3] - (row + 0.5) * pixel], dim=1)
            box = attractor.box
            whole = min(box[0], box[2]) >= -0.5 and max(box[1], box[3]) <= FAR_SIDE - 0.5
            self.views.append((wide, cKDTree(places.numpy()) if len(places) else None, whole))
        return self.views[number]

    def mended(self, strip: Tensor, top: int) -> Tensor:
        """Distances (H, S) of the rows from `top` on, of which those beyond the width of the window are mended."""
        pixel = (self.window[1] - self.window[0]) / self.size
        row, column = (strip.cpu() > self.window[1] - self.window[0]).nonzero().unbind(1)
        if not len(row):
            return strip
        x = self.window[0] + (column.double() + 0.5) * pixel
        y = self.window[3] - (row.double() + top + 0.5) * pixel
        found = torch.full_like(x, torch.inf)
        for number in itertools.count():
            some = found.isinf().nonzero().squeeze(1)
            if not len(some):
                break
            (left, right, low, high), tree, whole = self.view(number)
            if tree is None:
                if whole:
                    break
                continue
            here = torch.stack([x[some], y[some]], dim=1)
            away = torch.from_numpy(tree.query(here.numpy(), workers=-1)[0])
            u, v = here.unbind(1)
            edge = torch.stack([u - left, right - u, v - low, high - v]).amin(0)
            found[some] = away.where((away <= edge) | whole, torch.inf)
        strip = strip.clone()
        strip[row.to(strip.device), column.to(strip.device)] = found.to(strip)
        return strip


def _first(taken: Tensor, axis: int) -> Tensor:
    """Where along an axis the first pixel is taken; FAR where none is."""
    if not taken.shape[axis]:
        return torch.full_like(taken.any(axis), FAR, dtype=torch.long)
    return torch.where(taken.any(axis), taken.byte().argmax(axis), FAR)


def _nearest(above: list[Tensor], below: list[Tensor]) -> list[Tensor]:
    """For each column the lowest row of those above, and the highest one of those below."""
    return [torch.stack(rows).aminmax(dim=0)[k] for rows, k in ((above, 1), (below, 0)) if rows]


def _look_around(near: Tensor, first: int, around: Tensor) -> None:
    """Lower distances (H, S), in pixels, to what pixels at (row, column), (2, Q), outside of the strip allow."""
    height, width = near.shape
    row, column = torch.arange(height)[:, None], torch.arange(width)
    edge = torch.minimum(torch.minimum(row + 1, height - row), torch.minimum(column + 1, width - column))
    tree = cKDTree(around.T.numpy())
    for some in (near > edge).nonzero().split(1 << 20):
        found, _ = tree.query((some + torch.tensor([first, 0])).numpy(), workers=-1)
        near[some[:, 0], some[:, 1]] = near[some[:, 0], some[:, 1]].minimum(torch.from_numpy(found))
