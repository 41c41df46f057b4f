"""The hard, converged attractor at any size: occupancy, density, distance.

Nothing here shares code with the soft splat, so that it can judge it. The attractor is grown, not enumerated: of the
points that fall into one cell of a grid only the first is kept and mapped on, so that the cost is about n maps of
each occupied cell at any depth. What the points of a cell that were dropped would have drawn next to it is missed: up
to a tenth of the pixels of curves. Those are found by `ifs_cover`, which draws small images of a coarser chart, tile by
tile; and whole pictures that have too many pixels for one grid, are zooms, or are in colours. Every point drawn is a
true point of the attractor.

Letters in shapes: n maps, K words, P points, S side of the picture, H rows of a strip, V corners of a polygon.
Points and maps are float64; points are (2, P), or (3, P) with an address between 0 and 1, of which the first letter
is the first digit in base n. A tile is (left, right, top, bottom) in pixels, right and bottom excluded.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from ifs_cover import BATCH, BEAMS, CHART_SIDE, Chart, Cover, runs
from diff_ifs.backend import kernels
from ifs_model import (
    Ancestry,
    apply,
    area_weights,
    centroid,
    compose,
    fixed_points,
    frame,
    singular_values,
)

Window = tuple[float, float, float, float]
Tile = tuple[int, int, int, int]
Progress = Callable[[int], object]  # is told how many points or pixels were looked at just now
MEMORY = 2 << 30  # bytes that a picture may take
OVERHEAD = 700 << 20  # bytes of these that Python, its packages and the clouds take
GROWN_CELLS = 4200**2  # of the largest grid that is grown directly: about what a picture of 1024² pixels needs
SOLID_CELLS = 1 << 27  # the same, of a solid attractor: of curves and dusts, one point a cell misses a few pixels
GROWN_BYTES = 18  # a cell, in a grid that is grown directly: the grid, and the newest points in the worst case
GROWN_AT_ONCE = 1 << 20  # points that are mapped between two looks at memory, where loops are compiled
CLOUD_SIDE = 2048  # cells along the longer side of the cloud that words draw where that grid would be too large
PARTICLE_SIDE = 512  # the same, for the particles of a density
PARTICLE_BYTES = 256 << 20  # of particles of different levels that are kept side by side
SAMPLES, MERGED = 1 << 18, 16  # words that stand for a slow measure, and the last levels, which are merged exactly
# Pixels that a cell of a cloud or a chart measures once a word has shrunk it, at most. One point stands for all of its
# cell: on a curve or a dust, what the others would have drawn is missed unless cells end up much smaller than a pixel.
# It is a sixth of the Koch curve's pixels at 0.7, 3 % at 0.35, 0.5 % at 0.2. A figure that fills its box has many other
# words that draw them, and 0.7 misses one pixel in 10,000.
# What growth leaves out is little enough to be looked for with more words (Lévy curve: 4.6 % at 0.35, 1.1 % at 0.1),
# with the most where the picture is small.
THIN, FULL, SOLID, EDGE, FINEST = 0.2, 0.35, 0.7, 0.1, 0.02
EDGE_WORDS = 1 << 24  # that may be looked at for what growth leaves out
NUDGE = 2.0**-20  # pixels that points are moved by: those on an edge are not to fall to either side, as rounding has it
ZOOMED = 4  # times as wide as the picture that an attractor is, at least, where the picture is a zoom
ONE_BY_ONE = 1 << 18  # words that are drawn one by one, whatever their size
CROWD = 1 << 13  # words that are looked at side by side, where images overlap so much that there are more
LOOKED_AT = 1 << 21  # words that are looked at for a tile, at most: those of slow maps end before they are small
LAYERS = 64  # points drawn for each pixel of a tile, or words with all of the cloud, at most
LEAST_CROWD = 1 << 7  # words that are looked at side by side in a zoom, however many letters they need
GLANCE = 8  # a side of the boxes that tell how much of a measure's image lies in a tile
DEVIATIONS = 16  # standard deviations of the measure of slow maps, beyond which nothing is told apart
FLOODED = 1 << 20  # cells of a grid that is grown at one go, in memory that holds them all, at most
SLOW = 0.9  # a contraction whose words take too many letters to become small
PURE, MIXED = 16, 8  # leaps of each length: powers of slow maps, and products of different ones
FLAT = 1e-6  # a contraction along one axis that cannot be undone
DRIFT = 0.88  # a contraction with which what growth drops in a cell adds up to a rim of pixels: see Cells.watch_rim
RIM_BYTES, RIM_WORK = 16, 1 << 28  # a cell, where the rim is watched; and images that are then looked at, at most
SHADES = 20  # steps that a point can lie further out in a cell than another, as in `ifs_kernels`
SHORTEST = 4  # cells that the slowest map moves a point at the other end of the attractor, or the grid is made finer
REFINED_CELLS, REFINED_WORK = 1 << 22, 1 << 29  # of a grid that is made finer, at most; and cells times maps
FAR = 1 << 40
FAR_SIDE = 2048  # pixels of pictures that show what is far from a window
CHUNK = 1 << 16  # points mapped at once on a CPU: what its caches hold
GLANCED = 1 << 13  # words looked at side by side


def bounds(maps: Tensor, directions: int = 64, corners: Tensor | None = None) -> Window:
    """A box (xmin, xmax, ymin, ymax) that surely holds the attractor of maps (n, 2, 3), and fits it closely.

    The support function h(d) = max over x in F of <x, d> of the attractor F satisfies
    h(d) = max_i <t_i, d> + h(A_i^T d). It is iterated from above on a ring of directions; between two of them h is
    bounded by their linear combination, because h is sublinear, so each iterate bounds F. The ring is at least so fine
    that this widens an image by less than its map shrinks it. With the corners (V, 2) of a figure, the box also holds
    the figure and all its images.
    """
    maps = maps.double()
    shrinks = max(1 - float(singular_values(maps).max()), 1e-6)
    directions = max(directions, 2 ** math.ceil(math.log2(6 / math.sqrt(shrinks))))
    middle = centroid(maps, area_weights(maps))  # about which the attractor is not wide, however far away it lies
    maps = torch.cat([maps[..., :2], apply(maps, middle[None]).mT - middle[:, None]], dim=-1)
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
    radius = float(maps[..., 2].norm(dim=-1).max()) / shrinks
    enough = min(1e-4, shrinks**2) * radius
    least = torch.full((directions,), -torch.inf, dtype=torch.float64, device=maps.device)
    if corners is not None:
        corners = corners - middle
        radius = max(radius, float(corners.norm(dim=-1).max()))
        least = (ring @ corners.T).amax(1)
    if (loops := kernels(maps)) is not None:
        arrays = (tensor.contiguous().numpy() for tensor in (offset, low, high, left, least))
        support = torch.from_numpy(loops.support(*arrays, radius, enough))
    else:
        support = torch.full_like(least, radius)
        for _ in range(100_000):
            images_support = (offset + low * support[left] + high * support[right]).amax(0)
            tighter = torch.minimum(support, torch.maximum(least, images_support))
            if torch.allclose(tighter, support, rtol=0, atol=enough):
                break
            support = tighter
    quarter = directions // 4
    (x, y), right, up, left, down = middle.tolist(), *support[::quarter].tolist()
    return x - left, x + right, y - down, y + up


def nudged(window: Window, side: int, device: torch.device) -> Tensor:
    """The frame (2, 3) of a window, float64, moved by so little that points on edges of pixels are off them."""
    there = torch.tensor(frame(window, side), dtype=torch.float64, device=device)
    there[:, 2] += NUDGE
    return there


def in_pixels(maps: Tensor, window: Window, side: int) -> Tensor:
    """The maps, float64, as they act on pixel coordinates: P∘f∘P⁻¹ with P the frame of the window, nudged."""
    there = nudged(window, side, maps.device)
    (across, _, left), (_, down, top) = there.tolist()
    back = torch.tensor(
        [[1 / across, 0, -left / across], [0, 1 / down, -top / down]], dtype=torch.float64, device=maps.device
    )
    return compose(compose(there, maps.double()), back)


def hull(maps: Tensor, directions: int = 720) -> Tensor:
    """Corners (V, 2), in order, of the convex hull of the attractor of maps (n, 2, 3), to a thousandth of its size.

    They are the attractor's outermost points in a ring of directions: one for a point, two for a segment.
    """
    maps = maps.double()
    box = bounds(maps)
    cell = max(box[1] - box[0], box[3] - box[2], 1e-9) / 1024
    cloud = torch.cat([points for _, points in grow(maps, box, cell, 1000)], dim=1)
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


def nearest(maps: Tensor, x: float, y: float) -> tuple[float, float]:
    """The point of the attractor of maps (n, 2, 3) that is nearest to (x, y), as precise as float64 is.

    Branch and bound over words: one is dropped when even its nearest point is further away than another's furthest.
    """
    maps = maps.double()
    middle = centroid(maps, area_weights(maps))
    box = bounds(maps)
    radius = max(math.hypot(u - float(middle[0]), v - float(middle[1])) for u in box[:2] for v in box[2:])
    words = torch.eye(2, 3, dtype=torch.float64, device=maps.device)[None]
    target = torch.tensor([x, y], dtype=torch.float64, device=maps.device)
    for _ in range(2000):
        words = compose(words[:, None], maps).flatten(0, 1)
        reach = singular_values(words)[:, 0] * radius
        away = (apply(words, middle[None])[:, 0] - target).norm(dim=1)
        words = words[(away - reach <= (away + reach).min())]
        words = words[(apply(words, middle[None])[:, 0] - target).norm(dim=1).argsort(stable=True)[:256]]
        if float(reach.max()) < 1e-16 * radius:
            break
    u, v = apply(words[0], middle[None])[0].tolist()
    return u, v


class Cells:
    """A grid of cells over a box, each of which is taken by the first point that falls into it.

    Cells end where pixels do, if their size is a power of two. Points are (2, P) in units of cells, counted from a
    corner that lies one cell outside of the box, so that rounding cannot push a point over the edge. Points further
    out share the cells of the border.
    """

    def __init__(self, box: Window, cell: float, device: torch.device):
        left, top = (math.floor((edge + 0.5) / cell) * cell - 0.5 - cell for edge in (box[0], box[2]))
        self.columns, self.rows = (math.floor((edge - low) / cell) + 2 for edge, low in ((box[1], left), (box[3], top)))
        options = {"dtype": torch.float64, "device": device}
        self.there = torch.tensor([[[1 / cell, 0, -left / cell], [0, 1 / cell, -top / cell]]], **options)
        self.back = torch.tensor([[[cell, 0, left], [0, cell, top]]], **options)
        self.free = torch.empty(self.rows * self.columns, dtype=torch.bool, device=device)
        self.outermost = torch.empty(0, 8, dtype=torch.uint8, device=device)
        self.clear()

    @functools.cached_property
    def owner(self) -> Tensor:
        """For each cell the first of those points that claim it, while they do. Compiled loops need none."""
        return torch.full(self.free.shape, torch.iinfo(torch.int32).max, dtype=torch.int32, device=self.free.device)

    def clear(self) -> None:
        """Free all cells."""
        self.free.fill_(True)

    def watch_rim(self) -> None:
        """From now on, take a point in a cell that is taken, too, if it lies further out there than all before.

        What is dropped lies up to a cell further out than what stays, and maps that shrink the world by s carry that on
        to cell / (1 - s): a rim that is never drawn. A point lies further out if it does so in one of eight directions,
        by a step of about cell / SHADES. Only cells with a free neighbour count: where all around is taken, points have
        none but such images, if maps are not singular.
        """
        self.outermost = torch.zeros(len(self.free), 8, dtype=torch.uint8, device=self.free.device)

    def index(self, points: Tensor) -> Tensor:
        """The flat cells (P,) of points."""
        across, up = points[0].clamp(0, self.columns - 1), points[1].clamp(0, self.rows - 1)
        flat = across.add_(up.floor_(), alpha=self.columns)
        return flat.int() if len(self.free) < 1 << 31 else flat.long()

    def claim(self, points: Tensor) -> Tensor:
        """Those of the points (2, P) or (3, P) that are the first ones in a cell that was free until now."""
        if len(points) == 2 and kernels(points) is not None:
            return self.spread(torch.eye(2, 3, dtype=points.dtype)[None], points)[0]
        return points.index_select(1, self.first(points))

    def first(self, points: Tensor) -> Tensor:
        """The indices (Q,) of the points that `claim` keeps."""
        index = self.index(points)
        if len(self.outermost):
            return self._further(points, index.long())
        fresh = self.free.index_select(0, index).nonzero().squeeze(1)
        index = index.index_select(0, fresh).long()
        order = torch.arange(len(fresh), dtype=torch.int32, device=fresh.device)
        self.owner.scatter_reduce_(0, index, order, "amin")
        self.free.index_fill_(0, index, False)
        fresh = fresh[self.owner.index_select(0, index) == order]
        self.owner.index_fill_(0, index, torch.iinfo(torch.int32).max)
        return fresh

    def _further(self, points: Tensor, index: Tensor) -> Tensor:
        """The indices (Q,) of points in cells (P,) that lie further out than all before, one for each direction."""
        edge, rim = self.columns + 1, torch.zeros_like(index, dtype=torch.bool)
        for offset in (row + column for row in (-self.columns, 0, self.columns) for column in (-1, 0, 1)):
            rim |= self.free[(index + offset).clamp(0, len(self.free) - 1)]
        rim |= (index < edge) | (index + edge >= len(self.free))
        some = rim.nonzero().squeeze(1)
        index, kept = index[some], torch.zeros_like(rim)
        u = (points[0, some] - index % self.columns).clamp(0, 1)
        v = (points[1, some] - index // self.columns).clamp(0, 1)
        flat, order = self.outermost.view(-1), torch.arange(len(some), dtype=torch.int32, device=index.device)
        ways = (way for ahead in (u, v, (u + v) / 2, (u - v + 1) / 2) for way in (ahead, 1 - ahead))
        for k, way in enumerate(ways):
            place, reach = 8 * index + k, 1 + (way * SHADES).to(torch.uint8)
            better = (reach > flat[place]).nonzero().squeeze(1)
            flat.scatter_reduce_(0, place[better], reach[better], "amax")
            best = better[flat[place[better]] == reach[better]]
            self.owner.scatter_reduce_(0, index[best], order[best], "amin")
            kept[some[best[self.owner[index[best]] == order[best]]]] = True
            self.owner.index_fill_(0, index[best], torch.iinfo(torch.int32).max)
        self.free.index_fill_(0, index, False)
        return kept.nonzero().squeeze(1)

    def flood(self, maps: Tensor, points: Tensor, levels: int) -> list[Tensor]:
        """At most so many levels (2, Q) that points (2, P) and maps (n, 2, 3) grow to, while there is anything new.

        Only compiled, and not for a rim: elsewhere, and in large grids, level after level is grown by `spread`.
        """
        loops = kernels(points)
        if loops is None or len(self.free) > FLOODED:
            return []
        arrays = (tensor.contiguous().numpy() for tensor in (maps, points, self.free))
        found, ends = loops.flood(*arrays, self.columns, levels)
        return [torch.from_numpy(found[:, first:end]) for first, end in pairwise(ends)]

    def spread(self, maps: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The images (2, Q) of points (2, P) under maps (n, 2, 3), as far as they claim a cell, and their origins (Q,).

        The origin of the image of point p under map k is k P + p.
        """
        if (loops := kernels(points)) is not None:
            arrays = (tensor.contiguous().numpy() for tensor in (maps, points, self.free))
            new, origins = loops.spread(*arrays, self.columns, self.outermost.numpy())
            return torch.from_numpy(new), torch.from_numpy(origins)
        moved = images(maps, points)
        origins = self.first(moved)
        return moved.index_select(1, origins), origins


