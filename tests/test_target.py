"""Pictures as people save them, each drawn here, with the mask that was drawn as the
expectation."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from refusals import refusal

import compress_ifs
import train_ifs
from diff_ifs import Setup
from diff_ifs.errors import InputError
from diff_ifs.files.target import load_target, read_target

PATH = Path("horse.png")
SHAPES = [(128, 128), (96, 160)]  # width, height


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def drawn(width: int, height: int) -> np.ndarray:
    """Coverage (height, width) of a body with a head, an eye and legs: seven parts of a beast, with
    soft edges."""
    picture = Image.new("L", (4 * width, 4 * height))
    pen, x, y = ImageDraw.Draw(picture), 4 * width / 100, 4 * height / 100
    pen.ellipse((15 * x, 35 * y, 80 * x, 70 * y), fill=255)
    pen.ellipse((60 * x, 15 * y, 92 * x, 45 * y), fill=255)
    for left in (22, 38, 58, 70):
        pen.rectangle((left * x, 60 * y, (left + 7) * x, 90 * y), fill=255)
    pen.ellipse((75 * x, 24 * y, 82 * x, 31 * y), fill=0)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), dtype=float) / 255


def squared(coverage: np.ndarray) -> np.ndarray:
    """Where coverage (H, W), in the middle of a square, is at least a half."""
    side = max(coverage.shape)
    square = np.zeros((side, side), dtype=bool)
    top, left = ((side - n) // 2 for n in coverage.shape)
    square[top : top + coverage.shape[0], left : left + coverage.shape[1]] = coverage >= 0.5
    return square


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def save(pixels: np.ndarray, path: Path = PATH, **options) -> Path:
    Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)).save(path, **options)
    return path


def check(coverage: np.ndarray, least: float = 0.97, path: Path = PATH, **options) -> str:
    """What is said of a picture whose figure has this coverage (H, W)."""
    side = max(coverage.shape)
    seen = read_target(path, side, **options)
    assert not seen.grey
    assert seen.coverage.shape == (side, side)
    assert alike(seen.coverage >= 0.5, squared(coverage)) >= least
    return seen.said


def mixed(coverage: np.ndarray, figure: tuple, ground: tuple) -> np.ndarray:
    return coverage[..., None] * figure + (1 - coverage[..., None]) * np.array(ground, dtype=float)


@pytest.fixture(params=SHAPES)
def beast(request) -> np.ndarray:
    return drawn(*request.param)


# --- Transparency ---


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_what_is_opaque_is_the_figure_whatever_its_colour(beast, colour):
    pixels = np.concatenate([mixed(beast, colour, colour), 255 * beast[..., None]], axis=2)
    assert "the opaque part is the figure" in check(beast, path=save(pixels))
    pixels[..., 3] *= 0.6
    check(beast, path=save(pixels))
    grey = np.concatenate([np.zeros_like(beast[..., None]), 255 * beast[..., None]], axis=2)
    check(beast, path=save(grey))


def test_invert_fits_what_is_transparent():
    beast = drawn(128, 128)
    save(np.concatenate([mixed(beast, (0, 0, 0), (0, 0, 0)), 255 * beast[..., None]], axis=2))
    assert "the transparent part (--invert)" in check(1 - beast, invert=True)


def test_where_all_is_opaque_colours_decide(beast):
    pixels = mixed(beast, (220, 20, 40), (255, 255, 255))
    check(beast, path=save(np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)))


# --- Colour ---


@pytest.mark.parametrize(
    ("figure", "ground", "said"),
    [
        ((220, 20, 40), (255, 255, 255), "a red figure on white"),
        ((250, 220, 60), (20, 40, 120), "a yellow figure on blue"),
        ((128, 0, 0), (0, 0, 0), "a red figure on black"),
        ((0, 0, 0), (240, 200, 40), "a black figure on yellow"),
        ((255, 255, 255), (30, 140, 60), "a white figure on green"),
        ((250, 130, 20), (255, 255, 255), "an orange figure on white"),
    ],
)
def test_what_has_not_the_colour_of_the_border_is_the_figure(beast, figure, ground, said):
    save(mixed(beast, figure, ground))
    assert said in check(beast)
    least = 0.95 if beast.shape[0] > beast.shape[1] else 0.97
    _, name, _, _, page = said.split()
    swapped = f"the {page} ground around what is {name} (--invert)"
    assert swapped in check(1 - beast, invert=True, least=least)


def test_a_figure_of_several_colours_is_one_figure_and_its_white_parts_are_page(beast):
    bands = np.array([(220, 60, 30), (40, 160, 70), (60, 80, 200)])[
        np.arange(beast.shape[1]) // 20 % 3
    ]
    save(mixed(beast, bands[None], (255, 255, 255)))
    assert "many-coloured" in check(beast, 0.95)


@pytest.mark.parametrize("quality", [30, 85])
def test_jpeg_and_noise_make_no_holes_and_specks_in_colours(beast, quality):
    pixels = mixed(beast, (40, 90, 200), (250, 250, 250))
    check(beast, path=save(pixels, Path("horse.jpg"), quality=quality))
    chance = np.random.default_rng(quality)
    check(beast, path=save(pixels + chance.normal(0, 20, pixels.shape)))


def test_a_palette_is_its_colours():
    beast = drawn(128, 128)
    picture = Image.fromarray((beast >= 0.5).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 0, 60, 0])
    picture.save(PATH)
    check(beast)


# --- Levels ---


@pytest.mark.slow
@pytest.mark.parametrize(("dark", "bright"), [(0, 110), (90, 210), (26, 255), (0, 1), (200, 215)])
def test_the_brighter_of_two_levels_is_the_figure_whatever_they_are(beast, dark, bright):
    save(dark + (bright - dark) * beast)
    assert f"a light figure on a dark ground; two levels, {dark} and {bright} of 255" in check(
        beast
    )
    save(bright - (bright - dark) * beast)
    check(1 - beast)
    assert "a dark figure on a light ground (--invert)" in check(beast, invert=True)


def test_soft_edges_keep_their_coverage_stretched():
    beast = drawn(128, 128)
    save(90 + 120 * beast)
    assert np.abs(read_target(PATH, 128).coverage - beast).max() < 0.02


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_deep_pictures_have_their_own_white(beast, most):
    Image.fromarray((beast * most).astype(np.uint16)).save(PATH)
    check(beast)


@pytest.mark.parametrize("sigma", [8, 25, 50])
def test_noise_makes_no_holes_and_specks(beast, sigma):
    chance = np.random.default_rng(sigma)
    save(45 + 160 * beast + chance.normal(0, sigma, beast.shape))
    check(beast)


def test_salt_and_pepper_make_no_holes_and_specks(beast):
    chance = np.random.default_rng(0).random(beast.shape)
    save(np.where(chance < 0.02, 0, np.where(chance > 0.98, 255, 40 + 170 * beast)))
    check(beast)


def test_a_jpeg_of_two_levels_is_one(beast):
    for quality in (20, 80):
        check(beast, path=save(30 + 200 * beast, Path("horse.jpg"), quality=quality))


@pytest.mark.parametrize("light", ["slope", "corner", "middle"])
def test_uneven_light_makes_no_holes_and_specks(beast, light):
    """Dark places of the page are as dark as bright ones of the ink."""
    y, x = (np.linspace(-1, 1, n) for n in beast.shape)
    y = y[:, None]
    shade = {
        "slope": 0.7 + 0.2 * x + 0.1 * y,
        "corner": 1 - 0.5 * np.exp(-((x + 1) ** 2 + (y - 1) ** 2)),
        "middle": 1 - 0.25 * (x**2 + y**2),
    }[light]
    for levels, options in (((230, 70), {"invert": True}), ((50, 220), {})):
        save(shade * (levels[0] + (levels[1] - levels[0]) * beast))
        check(beast, **options)
    save(shade[..., None] * mixed(beast, (60, 90, 200), (250, 245, 240)))
    check(beast, 0.96)


def test_a_few_flat_greys_are_one_figure(beast):
    bands = np.array([250, 150, 90])[np.arange(beast.shape[1]) // 20 % 3]
    save(bands * beast)
    check(beast, 0.95)
    save(255 - (255 - np.array([0, 110, 60]))[np.arange(beast.shape[1]) // 20 % 3] * beast)
    check(beast, 0.95, invert=True)


# --- Lines ---


def line(side: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (side, side) of three turns of a spiral, `width` pixels wide, and the points that it
    follows."""
    turn = np.linspace(0, 1, 4000)
    radius, angle = side * (0.05 + 0.4 * turn), 6 * np.pi * turn
    points = side / 2 + radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    fine = Image.new("L", (8 * side, 8 * side))
    pairs = [(8 * px, 8 * py) for py, px in points]
    ImageDraw.Draw(fine).line(pairs, fill=255, width=max(1, round(8 * width)))
    return np.asarray(fine.resize((side, side), Image.Resampling.BOX), dtype=float) / 255, points


