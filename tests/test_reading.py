"""Every word about a picture that is read, and every pixel of it, in tables of small pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diff_ifs.errors import InputError
from diff_ifs.files.ground import NoFigureError
from diff_ifs.files.target import read_target


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def block(figure, ground, shape=(60, 60), at=(slice(10, 40), slice(20, 50))) -> np.ndarray:
    """A block of one colour, off the middle, on another."""
    pixels = np.empty((*shape, len(ground)), dtype=np.uint8)
    pixels[:] = ground
    pixels[at] = figure
    return pixels


def read(pixels: np.ndarray, size: int = 60, **options):
    Image.fromarray(pixels.squeeze()).save("a.png")
    return read_target(Path("a.png"), size, **options)


HUES = {  # full colours, thirty degrees apart, and what lies up to fifteen degrees from them
    (255, 0, 0): "a red", (255, 0, 60): "a red", (255, 60, 0): "a red", (255, 68, 0): "an orange",
    (255, 128, 0): "an orange", (255, 187, 0): "an orange", (255, 196, 0): "a yellow",
    (255, 255, 0): "a yellow", (196, 255, 0): "a yellow", (187, 255, 0): "a green",
    (0, 255, 0): "a green", (0, 255, 187): "a green", (0, 255, 196): "a cyan",
    (0, 255, 255): "a cyan", (0, 196, 255): "a cyan", (0, 187, 255): "a blue",
    (0, 0, 255): "a blue", (60, 0, 255): "a blue", (68, 0, 255): "a purple",
    (128, 0, 255): "a purple", (187, 0, 255): "a purple", (196, 0, 255): "a pink",
    (255, 0, 255): "a pink", (255, 0, 68): "a pink",
    (50, 50, 50): "a black", (54, 52, 54): "a grey", (214, 214, 214): "a grey",
    (219, 219, 219): "a white", (230, 202, 202): "a grey", (10, 10, 45): "a blue",
}  # fmt: skip


@pytest.mark.parametrize(("colour", "name"), HUES.items())
def test_colours_have_the_names_that_people_give_them(colour, name):
    ground, named = ((0, 90, 0), "green") if len(set(colour)) < 3 else ((128, 128, 0), "yellow")
    if named in name or name == "a yellow":
        ground, named = (90, 0, 160), "purple"
    found = read(block(colour, ground))
    assert found.said == f"a.png: {name} figure on {named}"
    assert found.hints == []
    assert np.array_equal(found.coverage, block(1, (0,)).squeeze())


WIDE = block((200,), (40,), (16, 100), (slice(3, 9), slice(20, 60)))
RGBA = block((9, 90, 200, 255), (255, 255, 255, 0))
FRAMED = block((255,), (0,))
FRAMED[2], FRAMED[-3], FRAMED[2:-2, 2], FRAMED[2:-2, -3] = 255, 255, 255, 255
FRAMED[:2], FRAMED[-2:], FRAMED[:, :2], FRAMED[:, -2:] = 0, 0, 0, 0
OPEN = FRAMED.copy()
OPEN[2:-2, 2] = 0
LARGE = block((255,), (0,), (60, 60), (slice(0, 60), slice(0, 60)))
LARGE[3], LARGE[-4], LARGE[3:-3, 3], LARGE[3:-3, -4] = 0, 0, 0, 0
LARGE[20:30, 30:40] = 0
NARROW = " leaves the fit {} of {} {}: cut off what is beside the figure"
FRAME = "a.png has a thin frame all around, which is fitted with it: cut it off"
LEVELS = "two levels, {} and {} of 255"
SAID = [  # pixels, size, options, what is said after "a.png: ", and the hints
    (block((200,), (40,)), 60, {}, "a light figure on a dark ground; " + LEVELS.format(40, 200),
     []),
    (block((40,), (200,)), 60, {"invert": True},
     "a dark figure on a light ground (--invert); " + LEVELS.format(40, 200), []),
    (block((200,), (40,)), 60, {"threshold": 77},
     "a light figure on a dark ground; " + LEVELS.format(40, 200) + ", parted at 77 of 255", []),
    (block((40,), (200,)), 60, {},
     "a dark figure on a light page, and the page is fitted: --invert fits the figure; "
     + LEVELS.format(40, 200), []),
    (block((40,), (200,)), 60, {"invert": True, "threshold": 77},
     "a dark figure on a light ground (--invert); " + LEVELS.format(40, 200)
     + ", parted at 77 of 255", []),
    (block((200,), (40,)), 60, {"invert": True},
     "a light figure on a dark ground, and the ground is fitted: --no-invert fits the figure; "
     + LEVELS.format(40, 200), []),
    (block((200, 0, 0), (255, 255, 255)), 60, {"threshold": 99},
     "a red figure on white, parted at 99 of 255", []),
    (block((200, 0, 0), (255, 255, 255)), 60, {"invert": True},
     "the white ground around what is red (--invert)", []),
    (RGBA, 60, {}, "the opaque part is the figure", []),
    (RGBA, 60, {"threshold": 9}, "the opaque part is the figure, parted at 9 of 255", []),
    (RGBA, 60, {"invert": True}, "the transparent part (--invert) is the figure", []),
    (WIDE, 64, {}, "a light figure on a dark ground; " + LEVELS.format(40, 200),
     ["a.png" + NARROW.format(10, 64, "rows") + ", or give --size 256"]),  # 64 * 16 / 100
    (WIDE.transpose(1, 0, 2), 32, {},
     "a light figure on a dark ground; " + LEVELS.format(40, 200),
     ["a.png" + NARROW.format(5, 32, "columns") + ", or give --size 128"]),
    (WIDE, 1030, {}, "a light figure on a dark ground; " + LEVELS.format(40, 200),
     ["a.png" + NARROW.format(165, 1030, "rows") + ", or give --size 4096"]),
    (np.concatenate([WIDE, WIDE[:1]]), 64, {},
     "a light figure on a dark ground; " + LEVELS.format(40, 200), []),  # 11 of 64 are a sixth
    (FRAMED, 60, {}, "a light figure on a dark ground; " + LEVELS.format(0, 255), [FRAME]),
    (OPEN, 60, {}, "a light figure on a dark ground; " + LEVELS.format(0, 255), []),
    (LARGE, 60, {},
     "a dark figure on a light page, and the page is fitted: --invert fits the figure; "
     + LEVELS.format(0, 255), [FRAME]),
]  # fmt: skip


@pytest.mark.parametrize(("pixels", "size", "options", "said", "hints"), SAID)
def test_every_word_about_a_picture(pixels, size, options, said, hints):
    found = read(pixels, size, **options)
    assert found.said == f"a.png: {said}"
    assert found.hints == hints
    assert found.page == ("is fitted: " in said)
    assert not found.grey
    corner = float("ground" in said.split("figure")[0] or "transparent" in said or found.page)
    height, width = pixels.shape[:2]
    if height == width:
        assert found.coverage[0, 0] == corner
        assert found.coverage[15, 35] == 1 - corner if pixels is not LARGE else 1


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (block((40,), (40,)), {}, "a.png has one colour alone; draw something on it in another"),
        (block((40,), (40,)), {"grey": True},
         "a.png has one colour alone; draw something on it in another"),
        (block((0, 0, 0, 0), (9, 9, 9, 0)), {}, "a.png is transparent all over; draw something"),
        (block((200,), (40,)), {"threshold": 40},
         "--threshold 40 of a.png takes all of it: its brightness is 40 to 200; give one from 41 "
         "to 200"),
        (block((200,), (40,)), {"threshold": 201},
         "--threshold 201 of a.png leaves nothing of it: its brightness is 40 to 200; give one "
         "from 41 to 200"),
        (block((0, 0, 0, 200), (0, 0, 0, 8)), {"threshold": 8},
         "--threshold 8 of a.png takes all of it: its opacity is 8 to 200; give one from 9 to 200"),
        (block((200,), (40,)), {"threshold": 9, "grey": True},
         "a threshold is for black and white: leave it out, or --grey"),
    ],
)  # fmt: skip
def test_every_word_of_a_refusal(pixels, options, words):
    with pytest.raises((InputError, NoFigureError)) as caught:
        read(pixels, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("invert", [False, True])
def test_greys_are_brightness_by_the_weights_of_television_times_opacity(invert):
    """0.299, 0.587 and 0.114 of red, green and blue."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 32, 4), dtype=np.uint8)
    found = read(pixels, 32, grey=True, invert=invert)
    shade = pixels[..., :3] / 255 @ [0.299, 0.587, 0.114]
    wanted = (1 - shade if invert else shade) * pixels[..., 3] / 255
    assert np.abs(found.coverage - wanted).max() <= 0.5 / 255 + 1e-6
    assert found.said == "a.png: a picture with greys, fitted with them"


