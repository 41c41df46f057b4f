"""What a construction starts from: a segment, the window's square, the convex hull, a point.

Letters in shapes: n maps, V corners of a polygon.
"""

import math

import torch
from torch import Tensor

from diff_ifs.draw.geometry import Window, bounds
from diff_ifs.draw.growth import iterate
from ifs_model import area_weights, centroid


def hull(maps: Tensor, directions: int = 720) -> Tensor:
    """Corners (V, 2), in order, of the convex hull of the attractor of maps (n, 2, 3), to a
    thousandth of its size.

    They are the attractor's outermost points in a ring of directions: one for a point, two for a
    segment.
    """
    maps = maps.double()
    box = bounds(maps)
    cell = max(box[1] - box[0], box[3] - box[2], 1e-9) / 1024
    cloud = torch.cat([points for _, points in iterate(maps, box, cell, 1000)], dim=1)
    angles = torch.arange(directions, dtype=torch.float64) * (2 * math.pi / directions)
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)
    cloud = _outside(cloud, ring[:: directions // 16])
    outermost = torch.cat(
        [(part @ cloud).argmax(1) for part in ring.split(16)]
    ).unique_consecutive()
    if len(outermost) > 1 and outermost[0] == outermost[-1]:
        outermost = outermost[:-1]
    corners = cloud[:, outermost].T
    along, on = corners - corners.roll(1, 0), corners.roll(-1, 0) - corners
    turns = (along[:, 0] * on[:, 1] - along[:, 1] * on[:, 0]).abs() > 1e-9 * (1024 * cell) ** 2
    if turns.any():
        return corners[turns]
    ends = torch.cdist(corners, corners).argmax()  # a segment, or a point
    return corners[torch.tensor(sorted({int(ends) // len(corners), int(ends) % len(corners)}))]


def _outside(cloud: Tensor, ring: Tensor) -> Tensor:
    """Those of some points (2, P) that are not within the polygon of the outermost ones in a few
    directions (D, 2), counter-clockwise: an attractor with an area has a million points."""
    at = (ring @ cloud).argmax(1).unique_consecutive()
    corners, kept = cloud[:, at].T, torch.zeros(cloud.shape[1], dtype=torch.bool)
    kept[at] = True
    for (x, y), (u, v) in zip(corners.tolist(), corners.roll(-1, 0).tolist(), strict=True):
        if (x, y) != (u, v):
            kept |= (u - x) * (cloud[1] - y) - (v - y) * (cloud[0] - x) <= 0
    return cloud[:, kept]


def figure(name: str, maps: Tensor, window: Window) -> Tensor:
    """Corners (V, 2), in the world, of what the construction of an attractor starts from.

    segment: the attractor's diameter, from one end to the other; square: the window; hull: the
    attractor's convex hull; point: the centre of mass of its measure.
    """
    maps = maps.double()
    if name == "square":
        xmin, xmax, ymin, ymax = window
        return torch.tensor(
            [[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]], dtype=torch.float64
        ).to(maps)
    if name == "point":
        return centroid(maps, area_weights(maps))[None]
    corners = hull(maps)
    if name == "segment":
        return corners[
            torch.tensor(divmod(int(torch.cdist(corners, corners).argmax()), len(corners)))
        ]
    return corners
