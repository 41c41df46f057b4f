"""Steps of a search, each on its own: how many systems go where, what is judged and tried."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots

from diff_ifs.fit import census, judge, self_similar, spirals
from diff_ifs.fit.collage import Collage
from diff_ifs.fit.judge import Evaluation, evaluate
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.stages import stages
from diff_ifs.kernels import chain, density
from diff_ifs.kernels.descent import descend
from diff_ifs.setup import Setup, affine, similarity

SMALL = Setup(maps=3, size=32, points=500, starts=64)


def box(size: int = 32) -> torch.Tensor:
    picture = torch.zeros(size, size)
    picture[size // 4 : size // 2, size // 8 : -size // 4] = 1
    return picture


# --- Judgements ---


def test_pens_are_looked_for_from_a_quarter_of_a_pixel_on_and_a_quarter_of_one_around(monkeypatch):
    """In world units, of which 64 pixels have two: around 0.05 by an eighth of a pixel each."""
    told, tried = {}, []

    def best_radius(near, wanted, finest):
        told.update(finest=finest)
        return 0.05

    drawn = judge.drawn_with_pens

    def seen(maps, window, size, strokes, supersample):
        tried.extend(strokes)
        return drawn(maps, window, size, strokes, supersample)

    monkeypatch.setattr(judge, "best_radius", best_radius)
    monkeypatch.setattr(judge, "drawn_with_pens", seen)
    target = torch.from_numpy(discs(0.05, 64, parts=8)).round().float()
    found = evaluate(dots(), target, search_stroke=True)
    assert told == {"finest": 2 / 64}
    assert tried == pytest.approx([0.05 + k / 512 for k in (-2, -1, 0, 1, 2)])
    assert found.stroke in tried
    alone = [evaluate(dots(), target, pen) for pen in tried]
    assert found.iou == max(each.iou for each in alone)


@pytest.mark.parametrize(("size", "quality", "part"), [(512, "draft", 9), (513, "draft", 1),
                                                       (513, "final", 9)])  # fmt: skip
def test_large_drafts_have_one_sub_pixel(size, quality, part):
    found = evaluate(dots(PLACES[:1]), torch.zeros(size, size), quality=quality)
    assert float(found.picture.sum()) == pytest.approx(1 / part)


@pytest.mark.parametrize(("gain", "pen"), [(0.0021, True), (0.0019, False)])
def test_a_pen_must_gain_two_thousandths(gain, pen, monkeypatch):
    """Of 5000 pixels that a bare picture shares with the target of 10,000."""
    target, part = torch.ones(100, 100), torch.zeros(100, 100)
    part[:50] = 1
    drawn = part.clone()
    drawn[50, : round(gain * 10_000)] = 1
    monkeypatch.setattr(judge, "best_radius", lambda *_, **__: 0.05)
    monkeypatch.setattr(judge, "drawn_with_pens", lambda *_: [part, drawn, part, part, part])
    away = torch.kron(1 - part, torch.ones(3, 3))
    monkeypatch.setattr(judge, "distance", lambda *_, **__: away)
    found = evaluate(dots(), target, search_stroke=True, quality="draft")
    assert found.stroke == (pytest.approx(0.05 - 1 / 800) if pen else 0)
    assert found.iou == pytest.approx(0.5 + gain * pen)


# --- The objective ---


@pytest.mark.parametrize(("depth", "halves"), [(2, (3, 3)), (3, (9, 3)), (4, (9, 9)), (1, (3, 1))])
def test_all_words_of_a_depth_are_made_of_two_halves(depth, halves):
    setup = dataclasses.replace(SMALL, depth=depth)
    objective = Objective(box(), stages(setup)[0], setup)
    maps = torch.tensor([similarity(0.5, at=(x, 0.1)) for x in (-0.5, 0, 0.4)])[None].repeat(
        2, 1, 1, 1
    )
    objective.refresh(maps, None, 1.0)
    first, second = objective.words
    assert tuple(words.shape[-2] for words in (first, second)) == halves
    assert first.shape[-1] + second.shape[-1] == depth


@pytest.mark.parametrize(
    ("pen", "alphas"), [(0.1, [2.4, 2.4, 4.8, 4.8]), (None, [2.4, 2.4, 4.5, 4.5])]
)
def test_the_halves_of_a_grown_stage_have_their_own_alphas(pen, alphas):
    """That of the stage, and with pens its double, else one and a half as the setup scales it."""
    setup = dataclasses.replace(SMALL, solidity=3.0)
    stage = dataclasses.replace(stages(setup)[-1], solidity=2.4)
    objective = Objective(box(), stage, setup)
    maps = torch.tensor([similarity(0.4, at=(x, 0)) for x in (-0.5, 0, 0.4)])[None].repeat(
        4, 1, 1, 1
    )
    objective.refresh(maps, None if pen is None else torch.full((4,), pen), 0.3)
    assert objective.alphas.tolist() == pytest.approx(alphas)
    assert len(objective.trees) == 4


def test_each_pen_has_its_own_alpha_and_disc():
    """Of one and of three pixels; systems with the same pen share theirs."""
    setup = dataclasses.replace(SMALL, size=64)
    objective = Objective(box(64), dataclasses.replace(stages(setup)[0], size=64), setup)
    maps = torch.tensor([similarity(0.4, at=(x, 0)) for x in (-0.5, 0, 0.4)])[None].repeat(
        3, 1, 1, 1
    )
    objective.refresh(maps, torch.tensor([1 / 32, 3 / 32, 1 / 32]), 1.0)
    mean = (1 + 3 + 1) / 3  # pixels; a disc has a quarter of its square as variance
    assert objective.beyond_pen(2.0) ** 2 + mean**2 / 4 == pytest.approx(4)
    assert objective.discs.shape == (3, 7, 7)
    wide = (objective.discs > 0).sum((1, 2)).tolist()
    assert wide[0] == wide[2] < wide[1]
    assert objective.alphas[0] == objective.alphas[2] != objective.alphas[1]
    assert objective.even.sum((1, 2)).tolist() == pytest.approx([float(box(64).sum())] * 2)


def test_points_beyond_the_window_pay_for_their_distance_in_windows():
    """Half of the mass lies a quarter of its side to the right of it, beside what is wanted."""
    setup = Setup(maps=2, size=64, points=500, starts=2)
    stage = dataclasses.replace(stages(setup)[0], size=64, levels=0)
    target = torch.zeros(64, 64)
    target[30:34, 60:] = target[30:34, 4:8] = 1
    maps = torch.tensor([similarity(0.01, at=(-0.81, 0.0)), similarity(0.01, at=(1.485, 0.0))])[
        None
    ]
    losses = []
    for pull in (0.0, 0.8):
        objective = Objective(target, stage, dataclasses.replace(setup, pull=pull))
        objective.refresh(maps, None, 1.0)
        losses.append(float(objective(maps, 1.0)))
    assert losses[1] - losses[0] == pytest.approx(0.8 * 0.25 / 2, rel=0.08)


# --- How many maps ---


def test_a_census_searches_with_few_starts_of_which_half_and_a_quarter_go_on(monkeypatch):
    runs, judged = [], []
    honest = census.Run.started

    def started(target, setup, device):
        runs.append((setup, len(target)))
        return honest(target, setup, device)

    def step(objective, run):
        sizes.append((len(run.maps), objective.stage.size))
        return torch.arange(len(run.maps), 0, -1) / 10 / run.setup.n  # the last is the best

    def scores(maps, finer, setup):
        judged.append(len(finer))
        return 0.9, 0.5 + 0.01 * len(judged)

    sizes = []
    monkeypatch.setattr(census, "LADDER", (12, 8, 3))
    monkeypatch.setattr(census.Run, "started", started)
    monkeypatch.setattr(census, "descend", step)
    monkeypatch.setattr(census, "selection_scores", scores)
    setup = Setup(size=300, starts=100, depth=None, steps=200, rounds=3)
    found = list(census.census(box(300), setup, "cpu"))
    assert [(short.n, short.batch, short.rounds, short.size) for short, _ in runs] == [
        (n, 32, 0, 256) for n in (12, 8, 3)
    ]
    assert {size for _, size in runs} == {256}
    assert [rung.n for rung in found] == [12, 8, 3]
    assert found[0].misfit == pytest.approx(1 - 0.58), "the best of the eight"
    assert {rung.side for rung in found} == set(judged) == {128}
    assert found[0].loss == pytest.approx(0.1 / 12)
    assert sorted({count for count, _ in sizes}) == [16, 32]
    few = dataclasses.replace(setup, starts=5)
    runs.clear()
    next(census.census(box(300), few, "cpu"))
    assert runs[0][0].batch == 5


def test_where_no_picture_is_asked_the_promise_is_that_of_silhouettes():
    for setup in (Setup(grey=True), Setup(depth=3)):
        assert census.count(box(), setup, "cpu") == (12, 0.75)
    assert census.count(box(), Setup(grey=True, maps=5), "cpu").n == 5


# --- Collages ---


@pytest.mark.parametrize(("number", "taken"), [(60, True), (75, False)])
def test_a_climb_ends_where_its_steps_have_become_too_short(number, taken):
    """From 0.3 by 7 % each: 64 failures lead below 0.003."""
    collage = Collage(box(64))
    left = collage.pixels[:40]
    maps = torch.tensor([affine(0.3, 0, 0, 0.3, 0.4, 0.5)]).double()
    noise = torch.zeros(1, 80, 2, 3).double()
    noise[0, number, 0, 2] = -60.0 if taken else -200.0  # towards what is left
    found, costs = collage.climb(maps, left, collage.pixels, 0.9, 1.0, noise)
    before = collage.climb(maps, left, collage.pixels, 0.9, 1.0, noise * 0)[1]
    assert (float(found[0, 0, 2]) < 0.39) == taken
    assert (float(costs) < float(before)) == taken


def test_systems_of_a_collage_are_as_many_as_is_said(monkeypatch):
    """Twice as many as a fit has starts; an eighth of these, eight of each of the best eight, eight
    times; a sixteenth, eight of each of the best four, six times; the best eight at last."""
    made, bred = [], []

    def descend_collage(maps, picture, steps, rate, blurs, bound):
        made.append((len(maps), len(picture), steps, bound))
        return maps, torch.arange(len(maps)).double()

    def with_maps_anew(elite, target, picture, generator):
        bred.append(len(elite))
        return elite.repeat_interleave(8, 0)

    monkeypatch.setattr(self_similar, "descend_collage", descend_collage)
    monkeypatch.setattr(self_similar, "with_maps_anew", with_maps_anew)
    monkeypatch.setattr(self_similar, "selection_scores",
                        lambda system, finer, setup: (0.1, float(system[0, 0, 2])))  # fmt: skip
    setup = dataclasses.replace(SMALL, size=64, starts=256, bound=0.9)
    found = self_similar.self_similar(box(128), setup)
    assert found.dtype == torch.float32
    assert made[0] == (512, 32, 150, 0.9)
    assert made[1] == (64, 64, 100, 0.9)
    assert [row[:3] for row in made[2:10]] == [(64, 64, 40)] * 8
    assert made[10][:3] == (32, 128, 80)
    assert [row[:3] for row in made[11:17]] == [(32, 128, 40)] * 6
    assert made[17][:3] == (8, 128, 150)
    assert len(made) == 18
    assert bred == [8] * 8 + [4] * 6
    made.clear()
    self_similar.self_similar(box(128), dataclasses.replace(setup, maps=2, starts=8))
    assert [row[:2] for row in made[::9]] == [(16, 32), (8, 64)], "at least one is bred"


def test_of_collages_the_one_whose_attractor_is_best_is_found(monkeypatch):
    """By either of its scores."""
    monkeypatch.setattr(self_similar, "descend_collage",
                        lambda maps, *_: (maps, torch.zeros(len(maps)).double()))  # fmt: skip
    calls = itertools.count()
    order = [(0.2, 0.1), (0.1, 0.7), (0.6, 0.2), (0.1, 0.1)]
    seen = []

    def scores(system, finer, setup):
        seen.append(system)
        return order[next(calls) % 4]

    monkeypatch.setattr(self_similar, "selection_scores", scores)
    found = self_similar.self_similar(box(64), Setup(maps=2, size=64, starts=16))
    assert torch.equal(found, seen[1].float())


def test_random_copies_lie_within_the_picture_the_large_ones_in_its_middle():
    picture = box(64)
    row, column = np.nonzero(picture.numpy())
    places = np.stack([(2 * column + 1) / 64 - 1, 1 - (2 * row + 1) / 64], axis=1)
    middle = places.mean(0)
    maps = self_similar.random_copies(picture, 200, 3, torch.Generator().manual_seed(0)).numpy()
    at = maps[..., :2] @ middle + maps[..., 2] - middle
    large, small = np.moveaxis(np.linalg.svd(maps[..., :2])[1], -1, 0)
    reach = np.linalg.norm(places - middle, axis=1).max()
    assert (np.linalg.norm(at, axis=-1) <= (1 - 0.7 * large) * reach + 1e-6).all()
    assert np.linalg.norm(at, axis=-1).max() > 0.6 * reach
    assert 0.35 <= large.min() < 0.37 < 0.93 < large.max() <= 0.95
    assert 0.3 <= (small / large).min() < 0.32
    assert (np.linalg.det(maps[..., :2]) < 0).mean() == pytest.approx(0.5, abs=0.06)


def test_what_is_not_nearly_its_own_collage_is_not_polished():
    """However small the picture is: a tenth of it may be wrong."""
    small = torch.zeros(64, 64)
    small[10:20, 10:20] = 1
    quarters = [similarity(0.5, at=((-0.515625 + x) / 2, (0.546875 + y) / 2))
                for x in (-0.15625, 0.15625) for y in (-0.15625, 0.15625)]  # fmt: skip
    maps, setup = torch.tensor(quarters), Setup(maps=4, size=64)
    assert self_similar.polished(maps, small, setup) is not None
    assert self_similar.polished(maps[:3], small, setup) is None


# --- Spirals ---


@pytest.mark.parametrize(
    ("misses", "best"), [((0.001, 0.001, 0.001), 2), ((0.001, 0.001, 0.05), 1), ((0.05,) * 3, None)]
)
def test_of_slow_maps_that_keep_a_line_the_one_that_draws_it_best_is_taken(
    misses, best, monkeypatch
):
    """Of three about (0.1, -0.15), with an end of a curve left to flat maps; what misses it by more
    than a pixel and a half is none."""
    angles = np.linspace(0, -9 * np.pi, 3000)
    radii = 0.7 * np.exp(0.09 * angles)
    target = np.zeros((128, 128), dtype=np.float32)
    for x, y in zip(radii * np.cos(angles), radii * np.sin(angles), strict=True):
        row, column = int((1.15 - y) * 64), int((1.1 + x) * 64)
        target[row - 1 : row + 2, column - 1 : column + 2] = 1
    turns = np.array([similarity(np.exp(0.09 * -a), np.degrees(-a)) for a in (0.9, 1.0, 1.1)])
    turns[:, :, 2] = [0.1, -0.15] - turns[:, :, :2] @ [0.1, -0.15]
    monkeypatch.setattr(spirals, "similarities", lambda line, away, setup: (
        torch.from_numpy(turns), torch.tensor(misses).double()))  # fmt: skip
    ious = iter((0.3, 0.5, 0.7) if max(misses) < 0.05 else (0.3, 0.5))
    monkeypatch.setattr(
        spirals, "evaluate", lambda m, picture, **_: Evaluation(next(ious), 0, m, 0)
    )
    found = spirals.spiral(torch.from_numpy(target), Setup(maps=3, starts=4))
    if best is None:
        assert found is None
        return
    assert found.dtype == torch.float32
    assert found[0].numpy() == pytest.approx(turns[best], abs=1e-6)
    assert torch.linalg.det(found[1:, :, :2]).abs().max() < 1e-6


# --- Compiled loops ---


def test_a_game_chooses_the_first_letter_whose_cumulated_chance_exceeds_the_dice():
    """After each letter by its own row; letters are moves by 1, 2 and 3, of which the
    second shears, too."""
    maps = np.array([affine(1, 0, k == 2, 1, k, 10 * k) for k in (1, 2, 3)], dtype=float)
    chances = np.array([[0.2, 0.5, 1.0], [0.0, 0.0, 1.0], [0.6, 1.0, 1.0]])
    dice = np.array([0.19, 0.2, 0.999, 0.59, 0.5, 0.0])
    points, letters = np.empty((2, 6)), np.empty(6, dtype=np.int64)
    chain.play(maps, chances, 0, 5.0, 7.0, dice, points, letters)
    assert letters.tolist() == [0, 1, 2, 0, 2, 0]
    assert points[0].tolist() == [6, 8, 11, 12, 15, 16]
    assert points[1].tolist() == [17, 43, 73, 83, 113, 123], "6 more, from before the move"


def test_cells_are_free_for_each_letter_by_itself():
    """Two maps to the same place: both are kept there, but no second point of either."""
    maps = np.array([affine(0, 0, 0, 0, 1.5, 0.5), affine(0, 0, 0, 0, 1.6, 0.6),
                     affine(1, 0, 0, 1, 0, 0)], dtype=float)  # fmt: skip
    points, letters = np.array([[0.5, 2.5, -3.0], [0.5, 1.5, 9.0]]), np.array([0, 1, 2])
    follows = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], dtype=bool)
    free = np.ones((3, 6), dtype=bool)
    free[2, 3] = False  # the second row's first cell
    new, new_letters = np.empty((2, 9)), np.empty(9, dtype=np.int64)
    count = chain.iterate_by_letter(maps, follows, points, letters, free, 3, new, new_letters)
    assert count == 3
    assert new_letters[:3].tolist() == [0, 1, 2]
    assert new[:, :3].T.tolist() == [[1.5, 0.5], [1.6, 0.6], [0.5, 0.5]]
    assert not free[0, 1]
    assert not free[1, 1]
    assert free[0].sum() == free[1].sum() == 5


def test_particles_of_a_cell_become_one_at_their_centre_of_mass_with_its_address():
    maps = np.array([affine(1, 0, 0, 1, 0, 0), affine(0, 1, 1, 0, 1, 0)], dtype=float)
    digits, shares = np.array([[0.5, 0.0], [0.5, 0.5]]), np.array([0.25, 0.75])
    points, weights = np.array([[0.2, 0.6], [0.4, 0.8], [0.0, 1.0]]), np.array([1.0, 3.0])
    merged, masses = density.merge(maps, digits, shares, points, weights, 2, 3)
    assert masses.tolist() == [1.0, 3.0]
    assert merged[:, 0] == pytest.approx([0.5, 0.7, 0.375])
    assert merged[:, 1] == pytest.approx([1.7, 0.5, 0.875])


def test_maps_that_have_become_too_large_are_clamped_in_both_directions():
    """A first step of Adam is as long as the rate, against the gradient; what is not finite is
    none."""
    maps = np.array([[[0.5, 0, 0.1], [0, 0.5, 0.2]], [[0.98, 0, 0.0], [0, -0.97, 0]]])[None]
    gradient = np.array([[[2.0, 0, -3], [np.nan, np.inf, 1]], [[-1, 0, 0], [0, 1.0, 0]]])[None]
    first, second = np.zeros_like(maps), np.zeros_like(maps)
    found = descend(maps, gradient, first, second, 1, 0.1, 0.99)
    assert found[0, 0] == pytest.approx(np.array([[0.4, 0, 0.2], [0, 0.5, 0.1]]), abs=1e-6)
    assert found[0, 1] == pytest.approx(np.array([[0.99, 0, 0], [0, -0.99, 0]]), abs=1e-6)
    assert first[0, 0, 0, 0] == pytest.approx(0.2)
    assert second[0, 0, 0, 2] == pytest.approx(0.09)
