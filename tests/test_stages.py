"""The plan of a fit, and each of its parts: rates, blurs, pens, starts, states, and the number of
maps."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from drawings import discs
from systems import CARPET, KOCH

from diff_ifs.backend import blur
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.proposals import initial_systems
from diff_ifs.fit.run import Run, check_resume, descend
from diff_ifs.fit.stages import Stage, stages
from diff_ifs.setup import Setup, affine, similarity
from train_ifs import fit

SMALL = Setup(maps=3, size=32, points=500, steps=20, starts=2)


def disc(radius: float, size: int, place: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A disc, drawn by numpy."""
    return torch.from_numpy(discs(radius, size, places=[place])).float()


# --- The plan ---


@pytest.mark.parametrize(
    ("setup", "steps"),
    [
        (Setup(maps=1), 1020),
        (Setup(maps=8), 40 + 90 + 7 * 80 + 80 + 70 + 100 + 3 * 80),
        (Setup(maps=12), 40 + 90 + 8 * 80 + 1.5 * (80 + 70) + 100 + 3 * 80),
        (Setup(maps=12, stroke=0.0), 40 + 90 + 8 * 80 + 1.5 * (80 + 70 + 100)),
        (Setup(maps=12, stroke=0.1), 40 + 90 + 8 * 80 + 1.5 * (80 + 70 + 100)),
        (Setup(maps=40), 40 + 90 + 13 * 80 + 4 * (80 + 70) + 100 + 6 * 80),
        (Setup(grey=True), 390),
        (Setup(steps=1234), 1234),
        (Setup(maps=3, rounds=2), 40 + 90 + 2 * 80 + 80 + 70 + 2 * 100 + 3 * 80),
    ],
)
def test_a_fit_has_as_many_steps_as_its_maps_need(setup, steps):
    assert sum(stage.steps for stage in stages(setup)) == steps


def test_the_plan_is_the_one_that_is_documented():
    """256 systems at a quarter of the size, a quarter of them, four that are bred, in the end at
    half, four there, two at full size, and one under the pen that suits it."""
    plan = stages(Setup(maps=12, size=256))
    assert [stage.size for stage in plan] == [64] * 9 + [128] * 2 + [256] * 5
    assert [stage.systems for stage in plan] == [256, 64] + [4] * 9 + [2, 2, 1, 1, 1]
    assert [stage.judged for stage in plan] == [0, 0] + [2] * 9 + [2, 2, 1, 1, 1]
    assert [stage.copies for stage in plan] == [1, 1] + [8] * 8 + [1] * 6
    assert [stage.grown for stage in plan] == [False] * 12 + [True] * 4
    assert [stage.levels for stage in plan] == [4] * 11 + [0] * 5
    assert [stage.points for stage in plan] == [2500] * 9 + [10_000] * 2 + [60_000] * 5
    assert plan[13] == plan[14] == plan[15]
    assert stages(Setup(maps=8, stroke=0.0)) == stages(Setup(maps=8))[:-3]
    for maps, finer, pens in ((8, 0, 3), (12, 1, 3), (16, 2, 4), (24, 3, 5), (48, 3, 6)):
        many = stages(Setup(maps=maps))
        assert sum(stage.size == 128 for stage in many) == finer + 1
        assert sum(stage == many[-1] for stage in many) == pens
    assert sum(stage.size == 128 for stage in stages(Setup(maps=48, rounds=1))) == 2
    for stage in plan:
        assert stage.rates[0] > stage.rates[1] >= 0, (
            "each begins with longer steps than it ends with"
        )
        assert stage.blurs[0] > stage.blurs[1] > 0, "and more blurred"
    assert plan[0].rates[0] == pytest.approx(0.03)
    assert plan[0].blurs[0] == pytest.approx(2.0)
    assert plan[-1].rates[1] == 0
    solid = [stage.solidity for stage in plan]
    assert solid[:11] == [1] * 11
    assert solid[10] < solid[11] < solid[12] < solid[13], "pinholes count for more in the end"


