"""Systems of few maps whose images of a picture make it up again, found by descent.

By the collage theorem (Barnsley et al., "Solution of an inverse problem for fractals and other
sets", PNAS 83, 1986), maps that take a picture to pieces that cover it have an attractor like it.
Here the pieces are drawn from the picture itself: what map i draws at x is C(f_i⁻¹(x)), and all
maps together draw 1 − Π (1 − C(f_i⁻¹(x))). So places that several images cover count once, and no
slow map takes more steps than another, which both lead the descent of attractors astray. Only true
fractals of few maps are found in this way: other pictures are not made up of so few images.

Letters in shapes: B systems, n maps, S side of the picture.
"""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from diff_ifs.backend import load_kernels
from diff_ifs.fit.judge import selection_scores
from diff_ifs.fit.stages import schedule
from diff_ifs.metrics import foreground, pixel_centres, pooled
from diff_ifs.setup import Setup
from ifs_model import determinants, rotations


def self_similar(target: Tensor, setup: Setup) -> Tensor:
    """The system (n, 2, 3), float32, whose attractor is most like the target (S, S), of those whose
    collages are.

    Twice as many systems as a fit has start at random, at 32 × 32 pixels; an eighth of these, with
    the least error, goes on at 64 × 64, and a sixteenth at 128 × 128, where true maps are told from
    others that are nearly as good. There the best are bred again and again: one map or two of each
    copy are placed anew.
    """
    target = target.cpu()
    generator = torch.Generator().manual_seed(setup.seed)
    maps = random_copies(target, 2 * setup.batch, setup.n, generator)
    finer = pooled(target, 128)
    maps, errors = descend_collage(maps, pooled(target, 32), 150, 0.05, (1.5, 0.6), setup.bound)
    for picture, share, steps, rounds, rate, blurs in (
        (pooled(target, 64), 4, 100, 8, 0.03, (1.0, 0.5)),
        (finer, 8, 80, 6, 0.02, (1.5, 0.5)),
    ):
        maps = maps[ranked(maps, errors)[: max(setup.batch // share, 1)]]
        maps, errors = descend_collage(maps, picture, steps, rate, blurs, setup.bound)
        coarser = pooled(picture, len(picture) // 2)
        for _ in range(rounds):
            elite = distinct(maps[ranked(maps, errors)], max(setup.batch // (8 * share), 1))
            bred = with_maps_anew(elite, target, coarser, generator)
            maps, errors = descend_collage(bred, picture, 40, rate, blurs, setup.bound)
    maps = maps[ranked(maps, errors)[:8]]
    maps, _ = descend_collage(maps, finer, 150, 0.01, (1.0, 0.4), setup.bound)
    scores = torch.tensor([max(selection_scores(system, finer, setup)) for system in maps])
    return maps[scores.argmax()].float()


def ranked(maps: Tensor, errors: Tensor) -> Tensor:
    """The order (B,) of systems (B, n, 2, 3) by the errors (B,) of their collages.

    A map that hardly moves the picture covers it, whatever the others are: systems with such maps
    come last.
    """
    idle = determinants(maps).abs().amax(1) > 0.8
    return torch.where(idle, errors + 1, errors).argsort(stable=True)


def distinct(maps: Tensor, most: int) -> Tensor:
    """The first systems of (B, n, 2, 3) that differ, at most so many: two are the same if their
    maps are, in some order."""
    sums = maps.sum((2, 3)).sort(dim=1).values
    kept: list[int] = []
    for k in range(len(maps)):
        if len(kept) < most and all((sums[k] - sums[j]).abs().mean() > 0.02 for j in kept):
            kept.append(k)
    return maps[kept]


def with_maps_anew(
    elite: Tensor, target: Tensor, picture: Tensor, generator: torch.Generator
) -> Tensor:
    """Eight of each system (B, n, 2, 3): itself, and copies in which a map or two are copies of the
    target (S, S) anew, those with the least error of a collage of the picture among forty.

    The less a map is missed where it is left out, the likelier it is placed anew.
    """
    n, copies, loops = elite.shape[1], 7, load_kernels()
    blurred = gaussian_filter(picture.double(), 1.0)
    without = elite[:, None].repeat(1, n, 1, 1, 1)
    without[:, range(n), range(n)] = without.new_tensor([[0.01, 0, 9], [0, 0.01, 9]])  # out of view
    errors, _ = loops.collage_errors(without.flatten(0, 1).numpy(), blurred)
    missed = torch.from_numpy(errors).view(-1, n)
    missed += 0.3 * missed.mean(1, keepdim=True) - missed.amin(1, keepdim=True)
    chances = (1 / missed.clamp_min(1e-12)).repeat_interleave(copies, 0)
    first, second = chances.multinomial(2, generator=generator).T
    two = torch.rand(len(chances), generator=generator) < 0.4
    anew = torch.zeros_like(chances, dtype=torch.bool)
    anew[torch.arange(len(anew)), first] = True
    anew[two, second[two]] = True
    found, anew = elite.repeat_interleave(copies, 0), anew[..., None, None]
    least = torch.full((len(found),), math.inf, dtype=torch.float64)
    for _ in range(40):
        tried = torch.where(anew, random_copies(target, len(found), n, generator), found)
        errors = torch.from_numpy(loops.collage_errors(tried.numpy(), blurred)[0])
        better = errors < least
        found = torch.where(better[:, None, None, None], tried, found)
        least = torch.minimum(errors, least)
    return torch.cat([elite, found])


def polished(maps: Tensor, target: Tensor, setup: Setup) -> Tensor | None:
    """Maps (n, 2, 3) after a descent of their collage's error, which sees what is finer than points
    and splats; None where that error is more than a tenth of the picture to begin with.

    The target (S, S) counts as 256 × 256 pixels at most.
    """
    picture = pooled(target.cpu(), 256)
    found = maps.cpu().double()[None]
    (error,), _ = load_kernels().collage_errors(
        found.numpy(), gaussian_filter(picture.double(), 1.5)
    )
    if error > 0.1 * float(picture.mean()):
        return None
    for rate, blurs in ((0.002, (1.5, 0.5)), (0.001, (0.7, 0.3))):
        found, _ = descend_collage(found, picture, 100, rate, blurs, setup.bound)
    return found[0]


def random_copies(target: Tensor, systems: int, n: int, generator: torch.Generator) -> Tensor:
    """Maps (B, n, 2, 3), float64, that shrink the target (S, S) to copies within it, turned,
    reflected and flattened at random.
    """

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(systems, n, generator=generator, dtype=torch.float64)
        return low + (high - low) * draw

    pixels = pixel_centres(foreground(target)).double()
    middle = pixels.mean(0)
    large, sign = uniform(0.35, 0.95), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    axes = torch.stack([large, sign * large * uniform(0.3, 1)], dim=-1)
    turn, lean = uniform(0, 2 * math.pi), uniform(0, 2 * math.pi)
    linear = rotations(turn) @ (axes[..., None] * rotations(lean))
    places = pixels[(uniform(0, 1) * len(pixels)).long()]
    at = middle + (places - middle) * (1 - 0.7 * large)[..., None]
    return torch.cat([linear, (at - linear @ middle)[..., None]], dim=-1)


def descend_collage(
    maps: Tensor,
    picture: Tensor,
    steps: int,
    rate: float,
    blurs: tuple[float, float],
    bound: float,
) -> tuple[Tensor, Tensor]:
    """Maps (B, n, 2, 3) after some steps of Adam that make the error of their collages less, and
    these errors (B,).

    The rate falls to a twentieth, and the blur of the picture (S, S) from the first sigma, in
    pixels, to the last, as those of a stage do. No map counts as flatter than to a pixel.
    """
    loops, sharp = load_kernels(), picture.double().numpy()
    found, first, second = maps.numpy(), np.zeros_like(maps), np.zeros_like(maps)
    for step in range(steps):
        now, sigma = schedule(step, steps, (rate, rate / 20), blurs)
        if step % 10 == 0:
            blurred = gaussian_filter(sharp, sigma)
        errors, gradient = loops.collage_errors(found, blurred)
        found = loops.descend(found, gradient, first, second, step + 1, now, bound)
    return torch.from_numpy(found), torch.from_numpy(errors)
