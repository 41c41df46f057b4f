"""The inverse problem: from a target picture to the maps of an IFS whose attractor looks like it.

Many starts are fitted as one batch, from coarse pictures to fine ones; the converged attractor decides which of them
go on. `fit` yields states and knows nothing of files, bars or frames.

Letters in shapes: B systems fitted side by side, n maps, S side of the picture.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import ifs_metrics
import ifs_raster
from ifs_collage import Collage, moments, roots
from diff_ifs.backend import (
    blur,
    convolve,
    grown_loss,
    kernels,
    splat_words,
    words_by_weight,
    words_loss,
)
from ifs_model import (
    Ancestry,
    Look,
    area_weights,
    centroid,
    contract,
    coverage,
    determinants,
    frame,
    pen_discs,
    rotations,
    singular_values,
    words_of_depth,
)
from ifs_setup import MAX_SINGULAR, WINDOW, Setup

REFRESH = 10  # steps between two choices of the words
GREY_BLUR = 0.4  # sigma, in pixels, of the splat that draws a grey picture in the end
PENS = (6.0, 12.0)  # alphas with which grown points draw under a pen, whose curves have fewer points than areas
WORTH = 0.03  # IoU that a pen must gain for a picture that does not look drawn with one
BARE = 1.5  # alpha with which grown points draw a picture as wide as they are: more suits a pen of half a pixel
GROWN = 2  # cells a side and pixel in which a grown stage keeps one point each
LADDER = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40)  # numbers of maps that are tried where none is given
THIN = 2.5  # half thickness in pixels up to which a picture counts as drawn with a pen


@dataclass(frozen=True)
class Stage:
    """One level of the way from coarse to fine."""

    size: int  # side of the picture in pixels
    points: int  # points drawn of each system
    systems: int  # how many of the stage before go on into this one
    judged: int  # how many of these are chosen by their converged attractors; the others by their loss
    copies: int  # how many of each go on: one as it is, the others with a map or two placed anew
    steps: int
    rates: tuple[float, float]  # learning rate, first and last
    blurs: tuple[float, float]  # sigma of the splat in pixels, first and last
    solidity: float  # alpha, as a multiple of what suits points spread evenly over the target
    levels: int  # of the pyramid above the picture itself
    grown: bool  # points as the attractor grows, one a cell, instead of words of about equal weight


def stages(setup: Setup) -> list[Stage]:
    """The plan of a fit.

    All start at a quarter of the size, where those with the least loss go on after a few steps; there the best four
    are bred again and again; they go on at half the size, and the best two at full size. Fine pictures weigh more in
    the end: no pyramid, and more points, that count for more, so that pinholes show.
    """
    starts, rounds = setup.batch, setup.rounds
    few, final = min(4, starts), min(2, starts)
    copies, half = min(32, starts) // few, -(-few // 2)
    if rounds is None:  # few maps are only right if all are, and many take many proposals
        rounds = 2 if setup.grey else max(5 + setup.n // 4, min(4 * setup.n, 60 // setup.n))
        rounds = rounds if setup.steps is None else min(rounds, setup.steps // 80)
    longer = min(max(setup.n / 8, 1), 4)  # many maps have details that only fine pictures show
    if setup.steps is not None:
        rounds = min(rounds, setup.steps // 5)  # so that each stage has a step
    if setup.grey:
        table = (
            (4, starts, 0, 1, 120, (2.0, 0.6), (0.75, 0.25), 1, 2, False),
            *[(4, few, few, copies, 60, (1.4, 0.4), (0.45, 0.25), 1, 2, False)] * rounds,
            (1, few, few, 1, 150, (0.8, 0.02), (0.25, GREY_BLUR / 2), 1, 0, False),
        )
    else:
        table = (
            (4, starts, 0, 1, 40, (1.0, 0.95), (1.0, 0.75), 1, 4, False),
            (4, min(starts, max(32, starts // 4)), 0, 1, 90, (0.95, 0.3), (0.75, 0.4), 1, 4, False),
            *[(4, few, half, copies, 80, (0.7, 0.2), (0.75, 0.4), 1, 4, False)] * rounds,
            (2, few, half, 1, 80 * longer, (0.33, 0.067), (0.5, 0.3), 1, 4, False),
            (1, final, final, 1, 70 * longer, (0.13, 0.01), (0.5, 0.3), 2, 0, False),
            (1, final, final, 1, 100 * longer, (0.067, 0.0), (0.25, 0.18), 6, 0, True),
        )
    plan, done, whole = [], 0.0, sum(row[4] for row in table)
    steps = round(whole) if setup.steps is None else setup.steps
    for scale, systems, judged, copies, share, rates, blurs, solidity, levels, grown in table:
        size = max(setup.size // scale, min(setup.size, 32))
        points = setup.points * (size / setup.size) ** 2 * (1.5 if scale == 1 else 1)
        if setup.grey:
            points = min(points, (5 if scale == 1 else 2.5) * size**2)
        before, done = round(steps * done), done + share / whole
        plan.append(
            Stage(
                size=size,
                points=max(400, round(points)),
                systems=systems,
                judged=judged,
                copies=copies,
                steps=max(1, round(steps * done) - before),
                rates=(setup.rate * rates[0], setup.rate * rates[1]),
                blurs=(setup.blur * blurs[0], setup.blur * blurs[1]),
                solidity=setup.solidity * solidity,
                levels=levels,
                grown=grown,
            )
        )
    return plan


@dataclass(frozen=True)
class State:
    """What a fit has reached. Maps are float64 tensors (n, 2, 3) on the CPU."""

    step: int
    steps: int
    size: int  # side of the picture of this stage, in pixels
    loss: float  # of the leader: the system with the least loss, in the last stage the one with the best IoU
    iou: float  # of the leader's converged attractor with the target, at full size
    maps: Tensor  # of the leader
    stroke: float
    picture: Tensor  # (S, S) coverage of the leader's converged attractor at full size
    trace: list[dict]  # step, size, loss and iou of every state so far
    path: list[tuple[int, Tensor, float]]  # the leader's (step, maps, stroke) at each state since its start
    best_iou: float  # the best of all states so far, by the converged attractor
    best_maps: Tensor
    best_stroke: float
    resume: dict  # what `fit` needs to go on from here


# --- Starts ---


def random_maps(target: Tensor, starts: int, n: int, generator: torch.Generator) -> Tensor:
    """Random systems (B, n, 2, 3) whose maps share the picture (S, S) out among themselves.

    The maps send the picture's centre of mass to the centres of a k-means clustering of its pixels (a few rounds of
    Lloyd's algorithm from random pixels), shrink it to its cluster's share of the area, and turn, stretch and reflect
    it at random.
    """
    coarse = F.adaptive_avg_pool2d(target[None, None].cpu(), min(64, len(target)))[0, 0]
    side = len(coarse)
    at = (2 * torch.arange(side) + 1) / side - 1
    row, column = (coarse >= min(0.5, float(coarse.max()))).nonzero().unbind(1)
    pixels, mass = torch.stack([at[column], -at[row]], dim=1), coarse[row, column]
    middle = (pixels * mass[:, None]).sum(0) / mass.sum()
    systems = []
    for _ in range(starts):
        centres = pixels[torch.multinomial(mass, n, replacement=len(mass) < n, generator=generator)]
        for _ in range(3):
            owner = F.one_hot(torch.cdist(pixels, centres).argmin(1), n) * mass[:, None]
            share = owner.sum(0)
            centres = (owner.T @ pixels) / share.clamp(min=1e-6)[:, None]
        scale = (share / share.sum()).sqrt()
        turn, lean = 2 * math.pi * torch.rand(2, n, generator=generator)
        stretch = torch.exp(0.3 * torch.randn(n, generator=generator))
        sign = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1
        axes = torch.stack([scale * stretch, sign * scale / stretch], dim=-1)
        linear = rotations(turn) @ (axes[:, :, None] * rotations(lean))
        systems.append(torch.cat([linear, (centres - linear @ middle)[..., None]], dim=-1))
    return torch.stack(systems)


def pen_radius(target: Tensor) -> float:
    """Half the thickness, in world units, of a picture (S, S) drawn with a thin pen; 0 for a solid one.

    Along a strip of half-width w, the mean distance of its points to the outside is w / 2.
    """
    pixels = ifs_metrics.on(target.cpu())
    inside = torch.from_numpy(distance_transform_edt(pixels.numpy()))[pixels]
    half_width = 2 * (float(inside.mean()) - 0.5) if len(inside) else 0.0
    return max(half_width, 0.5) * 2 / len(target) if half_width <= THIN else 0.0


def placed_anew(systems: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Copies of one system, (B, n, 2, 3), in each of which one or two maps are placed or turned anew at random.

    A map, small ones first, is moved to a pixel of the target (S, S) that the attractor misses, as large as its
    like, or with the mean and covariance of all that is missed nearby, which may be as flat as a stem; or one keeps
    its place but is turned or reflected about it. In half of the copies, maps are taken away and others placed where
    that leaves a gap in the collage. Descent alone does none of these: it follows the nearest slope.
    """
    systems, maps, side = systems.clone(), systems[0].double(), len(target)
    target = target.cpu()
    missed = (target - ifs_raster.occupancy(maps, WINDOW, side, supersample=1, rim=False)).clamp(min=0).flatten() + 1e-6
    middle = centroid(maps, area_weights(maps)).float()
    area = determinants(systems[0]).abs()
    at = (2 * torch.arange(side) + 1) / side - 1
    pixels = torch.cartesian_prod(-at, at).flip(1)
    _, spread = moments(pixels, target.flatten()[None])
    whole = torch.linalg.inv(roots(spread)[0])
    collage = Collage(target)

    def chance() -> float:
        return float(torch.rand((), generator=generator))

    noise = torch.full((len(systems), 1, 1, 1), 0.01)
    for b, system in enumerate(systems):
        if chance() < 0.5:
            fill_gaps(system, collage, 1 if chance() < 0.6 else 2 if chance() < 0.6 else 3, generator)
            noise[b] = 0.003
            continue
        for _ in range(1 if chance() < 0.6 else 2):
            linear = rotations(2 * math.pi * torch.rand((), generator=generator))
            if chance() < 0.5:
                linear = linear @ torch.diag(torch.tensor([1.0, -1.0]))
            if chance() < 0.5:
                k = int(torch.multinomial(1 / (area + 0.2 * area.mean() + 1e-9), 1, generator=generator))
                place = pixels[int(torch.multinomial(missed, 1, generator=generator))]
                if chance() < 0.5:
                    reach = 0.05 * 8 ** chance()
                    near = torch.exp((pixels - place).square().sum(1) / (-2 * reach**2))
                    means, spreads = moments(pixels, (missed * near)[None])
                    place, linear = means[0], roots(spreads)[0] @ linear @ whole
                else:
                    stretch = math.exp(0.4 * float(torch.randn((), generator=generator)))
                    linear = linear * area.median().sqrt() * 0.7 * stretch
            else:
                k = int(torch.randint(len(area), (), generator=generator))
                place = system[k, :, :2] @ middle + system[k, :, 2]
                linear = system[k, :, :2] @ linear
            system[k] = torch.cat([linear, (place - linear @ middle)[:, None]], dim=1)
    return systems + noise * torch.randn(systems.shape, generator=generator)


