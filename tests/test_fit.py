import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from systems import CARPET, CORNER_GASKET, FERN, KOCH

from diff_ifs import backend
from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit import run as run_module
from diff_ifs.fit.judge import Evaluation, best_radius, evaluate, selection_scores
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.proposals import initial_systems, mutate, pen_radius
from diff_ifs.fit.run import Run, descend
from diff_ifs.fit.stages import stages
from diff_ifs.kernels import pen_ious
from diff_ifs.metrics import mse
from diff_ifs.setup import WINDOW, Setup, affine, similarity
from ifs_model import MAX_SINGULAR, area_weights, centroid, singular_values
from train_ifs import fit

QUICK = Setup(maps=4, size=32, points=4000, steps=60, starts=4, seed=4)


def blob(size: int = 32) -> torch.Tensor:
    at = torch.linspace(-1, 1, size)
    return ((at**2 + (at[:, None] / 0.6) ** 2) < 0.5).float()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "Setup.steps must be a whole number from 10 to"),
        ("steps", 2.5, "Setup.steps must be a whole number"),
        ("rate", -1.0, "Setup.rate must be a number from"),
        ("stroke", float("nan"), "Setup.stroke must be a number from"),
        ("size", "big", "Setup.size must be a whole number"),
        ("grey", 1, "Setup.grey must be True or False"),
        ("seed", True, "Setup.seed must be a whole number"),
        ("maps", 0, "Setup.maps must be a whole number from 1 to 1000"),
        ("maps", [[1, 2, 3]], "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers"),
        ("maps", "three", "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers"),
        ("maps", [["123", "456"]], "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers"),
        (
            "maps",
            itertools.repeat(similarity(0.5)),
            "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers",
        ),
        (
            "maps",
            [similarity(0.5), [[0.5, 0, 0], [0, 0.5]]],
            "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers",
        ),
        (
            "maps",
            [affine(2.0, 0, 0, 0.5)],
            "Setup.maps[0] must shrink the world, say by 0.99; it stretches by 2.000",
        ),
        ("maps", [affine(0.5, 0, 0, 0.5, float("inf"))], "Setup.maps must hold finite numbers"),
        ("depth", 40, "Setup.depth 40 would draw 12^40 points"),
    ],
)
def test_a_setup_out_of_range_says_what_is_wrong(field, value, message):
    with pytest.raises(ValueError, match="Setup") as caught:
        Setup(**{field: value})
    assert str(caught.value).startswith(message)


def test_a_setup_keeps_its_maps_as_plain_numbers():
    setup = Setup(maps=[similarity(0.5), similarity(0.25, at=(0.5, 0))])
    assert setup.n == 2
    assert setup == Setup(maps=dataclasses.asdict(setup)["maps"])


