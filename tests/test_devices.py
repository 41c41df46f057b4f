"""What runs elsewhere than on the CPU, on a device that is not there: see tests/pretend.py."""

import dataclasses
import time

import pretend
import pytest
import torch
from PIL import Image
from systems import CORNER_GASKET

import train_ifs
from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit.device import faster
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.objective import REFRESH, Objective
from diff_ifs.fit.replay import Replayed
from diff_ifs.fit.run import Run, descend
from diff_ifs.fit.stages import stages
from diff_ifs.setup import WINDOW, Setup
from train_ifs import fit

GASKET = occupancy(CORNER_GASKET, WINDOW, 32, supersample=1)
QUICK = Setup(maps=3, size=32, points=1000, starts=4, rounds=1, steps=12, stroke=0.0)


@pytest.mark.slow
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


# Not as symmetric as the gasket: Adam makes whole steps of gradients that are zero but for
# rounding.
NEAR = CORNER_GASKET + torch.linspace(0.03, 0.07, 18).view(3, 2, 3)
SETUPS = {
    "random": QUICK,
    "maps": dataclasses.replace(QUICK, maps=NEAR.tolist()),
    "depth": dataclasses.replace(QUICK, depth=4),
    "pen": dataclasses.replace(QUICK, stroke=0.05),
    "grey": dataclasses.replace(QUICK, grey=True),
}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("name", "doubles"), [*((name, True) for name in SETUPS), ("random", False), ("grey", False)]
)
def test_a_fit_runs_on_any_device_and_comes_to_the_same(name, doubles):
    with pretend.device(doubles) as kernels:
        *_, there = fit(GASKET, SETUPS[name], pretend.DEVICE, every=1000)
    *_, here = fit(GASKET, SETUPS[name], every=1000)
    assert kernels.launches.total() > 1000
    assert {there.maps.device.type, there.picture.device.type, there.best_maps.device.type} == {
        "cpu"
    }
    assert there.best_iou == pytest.approx(here.best_iou, abs=0.02)


@pytest.mark.parametrize("slow", ["cpu", pretend.DEVICE])
def test_the_device_with_the_faster_steps_is_taken_where_none_is_asked_for(
    slow, monkeypatch, tmp_path, capsys
):
    """Steps are timed, and those on one of the devices wait."""
    waits, fits = [], []

    def step(objective, run):
        waits.append((run.maps.device.type, objective.stage.size, objective.stage.grown))
        time.sleep(0.003 if waits[-1][0] == slow else 0)
        return torch.zeros(len(run.maps), device=run.maps.device)

    def follow(target, setup, device, every, resume):
        fits.append(device)
        yield from ()

    monkeypatch.chdir(tmp_path)
    Image.fromarray(GASKET.numpy() > 0.5).save("gasket.png")
    monkeypatch.setattr("diff_ifs.fit.device.descend", step)
    for name, there in (("fit", follow), ("pick_device", lambda wanted: wanted or pretend.DEVICE)):
        monkeypatch.setattr(train_ifs, name, there)
    with pretend.device():
        train_ifs.main(["gasket", "--maps", "3", "--size", "32", "--quiet"])
        fast = "cpu" if slow != "cpu" else pretend.DEVICE
        assert fits == [fast]
        assert f"computing on {fast}: the same steps take " in capsys.readouterr().err
        assert {where for where, _, _ in waits} == {"cpu", pretend.DEVICE}
        assert {grown for _, _, grown in waits} == {False, True}, (
            "of the first stages and of the last"
        )
        waits.clear()
        train_ifs.main(["gasket", "--maps", "3", "--size", "32", "--quiet", "--device", "cpu"])
    assert (fits, waits) == ([fast, "cpu"], []), "who asks for a device gets it"


def test_a_device_that_is_as_fast_as_the_cpu_is_left_alone(monkeypatch, capsys):
    """Which of two is the faster by a hair would hang on chance, and with it the fit."""
    clock = iter(range(100))
    monkeypatch.setattr(
        "diff_ifs.fit.device.descend", lambda objective, run: torch.zeros(len(run.maps))
    )
    monkeypatch.setattr("diff_ifs.fit.device.time.perf_counter", lambda: float(next(clock)))
    assert faster(GASKET, QUICK, ("cpu", "cpu:0")) == "cpu:0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "depth", "pen"])
def test_what_is_recorded_and_replayed_are_the_same_steps(name, monkeypatch):
    """Over two choices of words, so that maps, blurs, alphas and words change between replays."""
    setup, recorded = SETUPS[name], []

    def record(work):
        recorded.append(work)
        return pretend.record(work)

    monkeypatch.setattr("diff_ifs.fit.replay.record", record)
    for stage in (stages(setup)[0], stages(setup)[-1]):
        stage, found = dataclasses.replace(stage, steps=50), []
        for devices in ((), (pretend.DEVICE,)):
            monkeypatch.setattr("diff_ifs.fit.objective.RECORDED", devices)
            with pretend.device():
                target = GASKET.to(pretend.DEVICE)
                objective = Objective(target, stage, setup)
                run = Run.started(target, setup, pretend.DEVICE)
                steps = []
                for run.stage_step in (0, 1, 2, REFRESH, REFRESH + 1):
                    steps.append(descend(objective, run))
                found.append(torch.stack([losses.cpu() for losses in steps]))
        assert torch.allclose(*found, rtol=1e-5)
        assert (found[0][1:] != found[0][:-1]).all(), "each step changes the loss"
    assert len(recorded) >= 2, "once and more in each stage"


def test_where_nothing_can_be_recorded_steps_are_made_one_by_one(monkeypatch, capsys):
    tried = []

    def record(work):
        tried.append(work)
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr("diff_ifs.fit.replay.record", record)
    replayed = Replayed()
    for k in range(4):
        assert replayed(lambda x: (2 * x,), torch.tensor([1.0 * k]))[0].item() == 2 * k
    assert len(tried) == 1
    assert capsys.readouterr().err.count("not recorded (CUDA error: operation not permitted") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
def test_a_step_elsewhere_is_that_of_the_cpu_and_waits_for_nothing(name):
    setup = SETUPS[name]
    for stage in (stages(setup)[0], stages(setup)[-1]):
        found = []
        for place in ("cpu", pretend.DEVICE):
            with pretend.device() as kernels:
                objective, run = (
                    Objective(GASKET.to(place), stage, setup),
                    Run.started(GASKET.to(place), setup, place),
                )
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
        there = evaluate(
            CORNER_GASKET.to(pretend.DEVICE), target.to(pretend.DEVICE), search_stroke=True
        )
        assert there.picture.equal(here.picture)
    assert there.stroke == here.stroke > 0.05
    assert there.iou == here.iou > 0.95
