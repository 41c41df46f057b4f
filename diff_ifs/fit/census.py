"""How many maps a picture repays: short searches with few and with many maps, before the fit.

A fractal shows itself, because as many maps as it is made of come as near to it as many more do.
What other pictures lack falls as a power of the number of maps; the power and the price of a map
say where to stop.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from diff_ifs.fit.judge import selection_scores
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.run import Run, descend
from diff_ifs.metrics import pooled
from diff_ifs.setup import Setup

LADDER = (48, 32, 24, 16, 12, 8, 7, 6, 5, 4, 3, 2)  # numbers of maps that are tried
# maps of a picture that is no fractal of few maps: short searches of easy pictures say little
LEAST = 12
TYPICAL = 0.75  # power of n with which the misfit of silhouettes falls


class Rung(NamedTuple):
    """What a short search reached."""

    n: int  # maps of each system
    loss: float  # the least of all systems
    misfit: float  # 1 - IoU of the best, each drawn with the pen that suits it
    side: int  # of the picture that the misfit was seen in, in pixels


class Count(NamedTuple):
    """How many maps a picture repays."""

    n: int
    # of n with which its misfit falls; 0 for a fractal that needs no more maps than these
    power: float


def repaid(rungs: Sequence[Rung], price: float) -> Count:
    """The number of maps that a picture repays, at most 48, where each must gain an IoU of `price`.

    It is the least of up to eight maps whose loss nobody beats by more than 30 %, as for a fractal
    that was found, if they cover most of the picture: those of thin branches hardly differ.
    Elsewhere the misfit of 8 maps and more is taken to fall as c n^-a, and n is the one at which
    the next map would gain `price`: a c n^-(a + 1) = price. Five rungs say little of a power: it is
    the mean of theirs and of 0.9, which icons have. Five pixels' worth of misfit a side are not
    counted, which finer pictures mend with any number of maps.
    """
    least = min(rung.loss for rung in rungs)
    exact = [r.n for r in rungs if r.n <= 8 and r.loss <= 1.3 * least and r.misfit <= 0.3]
    if exact:
        return Count(min(exact), 0.0)
    points = [
        (math.log(r.n), math.log(max(r.misfit - 5 / r.side, 0.01))) for r in rungs if 8 <= r.n <= 32
    ]
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((u - x) * (v - y) for u, v in points) / sum((u - x) ** 2 for u, _ in points)
    power = (0.9 + min(max(-slope, 0.0), 2.0)) / 2
    n = (power * math.exp(y + power * x) / price) ** (1 / (power + 1))
    return Count(round(min(max(n, LEAST), LADDER[0])), power)


def promised(iou: float, n: int, more: int, power: float = TYPICAL) -> float:
    """The IoU to expect of `more` maps where n reached `iou`, if misfits fall as n^-power."""
    return 1 - (1 - iou) * (n / more) ** power


def census(target: Tensor, setup: Setup, device: str) -> Iterator[Rung]:
    """Search for systems of 48, 32 … 2 maps whose attractors are like the target (S, S), each for a
    tenth of a fit.

    Eight maps and fewer are tried as long as their loss is at most 1.6 times the least. Of 32
    starts, half go on after a few steps, by their loss, and the eight with the least are judged.
    The searches are those of a quarter of the picture's size, which counts as 256 × 256 pixels at
    most.
    """
    size = min(setup.size, 256)
    target = pooled(target.to(device), size)
    finer = pooled(target, -(-size // 2))
    least = math.inf
    for n in LADDER:
        short = replace(setup, maps=n, size=size, starts=min(setup.batch, 32), rounds=0, depth=None)
        run = Run.started(target, short, device)
        for stage, kept in zip(run.plan, (16, 8), strict=False):
            objective = Objective(target, stage, short)
            for _ in range(stage.steps):
                losses = descend(objective, run)
                run.advance()
            order = losses.argsort(stable=True)[:kept].cpu()
            run.keep(order)
        misfit = 1 - max(selection_scores(maps, finer, short)[1] for maps in run.maps)
        loss = float(losses[order[0]])
        yield Rung(n, loss, misfit, len(finer))
        least = min(least, loss)
        if n <= 8 and loss > 1.6 * least:
            return


def count(
    target: Tensor,
    setup: Setup,
    device: str,
    watch: Callable[[Iterator[Rung]], Iterable[Rung]] = iter,
) -> Count:
    """How many maps a fit has whose setup leaves it open; `watch` sees the rungs pass.

    No picture is asked that is grey, since a price is one of IoU, nor where a depth is given.
    """
    if setup.grey or setup.depth:
        return Count(setup.n, TYPICAL)
    return repaid(list(watch(census(target, setup, device))), setup.price)
