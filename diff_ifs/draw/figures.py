"""What a construction starts from: points, segments and convex polygons.

Letters in shapes: K polygons, V corners of a polygon, P points.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.draw.attractor import SOLID, THIN, Attractor
from diff_ifs.draw.chart import enumerate_runs
from diff_ifs.draw.geometry import Tile, Window, bounds
from diff_ifs.draw.growth import Grid, at_once, images, iterate
from diff_ifs.draw.words import CROWD, heaviest_of_each_place
from diff_ifs.draw.words import words as words_in
from ifs_model import apply, area_weights, centroid, singular_values

CLOUD_SIDE = 2048  # cells along the longer side of the cloud that words draw where that grid would be too large
ONE_BY_ONE = 1 << 18  # words that are drawn one by one, whatever their size
LAYERS = 64  # points drawn for each pixel of a tile, or words with all of the cloud, at most


def hull(maps: Tensor, directions: int = 720) -> Tensor:
    """Corners (V, 2), in order, of the convex hull of the attractor of maps (n, 2, 3), to a thousandth of its size.

    They are the attractor's outermost points in a ring of directions: one for a point, two for a segment.
    """
    maps = maps.double()
    box = bounds(maps)
    cell = max(box[1] - box[0], box[3] - box[2], 1e-9) / 1024
    cloud = torch.cat([points for _, points in iterate(maps, box, cell, 1000)], dim=1)
    angles = torch.arange(directions, dtype=torch.float64, device=maps.device) * (2 * math.pi / directions)
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)
    outermost = torch.cat([(part @ cloud).argmax(1) for part in ring.split(16)]).unique_consecutive()
    if len(outermost) > 1 and outermost[0] == outermost[-1]:
        outermost = outermost[:-1]
    corners = cloud[:, outermost].T
    along, on = corners - corners.roll(1, 0), corners.roll(-1, 0) - corners
    turns = (along[:, 0] * on[:, 1] - along[:, 1] * on[:, 0]).abs() > 1e-9 * (1024 * cell) ** 2
    if turns.any():
        return corners[turns]
    ends = torch.cdist(corners, corners).argmax()  # a segment, or a point
    return corners[torch.tensor(sorted({int(ends) // len(corners), int(ends) % len(corners)}))]


def figure(name: str, maps: Tensor, window: Window) -> Tensor:
    """Corners (V, 2), in the world, of what the construction of an attractor starts from.

    segment: the attractor's diameter, from one end to the other; square: the window; hull: the attractor's convex
    hull; point: the centre of mass of its measure.
    """
    maps = maps.double()
    if name == "square":
        xmin, xmax, ymin, ymax = window
        return torch.tensor([[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]], dtype=torch.float64).to(maps)
    if name == "point":
        return centroid(maps, area_weights(maps))[None]
    corners = hull(maps)
    if name == "segment":
        return corners[torch.tensor(divmod(int(torch.cdist(corners, corners).argmax()), len(corners)))]
    return corners


def fill(polygons: Tensor, tile: Tile, addresses: Tensor | None = None) -> Iterator[Tensor]:
    """Yield points that draw convex polygons (K, V, 2), in pixels, in a tile; with addresses (K,), points are (3, P).

    A polygon is drawn by the centres of the pixels that it covers; one that is thinner than a pixel, and a segment,
    by points an eighth of a pixel apart; all have their middle drawn.
    """

    def addressed(points: Tensor, owner: Tensor) -> Tensor:
        return points if addresses is None else torch.cat([points, addresses[owner][None]])

    every = torch.arange(len(polygons), device=polygons.device)
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
    """Yield points (2, P) of segments (K, 2), an eighth of a pixel apart, that lie in a tile, and of which they are."""
    low, high = torch.tensor([[tile[0], tile[2]], [tile[1], tile[3]]], dtype=torch.float64, device=starts.device)
    way = ends - starts
    entry, leave = (low - 1 - starts) / way, (high - starts) / way  # infinite, or nan, across a way that is level
    first = torch.minimum(entry, leave).nan_to_num(nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf).amax(1)
    last = torch.maximum(entry, leave).nan_to_num(nan=torch.inf, neginf=-torch.inf, posinf=torch.inf).amin(1)
    first, last = first.clamp(min=0), last.clamp(max=1)
    steps = ((last - first).clamp(min=0) * way.norm(dim=1) * 8).ceil()
    counts = torch.where(first <= last, steps + 1, 0).long()
    for owner, number in enumerate_runs(counts):
        at = first[owner] + (last - first)[owner] * (number / steps[owner].clamp(min=1))
        yield (starts[owner] + at[:, None] * way[owner]).T, owner


def _within(polygons: Tensor, tile: Tile) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixel centres (2, P) of a tile that lie in convex polygons (K, V, 2), and in which; edges to the right
    and at the bottom are left to the neighbour."""
    top, bottom = polygons[..., 1].amin(1).ceil().clamp(min=tile[2]), polygons[..., 1].amax(1).ceil().clamp(max=tile[3])
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
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield what `images` makes the points of that draw a level of a figure in a tile: maps, points, digits.

    Points are (2, P), or (3, P) with addresses.
    """

    def prune(maps: Tensor, weights: Tensor, crowd: int) -> tuple[Tensor, float]:
        return heaviest_of_each_place(attractor, maps, weights, tile)[:crowd], 1.0

    as_they_are = torch.eye(2, 3, dtype=torch.float64, device=attractor.maps.device)[None]
    cell = attractor.cell(CLOUD_SIDE)
    one_by_one = attractor.recursion <= 64 and len(attractor.maps) ** attractor.recursion <= ONE_BY_ONE
    area = (attractor.box[1] - attractor.box[0]) * (attractor.box[3] - attractor.box[2]) / cell**2
    solid = not one_by_one and cloud(attractor, attractor.recursion, 0, cell, addresses).shape[1] > area / 8
    fine = SOLID if solid else THIN
    small = []
    limit, crowd = (-1.0, ONE_BY_ONE) if one_by_one else (fine / cell, CROWD)
    for words in words_in(attractor, tile, limit, prune, int(addresses), crowd):
        if words.length == attractor.recursion:
            middle = words.digits[:, 1] + words.digits[:, 0] / 2
            for part in fill(apply(words.maps, attractor.corners), tile, middle if addresses else None):
                yield as_they_are, part, None
        elif len(words.maps):
            small.append(words)
    if not small:
        return
    maps, weights, digits = (torch.cat([getattr(w, k) for w in small]) for k in ("maps", "weights", "digits"))
    levels = torch.cat([torch.full((len(w.maps),), attractor.recursion - w.length) for w in small]).to(maps.device)
    spare = fine / cell / singular_values(maps)[:, 0].clamp(min=1e-300)
    coarser = spare.log2().floor().clamp(0, math.log2(2 * CLOUD_SIDE)).long()
    cloud(attractor, 0, 0, cell, addresses)
    deepest = max(level for level, _ in attractor.clouds)
    kinds = (levels.clamp(max=deepest) * 64 + coarser).unique(return_inverse=True)
    clouds = [cloud(attractor, kind // 64, kind % 64, cell, addresses) for kind in kinds[0].tolist()]
    sizes = torch.tensor([part.shape[1] for part in clouds], device=maps.device)[kinds[1]]
    order = heaviest_of_each_place(attractor, maps, weights, tile)
    most = LAYERS * max((tile[1] - tile[0]) * (tile[3] - tile[2]), int(sizes.max()))
    drawn_words = order[sizes[order].cumsum(0) <= most]
    batch = 4 * at_once(maps.device)
    for kind, part in enumerate(clouds):
        for some in drawn_words[kinds[1][drawn_words] == kind].split(max(1, batch // part.shape[1])):
            for points in part.split(batch, dim=1):
                yield maps[some], points, digits[some] if addresses else None


def cloud(attractor: Attractor, level: int, step: int, cell: float, addresses: bool) -> Tensor:
    """A level of the figure, as at most one point for each cell; each step doubles it."""
    if not attractor.clouds:
        start = sampled(attractor, cell, addresses)
        digits = attractor.digits if addresses else None
        levels: list[list[Tensor]] = []
        for number, points in iterate(attractor.maps, attractor.box, cell, attractor.recursion, start, digits):
            levels.extend([] for _ in range(number + 1 - len(levels)))
            levels[number].append(points)
        attractor.clouds = {(number, 0): torch.cat(parts, dim=1) for number, parts in enumerate(levels)}
    level = min(level, max(level for level, _ in attractor.clouds))
    if (level, step) not in attractor.clouds:
        finer = cloud(attractor, level, step - 1, cell, addresses)
        cells = Grid(attractor.box, cell * 2**step, attractor.maps.device)
        attractor.clouds[level, step] = images(cells.back, cells.claim(images(cells.there, finer)))
    return attractor.clouds[level, step]


def sampled(attractor: Attractor, cell: float, addresses: bool) -> Tensor:
    """The figure as points, one for each cell or closer."""
    cells = Grid(attractor.box, cell, attractor.maps.device)
    middle = attractor.maps.new_full((1,), 0.5) if addresses else None
    parts = fill(apply(cells.there, attractor.corners), (0, cells.columns, 0, cells.rows), middle)
    return torch.cat([images(cells.back, part) for part in parts], dim=1)