def images(maps: Tensor, points: Tensor, digits: Tensor | None = None) -> Tensor:
    """The images (2, K P) or (3, K P) of points under maps (K, 2, 3), by one product of small matrices.

    digits (K, 2): the factor and the shift that a map is to addresses; without them, addresses stay as they are.
    """
    rows = maps.transpose(0, 1).flatten(0, 1)
    moved = torch.addmm(rows[:, 2:], rows[:, :2], points[:2]).view(2, -1)
    if len(points) == 2:
        return moved
    same = digits is None
    address = points[2].expand(len(maps), -1) if same else torch.addcmul(digits[:, 1:], digits[:, :1], points[2:])
    return torch.cat([moved, address.reshape(1, -1)])


def letters(n: int, like: Tensor) -> Tensor:
    """What each of n maps does to an address c: (c + i) / n, as factors and shifts (n, 2).

    The factor is a little less, so that rounding never carries an endless row of last digits over to the next letter.
    """
    shifts = torch.arange(n, dtype=like.dtype, device=like.device) / n
    return torch.stack([torch.full_like(shifts, (1 - 1e-9) / n), shifts], dim=1)


def at_once(device: torch.device) -> int:
    """How many points are best mapped at once."""
    return CHUNK if device.type == "cpu" else BATCH


