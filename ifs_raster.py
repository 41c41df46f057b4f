"""The hard, converged attractor at any size: occupancy, density, distance.

Nothing here shares code with the soft splat, so that it can judge it. The attractor is grown, not enumerated: of the
points that fall into one cell of a grid only the first is kept and mapped on, so that the cost is about n maps of
each occupied cell at any depth. Every point drawn is a true point of the attractor.

Letters in shapes: n maps, P points, S side of the picture. Points and maps are float64.
"""

import math
from collections.abc import Callable, Iterator

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ifs_model import apply, area_weights, centroid, compose, fixed_points, frame, singular_values

Window = tuple[float, float, float, float]
Progress = Callable[[int], object]  # is told how many points were drawn just now
GROWN_CELLS = 1 << 27  # the largest grid that is grown directly
CLOUD_SIDE = 1024  # cells along the longer side of the cloud that words draw where that grid would be too large
SLOW = 0.9  # a contraction whose words take too many letters to become small
CHUNK = 1 << 16  # points mapped at once: what the caches hold


def bounds(maps: Tensor, directions: int = 64) -> Window:
    """A box (xmin, xmax, ymin, ymax) that surely holds the attractor of maps (n, 2, 3), and fits it closely.

    The support function h(d) = max over x in F of <x, d> of the attractor F satisfies
    h(d) = max_i <t_i, d> + h(A_i^T d). It is iterated from above on a ring of directions; between two of them h is
    bounded by their linear combination, because h is sublinear, so each iterate bounds F.
    """
    maps = maps.double()
    step = 2 * math.pi / directions
    angles = torch.arange(directions, dtype=torch.float64, device=maps.device) * step
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)
    pulled = ring @ maps[..., :2]  # A_i^T d for each map and direction: (n, directions, 2)
    turn = torch.atan2(pulled[..., 1], pulled[..., 0]) / step
    first = turn.floor()
    length = pulled.norm(dim=-1) / math.sin(step)
    low, high = length * ((1 - (turn - first)) * step).sin(), length * ((turn - first) * step).sin()
    left = first.long() % directions
    right = (left + 1) % directions
    offset = maps[..., 2] @ ring.T
    stretch = float(singular_values(maps).max()) / math.cos(step / 2)
    radius = float(maps[..., 2].norm(dim=-1).max()) / max(1 - stretch, 1e-3)
    support = torch.full((directions,), radius, dtype=torch.float64, device=maps.device)
    for _ in range(1000):
        tighter = torch.minimum(support, (offset + low * support[left] + high * support[right]).amax(0))
        if torch.allclose(tighter, support, rtol=0, atol=1e-4 * radius):
            break
        support = tighter
    quarter = directions // 4
    return -float(support[2 * quarter]), float(support[0]), -float(support[3 * quarter]), float(support[quarter])


class Cells:
    """A grid of cells over a box, each of which is taken by the first point that falls into it.

    Points are (2, P) in units of cells, counted from a corner that lies one cell outside of the box, so that rounding
    cannot push a point over the edge. Points further out share the cells of the border.
    """

    def __init__(self, box: Window, cell: float, device: torch.device):
        self.columns, self.rows = (math.ceil((box[k + 1] - box[k]) / cell - 1e-9) + 3 for k in (0, 2))
        options = {"dtype": torch.float64, "device": device}
        self.there = torch.tensor([[1 / cell, 0, 1 - box[0] / cell], [0, 1 / cell, 1 - box[2] / cell]], **options)
        self.back = torch.tensor([[cell, 0, box[0] - cell], [0, cell, box[2] - cell]], **options)
        self.free = torch.ones(self.rows * self.columns, dtype=torch.bool, device=device)
        self.owner = torch.full_like(self.free, torch.iinfo(torch.int32).max, dtype=torch.int32)

    def claim(self, points: Tensor) -> Tensor:
        """Those of the points (2, P) that are the first ones in a cell that was free until now."""
        across, up = points[0].clamp(0, self.columns - 1), points[1].clamp(0, self.rows - 1)
        index = across.add_(up.floor_(), alpha=self.columns).int()
        fresh = self.free.index_select(0, index).nonzero().squeeze(1)
        index = index.index_select(0, fresh).long()
        order = torch.arange(len(fresh), dtype=torch.int32, device=fresh.device)
        self.owner.scatter_reduce_(0, index, order, "amin")
        self.free.index_fill_(0, index, False)
        return points.index_select(1, fresh[self.owner.index_select(0, index) == order])


def images(maps: Tensor, points: Tensor) -> Tensor:
    """The images (2, n P) of points (2, P) under maps (n, 2, 3), by one product of small matrices."""
    rows = maps.transpose(0, 1).flatten(0, 1)
    return torch.addmm(rows[:, 2:], rows[:, :2], points).view(2, -1)


