"""What is looked at, and where an attractor lies: views, bounds, frames in pixels, nearest points.

Letters in shapes: n maps, P points, V corners of a polygon.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import diff_ifs.formats.contraction as formats
from diff_ifs.backend import arrays, load_kernels
from diff_ifs.formats.rules import Chain
from diff_ifs.setup import WINDOW
from ifs_model import apply, area_weights, centroid, compose, fixed_points, frame, singular_values

Window = tuple[float, float, float, float]
Tile = tuple[int, int, int, int]
Progress = Callable[[int], object]  # is told how many points or pixels were looked at just now
# draft: what growth leaves out is not looked for, some pixels at edges, and of slow maps a border.
Quality = Literal["draft", "final"]
MEMORY = 2 << 30  # bytes that a picture may take
OVERHEAD = 700 << 20  # bytes of these that Python, its packages and the clouds take


@dataclass(frozen=True)
class View:
    """What is drawn: a window, at so many pixels, after some levels, with a pen, from a figure."""

    window: Window
    size: int
    recursion: int = 1000
    stroke: float = 0.0  # radius of the pen in world units
    supersample: int = 1  # sub-pixels a side of a pixel, in coverage
    figure: str | None = None  # see `draw.figures.figure`
    world: Window = WINDOW  # the window that the figure "square" stands for
    quality: Quality = "final"
    exposure: float = 0.0  # see `draw.picture.greys`
    soft: float = 0.0  # sigma of greys in world units
    weights: Tensor | None = None  # of the maps, in a density; None: by their areas
    chain: Chain | None = None  # what is drawn, if it is not all words of the maps

    @property
    def side(self) -> int:
        """Sub-pixels a side of the picture."""
        return self.size * self.supersample

    @property
    def part(self) -> float:
        """The side of a sub-pixel in world units."""
        return (self.window[1] - self.window[0]) / self.side

    @property
    def pad(self) -> int:
        """Sub-pixels around the picture that its pen may reach in from."""
        return math.ceil(self.stroke / self.part)


def contraction(maps: Tensor) -> float:
    """The rate at which maps (n, 2, 3) shrink the world: their largest singular value, or where
    that is 1 or more, what long products of them shrink it to.
    """
    largest = float(singular_values(maps).max())
    return largest if largest < 1 else _contraction(tuple(maps[:, :, :2].flatten().tolist()))


@functools.lru_cache(maxsize=64)
def _contraction(linear: tuple[float, ...]) -> float:
    maps = np.zeros((len(linear) // 4, 2, 3))
    maps[:, :, :2] = np.reshape(linear, (-1, 2, 2))
    return formats.contraction(maps)


def bounds(maps: Tensor, corners: Tensor | None = None) -> Window:
    """A box (xmin, xmax, ymin, ymax) that surely and closely holds the attractor of the maps.

    The support function h(d) = max over x in F of <x, d> of the attractor F satisfies
    h(d) = max_i <t_i, d> + h(A_i^T d). It is iterated from above on a ring of directions; between
    two of them h is bounded by their linear combination, because h is sublinear, so each iterate
    bounds F. The ring is so fine that this widens an image by less than any admissible map shrinks
    it. With the corners (V, 2) of a figure, the box also holds the figure and all its images.
    """
    directions, maps = 64, maps.double()
    shrinks = max(1 - float(singular_values(maps).max()), 1e-6)
    middle = centroid(maps, area_weights(maps))  # about which the attractor is not wide
    maps = torch.cat([maps[..., :2], apply(maps, middle[None]).mT - middle[:, None]], dim=-1)
    step = 2 * math.pi / directions
    angles = torch.arange(directions, dtype=torch.float64) * step
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)
    pulled = ring @ maps[..., :2]  # A_i^T d for each map and direction: (n, directions, 2)
    turn = torch.atan2(pulled[..., 1], pulled[..., 0]) / step
    first = turn.floor()
    length = pulled.norm(dim=-1) / math.sin(step)
    low, high = length * ((1 - (turn - first)) * step).sin(), length * ((turn - first) * step).sin()
    offset = maps[..., 2] @ ring.T
    radius = float(maps[..., 2].norm(dim=-1).max()) / shrinks
    enough = min(1e-4, shrinks**2) * radius
    least = torch.full((directions,), -torch.inf, dtype=torch.float64)
    if corners is not None:
        corners = corners - middle
        radius = max(radius, float(corners.norm(dim=-1).max()))
        least = (ring @ corners.T).amax(1)
    images = arrays(offset, low, high, first.long() % directions)
    support = load_kernels().support(images, least.numpy(), radius, enough)
    (x, y), (right, up, left, down) = middle.tolist(), support[:: directions // 4].tolist()
    return x - left, x + right, y - down, y + up


def nudged(window: Window, side: int) -> Tensor:
    """The frame (2, 3) of a window, float64, moved so that points on edges of pixels are off them.

    By so little that nothing is seen of it, they do not fall to either side as rounding has it.
    """
    there = torch.tensor(frame(window, side), dtype=torch.float64)
    there[:, 2] += 2.0**-20
    return there


def in_pixels(maps: Tensor, window: Window, side: int) -> Tensor:
    """The maps, float64, as they act on pixels: P∘f∘P⁻¹ with P the frame of the window, nudged."""
    there = nudged(window, side)
    (across, _, left), (_, down, top) = there.tolist()
    back = [[1 / across, 0, -left / across], [0, 1 / down, -top / down]]
    back = torch.tensor(back, dtype=torch.float64)
    return compose(compose(there, maps.double()), back)


def nearest_point(
    maps: Tensor, x: float, y: float, recursion: int = 2000, start: Tensor | None = None
) -> tuple[float, float]:
    """The point of an attractor that is nearest to (x, y), as precise as float64 is.

    Branch and bound over words: one is dropped when even its nearest point is further away than
    another's furthest. Of a level of few letters, the nearest of the images of points `start` (V,
    2), or else of the maps' fixed points.
    """
    maps = maps.double()
    start = fixed_points(maps) if start is None else start
    middle, box = centroid(maps, area_weights(maps)), bounds(maps, start)
    radius = max(
        math.hypot(u - float(middle[0]), v - float(middle[1])) for u in box[:2] for v in box[2:]
    )
    words, target = (
        torch.eye(2, 3, dtype=torch.float64)[None],
        torch.tensor([x, y], dtype=torch.float64),
    )
    for _ in range(min(recursion, 2000)):
        words = compose(words[:, None], maps).flatten(0, 1)
        reach = singular_values(words)[:, 0] * radius
        away = (apply(words, middle[None])[:, 0] - target).norm(dim=1)
        words = words[(away - reach <= (away + reach).min())]
        words = words[
            (apply(words, middle[None])[:, 0] - target).norm(dim=1).argsort(stable=True)[:256]
        ]
        if float(reach.max()) < 1e-16 * radius:
            break
    points = apply(words, start).flatten(0, 1)
    u, v = points[(points - target).norm(dim=1).argmin()].tolist()
    return u, v


def measure_box(maps: Tensor, weights: Tensor) -> Window:
    """The box within 16 standard deviations of the measure's centre: more tells nothing apart.

    The covariance C solves C = Σ p_i (A_i C A_iᵀ + d_i d_iᵀ), where d_i is how far map i moves the
    centre.
    """
    middle = centroid(maps, weights)
    moved = apply(maps, middle[None])[:, 0] - middle
    grown = torch.einsum("n,nij,nkl->ikjl", weights, maps[:, :, :2], maps[:, :, :2]).reshape(4, 4)
    added = torch.einsum("n,ni,nj->ij", weights, moved, moved).flatten()
    variances = torch.linalg.solve(torch.eye(4).to(grown) - grown, added)[[0, 3]]
    far = 16 * variances.clamp(min=0).sqrt()
    (left, low), (right, high) = (middle - far).tolist(), (middle + far).tolist()
    return left, right, low, high


def to_edges(box: Window) -> Window:
    """A box in pixels, moved outwards to the edges of pixels."""
    left, low = (math.floor(edge + 0.5) - 0.5 for edge in box[::2])
    return left, max(box[1], left + 1), low, max(box[3], low + 1)


def strip_rows(size: int, row_bytes: int, memory: int) -> int:
    """How many rows of a picture fit into memory. Raises MemoryError if it is not even one."""
    rows = (memory - OVERHEAD) // row_bytes
    if rows < 1:
        raise MemoryError(f"a single row needs {(row_bytes + OVERHEAD) / 2**30:.1f} GiB")
    return min(size, rows)