def leaps(maps: Tensor, digits: Tensor, longest: int) -> tuple[Tensor, Tensor, int]:
    """Words of slow maps that move points further than one letter can: maps (K, 2, 3), digits (K, 2), longest length.

    An attractor is its own image under words, too, so that they may stand beside the maps. Some words of 2, 4, 8 …
    letters, at most `longest`, are taken, until they shrink the world to half: powers of the slowest maps, and products
    of words of half the length, drawn at random. There are none where no map is slow.
    """
    chance = torch.Generator().manual_seed(0)
    slowness = singular_values(maps)[:, 0]
    slowest = slowness.argsort(descending=True, stable=True)[: min(PURE, int((slowness > SLOW).sum()))]
    pure = mixed = torch.cat([maps[slowest], _as_rows(digits[slowest])], dim=1)
    length, found = 1, [mixed[:0]]
    while len(mixed) and 2 * length <= longest:
        pairs = torch.randint(len(mixed), (2, MIXED), generator=chance).to(maps.device)
        length, pure = 2 * length, _joined(pure, pure)
        mixed = torch.cat([pure, _joined(mixed[pairs[0]], mixed[pairs[1]])])
        found.append(mixed)
        pure, mixed = (some[singular_values(some[:, :2])[:, 0] > 0.5] for some in (pure, mixed))
    words = torch.cat(found)
    return words[:, :2], words[:, 2, 1:], length


def _as_rows(digits: Tensor) -> Tensor:
    """What maps do to addresses, (K, 2), as a third row of theirs: (K, 1, 3)."""
    return torch.nn.functional.pad(digits, (1, 0))[:, None]


def _joined(f: Tensor, g: Tensor) -> Tensor:
    """Compositions f∘g of words with their digits as a third row: (K, 3, 3)."""
    factor, shift = f[:, 2, 1] * g[:, 2, 1], f[:, 2, 2] + f[:, 2, 1] * g[:, 2, 2]
    return torch.cat([compose(f[:, :2], g[:, :2]), _as_rows(torch.stack([factor, shift], dim=1))], dim=1)


