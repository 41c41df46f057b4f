"""What a system is worth, by its converged attractor.

Letters in shapes: n maps, S side of the picture.
"""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diff_ifs import metrics
from diff_ifs.backend import (
    arrays,
    blur,
    load_kernels,
    splat_words,
    words_by_weight,
)
from diff_ifs.draw.coverage import drawn_with_pens, occupancy
from diff_ifs.draw.distance import distance
from diff_ifs.draw.geometry import Quality
from diff_ifs.fit.stages import GREY_BLUR
from diff_ifs.metrics import foreground, iou, mse
from diff_ifs.setup import WINDOW, Setup
from ifs_model import area_weights, coverage, frame

PEN_GAIN = 0.03  # IoU that a pen must gain for a picture that does not look drawn with one


class Evaluation(NamedTuple):
    """What a system is worth."""

    iou: float  # of its picture with the target
    stroke: float  # with which it was drawn, in world units
    picture: Tensor  # (S, S) coverage
    # the greater, the better: the IoU, or for a grey target minus the mean squared error
    score: float


def evaluate(
    maps: Tensor,
    target: Tensor,
    stroke: float = 0.0,
    search_stroke: bool = False,
    supersample: int | None = None,
    grey: bool | None = False,
    quality: Quality = "final",
) -> Evaluation:
    """Compare the converged attractor of maps (n, 2, 3) with the target (S, S).

    With `search_stroke`, the stroke is the one of all radii up to a sixteenth of the picture that
    gives the best IoU; it must beat no stroke at all by 0.002. A `grey` target is compared with the
    soft picture of the measure instead. `quality` is that of `draw.geometry.View`. All of it is
    done on the CPU.
    """
    maps, target = maps.detach().cpu(), target.cpu()
    if grey:
        picture = soft_picture(maps.to(target.dtype), target)
        return Evaluation(metrics.iou(picture, target), 0.0, picture, -mse(picture, target))
    maps, size = maps.double(), len(target)
    if supersample is None:
        supersample = 3 if quality == "final" or size <= 512 else 1
    if search_stroke:
        k = supersample
        away = distance(maps, WINDOW, size * k, margin=0.125, quality="draft")
        middles = away[k // 2 :: k, k // 2 :: k]
        radius = best_radius(middles, foreground(target), finest=2 / size)
        best = bare = _compared(F.avg_pool2d((away == 0)[None].float(), k)[0], target, 0.0)
        if radius > 0:
            nearby = [radius + shift / (4 * size) for shift in (-1, -0.5, 0, 0.5, 1)]
            pictures = drawn_with_pens(maps, WINDOW, size, nearby, 2 * k)
            tried = map(_compared, pictures, itertools.repeat(target), nearby)
            best = max(bare, *tried, key=lambda found: found.iou)
        if best.iou <= bare.iou + 0.002:
            best = bare
        return best if quality == "draft" else evaluate(maps, target, best.stroke, quality=quality)
    picture = occupancy(
        maps,
        WINDOW,
        size,
        stroke=stroke,
        supersample=2 * supersample if stroke > 0 else supersample,
        quality=quality,
    )
    return _compared(picture, target, stroke)


def _compared(picture: Tensor, target: Tensor, stroke: float) -> Evaluation:
    iou = metrics.iou(picture, target)
    return Evaluation(iou, stroke, picture, iou)


def soft_picture(maps: Tensor, target: Tensor) -> Tensor:
    """Coverage (S, S) of the measure of maps (n, 2, 3), with the alpha for which it is most like
    the target (S, S).

    About 16 points a pixel stand for the converged measure; they are blurred by GREY_BLUR pixels.
    """
    size = len(target)
    words = words_by_weight(area_weights(maps)[None], 4 * size)
    to = torch.tensor(frame(WINDOW, size), dtype=target.dtype, device=target.device)
    density, _ = splat_words(maps[None], (words, words), to, size)
    density = blur(density, GREY_BLUR) * target.sum()
    trials = torch.logspace(-1, 2, 91, dtype=target.dtype, device=target.device)
    errors = torch.stack(
        [(coverage(density[0], alpha) - target).square().mean() for alpha in trials]
    )
    return coverage(density[0], trials[errors.argmin()])


def best_radius(near: Tensor, wanted: Tensor, finest: float) -> float:
    """The radius r for which {near <= r} has the best IoU with `wanted`; 0 if it is below `finest`
    / 4.

    near: distances (S, S) in world units; wanted: booleans (S, S).
    """
    radii, order = near.flatten().sort()
    hits = wanted.flatten()[order].cumsum(0)
    scores = hits / (int(wanted.sum()) + torch.arange(1, len(hits) + 1, device=hits.device) - hits)
    # the last pixel of each radius
    last = torch.cat([radii[1:] > radii[:-1], radii.new_ones(1) > 0])
    radius = float(radii[(scores * last * (radii <= 0.125)).argmax()])
    return radius if finest / 4 <= radius <= 0.125 else 0.0


def selection_scores(maps: Tensor, target: Tensor, setup: Setup) -> tuple[float, float]:
    """What a selection goes by: the IoU of the target (S, S) with all pixels hit, and that with the
    best pen's drawing.

    Both are `judge`'s score where the pen is given or the target is grey. Pinholes and dust are for
    the last stages to mend. What was drawn with a pen, such as the stems of a fern, may be so much
    thinner than the target that true maps are worth less than many others, until one looks with a
    pen.
    """
    if setup.grey or setup.stroke is not None:
        stroke = setup.stroke or 0.0
        verdict = evaluate(
            maps,
            target,
            stroke,
            supersample=2 if stroke > 0 else 1,
            grey=setup.grey,
            quality="draft",
        )
        return verdict.score, verdict.score
    wanted, size = foreground(target).cpu(), len(target)
    picture = occupancy(maps.cpu().double(), WINDOW, 2 * size, supersample=1, quality="draft")
    hit = F.max_pool2d(picture[None], 2)[0]
    pens = load_kernels().pen_ious(*arrays(picture > 0, wanted), min(max(size // 16, 2), 16))
    return iou(hit, wanted), float(pens.max())
