"""render_ifs.py as a user runs it, on checkpoints of systems whose pictures are known."""

import itertools
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from games import played
from PIL import Image
from refusals import refusal
from scipy.ndimage import gaussian_filter
from systems import CARPET, CORNER_GASKET, FERN

import render_ifs
from diff_ifs.draw import attractor
from diff_ifs.draw.geometry import OVERHEAD, View
from diff_ifs.draw.picture import Drawing, Style, exposure
from diff_ifs.files import results
from diff_ifs.files.results import STRIP, save_rows
from diff_ifs.setup import WINDOW, affine, similarity

THIRD, HIGH = 1 / 3, 3**0.5 / 6
# in double precision, for deep zooms
KOCH = torch.tensor(
    [
        similarity(THIRD, at=(-2 * THIRD, 0)),
        similarity(THIRD, degrees=60, at=(-1 / 6, HIGH)),
        similarity(THIRD, degrees=-60, at=(1 / 6, HIGH)),
        similarity(THIRD, at=(2 * THIRD, 0)),
    ],
    dtype=torch.float64,
)
SYSTEMS = {"gasket": CORNER_GASKET, "carpet": CARPET, "koch": KOCH, "fern": FERN}


@pytest.fixture(autouse=True)
def _checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, maps in SYSTEMS.items():
        save(name, maps)


def save(name: str, maps: torch.Tensor, **fields) -> None:
    plain = {
        "format": "diff_ifs",
        "version": 1,
        "name": name,
        "maps": maps,
        "window": WINDOW,
        "stroke": 0.0,
    }
    torch.save({**plain, "size": 256, "setup": {}, "step": 0, "iou": 0.0, **fields}, f"{name}.pt")


def render(*arguments: object) -> int:
    return render_ifs.main([*map(str, arguments), "--quiet"])


def drawn(*arguments: object) -> np.ndarray:
    assert render(*arguments, "--out", "drawn.png") == 0
    with Image.open("drawn.png") as picture:
        return np.asarray(picture)


def film(path: str) -> list[np.ndarray]:
    with Image.open(path) as opened:
        frames = []
        for k in range(opened.n_frames):
            opened.seek(k)
            frames.append(np.asarray(opened.convert("L")))
        return frames


@pytest.mark.parametrize("size", [81, 243])
def test_the_carpet_is_drawn_pixel_by_pixel_at_each_level(size):
    for level in range(5):
        picture = drawn("carpet", level, size, "--figure", "square", "--supersample", 1) > 127
        true = np.ones((1, 1), dtype=bool)
        for _ in range(level):
            true = np.kron(true, np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool))
        side = size // 3**level
        if side:
            assert np.array_equal(picture, true.repeat(side, 0).repeat(side, 1))


@pytest.mark.slow
def test_levels_of_the_koch_curve_from_its_segment_grow_by_four_thirds():
    lengths = []
    for level in range(7):
        picture = drawn("koch", level, 1024, "--figure", "segment", "--stroke", 0.002)
        # the pen, and one of four sub-pixels
        lengths.append(picture.sum() / 255 / (0.004 * 512 + 0.25))
    assert lengths[0] == pytest.approx(1024, rel=0.03), "two world units"
    for shorter, longer in itertools.pairwise(lengths[:5]):
        assert longer / shorter == pytest.approx(4 / 3, rel=0.06)


def test_levels_without_a_figure_are_images_of_the_fixed_points():
    for level in range(4):
        picture = drawn("gasket", level, 200, "--supersample", 1, "--window", -1.1, 1.1, -1.1, 1.1)
        assert (picture > 0).sum() == (3 ** (level + 1) + 3) // 2


