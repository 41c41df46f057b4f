"""What train_ifs.py makes of its options, and what it writes and says of a fit that is known
beforehand."""

import csv
import dataclasses
import os
import re
import shlex
import signal
from pathlib import Path

import imageio.v3 as imageio
import matplotlib.figure
import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots
from PIL import Image, ImageDraw, ImageFont

import train_ifs
from diff_ifs.files import results
from diff_ifs.files.checkpoint import fitted_target, load_checkpoint
from diff_ifs.files.target import load_target
from diff_ifs.fit.census import LADDER, Rung
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.stages import stages
from diff_ifs.setup import Setup

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
BEST, OTHER = dots(), dots([(x - 0.5, y + 0.2) for x, y in PLACES])
COLOURS = {"both": results.BOTH, "missing": results.MISSING, "extra": results.EXTRA}
TINY = ["--maps=3", "--steps=20", "--starts=2", "--size=32", "--points=500", "--quiet"]


def letter(size: int = 64) -> Image.Image:
    """An F, off the middle: the same neither turned nor mirrored, and taller than wide."""
    picture = Image.new("L", (size, size))
    draw, unit = ImageDraw.Draw(picture), size // 16
    for left, top, right, bottom in ((7, 2, 9, 14), (7, 2, 14, 4), (7, 7, 12, 9)):
        draw.rectangle([left * unit, top * unit, right * unit - 1, bottom * unit - 1], fill=255)
    return picture


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_letter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    letter().save("eff.png")


@pytest.fixture
def given(monkeypatch) -> dict:
    """What the last fit was given; none of them takes a step."""
    found = {}

    def fit(target, setup, device="cpu", every=10, resume=None):
        found.update(target=target, setup=setup, device=device, every=every, resume=resume)
        yield from ()

    monkeypatch.setattr(train_ifs, "fit", fit)
    return found


# --- Options ---


def test_without_options_the_fit_is_the_default_one(given, monkeypatch):
    monkeypatch.setattr("diff_ifs.fit.census.count", lambda target, setup, device, watch: (17, 0.5))
    assert train_ifs.main(["eff"]) == 2  # there is no state
    assert given["setup"] == Setup(maps=17, grey=False)
    assert given["target"].shape == (256, 256)
    assert np.array_equal(given["target"][::4, ::4].numpy() > 0.5, np.asarray(letter()) > 0)
    assert given["every"] == sum(stage.steps for stage in stages(given["setup"])) // 50
    assert given["resume"] is None


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("--maps", "maps", 5),
        ("--depth", "depth", 3),
        ("--points", "points", 5000),
        ("--steps", "steps", 77),
        ("--starts", "starts", 9),
        ("--size", "size", 32),
        ("--stroke", "stroke", 0.05),
        ("--seed", "seed", 4),
        ("--grey", "grey", True),
        ("--no-grey", "grey", False),
    ],
)
def test_each_option_is_a_field_of_the_setup_that_wins_over_the_file(option, field, value, given):
    text = "from diff_ifs import Setup\n"
    text += "SETUP = Setup(maps=4, steps=50, size=48, grey=False, rate=0.02)\n"
    Path("eff_setup.py").write_text(text)
    written = Setup(maps=4, steps=50, size=48, grey=False, rate=0.02)
    train_ifs.main(["eff", option, *([] if isinstance(value, bool) else [str(value)])])
    assert given["setup"] == dataclasses.replace(written, **{field: value})
    assert given["target"].shape == 2 * (given["setup"].size,)


def test_inverting_swaps_black_and_white(given):
    train_ifs.main(["eff", "--maps", "3", "--size", "64"])
    plain = given["target"]
    train_ifs.main(["eff", "--maps", "3", "--size", "64", "--invert"])
    assert torch.equal(given["target"], 1 - plain)


