"""Where an attractor lies: bounds, frames in pixels, nearest points, the box of its measure.

Letters in shapes: n maps, P points, V corners of a polygon.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diff_ifs.backend import kernels
from ifs_model import apply, area_weights, centroid, compose, frame, singular_values

Window = tuple[float, float, float, float]
Tile = tuple[int, int, int, int]
Progress = Callable[[int], object]  # is told how many points or pixels were looked at just now
MEMORY = 2 << 30  # bytes that a picture may take
OVERHEAD = 700 << 20  # bytes of these that Python, its packages and the clouds take
NUDGE = 2.0**-20  # pixels that points are moved by: those on an edge are not to fall to either side, as rounding has it
DEVIATIONS = 16  # standard deviations of the measure of slow maps, beyond which nothing is told apart


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


def nearest_point(maps: Tensor, x: float, y: float) -> tuple[float, float]:
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


def measure_box(maps: Tensor, weights: Tensor) -> Window:
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


def to_edges(box: Window) -> Window:
    """A box in pixels, moved outwards to the edges of pixels."""
    left, low = (math.floor(edge + 0.5) - 0.5 for edge in box[::2])
    return left, max(box[1], left + 1), low, max(box[3], low + 1)


def strip_rows(size: int, row_bytes: int, memory: int) -> int:
    """How many rows of a picture fit into memory at once. Raises MemoryError if it is not even one."""
    rows = (memory - OVERHEAD) // row_bytes
    if rows < 1:
        raise MemoryError(f"a single row needs {(row_bytes + OVERHEAD) / 2**30:.1f} GiB")
    return min(size, rows)