@pytest.mark.parametrize(
    ("side", "width"),
    [
        (128, 0.4),
        *(pytest.param(128, width, marks=pytest.mark.slow) for width in (0.7, 1.0, 2.0)),
        *(pytest.param(384, width, marks=pytest.mark.slow) for width in (0.4, 1.0)),
    ],
)
def test_a_line_stays_one_line_however_thin_and_faint(side, width):
    from scipy import ndimage

    coverage, points = line(side, width)
    for pixels, options in (
        (255 * coverage, {}),
        (255 - 255 * coverage, {"invert": True}),
        (30 + 50 * coverage, {}),
    ):
        save(pixels)
        seen = read_target(PATH, 128, **options)
        on = seen.coverage >= 0.5
        assert not seen.grey
        assert ndimage.label(on, np.ones((3, 3)))[1] == 1, "it is not torn"
        away = ndimage.distance_transform_edt(~on)
        places = np.minimum((points * 128 / side).astype(int), 127)
        assert away[tuple(places.T)].max() < 2, "all of it is there"
        curve = np.ones_like(on)
        curve[tuple(places.T)] = False
        assert ndimage.distance_transform_edt(curve)[on].max() < 2.5, "and nothing else"


def test_a_line_is_read_alike_in_a_mirror_and_on_its_side():
    coverage = line(128, 0.5)[0]

    def read(pixels: np.ndarray) -> np.ndarray:
        return read_target(save(255 * pixels), 128).coverage

    seen = read(coverage)
    assert np.array_equal(read(coverage[:, ::-1]), seen[:, ::-1])
    assert np.array_equal(read(coverage.T), seen.T)