@pytest.mark.slow
def test_deep_levels_are_all_the_same_picture():
    pictures = [drawn("fern", level, 200) for level in (60, 300, 100_000)]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[1], pictures[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "bits", "colour"),
    [
        ([], 8, 0),
        (["--bits", 16], 16, 0),
        (["--transparent"], 8, 4),
        (["--color", "map"], 8, 2),
        (["--color", "address", "--cmap", "twilight", "--bits", 16], 16, 2),
        (["--color", "map", "--transparent"], 8, 6),
        (["--cmap", "magma"], 8, 2),
    ],
)
@pytest.mark.parametrize("kind", ["occupancy", "density"])
def test_every_look_is_a_sound_picture(kind, options, bits, colour):
    picture = drawn("fern", 40, 96, "--kind", kind, *options)
    header = Path("drawn.png").read_bytes()[16:29]
    assert struct.unpack(">IIBBBBB", header) == (96, 96, bits, colour, 0, 0, 0)
    assert picture.shape[:2] == (96, 96)
    assert picture.max() > 120
    assert len(np.unique(picture)) > 10
    if "--transparent" in options:
        opaque = picture[..., -1]
        assert opaque.min() == 0
        assert opaque.max() == 255
    elif "--color" in options:
        lit = picture[picture.max(-1) > 40].astype(float)
        assert np.ptp(lit[:, 0] - lit[:, 2]) > 60, "several colours"


def test_sixteen_bits_hold_more_shades_than_eight():
    fine, coarse = (drawn("fern", 40, 128, "--kind", "density", "--bits", bits) for bits in (16, 8))
    assert len(np.unique(fine)) > 4 * len(np.unique(coarse))
    assert np.abs(fine / 65535 - coarse / 255).max() < 0.003


def test_gamma_brightens_what_is_faint():
    plain, bright = (
        drawn("fern", 40, 96, "--kind", "density", "--gamma", gamma) for gamma in (1, 2)
    )
    assert np.abs((plain / 255) ** 0.5 - bright / 255).max() < 0.05
    assert bright.mean() > plain.mean()


def test_bare_numbers_are_exact():
    save("point", torch.tensor([similarity(0.5)]))
    assert render("point", 30, 101, "--kind", "distance", "--out", "near.npy") == 0
    near = np.load("near.npy")
    at = (2 * np.arange(101) + 1) / 101 - 1
    assert np.abs(near - np.hypot(at, at[:, None])).max() < 1e-12
    assert render("carpet", 30, 81, "--kind", "density", "--out", "mass.npy") == 0
    mass = np.load("mass.npy")
    assert mass.sum() == pytest.approx(1)
    assert np.allclose(mass[mass > 0], 8.0**-4, rtol=1e-3)
    assert render("carpet", 30, 81, "--color", "map", "--out", "colours.npy") == 0
    assert np.load("colours.npy").shape == (81, 81, 4)


def test_a_zoom_by_a_billion_is_as_sharp_as_the_whole():
    """The Koch curve about its left end is the same at each power of three."""
    whole, zoomed = (
        drawn("koch", 60, 250, "--zoom-at", -1, 0, factor, "--supersample", 3).astype(float)
        for factor in (3, 3.0**19)
    )
    assert (whole > 0).sum() > 400
    assert np.abs(whole - zoomed).mean() < 0.03 * whole.mean()


def test_a_zoom_beside_the_fractal_goes_to_its_nearest_point(capsys):
    picture = drawn("koch", 60, 64, "--zoom-at", 0, -0.3, 1e6)
    assert picture.max() > 0
    assert (
        "is off the fractal; zooming in at its nearest point: --zoom-at" in capsys.readouterr().err
    )


def test_a_pen_keeps_its_width_in_a_zoom():
    save(
        "line",
        torch.tensor([similarity(0.5, at=(-0.5, 0)), similarity(0.5, at=(0.5, 0))]),
        stroke=0.1,
    )
    for factor in (1, 10, 1000):
        picture = drawn("line", 60, 100, "--zoom-at", 0, 0, factor)
        assert (picture[:, 50] > 127).sum() == pytest.approx(10, abs=1)


