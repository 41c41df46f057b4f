"""The loop."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from diff_ifs.fit.objective import REFRESH, Objective, descend
from diff_ifs.fit.run import State, begin, keep, losses, report, resumed, select, still, take_pens
from diff_ifs.fit.stages import stages
from diff_ifs.setup import Setup

LADDER = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40)  # numbers of maps that are tried where none is given


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
    run = begin(target, setup, device) if resume is None else resumed(resume, len(plan), device)
    steps = run["step"] - run["stage_step"] + sum(stage.steps for stage in plan[run["stage"] :])
    while run["stage"] < len(plan):
        stage = plan[run["stage"]]
        if run["stage_step"] == 0 and (len(run["maps"]) > stage.systems or stage.copies > 1):
            select(run, target, stage, setup)
        if run["stage_step"] == 0 and stage.levels == 0 and not setup.grey and setup.stroke != 0:
            take_pens(run, target)
        if run["stage_step"] == 0 and stage.grown:
            keep(run, torch.arange(len(run["maps"])).repeat(2))  # one half with another alpha
        if not run["trace"]:
            yield report(run, target, stage, setup, steps, losses(Objective(target, stage, setup), run))
        objective = Objective(target, stage, setup)
        for k in range(run["stage_step"], stage.steps):
            loss = descend(objective, run)
            run["step"] += 1
            run["stage_step"] = k + 1
            if run["stage_step"] == stage.steps:
                run.update(stage=run["stage"] + 1, stage_step=0, **still(run["maps"]))
            if run["stage_step"] % every == 0:
                yield report(run, target, stage, setup, steps, loss, stage is plan[-1], run["stage"] == len(plan))


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