@pytest.mark.parametrize(("size", "width"), [(128, 2), (64, 3)])
def test_a_faint_line_beside_what_is_solid_is_one_in_a_png_and_an_artefact_in_a_jpeg(size, width):
    """A square of 40 × 40 pixels, and a line of 70 that covers a fifth of each, or three tenths."""
    fine = Image.new("L", (1280, 1280))
    pen = ImageDraw.Draw(fine)
    pen.rectangle((200, 200, 599, 599), fill=255)
    pen.line([(450, 800), (1150, 1000)], fill=255, width=width)
    pixels = np.asarray(fine.resize((128, 128), Image.Resampling.BOX))
    for name, length in (("horse.png", 70), ("horse.jpg", 0)):
        on = read_target(save(pixels, Path(name), quality=60), size).coverage >= 0.5
        assert abs(on.sum() - 1600 * (size / 128) ** 2 - length * size / 128) < 12


# --- Greys ---


def test_photos_and_small_soft_digits_are_grey_and_silhouettes_are_not():
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    save(255 * np.clip(1.2 - np.hypot(x, y), 0, 1))
    seen = read_target(PATH, 128)
    assert seen.grey
    assert "--no-grey fits black and white" in seen.said
    assert np.abs(seen.coverage - np.clip(1.2 - np.hypot(x, y), 0, 1)).max() < 0.003
    assert not read_target(PATH, 128, grey=False).grey
    Image.fromarray((255 * line(112, 8)[0]).astype(np.uint8)).resize(
        (28, 28), Image.Resampling.BOX
    ).save(PATH)
    assert read_target(PATH, 32).grey


