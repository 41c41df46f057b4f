"""Every frame of the films and contact sheets that render_ifs.py makes, and how long they last."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots, drawn, film, render, save
from PIL import Image, ImageDraw, ImageFont
from systems import CARPET

import render_ifs
from diff_ifs.files.results import BOTH, save_film
from diff_ifs.setup import WINDOW

SPECKS = dots()


@pytest.fixture(autouse=True)
def _in_a_folder_with_specks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("specks", SPECKS, stroke=0.12)


def bytes_of(coverage: np.ndarray) -> np.ndarray:
    return np.round(coverage.astype(np.float32) * 255).astype(int)


def test_a_zoom_film_goes_straight_to_its_point_by_equal_factors():
    """Each frame is a window of its own, all about the one point that stays where it is on the
    screen."""
    x, y, factor = PLACES[1][0] + 0.01, PLACES[1][1] - 0.02, 8.0
    # the same in the windows about (0, 0) and about (x, y)
    still = np.array([x, y]) * factor / (factor - 1)
    assert (
        render("specks", 30, 40, "--zoom-at", x, y, factor, "--frames", 4, "--out", "zoom.gif") == 0
    )
    frames = film("zoom.gif")
    assert len(frames) == 4
    for k, frame in enumerate(frames):
        half = factor ** (-k / 3)  # 1, 1/2, 1/4, 1/8
        u, v = still * (1 - half)
        window = (u - half, u + half, v - half, v + half)
        true = bytes_of(discs(0.12 * half, 40, window))
        assert (frame[..., 0] == frame[..., 2]).all()
        assert (np.abs(frame[..., 0] - true) > 20).mean() < 0.005, f"frame {k}"
    # a pen keeps its width in pixels, so that the fractal's point looks the same all the way
    assert all(frame.max() == 255 for frame in frames)


def test_a_zoom_film_of_one_frame_is_the_whole_picture_and_one_of_factor_one_moves_only():
    at = ("--zoom-at", *PLACES[1])
    assert render("specks", 30, 40, *at, 4, "--frames", 1, "--out", "zoom.gif") == 0
    assert np.array_equal(film("zoom.gif")[0][..., 0], drawn("specks", 30, 40))
    assert render("specks", 30, 40, *at, 1, "--frames", 2, "--out", "zoom.gif") == 0
    assert np.array_equal(film("zoom.gif")[-1][..., 0], drawn("specks", 30, 40, *at, 1))


WAY = [dots([(x - 0.2 * k, y - 0.1 * k) for x, y in PLACES]) for k in (2, 1, 0)]
PENS = [0.31, 0.0, 0.21]


def save_way() -> None:
    way = {"steps": [0, 10, 25], "maps": torch.stack(WAY), "strokes": PENS}
    save("way", SPECKS, stroke=0.12, path=way)


@pytest.mark.parametrize("given", [None, 0.26])
def test_a_film_of_a_fit_shows_each_state_with_its_own_pen_and_ends_with_the_best(given):
    save_way()
    options = [] if given is None else ["--stroke", given]
    assert render("way", 30, 40, "--sweep", "fit", *options, "--out", "way.gif") == 0
    frames = film("way.gif")
    pens = [*PENS, 0.12] if given is None else [given] * 4
    assert len(frames) == 4 - (given is not None), (
        "equal frames at the end are one, shown for longer"
    )
    for frame, k, pen in zip(frames, (2, 1, 0, 0), pens, strict=False):
        places = [(x - 0.2 * k, y - 0.1 * k) for x, y in PLACES]
        assert np.array_equal(frame[..., 0], bytes_of(discs(pen, 40, places=places)))


def test_a_film_of_levels_has_each_level_as_it_is_drawn_alone():
    options = ("--figure", "segment", "--window", -1.5, 1.5, -1, 2)
    assert render("specks", 3, 40, "--sweep", "levels", *options, "--out", "levels.gif") == 0
    frames = film("levels.gif")
    assert np.array_equal(frames[0][..., 0], drawn("specks", 0, 40, *options))
    assert np.array_equal(frames[1][..., 0], drawn("specks", 1, 40, *options))
    assert not np.array_equal(frames[0], frames[1])


def durations(path: str) -> list[float]:
    with Image.open(path) as opened:
        found = []
        for k in range(opened.n_frames):
            opened.seek(k)
            found.append(opened.info["duration"])
        assert opened.info["loop"] == 0, "it begins again and again"
        return found


def save_long_way(count: int) -> None:
    places = [[(0.02 * k - 0.901, 0.503), (0.501, -0.4)] for k in range(count)]
    *maps, last = map(dots, places)
    way = {
        "steps": list(range(count - 1)),
        "maps": torch.stack(maps),
        "strokes": [0.0] * (count - 1),
    }
    save("long", last, path=way)


# half a second each, from four seconds up to thirty
@pytest.mark.parametrize(
    ("frames", "each"),
    [(4, 1000), (10, 500), pytest.param(80, 380, marks=pytest.mark.slow)],
)
def test_a_film_of_a_fit_takes_its_time(frames, each):
    save_long_way(frames)
    assert render("long", 30, 120, "--sweep", "fit", "--out", "film.gif") == 0
    found = durations("film.gif")
    assert found == [pytest.approx(each, abs=10)] * (frames - 1) + [2000]


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "each"), [(5, 100), (12, 100), (50, 80)])
def test_a_zoom_film_takes_four_seconds_or_shows_ten_frames_in_one(frames, each):
    save("carpet", CARPET)
    options = ["--zoom-at", -0.4, 0.3, 20, "--frames", frames, "--supersample", 1]
    assert render("carpet", 9, 32, *options, "--out", "film.gif") == 0
    found = durations("film.gif")
    assert found == [pytest.approx(each, abs=10)] * (frames - 1) + [2000]


@pytest.mark.slow
def test_a_zoom_film_has_at_most_25_frames_a_second(monkeypatch):
    given = {}
    monkeypatch.setattr(render_ifs, "save_film", lambda path, frames, **how: given.update(how))
    for frames, seconds in ((100, 4), (150, 6)):
        options = ["--zoom-at", *PLACES[0], 5, "--frames", frames, "--supersample", 1]
        assert render("specks", 0, 8, *options) == 0
        assert given["seconds"] == pytest.approx(seconds)


def test_long_films_have_25_frames_a_second():
    frames = [Image.new("L", (4, 4), k % 251) for k in range(200)]
    save_film(Path("film.gif"), frames, seconds=8.0, pause=1.5)
    assert durations("film.gif") == [40] * 199 + [1500]


def caption(text: str, size: tuple[int, int]) -> np.ndarray:
    """The line of text under a frame, as Pillow writes it on the sheet's grey."""
    line = Image.new("RGB", size, (60, 64, 72))
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(line).text((4, 4), text, fill=BOTH, font=font)
    return np.asarray(line)


