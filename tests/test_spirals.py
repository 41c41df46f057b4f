"""Systems of curves that a slow map takes along themselves."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from diff_ifs.fit import run as runs
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.run import Run
from diff_ifs.fit.spirals import flat_map, halved, missed, similarities, similarity_maps, spiral
from diff_ifs.setup import Setup

CENTRE = 0.15, -0.2  # of the spirals below


def curve(growth: float, turns: float = 8) -> np.ndarray:
    """Points (P, 2) of r = 0.75 e^(growth θ) about CENTRE, θ from so many turns inside to 0."""
    angles = np.linspace(-turns * 2 * math.pi, 0, 8000)
    radii = 0.75 * np.exp(growth * angles)
    return CENTRE + radii[:, None] * np.stack([np.cos(angles + 2), np.sin(angles + 2)], axis=1)


def drawn(points: np.ndarray, pen: float, size: int = 256) -> torch.Tensor:
    """Coverage (S, S) of a line through points (P, 2), `pen` pixels wide, by Pillow."""
    picture = Image.new("L", (8 * size, 8 * size))
    places = (points * (1, -1) + 1) * 4 * size
    ImageDraw.Draw(picture).line([tuple(place) for place in places], 255, round(8 * pen), "curve")
    return torch.from_numpy(np.asarray(picture.resize((size, size), Image.Resampling.BOX)) / 255)


@pytest.mark.slow
@pytest.mark.parametrize(("growth", "pen"), [(0.2, 3), (-0.27, 5)])
def test_a_logarithmic_spiral_is_a_slow_map_and_two_flat_ones(growth, pen):
    points = curve(abs(growth))
    if growth < 0:
        points = points * (1, -1)
    target = drawn(points, pen).float()
    maps = spiral(target, Setup(maps=3, starts=32))
    assert evaluate(maps, target, search_stroke=True, quality="draft").iou > 0.88
    slow, *flat = maps[:, :, :2].double()
    ratio, turn = float(slow.det().sqrt()), math.atan2(slow[1, 0], slow[0, 0])
    assert 0.85 <= ratio <= 0.97
    assert turn == pytest.approx(math.log(ratio) / growth, rel=0.05), "r = 0.75 e^(bθ)"
    centre = torch.linalg.solve(torch.eye(2) - slow, maps[0, :, 2].double())
    place = (CENTRE[0], CENTRE[1] if growth > 0 else -CENTRE[1])
    assert centre.tolist() == pytest.approx(place, abs=2 / 256)
    assert max(abs(float(linear.det())) for linear in flat) < 1e-6


@pytest.mark.parametrize("name", ["circle", "corner", "dot", "nothing"])
def test_other_lines_have_no_such_maps(name):
    angles = np.linspace(0, 2 * math.pi, 400)
    points = {
        "circle": 0.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1),
        "corner": np.array([[-0.7, -0.6], [0.6, -0.5], [-0.3, 0.7], [-0.7, -0.6], [0, 0.1]]),
        "dot": np.array([[0, 0], [0.05, 0]]),
        "nothing": np.zeros((0, 2)),
    }[name]
    target = drawn(points, 3).float() if len(points) else torch.zeros(64, 64)
    assert spiral(target, Setup(maps=3, starts=16)) is None


def test_what_images_miss_a_line_by_grows_with_powers():
    """Away from a line along the x axis is |y|: a shift of y by c and then by c + r c."""
    at = (2 * torch.arange(64, dtype=torch.float64) + 1) / 64 - 1
    away, points = at.abs()[:, None].expand(64, 64), torch.tensor([[0.5, 0.0], [-0.25, 0.0]])
    found = torch.tensor([[0.5, 0.0, 0.0, 0.25], [0.5, 0.0, 0.3, 0.0]]).double()
    first = missed(found, points.double(), away, 1)
    # about (0, 1/4): y becomes 1/8, then 3/16
    assert first.tolist() == pytest.approx([1 / 64, 1 / 64**2], rel=1e-6)
    both = missed(found, points.double(), away, 2)
    assert both[0].item() == pytest.approx((1 / 64 + 9 / 256) / 2)


def test_similarities_turn_counterclockwise_about_their_centres():
    (map_,) = similarity_maps(torch.tensor([[0.5, math.pi / 2, 1.0, 2.0]]))
    # (2, 2) lies to the right of the centre, half as far above it after a quarter turn
    assert (map_[:, :2] @ torch.tensor([2.0, 2.0]) + map_[:, 2]).tolist() == pytest.approx([1, 2.5])


def test_similarities_are_sorted_slow_and_miss_little():
    line = torch.from_numpy(curve(0.2)[::16])
    at = (2 * np.arange(256) + 1) / 256 - 1
    pixels = np.stack(np.meshgrid(at, -at), axis=-1)
    away, _ = KDTree(line).query(pixels)
    found, misses = similarities(line, torch.from_numpy(away), Setup(maps=3, starts=16, bound=0.95))
    ratios = torch.linalg.det(found[:, :, :2]).sqrt()
    assert 0.85 - 1e-9 <= ratios.min() <= ratios.max() <= 0.95 + 1e-9
    assert misses.tolist() == sorted(misses.tolist())
    assert misses[0] < 2 / 256


def test_points_are_halved_where_they_are_longest():
    points = np.array([[0.0, 0.0], [1, 0.1], [5, 0], [6, 0.1], [15, 0], [16, 0.1]])
    assert sorted(len(piece) for piece in halved(points, 1)) == [6]
    pieces = sorted(halved(points, 3), key=lambda piece: piece[0, 0])
    assert [piece[:, 0].tolist() for piece in pieces] == [[0, 1], [5, 6], [15, 16]]


def test_a_flat_map_takes_points_to_a_segment_along_a_piece():
    points = np.array([[-1.0, 0.2], [0, 0], [3, 0]])
    piece = np.array([[0.5, 0.5], [0.5, 0.7], [0.5, 0.9]])
    map_ = flat_map(points, piece)
    images = points @ map_[:, :2].T + map_[:, 2]
    assert images[:, 0] == pytest.approx(0.5)
    assert sorted([images[:, 1].min(), images[:, 1].max()]) == pytest.approx([0.5, 0.9])
    assert np.linalg.matrix_rank(map_[:, :2], tol=1e-9) == 1


@pytest.mark.parametrize(("stroke", "joins"), [(None, 2), (0.0, 1)])
def test_a_spiral_joins_a_fit_with_a_pen(monkeypatch, stroke, joins):
    target = drawn(curve(0.2), 2, 64).float()
    setup = Setup(maps=3, size=64, starts=4, rounds=0, stroke=stroke)
    run, one = Run.started(target, setup, "cpu"), torch.zeros(3, 2, 3)
    monkeypatch.setattr(runs, "self_similar", lambda *_: one + 0.1)
    monkeypatch.setattr(runs, "spiral", lambda *_: one + 0.2)
    run.stage = next(k for k, stage in enumerate(run.plan) if stage.grown)
    before = len(run.maps)
    run.join(target)
    assert len(run.maps) == len(run.stroke if stroke is None else run.maps) == before + joins
    assert run.maps[-1].equal(one + 0.1 * joins)
