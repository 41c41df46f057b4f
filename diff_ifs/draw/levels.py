"""Levels of a figure: the polygons that a construction is at, and points that draw them.

Letters in shapes: K polygons or words, V corners of a polygon, P points.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.draw.attractor import THIN, Attractor
from diff_ifs.draw.geometry import Tile
from diff_ifs.draw.growth import CHUNK, Grid, images, iterate
from diff_ifs.draw.words import CROWD, heaviest_of_each_place
from diff_ifs.draw.words import words as words_in
from ifs_model import apply, singular_values

# cells along the longer side of the cloud that words draw where that grid would be too large
CLOUD_SIDE = 2048
LAYERS = 64  # points drawn for each pixel of a tile, or words with all of the cloud, at most


def fill(polygons: Tensor, tile: Tile, addresses: Tensor | None = None) -> Iterator[Tensor]:
    """Yield points that draw convex polygons (K, V, 2), in pixels, in a tile; with addresses (K,),
    points are (3, P).

    A polygon is drawn by the centres of the pixels that it covers; one that is thinner than a
    pixel, and a segment, by points an eighth of a pixel apart; all have their middle drawn.
    """

    def addressed(points: Tensor, owner: Tensor) -> Tensor:
        return points if addresses is None else torch.cat([points, addresses[owner][None]])

    every = torch.arange(len(polygons))
    yield addressed(polygons.mean(1).T, every)
    if polygons.shape[1] == 1:
        return
    ends = polygons.roll(-1, 1)
    widths = polygons.amax(1) - polygons.amin(1)
    cross = polygons[..., 0] * ends[..., 1] - polygons[..., 1] * ends[..., 0]
    thin = cross.sum(1).abs() / 2 < widths.amax(1)
    for k in range(polygons.shape[1] if polygons.shape[1] > 2 else 1):
        for points, owner in _along(polygons[thin, k], ends[thin, k], tile):
            yield addressed(points, every[thin][owner])
    for points, owner in _within(polygons[~thin], tile):
        yield addressed(points, every[~thin][owner])


def _along(starts: Tensor, ends: Tensor, tile: Tile) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield points (2, P) of segments (K, 2), an eighth of a pixel apart, that lie in a tile, and
    of which they are.
    """
    low, high = torch.tensor([[tile[0], tile[2]], [tile[1], tile[3]]], dtype=torch.float64)
    way = ends - starts
    # infinite, or nan, across a way that is level
    entry, leave = (low - 1 - starts) / way, (high - starts) / way
    first = (
        torch.minimum(entry, leave)
        .nan_to_num(nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
        .amax(1)
    )
    last = (
        torch.maximum(entry, leave)
        .nan_to_num(nan=torch.inf, neginf=-torch.inf, posinf=torch.inf)
        .amin(1)
    )
    first, last = first.clamp(min=0), last.clamp(max=1)
    steps = ((last - first).clamp(min=0) * way.norm(dim=1) * 8).ceil()
    counts = torch.where(first <= last, steps + 1, 0).long()
    for owner, number in enumerate_runs(counts):
        at = first[owner] + (last - first)[owner] * (number / steps[owner].clamp(min=1))
        yield (starts[owner] + at[:, None] * way[owner]).T, owner


def _within(polygons: Tensor, tile: Tile) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixel centres (2, P) of a tile that lie in convex polygons (K, V, 2), and in which;
    edges to the right and at the bottom are left to the neighbour.
    """
    top, bottom = (
        polygons[..., 1].amin(1).ceil().clamp(min=tile[2]),
        polygons[..., 1].amax(1).ceil().clamp(max=tile[3]),
    )
    for polygon, number in enumerate_runs((bottom - top).clamp(min=0).long()):
        y = top[polygon] + number
        left, right = torch.full_like(y, torch.inf), torch.full_like(y, -torch.inf)
        for k in range(polygons.shape[1]):
            x0, y0 = polygons[polygon, k - 1].T
            x1, y1 = polygons[polygon, k].T
            crosses = (y0 <= y) != (y1 <= y)
            x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            left = torch.where(crosses, torch.minimum(left, x), left)
            right = torch.where(crosses, torch.maximum(right, x), right)
        start, stop = left.ceil().clamp(tile[0], tile[1]), right.ceil().clamp(tile[0], tile[1])
        for line, column in enumerate_runs((stop - start).clamp(min=0).long()):
            yield torch.stack([start[line] + column, y[line]]), polygon[line]


def figure_points(
    attractor: Attractor, tile: Tile, addresses: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what draws a level of a figure in a tile: maps (K, 2, 3), points and digits (K, 2), as
    `images` takes them.

    Points are (2, P), or (3, P) with addresses.
    """

    def prune(maps: Tensor, weights: Tensor, crowd: int) -> tuple[Tensor, float]:
        return heaviest_of_each_place(attractor, maps, weights, tile)[:crowd], 1.0

    as_they_are, cell = torch.eye(2, 3, dtype=torch.float64)[None], attractor.cell(CLOUD_SIDE)
    few = 1 << 18  # words that are drawn one by one, whatever their size
    one_by_one = attractor.recursion <= 64 and len(attractor.maps) ** attractor.recursion <= few
    area = (attractor.box[1] - attractor.box[0]) * (attractor.box[3] - attractor.box[2]) / cell**2
    solid = (
        not one_by_one
        and cloud(attractor, attractor.recursion, 0, cell, addresses).shape[1] > area / 8
    )
    # A figure that fills its box has many other words that draw what the points of a cell would
    # have drawn: with cells of 0.7 pixels it misses one pixel in 10,000.
    fine = 0.7 if solid else THIN
    small, (limit, crowd) = [], (-1.0, few) if one_by_one else (fine / cell, CROWD)
    for words in words_in(attractor, tile, limit, prune, int(addresses), crowd):
        if words.length == attractor.recursion:
            middle = words.digits[:, 1] + words.digits[:, 0] / 2
            for part in fill(
                apply(words.maps, attractor.corners), tile, middle if addresses else None
            ):
                yield as_they_are, part, torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        elif len(words.maps):
            small.append(words)
    if not small:
        return
    maps, weights, digits = (
        torch.cat([getattr(w, k) for w in small]) for k in ("maps", "weights", "digits")
    )
    levels = torch.cat([torch.full((len(w.maps),), attractor.recursion - w.length) for w in small])
    spare = fine / cell / singular_values(maps)[:, 0].clamp(min=1e-300)
    coarser = spare.log2().floor().clamp(0, math.log2(2 * CLOUD_SIDE)).long()
    cloud(attractor, 0, 0, cell, addresses)
    deepest = max(level for level, _ in attractor.clouds)
    kinds = (levels.clamp(max=deepest) * 64 + coarser).unique(return_inverse=True)
    clouds = [
        cloud(attractor, kind // 64, kind % 64, cell, addresses) for kind in kinds[0].tolist()
    ]
    sizes = torch.tensor([part.shape[1] for part in clouds])[kinds[1]]
    order = heaviest_of_each_place(attractor, maps, weights, tile)
    most = LAYERS * max((tile[1] - tile[0]) * (tile[3] - tile[2]), int(sizes.max()))
    drawn_words = order[sizes[order].cumsum(0) <= most]
    for kind, part in enumerate(clouds):
        for some in drawn_words[kinds[1][drawn_words] == kind].split(
            max(1, 4 * CHUNK // part.shape[1])
        ):
            for points in part.split(4 * CHUNK, dim=1):
                yield maps[some], points, digits[some]


def cloud(attractor: Attractor, level: int, step: int, cell: float, addresses: bool) -> Tensor:
    """A level of the figure, as at most one point for each cell; each step doubles it.

    Words much smaller than a cell need, of which there are many in a zoom, would otherwise take so
    long that not all of them could be drawn.
    """
    if not attractor.clouds:
        start = sampled(attractor, cell, addresses)
        digits = attractor.digits if addresses else None
        levels: list[list[Tensor]] = []
        for number, points in iterate(
            attractor.maps, attractor.box, cell, attractor.recursion, start, digits
        ):
            levels.extend([] for _ in range(number + 1 - len(levels)))
            levels[number].append(points)
        attractor.clouds = {
            (number, 0): torch.cat(parts, dim=1) for number, parts in enumerate(levels)
        }
    level = min(level, max(level for level, _ in attractor.clouds))
    if (level, step) not in attractor.clouds:
        grid = Grid(attractor.box, cell * 2**step)
        finer = cloud(attractor, level, step - 1, cell, addresses)
        attractor.clouds[level, step] = images(grid.back, grid.occupy(grid.there, finer))
    return attractor.clouds[level, step]


def sampled(attractor: Attractor, cell: float, addresses: bool) -> Tensor:
    """The figure as points, one for each cell or closer."""
    grid = Grid(attractor.box, cell)
    middle = attractor.maps.new_full((1,), 0.5) if addresses else None
    parts = fill(apply(grid.there, attractor.corners), (0, grid.columns, 0, grid.rows), middle)
    return torch.cat([images(grid.back, part) for part in parts], dim=1)


def enumerate_runs(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Number the members of runs (K,): yield (run, number) of them, about 4 million at once."""
    batches = ((counts.cumsum(0) - counts) // (1 << 22)).unique_consecutive(return_counts=True)[1]
    for part in torch.arange(len(counts)).split(batches.tolist()):
        here = counts[part]
        owner = part.repeat_interleave(here)
        yield owner, torch.arange(len(owner)) - (here.cumsum(0) - here).repeat_interleave(here)