def grow(
    maps: Tensor,
    box: Window,
    cell: float,
    recursion: int,
    start: Tensor | None = None,
    digits: Tensor | None = None,
    rim: bool = True,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (level, points) of the attractor, one point for each cell of a grid over `box`; of slow maps, some more.

    Without a start, level 0 holds the fixed points of the maps, and level k their new images under words of k
    letters; they lie on the attractor, so that levels add up. With a start, points (2, P) or (3, P), level k holds
    its images under words of k letters alone. A level may come in several parts. Ends after level `recursion`, or
    when another level would bring nothing new.

    Where a map moves a point by less than a cell, its image is dropped, and growth would stop there. Slow maps leap,
    therefore: a level also holds images under long words, as far as `recursion` allows. If they are too long for that,
    levels are those that leaps surely reach, with others in between left out. Once there is nothing new, what slow maps
    have lost at the rim is grown, unless `rim` is not asked for: see `Cells.watch_rim`.
    """
    cells = Cells(box, cell, maps.device)
    steps = compose(compose(cells.there, maps), cells.back)
    gap, shrink = max(box[1] - box[0], box[3] - box[2]), float(singular_values(maps).max())
    stride = 1
    if start is None:
        first = fixed_points(steps).T
        if digits is not None:
            first = torch.cat([first, (digits[:, 1] + digits[:, 0] / 2)[None]])
        if shrink > SLOW:
            settled = recursion * -math.log(shrink) >= math.log(max(gap / cell, 1))
            plain = letters(len(maps), maps) if digits is None else digits
            words, shifts, length = leaps(steps, plain, recursion if settled else recursion // 64)
            steps, digits = torch.cat([steps, words]), None if digits is None else torch.cat([digits, shifts])
            stride = 1 if settled else length
    else:
        first = images(cells.there, start)
    parts, kept, work = [cells.claim(first.contiguous())], [], 0
    flooded = start is None and digits is None
    following = cells.flood(steps, parts[0], recursion // stride)[::-1] if flooded else []
    drifts = rim and start is None and shrink > DRIFT
    for level in range(0, recursion + 1, stride):
        for part in parts:
            yield level, images(cells.back, part)
        if level + stride > recursion or (start is not None and gap < cell / 4):
            return
        if start is not None:
            cells.clear()
            gap *= shrink
        if drifts:
            kept += parts
        parts = [following.pop()] if following else _grown(cells, steps, parts, digits)
        if drifts and not parts:
            drifts, same = False, torch.eye(2, 3, dtype=steps.dtype, device=steps.device)[None]
            cells.watch_rim()
            parts = _grown(cells, same, kept, None if digits is None else steps.new_tensor([[1.0, 0.0]]))
            kept, parts = [], _grown(cells, steps, parts, digits)
        if len(cells.outermost):
            work += len(steps) * sum(part.shape[1] for part in parts)
        if not parts or work > RIM_WORK:
            return


def _grown(cells: Cells, steps: Tensor, parts: list[Tensor], digits: Tensor | None) -> list[Tensor]:
    """The images of parts under steps (n, 2, 3), as far as they claim a cell, in parts; none of them is empty."""
    if digits is None and kernels(steps) is not None:
        if sum(part.shape[1] for part in parts) <= GROWN_AT_ONCE:
            parts = [torch.cat(parts, dim=1)]
        chunks = (chunk for part in parts for chunk in part.split(GROWN_AT_ONCE, dim=1))
        return [new for chunk in chunks if (new := cells.spread(steps, chunk)[0]).shape[1]]
    share = max(1, at_once(steps.device) // len(steps))
    chunks = (chunk for part in parts for chunk in part.split(share, dim=1))
    parts = [fresh for chunk in chunks if (fresh := cells.claim(images(steps, chunk, digits))).shape[1]]
    if parts and sum(part.shape[1] for part in parts) < at_once(steps.device):
        return [torch.cat(parts, dim=1)]
    return parts


def ancestry(maps: Tensor, window: Window, side: int) -> Ancestry:
    """Of which points the points are images that `grow` finds in a picture of side × side pixels of the window.

    They are grown on the CPU, whatever device they are for: level by level, they are too few for a GPU.
    """
    device, maps = maps.device, in_pixels(maps.cpu(), window, side)
    cells = Cells(_reach(maps, side), 1.0, maps.device)
    maps = compose(compose(cells.there, maps), cells.back)
    points = fixed_points(maps).T
    letters, parents, sizes = [cells.first(points)], [], []
    points, first = points[:, letters[0]], 0
    parents.append(torch.zeros_like(letters[0]))
    while points.shape[1]:
        sizes.append(points.shape[1])
        moved, origins = cells.spread(maps, points)
        letters.append(origins // points.shape[1])
        parents.append(origins - letters[-1] * points.shape[1] + first)
        points, first = moved, first + points.shape[1]
    return Ancestry(torch.cat(letters).to(device), torch.cat(parents).to(device), sizes)


def _reach(maps: Tensor, side: int) -> Window:
    """The box, in pixels, in which points are told apart: the attractor's bounds, or of a large one what lies near.

    Where maps shrink the world slowly, most of a large attractor is images of what is far from the picture.
    """
    box = bounds(maps)
    if max(box[1] - box[0], box[3] - box[2]) > 4 * side and singular_values(maps).max() > SLOW:
        box = tuple(min(max(edge, -2.0 * side), 3.0 * side) for edge in box)
    return _to_edges(box)


def spread(maps: Tensor, weights: Tensor) -> Window:
    """The box that lies within DEVIATIONS standard deviations of the centre of the invariant measure.

    The covariance C solves C = Σ p_i (A_i C A_iᵀ + d_i d_iᵀ), where d_i is how far map i moves the centre.
    """
    middle = centroid(maps, weights)
    moved = apply(maps, middle[None])[:, 0] - middle
    grown = torch.einsum("n,nij,nkl->ikjl", weights, maps[:, :, :2], maps[:, :, :2]).reshape(4, 4)
    added = torch.einsum("n,ni,nj->ij", weights, moved, moved).flatten()
    variances = torch.linalg.solve(torch.eye(4).to(grown) - grown, added)[[0, 3]]
    far = DEVIATIONS * variances.clamp(min=0).sqrt()
    (left, low), (right, high) = (middle - far).tolist(), (middle + far).tolist()
    return left, right, low, high


def _to_edges(box: Window) -> Window:
    """A box in pixels, moved outwards to the edges of pixels."""
    left, low = (math.floor(edge + 0.5) - 0.5 for edge in box[::2])
    return left, max(box[1], left + 1), low, max(box[3], low + 1)


@dataclass(frozen=True)
class Words:
    """Words of one length: their maps (K, 2, 3), their weights (K,), and what they do to addresses (K, 2)."""

    length: int
    maps: Tensor
    weights: Tensor
    digits: Tensor


class Attractor:
    """The attractor of maps after `recursion` levels, in the pixel coordinates of a picture of side × side pixels."""

    def __init__(
        self,
        maps: Tensor,
        window: Window,
        side: int,
        recursion: int = 1000,
        corners: Tensor | None = None,
        memory: int = MEMORY,
        measure: bool = False,
    ):
        self.maps, self.side, self.recursion = in_pixels(maps, window, side), side, recursion
        self.weights = area_weights(self.maps)
        self.digits = letters(len(maps), self.maps)
        self.corners = None if corners is None else apply(nudged(window, side, maps.device), corners.to(self.maps))
        self.slowest = slowest = float(singular_values(self.maps).max())
        self.box, self.measure = bounds(self.maps, corners=self.corners), measure
        if measure and slowest > SLOW:  # a measure may be much smaller than the bounds of where it lies
            near = spread(self.maps, self.weights)
            self.box = tuple(
                pick(pair) for pick, pair in zip((max, min) * 2, zip(self.box, near, strict=True), strict=True)
            )
        self.box = _to_edges(self.box)
        self.span = max(self.box[1] - self.box[0], self.box[3] - self.box[2])
        self.zoomed = corners is None and self.span > ZOOMED * side
        area = (self.box[1] - self.box[0] + 3) * (self.box[3] - self.box[2] + 3)
        cell_bytes = GROWN_BYTES + (RIM_BYTES if slowest > DRIFT else 0)
        room = (memory - OVERHEAD - side**2) / cell_bytes
        self.direct = corners is None and not self.zoomed and area <= min(SOLID_CELLS, room)
        self.large = area > GROWN_CELLS
        self.grain, self.rim = self._grain(slowest), True
        self.small = area <= FLOODED * self.grain**2  # few enough points to be drawn at one go
        self.clouds: dict[tuple[int, int], Tensor] = {}
        self.covers: dict[bool, Cover] = {}

    def _grain(self, slowest: float) -> float:
        """The side in pixels, 1 or 1/2, 1/4 …, of the cells in which the attractor is grown directly."""
        step, grain = (1 - slowest) * self.span, 1.0
        area = max(self.box[1] - self.box[0], 1) * max(self.box[3] - self.box[2], 1)
        most = min(REFINED_CELLS, REFINED_WORK / (len(self.maps) + 100)) / 4
        while step < (1 - SLOW) * self.span and step < SHORTEST * grain and area <= most * grain**2:
            grain /= 2
        return grain

    def cell(self, side: int) -> float:
        """A power of two, so that cells end where pixels do: about `side` of them make up the box."""
        return max(0.5, 2.0 ** round(math.log2(self.span / side)))

    def words(
        self, tile: Tile, limit: float, shortest: int = 0, crowd: int = CROWD, most: float = math.inf
    ) -> Iterator[Words]:
        """Yield the words that draw a tile, none of which is a prefix of another.

        A word whose image of the box misses the tile is dropped; one that shrinks the world by less than `limit`, or
        has fewer than `shortest` letters, and fewer than `recursion`, is replaced by its children. Of more than
        `crowd`, or in a zoom more than LOOKED_AT allows of the longest words, the heaviest of each place are kept; of a
        measure, some that weigh as much as all did. Before there are more than `most`, and after LOOKED_AT, those that
        are there are taken, small or not, so that none are lost.
        """
        like = {"dtype": torch.float64, "device": self.maps.device}
        edges = torch.tensor([[x, y] for x in self.box[:2] for y in self.box[2:]], **like)
        low, high = torch.tensor([[tile[0], tile[2]], [tile[1], tile[3]]], **like) - 0.5
        found = Words(
            0,
            torch.eye(2, 3, **like)[None],
            self.maps.new_ones(1),
            torch.tensor([[1.0, 0.0]], **like),
        )
        looked_at, chance = 0, torch.Generator().manual_seed(0)
        if self.zoomed and limit > 0:
            longest = math.log(limit) / math.log(min(max(self.slowest, 1e-9), 1 - 1e-9))
            crowd = min(crowd, max(LEAST_CROWD, int(LOOKED_AT / (max(longest, 1) * len(self.maps)))))
        for length in range(self.recursion + 1):
            seen = apply(found.maps, edges)
            seen = ((seen.amax(1) >= low) & (seen.amin(1) <= high)).all(1)
            maps, weights, digits = found.maps[seen], found.weights[seen], found.digits[seen]
            small = (singular_values(maps)[:, 0] <= limit) & (length >= shortest) | (length == self.recursion)
            looked_at += len(seen)
            enough = looked_at > LOOKED_AT or int((~small).sum()) * len(self.maps) > most
            if enough and length >= shortest:
                small.fill_(True)
            yield Words(length, maps[small], weights[small], digits[small])
            if small.all():
                return
            large = (~small).nonzero().squeeze(1)
            if self.measure and len(large) > crowd:
                kept, factors = thinned(weights[large] * self.within(maps[large], tile), crowd, chance)
                large = large[kept]
                weights[large] *= factors
            elif len(large) > crowd:
                large = large[self.order(maps[large], weights[large], tile)[:crowd]]
            maps, weights, digits = maps[large, None], weights[large, None], digits[large, None]
            shifts = torch.addcmul(digits[..., 1], digits[..., 0], self.digits[:, 1])
            found = Words(
                length + 1,
                compose(maps, self.maps).flatten(0, 1),
                (weights * self.weights).flatten(),
                torch.stack([(digits[..., 0] * self.digits[:, 0]), shifts], dim=-1).flatten(0, 1),
            )

    @functools.cached_property
    def glance(self) -> tuple[Tensor, Tensor, Tensor]:
        """The measure in up to GLANCE × GLANCE parts: their middles (Q, 2), half their sides (Q, 2), masses (Q,)."""
        *_, (_, points, weights) = particles(self, self.cell(CHART_SIDE))
        low, high = points.new_tensor(self.box).view(2, 2).T
        column, row = ((points.T - low) / (high - low) * GLANCE).long().clamp(0, GLANCE - 1).unbind(1)
        masses = weights.new_zeros(GLANCE**2).scatter_add_(0, row * GLANCE + column, weights)
        part, found = (row * GLANCE + column)[:, None].expand(-1, 2), masses.nonzero().squeeze(1)
        ends = (
            points.new_zeros(GLANCE**2, 2).scatter_reduce_(0, part, points.T, kind, include_self=False)[found]
            for kind in ("amin", "amax")
        )
        first, last = ends
        return (first + last) / 2, (last - first + self.cell(CHART_SIDE)) / 2, masses[found]

    def within(self, maps: Tensor, tile: Tile) -> Tensor:
        """About how much (K,) of the image of the measure under words (K, 2, 3) lies in a tile, at a glance."""
        low, high = maps.new_tensor([[tile[0], tile[2]], [tile[1], tile[3]]]) - 0.5
        middles, halves, masses = self.glance
        parts = []
        for some in maps.split(GLANCED):
            there, wide = apply(some, middles), (halves @ some[:, :, :2].abs().mT).clamp(min=0.5)
            share = (torch.minimum(there + wide, high) - torch.maximum(there - wide, low)).clamp(min=0) / (2 * wide)
            parts.append(share.prod(2) @ masses)
        return torch.cat(parts)

    def order(self, maps: Tensor, weights: Tensor, tile: Tile) -> Tensor:
        """An order of words (K,) in which each of 32 × 32 places of a tile has its heaviest word first, its next …"""
        edges = torch.tensor(
            [[x, y] for x in self.box[:2] for y in self.box[2:]], dtype=torch.float64, device=maps.device
        )
        seen = apply(maps, edges)
        low, high = torch.tensor([[tile[0], tile[2]], [tile[1], tile[3]]], dtype=torch.float64, device=maps.device)
        middle = (seen.amin(1).clamp(low, high) + seen.amax(1).clamp(low, high)) / 2
        column, row = ((middle - low) / (high - low) * 32).long().clamp(max=31).unbind(1)
        heaviest = weights.argsort(descending=True, stable=True)
        by_place = heaviest[(row * 32 + column)[heaviest].argsort(stable=True)]
        first = torch.searchsorted((row * 32 + column)[by_place], (row * 32 + column)[by_place])
        rank = torch.arange(len(weights), device=weights.device) - first
        return by_place[rank.argsort(stable=True)]

    def cover(self, addresses: bool = False) -> Cover:
        """What draws the attractor tile by tile, where it is too large to be grown in the pixels of the picture."""
        if addresses not in self.covers:
            cell = self.cell(CHART_SIDE)
            levels = grow(self.maps, self.box, cell, self.recursion, digits=self.digits if addresses else None)
            numbers, parts = zip(*levels, strict=True)
            sizes = torch.tensor([part.shape[1] for part in parts])
            numbers = torch.tensor(numbers).repeat_interleave(sizes).to(self.maps.device)
            chart = Chart(torch.cat(parts, dim=1), numbers, self.box, cell)
            fine = FULL if chart.filled > 1 / 8 else THIN
            self.covers[addresses] = Cover(self.maps, self.digits, chart, fine, self.recursion)
        return self.covers[addresses]

    @property
    def settled(self) -> bool:
        """Whether no word of `recursion` letters is wider than a pixel, and all maps can be undone."""
        narrow = self.recursion * -math.log(max(self.slowest, 1e-9)) >= math.log(max(self.span, 1))
        return narrow and float(singular_values(self.maps).min()) > FLAT

    @functools.cached_property
    def grown(self) -> bool:
        """Whether the attractor is grown in the pixels of the picture: of a large one only if it is solid."""
        return self.direct and (not self.large or self.cover().fine == FULL)

    def points(self, tile: Tile, addresses: bool = False) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield what `images` makes the points of that draw a tile, among others: maps, points, digits.

        Points are (2, P), or (3, P) with addresses.
        """
        as_they_are = torch.eye(2, 3, dtype=torch.float64, device=self.maps.device)[None]
        if self.corners is None:
            digits = self.digits if addresses else None
            levels = grow(self.maps, self.box, self.grain, self.recursion, digits=digits, rim=self.rim)
            parts = (points for _, points in levels)
            for part in [torch.cat(list(parts), dim=1)] if self.small else parts:
                yield as_they_are, part, None
            return
        cell = self.cell(CLOUD_SIDE)
        one_by_one = self.recursion <= 64 and len(self.maps) ** self.recursion <= ONE_BY_ONE
        area = (self.box[1] - self.box[0]) * (self.box[3] - self.box[2]) / cell**2
        solid = not one_by_one and self._cloud(self.recursion, 0, cell, addresses).shape[1] > area / 8
        fine = SOLID if solid else THIN
        small = []
        limit, crowd = (-1.0, ONE_BY_ONE) if one_by_one else (fine / cell, CROWD)
        for words in self.words(tile, limit, int(addresses), crowd):
            if words.length == self.recursion:
                middle = words.digits[:, 1] + words.digits[:, 0] / 2
                for part in fill(apply(words.maps, self.corners), tile, middle if addresses else None):
                    yield as_they_are, part, None
            elif len(words.maps):
                small.append(words)
        if not small:
            return
        maps, weights, digits = (torch.cat([getattr(w, k) for w in small]) for k in ("maps", "weights", "digits"))
        levels = torch.cat([torch.full((len(w.maps),), self.recursion - w.length) for w in small]).to(maps.device)
        spare = fine / cell / singular_values(maps)[:, 0].clamp(min=1e-300)
        coarser = spare.log2().floor().clamp(0, math.log2(2 * CLOUD_SIDE)).long()
        self._cloud(0, 0, cell, addresses)
        deepest = max(level for level, _ in self.clouds)
        kinds = (levels.clamp(max=deepest) * 64 + coarser).unique(return_inverse=True)
        clouds = [self._cloud(kind // 64, kind % 64, cell, addresses) for kind in kinds[0].tolist()]
        sizes = torch.tensor([cloud.shape[1] for cloud in clouds], device=maps.device)[kinds[1]]
        order = self.order(maps, weights, tile)
        most = LAYERS * max((tile[1] - tile[0]) * (tile[3] - tile[2]), int(sizes.max()))
        drawn_words = order[sizes[order].cumsum(0) <= most]
        batch = 4 * at_once(maps.device)
        for kind, cloud in enumerate(clouds):
            for some in drawn_words[kinds[1][drawn_words] == kind].split(max(1, batch // cloud.shape[1])):
                for part in cloud.split(batch, dim=1):
                    yield maps[some], part, digits[some] if addresses else None

    def _cloud(self, level: int, step: int, cell: float, addresses: bool) -> Tensor:
        """A level of the figure, as at most one point for each cell; each step doubles it."""
        if not self.clouds:
            start = self._sampled(cell, addresses)
            digits = self.digits if addresses else None
            levels: list[list[Tensor]] = []
            for number, points in grow(self.maps, self.box, cell, self.recursion, start, digits):
                levels.extend([] for _ in range(number + 1 - len(levels)))
                levels[number].append(points)
            self.clouds = {(number, 0): torch.cat(parts, dim=1) for number, parts in enumerate(levels)}
        level = min(level, max(level for level, _ in self.clouds))
        if (level, step) not in self.clouds:
            finer = self._cloud(level, step - 1, cell, addresses)
            cells = Cells(self.box, cell * 2**step, self.maps.device)
            self.clouds[level, step] = images(cells.back, cells.claim(images(cells.there, finer)))
        return self.clouds[level, step]

    def _sampled(self, cell: float, addresses: bool) -> Tensor:
        """The figure as points, one for each cell or closer."""
        cells = Cells(self.box, cell, self.maps.device)
        middle = self.maps.new_full((1,), 0.5) if addresses else None
        parts = fill(apply(cells.there, self.corners), (0, cells.columns, 0, cells.rows), middle)
        return torch.cat([images(cells.back, part) for part in parts], dim=1)


# --- Figures: points, segments and convex polygons ---


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
    for owner, number in runs(counts):
        at = first[owner] + (last - first)[owner] * (number / steps[owner].clamp(min=1))
        yield (starts[owner] + at[:, None] * way[owner]).T, owner


def _within(polygons: Tensor, tile: Tile) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixel centres (2, P) of a tile that lie in convex polygons (K, V, 2), and in which; edges to the right
    and at the bottom are left to the neighbour."""
    top, bottom = polygons[..., 1].amin(1).ceil().clamp(min=tile[2]), polygons[..., 1].amax(1).ceil().clamp(max=tile[3])
    for polygon, number in runs((bottom - top).clamp(min=0).long()):
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
        for line, column in runs((stop - start).clamp(min=0).long()):
            yield torch.stack([start[line] + column, y[line]]), polygon[line]


# --- Pictures ---


def places(points: Tensor, tile: Tile) -> Tensor:
    """The flat pixels of points (2, P) in a tile with a rim of one pixel, which takes what lies outside: (P,)."""
    width, height = tile[1] - tile[0] + 2, tile[3] - tile[2] + 2
    across = (points[0] + (1.5 - tile[0])).clamp_(0, width - 1)
    down = (points[1] + (1.5 - tile[2])).clamp_(0, height - 1).floor_()
    return across.add_(down, alpha=width).long()


def rimless(flat: Tensor, tile: Tile) -> Tensor:
    """The pixels (..., H, W) of a tile without their rim, from flat ones."""
    return flat.unflatten(-1, (tile[3] - tile[2] + 2, tile[1] - tile[0] + 2))[..., 1:-1, 1:-1]


def drawn(attractor: Attractor, tile: Tile, progress: Progress = bool, colours: int = 0) -> Tensor:
    """Which pixels of a tile hold a point: (H, W), boolean; with `colours`, the highest colour 1 … there, or 0."""
    height, width = tile[3] - tile[2] + 2, tile[1] - tile[0] + 2
    dtype = torch.int16 if colours else torch.bool
    if attractor.corners is None and not attractor.grown:
        picture = torch.zeros(height - 2, width - 2, dtype=dtype, device=attractor.maps.device)
        beams = BEAMS if attractor.rim else BEAMS[:2]
        attractor.cover(colours > 0).draw(picture, tile[0], tile[2], colours, progress, beams)
        return picture
    picture = torch.zeros(height * width, dtype=dtype, device=attractor.maps.device)
    loops = None if colours else kernels(picture)
    for maps, points, digits in attractor.points(tile, colours > 0):
        if loops is not None:
            arrays = maps.contiguous().numpy(), points.contiguous().numpy()
            loops.mark(*arrays, 1.5 - tile[0], 1.5 - tile[2], picture.view(height, width).numpy())
        else:
            moved = images(maps, points, digits)
            index = places(moved, tile)
            if colours:  # where images overlap, the last letter in the alphabet wins
                picture.scatter_reduce_(0, index, (moved[2] * colours + 1).short(), "amax")
            else:
                picture.index_fill_(0, index, True)
        progress(len(maps) * points.shape[1])
    picture = rimless(picture, tile)
    if attractor.rim and attractor.corners is None and not colours:
        picture = picture.contiguous()
        cover = replace(attractor.cover(), fine=FINEST if attractor.small else EDGE, allowed=EDGE_WORDS)
        cover.draw(picture, tile[0], tile[2], 0, progress)
    return picture


def looked_back(attractor: Attractor, tile: Tile, colours: int) -> Tensor:
    """The colours of `drawn`, of an attractor that is grown as a whole: (H, W), 0 also at some of its edges.

    A point x lies in the image of map i if the point that i takes to x lies on the attractor. The address of x is then
    letter i and the address of that point; each round tells one letter more, of the highest address there is.
    """
    maps, n = attractor.maps, len(attractor.maps)
    points = torch.cat([part for _, part, _ in attractor.points(tile)], dim=1)
    left, right, top, bottom = attractor.box
    whole = round(left + 0.5), math.ceil(right + 0.5), round(top + 0.5), math.ceil(bottom + 0.5)
    here = places(points, whole)
    shades = torch.full(((whole[1] - whole[0] + 2) * (whole[3] - whole[2] + 2),), -1.0, device=maps.device)
    shades[here] = 0.5
    linear = torch.linalg.inv(maps[:, :, :2])
    back = torch.cat([linear, -linear @ maps[:, :, 2:]], dim=2)
    for _ in range(1 if colours == n else math.ceil(math.log(4 * colours) / math.log(n))):
        found = []
        for part in points.split(at_once(maps.device), dim=1):
            best = shades.new_full(part.shape[1:], -1.0)
            for i in range(n):
                shade = shades[places(images(back[i : i + 1], part), whole)]
                best = torch.where(shade < 0, best, (i + shade) / n)
            found.append(best)
        found = torch.cat(found)
        shades.index_fill_(0, here, 0.0).scatter_reduce_(0, here, found, "amax")
    index, picture = places(points, tile), shades.new_zeros((tile[1] - tile[0] + 2) * (tile[3] - tile[2] + 2))
    picture.scatter_reduce_(0, index, (found * colours).floor().add_(1).clamp_(0, colours), "amax")
    return rimless(picture.short(), tile)


def hits(maps: Tensor, window: Window, side: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Which of side × side pixels hold a point of the attractor after `recursion` levels: (side, side), boolean."""
    return drawn(Attractor(maps, window, side, recursion), (0, side, 0, side), progress)


def lacking(maps: Tensor, window: Window, recursion: int) -> float:
    """The part of the attractor's pixels, of 128 × 128 in a window, in which level `recursion` has no point."""
    whole, level = (occupancy(maps, window, 128, r, supersample=1, rim=False) for r in (1000, recursion))
    return float((whole > level).sum() / whole.sum().clamp(min=1))


def strip_rows(size: int, row_bytes: int, memory: int) -> int:
    """How many rows of a picture fit into memory at once. Raises MemoryError if it is not even one."""
    rows = (memory - OVERHEAD) // row_bytes
    if rows < 1:
        raise MemoryError(f"a single row needs {(row_bytes + OVERHEAD) / 2**30:.1f} GiB")
    return min(size, rows)


def coverage_strips(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    stroke: float = 0.0,
    supersample: int = 3,
    corners: Tensor | None = None,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
    rim: bool = True,
) -> Iterator[Tensor]:
    """Yield coverage, float32, (H, S) in [0, 1], in strips from the top; see `occupancy`.

    With a palette (L, 3), strips are (4, H, S): red, green and blue, times coverage, and coverage. Addresses between
    0 and 1 take its colours in turn; a palette of n colours shows the first letter.
    """
    part = (window[1] - window[0]) / (size * supersample)
    pad, side = math.ceil(stroke / part), size * supersample
    plain = Attractor(maps, window, side, recursion, corners, memory)
    plain.rim = rim
    cost = (2 if palette is None else 32) + (6 if pad else 0)
    padding = 2 * pad * cost * (side + 2 * pad)
    rows = strip_rows(size, cost * supersample * (side + 2 * pad), memory - padding)
    plain.direct &= rows == size
    if palette is not None:
        whole = plain.grown and plain.settled and len(maps) > 1
        coloured = Attractor(maps, window, side, recursion, corners, memory)
        coloured.direct = False  # grown points hide those of other maps that came later
    for first in range(0, size, rows):
        last = min(first + rows, size)
        tile = (-pad, side + pad, first * supersample - pad, last * supersample + pad)
        taken = drawn(plain, tile, progress)
        if palette is not None:  # edges, which colours miss here and there, have the nearest one
            count = len(palette)
            shaded = looked_back(plain, tile, count) if whole else drawn(coloured, tile, progress, count)
            taken = _coloured(shaded * taken, taken)
        if pad:
            taken = _with_pen(taken, stroke / part)[pad:-pad, pad:-pad]
        for piece in taken.split(max(1, (1 << 20) // side) * supersample):
            if palette is None:
                yield _pooled(piece, supersample)
            else:
                on = (piece > 0).float()
                shades = palette.to(on)[(piece.long() - 1).clamp(min=0)].permute(2, 0, 1) * on
                yield torch.stack([_pooled(layer, supersample) for layer in (*shades, on)])


def _pooled(layer: Tensor, supersample: int) -> Tensor:
    """Means of supersample² sub-pixels: (H, W) of any kind to float32."""
    return torch.nn.functional.avg_pool2d(layer[None].float(), supersample)[0]


def _with_pen(taken: Tensor, radius: float) -> Tensor:
    """What is drawn (H, W), booleans or colours, with a pen of a radius in pixels; its colour is the nearest one."""
    return dilate(taken, radius) if taken.dtype == torch.bool else _coloured(taken, dilate(taken > 0, radius))


def _coloured(colours: Tensor, wanted: Tensor) -> Tensor:
    """Colours (H, W), 0 for none, where pixels without one that are wanted (H, W) have taken that of the nearest."""
    missing = wanted & (colours == 0)
    if not missing.any() or not colours.any():
        return colours
    near = distance_transform_edt((colours == 0).cpu().numpy(), return_distances=False, return_indices=True)
    row, column = torch.from_numpy(near).to(colours.device)[:, missing].long()
    return colours.index_put((missing,), colours[row, column])


def occupancy(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    stroke: float = 0.0,
    supersample: int = 3,
    progress: Progress = bool,
    rim: bool = True,
) -> Tensor:
    """Coverage (S, S), float32 in [0, 1], of the attractor of maps (n, 2, 3) after `recursion` levels.

    A pixel's coverage is the part of its supersample² sub-pixels that hold a point of the attractor or, with a
    stroke (world units), that lie within the stroke of such a sub-pixel. Without `rim`, what growth leaves out is not
    drawn: some of the pixels at edges, and of slow maps a rim.
    """
    strips = coverage_strips(maps, window, size, recursion, stroke, supersample, progress=progress, rim=rim)
    return torch.cat(list(strips))


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
        far = _Far(maps, window, size, recursion, corners, memory)
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
        taken = drawn(attractor, (left, right, top, bottom), progress).cpu()
        near = torch.full(taken.shape, torch.inf, dtype=torch.float64)
        if taken.any():
            near = torch.from_numpy(distance_transform_edt(~taken.numpy()))
        yield (near[-top : size - top, -left : size - left] * pixel).to(maps.device)
        return
    for first, last in strips:
        taken = drawn(attractor, (left, right, first, last), progress).cpu()
        highest.append(first + _first(taken, 0))
        lowest.append(last - 1 - _first(taken.flip(0), 0))
    for number, (first, last) in enumerate(strips):
        if not 0 <= first < size:
            continue
        taken = drawn(attractor, (left, right, first, last), progress).cpu()
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


class _Far:
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
            taken = drawn(attractor, (0, FAR_SIDE, 0, FAR_SIDE))
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


def density(maps: Tensor, window: Window, size: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Mass (S, S), float64, that the measure of the maps puts into each pixel after `recursion` levels.

    The measure gives each map the probability of `area_weights`, and starts as one point at its centre of mass.
    Particles that fall into the same cell are merged into one of their total weight at their centroid, so that mass
    is exact and places are exact to second order in the cell.
    """
    return torch.cat(list(density_strips(maps, window, size, recursion, progress=progress)))


def density_strips(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield the mass of `density` in strips (H, S) from the top.

    With a palette (L, 3), strips are (4, H, S): red, green and blue, weighted with mass, and mass.
    """
    attractor = Attractor(maps, window, size, recursion, measure=True)
    slow = float((attractor.weights * singular_values(attractor.maps)[:, 0]).sum()) > SLOW and not attractor.zoomed
    many = max(1.0, len(maps) / 64)  # maps, which coarser particles and more words draw in less time
    cell = attractor.cell(CLOUD_SIDE if slow else max(1, round(PARTICLE_SIDE / many**0.5)))
    choice = {"limit": 1 / cell, "shortest": 0 if palette is None else 1, "most": LAYERS if slow else math.inf}
    whole = list(attractor.words((0, size, 0, size), **choice))
    longest = max((words.length for words in whole if len(words.maps)), default=0)
    clouds = needed(particles(attractor, cell, palette is not None), recursion - longest)
    largest = max(len(weights) for _, weights in clouds.values())
    rows = strip_rows(size, (24 if palette is None else 192) * size, memory)
    for first in range(0, size, rows):
        tile = (0, size, first, min(first + rows, size))
        flat = (tile[3] - tile[2] + 2) * (size + 2)
        sums = torch.zeros(1 if palette is None else 4, flat, dtype=torch.float64, device=maps.device)
        found = whole if rows == size else list(attractor.words(tile, **choice))
        words, shares, digits = (torch.cat([getattr(w, k) for w in found]) for k in ("maps", "weights", "digits"))
        levels = [max((k for k in clouds if k <= recursion - w.length), default=min(clouds)) for w in found]
        sources = [clouds[level] for level, w in zip(levels, found, strict=True) for _ in w.maps]
        drawn_points = sum(len(weights) for _, weights in sources)
        room, kept = max(LAYERS, len(maps)) * max(flat, largest), range(len(words))
        if drawn_points > room:
            most = max(1, room * len(words) // drawn_points)
            kept, factors = thinned(shares * attractor.within(words, tile), most, torch.Generator().manual_seed(0))
            shares[kept] *= factors
            kept = kept.tolist()
        for k in kept:
            points, weights = sources[k]
            if palette is None and (loops := kernels(sums)) is not None:
                here = words[k : k + 1].clone()  # into the frame of `places`
                here[0, :, 2] += 1.5 - here.new_tensor([tile[0], tile[2]])
                arrays = (array.numpy() for array in (here, shares[k : k + 1], points, weights))
                loops.deposit(*arrays, sums[0].view(-1, size + 2).numpy())
            else:
                moved = images(words[k : k + 1], points, None if palette is None else digits[k : k + 1])
                add(sums, places(moved, tile), shares[k] * weights, moved, palette)
            progress(len(weights))
        yield rimless(sums[0] if palette is None else sums, tile)


def thinned(masses: Tensor, most: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which (Q,) of masses (K,) to keep, at most `most`, and by which factors (Q,), so that they stand for all.

    Those above a threshold are kept as they are, of the others one of each run that adds up to it, by chance, so that
    on average each counts for what it should (stratified resampling with the threshold of Fearnhead and Clifford 2003).
    """
    ordered = masses.sort(descending=True).values
    rest, left = ordered.flip(0).cumsum(0).flip(0), most - torch.arange(len(masses), device=masses.device)
    sure = int((ordered * left > rest)[:most].cumprod(0).sum())
    threshold = rest[sure] / left[sure]
    heavy = masses > threshold
    runs = torch.arange(int(left[sure])) + torch.rand(int(left[sure]), generator=chance, dtype=torch.float64)
    light = masses.where(~heavy, 0).cumsum(0)
    picked = torch.searchsorted(light, runs.to(light) * threshold, right=True).clamp(max=len(masses) - 1)
    times = torch.bincount(picked, minlength=len(masses))
    kept = (heavy | (times > 0) & (masses > 0)).nonzero().squeeze(1)
    return kept, torch.where(heavy, 1, times * threshold / masses)[kept]


def needed(levels: Iterator[tuple[int, Tensor, Tensor]], least: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Of levels of particles the last, and those from `least` on, every other one where they are too large to keep."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for level, points, weights in levels:
        if level <= least:
            kept.clear()
        kept[level] = points, weights
        if sum(points.nbytes + weights.nbytes for points, weights in kept.values()) > PARTICLE_BYTES and len(kept) > 3:
            for old in sorted(kept)[1:-1:2]:
                del kept[old]
    return kept


def add(sums: Tensor, index: Tensor, mass: Tensor, points: Tensor, palette: Tensor | None) -> None:
    """Add masses (P,) of points at flat pixels (P,) to the last of sums (1 or 4, pixels), and their colours before."""
    sums[-1].scatter_add_(0, index, mass)
    if palette is not None:
        shades = palette.to(mass)[(points[2] * len(palette)).long()]
        for layer, shade in zip(sums[:3], shades.unbind(1), strict=True):
            layer.scatter_add_(0, index, shade * mass)


def particles(attractor: Attractor, cell: float, addresses: bool = False) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the measure after 0, 1, 2 … levels, as (level, points (2, P) or (3, P), weights (P,)), until it is settled.

    Merging takes a little of the spread of each cell away, which adds up where maps are slow; there only the last
    levels are merged, and those before are stood for by `sampled` words.
    """
    cells = Cells(attractor.box, cell, attractor.maps.device)
    steps = compose(compose(cells.there, attractor.maps), cells.back)
    shrink = float((attractor.weights * singular_values(steps)[:, 0]).sum())
    points, weights = centroid(steps, attractor.weights)[:, None], steps.new_ones(1)
    if addresses:
        points = torch.cat([points, torch.full_like(points[:1], 0.5)])
    gap, level = attractor.span, 0
    yield level, images(cells.back, points), weights
    merged = min(MERGED, max(1, 64 // len(steps)))
    if shrink > SLOW and attractor.recursion > 2 * merged:
        settled = math.ceil(math.log(max(4 * gap / cell, 1)) / -math.log(min(shrink, 1 - 1e-7)))
        level = min(attractor.recursion, max(settled, 2 * merged)) - merged
        words, digits = sampled(steps, attractor.weights, attractor.digits, level)
        points = images(words, points[:, :1], digits if addresses else None)
        weights, gap = steps.new_full((len(words),), 1 / len(words)), cell * shrink**-merged
    size = max(1, at_once(steps.device) // len(steps))
    loops = None if addresses else kernels(steps)
    while level < attractor.recursion and gap >= cell / 4:
        if loops is not None:
            arrays = (array.contiguous().numpy() for array in (steps, attractor.weights, points, weights))
            points, weights = map(torch.from_numpy, loops.merge(*arrays, cells.rows, cells.columns))
        else:
            sums = steps.new_zeros(1 + len(points), cells.rows * cells.columns)  # mass, and mass times coordinates
            for part, share in zip(points.split(size, dim=1), weights.split(size), strict=True):
                moved = images(steps, part, attractor.digits)
                share = (attractor.weights[:, None] * share).flatten()
                index = cells.index(moved).long()
                for total, value in zip(sums, (share, *(moved * share)), strict=True):
                    total.scatter_add_(0, index, value)
            taken = sums[0].nonzero().squeeze(1)
            weights, *moments = sums.index_select(1, taken)
            points = torch.stack(moments) / weights
        level, gap = level + 1, gap * shrink
        yield level, images(cells.back, points), weights


def sampled(maps: Tensor, weights: Tensor, digits: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """SAMPLES words of `length` letters at random, each with its probability: maps (P, 2, 3) and digits (P, 2).

    Words are joined from random pairs of words of half the length, so that a length of thousands takes a dozen rounds.
    """
    chance = torch.Generator().manual_seed(0)
    alphabet = torch.cat([maps, _as_rows(digits)], dim=1)
    at = (
        torch.arange(SAMPLES) + torch.rand(SAMPLES, generator=chance)
    ) / SAMPLES  # one letter's words in its proportion
    drawn_letters = torch.searchsorted(weights.cpu().cumsum(0), at.double()).clamp(max=len(maps) - 1)
    power, words = alphabet[drawn_letters.to(maps.device)], None
    while True:
        if length % 2:
            words = power if words is None else _joined(words, power[torch.randperm(SAMPLES, generator=chance)])
        length //= 2
        if not length:
            return words[:, :2], words[:, 2, 1:]
        power = _joined(power, power[torch.randperm(SAMPLES, generator=chance)])