def test_faint_greys_are_brightened_to_the_full():
    pixels = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
    found = read(pixels, 32, grey=True)
    assert np.abs(found.coverage - pixels / 31).max() < 0.02


def test_what_is_half_transparent_everywhere_is_as_opaque_as_its_most_opaque_part():
    """A tenth of the figure at most is more opaque than that."""
    found = read(block((9, 9, 9, 100), (255, 255, 255, 0)))
    assert np.array_equal(found.coverage, block(1, (0,)).squeeze())
    soft = block((9, 9, 9, 200), (255, 255, 255, 0))
    soft[10:13, 20:50] = (9, 9, 9, 50)
    assert read(soft).coverage[11, 30] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("shape", [(2050, 300), (300, 2050)])
def test_large_pictures_are_averaged_by_whole_factors_strip_by_strip(shape):
    """To at most 1024 pixels: of 2050, three by three; each has the third that is white."""
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[30:240, 60:270] = 255
    found = read(pixels, 64)
    side = max(shape)
    square = np.zeros((side, side))
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    square[top : top + shape[0], left : left + shape[1]] = pixels / 255
    edges = np.round(np.linspace(0, side, 65)).astype(int)
    wanted = np.add.reduceat(np.add.reduceat(square, edges[:-1], 0), edges[:-1], 1)
    wanted /= np.outer(np.diff(edges), np.diff(edges))
    assert np.abs(found.coverage - wanted).mean() < 0.003


@pytest.mark.parametrize(
    ("shape", "top", "left"),
    [((31, 60), 14, 0), ((60, 31), 0, 14), ((30, 60), 15, 0), ((60, 30), 0, 15)],
)
def test_a_picture_lies_in_the_middle_or_half_a_pixel_up_or_left_of_it(shape, top, left):
    pixels = block((255,), (0,), shape, (slice(3, 20), slice(5, 25)))
    square = np.zeros((60, 60))
    square[top + 3 : top + 20, left + 5 : left + 25] = 1
    assert np.array_equal(read(pixels).coverage, square)