def test_an_empty_window_is_said_to_be_empty(capsys):
    assert drawn("koch", 30, 32, "--window", 0.5, 0.9, -0.9, -0.5).max() == 0
    assert "nothing of the fractal lies in this window" in capsys.readouterr().err


def test_small_numbers_may_be_written_as_the_program_writes_them():
    plain, short = (
        drawn("koch", 30, 32, "--window", low, "1e0", low, 1) for low in ("-0.125", "-1.25e-1")
    )
    assert np.array_equal(plain, short)


@pytest.mark.slow
def test_a_zoom_film_has_its_frames_and_ends_where_it_should():
    assert (
        render("gasket", 40, 64, "--zoom-at", -0.9, -0.95, 50, "--frames", 6, "--out", "zoom.gif")
        == 0
    )
    frames = film("zoom.gif")
    assert len(frames) == 6
    assert np.array_equal(frames[0], drawn("gasket", 40, 64))
    assert np.array_equal(frames[-1], drawn("gasket", 40, 64, "--zoom-at", -0.9, -0.95, 50))


def test_a_sweep_over_levels_is_a_film_or_a_contact_sheet():
    assert render("koch", 4, 80, "--figure", "segment", "--sweep", "levels") == 0
    frames = film("results/koch/koch_levels_4_80.gif")
    assert len(frames) == 5
    assert np.array_equal(frames[3], drawn("koch", 3, 80, "--figure", "segment"))
    assert (
        render("koch", 4, 80, "--figure", "segment", "--sweep", "levels", "--out", "sheet.png") == 0
    )
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (3 * 88 + 8, 2 * (80 + STRIP + 8) + 8)


def test_a_sweep_over_a_fit_shows_its_way():
    way = [CARPET * share for share in (0.5, 0.75, 1.0)]
    save(
        "way",
        CARPET,
        path={"steps": [0, 10, 20], "maps": torch.stack(way), "strokes": [0.0, 0.1, 0.0]},
    )
    assert render("way", 30, 60, "--sweep", "fit", "--out", "way.gif") == 0
    frames = film("way.gif")
    assert frames[0].mean() < frames[-1].mean()
    assert np.array_equal(frames[-1], drawn("carpet", 30, 60))
    save("first", way[0])
    assert np.array_equal(frames[0], drawn("first", 30, 60))


@pytest.mark.parametrize(
    "path",
    [
        None,
        {"steps": [0], "maps": CARPET[None], "strokes": []},
        {"steps": [0], "maps": CARPET[None, :5], "strokes": [0.0]},
        {"steps": [0], "maps": 4 * CARPET[None], "strokes": [0.0]},
        {"steps": [0], "maps": CARPET[None] / 0, "strokes": [0.0]},
        {"steps": ["0"], "maps": CARPET[None], "strokes": [0.0]},
    ],
)
def test_a_checkpoint_without_a_sound_way_is_refused(path, capsys):
    save("lost", CARPET, path=path)
    assert render("lost", 30, 60, "--sweep", "fit") == 2
    assert "make it again with train_ifs.py" in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux")
