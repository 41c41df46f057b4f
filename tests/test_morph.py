"""Ways from one system to another."""

import math

import numpy as np
import pytest
from refusals import refusal
from systems import CARPET, KOCH

from diff_ifs.draw.morph import between, matched, outermost, turn_and_stretch
from diff_ifs.setup import similarity
from render_ifs import main

SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def test_maps_are_matched_by_the_images_of_their_hulls():
    first = KOCH.double().numpy()
    order = [2, 0, 3, 1]
    near = first[order] + 0.01
    assert matched(first, near, (SQUARE, SQUARE)).tolist() == [[0, 1], [1, 3], [2, 0], [3, 2]]


def test_every_map_has_a_partner_where_one_system_has_more():
    first, second = KOCH.double().numpy(), CARPET.double().numpy()
    pairs = matched(first, second, (SQUARE, SQUARE))
    assert len(pairs) == 8
    assert set(pairs[:, 0]) == set(range(4))
    assert sorted(pairs[:, 1]) == list(range(8))
    assert matched(second, first, (SQUARE, SQUARE)).tolist() == sorted(pairs[:, ::-1].tolist())


def test_a_linear_map_is_a_turn_after_a_stretch():
    linear = np.random.default_rng(0).normal(size=(50, 2, 2))
    angle, stretch = turn_and_stretch(linear)
    turn = np.array([[(c := math.cos(a), -(s := math.sin(a))), (s, c)] for a in angle])
    assert np.allclose(turn @ stretch, linear)
    assert np.allclose(stretch, stretch.mT)
    assert np.allclose(np.linalg.eigvalsh(stretch)[:, 0] < 0, np.linalg.det(linear) < 0)


def test_a_way_begins_and_ends_at_its_systems_turns_the_shorter_way_and_stays_contracting():
    first = np.array([similarity(0.9, 170, (0.2, 0.1)), similarity(0.8, 10, mirror=True)])
    last = np.array([similarity(0.5, -170, (0.4, 0.1)), similarity(0.95, 60)])
    middle = np.array([0.3, -0.2])
    assert np.allclose(between(first, last, middle, 0.0), first)
    assert np.allclose(between(first, last, middle, 1.0), last)
    half = between(first, last, middle, 0.5)
    back = between(last, first, middle, 0.5)
    for way in half, back:
        assert np.allclose(way[0, :, :2], np.diag([-0.7, -0.7]))  # half a turn
    ends = [maps[:, :, :2] @ middle + maps[:, :, 2] for maps in (first, last)]
    assert np.allclose(half[:, :, :2] @ middle + half[:, :, 2], (ends[0] + ends[1]) / 2)
    for part in np.linspace(0, 1, 21):
        sizes = np.linalg.svd(between(first, last, middle, part)[:, :, :2])[1]
        assert (sizes <= [[0.9 + 1e-9], [0.95 + 1e-9]]).all()


def test_outermost_points_are_those_of_the_hull():
    points = np.concatenate([SQUARE, np.random.default_rng(0).uniform(-0.9, 0.9, (100, 2))])
    found = outermost(points)
    assert len(found) == 64
    assert {tuple(point) for point in found} == {tuple(point) for point in SQUARE}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--morph", "b.json", "--sweep", "levels"], "--morph B goes without --sweep"),
        (["--morph", "nothing.json"], "there is no nothing.json here"),
        (["--morph", "b.json", "--frames", "0"], "--frames must be from 1"),
        (["--morph", "b.json", "--out", "film.jpg"], "--out must end in"),
    ],
)
def test_what_a_morph_refuses(more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, maps in (("a", KOCH), ("b", CARPET)):
        (tmp_path / f"{name}.json").write_text(f'{{"maps": {maps.tolist()}}}')
    assert words in refusal(main, ["a.json", "20", "32", *more], capsys)


@pytest.mark.slow
def test_a_morph_is_a_film_from_one_picture_to_the_other(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name, maps in (("a", KOCH), ("b", CARPET)):
        (tmp_path / f"{name}.json").write_text(f'{{"maps": {maps.tolist()}}}')
        assert main([f"{name}.json", "20", "64", "--quiet"]) == 0
    assert main(["a.json", "20", "64", "--morph", "b.json", "--frames", "5", "--quiet"]) == 0
    with Image.open("results/a/a_morph_b_20_64.gif") as film:
        assert film.n_frames == 5
        for frame, name in ((0, "a"), (4, "b")):
            film.seek(frame)
            with Image.open(f"results/{name}/{name}_render_20_64.png") as still:
                both = [np.asarray(picture.convert("L"), float) for picture in (film, still)]
            assert np.abs(both[0] - both[1]).mean() < 3
