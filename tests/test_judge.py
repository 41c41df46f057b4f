"""How systems are judged, and what a fit reports of them: against pictures drawn by numpy."""

import dataclasses
import math
import threading

import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots
from systems import CARPET, CORNER_GASKET

from diff_ifs.backend import side_by_side
from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit import judge
from diff_ifs.fit.judge import best_radius, evaluate, soft_picture
from diff_ifs.fit.run import Run, State
from diff_ifs.fit.stages import stages
from diff_ifs.setup import WINDOW, Setup, affine, similarity


def disc(radius: float, size: int, place: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A disc, drawn by numpy."""
    return torch.from_numpy(discs(radius, size, places=[place])).float()


# --- Judgements ---


def test_the_distances_that_choose_a_pen_are_those_of_the_middles_of_pixels(monkeypatch):
    given = []
    monkeypatch.setattr(
        judge, "best_radius", lambda near, wanted, finest: given.append(near) or 0.0
    )
    size = 32
    places = [
        ((2 * c + 1) / size - 1, 1 - (2 * r + 1) / size) for r, c in ((5, 7), (20, 11), (13, 25))
    ]
    evaluate(dots(places), disc(0.5, size), search_stroke=True)
    at = (2 * np.arange(size) + 1) / size - 1
    true = np.min([np.hypot(at - x, -at[:, None] - y) for x, y in places], axis=0)
    assert np.abs(given[0].numpy() - true).max() < 1e-9


@pytest.mark.parametrize("radius", [0.05, 0.09, 0.12])
def test_the_pen_that_drew_a_picture_is_found(radius):
    target = torch.from_numpy(discs(radius, 64, parts=8)).round().float()
    found = evaluate(dots(), target, search_stroke=True)
    assert found.stroke == pytest.approx(radius, abs=0.4 / 64)
    assert found.iou > 0.94
    assert found.iou == found.score
    assert evaluate(dots(), target, found.stroke).iou == found.iou
    iou = (found.picture >= 0.5).logical_and(target > 0.5).sum() / (
        found.picture >= 0.5
    ).logical_or(target > 0.5).sum()
    assert found.iou == pytest.approx(float(iou))


def test_pens_wider_than_a_sixteenth_of_the_picture_are_not_looked_for():
    target = torch.from_numpy(discs(0.2, 64)).round().float()
    found = evaluate(dots(), target, search_stroke=True)
    assert found.stroke <= 0.125 + 0.25 / 64  # and tried a little further


def test_a_pen_that_gains_next_to_nothing_is_none(monkeypatch):
    """Of an eighth of a pixel on a square that is filled: both drawings are the same but for a few
    sub-pixels."""
    maps = torch.tensor([affine(0.5, 0, 0, 0.5, x, y) for x in (-0.21, 0.31) for y in (-0.3, 0.22)])
    target = evaluate(maps, torch.zeros(64, 64), 0.004).picture.round()
    monkeypatch.setattr(judge, "best_radius", lambda *_, **__: 0.008)
    found = evaluate(maps, target, search_stroke=True)
    assert found.stroke == 0
    assert found.iou > 0.9


def test_pixels_at_the_same_distance_are_drawn_together():
    near = torch.tensor([[0.01, 0.02, 0.02, 0.02, 0.02, 0.05]])
    wanted = torch.tensor([[True, True, False, False, False, False]])
    # of radius 0.01: 1 of 2; of radius 0.02: 2 of 5, though the first two pixels would be all that
    # is wanted
    assert best_radius(near, wanted, finest=0.01) == pytest.approx(0.01)
    assert best_radius(near, ~wanted, finest=0.01) == pytest.approx(0.05), "4 of 6, not 3 of 6"


@pytest.mark.parametrize(
    ("radius", "finest", "found"), [(0.01, 0.03, 0.01), (0.01, 0.05, 0.0), (0.13, 0.01, 0.02)]
)
def test_pens_are_neither_finer_than_can_be_drawn_nor_too_wide(radius, finest, found):
    near, wanted = torch.tensor([[0.0, radius, 0.2]]), torch.tensor([[True, True, False]])
    if radius > 0.125:
        near[0, 0] = found
    assert best_radius(near, wanted, finest) == pytest.approx(found)


def test_a_soft_picture_is_blurred_by_two_fifths_of_a_pixel():
    """A speck in the middle of a pixel has the variance of its blur."""
    speck = torch.tensor([similarity(1e-3, at=(0.5 / 16, -0.5 / 16))])
    depth = -torch.log1p(-soft_picture(speck, torch.full((32, 32), 0.01)).double())
    across = depth.sum(0) / depth.sum()
    at = torch.arange(32).double()
    variance = float((across * at**2).sum() - (across * at).sum() ** 2)
    assert float((across * at).sum()) == pytest.approx(16, abs=0.05)
    assert variance == pytest.approx(0.16, abs=0.09)


def test_a_soft_picture_is_as_bright_as_suits_its_target():
    """The measure of four quarters of a square is even: its picture is one grey, whichever is
    wanted."""
    maps = torch.tensor([affine(0.5, 0, 0, 0.5, x, y) for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
    for grey in (0.3, 0.8):
        picture = soft_picture(maps, torch.full((32, 32), grey))
        assert float((picture[4:-4, 4:-4] - grey).abs().max()) < 0.08
    left = torch.tensor([affine(0.5, 0, 0, 0.5, x, y) for x in (-0.75, -0.25) for y in (-0.5, 0.5)])
    target = torch.zeros(32, 32)
    target[:, :16] = 0.5
    picture = soft_picture(left, target)
    assert float((picture - target)[2:-2, 2:].abs().median()) < 0.05
    assert float(picture[:, 18:].max()) < 0.01
    verdict = evaluate(left, target, grey=True)
    assert verdict.score == pytest.approx(-float((picture - target).square().mean()))
    assert verdict.stroke == 0
    assert verdict.picture.equal(picture)


def test_grown_pictures_are_judged_with_nine_sub_pixels_and_drawn_ones_with_36():
    """Of a speck's pen, the middles of so many sub-pixels are inside; of a bare speck, one
    sub-pixel."""
    target = torch.zeros(20, 20)
    assert float(evaluate(dots([PLACES[0]]), target).picture.sum()) == pytest.approx(1 / 9)
    found = evaluate(dots([PLACES[0]]), target, stroke=0.13).picture.numpy()
    assert np.abs(found - discs(0.13, 20, parts=6, places=[PLACES[0]])).max() < 1e-6


# --- Reports ---


def run_of(
    *systems: torch.Tensor, stroke: float | None = None, setup: Setup, target: torch.Tensor
) -> Run:
    strokes = None if stroke is None else torch.full((len(systems),), stroke)
    run = Run(setup, stages(setup), torch.stack(systems).float(), strokes)
    run.steps = 99
    return run


def report(
    run: Run, target: torch.Tensor, loss: torch.Tensor, final: bool = False, end: bool = False
) -> State:
    """What is reported in the first or the final stage, or at its end."""
    run.stage = len(run.plan) if end else len(run.plan) - 1 if final else 0
    return run.report(target, run.plan[-1 if final or end else 0], loss)


@pytest.mark.parametrize("end", [False, True])
def test_a_fit_ends_with_the_pen_that_suits_it_best(end):
    target = torch.from_numpy(discs(0.1, 64, parts=8)).round().float()
    setup = Setup(maps=3, size=64)
    run = run_of(dots(), setup=setup, target=target)
    state = report(run, target, torch.zeros(1), True, end)
    if end:
        assert state.stroke == state.best_stroke == pytest.approx(0.1, abs=0.4 / 64)
        assert state.iou > 0.97
    else:
        assert state.stroke == 0
        assert state.iou < 0.1
    bare = dataclasses.replace(setup, stroke=0.0)
    state = report(run_of(dots(), setup=bare, target=target), target, torch.zeros(1), True, end)
    assert state.stroke == 0, "none is asked for"


@pytest.mark.parametrize("final", [False, True])
def test_in_the_last_stage_the_leader_is_the_one_that_looks_best_before_the_one_of_least_loss(
    final,
):
    target = occupancy(CARPET, WINDOW, 81, supersample=3).round()
    setup = Setup(maps=8, size=81, stroke=0.0)
    bad, good = 0.8 * CARPET.double(), CARPET.double()
    run = run_of(bad, good, setup=setup, target=target)
    loss = torch.tensor([0.25, 0.5])
    state = report(run, target, loss, final)
    assert torch.allclose(state.maps, (good if final else bad).float().double())
    assert state.loss == (0.5 if final else 0.25)
    assert (state.iou > 0.95) == final
    size = 81 if final else 32
    assert state.trace == [{"step": 0, "size": size, "loss": state.loss, "iou": state.iou}]
    assert (state.step, state.steps, state.size) == (0, 99, size)
    assert torch.equal(state.path[-1][1], state.maps)


def test_the_way_of_the_leader_ends_with_the_pen_it_was_given():
    target = torch.from_numpy(discs(0.1, 64, parts=8)).round().float()
    run = run_of(0.9 * dots(), dots(), setup=Setup(maps=3, size=64), target=target)
    state = report(run, target, torch.tensor([0.1, 0.2]), end=True)
    assert torch.allclose(state.maps, dots(), atol=1e-6)
    assert state.path[-1][2] == pytest.approx(state.stroke)
    assert state.stroke == pytest.approx(0.1, abs=0.4 / 64)
    assert run.path_stroke[-1].tolist() == [0, pytest.approx(state.stroke)]


def test_a_system_without_a_loss_leads_only_where_all_are_such():
    target = disc(0.5, 32)
    setup = Setup(maps=3, size=32)
    run = run_of(dots(), CORNER_GASKET, setup=setup, target=target)
    state = report(run, target, torch.tensor([math.nan, 3.0]))
    assert torch.allclose(state.maps, CORNER_GASKET.double())


def test_the_best_so_far_is_kept_with_its_pen():
    target = torch.from_numpy(discs(0.1, 64, parts=8)).round().float()
    setup = Setup(maps=3, size=64)
    run = run_of(dots(), stroke=0.1, setup=setup, target=target)
    first = report(run, target, torch.zeros(1))
    run.maps, run.stroke, run.step = run.maps * 0.9, torch.tensor([0.05]), 10
    second = report(run, target, torch.zeros(1))
    assert second.iou < first.iou == second.best_iou
    assert second.stroke == pytest.approx(0.05)
    assert second.best_stroke == pytest.approx(0.1)
    assert torch.equal(second.best_maps, first.maps)
    assert [step for step, _, _ in second.path] == [0, 10]
    assert [round(stroke, 3) for _, _, stroke in second.path] == [0.1, 0.05]
    run.step = 20
    last = report(run, target, torch.zeros(1), end=True)
    assert torch.equal(last.maps, first.maps)
    assert last.iou == last.best_iou
    assert torch.equal(last.path[-1][1], first.maps)
    assert last.stroke == last.path[-1][2] == first.stroke
    assert torch.equal(last.picture, evaluate(first.maps, target, 0.1).picture)


def test_a_complete_fit_that_goes_on_may_end_with_what_it_had():
    target = torch.from_numpy(discs(0.1, 64, parts=8)).round().float()
    run = run_of(dots(), stroke=0.1, setup=Setup(maps=3, size=64, stroke=0.1), target=target)
    run.before = [(run.maps[0].clone(), 0.1)]
    run.maps = 0.9 * run.maps
    assert torch.equal(report(run, target, torch.zeros(1), end=True).maps.float(), run.before[0][0])


def test_without_a_pen_a_search_for_pens_judges_as_without_a_search():
    target = occupancy(CARPET, WINDOW, 81, supersample=6).round()
    found = evaluate(CARPET, target, search_stroke=True, quality="draft")
    assert found.stroke == 0
    assert torch.equal(found.picture, evaluate(CARPET, target, quality="draft").picture)


def test_pens_are_taken_only_where_they_are_worth_three_hundredths():
    """Both pens gain about as much as their rims are of all; see `judge.PEN_GAIN`."""
    for pen, asked, stage, taken in (
        (0.004, None, -1, False),
        (0.05, None, -1, True),
        (0.05, 0.0, -1, False),  # none is to be used
        (0.05, None, 0, False),  # not yet
    ):
        target = occupancy(CARPET, WINDOW, 81, stroke=pen, supersample=6).round()
        setup = Setup(maps=8, size=81, stroke=asked)
        run = run_of(CARPET, setup=setup, target=target)
        run.stage = stage % len(run.plan)
        run.choose_pens(target)
        assert (run.stroke is not None) == taken, pen


@pytest.mark.parametrize("end", [False, True])
def test_of_two_that_are_as_good_the_first_is_kept_on_the_way_and_the_last_at_the_end(end):
    """The same carpet, its maps in another order."""
    target = occupancy(CARPET, WINDOW, 81, supersample=3).round()
    run = run_of(CARPET, setup=Setup(maps=8, size=81, stroke=0.0, bound=0.5), target=target)
    first = report(run, target, torch.zeros(1))
    run.maps, run.step = run.maps.flip(1), 10
    again = report(run, target, torch.zeros(1), end=end)
    assert again.iou == pytest.approx(first.iou, abs=0.02)
    kept = first.maps.flip(0) if end else first.maps
    assert torch.allclose(again.best_maps, kept, atol=0.05), "or what its collage comes down to"
    assert not torch.allclose(again.best_maps, kept.flip(0), atol=0.05)


def test_what_threads_share_comes_back_in_its_order(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    last = threading.Event()

    def slow_first(item: int) -> int:
        assert item or last.wait(10)  # the first of three is done last, in a thread of its own
        if item == 2:
            last.set()
        return 10 * item

    assert side_by_side(slow_first, range(3)) == [0, 10, 20]