@pytest.mark.parametrize(
    "options",
    [
        "9500 --supersample 1 --memory 0.7",  # no room for a picture of floats beside PyTorch
        "3000 --kind density --color map --memory 0.7",  # else 0.77
        "3000 --color map --memory 0.8",  # else 0.85
    ],
)
def test_a_large_picture_stays_under_its_memory(options):
    program = f"""
import sys, render_ifs
code = render_ifs.main("gasket 30 {options} --out large.png --quiet".split())
status = open("/proc/self/status").read()
print(code, int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""
    where = {"env": os.environ | {"PYTHONPATH": str(Path(render_ifs.__file__).parent)}}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, **where
    )
    code, peak = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert int(peak) < float(options.split()[-1]) * 2**30


def test_little_memory_gives_the_same_picture(monkeypatch):
    monkeypatch.setattr(attractor, "SOLID_CELLS", 0)
    plain = drawn("fern", 40, 300)
    overhead = OVERHEAD / 2**30
    assert np.array_equal(drawn("fern", 40, 300, "--memory", overhead + 1e-4), plain)


BAD = [
    (["koch", "x", "64"], "RECURSION must be a whole number from 0 to"),
    (["koch", "3", "0"], "RESOLUTION must be a whole number from 1 to 2147483647"),
    (["koch", "3", "64", "--figure", "circle"], "invalid choice: 'circle'"),
    (
        ["koch", "3", "64", "--figure", "hull", "--kind", "density"],
        "--figure is for --kind occupancy and distance",
    ),
    (
        ["koch", "3", "64", "--kind", "distance", "--color", "map"],
        "--kind distance has no points to colour",
    ),
    (
        ["koch", "3", "64", "--kind", "density", "--supersample", "2"],
        "which only --kind occupancy has",
    ),
    (["koch", "3", "64", "--cmap", "nosuch"], "matplotlib has no colour map 'nosuch'"),
    (["koch", "3", "64", "--gamma", "0"], "--gamma must be from 0.05 to 20"),
    (["koch", "3", "64", "--gamma", "nan"], "--gamma must be from 0.05 to 20"),
    (["koch", "3", "64", "--memory", "0"], "--memory must be a positive number of GiB"),
    (["koch", "3", "64", "--memory", "nan"], "--memory must be a positive number of GiB"),
    (["koch", "3", "64", "--memory", "0.3"], "0.3 GiB are too little (a single row needs"),
    (["koch", "3", "2000000000"], "2 GiB are too little (a single row needs"),
    (["koch", "3", "64", "--frames", "5"], "it needs --zoom-at X Y FACTOR"),
    (
        ["koch", "3", "64", "--frames", "0", "--zoom-at", "0", "0", "5"],
        "--frames must be from 1 to 1000",
    ),
    (["koch", "3", "64", "--zoom-at", "0", "0", "0.5"], "needs a FACTOR of 1 or more"),
    (["koch", "3", "64", "--zoom-at", "0", "inf", "2"], "needs a FACTOR of 1 or more"),
    (
        ["koch", "3", "64", "--zoom-at", "-1", "0", "1e16"],
        "is beyond double precision; zoom in less",
    ),
    (
        ["koch", "3", "64", "--stroke", "0.01", "--zoom-at", "0", "0", "1e30"],
        "is beyond double precision; zoom in less",
    ),
    (
        ["koch", "3", "64", "--zoom-at", "0", "0", "5", "--window", "-1", "1", "-1", "1"],
        "give either --window or",
    ),
    (["koch", "3", "64", "--window", "0", "1", "0", "2"], "must be a square"),
    (["koch", "3", "64", "--window", "0", "nan", "0", "1"], "must be a square"),
    (
        ["koch", "3", "64", "--stroke", "0.1", "--kind", "density"],
        "--stroke is for --kind occupancy and distance",
    ),
    (["koch", "3", "64", "--stroke", "-1"], "does not fit the window"),
    (["koch", "2000", "64", "--sweep", "levels"], "2001 frames of 64 pixels are too much"),
    (["koch", "20", "20000", "--sweep", "levels"], "21 frames of 20000 pixels are too much"),
    (["koch", "3", "64", "--sweep", "fit"], "does not hold the way of its fit"),
    (["koch", "3", "64", "--out", "a.jpg"], "--out must end in .png or .npy here, not 'a.jpg'"),
    (
        ["koch", "3", "64", "--sweep", "levels", "--out", "a.npy"],
        "--out must end in .gif, .mp4 or .png",
    ),
    (["koch", "3", "64", "--sweep", "levels", "--bits", "16"], "films have 8 bits a channel"),
    (["koch", "3", "64", "--out", "koch.pt/a.png"], "cannot write koch.pt/a.png"),
]


@pytest.mark.slow
def test_settings_that_matplotlib_refuses_are_no_obstacle_and_those_that_numba_does_are_named():
    command = [
        sys.executable,
        render_ifs.__file__,
        "koch",
        "9",
        "64",
        "--cmap",
        "viridis",
        "--quiet",
    ]
    for settings, code in (({"NUMBA_NUM_THREADS": "0"}, 2), ({"MPLBACKEND": "nope"}, 0)):
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert ("NUMBA_NUM_THREADS" in done.stderr) == (code == 2)
        assert done.stderr.count("\n") == (code == 2)
        assert Path("results/koch/koch_render_9_64.png").is_file() == (code == 0)


@pytest.mark.parametrize("figure", [None, *render_ifs.FIGURES])
def test_a_map_that_shrinks_all_to_a_point_is_drawn(figure):
    save("dot", torch.tensor([affine(0, 0, 0, 0, 0.3, 0.3)]))
    options = [] if figure is None else ["--figure", figure]
    assert (drawn("dot", 40, 64, *options, "--supersample", 1) > 0).sum() == 1


# what a checkpoint says, or a drawing
LATE = (
    "a single row needs",
    "beyond double precision",
    "the way of its fit",
)


def test_what_arguments_alone_tell_is_refused_before_torch_is_loaded():
    early = [arguments for arguments, message in BAD if not any(late in message for late in LATE)]
    code = f"""
