"""Systems made symmetric: one map of each orbit says all of its maps."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.compress.lattice import finest, whole
from diff_ifs.fit.judge import evaluate
from diff_ifs.formats.code import CENTRE, MOST_CODED, SYMMETRIES, Code

MIDDLE = 0.15  # of the figure's spread: what is no farther from the centre stands for itself alone
COARSE = 96  # pixels a side, at which symmetric systems are compared
AT_MOST = 0.05  # of IoU, that a system may lose when it is made symmetric, before it is refitted


def symmetric_codes(code: Code, maps: Tensor, target: Tensor) -> list[tuple[Code, Tensor]]:
    """The code of maps (N, 2, 3) under each symmetry that they can be given at little loss, and
    those of them (n, 2, 3) of which it makes the others; the fewest come first.

    The centre is the target's centre of mass. Taken are all maps whose images lie in one sector, or
    on one side of a mirror: that with which the whole shows the target best.
    """
    if target.sum() == 0:
        return []
    pixels = (target >= 0.5).nonzero().double()
    xy = (2 * pixels.flip(1) + 1) / len(target) - 1
    centre, spread = xy.mean(0) * torch.tensor([1.0, -1.0]), float(xy.std(0).norm())
    steps = (centre * CENTRE).round().int().tolist()
    off = maps[:, :, :2] @ centre + maps[:, :, 2] - centre
    small = torch.nn.functional.adaptive_avg_pool2d(target[None], min(len(target), COARSE))[0]
    before = evaluate(maps, small, code.radius, quality="draft").iou
    found = []
    for kind, (order, *_) in enumerate(SYMMETRIES):
        place = tuple(steps) if kind > 1 else (steps[kind],)
        away = off.norm(dim=1) if kind > 1 else off[:, kind].abs()
        alone = away <= MIDDLE * spread
        angles = torch.atan2(off[:, 1], off[:, 0])
        best = None
        for first in (~alone).nonzero().flatten().tolist():
            if kind > 1:
                beyond = (angles - angles[first] + 1e-6) % (2 * math.pi)
                chosen = ~alone & (beyond < 2 * math.pi / order - 1e-3)
            else:
                chosen = ~alone & (off[:, kind] * off[first, kind] > 0)
            counts = int(chosen.sum()), int(alone.sum())
            reps = torch.cat([maps[chosen], maps[alone]])
            way = replace(code, n=sum(counts), symmetry=(kind, *place), kinds=counts)
            if way.drawn > min(MOST_CODED, len(maps) + 1) or way.n >= len(maps):
                continue
            system = whole(finest(way), reps)
            iou = evaluate(system, small, code.radius, quality="draft").iou
            if best is None or (iou, -way.n) > best[0]:
                best = (iou, -way.n), way, reps
        if best and best[0][0] >= before - AT_MOST:
            found.append(best[1:])
    return sorted(found, key=lambda way: way[0].n)
