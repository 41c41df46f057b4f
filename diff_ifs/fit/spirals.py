"""Systems of curves that a slow map takes along themselves, such as spirals.

One map turns and shrinks such a curve a little, onto itself but for its outer end; flat ones draw
that end. Random starts do not lead there, as a slow map is right for all its powers or not at all.
So the similarities of the curve are found first, and flat maps for what they leave.

Letters in shapes: B systems, n maps, P points, S side of the picture.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter
from scipy.spatial import KDTree
from torch import Tensor

from diff_ifs.backend import side_by_side
from diff_ifs.fit.judge import evaluate
from diff_ifs.metrics import foreground, pixel_centres, pooled
from diff_ifs.setup import Setup
from ifs_model import compose, rotations

SLOW = 0.85  # ratio of a similarity that takes a curve along itself, at least


def spiral(target: Tensor, setup: Setup) -> Tensor | None:
    """The system (n, 2, 3), float32, of a slow similarity and flat maps that is most like the
    target (S, S), which was drawn with a pen; None if no slow map takes its middle line along
    itself.

    The target counts as 256 × 256 pixels at most.
    """
    picture = pooled(target.cpu(), 256)
    pixel, pixels = 2 / len(picture), foreground(picture).numpy()
    depth = distance_transform_edt(pixels)
    ridge = pixels & (depth >= maximum_filter(depth, 3))
    line = pixel_centres(torch.from_numpy(ridge), torch.float64).numpy()
    if len(line) < 50:
        return None
    away = np.minimum(pixel * gaussian_filter(distance_transform_edt(~ridge), 0.7), 0.2)
    found, misses = similarities(torch.from_numpy(line), torch.from_numpy(away), setup)
    systems = []
    for map_, miss in zip(found.numpy(), misses.tolist(), strict=True):
        image = line @ map_[:, :2].T + map_[:, 2]
        left = line[KDTree(image).query(line)[0] > 2 * pixel]
        if miss > 1.5 * pixel or not setup.n <= len(left) <= len(line) / 3:
            continue
        clusters = fcluster(linkage(left), 4 * pixel, "distance")
        sizes = np.bincount(clusters)
        ends = halved(left[sizes[clusters] >= 0.3 * sizes.max()], setup.n - 1)
        if min(map(len, ends)) > 2:
            systems.append(np.stack([map_, *(flat_map(line, end) for end in ends)]))
    if not systems:
        return None
    maps = torch.from_numpy(np.stack(systems)).float()
    drafts = side_by_side(
        lambda system: evaluate(system, picture, search_stroke=True, quality="draft").iou, maps
    )
    return maps[int(np.argmax(drafts))]


def similarities(line: Tensor, away: Tensor, setup: Setup) -> tuple[Tensor, Tensor]:
    """Slow similarities (B, 2, 3), those that keep a line (P, 2) best on itself first, and by how
    much their images miss it: root mean squares (B,) in world units.

    away: distances (S, S) of pixels from the line. Twice as many as a fit has systems start at
    random, about random points of the line; the best go on, with their powers up to the sixteenth.
    """
    generator = torch.Generator().manual_seed(setup.seed)
    starts = 2 * setup.batch
    random = torch.rand(2, starts, generator=generator, dtype=line.dtype)
    ratio, turn = SLOW + (setup.bound - SLOW) * random[0], 2 * random[1] - 1
    centre = line[torch.randint(len(line), (starts,), generator=generator)]
    some = line[torch.randperm(len(line), generator=generator)[:200]]
    found = torch.cat([ratio[:, None], turn[:, None], centre], dim=1)
    for points, powers, steps, rate, kept in ((some, 1, 80, 0.03, 32), (line, 5, 150, 0.003, 16)):
        found = found.requires_grad_()
        adam = torch.optim.Adam([found], lr=rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            adam.zero_grad()
            misses = missed(found, points, away, powers)
            misses.sum().backward()
            if powers == 1:  # ratios stay different for now: small ones leave more to flat maps
                found.grad[:, 0] = 0
            adam.step()
            falling.step()
            with torch.no_grad():
                found[:, 0].clamp_(SLOW, setup.bound)
        best = misses.argsort()[:kept]
        found, misses = found.detach()[best], misses.detach()[best]
    return similarity_maps(found), misses.sqrt()


def similarity_maps(found: Tensor) -> Tensor:
    """Maps (B, 2, 3) of ratios, angles and centres (B, 4)."""
    linear = found[:, :1, None] * rotations(found[:, 1])
    centre = found[:, 2:, None]
    return torch.cat([linear, centre - linear @ centre], dim=-1)


def missed(found: Tensor, points: Tensor, away: Tensor, powers: int) -> Tensor:
    """Mean squares (B,) of how far from a line the images of its points (P, 2) are, under the
    first, second, fourth … power of similarities (B, 4)."""
    maps, squares = similarity_maps(found), []
    for _ in range(powers):
        images = points @ maps[..., :2].mT + maps[:, None, :, 2]
        places = images * images.new_tensor([1, -1])
        misses = F.grid_sample(
            away[None, None], places[None], padding_mode="border", align_corners=False
        )
        squares.append(misses[0, 0].square().mean(1))
        maps = compose(maps, maps)
    return torch.stack(squares).mean(0)


def halved(points: np.ndarray, count: int) -> list[np.ndarray]:
    """Points (P, 2) in so many pieces: the longest is cut in the middle, again and again."""
    pieces = [points]
    while len(pieces) < count:
        along = [piece @ axis(piece) for piece in pieces]
        longest = int(np.argmax([np.ptp(places) for places in along]))
        piece, places = pieces.pop(longest), along[longest]
        first = places <= (places.min() + places.max()) / 2
        pieces += [piece[first], piece[~first]]
    return pieces


def axis(points: np.ndarray) -> np.ndarray:
    """The direction (2,) in which points (P, 2) spread most."""
    return np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]


def flat_map(points: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The flat map (2, 3) of points (P, 2) to a segment as long as a piece (Q, 2) of them, along
    it."""
    across, along = axis(points), axis(piece)
    places, wanted = points @ across, piece @ along
    linear = np.ptp(wanted) / np.ptp(places) * np.outer(along, across)
    start = piece.mean(0) + (wanted.min() - piece.mean(0) @ along) * along
    return np.c_[linear, start - linear @ (across * places.min())]
