"""Ways from one system to another."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import PLACES, dots
from PIL import Image
from refusals import refusal
from systems import CARPET, FERN, KOCH

from diff_ifs.draw.geometry import View
from diff_ifs.draw.morph import between, matched, outermost, turn_and_stretch
from diff_ifs.draw.picture import Drawing, Style
from diff_ifs.files.system import load_system
from diff_ifs.setup import WINDOW, similarity
from render_ifs import main, morphed

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


def write(name: str, maps, **fields) -> None:
    Path(f"{name}.json").write_text(json.dumps({"maps": maps.tolist(), **fields}))


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--window", "-1", "2", "-1.5", "1.5", "--stroke", "0.1"]])
def test_a_morph_is_a_film_from_one_picture_to_the_other(options, tmp_path, monkeypatch):
    """Each is drawn as it is alone, with its own pen and window unless others are given."""
    monkeypatch.chdir(tmp_path)
    options += ["--quiet"]
    write("a", KOCH, stroke=0.02, window=[-1, 1, -1, 1])
    write("b", FERN, stroke=0.05, window=[-2, 1, -1, 2])
    for name in "ab":
        assert main([f"{name}.json", "20", "64", *options]) == 0
    assert main(["a.json", "20", "64", "--morph", "b.json", "--frames", "5", *options]) == 0
    with Image.open("results/a/a_morph_b_20_64.gif") as film:
        assert film.n_frames == 5
        for frame, name in ((0, "a"), (4, "b")):
            film.seek(frame)
            with Image.open(f"results/{name}/{name}_render_20_64.png") as still:
                both = [np.asarray(picture.convert("L"), float) for picture in (film, still)]
            assert np.abs(both[0] - both[1]).mean() < 1


def test_window_and_pen_go_with_the_maps_slowly_at_both_ends(tmp_path, monkeypatch):
    """A quarter of the time is 3/16 - 2/64 = 10/64 of the way."""
    monkeypatch.chdir(tmp_path)
    write("b", FERN, stroke=0.64, window=[-1, 5.4, 0, 6.4])
    begin = Drawing(KOCH.double(), View((-1.0, 1.0, -1.0, 1.0), 64), Style())
    arguments = SimpleNamespace(window=None, stroke=None, frames=5)
    scenes = morphed(arguments, load_system("b.json"), begin)
    assert [caption for caption, _ in scenes] == ["0%", "25%", "50%", "75%", "100%"]
    for (_, scene), way in zip(scenes, (0, 10, 32, 54, 64), strict=True):
        part = way / 64
        window = (-1, 1 + 4.4 * part, -1 + part, 1 + 5.4 * part)
        assert scene.view.window == pytest.approx(window)
        assert scene.view.stroke == pytest.approx(0.64 * part)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_measure_goes_with_the_maps_and_a_map_shares_it_among_its_partners(
    weighted, tmp_path, monkeypatch
):
    """From three specks to two; without weights, all of a system have as much."""
    monkeypatch.chdir(tmp_path)
    first, last = ([0.5, 0.3, 0.2], [0.1, 0.9]) if weighted else ([1 / 3] * 3, [1 / 2] * 2)
    write("b", dots(PLACES[:2]), window=WINDOW, **({"weights": last} if weighted else {}))
    weights = torch.tensor(first).double() if weighted else None
    begin = Drawing(dots(), View(WINDOW, 64, weights=weights), Style("density"))
    arguments = SimpleNamespace(window=None, stroke=None, frames=3)
    masses = []
    for _, scene in morphed(arguments, load_system("b.json"), begin):
        masses.append(torch.cat(list(scene.strips())))
        assert float(masses[-1].sum()) == pytest.approx(1)
    for mass, wanted in ((masses[0], first), (masses[-1], last)):
        spots = [(int((1 - y) * 32), int((x + 1) * 32)) for x, y in PLACES[: len(wanted)]]
        assert [float(mass[spot]) for spot in spots] == pytest.approx(wanted, abs=1e-3)