def fill_gaps(system: Tensor, collage: Collage, count: int, generator: torch.Generator) -> None:
    """Take `count` maps of a system (n, 2, 3), at most all, and place each where its absence leaves a gap."""
    order = torch.randperm(len(system), generator=generator)
    taken, present = order[:count], order[count:]
    for k in taken:
        system[k] = collage.place(collage.gap(system[present]), generator)
        present = torch.cat([present, k[None]])


def initial_systems(target: Tensor, setup: Setup) -> Tensor:
    """The systems (B, n, 2, 3) that a fit starts from: the setup's maps and jittered copies, or random ones."""
    generator = torch.Generator().manual_seed(setup.seed)
    if isinstance(setup.maps, int):
        return contract(random_maps(target, setup.batch, setup.maps, generator), min(0.9, setup.bound))
    maps = torch.tensor(setup.maps)
    noise = setup.jitter * torch.randn(setup.batch, *maps.shape, generator=generator)
    noise[0] = 0
    return contract(maps + noise, setup.bound)


# --- The objective and its optimiser ---


class Objective:
    """The loss of B systems against a target picture, at one stage of the fit."""

    def __init__(self, target: Tensor, stage: Stage, setup: Setup):
        self.stage, self.setup = stage, setup
        self.target = F.adaptive_avg_pool2d(target[None, None], stage.size)[0, 0]
        pixels = ifs_metrics.on(self.target).cpu().numpy()
        away = distance_transform_edt(~pixels) / stage.size if pixels.any() else 0 * pixels
        self.toll, self.inside = (  # what stray points pay, and distances to the outside, in pixels
            torch.from_numpy(field).to(target.dtype).to(target.device)
            for field in (setup.pull * away, distance_transform_edt(pixels))
        )
        self.mass = float(self.target.sum())
        self.discs: Tensor | None = None  # of the pens
        self.pen_variance = 0.0  # of a disc, along each axis
        self.even, self.tip = self.target[None], slice(None)  # points spread evenly over the target, for each tip
        self.frame = torch.tensor(frame(WINDOW, stage.size), dtype=target.dtype, device=target.device)
        self.words: tuple[Tensor, Tensor] | None = None
        self.ancestries: list[Ancestry] = []

    def refresh(self, maps: Tensor, stroke: Tensor | None, sigma: float) -> None:
        """Fix what holds until the next call: the words that are drawn, and alpha.

        Alpha is the one with which points spread evenly over the target would look most like it, at this blur.
        """
        if stroke is not None and self.discs is None:
            self.take_pen(stroke)
        if self.stage.grown:
            half = len(maps) // 2
            first, second = (self.stage.solidity, self.setup.solidity * BARE) if stroke is None else PENS
            self.alphas = maps.new_tensor([first] * (len(maps) - half) + [second] * half)
            self.ancestries = [ifs_raster.ancestry(m.detach(), WINDOW, GROWN * self.stage.size) for m in maps]
            return
        sample = -(-self.stage.size // 128)  # every so manieth row and column is enough to choose among 16
        even = blur(self.even, self.beyond_pen(sigma))[:, ::sample, ::sample].flatten(1)
        bare = 1 - self.target[::sample, ::sample].flatten()
        trials = [10 ** (0.1 * k - 0.5) for k in range(16)]
        if (loops := kernels(even)) is not None:
            misfit = torch.from_numpy(loops.misfits(even.contiguous().numpy(), bare.contiguous().numpy(), trials))
        else:
            misfit = torch.stack([torch.exp(even * -trial).sub_(bare).square_().mean(1) for trial in trials])
        solidity = self.setup.solidity if stroke is not None else self.stage.solidity
        alphas = solidity * self.mass * even.new_tensor(trials)[misfit.argmin(0)]
        self.alphas = alphas[self.tip].expand(len(maps)).contiguous()
        n, depth = maps.shape[-3], self.setup.depth
        if depth is None:
            words = words_by_weight(area_weights(maps), round(self.stage.points**0.5))
            self.words = (words, words)
        elif self.words is None:
            self.words = tuple(words_of_depth(n, part, maps.device) for part in (depth - depth // 2, depth // 2))

    def take_pen(self, stroke: Tensor) -> None:
        """Draw with pens of these radii (B,), in world units, that the whole stage keeps."""
        radius = stroke * (self.stage.size / 2)
        reach = int(radius.max() + 0.5)  # a disc's edge is one pixel wide
        self.discs = pen_discs(radius, reach)
        self.pen_variance = float(radius.mean()) ** 2 / 4
        radii, self.tip = radius.unique(return_inverse=True)
        tips = (radii - 0.25).clamp(min=0, max=float(self.inside.max()) - 0.5)
        ridges = (self.inside > tips[:, None, None]).to(self.target)  # where the pens' tips went
        ridges *= self.mass / ridges.sum((1, 2), keepdim=True)
        self.even = convolve(ridges, pen_discs(radii, reach))

    def beyond_pen(self, sigma: float) -> float:
        """What a Gaussian must add to the pen's disc so that both together blur as one of `sigma` would."""
        return sigma if self.discs is None else max(sigma**2 - self.pen_variance, 0.3**2) ** 0.5

    def __call__(self, maps: Tensor, stroke: Tensor | None, sigma: float) -> Tensor:
        """Losses (B,): squared error of coverage, summed over a pyramid, and the pull on stray points."""
        if self.ancestries:
            toll = torch.zeros_like(self.toll)
            look = Look(self.target, toll, self.beyond_pen(sigma), self.alphas, self.stage.levels, self.discs)
            return grown_loss(maps, self.ancestries, self.frame, 1 / GROWN**2, look)
        look = Look(self.target, self.toll, self.beyond_pen(sigma), self.alphas, self.stage.levels, self.discs)
        return words_loss(maps, self.words, self.frame, look, self.setup.pull / self.stage.size)


def descend(objective: Objective, run: dict) -> Tensor:
    """One step of Adam (Kingma & Ba 2015) on all systems of `run`.

    Afterwards the maps are projected to contractions. Changes `run` and returns the losses (B,) before the step.
    """
    stage, setup = objective.stage, objective.setup
    share = run["stage_step"] / max(1, stage.steps - 1)
    rate = stage.rates[1] + (stage.rates[0] - stage.rates[1]) * (1 + math.cos(math.pi * share)) / 2
    sigma = stage.blurs[0] * (stage.blurs[1] / stage.blurs[0]) ** share
    if run["stage_step"] % REFRESH == 0:
        objective.refresh(run["maps"], run["stroke"], sigma)
    loss = objective(run["maps"].requires_grad_(), run["stroke"], sigma)
    (gradient,) = torch.autograd.grad(loss.sum(), run["maps"])
    run["adam_step"] += 1
    k, maps, moments = run["adam_step"], run["maps"].detach(), (run["first"], run["second"])
    if (loops := kernels(maps)) is not None:
        arrays = (tensor.contiguous().numpy() for tensor in (maps, gradient, *moments))
        run["maps"] = torch.from_numpy(loops.descend(*arrays, k, rate, setup.bound))
        return loss.detach()
    with torch.no_grad():
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0).clamp(
            -1e15, 1e15
        )  # its square is finite
        first, second = moments[0].lerp_(gradient, 0.1), moments[1].lerp_(gradient.square(), 0.01)
        update = first / (1 - 0.9**k) / ((second / (1 - 0.99**k)).sqrt() + 1e-8)
        run["maps"] = contract(maps - rate * update, setup.bound)
    return loss.detach()


# --- The search ---


class Verdict(NamedTuple):
    """What a system is worth."""

    iou: float  # of its picture with the target
    stroke: float  # with which it was drawn, in world units
    picture: Tensor  # (S, S) coverage
    score: float  # the greater, the better: the IoU, or for a grey target minus the mean squared error


def judge(
    maps: Tensor,
    target: Tensor,
    stroke: float = 0.0,
    search_stroke: bool = False,
    supersample: int = 3,
    grey: bool | None = False,
    rim: bool = True,
) -> Verdict:
    """Compare the converged attractor of maps (n, 2, 3) with the target (S, S).

    With `search_stroke`, the stroke is the one of all radii up to a sixteenth of the picture that gives the best IoU;
    it must beat no stroke at all by 0.002. A `grey` target is compared with the soft picture of the measure instead.
    `rim` is that of `ifs_raster.occupancy`. All of it is done on the CPU: an attractor grows level by level, of which a
    GPU has little but launches, and what decides should not hang on the device.
    """
    maps, target = maps.detach().cpu(), target.cpu()
    if grey:
        picture = soft_picture(maps.to(target.dtype), target)
        return Verdict(ifs_metrics.iou(picture, target), 0.0, picture, -ifs_metrics.mse(picture, target))
    maps, size = maps.double(), len(target)
    if search_stroke:
        near = ifs_raster.distance(maps, WINDOW, size * 3, margin=0.125, rim=False)[1::3, 1::3]
        radius = best_radius(near, ifs_metrics.on(target), finest=2 / size)
        nearby = [radius + shift / (4 * size) for shift in (-1, -0.5, 0, 0.5, 1)] if radius > 0 else []
        bare, *drawn = (judge(maps, target, radius, rim=False) for radius in (0.0, *nearby))
        best = max(drawn, key=lambda found: found.iou, default=bare)
        stroke = best.stroke if best.iou > bare.iou + 0.002 else 0.0
        return judge(maps, target, stroke, rim=rim)
    picture = ifs_raster.occupancy(
        maps, WINDOW, size, stroke=stroke, supersample=2 * supersample if stroke > 0 else supersample, rim=rim
    )
    iou = ifs_metrics.iou(picture, target)
    return Verdict(iou, stroke, picture, iou)


def soft_picture(maps: Tensor, target: Tensor) -> Tensor:
    """Coverage (S, S) of the measure of maps (n, 2, 3), with the alpha for which it is most like the target (S, S).

    About 16 points a pixel stand for the converged measure; they are blurred by GREY_BLUR pixels.
    """
    size = len(target)
    words = words_by_weight(area_weights(maps)[None], 4 * size)
    to = torch.tensor(frame(WINDOW, size), dtype=target.dtype, device=target.device)
    density, _ = splat_words(maps[None], (words, words), to, size)
    density = blur(density, GREY_BLUR) * target.sum()
    trials = torch.logspace(-1, 2, 91, dtype=target.dtype, device=target.device)
    errors = torch.stack([(coverage(density[0], alpha) - target).square().mean() for alpha in trials])
    return coverage(density[0], trials[errors.argmin()])


def best_radius(near: Tensor, wanted: Tensor, finest: float) -> float:
    """The radius r for which {near <= r} has the best IoU with `wanted`; 0 if it is below `finest` / 4.

    near: distances (S, S) in world units; wanted: booleans (S, S).
    """
    radii, order = near.flatten().sort()
    hits = wanted.flatten()[order].cumsum(0)
    scores = hits / (int(wanted.sum()) + torch.arange(1, len(hits) + 1, device=hits.device) - hits)
    last = torch.cat([radii[1:] > radii[:-1], radii.new_ones(1) > 0])  # the last pixel of each radius
    radius = float(radii[(scores * last * (radii <= 0.125)).argmax()])
    return radius if finest / 4 <= radius <= 0.125 else 0.0


def pen_ious(taken: Tensor, wanted: Tensor, reach: int) -> Tensor:
    """IoUs of pixels that are wanted (S, S) with those half covered by a pen that follows sub-pixels taken (2 S, 2 S).

    The squared radii of the pens are 0, 1 … reach² sub-pixels: (reach² + 1,).
    """
    if (loops := kernels(taken)) is not None:
        return torch.from_numpy(loops.pen_ious(taken.contiguous().numpy(), wanted.numpy(), reach))
    far, size = reach**2 + 1, len(wanted)
    away = torch.full(taken.shape, far)
    if taken.any():
        away = torch.from_numpy(distance_transform_edt(~taken.numpy()) ** 2).round().long().clamp(max=far)
    half = away.view(size, 2, size, 2).transpose(1, 2).flatten(2).kthvalue(2).values
    hits, misses = (half[some].bincount(minlength=far + 1).cumsum(0)[:-1] for some in (wanted, ~wanted))
    return hits / (wanted.sum() + misses).clamp(min=1)


def worth(maps: Tensor, target: Tensor, setup: Setup) -> tuple[float, float]:
    """What a selection goes by: the IoU of the target (S, S) with all pixels hit, and that with the best pen's drawing.

    Both are `judge`'s score where the pen is given or the target is grey. Pinholes and dust are for the last
    stages to mend. What was drawn with a pen, such as the stems of a fern, may be so much thinner than the target that
    true maps are worth less than many others, until one looks with a pen.
    """
    if setup.grey or setup.stroke is not None:
        stroke = setup.stroke or 0.0
        verdict = judge(maps, target, stroke, supersample=2 if stroke > 0 else 1, grey=setup.grey, rim=False)
        return verdict.score, verdict.score
    wanted, size = ifs_metrics.on(target).cpu(), len(target)
    picture = ifs_raster.occupancy(maps.cpu().double(), WINDOW, 2 * size, supersample=1, rim=False)
    hit = F.max_pool2d(picture[None], 2)[0]
    return ifs_metrics.iou(hit, wanted), float(pen_ious(picture > 0, wanted, min(max(size // 16, 2), 16)).max())


def begin(target: Tensor, setup: Setup, device: torch.device | str) -> dict:
    """The run that `fit` starts from: everything that its loop changes, in plain types and tensors."""
    maps = initial_systems(target, setup).to(device)
    radius = 0.0 if setup.grey else pen_radius(target) if setup.stroke is None else setup.stroke
    stroke = torch.full(maps.shape[:1], radius, device=device) if radius > 0 else None
    return {
        "stage": 0,
        "stage_step": 0,
        "step": 0,
        "maps": maps,
        "stroke": stroke,
        **_still(maps),
        "trace": [],
        "path_steps": [],
        "path_maps": [],
        "path_stroke": [],
        "best_score": -math.inf,
        "best_iou": 0.0,
        "best_maps": maps[0],
        "best_stroke": radius,
    }


def _still(maps: Tensor) -> dict:
    """The moments of an optimiser that has not moved yet."""
    return {"adam_step": 0, "first": torch.zeros_like(maps), "second": torch.zeros_like(maps)}


def fit(
    target: Tensor, setup: Setup, device: torch.device | str = "cpu", every: int = REFRESH, resume: dict | None = None
) -> Iterator[State]:
    """Fit an IFS to a target picture; yield a State at the start, each `every` steps, and at the end of each stage.

    Target: coverage (S, S) in [0, 1], with S = setup.size. `every` is rounded up to a multiple of REFRESH. `resume`
    is the `resume` of an earlier state: the fit goes on from there as if it had never stopped; a fit that was
    complete repeats its last stage from the best maps it had found.
    """
    target = target.to(device)
    plan = stages(setup)
    every = max(1, -(-every // REFRESH)) * REFRESH
    run = begin(target, setup, device) if resume is None else _resumed(resume, len(plan), device)
    steps = run["step"] - run["stage_step"] + sum(stage.steps for stage in plan[run["stage"] :])
    while run["stage"] < len(plan):
        stage = plan[run["stage"]]
        if run["stage_step"] == 0 and (len(run["maps"]) > stage.systems or stage.copies > 1):
            _select(run, target, stage, setup)
        if run["stage_step"] == 0 and stage.levels == 0 and not setup.grey and setup.stroke != 0:
            _take_pens(run, target)
        if run["stage_step"] == 0 and stage.grown:
            _keep(run, torch.arange(len(run["maps"])).repeat(2))  # one half with another alpha
        if not run["trace"]:
            yield _report(run, target, stage, setup, steps, _losses(Objective(target, stage, setup), run))
        objective = Objective(target, stage, setup)
        for k in range(run["stage_step"], stage.steps):
            loss = descend(objective, run)
            run["step"] += 1
            run["stage_step"] = k + 1
            if run["stage_step"] == stage.steps:
                run.update(stage=run["stage"] + 1, stage_step=0, **_still(run["maps"]))
            if run["stage_step"] % every == 0:
                yield _report(run, target, stage, setup, steps, loss, stage is plan[-1], run["stage"] == len(plan))


def price_maps(target: Tensor, setup: Setup, device: torch.device | str, price: float) -> Iterator[tuple[int, float]]:
    """Yield numbers of maps and the IoU that a short fit reaches with each, until more maps are twice worth less.

    What n maps are worth is the IoU minus `price` for each map. Short fits see a picture of 128 × 128 pixels at most.
    """
    size = min(setup.size, 128)
    small = F.adaptive_avg_pool2d(target[None, None], size)[0, 0]
    worth: list[float] = []
    for n in LADDER:
        short = replace(setup, maps=n, size=size, starts=min(setup.batch, 16), rounds=2, steps=250, depth=None)
        *_, state = fit(small, short, device, every=short.steps)
        yield n, state.best_iou
        worth.append(state.best_iou - price * n)
        if len(worth) > 2 and max(worth[-2:]) < max(worth):
            return


def _select(run: dict, target: Tensor, stage: Stage, setup: Setup) -> None:
    """Let the best systems go on, and breed them.

    Some are those whose converged attractors are most like the target, at twice the size of the next stage, because a
    coarse picture flatters; see `worth`, of which both IoUs choose in turn. The others have the least loss, because a
    fit that is all but exact may overlap less than a coarse one does.
    """
    size = min(stage.size if setup.grey else 2 * stage.size, len(target))
    finer = F.adaptive_avg_pool2d(target[None, None], size)[0, 0]
    best: list[int] = []
    if stage.judged:
        worths = torch.tensor([worth(maps, finer, setup) for maps in run["maps"]])
        for k in range(stage.judged):
            order = worths[:, k % 2].argsort(descending=True, stable=True).tolist()
            best.append(next(system for system in order if system not in best))
    if stage.judged < stage.systems:
        loss = _losses(Objective(target, stage, setup), run)
        others = [k for k in loss.argsort(stable=True).tolist() if k not in best]
        best += others[: stage.systems - len(best)]
    best = torch.tensor(best)
    _keep(run, best.repeat_interleave(stage.copies))
    if stage.copies > 1:
        generator = torch.Generator().manual_seed(setup.seed + run["stage"])
        elite = run["maps"].cpu().unflatten(0, (-1, stage.copies))
        bred = [torch.cat([m[:1], placed_anew(m[1:], finer, generator)]) for m in elite]
        run["maps"] = contract(torch.cat(bred).to(run["maps"].device), setup.bound)


@torch.no_grad()
def _losses(objective: Objective, run: dict) -> Tensor:
    """Losses (B,) of all systems before the first step of a stage."""
    sigma = objective.stage.blurs[0]
    objective.refresh(run["maps"], run["stroke"], sigma)
    return objective(run["maps"], run["stroke"], sigma)


def _take_pens(run: dict, target: Tensor) -> None:
    """Draw each system with the pen that suits its converged attractor, all if that is worth it for the best."""
    found = [judge(maps, target, search_stroke=True, rim=False) for maps in run["maps"]]
    best = max(range(len(found)), key=lambda k: found[k].iou)
    if run["stroke"] is None:
        if found[best].stroke == 0 or found[best].iou < judge(run["maps"][best], target, rim=False).iou + WORTH:
            return
        run["stroke"] = run["maps"].new_full((len(found),), found[best].stroke)
    radii = run["stroke"].new_tensor([verdict.stroke for verdict in found])
    run["stroke"] = torch.where(radii > 0, radii, run["stroke"])


def _keep(run: dict, kept: Tensor) -> None:
    """Go on with these systems (K,), and their paths, at rest."""
    run["path_maps"] = [maps[kept] for maps in run["path_maps"]]
    run["path_stroke"] = [strokes[kept] for strokes in run["path_stroke"]]
    kept = kept.to(run["maps"].device)
    maps = run["maps"][kept].detach()
    run.update(maps=maps, stroke=None if run["stroke"] is None else run["stroke"][kept].detach(), **_still(maps))


def _report(
    run: dict,
    target: Tensor,
    stage: Stage,
    setup: Setup,
    steps: int,
    loss: Tensor,
    final: bool = False,
    end: bool = False,
) -> State:
    """Judge the leader, in the final stage more than one, at its end with any stroke; remember the best.

    Only what the fit ends with is drawn with its rim, which may take as long as all judgements before.
    """
    systems = len(run["maps"])
    stroke = torch.zeros(systems) if run["stroke"] is None else run["stroke"].detach().cpu()
    run["path_steps"].append(run["step"])
    run["path_maps"].append(run["maps"].detach().cpu())
    run["path_stroke"].append(stroke.clone())
    order = loss.nan_to_num(nan=torch.inf).argsort(stable=True).tolist()
    judged = {
        k: judge(run["maps"][k], target, float(stroke[k]), end and setup.stroke != 0, grey=setup.grey, rim=False)
        for k in order[: systems if final else 1]
    }
    leader = max(judged, key=lambda k: judged[k].score)
    maps = run["maps"][leader].detach()
    iou, radius, picture, score = judged[leader]
    if end and not setup.grey:
        iou, radius, picture, score = judge(maps, target, radius)
    run["path_stroke"][-1][leader] = radius
    if score > run["best_score"]:
        run.update(best_score=score, best_iou=iou, best_maps=maps, best_stroke=radius)
    run["trace"].append({"step": run["step"], "size": stage.size, "loss": float(loss[leader]), "iou": iou})
    path = zip(run["path_steps"], run["path_maps"], run["path_stroke"], strict=True)
    return State(
        step=run["step"],
        steps=steps,
        size=stage.size,
        loss=float(loss[leader]),
        iou=iou,
        maps=maps.cpu().double(),
        stroke=radius,
        picture=picture,
        trace=list(run["trace"]),
        path=[(step, systems[leader].double(), float(strokes[leader])) for step, systems, strokes in path],
        best_iou=run["best_iou"],
        best_maps=run["best_maps"].cpu().double(),
        best_stroke=run["best_stroke"],
        resume=_snapshot(run),
    )


def _snapshot(run: dict) -> dict:
    """A copy of a run that its next steps leave alone: they lengthen its lists, move its moments and mark its maps."""
    copied = {name: list(value) if isinstance(value, list) else value for name, value in run.items()}
    return copied | {"maps": run["maps"].detach(), "first": run["first"].clone(), "second": run["second"].clone()}


def _resumed(resume: dict, stage_count: int, device: torch.device | str) -> dict:
    """The run of an earlier state, on this device; a complete fit is set back to the start of its last stage."""
    run = copy.deepcopy(resume)
    if run["stage"] == stage_count:
        maps = run["best_maps"][None]
        stroke = None if run["stroke"] is None else torch.full((1,), run["best_stroke"])
        run.update(stage=stage_count - 1, stage_step=0, maps=maps, stroke=stroke, **_still(maps))
        if run["path_maps"]:  # the way of the system that ended nearest to these maps is theirs
            leader = (run["path_maps"][-1] - run["best_maps"].cpu()).abs().sum((1, 2, 3)).argmin()[None]
            for name in ("path_maps", "path_stroke"):
                run[name] = [systems[leader] for systems in run[name]]
    for name in ("maps", "stroke", "best_maps", "first", "second"):
        run[name] = None if run[name] is None else run[name].to(device)
    return run


def check_resume(resume: object, setup: Setup) -> None:
    """Raise ValueError unless `resume` is what `fit` can go on from with this setup: for a dict that was in a file.

    Types and shapes are looked at first, so that nothing is computed of what claims to be too large.
    """
    names = {"stage", "stage_step", "step", "maps", "stroke", "adam_step", "first", "second", "trace"}
    names |= {"path_steps", "path_maps", "path_stroke", "best_score", "best_iou", "best_maps", "best_stroke"}
    if not isinstance(resume, dict) or resume.keys() != names:
        raise ValueError("its fields are not those of a run")
    n, most = setup.n, setup.batch
    ends = [stage.steps - 1 for stage in stages(setup)] + [0]  # the last is that of a complete fit

    def whole(name: str, high: int) -> None:
        if type(resume[name]) is not int or not 0 <= resume[name] <= high:
            raise ValueError(f"{name} is no whole number from 0 to {high}")

    whole("stage", len(ends) - 1)
    whole("stage_step", ends[resume["stage"]])
    whole("step", 10**9)
    whole("adam_step", 10**9)
    for name, low in (("best_score", -1), ("best_iou", 0), ("best_stroke", 0)):
        if type(resume[name]) not in (int, float) or not low <= resume[name] <= 1:
            raise ValueError(f"{name} is no number from {low} to 1")
    history = [resume[name] for name in ("trace", "path_steps", "path_maps", "path_stroke")]
    if any(type(part) is not list or len(part) != len(history[0]) or len(part) > 10**6 for part in history):
        raise ValueError("trace and path are not lists of one length")
    trace, path_steps, path_maps, path_stroke = history
    for row, step in zip(trace, path_steps, strict=True):
        numbers = [row.get(key) for key in ("step", "size", "loss", "iou")] if type(row) is dict else [None]
        if not all(type(x) in (int, float) and abs(x) <= 1e30 for x in [*numbers, step]):
            raise ValueError("trace or path_steps holds what is no finite number")

    systems = _count(resume["maps"])
    wanted = {name: (resume[name], (systems, n, 2, 3)) for name in ("maps", "first", "second")}
    wanted["best_maps"] = resume["best_maps"], (n, 2, 3)
    if resume["stroke"] is not None:
        wanted["stroke"] = resume["stroke"], (systems,)
    for k, (maps, strokes) in enumerate(zip(path_maps, path_stroke, strict=True)):
        wanted[f"path_maps[{k}]"] = maps, (_count(maps), n, 2, 3)
        wanted[f"path_stroke[{k}]"] = strokes, (_count(maps),)
    for name, (value, shape) in wanted.items():
        if not isinstance(value, Tensor) or value.shape != shape or not 1 <= len(value) <= max(2 * most, n):
            raise ValueError(f"{name} is no tensor of shape {shape}")
        if value.dtype not in (torch.float32, torch.float64) or value.requires_grad or not value.isfinite().all():
            raise ValueError(f"{name} does not hold finite numbers")
        if "stroke" in name and not (value.min() >= 0 and value.max() <= 1):
            raise ValueError(f"{name} is no radius from 0 to 1")
        if "maps" in name and value.abs().max() > 1e3:
            raise ValueError(f"{name} leads far away")
    for name in ("maps", "best_maps", *(f"path_maps[{k}]" for k in range(len(path_maps)))):
        if singular_values(wanted[name][0]).max() > MAX_SINGULAR:
            raise ValueError(f"{name} holds maps that do not shrink the world")


def _count(value: object) -> int:
    return len(value) if isinstance(value, Tensor) and value.ndim > 0 else 0