def test_compiled_loops_and_plain_pytorch_descend_alike(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    gradients = torch.randn(3, 2, 5, 2, 3, generator=generator, dtype=torch.float64)
    gradients[0, 0, 0, 0, 0], gradients[1, 0, 0, 0, 1], gradients[2, 0, 0, 0, 2] = (
        torch.nan,
        torch.inf,
        1e20,
    )

    class Slope:
        stage, setup = dataclasses.replace(stages(QUICK)[0], rates=(0.1, 0.1)), QUICK

        def __init__(self, gradient: torch.Tensor):
            self.slope = gradient

        def gradient(self, maps: torch.Tensor, _) -> tuple[torch.Tensor, torch.Tensor]:
            return (maps * self.slope).sum((1, 2, 3)), self.slope

    def run() -> Run:
        run = Run(QUICK, stages(QUICK), maps.clone(), None, stage_step=1)
        for gradient in gradients:
            descend(Slope(gradient), run)
        return run

    compiled = run()
    monkeypatch.setattr(backend, "load_kernels", lambda: None)
    plain = run()
    assert singular_values(plain.maps).max() <= QUICK.bound + 1e-9
    for name in ("maps", "first", "second"):
        assert getattr(plain, name).isfinite().all()
        assert torch.allclose(getattr(compiled, name), getattr(plain, name))


@pytest.mark.parametrize("at", [0.7, 3.0])
@pytest.mark.parametrize("compiled", [True, False])
def test_stray_points_are_pulled_inside_the_window_and_outside(at, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(backend, "load_kernels", lambda: None)
    # far from the blob, up right
    corner = torch.tensor([similarity(0.1, at=(x, at)) for x in (at, at - 0.1)])[None]
    slopes = []
    for pull in (0.0, 0.1):
        setup = dataclasses.replace(QUICK, maps=2, pull=pull)
        objective, maps = (
            Objective(blob(), stages(setup)[0], setup),
            corner.clone().requires_grad_(),
        )
        objective.refresh(maps.detach(), None, 1.0)
        slopes.append(torch.autograd.grad(objective(maps, 1.0).sum(), maps)[0][0, :, :, 2].sum(0))
    assert (slopes[1] > slopes[0] + 1e-3).all(), "the pull leads down and left"


def test_no_pen_is_drawn_with_where_it_gains_nothing():
    target = occupancy(CARPET, WINDOW, 81, supersample=3)
    assert evaluate(CARPET, target, search_stroke=True).stroke == 0


def test_stages_go_from_coarse_to_fine_and_spend_all_steps():
    plan = stages(Setup(steps=1000))
    assert [stage.size for stage in plan] == sorted(stage.size for stage in plan)
    assert (plan[0].size, plan[-1].size) == (64, 256)
    assert [stage.systems for stage in plan] == sorted(
        (stage.systems for stage in plan), reverse=True
    )
    assert sum(stage.steps for stage in plan) == 1000


def test_random_systems_cover_the_picture_with_contractions():
    target = blob()
    systems = initial_systems(target, Setup(maps=6, starts=8, size=64))
    assert systems.shape == (8, 6, 2, 3)
    assert singular_values(systems).max() <= 0.9 + 1e-6
    assert not torch.equal(systems[0], systems[1])
    middle = torch.zeros(2)  # of the blob; its images must lie in the blob
    images = systems[..., :2] @ middle + systems[..., 2]
    assert ((images[..., 0] ** 2 + (images[..., 1] / 0.6) ** 2) < 0.55).all()


def test_given_maps_are_the_first_start_and_the_others_are_near():
    setup = Setup(maps=KOCH.tolist(), starts=5, jitter=0.02)
    systems = initial_systems(blob(), setup)
    assert torch.allclose(systems[0], KOCH)
    apart = (systems[1:] - KOCH).abs()
    assert 0 < apart.mean() < 0.04


def test_maps_are_placed_anew_where_the_picture_is_missed():
    target = blob()
    target[:, :8] = 1  # a bar at the left edge that nothing covers
    system = torch.tensor([similarity(0.5, at=(x, 0)) for x in (-0.2, 0.0, 0.2)])
    bred = mutate(system.expand(40, -1, -1, -1), target, torch.Generator().manual_seed(0))
    changed = ((bred - system).abs().amax((2, 3)) > 0.1).sum(1)
    assert set(changed.tolist()) <= {0, 1, 2, 3}
    assert changed.float().mean() > 0.8
    middle = centroid(system, area_weights(system))
    places = bred[..., :2] @ middle + bred[..., 2]
    assert (places[..., 0] < -0.75).any(), "some map went to the bar"


def test_a_stem_that_is_missed_is_proposed_as_a_flat_map():
    at = (2 * torch.arange(64) + 1) / 64 - 1
    body = (at**2 + (at[:, None] + 0.3) ** 2 < 0.2).float()  # y is down here
    stem = ((at.abs() < 0.05) & (at[:, None] > 0.15)).float()
    maps = torch.tensor(
        [similarity(0.5, at=(x, y + 0.15)) for x in (-0.2, 0.2) for y in (-0.05, 0.35)]
    )
    generator = torch.Generator().manual_seed(0)
    proposed = mutate(maps.expand(64, 4, 2, 3), torch.maximum(body, stem), generator).flatten(0, 1)
    axes = singular_values(proposed)
    standing = proposed[:, 1, :2].norm(dim=1) > 3 * proposed[:, 0, :2].norm(dim=1)
    assert (standing & (axes[:, 1] < axes[:, 0] / 3) & (proposed[:, 1, 2] < 0)).any()


def test_of_many_starts_those_with_the_least_loss_go_on():
    target = evaluate(KOCH.double(), torch.zeros(64, 64), 0.03).picture.round()
    plan = stages(setup := Setup(maps=4, size=64, points=4000))
    assert [stage.systems for stage in plan[:2]] == [256, 64]
    run = Run.started(target, setup, "cpu")
    run.maps[200] = KOCH
    run.stage = 1
    run.select(target)
    assert len(run.maps) == 64
    assert torch.equal(run.maps[0], KOCH)


def test_a_fit_by_loss_is_bred_even_if_its_attractor_overlaps_less(monkeypatch):
    target = evaluate(FERN.double(), torch.zeros(64, 64), 0.02).picture.round()
    setup = Setup(maps=4, size=64, points=4000, starts=32)
    run = Run.started(target, setup, "cpu")
    run.maps[7] = FERN
    monkeypatch.setattr(
        run_module, "selection_scores", lambda maps, *_: 2 * (-float(maps[0, 0, 2]),)
    )
    run.stage = 2
    run.select(target)
    run.breed(target)
    assert any(torch.equal(maps, FERN) for maps in run.maps)


def test_a_selection_keeps_what_is_best_bare_and_what_is_best_with_a_pen(monkeypatch):
    setup = Setup(maps=3, size=64, points=4000, starts=8)
    run = Run.started(blob(), setup, "cpu")
    before = run.maps.clone()
    worths = {5: (0.9, 0.9), 2: (0.8, 0.91), 6: (0.1, 0.95), 3: (0.85, 0.2)}
    marks = {float(maps[0, 0, 2]): worths.get(k, (0.0, 0.0)) for k, maps in enumerate(before)}
    monkeypatch.setattr(
        run_module, "selection_scores", lambda maps, *_: marks[float(maps[0, 0, 2])]
    )
    monkeypatch.setattr(run, "losses", lambda *_: torch.arange(8.0))
    run.stage, run.plan[2] = 2, dataclasses.replace(run.plan[2], copies=1)
    run.select(blob())
    assert torch.equal(run.maps, before[[5, 6, 0, 1]])


def test_true_maps_of_a_drawing_are_worth_more_than_others_only_with_a_pen():
    target = occupancy(0.9 * FERN, WINDOW, 128, stroke=0.02, supersample=6).round()
    setup, thick = Setup(maps=4, size=128), 0.9 * FERN
    thick[3, :, :2] *= 1.4
    bare, penned = selection_scores(0.9 * FERN, target, setup)
    assert penned > 0.92 > bare + 0.1
    assert selection_scores(thick, target, setup)[1] < penned - 0.1
    given = selection_scores(0.9 * FERN, target, dataclasses.replace(setup, stroke=0.02))
    assert (
        given[0]
        == given[1]
        == evaluate(0.9 * FERN, target, 0.02, supersample=2, quality="draft").iou
    )


@pytest.mark.parametrize("share", [0.0, 0.003, 0.1])
def test_a_pen_covers_half_of_what_is_near_enough(share):
    taken = torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) < share
    wanted = torch.rand(12, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    found = pen_ious(taken.numpy(), wanted.numpy(), 4)
    middles = torch.cartesian_prod(torch.arange(24.0), torch.arange(24.0))
    away = torch.cdist(middles, middles)[:, taken.flatten()]
    for k, iou in enumerate(found.tolist()):
        near = (away.square().round() <= k).any(1).float().view(1, 24, 24)
        drawn = torch.nn.functional.avg_pool2d(near, 2)[0] >= 0.5
        assert iou == pytest.approx(float((drawn & wanted).sum() / (drawn | wanted).sum()))
    assert len(found) == 17


def test_a_system_that_no_pen_suits_keeps_the_one_it_has(monkeypatch):
    maps = CORNER_GASKET.expand(2, -1, -1, -1)
    setup = dataclasses.replace(QUICK, stroke=None, starts=2)
    run = Run(setup, stages(setup), maps.clone(), torch.tensor([0.02, 0.03]))
    run.stage = len(run.plan) - 1
    suited = iter((0.05, 0.0))
    monkeypatch.setattr(
        "diff_ifs.fit.run.evaluate",
        lambda *_, **__: Evaluation(0.5, next(suited), torch.zeros(1), 0.5),
    )
    run.choose_pens(blob())
    assert run.stroke.tolist() == pytest.approx([0.05, 0.03])


def test_a_pen_for_nothing_is_worth_nothing():
    assert not pen_ious(np.zeros((16, 16), bool), np.zeros((8, 8), bool), 4).any()


@pytest.mark.parametrize(
    ("maps", "pen", "found"), [(CORNER_GASKET, 0.03, 0.03), (CARPET, 0.0, 0.0)]
)
def test_a_picture_gets_a_pen_where_it_is_worth_one(maps, pen, found):
    target = evaluate(maps.double(), torch.zeros(128, 128), pen).picture.round()
    run = Run.started(target, Setup(maps=maps.tolist(), size=128, starts=1, stroke=0), "cpu")
    run.setup, run.stage = dataclasses.replace(run.setup, stroke=None), len(run.plan) - 1
    run.choose_pens(target)
    assert float(run.stroke or 0) == pytest.approx(found, abs=0.007)


def test_pen_radius_of_thin_and_solid_pictures():
    assert pen_radius(blob(256)) == 0
    line = torch.zeros(256, 256)
    line[100:102, 20:200] = 1
    assert pen_radius(line) == pytest.approx(2 / 256, rel=0.3)


def test_best_radius_is_where_the_iou_is_best():
    near = torch.tensor([[0.0, 0.01, 0.02, 0.03, 0.04]])
    wanted = torch.tensor([[True, True, True, False, False]])
    assert best_radius(near, wanted, finest=0.01) == pytest.approx(0.02)
    assert best_radius(near, torch.tensor([[True, False, False, False, False]]), finest=0.01) == 0


def test_judge_finds_the_pen_that_drew_the_picture():
    target = occupancy(0.9 * KOCH, WINDOW, 128, stroke=3 / 128, supersample=6)
    maps = 0.9 * KOCH
    iou, stroke, picture, _ = evaluate(maps, target, search_stroke=True)
    assert iou > 0.95
    assert stroke == pytest.approx(3 / 128, rel=0.15)
    assert picture.shape == (128, 128)
    assert evaluate(maps, target)[0] < 0.6


@pytest.fixture(scope="module")
def states():
    return list(fit(blob(), QUICK, every=10))


@pytest.mark.slow
def test_a_fit_gets_better_and_keeps_the_best_by_the_converged_attractor(states):
    assert states[0].step == 0
    assert states[-1].step == states[-1].steps == 60
    assert states[-1].best_iou == max(state.iou for state in states) > 0.97
    best = states[-1]
    assert evaluate(best.best_maps, blob(), best.best_stroke)[0] == best.best_iou
    assert best.best_maps.dtype == torch.float64


@pytest.mark.slow
def test_the_best_state_is_kept_when_later_ones_are_worse(monkeypatch):
    honest, judged = evaluate, []

    def stricter_each_time(*arguments, **options):
        judged.append(1)
        worse = 1 - len(judged) / 1000
        return honest(*arguments, **options)._replace(iou=worse, score=worse)

    monkeypatch.setattr(run_module, "evaluate", stricter_each_time)
    states = list(fit(blob(), QUICK, every=10))
    assert states[-1].iou < states[0].iou
    assert torch.equal(states[-1].best_maps, states[0].maps)


def test_maps_stay_contractions(states):
    for state in states:
        for systems in state.resume["path_maps"]:
            assert singular_values(systems).max() <= MAX_SINGULAR + 1e-5


def test_the_path_leads_to_the_last_state(states):
    path = states[-1].path
    assert [step for step, _, _ in path] == [state.step for state in states]
    assert torch.equal(path[-1][1], states[-1].maps)
    moves = [
        float((after[1] - before[1]).abs().max()) for before, after in itertools.pairwise(path)
    ]
    # One system all along, but where one that was found by its collage takes the place of another.
    assert sorted(moves)[-2] < 0.5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_maps_and_another_seed_other_ones(states):
    again = list(fit(blob(), QUICK, every=10))[-1]
    assert torch.equal(again.best_maps, states[-1].best_maps)
    other = list(fit(blob(), dataclasses.replace(QUICK, seed=1), every=10))[-1]
    assert not torch.equal(other.best_maps, states[-1].best_maps)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_a_fit_that_is_resumed_goes_on_as_if_it_had_not_stopped(states, stop):
    resumed = list(fit(blob(), QUICK, every=10, resume=states[stop].resume))
    assert resumed[-1].step == 60
    assert torch.equal(resumed[-1].maps, states[-1].maps)
    assert torch.equal(resumed[-1].best_maps, states[-1].best_maps)
    assert resumed[-1].trace == states[-1].trace


def test_a_state_stays_as_it_was_when_the_fit_goes_on():
    fitting = fit(blob(), QUICK, every=10)
    states = [next(fitting) for _ in range(3)]
    before = copy.deepcopy(states[-1].resume)
    next(fitting)
    after = states[-1].resume
    assert not after["maps"].requires_grad
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, after[name])
        elif name in ("path_maps", "path_stroke"):
            assert all(torch.equal(x, y) for x, y in zip(value, after[name], strict=True))
        else:
            assert value == after[name]


def test_a_complete_fit_that_is_resumed_polishes_and_never_gets_worse(states):
    more = list(fit(blob(), QUICK, every=10, resume=states[-1].resume))
    assert more[-1].step == more[-1].steps > 60
    assert more[-1].best_iou >= states[-1].best_iou
    assert torch.equal(states[-1].best_maps, states[-1].maps)
    for (step, maps, _), (before, same, _) in zip(more[-1].path, states[-1].path, strict=False):
        assert step == before
        assert torch.equal(maps, same), "the way of the best goes on, not that of another"


def test_the_pen_is_found_on_the_way():
    target = occupancy(0.9 * KOCH, WINDOW, 64, stroke=4 / 64, supersample=6)
    setup = Setup(
        maps=(0.9 * KOCH).tolist(),
        size=64,
        points=10_000,
        steps=200,
        starts=1,
        stroke=0.02,
        rate=0.05,
    )
    last = list(fit(target, setup, every=10))[-1]
    found = float(last.resume["stroke"][0])
    assert found == pytest.approx(4 / 64, rel=0.2), "it started at 0.02"
    assert last.best_iou > 0.96


@pytest.mark.slow
def test_fixed_depth_fits_too():
    last = list(fit(blob(), dataclasses.replace(QUICK, depth=4), every=10))[-1]
    assert last.best_iou > 0.95


def test_a_broken_gradient_never_reaches_the_maps(monkeypatch):
    healthy = Objective._losses

    def poisoned(self, maps, *drawn):
        away = maps.sum((1, 2, 3)) - maps.detach().sum((1, 2, 3))
        return healthy(self, maps, *drawn) + away.sqrt()  # of 0: an infinite gradient at every step

    monkeypatch.setattr(Objective, "_losses", poisoned)
    for state in fit(blob(), QUICK, every=10):
        assert state.maps.isfinite().all()


def test_a_grey_target_is_fitted_and_judged_by_its_levels():
    at = (2 * torch.arange(32) + 1) / 32 - 1
    target = torch.exp(-4 * (at[:, None] ** 2 + at**2))
    setup = dataclasses.replace(QUICK, size=32, steps=100, grey=True)
    states = list(fit(target, setup, every=10))
    verdict = evaluate(states[-1].best_maps, target, grey=True)
    assert (
        verdict.score
        == -mse(verdict.picture, target)
        == -min(mse(state.picture, target) for state in states)
    )
    assert -verdict.score < 0.0012
    flat = evaluate(states[-1].best_maps, target).picture
    assert mse(flat, target) > 0.02, "the hard attractor has no greys"