@pytest.mark.parametrize(
    ("options", "n"), [([], 27), (["--price", "0.002"], 19), (["--price", "0.1"], 12)]
)
def test_maps_auto_takes_as_many_as_gain_their_price(options, n, given, monkeypatch):
    """n maps miss 0.6 / n^0.9, of which 0.54 / n^1.9 is the slope: a thousandth at 27. There are at
    least 12."""
    curve = [Rung(k, 1 / k, 5 / 128 + 0.6 * k**-0.9, 128) for k in LADDER]
    asked = []

    def search_all(target, setup, device):
        asked.append((setup.seed, len(target)))
        yield from curve

    monkeypatch.setattr("diff_ifs.fit.census.census", search_all)
    Path("eff_setup.py").write_text("from diff_ifs import Setup\nSETUP = Setup(maps=4)\n")
    train_ifs.main(["eff", "--maps", "auto", "--seed", "7", *options])
    assert asked == [(7, 256)]
    assert given["setup"].n == n


# --- What is written and said of a fit ---


def told(monkeypatch, interrupt: int | None = None, **fields) -> list:
    """Fits have these fields in all of their states from now on; the states. One may be interrupted
    by a signal."""
    honest, states = train_ifs.fit, []

    def fit(*arguments, **options):
        for state in honest(*arguments, **options):
            changed = {
                name: value(state) if callable(value) else value for name, value in fields.items()
            }
            states.append(dataclasses.replace(state, **changed))
            if interrupt is not None and len(states) == interrupt:
                os.kill(os.getpid(), signal.SIGINT)
            yield states[-1]

    monkeypatch.setattr(train_ifs, "fit", fit)
    return states


def frame_of(path: str | Path, text: str) -> np.ndarray:
    """The pixels (64, 64, 3) of a difference picture, eight times as large, above its caption."""
    with Image.open(path) as opened:
        frame = opened.convert("RGB")
    assert frame.size == (512, 512 + 26)
    line = Image.new("RGB", (250, 26), results.NEITHER)
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(line).text((8, 4), text, fill=results.BOTH, font=font)
    shown, drawn = (
        np.asarray(image).astype(int) for image in (frame.crop((0, 512, 250, 538)), line)
    )
    assert np.abs(shown - drawn).max() <= 10, text  # of the edges of letters, fifteen shades
    pixels = np.asarray(frame)[:512].reshape(64, 8, 64, 8, 3)
    assert (pixels == pixels[:, :1, :, :1]).all(), "each pixel is a square"
    return pixels[:, 0, :, 0]


def assert_difference(frame: np.ndarray, coverage: np.ndarray) -> None:
    """The frame is the difference between a coverage (64, 64) and the letter; half-covered pixels
    may be either."""
    have, want, sure = coverage > 0.5, np.asarray(letter()) > 0, np.abs(coverage - 0.5) > 0.2
    for colour, where in (
        (results.BOTH, have & want),
        (results.EXTRA, have & ~want),
        (results.MISSING, ~have & want),
        (results.NEITHER, ~have & ~want),
    ):
        shown = (frame == colour).all(-1)
        assert where.any()
        assert np.array_equal(shown[sure], where[sure]), colour


@pytest.mark.slow
def test_the_best_system_is_shown_whatever_the_last_one_is(monkeypatch, capsys):
    picture = evaluate(BEST, torch.zeros(64, 64), 0.3).picture
    told(monkeypatch, best_maps=BEST, best_stroke=0.3, best_iou=0.4321, picture=picture)
    assert train_ifs.main(["eff", *TINY, "--size=64"]) == 0
    frame = frame_of("results/eff/eff_difference.png", "best    IoU 0.432")
    assert_difference(frame, discs(0.3, 64, parts=6))
    film = imageio.imread("results/eff/eff.gif")
    with Image.open("results/eff/eff_difference.png") as best:
        assert np.array_equal(film[-1][:512], np.asarray(best.convert("RGB"))[:512])
    left = torch.load("eff.pt", weights_only=True)
    assert torch.equal(left["maps"], BEST)
    assert (left["stroke"], left["iou"]) == (0.3, 0.4321)
    said = capsys.readouterr()
    assert said.out.startswith("eff: IoU 0.4321, HD95 ")
    assert ", 3 maps, 19 numbers, " in said.out, "six a map, and the pen"
    assert "a poor fit: --maps 9 or another --seed" in said.err