def grow(maps: Tensor, box: Window, cell: float, recursion: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (level, points (2, P)) of the attractor, at most one point for each cell of a grid over `box`.

    Level 0 holds the fixed points of the maps; level k their new images under words of k letters. Ends after level
    `recursion`, or when a level brings nothing new.
    """
    cells = Cells(box, cell, maps.device)
    letters = compose(compose(cells.there, maps), cells.back)
    points = cells.claim(fixed_points(letters).T.contiguous())
    for level in range(recursion + 1):
        yield level, images(cells.back[None], points)
        if level == recursion:
            return
        chunks = points.split(max(1, CHUNK // len(maps)), dim=1)
        points = torch.cat([cells.claim(images(letters, chunk)) for chunk in chunks], dim=1)
        if not points.shape[1]:
            return


def attractor(maps: Tensor, window: Window, side: int, recursion: int) -> Iterator[Tensor]:
    """Yield points (2, P), in pixel coordinates, of the attractor after `recursion` levels, seen in a window.

    The picture is grown directly, unless its pixels are too small for that (a large `side`, a zoom). Then a coarser
    cloud is grown, and words draw it. Points outside the window may be among those yielded.
    """
    maps = in_pixels(maps, window, side)
    box = _reach(maps, side)
    if _cells(box) <= GROWN_CELLS:
        for _, points in grow(maps, box, 1.0, recursion):
            yield points
        return
    coarse = max(box[1] - box[0], box[3] - box[2]) / CLOUD_SIDE
    levels, clouds = zip(*grow(maps, box, coarse, recursion), strict=True)
    ends = torch.tensor([cloud.shape[1] for cloud in clouds]).cumsum(0).tolist()
    cloud = torch.cat(clouds, dim=1)
    for length, words, _ in _follow(maps, box, side, 0.5 / coarse, recursion):
        points = cloud[:, : ends[min(recursion - length, levels[-1])]]
        for batch in words.split(max(1, 4 * CHUNK // points.shape[1])):
            yield images(batch, points)


def in_pixels(maps: Tensor, window: Window, side: int) -> Tensor:
    """The maps, float64, as they act on pixel coordinates: P∘f∘P⁻¹ with P the frame of the window."""
    (across, _, left), (_, down, top) = frame(window, side)
    options = {"dtype": torch.float64, "device": maps.device}
    there = torch.tensor([[across, 0, left], [0, down, top]], **options)
    back = torch.tensor([[1 / across, 0, -left / across], [0, 1 / down, -top / down]], **options)
    return compose(compose(there, maps.double()), back)


def _reach(maps: Tensor, side: int) -> Window:
    """The box, in pixels, that is drawn: the attractor's bounds, moved outwards to the edges of pixels.

    Where maps shrink the world so slowly that words need very many letters, only what lies near the picture counts.
    """
    box = bounds(maps)
    if max(box[1] - box[0], box[3] - box[2]) > 4 * side and singular_values(maps).max() > SLOW:
        box = tuple(min(max(edge, -2.0 * side), 3.0 * side) for edge in box)
    left, low = (math.floor(edge + 0.5) - 0.5 for edge in box[::2])
    return left, max(box[1], left + 1), low, max(box[3], low + 1)


def _cells(box: Window) -> float:
    return (box[1] - box[0]) * (box[3] - box[2])


def _follow(maps: Tensor, box: Window, side: int, limit: float, recursion: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (letters, maps (K, 2, 3), weights (K,)) of the words that draw a picture of side × side pixels.

    A word whose image of the box misses the picture is dropped; one that shrinks the world by less than `limit` and
    has fewer than `recursion` letters is replaced by its children.
    """
    corners = torch.tensor([[x, y] for x in box[:2] for y in box[2:]], dtype=torch.float64, device=maps.device)
    words = torch.eye(2, 3, dtype=torch.float64, device=maps.device)[None]
    weights, chances = maps.new_ones(1), area_weights(maps)
    for length in range(recursion + 1):
        seen = apply(words, corners)
        seen = ((seen.amax(1) > -0.5) & (seen.amin(1) < side - 0.5)).all(1)
        words, weights = words[seen], weights[seen]
        fine = (singular_values(words)[:, 0] <= limit) | (length == recursion)
        yield length, words[fine], weights[fine]
        words = compose(words[~fine, None], maps).flatten(0, 1)
        weights = (weights[~fine, None] * chances).flatten()
        if not len(words):
            return


def pixel_index(points: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Which points (2, P) fall into a picture of side × side pixels, (P,) booleans, and the flat pixels of those."""
    column, row = (points + 0.5).floor_()
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    return inside, column.add_(row, alpha=side)[inside].long()


def occupancy(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    stroke: float = 0.0,
    supersample: int = 3,
    progress: Progress = bool,
) -> Tensor:
    """Coverage (S, S), float32 in [0, 1], of the attractor of maps (n, 2, 3) after `recursion` levels.

    A pixel's coverage is the part of its supersample² sub-pixels that hold a point of the attractor or, with a
    stroke (world units), that lie within the stroke of such a sub-pixel.
    """
    part = (window[1] - window[0]) / (size * supersample)
    pad = math.ceil(stroke / part)
    side, edge = size * supersample + 2 * pad, pad * part
    wide = (window[0] - edge, window[1] + edge, window[2] - edge, window[3] + edge)
    taken = hits(maps, wide, side, recursion, progress)
    if pad:
        taken = dilate(taken, stroke / part)[pad : side - pad, pad : side - pad]
    return torch.nn.functional.avg_pool2d(taken[None].float(), supersample)[0]


def dilate(taken: Tensor, radius: float) -> Tensor:
    """The pixels within `radius` pixels of one that is taken, between centres: (H, W) booleans to the same.

    A disc is a stack of rows. The picture, widened step by step along its rows, is shifted up and down to where the
    disc has a row of that width.
    """
    height, width = taken.shape
    offsets = range(min(int(radius), height - 1) + 1)
    halves = [min(int(math.sqrt(radius**2 - offset**2)), width - 1) for offset in offsets]
    wide, disc = taken.clone(), torch.zeros_like(taken)
    for half in range(halves[0] + 1):
        if half:
            wide[:, half:] |= taken[:, :-half]
            wide[:, :-half] |= taken[:, half:]
        for offset in (offset for offset in offsets if halves[offset] == half):
            disc[offset:] |= wide[: height - offset]
            disc[: height - offset] |= wide[offset:]
    return disc


def hits(maps: Tensor, window: Window, side: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Which of side × side pixels hold a point of the attractor after `recursion` levels: (side, side), boolean."""
    taken = torch.zeros(side * side, dtype=torch.bool, device=maps.device)
    for points in attractor(maps, window, side, recursion):
        taken.index_fill_(0, pixel_index(points, side)[1], True)
        progress(points.shape[1])
    return taken.reshape(side, side)


def distance(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    margin: float | None = None,
    progress: Progress = bool,
) -> Tensor:
    """Distance (S, S) in world units from each pixel to the nearest pixel that holds a point of the attractor.

    Points of the attractor up to `margin` outside the window count too; by default, as far away as the window is
    wide. Infinite everywhere if the attractor does not come so near. Pixels stand for their centres.
    """
    pixel = (window[1] - window[0]) / size
    pad = math.ceil((window[1] - window[0] if margin is None else margin) / pixel)
    edge = pad * pixel
    wide = (window[0] - edge, window[1] + edge, window[2] - edge, window[3] + edge)
    taken = hits(maps, wide, size + 2 * pad, recursion, progress)
    if not taken.any():
        return torch.full((size, size), torch.inf, device=maps.device)
    near = torch.from_numpy(distance_transform_edt(~taken.cpu().numpy()))[pad : pad + size, pad : pad + size]
    return (near * pixel).to(maps.device)


def density(maps: Tensor, window: Window, size: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Mass (S, S), float64, that the measure of the maps puts into each pixel after `recursion` levels.

    The measure gives each map the probability of `area_weights`, and starts as one point at its centre of mass.
    Particles that fall into the same cell are merged into one of their total weight at their centroid, so that mass
    is exact and places are exact to second order in the cell.
    """
    maps = in_pixels(maps, window, size)
    box = _reach(maps, size)
    direct = _cells(box) <= GROWN_CELLS
    cell = 1.0 if direct else max(box[1] - box[0], box[3] - box[2]) / CLOUD_SIDE
    clouds = _particles(maps, box, cell, recursion)
    whole = [(0, torch.eye(2, 3, dtype=torch.float64, device=maps.device)[None], maps.new_ones(1))]
    picture = maps.new_zeros(size * size)
    for length, words, shares in whole if direct else _follow(maps, box, size, 1 / cell, recursion):
        points, weights = clouds[min(recursion - length, len(clouds) - 1)]
        for word, share in zip(words, shares, strict=True):
            inside, index = pixel_index(images(word[None], points), size)
            picture.index_add_(0, index, share * weights[inside])
            progress(len(weights))
    return picture.reshape(size, size)


def _particles(maps: Tensor, box: Window, cell: float, recursion: int) -> list[tuple[Tensor, Tensor]]:
    """The measure after 0, 1, 2 … levels, as points (2, P) and weights (P,), until it no longer moves by a cell."""
    columns, rows = (math.ceil((box[k + 1] - box[k]) / cell - 1e-9) + 1 for k in (0, 2))
    chances = area_weights(maps)
    shrink = float((chances * singular_values(maps)[:, 0]).sum())
    points, weights = centroid(maps, chances)[:, None], maps.new_ones(1)
    levels, distance = [(points, weights)], max(box[1] - box[0], box[3] - box[2])
    for _ in range(recursion):
        if distance < cell / 4:
            break
        sums = maps.new_zeros(3, rows * columns)  # mass, and mass times place
        size = max(1, CHUNK // len(maps))
        for part, share in zip(points.split(size, dim=1), weights.split(size), strict=True):
            moved, share = images(maps, part), (chances[:, None] * share).flatten()
            column, row = (
                (moved[k] - box[2 * k]).div_(cell).clamp_(0, most - 1) for k, most in enumerate((columns, rows))
            )
            index = column.add_(row.floor_(), alpha=columns).long()
            for total, value in zip(sums, (share, *(moved * share)), strict=True):
                total.index_add_(0, index, value)
        taken = sums[0].nonzero().squeeze(1)
        weights, *moments = sums.index_select(1, taken)
        points = torch.stack(moments) / weights
        levels.append((points, weights))
        distance *= shrink
    return levels
