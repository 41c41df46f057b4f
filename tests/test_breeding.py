"""How a run goes from stage to stage: who is chosen and bred, how it rests, and what a complete one
goes on from."""

import dataclasses

import numpy as np
import pytest
import torch
from drawings import discs, dots
from systems import CARPET, CORNER_GASKET

from diff_ifs.fit import run as run_module
from diff_ifs.fit.judge import Evaluation, selection_scores
from diff_ifs.fit.run import Run
from diff_ifs.fit.stages import stages
from diff_ifs.setup import Setup

SETUP = Setup(maps=3, size=128, starts=8, points=2000)
TARGET = torch.from_numpy(discs(0.35, 128, places=[(-0.4, 0.3), (0.2, -0.1)])).float()


def run_at(stage: int, setup: Setup = SETUP) -> Run:
    run = Run.started(TARGET, setup, "cpu")
    run.stage = stage
    return run


def full(setup: Setup = SETUP) -> int:
    """The first stage without a pyramid, after which come the grown ones."""
    return next(k for k, stage in enumerate(stages(setup)) if not stage.levels)


@pytest.mark.parametrize(("after", "size"), [(1 - full(), 64), (-1, 128), (0, 128)])
def test_systems_are_chosen_at_twice_the_size_of_their_stage(after, size):
    """Of 128 pixels the first stages see 32, the one before full size 64; the target is no larger
    than it is."""
    run = run_at(full() + after)
    finer = run.finer(TARGET)
    assert finer.shape == (size, size)
    wanted = TARGET.view(size, 128 // size, size, 128 // size).mean((1, 3))
    assert torch.allclose(finer, wanted, atol=1e-6)


def test_a_grey_picture_is_judged_at_the_size_of_its_stage():
    run = run_at(1, dataclasses.replace(SETUP, grey=True))
    assert run.finer(TARGET).shape == (32, 32)


def test_of_the_copies_of_each_system_the_first_stays_as_it_is():
    run = run_at(2)
    copies = run.plan[2].copies
    assert (run.plan[2].systems, copies) == (4, 2)
    elite = run.maps[:4].clone()
    run.keep(torch.arange(4).repeat_interleave(copies))
    run.breed(TARGET)
    assert run.maps.shape == (8, 3, 2, 3)
    assert torch.equal(run.maps[::2], elite)
    assert (run.maps[1::2] != elite).flatten(1).any(1).all()
    assert torch.linalg.matrix_norm(run.maps[..., :2], 2).max() <= SETUP.bound + 1e-5


def bred(stage: int, seed: int) -> torch.Tensor:
    run = run_at(stage)
    run.setup = dataclasses.replace(SETUP, seed=seed)
    run.keep(torch.arange(4).repeat_interleave(2))
    run.breed(TARGET)
    return run.maps


def test_each_stage_and_each_seed_breeds_others():
    assert torch.equal(bred(2, 0), bred(2, 0))
    assert not torch.equal(bred(2, 0), bred(3, 0))
    assert not torch.equal(bred(2, 0), bred(2, 5))


def test_a_stage_of_one_copy_is_not_bred():
    run = run_at(len(stages(SETUP)) - 1)
    before = run.maps.clone()
    run.breed(TARGET)
    assert torch.equal(run.maps, before)


def test_the_last_stage_has_each_system_twice_one_half_after_the_other():
    run = run_at(full() + 1)
    run.keep(torch.tensor([3, 5]))
    pair = run.maps.clone()
    run.double()
    assert torch.equal(run.maps, torch.cat([pair, pair]))
    run = run_at(full())
    run.double()
    assert len(run.maps) == 8


def test_systems_go_on_with_their_pens_and_their_ways_and_at_rest():
    run = run_at(0, dataclasses.replace(SETUP, stroke=0.1))
    run.stroke = torch.arange(8) / 100
    run.path_maps, run.path_stroke = [torch.arange(8.0)[:, None]], [torch.arange(8.0)]
    run.adam_step, run.first = 5, run.first + 1
    before = run.maps.clone()
    run.keep(torch.tensor([6, 1]))
    assert torch.equal(run.maps, before[[6, 1]])
    assert run.stroke.tolist() == pytest.approx([0.06, 0.01])
    assert run.path_maps[0].flatten().tolist() == [6, 1]
    assert run.path_stroke[0].tolist() == [6, 1]
    assert run.adam_step == 0
    assert not run.first.any()
    assert run.second.shape == run.maps.shape


def test_steps_are_counted_and_a_stage_that_ends_lets_the_optimiser_rest():
    run = run_at(0)
    ends = np.cumsum([stage.steps for stage in run.plan])
    run.first += 1
    for step in range(1, ends[1] + 1):
        run.advance()
        assert run.step == step
        assert (run.stage, run.stage_step) == (
            (0, step) if step < ends[0] else (1, step - ends[0]) if step < ends[1] else (2, 0)
        )
        if step < ends[0]:
            assert run.first.any()
        if step == ends[0]:
            assert not run.first.any()


def test_a_complete_fit_goes_back_to_its_last_stage_with_its_best_maps_and_their_way():
    run = run_at(0)
    run.keep(torch.tensor([0, 1, 2]))
    run.stroke = torch.tensor([0.1, 0.2, 0.3])
    run.path_steps = [0, 10]
    run.path_maps, run.path_stroke = (
        [run.maps + 0.5, run.maps.clone()],
        [run.stroke + 0.5, run.stroke.clone()],
    )
    run.best_maps, run.best_stroke = run.maps[1] + 1e-4, 0.25
    run.stage, run.step = len(run.plan), 77
    again = Run.resumed(run.snapshot(), SETUP, "cpu")
    assert (again.stage, again.stage_step, again.step) == (len(run.plan) - 1, 0, 77)
    assert again.steps == 77 + run.plan[-1].steps
    assert torch.equal(again.maps, run.best_maps[None])
    assert again.stroke.tolist() == [0.25]
    assert torch.equal(again.path_maps[0], run.maps[1:2] + 0.5)
    assert again.path_stroke[1].tolist() == pytest.approx([0.2])
    half = run_at(1)
    half.stage_step, half.step = 3, 43
    again = Run.resumed(half.snapshot(), SETUP, "cpu")
    assert again.steps == 43 - 3 + sum(stage.steps for stage in half.plan[1:])
    assert torch.equal(again.maps, half.maps)


def test_pinholes_and_dust_count_for_little_when_systems_are_chosen():
    """With all pixels hit that hold one of four sub-pixels, and with the best pen, which fills what
    is thin."""
    gasket = CORNER_GASKET * 0.9
    target = torch.zeros(64, 64)
    (row, column) = np.mgrid[:64, :64]
    target[
        torch.from_numpy(
            (row - 3.2 >= 64 - 6.4 - column - 60) & (column >= 3) & (row <= 60) & (column <= row)
        )
    ] = 1
    bare, penned = selection_scores(gasket, target, SETUP)
    assert penned > bare
    given = selection_scores(gasket, target, dataclasses.replace(SETUP, stroke=0.0))
    assert given[0] == given[1] < bare, "one sub-pixel each has more holes"
    empty = selection_scores(dots([(5.0, 5.0)] * 3), target, SETUP)
    assert empty == (0, 0)


def test_the_carpet_is_best_chosen_as_itself():
    setup = dataclasses.replace(SETUP, maps=8, size=81)
    target = torch.ones(1, 1)
    for _ in range(4):
        target = torch.kron(target, torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]]))
    true = selection_scores(CARPET, target, setup)
    assert true[0] > 0.75
    for other in (CARPET * 0.95, CARPET * 1.04):
        assert selection_scores(other, target, setup)[0] < true[0] - 0.05


