"""Deterministic iteration on a grid: of the points that fall into one cell only the first is kept and mapped on.

The cost is that of about n maps of each occupied cell, at any depth. What the points of a cell that were dropped would
have drawn next to it is missed: up to a tenth of the pixels of curves, which `draw.tiles` finds. Every point is a true
point of the attractor.

Letters in shapes: n maps, P points. Points are (2, P), or (3, P) with an address between 0 and 1, of which the first
letter is the first digit in base n.
"""

import functools
import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from diff_ifs.backend import kernels
from diff_ifs.draw.chart import BATCH
from diff_ifs.draw.geometry import Window, bounds, in_pixels, to_edges
from ifs_model import AddressTree, compose, fixed_points, singular_values

GROWN_AT_ONCE = 1 << 20  # points that are mapped between two looks at memory, where loops are compiled
FLOODED = 1 << 20  # cells of a grid that is grown at one go, in memory that holds them all, at most
SLOW = 0.9  # a contraction whose words take too many letters to become small
PURE, MIXED = 16, 8  # leaps of each length: powers of slow maps, and products of different ones
DRIFT = 0.88  # a contraction with which what growth drops in a cell adds up to a rim of pixels: see Cells.watch_rim
RIM_BYTES, RIM_WORK = 16, 1 << 28  # a cell, where the rim is watched; and images that are then looked at, at most
SHADES = 20  # steps that a point can lie further out in a cell than another, as in `kernels.growth`
CHUNK = 1 << 16  # points mapped at once on a CPU: what its caches hold


class Grid:
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
            new, origins = loops.iterate(*arrays, self.columns, self.outermost.numpy())
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


def address_digits(n: int, like: Tensor) -> Tensor:
    """What each of n maps does to an address c: (c + i) / n, as factors and shifts (n, 2).

    The factor is a little less, so that rounding never carries an endless row of last digits over to the next letter.
    """
    shifts = torch.arange(n, dtype=like.dtype, device=like.device) / n
    return torch.stack([torch.full_like(shifts, (1 - 1e-9) / n), shifts], dim=1)


def at_once(device: torch.device) -> int:
    """How many points are best mapped at once."""
    return CHUNK if device.type == "cpu" else BATCH


def long_words(maps: Tensor, digits: Tensor, longest: int) -> tuple[Tensor, Tensor, int]:
    """Words of slow maps that move points further than one letter can: maps (K, 2, 3), digits (K, 2), longest length.

    An attractor is its own image under words, too, so that they may stand beside the maps. Some words of 2, 4, 8 …
    letters, at most `longest`, are taken, until they shrink the world to half: powers of the slowest maps, and products
    of words of half the length, drawn at random. There are none where no map is slow.
    """
    chance = torch.Generator().manual_seed(0)
    slowness = singular_values(maps)[:, 0]
    slowest = slowness.argsort(descending=True, stable=True)[: min(PURE, int((slowness > SLOW).sum()))]
    pure = mixed = torch.cat([maps[slowest], as_rows(digits[slowest])], dim=1)
    length, found = 1, [mixed[:0]]
    while len(mixed) and 2 * length <= longest:
        pairs = torch.randint(len(mixed), (2, MIXED), generator=chance).to(maps.device)
        length, pure = 2 * length, joined(pure, pure)
        mixed = torch.cat([pure, joined(mixed[pairs[0]], mixed[pairs[1]])])
        found.append(mixed)
        pure, mixed = (some[singular_values(some[:, :2])[:, 0] > 0.5] for some in (pure, mixed))
    words = torch.cat(found)
    return words[:, :2], words[:, 2, 1:], length


def as_rows(digits: Tensor) -> Tensor:
    """What maps do to addresses, (K, 2), as a third row of theirs: (K, 1, 3)."""
    return torch.nn.functional.pad(digits, (1, 0))[:, None]


def joined(f: Tensor, g: Tensor) -> Tensor:
    """Compositions f∘g of words with their digits as a third row: (K, 3, 3)."""
    factor, shift = f[:, 2, 1] * g[:, 2, 1], f[:, 2, 2] + f[:, 2, 1] * g[:, 2, 2]
    return torch.cat([compose(f[:, :2], g[:, :2]), as_rows(torch.stack([factor, shift], dim=1))], dim=1)


def iterate(
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
    cells = Grid(box, cell, maps.device)
    steps = compose(compose(cells.there, maps), cells.back)
    gap, shrink = max(box[1] - box[0], box[3] - box[2]), float(singular_values(maps).max())
    stride = 1
    if start is None:
        first = fixed_points(steps).T
        if digits is not None:
            first = torch.cat([first, (digits[:, 1] + digits[:, 0] / 2)[None]])
        if shrink > SLOW:
            settled = recursion * -math.log(shrink) >= math.log(max(gap / cell, 1))
            plain = address_digits(len(maps), maps) if digits is None else digits
            words, shifts, length = long_words(steps, plain, recursion if settled else recursion // 64)
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
        parts = [following.pop()] if following else _next_level(cells, steps, parts, digits)
        if drifts and not parts:
            drifts, same = False, torch.eye(2, 3, dtype=steps.dtype, device=steps.device)[None]
            cells.watch_rim()
            parts = _next_level(cells, same, kept, None if digits is None else steps.new_tensor([[1.0, 0.0]]))
            kept, parts = [], _next_level(cells, steps, parts, digits)
        if len(cells.outermost):
            work += len(steps) * sum(part.shape[1] for part in parts)
        if not parts or work > RIM_WORK:
            return


def _next_level(cells: Grid, steps: Tensor, parts: list[Tensor], digits: Tensor | None) -> list[Tensor]:
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


def address_tree(maps: Tensor, window: Window, side: int) -> AddressTree:
    """Of which points the points are images that `grow` finds in a picture of side × side pixels of the window.

    They are grown on the CPU, whatever device they are for: level by level, they are too few for a GPU.
    """
    device, maps = maps.device, in_pixels(maps.cpu(), window, side)
    cells = Grid(_reach(maps, side), 1.0, maps.device)
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
    return AddressTree(torch.cat(letters).to(device), torch.cat(parents).to(device), sizes)


def _reach(maps: Tensor, side: int) -> Window:
    """The box, in pixels, in which points are told apart: the attractor's bounds, or of a large one what lies near.

    Where maps shrink the world slowly, most of a large attractor is images of what is far from the picture.
    """
    box = bounds(maps)
    if max(box[1] - box[0], box[3] - box[2]) > 4 * side and singular_values(maps).max() > SLOW:
        box = tuple(min(max(edge, -2.0 * side), 3.0 * side) for edge in box)
    return to_edges(box)
