"""The attractor as a chart, on which words are looked up through their inverses.

Letters in shapes: P points of the chart, C its cells.
"""

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

CHART_SIDE = 512  # cells along the longer side of the chart


class Chart:
    """The attractor as a grid of points, one a cell, where images of words are looked up.

    points: float64 (2, P), or (3, P) with addresses; levels: that of each point (P,); box: where
    they lie; cell: its size. The arrays that it keeps are NumPy's, for compiled loops:

    frame (8,): the box's middle, half its sides and longer side (last), the grid's corner, the side
    of a cell; shapes (k, 3): of grids of cells that double, where each begins in `index`, its rows
    and its columns; index: the first point in each cell, or -1; depths (C,): from a taken cell to
    the next free one, and nearest (C, 2): the middle of the nearest taken cell; extents (256, 2):
    how far it reaches in as many directions.
    """

    def __init__(
        self, points: Tensor, levels: Tensor, box: tuple[float, float, float, float], cell: float
    ):
        left, top = (
            math.floor((edge + 0.5) / cell) * cell - 0.5 - cell for edge in (box[0], box[2])
        )
        columns, rows = (
            math.floor((edge - low) / cell) + 2 for edge, low in ((box[1], left), (box[3], top))
        )
        self.cell, self.points, self.levels = cell, points.contiguous().numpy(), levels.numpy()
        column = ((points[0] - left) / cell).long().clamp(0, columns - 1)
        row = ((points[1] - top) / cell).long().clamp(0, rows - 1)
        taken = torch.zeros(rows, columns, dtype=torch.bool)
        taken[row, column] = True
        self.filled = float(taken.sum()) * cell**2 / ((box[1] - box[0]) * (box[3] - box[2]))
        grids, shapes, offset = [], [], 0
        order = torch.arange(points.shape[1], dtype=torch.int32)
        for half in range(max(rows, columns).bit_length()):
            height, width = ((side - 1 >> half) + 1 for side in (rows, columns))
            grid = torch.full((height * width,), points.shape[1], dtype=torch.int32)
            grid.scatter_reduce_(0, (row >> half) * width + (column >> half), order, "amin")
            grids.append(grid.where(grid < points.shape[1], -1))
            shapes.append([offset, height, width])
            offset += height * width
        self.index, self.shapes = torch.cat(grids).numpy(), np.array(shapes)
        free = ~taken.numpy()
        self.depths = (distance_transform_edt(~free) * cell).ravel()
        nearest = distance_transform_edt(free, return_distances=False, return_indices=True)[
            ::-1
        ].reshape(2, -1)
        self.nearest = np.ascontiguousarray(((nearest + 0.5) * cell).T) + np.array([left, top])
        middle, half = ((np.array(box[1::2]) + sign * np.array(box[::2])) / 2 for sign in (1, -1))
        self.span = 2 * float(half.max())
        self.frame = np.array([*middle, *half, left, top, cell, self.span])
        angles = ((torch.arange(256, dtype=torch.float64) + 0.5) / 256 - 0.5) * math.pi
        ring, slack = torch.stack([angles.cos(), angles.sin()]), cell + self.span * math.pi / 512
        ends = [points.new_full((rows,), -sign * math.inf) for sign in (-1, 1)]
        for end, kind in zip(ends, ("amin", "amax"), strict=True):
            end.scatter_reduce_(0, row, points[0], kind)
        lines = taken.any(1).nonzero().squeeze(1)
        across, down = (
            torch.cat(ends)[torch.cat([lines, lines + rows])],
            (lines.repeat(2) + 0.5) * cell + top,
        )
        reach = ring.T @ (torch.stack([across, down]) - torch.from_numpy(middle)[:, None])
        self.extents = torch.stack([reach.amin(1) - slack, reach.amax(1) + slack], dim=1).numpy()

    @property
    def of_depth(self) -> tuple[np.ndarray, ...]:
        """What `kernels.tiles` needs to tell how deep a spot lies in an image."""
        return self.frame, self.shapes, self.depths, self.nearest, self.extents

    @property
    def of_points(self) -> tuple[np.ndarray, ...]:
        """What it needs to draw the points of an image."""
        return self.frame, self.shapes, self.index, self.points, self.levels