@pytest.mark.parametrize(
    ("name", "options", "captions"),
    [
        ("specks", ["--sweep", "levels"], ["level 0", "level 1", "level 2", "level 3", "level 4"]),
        ("way", ["--sweep", "fit"], ["step 0", "step 10", "step 25", "best"]),
        ("specks", ["--zoom-at", *PLACES[2], 9, "--frames", 3], ["zoom 1", "zoom 3", "zoom 9"]),
    ],
)
def test_a_contact_sheet_has_its_frames_in_reading_order_with_their_captions(
    name, options, captions
):
    save_way()
    more = ["--figure", "hull"] if "levels" in options else []
    for out in ("sheet.png", "film.gif"):
        assert render(name, 4, 60, *options, *more, "--out", out) == 0
    with Image.open("sheet.png") as opened:
        sheet = np.asarray(opened)
    frames = film("film.gif")
    frames += frames[-1:] * (len(captions) - len(frames))
    across = 2 if len(captions) == 4 else 3 if len(captions) > 4 else 2
    for k, text in enumerate(captions):
        left, top = 8 + k % across * 68, 8 + k // across * (60 + 26 + 8)
        assert np.array_equal(sheet[top : top + 60, left : left + 60], frames[k]), text
        below = sheet[top + 60 : top + 86, left : left + 60]
        assert np.array_equal(below, caption(text, (60, 26))), text
    assert sheet.shape[:2] == (8 + -(-len(captions) // across) * 94, 8 + across * 68)


def test_colours_of_films_are_those_of_pictures():
    options = ["--color", "map", "--cmap", "Set1"]
    assert render("specks", 1, 40, "--sweep", "levels", *options, "--out", "sheet.png") == 0
    with Image.open("sheet.png") as opened:
        sheet = np.asarray(opened)
    assert np.array_equal(sheet[8:48, 56:96], drawn("specks", 1, 40, *options))


def test_what_is_transparent_is_black_in_a_film():
    options = ["--color", "map", "--transparent"]
    assert render("specks", 1, 40, "--sweep", "levels", *options, "--out", "sheet.png") == 0
    with Image.open("sheet.png") as opened:
        sheet = np.asarray(opened).astype(int)
    assert np.abs(sheet[8:48, 56:96] - drawn("specks", 1, 40, "--color", "map")).max() <= 2


@pytest.mark.filterwarnings("ignore:Exception ignored")  # imageio leaves the pipes of ffmpeg open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.slow
def test_an_mp4_shows_the_same_frames_and_then_pauses():
    import imageio.v3 as imageio

    save_way()
    assert render("way", 30, 64, "--sweep", "fit", "--out", "way.mp4") == 0
    found = imageio.imread("way.mp4", plugin="FFMPEG")
    seen = []
    for k, pen in zip((2, 1, 0, 0), [*PENS, 0.12], strict=True):
        true = bytes_of(discs(pen, 64, places=[(x - 0.2 * k, y - 0.1 * k) for x, y in PLACES]))
        near = [np.abs(frame[..., 0].astype(int) - true).mean() < 8 for frame in found]
        seen.append(np.flatnonzero(near))
    # one a second, and two seconds more
    assert [list(at) for at in seen] == [
        [0],
        [1],
        [2],
        [3, 4, 5],
    ]
    assert imageio.immeta("way.mp4", plugin="FFMPEG")["fps"] == pytest.approx(1)
    save_long_way(10)
    assert render("long", 30, 64, "--sweep", "fit", "--out", "long.mp4") == 0  # half a second each
    assert imageio.immeta("long.mp4", plugin="FFMPEG")["fps"] == pytest.approx(2)
    assert len(imageio.imread("long.mp4", plugin="FFMPEG")) == 10 + 2 * 2


@pytest.mark.slow
def test_a_film_has_at_most_a_thousand_frames(capsys):
    zoom = ["--zoom-at", 0, 0, 2, "--out", "film.gif", "--frames"]
    assert render("specks", 0, 4, *zoom, 1001) == 2
    assert "--frames must be from 1 to 1000" in capsys.readouterr().err
    assert not Path("film.gif").exists()
    assert render("specks", 0, 4, *zoom, 1000) == 0
    with Image.open("film.gif") as opened:  # frames that are the same are one that lasts as long
        lasted = 0
        for k in range(opened.n_frames):
            opened.seek(k)
            lasted += opened.info["duration"]
    assert lasted == 999 * 40 + 2000


def test_a_film_keeps_to_its_memory(capsys):
    """Six bytes for each pixel of each frame: 100 frames of 400 × 400 pixels take 96 MB."""
    options = ["specks", 99, 400, "--sweep", "levels", "--out", "film.gif", "--memory"]
    assert render(*options, 95.9e6 / 2**30) == 2
    assert "100 frames of 400 pixels are too much for one film" in capsys.readouterr().err
    assert render(*options, 96.1e6 / 2**30) == 2
    assert "are too little" in capsys.readouterr().err, (
        "which is another matter: pictures need more"
    )


def test_the_window_of_a_zoom_film_starts_at_the_checkpoints():
    save("moved", SPECKS, window=(-0.5, 1.5, -1.25, 0.75))
    options = ["--zoom-at", PLACES[0][0], PLACES[0][1], 3, "--frames", 2, "--stroke", 0.1]
    assert render("moved", 30, 40, *options, "--out", "zoom.gif") == 0
    assert np.array_equal(
        film("zoom.gif")[0][..., 0], bytes_of(discs(0.1, 40, (-0.5, 1.5, -1.25, 0.75)))
    )
    assert WINDOW == (-1, 1, -1, 1)
