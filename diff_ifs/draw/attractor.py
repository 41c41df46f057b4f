"""One attractor in one picture: its scale, and which way it is drawn.

Nothing here shares code with the soft splat, so that it can judge it.

Letters in shapes: n maps, P points. Points and maps are float64. A tile is (left, right, top,
bottom) in pixels, right and bottom excluded; a pixel is a sub-pixel of the picture.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.draw.chart import CHART_SIDE, Chart
from diff_ifs.draw.figures import figure
from diff_ifs.draw.geometry import (
    MEMORY,
    OVERHEAD,
    View,
    bounds,
    contraction,
    in_pixels,
    measure_box,
    nudged,
    to_edges,
)
from diff_ifs.draw.growth import DRIFT, SLOW, address_digits, draft, iterate
from diff_ifs.draw.tiles import TileRenderer
from ifs_model import apply, area_weights

# Cells of the largest grid that is grown directly: about what a picture of 1024² pixels needs.
GROWN_CELLS = 4200**2
# The same, of a solid attractor: of curves and dusts, one point a cell misses a few pixels.
SOLID_CELLS = 1 << 27
# Pixels that a cell of a cloud or a chart measures once a word has shrunk it, at most. One point
# stands for all of its cell: on a curve or a dust, what the others would have drawn is missed
# unless cells end up much smaller than a pixel. It is a sixth of the Koch curve's pixels at 0.7, 3
# % at 0.35, 0.5 % at 0.2.
THIN, FULL = 0.2, 0.35


class Attractor:
    """The attractor of maps (n, 2, 3) after some levels, in the sub-pixels of a view.

    whole: whether it is drawn in one tile, and may be grown in the pixels of the picture; measure:
    whether all that counts is where its measure lies.
    """

    def __init__(
        self,
        maps: Tensor,
        view: View,
        memory: int = MEMORY,
        whole: bool = True,
        measure: bool = False,
    ):
        self.side, self.recursion, self.quality = view.side, view.recursion, view.quality
        corners = None if view.figure is None else figure(view.figure, maps.cpu(), view.world)
        self.maps = in_pixels(maps.cpu(), view.window, self.side)
        given, self.digits = view.weights, address_digits(len(maps))
        self.weights = (
            area_weights(self.maps) if given is None else (given / given.sum()).to(self.maps)
        )
        self.corners = None if corners is None else apply(nudged(view.window, self.side), corners)
        self.slowest = contraction(self.maps)
        box = bounds(self.maps, self.corners)
        # a measure may be much smaller than the bounds of where it lies
        if measure and self.slowest > SLOW:
            near = measure_box(self.maps, self.weights)
            box = (
                max(box[0], near[0]),
                min(box[1], near[1]),
                max(box[2], near[2]),
                min(box[3], near[3]),
            )
        self.box = left, right, top, bottom = to_edges(box)
        self.span = max(right - left, bottom - top)
        self.zoomed = corners is None and self.span > 4 * self.side
        # A cell takes the grid's byte and the newest points in the worst case, and where points
        # count that lie further out, how far they do.
        cell_bytes = 18 + (16 if self.slowest > DRIFT else 0)
        area, room = (
            (right - left + 3) * (bottom - top + 3),
            (memory - OVERHEAD - self.side**2) / cell_bytes,
        )
        self.direct = (
            whole and corners is None and not self.zoomed and area <= min(SOLID_CELLS, room)
        )
        self.large, self.grain = area > GROWN_CELLS, self._grain()
        cells = area / self.grain**2
        self.small, self.tiny = cells <= 1 << 20, cells <= 1 << 17
        self.clouds: dict[tuple[int, int], Tensor] = {}  # of a figure, as `levels.cloud` finds them
        self.covers: dict[bool, TileRenderer] = {}

    def _grain(self) -> float:
        """The side in pixels, 1 or 1/2, 1/4 …, of the cells in which an attractor is grown.

        They are finer where the slowest map moves a point at the other end of the attractor by less
        than four cells.
        """
        step, grain = (1 - self.slowest) * self.span, 1.0
        area = max(self.box[1] - self.box[0], 1) * max(self.box[3] - self.box[2], 1)
        most = min(1 << 22, 2**29 / (len(self.maps) + 100)) / 4  # cells, or cells times maps
        while step < (1 - SLOW) * self.span and step < 4 * grain and area <= most * grain**2:
            grain /= 2
        return grain

    def cell(self, side: int) -> float:
        """A power of two, so that cells end where pixels do: about `side` make up the box."""
        return max(0.5, 2.0 ** round(math.log2(self.span / side)))

    def cover(self, addresses: bool = False) -> TileRenderer:
        """What draws the attractor tile by tile, where it is too large to be grown in pixels."""
        if addresses not in self.covers:
            cell = self.cell(CHART_SIDE)
            levels = iterate(
                self.maps, self.box, cell, self.recursion, digits=self.digits if addresses else None
            )
            numbers, parts = zip(*levels, strict=True)
            numbers = torch.tensor(numbers).repeat_interleave(
                torch.tensor([part.shape[1] for part in parts])
            )
            chart = Chart(torch.cat(parts, dim=1), numbers, self.box, cell)
            fine = FULL if chart.filled > 1 / 8 else THIN
            self.covers[addresses] = TileRenderer(
                self.maps, self.digits, chart, fine, self.recursion
            )
        return self.covers[addresses]

    @property
    def settled(self) -> bool:
        """Whether no word of `recursion` letters is wider than a pixel."""
        return self.recursion * -math.log(max(self.slowest, 1e-9)) >= math.log(max(self.span, 1))

    @functools.cached_property
    def grown(self) -> bool:
        """Whether the attractor is grown in pixels: of a large one only if it is solid."""
        return self.direct and (not self.large or self.cover().fine == FULL)

    def points(self, addresses: bool = False) -> Iterator[Tensor]:
        """Yield the points (2, P), or with addresses (3, P), that the attractor is grown from."""
        if self.quality == "draft" and not addresses and self.tiny:
            yield draft(self.maps, self.box, self.grain, self.recursion)
            return
        digits = self.digits if addresses else None
        levels = iterate(
            self.maps, self.box, self.grain, self.recursion, digits=digits, quality=self.quality
        )
        yield from (points for _, points in levels)