@pytest.mark.slow
def test_of_two_pictures_a_fit_goes_on_with_the_one_it_was_made_of(capsys):
    letter().save("jay.jpg", quality=95)
    letter().transpose(Image.Transpose.ROTATE_90).save("jay.png")
    assert train_ifs.main(["jay.jpg", *TINY, "--maps=8"]) == 0
    checkpoint = load_checkpoint(Path("jay.pt"))
    assert checkpoint["picture"] == "jay.jpg"
    assert fitted_target(Path("jay.pt"), checkpoint, "jay")[0] == Path("jay.jpg")
    capsys.readouterr()
    assert train_ifs.main(["jay", "--resume", "--quiet"]) == 0
    assert "jay.jpg: a light figure" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("iou", "poor"), [(0.79, True), (0.81, False)])
def test_below_an_iou_of_four_fifths_a_fit_is_called_poor(iou, poor, monkeypatch, capsys):
    told(monkeypatch, best_iou=iou, best_stroke=0.0)
    assert train_ifs.main(["eff", *TINY]) == 0
    said = capsys.readouterr()
    assert ("a poor fit" in said.err) == poor
    assert ", 3 maps, 18 numbers, " in said.out


@pytest.mark.slow
def test_of_very_many_maps_no_more_are_advised_than_there_may_be(monkeypatch, capsys):
    told(monkeypatch, best_iou=0.5)
    small = ["--maps=334", "--starts=1", "--steps=10", "--size=8", "--points=100", "--quiet"]
    assert train_ifs.main(["eff", *small]) == 0
    assert "a poor fit: --maps 1000 or another --seed" in capsys.readouterr().err


@pytest.mark.slow
def test_frames_are_the_states_and_where_the_winner_was_no_leader_its_own_way(monkeypatch):
    def path(state):
        return [(step, OTHER if step == 13 else maps, 0.2 if step == 13 else stroke)
                for step, maps, stroke in state.path]  # fmt: skip

    states = told(monkeypatch, path=path)
    assert train_ifs.main(["eff", *TINY, "--size=64"]) == 0
    steps = [state.step for state in states]
    assert 13 in steps
    names = sorted(path.name for path in Path("results/eff").glob("frame_*"))
    assert names == [f"frame_{step:06d}.png" for step in steps]
    moved = discs(0.2, 64, parts=6, places=[(x - 0.5, y + 0.2) for x, y in PLACES])
    want = np.asarray(letter()) > 0
    iou = ((moved > 0.5) & want).sum() / ((moved > 0.5) | want).sum()
    with Image.open("results/eff/frame_000013.png") as opened:
        shown = np.asarray(opened.convert("RGB"))[:512:8, :512:8]
    have = (shown == results.BOTH).all(-1) | (shown == results.EXTRA).all(-1)
    sure = np.abs(moved - 0.5) > 0.2
    assert np.array_equal(have[sure], (moved > 0.5)[sure])
    assert iou < 0.1
    frame = frame_of("results/eff/frame_000000.png", f"step 0    IoU {states[0].iou:.3f}")
    assert_difference(frame, states[0].picture.numpy())
    film = imageio.imread("results/eff/eff.gif")
    assert len(film) == len(steps) + 1
    for step, seen in zip(steps, film, strict=False):
        with Image.open(f"results/eff/frame_{step:06d}.png") as opened:
            assert np.array_equal(np.asarray(opened.convert("RGB"))[:512], seen[:512])


TRACE = [
    {"step": 0, "size": 16, "loss": 0.5, "iou": 0.125},
    {"step": 10, "size": 16, "loss": 0.25, "iou": 0.75},
    {"step": 15, "size": 32, "loss": 0.0625, "iou": 0.5},
    {"step": 20, "size": 64, "loss": 0.03125, "iou": 0.625},
]


