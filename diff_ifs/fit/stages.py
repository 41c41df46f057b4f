"""The plan of a fit, from coarse pictures to fine ones."""

import math
from dataclasses import dataclass

from diff_ifs.setup import Setup

GREY_BLUR = 0.4  # sigma, in pixels, of the splat that draws a grey picture in the end


@dataclass(frozen=True)
class Stage:
    """One level of the way from coarse to fine."""

    size: int  # side of the picture in pixels
    points: int  # points drawn of each system
    systems: int  # how many of the stage before go on into this one
    # how many of these are chosen by their converged attractors; the others by their loss
    judged: int
    copies: int  # how many of each go on: one as it is, the others with a map or two placed anew
    steps: int
    rates: tuple[float, float]  # learning rate, first and last
    blurs: tuple[float, float]  # sigma of the splat in pixels, first and last
    solidity: float  # alpha, as a multiple of what suits points spread evenly over the target
    levels: int  # of the pyramid above the picture itself
    grown: bool  # points as the attractor grows, one a cell, instead of words of about equal weight

    def schedule(self, step: int) -> tuple[float, float]:
        """The learning rate and the sigma of the splat."""
        return schedule(step, self.steps, self.rates, self.blurs)


def schedule(
    step: int, steps: int, rates: tuple[float, float], blurs: tuple[float, float]
) -> tuple[float, float]:
    """The learning rate, which falls along half a cosine, and the sigma of a blur, which falls
    geometrically, at one of so many steps; from the first of each to the last."""
    share = step / max(1, steps - 1)
    rate = rates[1] + (rates[0] - rates[1]) * (1 + math.cos(math.pi * share)) / 2
    return rate, blurs[0] * (blurs[1] / blurs[0]) ** share


def of_few_maps(setup: Setup) -> bool:
    """Whether a fit without maps to begin with has so few that their collage may find them."""
    return isinstance(setup.maps, int) and 1 < setup.n <= 7


def stages(setup: Setup) -> list[Stage]:
    """The plan of a fit.

    All start at a quarter of the size, where those with the least loss go on after a few steps;
    there the best four are bred again and again, many maps in the end at half the size, where they
    go on; the best two do at full size, and the best under the pen that suits it, so that the edges
    of both end smooth. Fine pictures weigh more in the end: no pyramid, and more points, that count
    for more, so that pinholes show. What is larger than 256 pixels a side is fitted as if it were
    as large, but for the first grown stage, in which a pixel is half as large, or as it is.
    """
    starts, rounds = setup.batch, setup.rounds
    few, final = min(4, starts), min(2, starts)
    copies, half = min(32, starts) // few, -(-few // 2)
    if rounds is None:  # few maps are only right if all are, and many take many proposals
        rounds = (
            2 if setup.grey else max(5 + min(setup.n, 32) // 4, min(4 * setup.n, 60 // setup.n))
        )
        rounds = rounds if setup.steps is None else min(rounds, setup.steps // 80)
    if setup.steps is not None:
        rounds = min(rounds, setup.steps // 5)  # so that each stage has a step
    longer = min(max(setup.n / 8, 1), 4)  # many maps have details that only fine pictures show
    finer = min(setup.n // 8, 3, rounds) if setup.n >= 12 else 0
    # a pen that is left open has stages of its own, each drawn with the one that suits best
    pens = min(max(2 + setup.n // 8, 3), 6) if setup.stroke is None else 0
    last = 1 if pens else longer
    if of_few_maps(setup):  # what a pen draws needs time: its lines must meet to half a pixel
        last = 2
    if setup.grey:
        table = (
            (4, starts, 0, 1, 120, (2.0, 0.6), (0.75, 0.25), 1, 2, False),
            *[(4, few, few, copies, 60, (1.4, 0.4), (0.45, 0.25), 1, 2, False)] * rounds,
            (1, few, few, 1, 150, (0.8, 0.02), (0.25, GREY_BLUR / 2), 1, 0, False),
        )
    else:
        table = (
            (4, starts, 0, 1, 40, (1.0, 0.95), (1.0, 0.75), 1, 4, False),
            (
                4,
                min(starts, max(32, starts // 4)),
                0,
                1,
                90,
                (0.95, 0.3),
                (0.75, 0.4),
                1,
                4,
                False,
            ),
            *[(4, few, half, copies, 80, (0.7, 0.2), (0.75, 0.4), 1, 4, False)] * (rounds - finer),
            *[(2, few, half, copies, 80, (0.4, 0.1), (0.5, 0.3), 1, 4, False)] * finer,
            (2, few, half, 1, 80 * longer, (0.33, 0.067), (0.5, 0.3), 1, 4, False),
            (1, final, final, 1, 70 * longer, (0.13, 0.01), (0.5, 0.3), 2, 0, False),
            (0.5, final, final, 1, 100 * last, (0.067, 0.0), (0.25, 0.18), 6, 0, True),
            *[(1, 1, 1, 1, 80, (0.15, 0.0), (0.18, 0.12), 12, 0, True)] * pens,
        )
    plan, done, whole = [], 0.0, sum(row[4] for row in table)
    steps = round(whole) if setup.steps is None else setup.steps
    for scale, systems, judged, copies, share, rates, blurs, solidity, levels, grown in table:
        full = setup.size if setup.grey else min(setup.size, 256)
        size = max(min(int(full / scale), setup.size), min(full, 32))
        points = setup.points * (size / full) ** 2 * (1.5 if scale <= 1 else 1)
        if setup.grey:
            points = min(points, (5 if scale <= 1 else 2.5) * size**2)
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
