"""Deterministic iteration on a grid: of the points in a cell only the first is mapped on.

The cost is that of about n maps of each occupied cell, at any depth. What the points of a cell that
were dropped would have drawn next to it is missed: up to a tenth of the pixels of curves, which
`draw.tiles` finds. Every point is a true point of the attractor.

Letters in shapes: n maps, P points. Points are (2, P), or (3, P) with an address between 0 and 1,
of which the first letter is the first digit in base n.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.backend import arrays, load_kernels
from diff_ifs.draw.geometry import Quality, Window, bounds, contraction, in_pixels, to_edges
from ifs_model import AddressTree, compose, fixed_points, singular_values

GROWN_AT_ONCE = 1 << 20  # points that are mapped between two looks at memory
SLOW = 0.9  # a contraction whose words take too many letters to become small
# a contraction with which what growth drops in a cell adds up to more than a pixel: see
# keep_outermost
DRIFT = 0.88
OUTERMOST_WORK = 1 << 28  # images that are looked at to find those that lie further out, at most
MOST_LEVELS = 1 << 16  # more than an attractor has whose maps shrink the world by a thousandth
SAME = torch.eye(2, 3, dtype=torch.float64)[None]
CHUNK = 1 << 16  # points mapped at once by PyTorch: what the caches of a CPU hold


class Grid:
    """A grid of cells over a box, each of which is taken by the first point that falls into it.

    Cells end where pixels do, if their size is a power of two. Points are (2, P) in units of cells,
    counted from a corner that lies one cell outside of the box, so that rounding cannot push a
    point over the edge. Points further out share the cells of the border.
    """

    def __init__(self, box: Window, cell: float):
        left, top = (
            math.floor((edge + 0.5) / cell) * cell - 0.5 - cell for edge in (box[0], box[2])
        )
        self.columns, self.rows = (
            math.floor((edge - low) / cell) + 2 for edge, low in ((box[1], left), (box[3], top))
        )
        self.there = torch.tensor(
            [[[1 / cell, 0, -left / cell], [0, 1 / cell, -top / cell]]], dtype=torch.float64
        )
        self.back = torch.tensor([[[cell, 0, left], [0, cell, top]]], dtype=torch.float64)
        self.vacant = torch.ones(self.rows * self.columns, dtype=torch.bool)
        self.outermost = torch.empty(0, 8, dtype=torch.uint8)

    def clear(self) -> None:
        """Make all cells vacant."""
        self.vacant.fill_(True)

    def keep_outermost(self) -> None:
        """From now on, take a point in a taken cell, too, if it lies further out than all before.

        What is dropped lies up to a cell further out than what stays, and maps that shrink the
        world by s carry that on to cell / (1 - s): a border that is never drawn. A point lies
        further out if it does so in one of eight directions, by a step of about a twentieth of a
        cell. Only cells with a vacant neighbour count: where all around is taken, points have none
        but such images, if maps are not singular.
        """
        self.outermost = torch.zeros(len(self.vacant), 8, dtype=torch.uint8)

    def steps(self, maps: Tensor) -> Tensor:
        """Maps (n, 2, 3) as they act on cells."""
        return compose(compose(self.there, maps), self.back)

    def iterate(self, maps: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The images (2, Q) of points (2, P) under maps (n, 2, 3) that are the first in a vacant
        cell, and origins.

        The origin (Q,) of the image of point p under map k is k P + p.
        """
        given = arrays(maps, points)
        found = load_kernels().iterate(
            *given, self.vacant.numpy(), self.columns, self.outermost.numpy()
        )
        return tuple(map(torch.from_numpy, found))

    def grow(self, maps: Tensor, first: Tensor, levels: int) -> tuple[Tensor, ...]:
        """Points (2, Q) of so many levels from the first ones, which have taken their cells, with
        letters, parents and sizes: see `kernels.growth.grow`."""
        found = load_kernels().grow(*arrays(maps, first), self.vacant.numpy(), self.columns, levels)
        return tuple(map(torch.from_numpy, found))

    def occupy(self, maps: Tensor, points: Tensor, digits: Tensor | None = None) -> Tensor:
        """The same images, (2, Q) or (3, Q); addresses become what the digits (n, 2) of the maps
        make of them.
        """
        new, origins = self.iterate(maps, points[:2])
        if len(points) == 2:
            return new
        letters, address = origins // points.shape[1], points[2, origins % points.shape[1]]
        if digits is not None:
            address = digits[letters, 1] + digits[letters, 0] * address
        return torch.cat([new, address[None]])


