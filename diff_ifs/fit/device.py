"""Which device a fit is faster on."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.fit.objective import REFRESH, Objective
from diff_ifs.fit.run import Run, descend
from diff_ifs.setup import Setup


def faster(target: Tensor, setup: Setup, devices: Sequence[str]) -> str:
    """The device on which the steps of a fit take the least time, after a line that says so; the
    last if it is close.

    Timed are ten steps of the coarse stage that most steps are like, and ten of the last, each
    after ten to warm up.
    """
    taken = {}
    for device in devices:
        run, seconds = Run.started(target, replace(setup, starts=min(setup.batch, 32)), device), 0.0
        for stage in (max(run.plan, key=lambda stage: stage.copies), run.plan[-1]):
            objective = Objective(target.to(device), stage, setup)
            for _ in range(2):
                began = time.perf_counter()
                for run.stage_step in range(REFRESH):
                    losses = descend(objective, run)
                losses.cpu()  # which waits for a GPU
            seconds += time.perf_counter() - began
            run.keep(torch.arange(min(4, len(run.maps))))
        taken[device] = seconds
    best = min(taken, key=lambda device: taken[device] * (1 if device == devices[-1] else 1.2))
    times = " and ".join(
        f"{1000 * seconds:.0f} ms on {device}" for device, seconds in taken.items()
    )
    print(f"computing on {best}: the same steps take {times}", file=sys.stderr)
    return best
