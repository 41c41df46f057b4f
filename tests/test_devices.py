"""What runs elsewhere than on the CPU, on a device that is not there: see tests/pretend.py."""

import dataclasses

import pretend
import pytest
import torch
from systems import CORNER_GASKET

from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.objective import REFRESH, Objective
from diff_ifs.fit.run import Run
from diff_ifs.fit.stages import stages
from diff_ifs.setup import WINDOW, Setup
from train_ifs import descend, fit

GASKET = occupancy(CORNER_GASKET, WINDOW, 32, supersample=1)
QUICK = Setup(maps=3, size=32, points=1000, starts=4, rounds=1, steps=12, stroke=0.0)


def test_tensors_on_two_devices_do_not_mix():
    with pretend.device() as kernels:
        there = torch.ones(3, device=pretend.DEVICE)
        assert (there + 1).cpu().tolist() == [2, 2, 2]
        assert kernels.waits.total() == 1
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError):
            there.numpy()
    with pretend.device(doubles=False), pytest.raises(TypeError, match="float64"):
        torch.ones(3, device=pretend.DEVICE).double()


# Not as symmetric as the gasket: Adam makes whole steps of gradients that are zero but for rounding.
NEAR = CORNER_GASKET + torch.linspace(0.03, 0.07, 18).view(3, 2, 3)
SETUPS = {
    "random": QUICK,
    "maps": dataclasses.replace(QUICK, maps=NEAR.tolist()),
    "depth": dataclasses.replace(QUICK, depth=4),
    "pen": dataclasses.replace(QUICK, stroke=0.05),
    "grey": dataclasses.replace(QUICK, grey=True),
}


@pytest.mark.parametrize(("name", "doubles"), [*((name, True) for name in SETUPS), ("random", False), ("grey", False)])
def test_a_fit_runs_on_any_device_and_comes_to_the_same(name, doubles):
    with pretend.device(doubles) as kernels:
        *_, there = fit(GASKET, SETUPS[name], pretend.DEVICE, every=1000)
    *_, here = fit(GASKET, SETUPS[name], every=1000)
    assert kernels.launches.total() > 1000
    assert {there.maps.device.type, there.picture.device.type, there.best_maps.device.type} == {"cpu"}
    assert there.best_iou == pytest.approx(here.best_iou, abs=0.02)


@pytest.mark.parametrize("name", SETUPS)
def test_a_step_elsewhere_is_that_of_the_cpu_and_waits_for_nothing(name):
    setup = SETUPS[name]
    for stage in (stages(setup)[0], stages(setup)[-1]):
        found = []
        for place in ("cpu", pretend.DEVICE):
            with pretend.device() as kernels:
                objective, run = Objective(GASKET.to(place), stage, setup), Run.started(GASKET.to(place), setup, place)
                descend(objective, run)
                kernels.waits.clear()
                for step in (1, REFRESH - 1):
                    run.stage_step = step
                    loss = descend(objective, run)
                assert kernels.waits.total() == 0
                found.append((loss.cpu(), run.maps.cpu()))
        for here, there in zip(*found, strict=True):
            assert torch.allclose(here, there, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("doubles", [True, False])
def test_a_verdict_elsewhere_is_that_of_the_cpu(doubles):
    target = occupancy(CORNER_GASKET, WINDOW, 32, stroke=0.1)
    here = evaluate(CORNER_GASKET, target, search_stroke=True)
    with pretend.device(doubles):
        there = evaluate(CORNER_GASKET.to(pretend.DEVICE), target.to(pretend.DEVICE), search_stroke=True)
        assert there.picture.equal(here.picture)
    assert there.stroke == here.stroke > 0.05
    assert there.iou == here.iou > 0.95