def test_no_system_is_chosen_twice(monkeypatch):
    """Two by their attractors, and two of the others by their loss, however good that of the first
    two is."""
    run = run_at(2)
    run.plan[2] = dataclasses.replace(run.plan[2], copies=1)
    before, scores = run.maps.clone(), iter([(k == 5, k == 3) for k in range(8)])
    monkeypatch.setattr(run_module, "selection_scores", lambda *_: next(scores))
    monkeypatch.setattr(Run, "losses", lambda *_: torch.tensor([9.0, 8, 2, 0, 7, 1, 6, 3]))
    run.select(TARGET)
    assert torch.equal(run.maps, before[[5, 3, 2, 7]])


@pytest.mark.parametrize(("after", "best"), [(1, [5, 3]), (2, [3])])
def test_between_grown_stages_the_pen_chooses_first(after, best, monkeypatch):
    """The fifth system hits most pixels, and the third is the best with a pen."""
    run = run_at(full() + after)
    before, scores = run.maps.clone(), iter([(k == 5, k == 3) for k in range(8)])
    monkeypatch.setattr(run_module, "selection_scores", lambda *_: next(scores))
    run.select(TARGET)
    assert torch.equal(run.maps, before[best])


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        (None, [(0.5, 0.1), (0.8, 0.2)], [0.1, 0.2]),
        (None, [(0.5, 0.0), (0.8, 0.2)], [0.2, 0.2]),  # the best one's, where there is no other
        (None, [(0.5, 0.1), (0.73, 0.2)], [0.1, 0.2]),  # three hundredths more than without
        (None, [(0.5, 0.1), (0.729, 0.2)], None),
        (None, [(0.5, 0.1), (0.8, 0.0)], None),  # the best has none
        ([0.3, 0.4], [(0.5, 0.1), (0.6, 0.0)], [0.1, 0.4]),
    ],
)
def test_each_system_has_its_own_pen_if_the_best_gains_by_one(before, found, after, monkeypatch):
    def evaluate(maps, target, search_stroke=False, quality="final"):
        assert quality == "draft"
        iou, stroke = found[int(maps[0, 0, 0])] if search_stroke else (0.7, 0.0)
        return Evaluation(iou, stroke, target, iou)

    monkeypatch.setattr(run_module, "evaluate", evaluate)
    without = (dataclasses.replace(SETUP, grey=True), dataclasses.replace(SETUP, stroke=0.0))
    for setup in (SETUP, *without):
        run = run_at(full(setup), setup)
        run.maps = torch.arange(2.0)[:, None, None, None].expand(2, 3, 2, 3)
        run.stroke = None if before is None else torch.tensor(before)
        run.choose_pens(TARGET)
        wanted = after if setup is SETUP else before
        assert (run.stroke is None) == (wanted is None)
        assert wanted is None or run.stroke.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("found", "best_iou", "kept"), [(0.701, 0.6, True), (0.701, 0.7015, False)]
)
def test_where_all_is_refined_any_pen_that_gains_is_taken_and_its_picture_remembered(
    found, best_iou, kept, monkeypatch
):
    def evaluate(maps, target, search_stroke=False, quality="final"):
        iou, stroke = (found, 0.2) if search_stroke else (0.7, 0.0)
        return Evaluation(iou, stroke, target, iou)

    monkeypatch.setattr(run_module, "evaluate", evaluate)
    assert not run_at(0).refines()
    for stage, pen in ((full() + 1, False), (full() + 2, True)):
        run = run_at(stage)
        assert run.refines() == pen
        run.best_score = run.best_iou = best_iou
        run.keep(torch.tensor([4]))
        run.choose_pens(TARGET)
        assert (run.stroke is not None) == pen
        assert run.best_iou == run.best_score == (found if pen and kept else best_iou)
        assert run.best_maps.equal(run.maps[0]) == (pen and kept)
        assert run.best_stroke == (0.2 if pen and kept else 0)


@pytest.mark.parametrize(
    ("maps", "stage", "step", "judged"),
    [
        (8, 0, 20, 1),
        (8, 1, 20, 1),
        (8, 1, 0, 4),
        (3, 1, 20, 4),
        (3, 0, 0, 1),
        (8, 4, 20, 4),
    ],
)
def test_all_are_judged_in_the_last_stage_and_where_a_grown_one_ends(
    maps, stage, step, judged, monkeypatch
):
    """And in all grown stages if maps are few."""
    setup, asked = dataclasses.replace(SETUP, maps=maps), []

    def evaluate(maps, target, stroke, search_stroke, grey, quality):
        asked.append(maps)
        return Evaluation(0.5, stroke, target, 0.5)

    run = run_at(full(setup) + stage, setup)
    run.keep(torch.arange(4))
    monkeypatch.setattr(run_module, "evaluate", evaluate)
    of, run.stage_step = run.plan[run.stage], step
    run.stage += step == 0
    run.report(TARGET, of, torch.tensor([3.0, 2, 1, 4]))
    assert len(asked) == judged
    assert judged > 1 or asked[0].equal(run.maps[2])