@pytest.mark.slow
def test_the_plot_and_the_table_show_loss_and_iou_over_the_steps(monkeypatch):
    figures = []
    honest = matplotlib.figure.Figure.savefig

    def savefig(figure, *arguments, **options):
        figures.append(figure)
        return honest(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    told(monkeypatch, trace=TRACE)
    assert train_ifs.main(["eff", *TINY]) == 0
    with open("results/eff/trace.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == TRACE
    (figure,) = figures
    above, below = figure.axes
    for axes, name, label in ((above, "loss", "loss"), (below, "iou", "IoU")):
        curve, *borders = axes.lines
        assert curve.get_xydata().tolist() == [[row["step"], row[name]] for row in TRACE]
        assert label in axes.get_ylabel()
        assert [border.get_xdata()[0] for border in borders] == [10, 15], (
            "where pictures get larger"
        )
    assert (above.get_yscale(), below.get_ylim()) == ("log", (0, 1))
    assert below.get_xlabel() == "step"
    assert above.get_title() == "eff: best IoU 0.7500"
    with Image.open("results/eff/eff_plot.png") as plot:
        assert plot.width > 500
        assert np.ptp(np.asarray(plot.convert("RGB")), axis=-1).max() > 100, "with coloured curves"


# --- Stopping and going on ---


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    "options",
    [
        ["--invert", "--no-grey"],
        ["--grey", "--watch"],
        ["--stroke", "0.05", "--depth", "2", "--device", "cpu"],
    ],
)
def test_the_command_that_goes_on_does_go_on(options, monkeypatch, capsys):
    if "--invert" in options:
        Image.eval(letter(), lambda level: 255 - level).save("eff.png")
    with monkeypatch.context() as patch:
        told(patch, interrupt=2)
        assert train_ifs.main(["eff", *TINY, *options]) == 130
    said = re.search(
        "stopped at step (\\d+); go on with: python train_ifs.py (.*)\n", capsys.readouterr().err
    )
    half = torch.load("eff.pt", weights_only=True)
    assert half["step"] == int(said[1]) < 20
    command = shlex.split(said[2])
    assert command[-1] == "--resume"
    for option in ("--quiet", "--watch", "--device"):
        assert (option in command) == (option in [*TINY, *options])
    assert not {"--invert", "--grey", "--stroke"} & set(command), "they are in the checkpoint"
    assert train_ifs.main(command) == 0
    whole = torch.load("eff.pt", weights_only=True)
    assert whole["step"] == 20
    assert whole["setup"] == half["setup"]
    assert [path.name for path in Path().glob("*.pt")] == ["eff.pt"], (
        "nothing is copied where a fit goes on"
    )


@pytest.mark.slow
def test_frames_of_an_earlier_fit_are_removed_and_nothing_else():
    folder = Path("results/eff")
    folder.mkdir(parents=True)
    for name in ("frame_000009.png", "frame_999999.png", "frames.png", "eff_render_3_64.png"):
        (folder / name).touch()
    assert train_ifs.main(["eff", *TINY]) == 0
    names = {path.name for path in folder.iterdir()}
    assert {"frames.png", "eff_render_3_64.png", "frame_000000.png"} <= names
    assert not names & {"frame_000009.png", "frame_999999.png"}


def test_a_grey_fit_says_how_far_its_greys_are_off(capsys):
    Image.radial_gradient("L").resize((64, 64)).save("spot.png")
    assert train_ifs.main(["spot", *TINY, "--size=32", "--points=40000", "--invert"]) == 0
    said = capsys.readouterr()
    assert (
        "spot.png: a picture with greys, fitted with them; --no-grey fits black and white"
        in said.err
    )
    assert "a poor fit" not in said.err
    left = torch.load("spot.pt", weights_only=True)
    target = load_target(Path("spot.png"), 32, invert=True)
    score = evaluate(left["maps"], target, grey=True)
    assert f", MSE {((score.picture - target) ** 2).mean():.5f}, " in said.out
    assert left["iou"] == pytest.approx(score.iou)
    assert 0 < left["exposure"] < 1000
    assert left["stroke"] == 0
