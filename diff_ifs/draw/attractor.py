"""One attractor in one picture: its scale, and which way it is drawn.

Nothing here shares code with the soft splat, so that it can judge it.

Letters in shapes: n maps, K words, P points, V corners of a polygon. Points and maps are float64. A tile is
(left, right, top, bottom) in pixels, right and bottom excluded.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.draw.chart import CHART_SIDE, Chart
from diff_ifs.draw.geometry import MEMORY, OVERHEAD, Window, bounds, in_pixels, measure_box, nudged, to_edges
from diff_ifs.draw.growth import DRIFT, FLOODED, RIM_BYTES, SLOW, address_digits, iterate
from diff_ifs.draw.tiles import TileRenderer
from ifs_model import apply, area_weights, singular_values

GROWN_CELLS = 4200**2  # of the largest grid that is grown directly: about what a picture of 1024² pixels needs
SOLID_CELLS = 1 << 27  # the same, of a solid attractor: of curves and dusts, one point a cell misses a few pixels
GROWN_BYTES = 18  # a cell, in a grid that is grown directly: the grid, and the newest points in the worst case
# Pixels that a cell of a cloud or a chart measures once a word has shrunk it, at most. One point stands for all of its
# cell: on a curve or a dust, what the others would have drawn is missed unless cells end up much smaller than a pixel.
# It is a sixth of the Koch curve's pixels at 0.7, 3 % at 0.35, 0.5 % at 0.2. A figure that fills its box has many other
# words that draw them, and 0.7 misses one pixel in 10,000.
# What growth leaves out is little enough to be looked for with more words (Lévy curve: 4.6 % at 0.35, 1.1 % at 0.1),
# with the most where the picture is small.
THIN, FULL, SOLID, EDGE, FINEST = 0.2, 0.35, 0.7, 0.1, 0.02
ZOOMED = 4  # times as wide as the picture that an attractor is, at least, where the picture is a zoom
FLAT = 1e-6  # a contraction along one axis that cannot be undone
SHORTEST = 4  # cells that the slowest map moves a point at the other end of the attractor, or the grid is made finer
REFINED_CELLS, REFINED_WORK = 1 << 22, 1 << 29  # of a grid that is made finer, at most; and cells times maps


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
        self.digits = address_digits(len(maps), self.maps)
        self.corners = None if corners is None else apply(nudged(window, side, maps.device), corners.to(self.maps))
        self.slowest = slowest = float(singular_values(self.maps).max())
        self.box, self.measure = bounds(self.maps, corners=self.corners), measure
        if measure and slowest > SLOW:  # a measure may be much smaller than the bounds of where it lies
            near = measure_box(self.maps, self.weights)
            self.box = tuple(
                pick(pair) for pick, pair in zip((max, min) * 2, zip(self.box, near, strict=True), strict=True)
            )
        self.box = to_edges(self.box)
        self.span = max(self.box[1] - self.box[0], self.box[3] - self.box[2])
        self.zoomed = corners is None and self.span > ZOOMED * side
        area = (self.box[1] - self.box[0] + 3) * (self.box[3] - self.box[2] + 3)
        cell_bytes = GROWN_BYTES + (RIM_BYTES if slowest > DRIFT else 0)
        room = (memory - OVERHEAD - side**2) / cell_bytes
        self.direct = corners is None and not self.zoomed and area <= min(SOLID_CELLS, room)
        self.large = area > GROWN_CELLS
        self.grain, self.rim = self._grain(slowest), True
        self.small = area <= FLOODED * self.grain**2  # few enough points to be drawn at one go
        self.clouds: dict[tuple[int, int], Tensor] = {}  # of a figure, as `figures.cloud` finds them
        self.covers: dict[bool, TileRenderer] = {}

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

    def cover(self, addresses: bool = False) -> TileRenderer:
        """What draws the attractor tile by tile, where it is too large to be grown in the pixels of the picture."""
        if addresses not in self.covers:
            cell = self.cell(CHART_SIDE)
            levels = iterate(self.maps, self.box, cell, self.recursion, digits=self.digits if addresses else None)
            numbers, parts = zip(*levels, strict=True)
            sizes = torch.tensor([part.shape[1] for part in parts])
            numbers = torch.tensor(numbers).repeat_interleave(sizes).to(self.maps.device)
            chart = Chart(torch.cat(parts, dim=1), numbers, self.box, cell)
            fine = FULL if chart.filled > 1 / 8 else THIN
            self.covers[addresses] = TileRenderer(self.maps, self.digits, chart, fine, self.recursion)
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

    def points(self, addresses: bool = False) -> Iterator[Tensor]:
        """Yield the points (2, P), or with addresses (3, P), that the attractor is grown from."""
        digits = self.digits if addresses else None
        levels = iterate(self.maps, self.box, self.grain, self.recursion, digits=digits, rim=self.rim)
        parts = (points for _, points in levels)
        yield from [torch.cat(list(parts), dim=1)] if self.small else parts
