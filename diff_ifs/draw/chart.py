"""The attractor as a chart, on which words are looked up through their inverses.

Letters in shapes: n maps, K words, P points of the chart, C its cells. Everything is float64.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ifs_model import apply, singular_values

CHART_SIDE = 512  # cells along the longer side of the chart
SLIVER = 0.125  # the ratio of singular values below which an image is told from others by its axes
DIRECTIONS = 256  # in which the chart knows how far the attractor reaches
BATCH = 1 << 22  # cells that are looked at at once where loops are not compiled


class Chart:
    """The attractor as at most one point for each cell of a grid, where the images of words are looked up.

    points: (2, P), or (3, P) with addresses; levels: that of each point (P,); box: where they lie; cell: its size.
    """

    def __init__(self, points: Tensor, levels: Tensor, box: tuple[float, float, float, float], cell: float):
        like = {"dtype": torch.float64, "device": points.device}
        left, top = (math.floor((edge + 0.5) / cell) * cell - 0.5 - cell for edge in (box[0], box[2]))
        columns, rows = (math.floor((edge - low) / cell) + 2 for edge, low in ((box[1], left), (box[3], top)))
        self.points, self.levels, self.cell = points, levels, cell
        column = ((points[0] - left) / cell).long().clamp(0, columns - 1)
        row = ((points[1] - top) / cell).long().clamp(0, rows - 1)
        taken = torch.zeros(rows, columns, dtype=torch.bool, device=points.device)
        taken[row, column] = True
        self.filled = float(taken.sum()) * cell**2 / ((box[1] - box[0]) * (box[3] - box[2]))
        grids, shapes, offset = [], [], 0  # of cells that double: which point is the first one in each, or -1
        order = torch.arange(points.shape[1], dtype=torch.int32, device=points.device)
        for half in range(max(rows, columns).bit_length()):
            height, width = ((side - 1 >> half) + 1 for side in (rows, columns))
            grid = torch.full((height * width,), points.shape[1], dtype=torch.int32, device=points.device)
            grid.scatter_reduce_(0, (row >> half) * width + (column >> half), order, "amin")
            grids.append(grid.where(grid < points.shape[1], -1))
            shapes.append([offset, height, width])
            offset += height * width
        self.index, self.shapes = torch.cat(grids), torch.tensor(shapes, device=points.device)
        free = ~taken.cpu().numpy()
        self.depths = torch.from_numpy(distance_transform_edt(~free) * cell).flatten().to(**like)
        nearest = distance_transform_edt(free, return_distances=False, return_indices=True)[::-1].reshape(2, -1)
        corner = torch.tensor([left, top], **like)
        self.nearest = torch.from_numpy((nearest + 0.5) * cell).T.contiguous().to(**like) + corner
        middle, half = (
            (torch.tensor(box[1::2], **like) + sign * torch.tensor(box[::2], **like)) / 2 for sign in (1, -1)
        )
        self.span = 2 * float(half.max())
        self.frame = torch.cat([middle, half, corner, torch.tensor([cell, self.span], **like)])
        angles = ((torch.arange(DIRECTIONS, **like) + 0.5) / DIRECTIONS - 0.5) * math.pi
        ring, slack = torch.stack([angles.cos(), angles.sin()]), cell + self.span * math.pi / DIRECTIONS / 2
        ends = [points.new_full((rows,), -sign * math.inf) for sign in (-1, 1)]
        for end, kind in zip(ends, ("amin", "amax"), strict=True):
            end.scatter_reduce_(0, row, points[0], kind)
        lines = taken.any(1).nonzero().squeeze(1)
        outermost = torch.stack(
            [torch.cat(ends)[torch.cat([lines, lines + rows])], (lines.repeat(2) + 0.5) * cell + top]
        )
        reach = ring.T @ (outermost - middle[:, None])
        self.extents = torch.stack([reach.amin(1) - slack, reach.amax(1) + slack], dim=1)

    @property
    def of_depth(self) -> tuple[Tensor, ...]:
        """What `depth` looks up."""
        return self.frame, self.shapes, self.depths, self.nearest, self.extents


def as_arrays(*tensors: Tensor) -> list[np.ndarray]:
    """What compiled loops are given."""
    return [tensor.contiguous().numpy() for tensor in tensors]


def signed_depth(
    maps: Tensor,
    spots: Tensor,
    half: float,
    frame: Tensor,
    shapes: Tensor,
    depths: Tensor,
    nearest: Tensor,
    extents: Tensor,
) -> Tensor:
    """How deep, in pixels, spots (K, 2) lie in the images of the attractor under maps (K, 2, 3), or minus how far away.

    What the inverse of a map takes a spot to is looked up on a chart. Minus infinity where the image surely misses the
    square that reaches from the spot `half` in all four directions: as a box has it, in the directions of the square
    and of the box; of a thin image, in those of its axes; and as the chart has it.
    """
    middle, reach, corner, (cell, span) = frame[:2], frame[2:4], frame[4:6], frame[6:].tolist()
    rows, columns = shapes[0, 1:].tolist()
    linear = maps[:, :, :2]
    off = spots - apply(maps, middle[None])[:, 0]
    misses = (off.abs() > linear.abs() @ reach + half).any(1)
    (a, b), (c, d) = linear.permute(1, 2, 0)
    large, small = singular_values(maps).unbind(1)
    thin = small <= SLIVER * large
    area = torch.where(thin, 1.0, a * d - b * c)
    at = torch.stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]], dim=1) / area[:, None]
    beyond = half * torch.stack([d.abs() + b.abs(), a.abs() + c.abs()], dim=1) / area.abs()[:, None]
    misses |= ~thin & (at.abs() > reach + beyond).any(1)
    inside = ~thin & (at.abs() <= reach).all(1)
    turn = torch.atan2(2 * (a * b + c * d), a * a + c * c - b * b - d * d) / 2
    axis = torch.stack([turn.cos(), turn.sin()], dim=1)
    image = (linear @ axis[..., None])[..., 0]
    square = image.square().sum(1).clamp(min=1e-300)
    normal = torch.stack([-image[:, 1], image[:, 0]], dim=1) / square.sqrt()[:, None]
    along, across = (image * off).sum(1), (normal * off).sum(1)
    margin = half * image.abs().sum(1)
    low, high = extents[((turn / math.pi + 0.5) * len(extents)).long() % len(extents)].unbind(1)
    apart = (along - margin > high * square) | (along + margin < low * square)
    misses |= ~inside & (apart | (across.abs() > half * normal.abs().sum(1) + reach.sum() * small))
    along = (along / square).clamp(-span, span)
    across = (across / small.clamp(min=1e-300)).clamp(-span, span) * torch.where(a * d < b * c, -1.0, 1.0)
    turned = axis * along[:, None] + torch.stack([-axis[:, 1], axis[:, 0]], dim=1) * across[:, None]
    before = torch.where(inside[:, None], at, turned) + middle
    column, row = ((before - corner) / cell).long().unbind(1)
    place = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    deep, close = depths[place], nearest[place]
    away = (close - before).norm(dim=1)
    misses |= inside & (deep == 0) & ((away - 3 * cell) * small > math.sqrt(2) * half)
    score = torch.where(deep > 0, deep * small, -(apply(maps, close[:, None])[:, 0] - spots).norm(dim=1))
    return torch.where(misses, -torch.inf, score)


def slab_interval(edges: Tensor, slopes: Tensor, others: Tensor, width: float | Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest u (K,) for which slopes u + others v can lie between both edges, where 0 <= v <= width.

    edges: (K, 2, 2), slopes and others: (K, 2), one for each of two coordinates. Infinite where a slope is zero; the
    least is larger than the largest where there is no such u.
    """
    others = others * width
    low, high = edges[..., 0] - others.clamp(min=0), edges[..., 1] - others.clamp(max=0)
    level = slopes.abs() <= 1e-12
    ends = torch.stack([low, high], dim=2) / torch.where(level, 1.0, slopes)[..., None]
    missed = torch.where((low > 0) | (high < 0), -torch.inf, torch.inf)
    first = torch.where(level, -torch.inf, ends.amin(2)).amax(1)
    return first, torch.where(level, missed, ends.amax(2)).amin(1)


def cells_in(first: Tensor, last: Tensor, size: Tensor) -> Tensor:
    """How many of `size` cells (K,) lie between two ends (K,), the first of which is 0 or more."""
    end = torch.minimum(last.floor(), size - 1)
    return torch.where(first <= last, (end - first.floor() + 1).clamp(min=0), 0).long()


def enumerate_runs(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Number the members of runs of `counts` (K,): yield (run, number) of them, not too many at once."""
    batches = ((counts.cumsum(0) - counts) // BATCH).unique_consecutive(return_counts=True)[1]
    for part in torch.arange(len(counts), device=counts.device).split(batches.tolist()):
        here = counts[part]
        owner = part.repeat_interleave(here)
        yield owner, torch.arange(len(owner), device=counts.device) - (here.cumsum(0) - here).repeat_interleave(here)