def images(maps: Tensor, points: Tensor, digits: Tensor | None = None) -> Tensor:
    """The images (2, K P) or (3, K P) of points under maps (K, 2, 3), by a matrix product.

    digits (K, 2): the factor and the shift that a map is to addresses; without them, addresses stay
    as they are.
    """
    rows = maps.transpose(0, 1).flatten(0, 1)
    moved = torch.addmm(rows[:, 2:], rows[:, :2], points[:2]).view(2, -1)
    if len(points) == 2:
        return moved
    same = digits is None
    address = (
        points[2].expand(len(maps), -1)
        if same
        else torch.addcmul(digits[:, 1:], digits[:, :1], points[2:])
    )
    return torch.cat([moved, address.reshape(1, -1)])


def address_digits(n: int) -> Tensor:
    """What each of n maps does to an address c: (c + i) / n, as factors and shifts (n, 2).

    The factor is a little less, so that rounding never carries an endless row of last digits over
    to the next letter.
    """
    shifts = torch.arange(n, dtype=torch.float64) / n
    return torch.stack([torch.full_like(shifts, (1 - 1e-9) / n), shifts], dim=1)


def long_words(maps: Tensor, digits: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Words of slow maps that move points further than one letter: maps (K, 2, 3), digits (K, 2).

    An attractor is its own image under words, too, so that they may stand beside the maps. Some
    words of 2, 4, 8 … letters, at most `longest`, are taken, until they shrink the world to half:
    powers of the slowest maps, at most 16 of each length, and 8 products of words of half the
    length, drawn at random. There are none where no map is slow.
    """
    chance = torch.Generator().manual_seed(0)
    slowness = singular_values(maps)[:, 0]
    slowest = slowness.argsort(descending=True, stable=True)[
        : min(16, int((slowness > SLOW).sum()))
    ]
    pure = mixed = torch.cat([maps[slowest], as_rows(digits[slowest])], dim=1)
    length, found = 1, [mixed[:0]]
    while len(mixed) and 2 * length <= longest:
        pairs = torch.randint(len(mixed), (2, 8), generator=chance)
        length, pure = 2 * length, joined(pure, pure)
        mixed = torch.cat([pure, joined(mixed[pairs[0]], mixed[pairs[1]])])
        found.append(mixed)
        pure, mixed = (some[singular_values(some[:, :2])[:, 0] > 0.5] for some in (pure, mixed))
    words = torch.cat(found)
    return words[:, :2], words[:, 2, 1:]


def as_rows(digits: Tensor) -> Tensor:
    """What maps do to addresses, (K, 2), as a third row of theirs: (K, 1, 3)."""
    return torch.nn.functional.pad(digits, (1, 0))[:, None]


def joined(f: Tensor, g: Tensor) -> Tensor:
    """Compositions f∘g of words with their digits as a third row: (K, 3, 3)."""
    factor, shift = f[:, 2, 1] * g[:, 2, 1], f[:, 2, 2] + f[:, 2, 1] * g[:, 2, 2]
    return torch.cat(
        [compose(f[:, :2], g[:, :2]), as_rows(torch.stack([factor, shift], dim=1))], dim=1
    )


def iterate(
    maps: Tensor,
    box: Window,
    cell: float,
    recursion: int,
    start: Tensor | None = None,
    digits: Tensor | None = None,
    quality: Quality = "final",
) -> Iterator[tuple[int, Tensor]]:
    """Yield (level, points) of the attractor, one point for each cell of a grid over `box`; of slow
    maps, some more.

    Without a start, level 0 holds the fixed points of the maps, and level k their new images under
    words of k letters; they lie on the attractor, so that levels add up. With a start, points (2,
    P) or (3, P), level k holds its images under words of k letters alone. A level may come in
    several parts. Ends after level `recursion`, or when another level would bring nothing new.

    Where a map moves a point by less than a cell, its image is dropped, and growth would stop
    there. If `recursion` is enough for words of slow maps to become small, a level also holds
    images under long words, therefore. Once there is nothing new, what slow maps have lost at the
    border is grown, but in a draft: see `Grid.keep_outermost`.
    """
    grid = Grid(box, cell)
    gap, shrink = max(box[1] - box[0], box[3] - box[2]), contraction(maps)
    steps = grid.steps(maps)
    if start is None:
        first = fixed_points(steps).T
        if digits is not None:
            first = torch.cat([first, (digits[:, 1] + digits[:, 0] / 2)[None]])
        steps, digits = _with_long_words(steps, digits, shrink, gap / cell, recursion)
    else:
        first = images(grid.there, start)
    parts, kept, work = [grid.occupy(SAME, first)], [], 0
    drifts = quality == "final" and start is None and shrink > DRIFT
    for level in range(recursion + 1):
        for part in parts:
            yield level, images(grid.back, part)
        if level == recursion or (start is not None and gap < cell / 4):
            return
        if start is not None:
            grid.clear()
            gap *= shrink
        if drifts:
            kept += parts
        parts = _next_level(grid, steps, parts, digits)
        if drifts and not parts:
            drifts = False
            grid.keep_outermost()
            parts = _next_level(grid, SAME, kept, None)
            kept, parts = [], _next_level(grid, steps, parts, digits)
        if len(grid.outermost):
            work += len(steps) * sum(part.shape[1] for part in parts)
        if not parts or work > OUTERMOST_WORK:
            return


def draft(maps: Tensor, box: Window, cell: float, recursion: int) -> Tensor:
    """All points (2, P) that `iterate` yields without addresses in a draft, found at once."""
    grid, gap = Grid(box, cell), max(box[1] - box[0], box[3] - box[2])
    steps = grid.steps(maps)
    first = grid.occupy(SAME, fixed_points(steps).T)
    steps, _ = _with_long_words(steps, None, contraction(maps), gap / cell, recursion)
    return images(grid.back, grid.grow(steps, first, recursion)[0])


def _with_long_words(
    steps: Tensor, digits: Tensor | None, shrink: float, span: float, recursion: int
) -> tuple[Tensor, Tensor | None]:
    """Maps as they act on cells, and their digits, with long words if they are slow and `recursion`
    is enough for an attractor `span` cells wide to become small."""
    if shrink <= SLOW or recursion * -math.log(shrink) < math.log(max(span, 1)):
        return steps, digits
    letters = address_digits(len(steps)) if digits is None else digits
    words, shifts = long_words(steps, letters, recursion)
    return torch.cat([steps, words]), None if digits is None else torch.cat([digits, shifts])


def _next_level(
    grid: Grid, steps: Tensor, parts: list[Tensor], digits: Tensor | None
) -> list[Tensor]:
    """The images of parts under steps (n, 2, 3) that take a cell, in parts that are not empty."""
    if sum(part.shape[1] for part in parts) <= GROWN_AT_ONCE:
        parts = [torch.cat(parts, dim=1)]
    chunks = (chunk for part in parts for chunk in part.split(GROWN_AT_ONCE, dim=1))
    return [new for chunk in chunks if (new := grid.occupy(steps, chunk, digits)).shape[1]]


def address_tree(maps: Tensor, window: Window, side: int) -> AddressTree:
    """Of which points the points are images that `iterate` finds in a picture of side × side pixels
    of the window.
    """
    device, maps = maps.device, in_pixels(maps.cpu(), window, side)
    grid = Grid(_reach(maps, side), 1.0)
    steps = grid.steps(maps)
    first, roots = grid.iterate(SAME, fixed_points(steps).T)
    _, letters, parents, sizes = grid.grow(steps, first, MOST_LEVELS)
    letters[: len(roots)] = roots
    return AddressTree(letters.to(device), parents.to(device), sizes.tolist())


def _reach(maps: Tensor, side: int) -> Window:
    """The box, in pixels, in which points are told apart: the attractor's bounds, or of a large one
    what lies near.

    Where maps shrink the world slowly, most of a large attractor is images of what is far from the
    picture.
    """
    box = bounds(maps)
    if max(box[1] - box[0], box[3] - box[2]) > 4 * side and singular_values(maps).max() > SLOW:
        box = tuple(min(max(edge, -2.0 * side), 3.0 * side) for edge in box)
    return to_edges(box)
