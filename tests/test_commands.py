"""What the commands do with a fit or a device that is known beforehand, without waiting for any."""

import csv
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.figure
import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots, film, save
from PIL import Image
from refusals import refusal

import compress_ifs
import render_ifs
import train_ifs
from diff_ifs.compress import goals, search
from diff_ifs.draw.picture import exposure
from diff_ifs.files import request, results
from diff_ifs.files.album import draw_frame, write_results
from diff_ifs.files.checkpoint import load_checkpoint, load_path, save_checkpoint
from diff_ifs.fit.census import LADDER, Rung
from diff_ifs.fit.run import State
from diff_ifs.setup import WINDOW, Setup, similarity

AWAY = [(x - 0.4, y + 0.2) for x, y in PLACES]
TRACE = [
    {"step": 0, "size": 16, "loss": 0.5, "iou": 0.125},
    {"step": 10, "size": 16, "loss": 0.25, "iou": 0.75},
    {"step": 15, "size": 64, "loss": 0.0625, "iou": 0.5},
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def state(**fields) -> State:
    """The best is not the last, and its way is not that of the leader of step 10."""
    way = [(0, dots(AWAY), 0.1), (10, dots(), 0.2), (15, dots(), 0.3)]
    plain = {"step": 15, "steps": 15, "size": 64, "loss": 0.0625, "iou": 0.5, "maps": dots(AWAY),
             "stroke": 0.1, "picture": torch.zeros(64, 64), "trace": TRACE, "path": way,
             "best_iou": 0.75, "best_maps": dots(), "best_stroke": 0.25, "resume": {}}  # fmt: skip
    return State(**{**plain, **fields})


def on(path: Path) -> np.ndarray:
    """What a difference frame of 64 × 64 pixels shows of a picture."""
    with Image.open(path) as opened:
        shown = np.asarray(opened.convert("RGB"))[:512:8, :512:8]
    return (shown == results.BOTH).all(-1) | (shown == results.EXTRA).all(-1)


def same(found: np.ndarray, radius: float, places) -> None:
    wanted = discs(radius, 64, parts=6, places=places)
    sure = np.abs(wanted - 0.5) > 0.2
    assert np.array_equal(found[sure], (wanted > 0.5)[sure])


def test_what_a_fit_leaves_shows_the_way_of_its_best_system(monkeypatch):
    figures = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, content, **_: figures.append(figure) or content.write(b"p"),
    )
    folder, target = Path("results/a"), torch.zeros(64, 64)
    target[5:40, 10:20] = 1
    first = draw_frame(folder, target, 0, torch.from_numpy(discs(0.1, 64, places=AWAY)).float())
    other = draw_frame(folder, target, 10, torch.zeros(64, 64))
    frames = {0: (dots(AWAY), first), 10: (dots(AWAY), other)}
    best = write_results(folder, "a", target, state(steps=40), frames, False)
    same(best.numpy() > 0.5, 0.25, PLACES)
    for step, radius, places in ((0, 0.1, AWAY), (10, 0.2, PLACES), (15, 0.3, PLACES)):
        same(on(folder / f"frame_{step:06d}.png"), radius, places)
    same(on(folder / "a_difference.png"), 0.25, PLACES)
    shown = film(str(folder / "a.gif"))
    assert len(shown) == 4
    with open(folder / "trace.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "size", "loss", "iou"]
    assert [[float(x) for x in row] for row in rows[1:]] == [list(row.values()) for row in TRACE]
    (figure,) = figures
    above, below = figure.axes
    for axes, name in ((above, "loss"), (below, "iou")):
        curve, *borders = axes.lines
        assert curve.get_xydata().tolist() == [[row["step"], row[name]] for row in TRACE]
        assert [border.get_xdata()[0] for border in borders] == [10]
    assert above.get_title() == "a: best IoU 0.7500"
    assert (above.get_ylabel(), below.get_ylabel()) == ("loss", "IoU of the attractor")
    assert above.get_yscale() == "log"
    assert (folder / "a_plot.png").read_bytes() == b"p"
    complete = state(picture=torch.eye(64))
    assert write_results(folder, "a", target, complete, frames, False).equal(torch.eye(64))


def test_a_checkpoint_has_the_best_maps_and_the_exposure_that_suits_them():
    target = torch.from_numpy(discs(0.3, 64, parts=4)).float() * 0.6
    setup = Setup(maps=3, size=64, grey=True)
    save_checkpoint(Path("a.pt"), "a", setup, state(), target, "a.bmp")
    found = load_checkpoint(Path("a.pt"))
    assert np.array_equal(found["maps"], dots().numpy())
    assert (found["stroke"], found["iou"], found["step"]) == (0.25, 0.75, 15)
    assert (found["picture"], found["size"], found["name"]) == ("a.bmp", 64, "a")
    best, last = (exposure(maps, WINDOW, target) for maps in (dots(), dots(AWAY)))
    assert found["exposure"] == best != last
    steps, maps, strokes = load_path(Path("a.pt"), found)
    assert (steps, strokes) == ([0, 10, 15], [0.1, 0.2, 0.3])
    assert np.array_equal(maps[0], dots(AWAY).numpy())
    save_checkpoint(Path("a.pt"), "a", Setup(maps=3, size=64), state(), target)
    plain = load_checkpoint(Path("a.pt"))
    assert "exposure" not in plain
    assert plain["picture"] == "a.png"


@pytest.fixture
def told(monkeypatch):
    """Fits come to one state; nothing is drawn of it."""

    def fit(target, setup, device="cpu", every=10, resume=None):
        yield state(picture=target, best_maps=dots(), iou=0.9, best_iou=0.9, best_stroke=0.0)

    monkeypatch.setattr(train_ifs, "fit", fit)
    monkeypatch.setattr("diff_ifs.files.album.save_plot", lambda *_: None)


@pytest.mark.parametrize(
    ("options", "promises"),
    [(["--maps", "3"], True), (["--maps", "3", "--grey"], False), (["--from", "a.json"], False)],
)
def test_what_more_maps_would_bring_is_said_of_fits_from_nothing_alone(
    options, promises, told, capsys
):
    Image.linear_gradient("L").resize((64, 64)).save("slope.png")
    Path("a.json").write_text(json.dumps({"maps": dots().tolist()}))
    more = [] if "--grey" in options else ["--no-grey"]
    assert train_ifs.main(["slope", *options, *more, "--size", "64", "--quiet"]) == 0
    said = capsys.readouterr()
    assert ("; 6 maps: about 0.94" in said.out) == promises
    assert ("no slope_setup.py" in said.err) == ("--maps" in options)
    with Image.open("results/slope/slope_target.png") as shown:
        greys = len(np.unique(np.asarray(shown)))
    assert greys == (64 if "--grey" in options else 2), "the target has the greys that are fitted"


@pytest.mark.parametrize(
    ("fields", "lit"),
    [
        ("", lambda ramp: ramp >= 0.5),
        ("invert=True, threshold=0, grey=False", lambda ramp: ramp < 0),
        ("threshold=51", lambda ramp: ramp >= 0.2),
        ("threshold=51, invert=True", lambda ramp: ramp < 0.2),
        ("grey=True", lambda ramp: ramp),
        ("grey=True, invert=True", lambda ramp: 1 - ramp),
    ],
)
def test_a_picture_is_read_as_its_setup_says(fields, lit, monkeypatch):
    seen = []

    def fit(target, setup, device="cpu", every=10, resume=None):
        seen.append(target.numpy())
        yield from ()

    monkeypatch.setattr(train_ifs, "fit", fit)
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    Image.fromarray(ramp).save("ramp.png")
    Path("ramp_setup.py").write_text(
        f"from diff_ifs import Setup\nSETUP = Setup(maps=3, size=64, {fields})\n"
    )
    options = ["--no-grey"] * ("grey" not in fields)
    train_ifs.main(["ramp", *options, "--quiet"])
    wanted = lit(ramp / 255)
    if "threshold=0" in fields:
        assert seen == [], "all of it is figure: there is nothing to fit"
    elif fields:
        assert np.abs(seen[0] - wanted).max() <= 0.5 / 255 + 1e-6
    else:
        assert np.array_equal(seen[0] >= 0.5, ramp >= 126), "half way"


@pytest.mark.parametrize("resume", [True, False])
def test_a_checkpoint_is_copied_before_another_fit_takes_its_place(
    resume, told, monkeypatch, capsys
):
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[10:30, 20:50] = 255
    Image.fromarray(pixels).save("a.png")
    marked = hashlib.sha256((pixels / 255).astype(np.float32).tobytes()).hexdigest()
    save("a", dots(), size=64, setup={"maps": 3, "size": 64}, target=marked)
    before = Path("a.pt").read_bytes()
    monkeypatch.setattr("diff_ifs.files.checkpoint.resume_of", lambda *_: {})
    options = ["--resume"] if resume else ["--maps", "3", "--size", "64"]
    assert train_ifs.main(["a", *options, "--quiet"]) == 0
    assert Path("a.pt").read_bytes() != before
    kept = [path.read_bytes() for path in Path("results/a").glob("*.pt")]
    assert kept == ([] if resume else [before])
    words = "the checkpoint of an earlier fit is kept as results/a/a_previous.pt"
    said = capsys.readouterr()
    assert (words in said.err) == (not resume)
    assert ("; 6 maps" in said.out) == (not resume), "what more maps bring is no matter then"


def test_a_fit_that_is_watched_shows_each_state_and_then_the_last(monkeypatch):
    shown = []

    def fit(target, setup, device="cpu", every=10, resume=None):
        for step in (0, 10, 15):
            yield state(picture=target, step=step)

    monkeypatch.setattr(train_ifs, "fit", fit)
    monkeypatch.setattr("diff_ifs.files.album.save_plot", lambda *_: None)
    monkeypatch.setattr(
        "diff_ifs.page.live.LivePage.show",
        lambda self, reached, last=False: shown.append((reached.step, last)),
    )
    Image.linear_gradient("L").resize((64, 64)).save("slope.png")
    options = ["--maps", "3", "--no-grey", "--size", "64", "--quiet"]
    assert train_ifs.main(["slope", *options, "--watch"]) == 0
    assert shown == [(0, False), (10, False), (15, False), (15, True)]
    assert train_ifs.main(["slope", *options]) == 0
    assert len(shown) == 4


def test_a_fit_goes_on_with_its_picture_unless_another_is_named(capsys):
    white = np.zeros((64, 64), dtype=np.uint8)
    white[10:30, 20:50] = 255
    Image.fromarray(white).save("jay.bmp")
    Image.fromarray(white.T.copy()).save("jay.png")
    save("jay", dots(), size=64, setup={"maps": 3, "size": 64}, picture="jay.bmp", target="none")
    words = "is a fit of another {}; restore that, or fit it anew without --resume"
    said = refusal(train_ifs.main, ["jay", "--resume"], capsys)
    assert words.format("jay.bmp") in said
    assert words.format("jay.png") in refusal(train_ifs.main, ["jay.png", "--resume"], capsys)
    for option, value in (("--maps", "auto"), ("--from", "a.json"), ("--steps", "0")):
        assert "leave" in refusal(train_ifs.main, ["jay", "--resume", option, value], capsys)


def test_the_bar_of_a_fit_tells_of_the_best_and_is_drawn_at_once():
    seen, bar = [], SimpleNamespace(n=4, total=9)
    bar.set_postfix = lambda **words: seen.append(words)
    bar.update = lambda steps: seen.append(steps)
    bar.refresh = lambda: seen.append("drawn")
    train_ifs.show(bar, state(step=10, steps=99))
    assert seen == [{"loss": "0.0625", "IoU": "0.7500", "refresh": False}, 6]
    assert bar.total == 99
    bar.n = 0
    train_ifs.show(bar, state(step=0))
    assert seen[3:] == [0, "drawn"]


@pytest.mark.parametrize("quiet", [False, True])
def test_no_bar_is_none_of_the_search_for_a_number_either(quiet, told, monkeypatch, capsys):
    def search_all(target, setup, device):
        for n in LADDER:
            yield Rung(n, 1 / n, 0.4, 128)

    monkeypatch.setattr("diff_ifs.fit.census.census", search_all)
    Image.linear_gradient("L").resize((64, 64)).save("slope.png")
    assert train_ifs.main(["slope", "--no-grey", "--size", "32", *["--quiet"] * quiet]) == 0
    said = capsys.readouterr().err
    assert ("slope: how many maps" in said) == (not quiet)
    assert ("step/s" in said or "0/" in said) == (not quiet)


# --- render_ifs.py ---


def test_a_film_of_a_fit_has_one_frame_more_than_states(capsys):
    """The best: with a thousand states it would be the thousand and first."""
    way = {"steps": list(range(1000)), "maps": dots()[None].expand(1000, 3, 2, 3),
           "strokes": [0.0] * 1000}  # fmt: skip
    save("a", dots(), path=way)
    words = "1001 frames of 4 pixels are too much for one film; make it smaller"
    assert words in refusal(render_ifs.main, ["a", "9", "4", "--sweep", "fit"], capsys)


@pytest.mark.parametrize(
    ("out", "size", "more"),
    [("a.mp4", 5, " (6 × 6 in an MP4, whose sides are even)"), ("a.mp4", 6, ""), ("a.gif", 5, "")],
)
def test_the_sides_of_a_film_are_told(out, size, more, monkeypatch, capsys):
    save("a", dots())
    monkeypatch.setattr(render_ifs, "save_film", lambda *_, **__: None)
    options = ["--sweep", "levels", "--out", out, "--quiet"]
    assert render_ifs.main(["a", "1", str(size), *options]) == 0
    assert f"a: occupancy, {size} × {size}{more}, " in capsys.readouterr().out


def test_only_an_mp4_needs_what_makes_them(monkeypatch, capsys):
    save("a", dots())
    monkeypatch.setattr(request, "can_film", lambda: False)
    for out in ("b.png", "b.npy"):
        assert render_ifs.main(["a", "9", "4", "--out", out, "--quiet"]) == 0
    assert render_ifs.main(["a", "1", "4", "--sweep", "levels", "--out", "b.gif", "--quiet"]) == 0
    given = ["a", "1", "4", "--sweep", "levels", "--out", "b.mp4"]
    capsys.readouterr()
    assert "an MP4 needs imageio-ffmpeg" in refusal(render_ifs.main, given, capsys)


@pytest.mark.parametrize("recursion", [20, 75, 95])
def test_what_a_level_lacks_is_told_until_all_is_drawn(recursion, capsys):
    """A speck at (0.9, 0), turned by 40° and drawn in by 0.95 again and again: of level k there are
    k + 1 points. 0.95^95 is less than a pixel of 128."""
    save("slow", torch.tensor([similarity(0.95, 40), similarity(1e-4, at=(0.9, 0))]))
    assert render_ifs.main(["slow", str(recursion), "128", "--quiet"]) == 0
    said = capsys.readouterr().err
    if recursion == 95:
        assert said == ""
        return
    radii, angles = 0.9 * 0.95 ** np.arange(400), np.radians(40) * np.arange(400)
    column = np.floor((1 + radii * np.cos(angles)) * 64).astype(int)
    row = np.floor((1 - radii * np.sin(angles)) * 64).astype(int)
    pixels = [len({*zip(row[:n], column[:n], strict=True), (64, 64)}) for n in (recursion + 1, 400)]
    words = "of the attractor, because its maps shrink by 0.950 only; RECURSION 95 draws all of it"
    lacks = re.fullmatch(rf"level {recursion} lacks (.*)% {words}\n", said)
    assert float(lacks[1]) == pytest.approx(100 * (1 - pixels[0] / pixels[1]), abs=4)


# --- compress_ifs.py ---


@pytest.mark.parametrize("window", [(-1, 1, -0.5, 1.5), (-1, 3, -1, 3), (-1.5, 0.5, -1, 1)])
def test_only_a_fit_in_the_window_of_pictures_is_compressed(window, capsys):
    Image.linear_gradient("L").save("a.png")
    save("a", dots(), window=window)
    words = "a.pt was not fitted to a picture in the window -1 1 -1 1"
    assert words in refusal(compress_ifs.main, ["a", "--quiet"], capsys)


@pytest.mark.parametrize("options", [["--bytes", "40"], ["--export", "json"]])
def test_a_place_that_cannot_be_written_to_is_refused_first(options, monkeypatch, capsys):
    save("a", dots(), size=64)
    Image.linear_gradient("L").save("a.png")
    monkeypatch.setattr("diff_ifs.files.checkpoint.fitted_target", lambda *_: 1 / 0)
    said = refusal(compress_ifs.main, ["a", *options, "--out", "a.png/b", "--quiet"], capsys)
    assert said.endswith("a.png is no folder); give another --out\n")


def test_what_is_said_of_a_file_has_all_its_edges(monkeypatch, capsys):
    """Drafts miss some."""
    maps = dots(scale=0.5)
    code = dataclasses.replace(
        search.encodings({"maps": maps, "window": WINDOW, "stroke": 0.0, "size": 64})[0], length=40
    )
    coded = search.rounded(code, maps, torch.zeros(64, 64))
    save("a", maps, size=64)
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[20:50, 10:50] = 255
    Image.fromarray(pixels).save("a.png")
    asked = []

    def score(code, numbers, target, supersample=3, quality="draft"):
        asked.append((quality, float(target.sum())))
        return 0.875

    monkeypatch.setattr(search, "score", score)
    monkeypatch.setattr(goals, "fit_into", lambda *_: coded)
    assert compress_ifs.main(["a", "--bytes", "40", "--quiet"]) == 0
    assert " -> 0.8750, 3 maps of " in capsys.readouterr().out
    assert asked == [("final", 1200)]
