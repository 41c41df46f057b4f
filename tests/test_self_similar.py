"""Systems of few maps that are found by their collages."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from diff_ifs.backend import load_kernels
from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit import run as runs
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.run import Run
from diff_ifs.fit.self_similar import (
    descend_collage,
    distinct,
    polished,
    random_copies,
    ranked,
    self_similar,
    with_maps_anew,
)
from diff_ifs.setup import WINDOW, Setup, affine, similarity
from train_ifs import fit


def square() -> np.ndarray:
    """A square of 24 pixels a side in a picture of 32: three quarters of the window."""
    picture = np.zeros((32, 32))
    picture[4:28, 4:28] = 1
    return picture


def errors(*maps) -> float:
    return float(load_kernels().collage_errors(np.array([maps], dtype=float), square())[0][0])


def test_what_no_image_covers_is_missed_and_what_two_cover_counts_once():
    # Two images, 0.4 and 0.6 of the square's width, at its left and right ends: a gap of a fifth of
    # 24 × 24 pixels of 32 × 32, and an overlap of a fifth.
    for width, missed in ((0.4, 0.2 * 24**2 / 32**2), (0.6, 0.0)):
        shift = 0.75 * (1 - width)
        pair = affine(width, 0, 0, 1, -shift, 0), affine(width, 0, 0, 1, shift, 0)
        assert errors(*pair) == pytest.approx(missed, abs=0.02)  # edges are soft
    assert errors(affine(1, 0, 0, 1), affine(1, 0, 0, 1)) == pytest.approx(0, abs=1e-9)


def test_what_leaves_the_picture_is_missed_too():
    # Half a width to the right: 12 of 24 columns are missed, and of those that the image has beyond
    # the square, 4 are in the picture.
    assert errors(affine(1, 0, 0, 1, 0.75, 0)) == pytest.approx((12 + 4) * 24 / 32**2, abs=0.02)


def test_gradient_of_the_error_agrees_with_finite_differences():
    random = np.random.default_rng(0)
    picture = random.random((12, 12))
    shrink = [similarity(s, degrees=a) for s, a in ((0.5, 20), (0.7, 200), (0.9, 70))]
    maps = np.array([shrink, shrink]) + 0.1 * random.normal(size=(2, 3, 2, 3))
    found, gradient = load_kernels().collage_errors(maps, picture)
    for place in np.ndindex(maps.shape):
        step = np.zeros_like(maps)
        step[place] = 1e-7
        ahead, behind = (
            load_kernels().collage_errors(maps + sign * step, picture)[0] for sign in (1, -1)
        )
        assert gradient[place] == pytest.approx((ahead - behind).sum() / 2e-7, abs=1e-5)
    assert found.shape == (2,)


def test_a_flat_map_draws_a_line():
    flat = affine(1, 0, 0, 0)  # takes the square to a line that has no width of its own
    beside = affine(1, 0, 0, 0, 0, 0.25)
    # The square has 24 rows, of which a line is two.
    assert errors(flat) == pytest.approx(22 * 24 / 32**2, abs=0.01)
    assert errors(flat, beside) == pytest.approx(20 * 24 / 32**2, abs=0.01)


def test_collage_errors_are_those_of_all_images_drawn_whole():
    """Copies of noise that end anywhere in the picture, by the interpolation of SciPy."""
    side, chance = 32, torch.Generator().manual_seed(3)
    picture = np.random.default_rng(0).random((side, side))
    maps = random_copies(torch.ones(side, side), 40, 3, chance)
    maps[..., 2] += 0.6 * torch.randn(40, 3, 2, generator=chance, dtype=torch.float64)
    x = (2 * np.arange(side) + 1) / side - 1
    places = np.stack(np.meshgrid(x, -x))
    for system, error in zip(
        maps, load_kernels().collage_errors(maps.numpy(), picture)[0], strict=True
    ):
        bare = np.ones((side, side))
        for a, b, e, c, d, f in system.flatten(1).tolist():
            back = np.linalg.inv([[a, b], [c, d]])
            u, v = np.einsum("ij,jkl->ikl", back, places - np.array([e, f])[:, None, None])
            at = np.stack([(1 - v) * side / 2 - 0.5, (1 + u) * side / 2 - 0.5])
            bare *= 1 - map_coordinates(picture, at, order=1) * ((at > 0) & (at < side - 1)).all(0)
        assert error == pytest.approx(np.square(1 - bare - picture).mean(), rel=1e-6)


def test_random_copies_are_smaller_and_lie_in_the_picture():
    target = torch.zeros(32, 32)
    target[2:8, 10:30] = 1  # at the top
    maps = random_copies(target, 200, 2, torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(maps[..., :2])
    assert 0.34 < float(values[..., 0].min()) < 0.4
    assert 0.9 < float(values[..., 0].max()) < 0.96
    assert 0.29 < float((values[..., 1] / values[..., 0]).min()) < 0.35
    flipped = float((torch.linalg.det(maps[..., :2]) < 0).double().mean())
    assert 0.4 < flipped < 0.6
    middle = torch.tensor([0.25, 0.6875], dtype=torch.float64)
    x, y = (maps[..., :2] @ middle + maps[..., 2]).unbind(-1)
    assert -0.375 < float(x.min()) < 0 < 0.5 < float(x.max()) < 0.875
    assert 0.5 < float(y.min()) < float(y.max()) < 0.875


def test_descent_comes_to_the_maps_that_make_a_picture_up():
    maps = torch.tensor([[similarity(0.5, at=at) for at in ((-0.4, -0.4), (0.4, -0.4), (0, 0.4))]])
    gasket = occupancy(maps[0].double(), WINDOW, 64)
    near = maps.double() + 0.03 * torch.randn(
        1, 3, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found, error = descend_collage(near, gasket, 80, 0.01, (1.0, 0.4), 0.97)
    assert float((found - maps).abs().max()) < 0.01 < float((near - maps).abs().max())
    exact = load_kernels().collage_errors(maps.double().numpy(), gaussian_filter(gasket, 0.4))[0]
    assert float(error) < 1.05 * float(exact[0])


def slow() -> torch.Tensor:
    """Two maps that shrink little, whose images overlap: areas of 0.64 and 0.49."""
    return torch.tensor(
        [similarity(0.8, degrees=35, at=(-0.05, 0.1)), similarity(0.7, 160, at=(0.2, -0.25))],
        dtype=torch.float64,
    )


@pytest.mark.slow
def test_slow_maps_that_overlap_are_found_from_their_picture():
    target = (occupancy(slow(), WINDOW, 128) >= 0.5).float()
    found = self_similar(target, Setup(maps=2, size=128, starts=32))
    assert found.shape == (2, 2, 3)
    assert evaluate(found, target).iou > 0.9


@pytest.mark.parametrize(
    ("setup", "joins"),
    [
        (Setup(maps=2, size=32, starts=4, steps=24, rounds=0), 1),
        (Setup(maps=2, size=32, starts=4, steps=24, rounds=0, depth=3), 0),
        (Setup(maps=8, size=32, starts=4, steps=24, rounds=0), 0),
        (Setup(maps=slow().tolist(), size=32, starts=4, steps=24, rounds=0), 0),
        (Setup(maps=2, size=32, starts=4, steps=24, rounds=0, grey=True), 0),
    ],
)
def test_one_joins_a_fit_of_few_maps_before_its_grown_stages(monkeypatch, setup, joins):
    target, asked = (occupancy(slow(), WINDOW, 32) >= 0.5).float(), []

    def found(target, setup):
        asked.append(setup.n)
        return slow().float()

    monkeypatch.setattr(runs, "self_similar", found)
    run = Run.started(target, setup, "cpu")
    for stage, plan in enumerate(run.plan):
        run.stage = stage
        run.select(target)
        before = len(run.maps)
        run.join(target)
        now = joins and plan.grown and not run.plan[stage - 1].grown
        assert len(run.maps) - before == now
        assert not now or torch.equal(run.maps[-1], slow().float())
    assert len(asked) == joins


def gasket() -> torch.Tensor:
    places = ((-0.45, -0.45), (0.45, -0.45), (0.0, 0.45))
    return torch.tensor([similarity(0.5, at=at) for at in places], dtype=torch.float64)


def test_maps_that_are_nearly_right_are_polished_and_others_left():
    places = [(x, y) for x in (-0.6, 0, 0.6) for y in (-0.6, 0, 0.6) if x or y]
    carpet = torch.tensor([similarity(1 / 3, at=at) for at in places], dtype=torch.float64)
    target = (occupancy(carpet, WINDOW, 128, supersample=4) >= 0.5).float()
    noise = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near = carpet + 0.006 * noise
    found = polished(near, target, Setup(maps=8))
    assert float((found - carpet).abs().mean()) < 0.4 * float((near - carpet).abs().mean())
    assert polished(carpet[:6], target, Setup(maps=6)) is None  # a quarter is missing


@pytest.mark.parametrize("better", [True, False])
def test_a_fit_ends_with_polished_maps_if_they_are_better(monkeypatch, better):
    target = (occupancy(gasket(), WINDOW, 64) >= 0.5).float()
    worse = gasket() + torch.tensor([0.0, 0.0, 0.1])
    maps, other = (worse, gasket()) if better else (gasket(), worse)
    setup = Setup(maps=maps.tolist(), size=64, starts=1, stroke=0.0, rate=1e-5, steps=10, rounds=0)
    monkeypatch.setattr(runs, "polished", lambda *_: other)
    *_, state = fit(target, setup)
    exact, kept = evaluate(state.maps, target), evaluate(state.best_maps, target)
    assert torch.allclose(state.maps, gasket(), atol=1e-3)
    assert torch.allclose(state.path[-1][1], gasket(), atol=1e-3)
    assert torch.allclose(state.best_maps, gasket(), atol=1e-3)
    assert state.iou == exact.iou > 0.95
    assert state.best_iou == kept.iou >= exact.iou
    assert not better or torch.equal(state.best_maps, state.maps)
    assert torch.equal(state.picture, exact.picture)


def test_what_a_pen_drew_is_not_polished(monkeypatch):
    target = (occupancy(gasket(), WINDOW, 64, stroke=0.05) >= 0.5).float()
    common = {"size": 64, "starts": 1, "rate": 1e-5, "steps": 10, "rounds": 0}
    asked = []
    monkeypatch.setattr(runs, "polished", lambda *_: asked.append(1))
    for stroke, times in ((0.05, 0), (0.0, 1)):
        *_, state = fit(target, Setup(maps=gasket().tolist(), stroke=stroke, **common))
        assert (state.best_stroke > 0, len(asked)) == (stroke > 0, times)


def test_systems_with_a_map_that_hardly_moves_the_picture_come_last():
    still = torch.tensor([similarity(0.95), similarity(0.3)], dtype=torch.float64)
    small = torch.tensor([similarity(0.85), similarity(0.3)], dtype=torch.float64)
    maps = torch.stack([still, small, small, still])
    assert ranked(maps, torch.tensor([0.1, 0.4, 0.3, 0.0])).tolist() == [2, 1, 3, 0]


def test_systems_are_the_same_in_whatever_order_their_maps_are():
    first, moved = slow(), slow() + torch.tensor([0.0, 0.0, 0.1])
    maps = torch.stack([first, first.flip(0), first + 1e-4, moved, moved.flip(0), moved + 0.5])
    assert torch.equal(distinct(maps, 8), maps[[0, 3, 5]])
    assert torch.equal(distinct(maps, 2), maps[[0, 3]])


def test_of_each_system_copies_have_a_map_or_two_anew():
    target = (occupancy(gasket(), WINDOW, 64) >= 0.5).float()
    elite = torch.stack([gasket(), gasket() + torch.tensor([0.0, 0.0, 0.05])])
    bred = with_maps_anew(elite, target, target, torch.Generator().manual_seed(0))
    assert bred.shape == (16, 3, 2, 3)
    assert torch.equal(bred[:2], elite), "first the systems themselves"
    anew = (bred[2:] != elite.repeat_interleave(7, 0)).any(3).any(2).sum(1)
    assert set(anew.tolist()) == {1, 2}


def test_a_map_that_is_not_missed_is_placed_anew_most_often():
    target = (occupancy(gasket(), WINDOW, 64) >= 0.5).float()
    idle = torch.cat([gasket(), gasket()[:1]])  # two maps that do the same
    bred = with_maps_anew(
        idle.expand(30, 4, 2, 3), target, target, torch.Generator().manual_seed(0)
    )
    often = (bred[30:] != idle).any(3).any(2).sum(0)
    assert often[[0, 3]].min() > 1.5 * often[[1, 2]].max()


def test_the_best_of_forty_places_is_taken():
    target = (occupancy(gasket(), WINDOW, 64) >= 0.5).float()
    lame = gasket()
    lame[2] = torch.tensor(similarity(0.2, at=(0.7, -0.9)))  # where nothing is missing
    generator = torch.Generator().manual_seed(0)
    bred = with_maps_anew(lame.expand(4, 3, 2, 3), target, target, generator)
    mended = bred[(bred[:, :2] == lame[:2]).flatten(1).all(1) & (bred[:, 2] != lame[2]).any((1, 2))]
    chance = lame.repeat(64, 1, 1, 1)
    chance[:, 2] = random_copies(target, 64, 3, generator)[:, 2]

    def missed(maps: torch.Tensor) -> np.ndarray:
        return load_kernels().collage_errors(maps.numpy(), target.double().numpy())[0]

    assert len(mended) > 2
    assert missed(mended).max() < np.median(missed(chance))
