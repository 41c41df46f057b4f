"""All that a command says and leaves, word by word, where what it does is known beforehand."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import film, save
from PIL import Image

import compress_ifs
import explore_ifs
import render_ifs
import train_ifs
from diff_ifs.compress import goals, search
from diff_ifs.draw.picture import Drawing
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.run import State
from diff_ifs.setup import similarity

# Their attractor is the square from -1/2 to 1/2: of 64 pixels those from 16 to 47.
SQUARE = torch.tensor(
    [similarity(0.5, at=(x, y)) for x in (-0.25, 0.25) for y in (-0.25, 0.25)], dtype=torch.float64
)
FAR = SQUARE + torch.tensor([[0.0, 0, 5], [0, 0, 0]]).double()  # to the right of all that is seen
SHORT = ["--size", "64", "--points", "500", "--quiet"]
READ = "a light figure on a dark ground; two levels, 0 and 255 of 255"


@pytest.fixture(autouse=True)
def _in_a_folder_of_pictures(tmp_path, monkeypatch):
    """The square four pixels to the right, in white, black on white, and in greys."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[16:48, 20:52] = 255
    Image.fromarray(pixels).save("box.png")
    Image.fromarray(255 - pixels).save("hole.png")
    Image.linear_gradient("L").resize((64, 64)).save("slope.png")
    Path("set.png").write_bytes(Path("box.png").read_bytes())
    Path("set_setup.py").write_text("from diff_ifs import Setup\nSETUP = Setup(maps=4)\n")
    for kind in ("png", "bmp"):
        Image.fromarray(pixels).save(f"two boxes.{kind}")
    monkeypatch.setattr("diff_ifs.files.album.save_plot", lambda *_: None)  # looked at elsewhere


@pytest.fixture
def states(monkeypatch):
    """Fits reach these three states; what they are is told by name."""
    made = {"maps": SQUARE, "iou": 0.9, "stroke": 0.0, "lost": None, "signal": None}

    def fit(target, setup, device="cpu", every=10, resume=None):
        maps, trace = made["maps"], []
        picture = evaluate(maps, target, made["stroke"]).picture
        for step in (0, 10, 20):
            trace.append({"step": step, "size": 64, "loss": 0.25, "iou": 0.5})
            lost = {"maps": maps * (float("nan") if step == made["lost"] else 1)}
            if step == made["signal"]:
                train_ifs_stop[0].first(2, None)
            yield State(
                step=step, steps=20, size=64, loss=0.25, iou=0.5, maps=maps, stroke=0.0,
                picture=picture, trace=list(trace), path=[(0, maps, 0.0)], best_iou=made["iou"],
                best_maps=maps, best_stroke=made["stroke"], resume=lost,
            )  # fmt: skip

    train_ifs_stop = []
    enter = train_ifs.Stop.__enter__

    def entered(stop):
        train_ifs_stop.append(stop)
        return enter(stop)

    monkeypatch.setattr(train_ifs.Stop, "__enter__", entered)
    monkeypatch.setattr(train_ifs, "fit", fit)
    return made