import contextlib, sys
sys.path.insert(0, {str(Path(render_ifs.__file__).parent)!r})
import compress_ifs, render_ifs
for arguments in {early}:
    with contextlib.suppress(SystemExit):
        assert render_ifs.main(arguments) == 2
    assert not {{"torch", "scipy", "tqdm"}} & set(sys.modules), arguments
for arguments in (["--bytes", "2"], ["--bits", "2"], ["--loss", "2"]):
    assert compress_ifs.main(["koch", *arguments]) == 2
    assert "torch" not in sys.modules, arguments
"""
    Image.new("L", (8, 8), 255).save("koch.png")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(early) + 3


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_clear_line_and_loses_nothing(arguments, message, capsys):
    def files() -> dict:
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    before = files()
    assert message in refusal(lambda given: render(*given), arguments, capsys)
    assert files() == before


def test_a_full_disk_is_one_line_and_loses_nothing(monkeypatch, capsys):
    Path("old.npy").write_bytes(b"old")
    usage = type("Usage", (), {"free": 64 * 64 * 4})  # of floats of four bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert render("koch", 9, 64, "--out", "fits.npy") == 0
    usage.free -= 1
    assert render("koch", 9, 64, "--out", "old.npy") == 2
    assert "old.npy would take 0.0 GiB, and the disk has 0.0 left" in capsys.readouterr().err
    assert Path("old.npy").read_bytes() == b"old"


def test_mp4_needs_a_package_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(results, "can_film", lambda: False)
    assert render("koch", 3, 64, "--sweep", "levels", "--out", "a.mp4") == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Exception ignored")  # imageio leaves the pipes of ffmpeg open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_mp4_is_written_where_it_can_be_at_odd_sizes_too(capfd):
    import imageio.v3 as imageio

    for size, *options in (
        (64, "--figure", "segment", "--sweep", "levels"),
        (33, "--zoom-at", -1, 0, 5, "--frames", 4),
    ):
        assert render("koch", 3, size, *options, "--stroke", 0.1, "--out", "a.mp4") == 0
        said = capfd.readouterr()
        assert said.err == ""
        assert ("(34 × 34 in an MP4" in said.out) == (size == 33)
        assert b"ftyp" in Path("a.mp4").read_bytes()[:32]
        first = imageio.imread("a.mp4", index=0, plugin="FFMPEG")
        assert first.shape == (size + size % 2, size + size % 2, 3)
        assert first.max() > 150


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_are_read_back_as_they_were_written(channels):
    picture = np.random.default_rng(channels).integers(0, 256, (37, 37, channels), dtype=np.uint8)
    assert save_rows(Path("rows.png"), iter([picture[:10], picture[10:11], picture[11:]]), 37)
    with Image.open("rows.png") as read:
        assert np.array_equal(np.asarray(read).reshape(picture.shape), picture)


def test_sixteen_bits_are_read_back_as_they_were_written():
    picture = np.random.default_rng(0).integers(0, 65536, (20, 20, 1), dtype=np.uint16)
    save_rows(Path("deep.png"), iter([picture[:7], picture[7:]]), 20)
    with Image.open("deep.png") as read:
        assert np.array_equal(np.asarray(read), picture[..., 0])


LEAF = torch.tensor([similarity(0.6, 30, (0.3, 0.1)), similarity(0.5, -70, (-0.4, -0.2)),
                     affine(0.4, 0.1, -0.1, 0.5, 0.0, 0.45)]).double()  # fmt: skip


def greys_by_chance(maps: torch.Tensor, exposure: float, size: int) -> torch.Tensor:
    """Coverage 1 − exp(−exposure · ρ) of a chaos game, where a map's turn is as likely as its area
    is large, blurred by half a pixel of 32."""
    areas = np.abs(np.linalg.det(maps[:, :, :2].numpy()))
    xforms = [
        {"coefs": (a, c, b, d, e, f), "weight": area}
        for ((a, b, e), (c, d, f)), area in zip(maps.tolist(), areas, strict=True)
    ]
    counts = played(xforms, scale=size / 2, size=size, counts=True, games=8000)[::-1]
    density = gaussian_filter(counts / counts.sum(), 0.5 * size / 32, mode="constant")
    return torch.from_numpy(-np.expm1(-exposure * density * (size / 2) ** 2)).float()


@pytest.mark.slow
def test_the_greys_of_a_fit_are_those_of_a_chaos_game_at_any_resolution(capsys):
    for true in (0.05, 3.0, 30.0):
        found = exposure(LEAF, WINDOW, greys_by_chance(LEAF, true, 32))
        assert found == pytest.approx(true, rel=0.06)
    save("grey", LEAF, size=32, exposure=3.0)
    for size in (32, 64, 256):
        picture = torch.from_numpy(drawn("grey", 1000, size) / 255).float()
        assert (picture - greys_by_chance(LEAF, 3.0, size)).square().mean() < 2e-4
        assert len(picture.unique()) > 30
    window = drawn("grey", 1000, 128, "--window", -0.5, 0.5, -0.5, 0.5)
    assert np.abs(window / 255.0 - drawn("grey", 1000, 256)[64:192, 64:192] / 255.0).max() < 0.02
    save("leaf", LEAF)
    assert np.array_equal(drawn("grey", 30, 64, "--kind", "occupancy"), drawn("leaf", 30, 64))
    assert render("leaf", 30, 64, "--kind", "grey") == 2
    assert "is not the fit of a grey picture" in capsys.readouterr().err


def test_a_level_short_of_a_slow_attractor_is_told_of(capsys):
    save("slow", torch.tensor([similarity(0.97, degrees=57), similarity(0.1, at=(0.8, 0))]))
    for recursion, told in (5, False), (30, True), (300, False):
        assert render("slow", recursion, 64) == 0
        assert ("RECURSION 137 draws all of it" in capsys.readouterr().err) == told


def test_densities_are_shown_by_their_logarithms(monkeypatch):
    """log(1 + m / mean) over log(1 + peak / mean), and black where there is nothing."""
    mass = torch.tensor([[0.0, 1.0], [2.0, 9.0]], dtype=torch.float64)
    wanted = np.log1p(mass.numpy() / 4) / np.log1p(9 / 4)
    for height in (2, 1):  # however it comes
        monkeypatch.setattr(Drawing, "strips", lambda _, rows=height: iter(mass.split(rows)))
        shown = np.concatenate(
            list(Drawing(CARPET, View(WINDOW, 2), Style("density", bits=16)).rows())
        )
        assert np.abs(shown[..., 0] / 65535 - wanted).max() < 1e-4