def test_greys_are_as_opaque_as_the_picture():
    alpha = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))
    grey = np.full_like(alpha, 200)
    Image.fromarray(np.dstack([grey, grey, grey, alpha])).save(PATH)
    seen = read_target(PATH, 64, grey=True).coverage
    assert np.abs(seen - 200 / 255 * alpha / 255).max() < 0.01


def test_eight_bits_in_sixteen_keep_their_white():
    """Numbers up to 200 in a picture of 16 bits are 200 of 255; those up to 20000 are relative."""
    ramp = np.tile(np.linspace(0, 200, 64).round(), (64, 1))
    for top, factor in ((200 / 255, 1), (1.0, 100)):
        Image.fromarray((ramp * factor).astype(np.uint16)).save(PATH)
        seen = read_target(PATH, 64, grey=True).coverage
        assert np.abs(seen - top * ramp / 200).max() < 0.01


# --- What is doubtful, and what is refused ---


@pytest.mark.slow
def test_a_page_that_is_fitted_is_said_before_and_beside_the_result(capsys):
    save(255 - 229 * drawn(64, 64))
    tiny = [
        "--maps",
        "2",
        "--steps",
        "10",
        "--starts",
        "2",
        "--size",
        "32",
        "--points",
        "200",
        "--stroke",
        "0",
        "--quiet",
    ]
    assert train_ifs.main(["horse", *tiny]) == 0
    said = capsys.readouterr()
    assert (
        "a dark figure on a light page, and the page is fitted: --invert fits the figure"
        in said.err.split("\n")[0]
    )
    assert "this is a fit of the ground, not of the figure: --invert fits the figure" in said.err
    assert train_ifs.main(["horse", *tiny, "--invert"]) == 0
    assert "fits the figure" not in capsys.readouterr().err
    with Image.open("results/horse/horse_target.png") as shown:
        wanted = load_target(PATH, 32, invert=True)
        assert np.array_equal(np.asarray(shown), np.round(255 * wanted.numpy()))
    assert train_ifs.main(["horse", "--resume", "--quiet"]) == 0
    assert train_ifs.main(["horse", "--resume", "--quiet", "--invert", "--maps", "2"]) == 0
    capsys.readouterr()
    assert "made with another --maps" in refusal(
        train_ifs.main, ["horse", "--resume", "--maps", "3"], capsys
    )
    capsys.readouterr()
    assert compress_ifs.main(["horse", "--bits", "4", "--effort", "0", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_threshold_says_where_figure_and_ground_part():
    ramp = np.arange(256.0).reshape(16, 16).repeat(4, 0).repeat(4, 1)
    save(ramp)
    for threshold in (1, 100, 255):
        seen = read_target(PATH, 64, threshold=threshold)
        assert not seen.grey
        assert np.array_equal(seen.coverage, ramp >= threshold)
        assert np.array_equal(
            read_target(PATH, 64, invert=True, threshold=threshold).coverage, ramp < threshold
        )
    assert Setup(threshold=7, invert=True).threshold == 7


def test_a_doubtful_reading_names_a_threshold_that_can_be_given():
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    save(255 / (1 + np.exp(20 * (np.hypot(x, y) - 0.4))))  # a blot whose edge is as wide as itself
    seen = read_target(PATH, 128, grey=False)
    (hint,) = seen.hints
    given = int(re.search(r"--threshold T settles it, as (\d+) does here", hint)[1])
    again = read_target(PATH, 128, threshold=given)
    assert alike(again.coverage >= 0.5, seen.coverage >= 0.5) > 0.95
    assert not again.hints


def test_a_thin_frame_and_a_banner_are_pointed_out():
    beast = 255 * drawn(128, 128)
    save(beast)
    assert read_target(PATH, 128).hints == []
    framed = beast.copy()
    framed[3:125, 3:125][np.pad(np.zeros((118, 118), dtype=bool), 2, constant_values=True)] = 255
    save(framed)
    assert any("thin frame all around" in hint for hint in read_target(PATH, 128).hints)
    save(framed[5:-5, 5:-5])  # the advice, followed
    assert read_target(PATH, 128).hints == []
    save(np.pad(beast[30:60], ((0, 0), (60, 60))))
    (hint,) = read_target(PATH, 128).hints
    assert "leaves the fit 15 of 128 rows" in hint
    larger = int(re.search(r"--size (\d+)", hint)[1])
    assert read_target(PATH, larger).coverage.shape == (larger, larger)


REFUSED = {
    "one colour": (np.full((64, 64), 90.0), {}, "draw something on it in another"),
    "noise": (np.random.default_rng(0).uniform(0, 255, (64, 64)), {}, "--grey fits it as it is"),
    "binary noise": (
        255.0 * (np.random.default_rng(1).random((64, 64)) < 0.5),
        {},
        "--grey fits it as it is",
    ),
    "nothing above": (20 + 100 * drawn(64, 64), {"threshold": 130}, "give one from 21 to 120"),
    "nothing below": (20 + 100 * drawn(64, 64), {"threshold": 3}, "give one from 21 to 120"),
    "both": (20 + 100 * drawn(64, 64), {"threshold": 3, "grey": True}, "leave it out"),
    "transparent": (np.zeros((64, 64, 4)), {}, "is transparent all over"),
    "a speck": (255.0 * (np.arange(512 * 512) == 70_000).reshape(512, 512), {}, "give --size 512"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_advice_is_accepted_when_it_is_followed(kind):
    pixels, options, advice = REFUSED[kind]
    save(pixels)
    with pytest.raises(InputError, match=re.escape(advice)) as caught:
        read_target(PATH, 64, **options)
    said = str(caught.value)
    assert "\n" not in said
    if "draw something" in said:
        pixels = pixels.copy()
        pixels[20:40, 20:40] = 255 - pixels[20:40, 20:40]
        save(pixels)
        followed = [{}]
    elif "--size" in said:
        assert read_target(PATH, int(re.search(r"--size (\d+)", said)[1])).coverage.max() >= 0.5
        return
    elif "give one from" in said:
        followed = [
            {"threshold": int(number)}
            for number in re.search(r"from (\d+) to (\d+)", said).groups()
        ]
    else:
        followed = (
            [{"grey": True}] if "--grey fits" in said else [{"threshold": 50}, {"grey": True}]
        )
    for followed_options in followed:
        assert read_target(PATH, 64, **followed_options).coverage.max() >= 0.5


@pytest.mark.slow
def test_a_fit_without_a_pixel_does_not_end_like_a_success(capsys, monkeypatch):
    save(255 * drawn(64, 64))
    tiny = [
        "--steps",
        "10",
        "--starts",
        "1",
        "--size",
        "32",
        "--quiet",
        "--stroke",
        "0",
        "--points",
        "200",
    ]
    Path("horse_setup.py").write_text(
        "from diff_ifs import Setup, similarity\n"
        "SETUP = Setup(maps=[similarity(0.01, at=(0.9, 0.9))], rate=1e-6, jitter=0.0, rounds=0)\n"
    )
    assert train_ifs.main(["horse", *tiny]) == 0
    said = capsys.readouterr()
    assert "inf" not in said.out + said.err
    assert "fit: " in said.err
    assert re.search("try --maps 3|--maps 3 or another --seed", said.err)


def test_no_steps_show_the_initial_maps_and_write_no_checkpoint(capsys):
    save(255 * drawn(64, 64))
    assert (
        train_ifs.main(
            ["horse", "--steps", "0", "--maps", "3", "--starts", "2", "--size", "32", "--quiet"]
        )
        == 0
    )
    assert "before the first step" in capsys.readouterr().out
    assert sorted(path.name for path in Path("results/horse").iterdir()) == [
        "frame_000000.png",
        "horse_target.png",
    ]
    assert not list(Path().glob("*.pt"))


def test_of_two_pictures_the_one_that_is_read_is_said(capsys):
    save(255 * drawn(64, 64))
    save(255 * drawn(64, 64), Path("horse.jpg"))
    options = ["--steps", "0", "--maps", "2", "--starts", "1", "--size", "32", "--quiet"]
    assert train_ifs.main(["horse", *options]) == 0
    assert "horse.png is read; python train_ifs.py horse.jpg reads that" in capsys.readouterr().err
    assert train_ifs.main(["horse.jpg", *options]) == 0
    assert capsys.readouterr().err.startswith("horse.jpg: ")