NO_SETUP = "no {}_setup.py: 256 random starts of 4 maps"
GREYS = "slope.png: a picture with greys, fitted with them"
NOTHING = "a failed fit: no pixel of its attractor shows; try --maps 12 or another --seed, or "
FITTED = [  # command, what is told of the states, exit code, what is said, and on standard error
    ("box --maps 4", {}, 0,
     "box: IoU 0.9000, HD95 4.00 px, 4 maps, 24 numbers, T -> box.pt, results/box/; "
     "8 maps: about 0.94",  # 1 - 0.1 / 2^0.75
     [f"box.png: {READ}", NO_SETUP.format("box")]),
    ("box --maps 4 --starts 9", {"iou": 0.995, "stroke": 1e-4}, 0,
     "box: IoU 0.9950, HD95 4.00 px, 4 maps, 25 numbers, T -> box.pt, results/box/; "
     "more maps would bring little",
     [f"box.png: {READ}", "no box_setup.py: 9 random starts of 4 maps"]),
    ("set", {"iou": 0.8}, 0,
     "set: IoU 0.8000, HD95 4.00 px, 4 maps, 24 numbers, T -> set.pt, results/set/",
     [f"set.png: {READ}"]),
    ("set", {"iou": 0.7999}, 0,
     "set: IoU 0.7999, HD95 4.00 px, 4 maps, 24 numbers, T -> set.pt, results/set/",
     [f"set.png: {READ}", "a poor fit: --maps 12 or another --seed may find a better one"]),
    ("box --maps 4", {"maps": FAR, "iou": 0.0}, 0,
     "box: IoU 0.0000, 4 maps, 24 numbers, T -> box.pt, results/box/; 8 maps: about 0.41",
     [f"box.png: {READ}", NO_SETUP.format("box"), NOTHING + "--stroke 0.01"]),
    ("hole --maps 4 --invert", {}, 0,
     "hole: IoU 0.9000, HD95 4.00 px, 4 maps, 24 numbers, T -> hole.pt, results/hole/; "
     "8 maps: about 0.94",
     ["hole.png: a dark figure on a light ground (--invert); two levels, 0 and 255 of 255",
      NO_SETUP.format("hole")]),
    ("'two boxes.bmp' --maps 4", {"signal": 10}, 130,
     "two boxes: IoU 0.9000, HD95 4.00 px, 4 maps, 24 numbers, T -> two boxes.pt, "
     "results/two boxes/",
     [f"two boxes.bmp: {READ}",
      "two boxes.bmp is read; python train_ifs.py 'two boxes.png' reads that",
      NO_SETUP.format("two boxes"),
      "stopping: writing what there is; Ctrl-C again stops at once",
      "stopped at step 10; go on with: python train_ifs.py 'two boxes.bmp' --quiet --resume"]),
    ("set", {"signal": 20, "iou": 0.3}, 130,
     "set: IoU 0.3000, HD95 4.00 px, 4 maps, 24 numbers, T -> set.pt, results/set/",
     [f"set.png: {READ}", "stopping: writing what there is; Ctrl-C again stops at once",
      "the fit had come to its end: nothing is missing"]),
    ("set", {"lost": 0}, 2, "",
     [f"set.png: {READ}",
      "train_ifs.py: the fit went astray at step 0 (maps holds numbers that are not finite); "
      "try another --seed"]),
    ("set", {"lost": 20}, 2,
     "set: IoU 0.9000, HD95 4.00 px, 4 maps, 24 numbers, T -> set.pt, results/set/",
     [f"set.png: {READ}",
      "train_ifs.py: the fit went astray at step 20 (maps holds numbers that are not finite); "
      "set.pt holds the best until then: try another --seed or a lower rate"]),
    ("set --steps 0", {}, 0,
     "set: IoU 0.5000 before the first step -> results/set/frame_000000.png, no set.pt",
     [f"set.png: {READ}"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "fields", "code", "out", "err"), FITTED)
def test_every_word_of_a_fit(command, fields, code, out, err, states, capsys):
    states.update(fields)
    name, *options = re.findall(r"'[^']+'|\S+", command)
    assert train_ifs.main([name.strip("'"), *options, *SHORT]) == code
    assert_said(capsys, out, err)


def assert_said(capsys, out: str, err: list[str]) -> None:
    """All that was said, with any time below a minute as T and any number of kilobytes as K."""
    said = capsys.readouterr()
    told = re.sub(r"\b[1-5]?\d\.\d s ->", "T ->", said.out)
    assert re.sub(r"\b\d+ kB", "K kB", told).splitlines() == [out] * bool(out)
    assert said.err.splitlines() == err


@pytest.mark.parametrize(("share", "failed"), [(0.49, False), (0.51, True)])
def test_greys_that_are_no_nearer_than_half_their_variance_are_a_failed_fit(
    share, failed, states, monkeypatch, capsys
):
    """Off by the same everywhere, the mean squared error is the square of that."""
    error = {}

    def write_results(folder, name, target, *_):
        error["mse"] = share * float(target.var())
        return target + error["mse"] ** 0.5

    monkeypatch.setattr(train_ifs, "write_results", write_results)
    states["iou"] = 0.3  # which is no matter in greys
    assert train_ifs.main(["slope", "--maps", "4", "--grey", *SHORT]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"slope: IoU 0.3000, MSE {error['mse']:.5f}, ")
    nothing = "a failed fit: it looks like nothing yet; try --maps 12 or another --seed, or "
    wanted = [GREYS, NO_SETUP.format("slope").replace("256", "32")]
    assert said.err.splitlines() == [*wanted, *[nothing + "--no-grey"] * failed]


# --- render_ifs.py, compress_ifs.py --export, explore_ifs.py ---


@pytest.fixture
def systems():
    save("square", SQUARE)
    save("thin", SQUARE[:2])
    save("grey", SQUARE, exposure=1.0)
    maps = {"maps": SQUARE.tolist()}
    turned = [similarity(0.5, 90, (x + 0.4, y + 0.2)) for x in (-0.25, 0.25) for y in (-0.25, 0.25)]
    about = {"maps": [m - np.array([[0, 0, -0.1], [0, 0, 0.2]]) for m in np.array(turned)]}
    about["maps"] = [map_.tolist() for map_ in about["maps"]]  # so that they leave (0.4, 0.2)
    Path("square.json").write_text(json.dumps({**maps, "window": [-2, 2, -2, 2], "size": 48}))
    Path("weighted.json").write_text(json.dumps({**maps, "weights": [4, 3, 2, 1]}))
    Path("turned.json").write_text(json.dumps({**about, "window": [-1, 1, -1, 1]}))
    xform = '<xform weight="1" {}linear="1" coefs="0.5 0 0 0.5 {}"/>'
    one, two = xform.format("", "0.1 0"), xform.format("", "0 0.2")
    shut = xform.format('chaos="0 1" ', "0.1 0")
    wide = one.replace("0.5 0 0 0.5", "0.5 0 2 0.5")
    seldom = one.replace("linear", 'chaos="1 0.5" linear')
    Path("two.flame").write_text(
        f'<flames><flame name="a">{one}{two}</flame><flame name="b">{two}</flame></flames>'
    )
    Path("shut.flame").write_text(f"<flame>{shut}{two}</flame>")
    Path("wide.flame").write_text(f"<flame>{wide}{two}</flame>")
    Path("seldom.flame").write_text(f"<flame>{seldom}{two}</flame>")


TWO = "two.flame: it holds 2 flames, of which this is {}, {!r}"
CHAINED = "hidden maps, or final ones, or such as may not follow each other"
NONE = "nothing of the fractal lies in this window"
COMMANDS = [  # command, exit code, what is said, and on standard error
    ("render square 30 8", 0,
     "square: occupancy, 8 × 8, T -> results/square/square_render_30_8.png", []),
    ("render square.json 30 8 --out a.npy", 0, "square: occupancy, 8 × 8, T -> a.npy", []),
    ("render grey 30 8 --out a.png", 0, "grey: grey, 8 × 8, T -> a.png", []),
    ("render square 30 8 --window 0.6 0.9 0.6 0.9 --out a.png", 0,
     "square: occupancy, 8 × 8, T -> a.png", [NONE]),
    ("render two.flame 30 8 --out a.png", 0, "two: occupancy, 8 × 8, T -> a.png",
     [TWO.format(1, "a")]),
    ("render two.flame 30 8 --flame b --out a.png", 0, "two: occupancy, 8 × 8, T -> a.png",
     [TWO.format(2, "b")]),
    ("render two.flame 30 8 --flame c --out a.png", 2, "",
     ["render_ifs.py: two.flame is not a fractal that can be drawn: it has no flame 'c', but 'a', "
      "'b'"]),
    ("render shut.flame 20 8 --out a.png", 0, "shut: occupancy, 8 × 8, T -> a.png", []),
    ("render shut.flame 19 8 --out a.png", 2, "",
     [f"render_ifs.py: shut.flame has {CHAINED}, and is not drawn with RECURSION 19; only as a "
      "whole: give 20"]),
    ("render square 30 8 --morph turned.json --sweep levels", 2, "",
     ["render_ifs.py: --morph B goes without --sweep, --zoom-at and --kind grey"]),
    ("render square 30 8 --morph turned.json --zoom-at 0 0 2", 2, "",
     ["render_ifs.py: --morph B goes without --sweep, --zoom-at and --kind grey"]),
    ("render square 30 8 --morph turned.json --kind grey", 2, "",
     ["render_ifs.py: --morph B goes without --sweep, --zoom-at and --kind grey"]),
    ("render square 30 8 --morph shut.flame", 2, "",
     [f"render_ifs.py: shut.flame has {CHAINED}, weights that hang on what came before, or maps "
      "that stretch the plane: --morph cannot follow these"]),
    ("render square 30 8 --window 1e15 1000000000000001 0 1", 2, "",
     ["render_ifs.py: so small a window at so high a resolution is beyond double precision; zoom "
      "in less"]),
    ("render square 1234567890123 8", 2, "",
     ["render_ifs.py: RECURSION must be a whole number from 0 to 1000000, not '1234567890123'"]),
    ("compress square --export json", 0, "square: 4 maps -> square.json", []),
    ("compress square.json --export fractint", 0, "square: 4 maps -> square_fractint.ifs", []),
    ("compress square --export flame", 0, "square: 4 maps -> square.flame", []),
    ("compress two.flame --export svg --out b.svg", 0, "two: 2 maps -> b.svg",
     [TWO.format(1, "a")]),
    ("compress shut.flame --export json", 2, "",
     [f"compress_ifs.py: shut.flame has {CHAINED}, which --export does not write"]),
    ("explore square", 0, "square: 4 maps, K kB -> file://HERE/results/square/square.html", []),
    ("explore two.flame --out b.htm", 0, "two: 2 maps, K kB -> file://HERE/b.htm",
     [TWO.format(1, "a")]),
    ("explore seldom.flame --out b.html", 0, "seldom: 2 maps, K kB -> file://HERE/b.html",
     ["seldom.flame: how often a map follows another is not shown"]),
    ("compress seldom.flame --export json", 0, "seldom: 2 maps -> seldom.json",
     ["seldom.flame: how often a map follows another is not written"]),
    ("render seldom.flame 19 8 --kind density", 2, "",
     ["render_ifs.py: seldom.flame has weights that hang on what came before, or symmetries, and "
      "is not drawn with RECURSION 19; only as a whole: give 20"]),
    ("explore shut.flame", 2, "",
     [f"explore_ifs.py: shut.flame has {CHAINED}, or maps that stretch the plane, which the page "
      "does not draw"]),
    ("explore wide.flame", 2, "",
     [f"explore_ifs.py: wide.flame has {CHAINED}, or maps that stretch the plane, which the page "
      "does not draw"]),
    ("explore square --out b.png", 2, "",
     ["explore_ifs.py: --out must end in .html, not 'b.png'"]),
    ("explore square --out box.png/b.html", 2, "",
     ["explore_ifs.py: cannot write box.png/b.html (HERE/box.png is no folder); give another "
      "--out"]),
]  # fmt: skip
SCRIPTS = {"render": render_ifs, "compress": compress_ifs, "explore": explore_ifs}


@pytest.mark.parametrize(("command", "code", "out", "err"), COMMANDS)
def test_every_word_of_a_command(command, code, out, err, systems, capsys):
    here, before = str(Path.cwd()), set(Path().rglob("*"))
    script, *given = command.split()
    assert SCRIPTS[script].main(given + ["--quiet"] * (script == "render")) == code
    assert_said(capsys, out.replace("HERE", here), [line.replace("HERE", here) for line in err])
    new = [path for path in set(Path().rglob("*")) - before if path.is_file()]
    assert [str(path) for path in new] in (
        [[]] if code else [[out.split(" -> ")[1].removeprefix("file://HERE/")], []]
    )


def test_an_export_has_all_that_is_drawn():
    moved = (-0.5, 1.5, -0.75, 1.25)
    save("moved", SQUARE, stroke=0.0625, window=moved, size=48)
    assert compress_ifs.main(["moved", "--export", "json"]) == 0
    found = json.loads(Path("moved.json").read_text())
    assert (found["stroke"], tuple(found["window"]), found["size"]) == (0.0625, moved, 48)
    assert (found["name"], found["n"], found["maps"]) == ("moved", 4, SQUARE.tolist())
    assert found["weights"] == pytest.approx([0.25] * 4)


def test_a_page_has_the_picture_in_the_pixels_of_the_system(systems):
    Image.linear_gradient("L").save("square.png")
    assert explore_ifs.main(["square.json", "--out", "a.html"]) == 0
    coded = re.search(r"data:image/png;base64,([^\"]+)", Path("a.html").read_text())[1]
    with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
        assert picture.size == (48, 48)


FILMS = [  # options, number of frames, seconds that they take
    ("2 --sweep levels", 3, 4.0),
    ("20 --sweep levels", 21, 10.5),
    ("70 --sweep levels", 71, 30.0),
    ("9 --frames 8 --zoom-at 0 0 2", 8, 0.8),
    ("9 --frames 60 --zoom-at 0 0 2", 60, 4.0),
    ("9 --frames 200 --zoom-at 0 0 2", 200, 8.0),
    ("9 --frames 1 --zoom-at 0 0 2", 1, 0.1),
    ("9 --morph thin", 60, 4.0),
    ("9 --morph thin --frames 7", 7, 0.7),
]


@pytest.mark.parametrize(("options", "count", "seconds"), FILMS)
def test_how_long_a_film_takes(options, count, seconds, systems, monkeypatch):
    given = []
    monkeypatch.setattr(Drawing, "image", lambda _: Image.new("L", (4, 4)))
    monkeypatch.setattr(
        render_ifs, "save_film", lambda path, frames, seconds: given.append((len(frames), seconds))
    )
    recursion, *rest = options.split()
    assert render_ifs.main(["thin", recursion, "4", *rest]) == 0
    assert given == [(count, pytest.approx(seconds))]


def test_half_way_to_another_system_the_middles_are_half_way_too(systems, monkeypatch):
    """Of the square about (0, 0) and of one about (0.4, 0.2): the mean map takes (0.2, 0.1) to
    itself halved, or to (0.4, 0.2) and half of what it is from there, turned to the left."""
    scenes = []
    nothing = Image.new("L", (4, 4))
    monkeypatch.setattr(Drawing, "image", lambda self: scenes.append(self) or nothing)
    monkeypatch.setattr(render_ifs, "save_film", lambda *_, **__: None)
    assert (
        render_ifs.main(["square", "9", "4", "--morph", "turned.json", "--frames", "3", "--quiet"])
        == 0
    )
    maps = scenes[1].maps
    found = (maps[:, :, :2] @ maps.new_tensor([0.2, 0.1]) + maps[:, :, 2]).mean(0)
    ends = np.array([(0.1, 0.05), (0.4 + 0.05, 0.2 - 0.1)])
    assert found.tolist() == pytest.approx(ends.mean(0).tolist(), abs=1e-3)


def test_a_film_has_its_folder_made(systems):
    assert (
        render_ifs.main(["thin", "1", "8", "--sweep", "levels", "--out", "a/b/film.gif", "--quiet"])
        == 0
    )
    assert len(film("a/b/film.gif")) >= 1


def test_a_picture_that_cannot_be_written_is_said_so_and_threads_are_as_before(
    systems, monkeypatch, capsys
):
    def full(*_):
        assert torch.get_num_threads() == 1
        raise OSError(5, "Input/output error")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(render_ifs, "save_rows", full)
        assert render_ifs.main(["square", "9", "8", "--out", "a.png"]) == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    bar, said = capsys.readouterr().err.rsplit("\n", 2)[:2]
    assert "square: " in bar, "the bar, as nobody asked for --quiet"
    assert said == "render_ifs.py: a.png cannot be written: Input/output error"


# --- compress_ifs.py ---


@pytest.mark.parametrize(
    ("options", "asked", "given"),
    [
        ([], "fit_within", (0.005, 200)),
        (["--loss", "0"], "fit_within", (0.0, 200)),
        (["--loss", "1", "--effort", "0"], "fit_within", (1.0, 0)),
        (["--bytes", "5", "--effort", "9"], "fit_into", (5, 9)),
        (["--bytes", "65536"], "fit_into", (65536, 200)),
        (["--bits", "3"], "fit_bits", (3.0, 200)),
        (["--bits", "16"], "fit_bits", (16.0, 200)),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_every_word_of_a_compression(options, asked, given, grey, monkeypatch, capsys):
    """The square in as many bits as it takes: it is a fit of itself."""
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[16:48, 16:48] = 255
    Image.fromarray(pixels).save("square.png")
    save("square", SQUARE, size=64, **({"exposure": 1.0} if grey else {}))
    seen = []

    def found(system, target, number, effort, progress):
        seen.append((number, effort))
        assert np.array_equal(target.numpy() * 255, pixels)
        return search.rounded(search.encodings({**system, "maps": SQUARE})[0], SQUARE, target)

    monkeypatch.setattr(goals, asked, found)
    assert compress_ifs.main(["square", *options, "--out", "a.ifs", "--quiet"]) == 0
    assert seen == [given]
    data, whole = Path("a.ifs").read_bytes(), Path("square.png").stat().st_size
    bits = f"{(8 * len(data) - 32) / 4:.1f}"
    out = f"square: {len(data)} bytes, IoU 1.0000 -> 1.0000, 4 maps of {bits} bits, "
    out += f"{whole / len(data):.1f} times smaller than square.png ({whole} bytes), T -> a.ifs"
    note = (
        "square was fitted to a grey picture; its file keeps black and white, as --kind occupancy"
    )
    assert_said(capsys, out, [note] * grey)