def test_a_large_picture_is_fitted_like_one_of_256_pixels_but_for_one_stage():
    """The words that are drawn suit it, and what they cannot tell apart is left to grown points."""
    large, plain = stages(Setup(maps=12, size=1024)), stages(Setup(maps=12))
    assert [*large[:-4], *large[-3:]] == [*plain[:-4], *plain[-3:]]
    assert large[-4] == dataclasses.replace(plain[-4], size=512, points=4 * plain[-4].points)
    assert stages(Setup(maps=12, size=400))[-4].size == 400
    assert stages(Setup(grey=True, size=1024))[-1].size == 1024


def test_the_setup_scales_rates_blurs_and_alphas():
    plain, changed = (
        stages(setup) for setup in (Setup(), Setup(rate=0.06, blur=1.0, solidity=3.0, points=4000))
    )
    for one, other in zip(plain, changed, strict=True):
        assert np.allclose(other.rates, 2 * np.array(one.rates))
        assert np.allclose(other.blurs, 0.5 * np.array(one.blurs))
        assert other.solidity == 3 * one.solidity
        assert other.points == max(400, one.points // 10)


@pytest.mark.parametrize("setup", [Setup(maps=12, stroke=0.0), Setup(maps=12, grey=True)])
def test_steps_get_shorter_and_pictures_sharper_from_stage_to_stage(setup):
    plan = stages(setup)
    for numbers in ([stage.rates[0] for stage in plan], [stage.blurs[0] for stage in plan]):
        assert numbers == sorted(numbers, reverse=True)
        assert numbers[0] > 2 * numbers[-1]
    for numbers in ([stage.rates[1] for stage in plan[1:]], [stage.size for stage in plan[::-1]]):
        assert numbers == sorted(numbers, reverse=True)
    assert all(stage.solidity == 1 for stage in plan if stage.levels)
    assert all(stage.copies * stage.systems <= max(32, stage.systems) for stage in plan)


@pytest.mark.parametrize(("steps", "rounds"), [(79, 0), (80, 1), (399, 4), (400, 5), (4000, 8)])
def test_fits_of_few_steps_are_bred_less_often(steps, rounds):
    plan = stages(Setup(maps=12, steps=steps))
    assert sum(stage.copies > 1 for stage in plan) == rounds
    assert min(stage.steps for stage in plan) >= 1


@pytest.mark.parametrize(("size", "coarse"), [(64, 32), (24, 24), (512, 64)])
def test_no_stage_is_smaller_than_32_pixels_or_larger_than_the_picture(size, coarse):
    plan = stages(Setup(size=size, points=100_000))
    assert (plan[0].size, max(stage.size for stage in plan)) == (coarse, size)


def test_few_starts_stay_few():
    plan = stages(Setup(starts=1))
    assert {stage.systems for stage in plan} == {1}
    assert {stage.copies for stage in plan} == {1}
    assert [stage.systems for stage in stages(Setup(starts=40))][:3] == [40, 32, 4]


def test_the_plan_of_a_grey_picture():
    plan = stages(Setup(maps=10, grey=True, size=32))
    assert [stage.size for stage in plan] == [32] * 4
    assert [stage.systems for stage in plan] == [32, 4, 4, 4]
    assert [stage.steps for stage in plan] == [120, 60, 60, 150]
    assert not any(stage.grown for stage in plan)
    for stage in plan:
        assert stage.rates[0] > stage.rates[1] > 0
        assert stage.blurs[0] > stage.blurs[1] > 0
    assert [stage.copies for stage in plan] == [1, 8, 8, 1]
    assert [stage.judged for stage in plan] == [0, 4, 4, 4]
    assert [stage.levels for stage in plan] == [2, 2, 2, 0]
    assert plan[-1].points == 5 * 32**2
    assert plan[0].points == round(2.5 * 32**2)


# --- Starts that are given ---


def test_given_maps_are_jittered_all_but_the_first():
    maps = [affine(0.2, 0.1, -0.1, 0.3, 0.4, -0.6), similarity(0.3, 40, (-0.5, 0.2))]
    systems = initial_systems(torch.ones(8, 8), Setup(maps=maps, starts=300, jitter=0.07, seed=3))
    assert torch.equal(systems[0], torch.tensor(maps))
    off = systems[1:] - systems[0]
    assert float(off.std()) == pytest.approx(0.07, rel=0.05)
    assert float(off.mean(0).abs().max()) < 0.02
    other = initial_systems(torch.ones(8, 8), Setup(maps=maps, starts=300, jitter=0.07, seed=4))
    assert not torch.equal(other[1:], systems[1:])


# --- Steps ---


class Slope:
    """An objective that is a plane: its gradient is one everywhere."""

    def __init__(self, stage: Stage, setup: Setup):
        self.stage, self.setup, self.sigmas, self.refreshed = stage, setup, [], []

    def refresh(self, maps: torch.Tensor, stroke: torch.Tensor | None, sigma: float) -> None:
        self.refreshed.append(sigma)

    def gradient(self, maps: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        self.sigmas.append(sigma)
        return maps.sum((1, 2, 3)), torch.ones_like(maps)


def moved(stage: Stage, step: int) -> tuple[float, Slope]:
    """How far a first step of Adam goes: the learning rate, whatever the gradient."""
    slope, maps = Slope(stage, SMALL), torch.zeros(1, 3, 2, 3).double()
    run = Run(SMALL, stages(SMALL), maps, None, stage_step=step)
    descend(slope, run)
    assert torch.allclose(run.maps, run.maps.flatten()[0].expand(1, 3, 2, 3))
    return -float(run.maps[0, 0, 0, 0]), slope


def test_rates_and_blurs_fall_from_the_first_to_the_last_of_a_stage():
    stage = dataclasses.replace(stages(Setup())[1], steps=41, rates=(0.3, 0.1), blurs=(4.0, 1.0))
    found = {step: moved(stage, step) for step in (0, 10, 20, 30, 40)}
    rates = [found[step][0] for step in (0, 10, 20, 30, 40)]
    middle = 0.1 * math.cos(math.pi / 4)  # half a cosine wave
    assert rates == pytest.approx([0.3, 0.2 + middle, 0.2, 0.2 - middle, 0.1], rel=1e-5)
    sigmas = [found[step][1].sigmas[0] for step in (0, 10, 20, 30, 40)]
    assert sigmas == pytest.approx([4, 2 * 2**0.5, 2, 2**0.5, 1])


def test_words_are_chosen_anew_every_ten_steps():
    stage = dataclasses.replace(stages(Setup())[1], steps=41)
    for step, chosen in ((0, 1), (1, 0), (9, 0), (10, 1), (15, 0), (40, 1)):
        assert len(moved(stage, step)[1].refreshed) == chosen


# --- The objective ---


def test_a_pens_disc_and_what_is_added_blur_as_one_gaussian_would():
    """A disc of radius r has the variance r² / 4 along each axis."""
    setup = dataclasses.replace(SMALL, size=64)
    objective = Objective(disc(0.6, 64), dataclasses.replace(stages(setup)[-1], size=64), setup)
    assert objective.beyond_pen(1.3) == 1.3
    objective.take_pen(torch.tensor([0.0625]))  # two pixels
    for sigma in (1.2, 2.0, 5.0):
        assert objective.beyond_pen(sigma) ** 2 + 2.0**2 / 4 == pytest.approx(sigma**2)
    assert objective.beyond_pen(0.5) == pytest.approx(0.3), "no less than can be drawn"
    assert objective.discs.shape == (1, 5, 5)
    assert float(objective.discs.sum()) == pytest.approx(1)


def test_points_of_a_grown_stage_add_up_to_one_a_pixel():
    """An attractor that fills more than the window is drawn with a density of one, and has coverage
    1 − exp(−α)."""
    setup = Setup(maps=4, size=32)
    maps = torch.tensor([similarity(0.62, at=(x, y)) for x in (-0.6, 0.6) for y in (-0.6, 0.6)])
    stage = dataclasses.replace(stages(setup)[-1], solidity=0.7)
    objective = Objective(torch.ones(32, 32), stage, setup)
    objective.refresh(maps[None].expand(2, -1, -1, -1), None, 0.2)
    losses = objective(maps[None].expand(2, -1, -1, -1), 0.2)
    wanted = [math.exp(-2 * 0.7), math.exp(-2 * 1.5)]  # alphas of both halves
    assert losses.tolist() == pytest.approx(wanted, rel=0.2)


def test_stray_points_pay_for_their_distance_from_the_picture():
    """Half of the mass lies at a speck in the picture, half at one 0.75 of the window's side away
    from it."""
    setup = dataclasses.replace(SMALL, maps=2, pull=0.8, size=64)
    stage = dataclasses.replace(stages(setup)[0], size=64, levels=0)
    target = torch.zeros(64, 64)
    target[30:34, 4:8] = 1
    maps = torch.tensor([similarity(0.01, at=(-0.81, 0.0)), similarity(0.01, at=(0.81, 0.0))])[None]
    losses = []
    for pull in (0.0, 0.8):
        objective = Objective(target, stage, dataclasses.replace(setup, pull=pull))
        objective.refresh(maps, None, 1.0)
        losses.append(float(objective(maps, 1.0)))
    away = (57.5 - 7.5) / 64
    assert losses[1] - losses[0] == pytest.approx(0.8 * away / 2, rel=0.05)


def test_alpha_draws_points_that_are_spread_evenly_over_the_picture_like_it():
    target = disc(0.55, 64, (0.2, -0.1))
    setup = dataclasses.replace(SMALL, size=64, points=60_000)
    stage = dataclasses.replace(stages(setup)[-5], size=64, solidity=1, points=60_000)
    objective = Objective(target, stage, setup)
    objective.refresh(CARPET[None], None, 0.8)
    density = target / target.sum()
    errors = {}
    for factor in (0.25, 1.0, 4.0):
        alpha = float(objective.alphas) * factor
        soft = 1 - torch.exp(-alpha * blur(density[None], 0.8)[0])
        errors[factor] = float((soft - target).square().mean())
    assert errors[1.0] < min(errors[0.25], errors[4.0])


def test_points_are_as_solid_as_the_stage_says_and_those_of_a_pen_as_the_setup_says():
    def alpha(of_setup: float, of_stage: float, pen: float) -> float:
        setup = dataclasses.replace(SMALL, size=64, solidity=of_setup)
        stage = dataclasses.replace(stages(setup)[-5], size=64, solidity=of_stage)
        objective = Objective(disc(0.55, 64), stage, setup)
        objective.refresh(CARPET[None], torch.tensor([pen]) if pen else None, 0.8)
        return float(objective.alphas)

    for pen, by_setup, by_stage in ((0.0, 1, 3), (0.05, 2, 1)):
        plain = alpha(1.0, 1.0, pen)
        assert alpha(2.0, 1.0, pen) == pytest.approx(by_setup * plain)
        assert alpha(1.0, 3.0, pen) == pytest.approx(by_stage * plain)


# --- Starts and states ---


@pytest.mark.parametrize("maps", [2, [similarity(0.9, 20), similarity(0.95, at=(0.1, 0))]])
def test_no_start_is_slower_than_the_bound(maps):
    systems = initial_systems(disc(0.6, 64), Setup(maps=maps, starts=20, bound=0.4))
    assert torch.linalg.matrix_norm(systems[..., :2], 2).amax() == pytest.approx(0.4, abs=1e-5)


def test_a_start_knows_its_pen():
    thin, solid = torch.zeros(64, 64), disc(0.6, 64)
    thin[20:22, 5:60] = 1
    for target, setup, stroke in (
        (thin, Setup(maps=2, starts=3), 2 / 64),
        (solid, Setup(maps=2, starts=3), None),
        (solid, Setup(maps=2, starts=3, stroke=0.07), 0.07),
        (thin, Setup(maps=2, starts=3, stroke=0.0), None),
        (thin, Setup(maps=2, starts=3, grey=True), None),
    ):
        run = Run.started(target, setup, "cpu")
        found = None if run.stroke is None else run.stroke.tolist()
        assert found == (None if stroke is None else [pytest.approx(stroke)] * 3)


def test_states_come_every_so_many_steps_and_after_each_stage():
    steps = [state.step for state in fit(disc(0.5, 32), SMALL, every=10)]
    ends = np.cumsum([stage.steps for stage in stages(SMALL)]).tolist()
    assert steps == [0, *sorted({*ends})]
    longer = dataclasses.replace(SMALL, steps=90, rounds=1)
    ends = np.cumsum([0, *(stage.steps for stage in stages(longer))]).tolist()
    wanted = {0, *ends[1:]}
    for first, stage in zip(ends, stages(longer), strict=False):
        wanted |= set(range(first, first + stage.steps, 10))
    assert [state.step for state in fit(disc(0.5, 32), longer, every=7)] == sorted(wanted)


# --- What a run may look like ---

BARE = dataclasses.replace(SMALL, stroke=0.0)


@pytest.fixture(scope="module")
def resume():
    *_, last = fit(disc(0.5, 32), BARE, every=10)
    return last.resume


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": -1}, "stage is no whole number"),
        ({"stage": 10**6}, "stage is no whole number"),
        ({"stage_step": 99}, "stage_step is no whole number"),
        ({"stage_step": True}, "stage_step is no whole number"),
        ({"step": 10**9 + 1}, "step is no whole number"),
        ({"adam_step": 1.0}, "adam_step is no whole number"),
        ({"best_iou": 1.01}, "best_iou is no number from 0 to 1"),
        ({"best_iou": -0.01}, "best_iou is no number from 0 to 1"),
        ({"best_score": -1.01}, "best_score is no number from -1 to 1"),
        ({"best_stroke": 1.01}, "best_stroke is no number from 0 to 1"),
        ({"trace": []}, "not lists of one length"),
        ({"maps": torch.zeros(2, 4, 2, 3)}, "maps is no tensor of shape"),
        ({"first": torch.zeros(1, 3, 2, 3)}, "first is no tensor of shape"),
        ({"second": torch.zeros(6, 3, 2, 3).int()}, "second does not hold finite numbers"),
        ({"first": torch.full((6, 3, 2, 3), torch.inf)}, "first does not hold finite numbers"),
        ({"stroke": torch.tensor([0.5] * 5 + [1.5])}, "stroke is no radius from 0 to 1"),
        ({"best_maps": torch.eye(2, 3).expand(3, 2, 3)}, "best_maps holds maps that do not shrink"),
        ({"maps": torch.full((6, 3, 2, 3), 1001.0)}, "maps leads far away"),
        ({"more": 1}, "its fields are not those of a run"),
    ],
)
def test_a_run_out_of_its_ranges_is_told_by_name(change, message, resume):
    check_resume(resume, BARE)
    assert len(resume["maps"]) == 6
    with pytest.raises(ValueError, match=message):
        check_resume({**resume, **change}, BARE)


def test_a_koch_curve_whose_setup_is_given_starts_as_it_says():
    first = next(fit(disc(0.5, 32), dataclasses.replace(SMALL, maps=KOCH.tolist(), jitter=0.0)))
    assert torch.allclose(first.maps, KOCH.double())
