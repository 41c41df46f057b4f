"""What each option of render_ifs.py shows, beside pictures that are drawn by numpy or counted by
hand."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from drawings import PLACES, discs, dots, drawn, middles, numbers, render, save
from PIL import Image, ImageDraw
from refusals import refusal
from scipy.ndimage import binary_erosion
from systems import CARPET

from diff_ifs.setup import WINDOW, affine, similarity

SPECKS = dots()
MIDDLE = tuple(np.mean(PLACES, axis=0))  # of three specks of one mass


@pytest.fixture(autouse=True)
def _in_a_folder_with_specks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("specks", SPECKS)
    save("pens", SPECKS, stroke=0.2)
    save("carpet", CARPET)


def bytes_of(coverage: np.ndarray, most: int = 255) -> np.ndarray:
    return np.round(coverage.astype(np.float32) * most).astype(int)


# --- Occupancy: windows, pens, sub-pixels, levels ---


@pytest.mark.parametrize("window", [WINDOW, (-0.4, 0.6, 0.05, 1.05), (-3.0, 1.0, -1.5, 2.5)])
@pytest.mark.parametrize("stroke", [0.0, 0.13])
def test_specks_and_their_pens_are_where_they_belong(window, stroke):
    picture = drawn("specks", 30, 50, "--window", *window, "--stroke", stroke)
    assert np.array_equal(picture, bytes_of(discs(stroke, 50, window)))
    assert picture.any()


@pytest.mark.parametrize(
    "place", [(1.2537, 0.31), (-1.2537, -0.22), (0.43, 1.2537), (-0.11, -1.2537)]
)
def test_pens_reach_in_from_beyond_each_edge(place):
    save("beyond", dots([place]), stroke=0.31)
    picture = drawn("beyond", 30, 40)
    assert np.array_equal(picture, bytes_of(discs(0.31, 40, places=[place])))
    assert picture.max() == 255


def test_the_pen_is_that_of_the_checkpoint_unless_another_is_given():
    assert np.array_equal(drawn("pens", 30, 40), bytes_of(discs(0.2, 40)))
    assert np.array_equal(drawn("pens", 30, 40, "--stroke", 0.1), bytes_of(discs(0.1, 40)))
    assert np.array_equal(drawn("pens", 30, 40, "--stroke", 0), bytes_of(discs(0, 40)))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_sub_pixels_smooth_the_edges(parts):
    picture = drawn("pens", 30, 30, "--supersample", parts)
    assert np.array_equal(picture, bytes_of(discs(0.2, 30, parts=parts)))
    assert len(np.unique(picture)) > parts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "parts"),
    [(1024, 4), pytest.param(1025, 2, marks=pytest.mark.slow)],
)
def test_large_pictures_have_fewer_sub_pixels(size, parts):
    picture = drawn("specks", 30, size, "--stroke", 0.01)
    assert np.array_equal(picture, bytes_of(discs(0.01, size, parts=parts)))


def test_pictures_beyond_4096_pixels_have_one_sub_pixel():
    picture = drawn("specks", 30, 4100, "--stroke", 0.002)
    assert set(np.unique(picture)) == {0, 255}


@pytest.mark.parametrize("factor", [1, 4, 32])
def test_a_zoom_is_about_its_point_and_keeps_the_pens_width_in_pixels(factor):
    half = 1 / factor
    x, y = PLACES[1][0] + 0.217 * half, PLACES[1][1] - 0.123 * half
    window = (x - half, x + half, y - half, y + half)
    picture = drawn("pens", 30, 40, "--zoom-at", x, y, factor)
    assert np.array_equal(picture, bytes_of(discs(0.2 / factor, 40, window)))


def test_the_point_that_a_zoom_goes_to_instead_is_named_and_is_where_it_went(capsys):
    picture = drawn("specks", 30, 40, "--zoom-at", 0.5, 0.9, 100)
    said = capsys.readouterr().err
    assert said.startswith("(0.5, 0.9) is off the fractal; zooming in at its nearest point: ")
    place = said.split("--zoom-at ")[1].split()
    assert [float(x) for x in place] == pytest.approx([*PLACES[1], 100], abs=2e-5)
    assert np.array_equal(drawn("specks", 30, 40, "--zoom-at", *place), picture)
    assert capsys.readouterr().err == ""
    assert 0 < (picture > 0).sum() < 20


@pytest.mark.parametrize(("off", "told"), [(0.24, False), (0.26, True)])
def test_a_zoom_stays_where_it_was_asked_to_be_as_long_as_anything_is_seen_there(off, told, capsys):
    """By four, the window reaches a quarter to each side."""
    x, y = PLACES[1]
    for at in ((x + off, y - 0.2), (x - 0.1, y + off)):
        picture = drawn("specks", 30, 40, "--zoom-at", *at, 4)
        assert ("is off the fractal" in capsys.readouterr().err) == told
        assert picture.any()


@pytest.mark.parametrize(("power", "passes"), [(42.9, True), (43.1, False)])
def test_sub_pixels_are_never_finer_than_sixteen_steps_of_double_precision(power, passes, capsys):
    """About x = 1 double precision has steps of 2^-52; 64 pixels are 2 / FACTOR wide."""
    save("end", torch.tensor([similarity(0.5, at=(0.5, 0)), similarity(0.25, at=(-0.75, 0))]))
    options = ["end", 90, 64, "--supersample", 1, "--zoom-at", 1, 0, 2**power]
    if passes:
        assert drawn(*options)[32].any()
    else:
        said = refusal(lambda given: render(*given), options, capsys)
        assert "beyond double precision" in said


def test_without_a_figure_level_zero_are_the_fixed_points_of_the_maps():
    maps = [affine(0.5, 0, 0, 0.5, 0.3, -0.2), affine(0, -0.5, 0.5, 0, -0.75, 0.0)]
    save("two", torch.tensor(maps))  # (0.6, -0.4), and x = -y/2 - 0.75, y = x/2: (-0.6, -0.3)
    for level, places in (
        (0, [(0.6, -0.4), (-0.6, -0.3)]),
        (1, [(0.6, -0.4), (-0.6, -0.3), (0.0, -0.35), (-0.55, 0.3)]),
    ):
        picture = drawn("two", level, 64, "--supersample", 1)
        assert np.array_equal(picture, bytes_of(discs(0, 64, parts=1, places=places)))


# --- Figures ---

LEANING = [affine(0.5, 0.1, 0.0, 0.4, -0.3, 0.3), affine(0.3, 0.0, 0.2, 0.5, 0.5, -0.2)]


def polygon(corners: list[tuple[float, float]], size: int = 128, window=WINDOW) -> np.ndarray:
    """A polygon as Pillow draws it, eight times as large."""
    large = Image.new("L", (8 * size, 8 * size))
    scale = 8 * size / (window[1] - window[0])
    ImageDraw.Draw(large).polygon(
        [((x - window[0]) * scale, (window[3] - y) * scale) for x, y in corners], fill=255
    )
    return np.asarray(large.resize((size, size), Image.Resampling.BOX)) / 255


def image(map_, points: list) -> list:
    (a, b, x), (c, d, y) = map_
    return [(a * u + b * v + x, c * u + d * v + y) for u, v in points]


@pytest.mark.parametrize("window", [WINDOW, (-2.0, 2.0, -1.5, 2.5), (-0.5, 0.5, 0.0, 1.0)])
def test_the_square_is_the_window_of_the_checkpoint_whatever_window_is_drawn(window):
    save("leaning", torch.tensor(LEANING), window=(-0.6, 0.8, -0.9, 0.5))
    square = [(-0.6, -0.9), (0.8, -0.9), (0.8, 0.5), (-0.6, 0.5)]
    options = ["--figure", "square", "--window", *window]
    zero, one = (drawn("leaning", level, 128, *options) / 255 for level in (0, 1))
    assert np.abs(zero - polygon(square, window=window)).mean() < 0.004
    images = [polygon(image(map_, square), window=window) for map_ in LEANING]
    assert np.abs(one - np.maximum(*images)).mean() < 0.006
    assert (np.abs(one - np.maximum(*images)) > 0.6).mean() < 0.001


def test_the_square_of_a_zoom_is_that_of_the_checkpoint_too():
    save("leaning", torch.tensor(LEANING))
    window, square = (-0.8, 0.2, 0.0, 1.0), [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    one = drawn("leaning", 1, 128, "--figure", "square", "--zoom-at", -0.3, 0.5, 2) / 255
    images = [polygon(image(map_, square), window=window) for map_ in LEANING]
    assert np.abs(one - np.maximum(*images)).mean() < 0.006


def test_the_hull_and_the_segment_are_those_of_the_attractor():
    """Three specks have a triangle as their hull, and its longest side as their diameter."""
    hull = drawn("specks", 0, 128, "--figure", "hull") / 255
    assert np.abs(hull - polygon(PLACES)).mean() < 0.005
    segment = drawn("specks", 0, 128, "--figure", "segment", "--stroke", 0.05) / 255
    (x0, y0), (x1, y1) = PLACES[1], PLACES[2]  # 1.11 apart, the others 0.90 and 1.06
    x, y = middles(128)
    along = np.clip(
        ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / math.dist(*PLACES[1:]) ** 2, 0, 1
    )
    away = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
    assert np.abs(segment - np.clip((0.05 - away) * 64 + 0.5, 0, 1)).mean() < 0.002


def test_the_point_is_the_centre_of_mass():
    """Of masses 16 and 1, for maps that halve and quarter... an eighth of the world: areas 1/4 and
    1/64."""
    save(
        "two",
        torch.tensor([similarity(0.5, 90, at=(0.4, 0.1)), similarity(0.125, at=(-0.7, -0.5))]),
    )
    # m = 16/17 (i m / 2 + 0.4 + 0.1 i) + 1/17 (m / 8 - 0.7 - 0.5 i), as complex numbers
    middle = (16 * (0.4 + 0.1j) - 0.7 - 0.5j) / (17 - 8j - 0.125)
    picture = drawn("two", 0, 100, "--figure", "point", "--supersample", 1)
    assert np.array_equal(
        picture, bytes_of(discs(0, 100, parts=1, places=[(middle.real, middle.imag)]))
    )


# --- Distance and density ---


@pytest.mark.parametrize("stroke", [None, 0.0, 0.35])
def test_distances_are_measured_from_the_pen(stroke):
    options = [] if stroke is None else ["--stroke", stroke]
    near = numbers("pens", 30, 64, "--kind", "distance", *options)
    x, y = middles(64)
    true = np.min([np.hypot(x - u, y - v) for u, v in PLACES], axis=0)
    true = np.maximum(true - (0.2 if stroke is None else stroke), 0)
    assert np.abs(near - true).max() < 2 / 64 * 0.75  # a speck is somewhere in its pixel
    assert abs((near - true).mean()) < 0.002
    picture = drawn("pens", 30, 64, "--kind", "distance", *options)
    assert np.array_equal(picture, bytes_of(near / near.max()))


def test_distances_from_a_figure():
    near = numbers("specks", 0, 64, "--kind", "distance", "--figure", "point")
    x, y = middles(64)
    true = np.hypot(x - MIDDLE[0], y - MIDDLE[1])
    assert np.abs(near - true).max() < 2 / 64 * 0.75


WEIGHTED = torch.cat([dots([place], k * 1e-3) for k, place in enumerate(PLACES, 1)])  # 1 : 4 : 9
MASSES = np.array([1, 4, 9]) / 14


def pixel(place: tuple[float, float], size: int) -> tuple[int, int]:
    return int((1 - place[1]) * size / 2), int((place[0] + 1) * size / 2)


def test_masses_are_in_proportion_to_areas():
    save("weighted", WEIGHTED)
    mass = numbers("weighted", 30, 25, "--kind", "density")
    found = [mass[pixel(place, 25)] for place in PLACES]
    assert found == pytest.approx(MASSES, rel=2e-3)
    assert np.count_nonzero(mass) == 3


@pytest.mark.parametrize("gamma", [1, 3])
def test_densities_are_shown_on_a_logarithmic_scale(gamma):
    save("weighted", WEIGHTED)
    picture = drawn("weighted", 30, 25, "--kind", "density", "--bits", 16, "--gamma", gamma)
    mean = 1 / 3  # over all that is lit
    wanted = (np.log(1 + MASSES / mean) / np.log(1 + 9 / 14 / mean)) ** (1 / gamma)
    found = [picture[pixel(place, 25)] / 65535 for place in PLACES]
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_density_of_few_levels_starts_at_the_centre_of_mass():
    mass = numbers("specks", 0, 25, "--kind", "density")
    assert mass[pixel(MIDDLE, 25)] == pytest.approx(1)
    assert np.count_nonzero(mass) == 1


# --- Tone and colour ---


@pytest.mark.parametrize("gamma", [0.5, 2])
def test_gamma_is_a_power_of_every_kind_of_value(gamma):
    save("grey", torch.tensor([similarity(0.5, at=(0.1, 0.05))]), size=16, exposure=0.05)
    for name, kind in (("pens", "occupancy"), ("grey", "grey"), ("pens", "distance")):
        plain, shown = (
            drawn(name, 30, 48, "--kind", kind, "--bits", 16, *options) / 65535
            for options in ((), ("--gamma", gamma))
        )
        assert np.abs(shown - plain ** (1 / gamma)).max() < (2e-3 if gamma > 1 else 1e-4), kind
        assert np.abs(shown - plain).max() > 0.1, kind


def test_gamma_leaves_the_hue_of_colours_alone():
    bright, plain = (
        drawn("pens", 30, 48, "--color", "map", "--gamma", g) / 255 for g in (2.0, 1.0)
    )
    coverage = discs(0.2, 48)
    with np.errstate(invalid="ignore"):
        shade = plain / coverage[..., None]
    some = coverage > 0.2
    assert np.abs(bright - shade * np.sqrt(coverage)[..., None])[some].max() < 0.02


TAB10 = np.array(matplotlib.colormaps["tab10"].colors)


def owners(size: int) -> np.ndarray:
    """Which speck is nearest to each pixel."""
    x, y = middles(size)
    return np.argmin([np.hypot(x - u, y - v) for u, v in PLACES], axis=0)


def test_each_map_has_the_next_colour_of_tab10_on_black():
    shown = drawn("pens", 30, 48, "--color", "map") / 255
    assert np.abs(shown - TAB10[owners(48)] * discs(0.2, 48)[..., None]).max() < 0.003


@pytest.mark.parametrize("count", [12, 50])
def test_more_than_ten_maps_have_a_colour_of_their_own_each(count):
    places = [(x / 8 - 0.437, y / 8 - 0.437) for y in range(8) for x in range(8)][:count]
    save("many", dots(places), stroke=0.04)
    shown = drawn("many", 30, 200, "--color", "map").astype(int)
    colours = np.array([shown[pixel(place, 200)] for place in places])
    apart = np.linalg.norm(colours[:, None] - colours, axis=2)[~np.eye(count, dtype=bool)]
    assert apart.min() > (80 if count == 12 else 20)
    assert colours.max(1).min() > 150, "bright enough for a black ground"


def test_transparent_colours_have_no_dark_fringes():
    picture = drawn("pens", 30, 48, "--color", "map", "--transparent") / 255
    assert np.abs(picture[..., 3] - discs(0.2, 48)).max() < 0.003
    seen = picture[..., 3] > 0
    assert (picture[..., 3][seen] < 0.9).any()
    assert np.abs(picture[..., :3] - TAB10[owners(48)])[seen].max() < 0.003


def test_a_transparent_picture_is_white_and_as_opaque_as_it_is_covered():
    picture = drawn("pens", 30, 48, "--transparent")
    assert (picture[..., 0] == 255).all()
    assert np.array_equal(picture[..., 1], bytes_of(discs(0.2, 48)))


def test_a_transparent_density_is_opaque_where_it_is_dense():
    save("weighted", WEIGHTED)
    plain, seen = (
        drawn("weighted", 30, 25, "--kind", "density", *options)
        for options in ((), ("--transparent",))
    )
    assert np.array_equal(seen[..., 1], plain)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_colour_map_alone_colours_the_values(transparent):
    options = ["--transparent"] if transparent else []
    picture = drawn("pens", 30, 48, "--cmap", "plasma", *options) / 255
    coverage = discs(0.2, 48)
    wanted = matplotlib.colormaps["plasma"](np.linspace(0, 1, 1024))[:, :3]
    assert np.abs(picture[..., :3] - wanted[np.round(coverage * 1023).astype(int)]).max() < 0.004
    if transparent:
        assert np.abs(picture[..., 3] - coverage).max() < 0.003


def test_a_few_colours_are_taken_in_turn_and_many_are_spread_evenly():
    places = [(x / 7, y / 3) for y in (2, -2) for x in (-6, -4, -2, 0, 2, 4)]  # twelve
    save("twelve", dots(places), stroke=0.1)
    tab, rainbow = (
        drawn("twelve", 30, 84, "--color", "map", "--cmap", name) for name in ("tab10", "viridis")
    )
    for k, place in enumerate(places):
        here = pixel(place, 84)
        assert np.abs(tab[here] / 255 - TAB10[k % 10]).max() < 0.003
        assert (
            np.abs(rainbow[here] / 255 - matplotlib.colormaps["viridis"](k / 11)[:3]).max() < 0.006
        )


@pytest.mark.parametrize("cmap", [None, "cividis"])
def test_the_address_of_a_point_is_a_place_on_the_colour_map(cmap):
    """In the carpet, the first letter says which of eight blocks a point is in, the second which
    block of that."""
    picture = (
        drawn("carpet", 30, 81, "--color", "address", *(["--cmap", cmap] if cmap else [])) / 255
    )
    colours = matplotlib.colormaps[cmap or "viridis"](np.linspace(0, 1, 1024))[:, :3]
    blocks = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]  # as in systems.CARPET
    for i, (x, y) in enumerate(blocks):
        for j, (u, v) in enumerate(blocks):
            row, column = round(40 - 27 * y - 9 * v), round(40 + 27 * x + 9 * u)
            block = picture[row - 3 : row + 4, column - 3 : column + 4]
            full = block[block.sum(-1) > 0.99 * block.sum(-1).max()].reshape(-1, 3).mean(0)
            address = np.abs(colours - full).sum(1).argmin() / 1023
            assert i / 8 + j / 64 - 0.02 <= address <= i / 8 + (j + 1) / 64 + 0.02


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_where_images_overlap_the_later_map_lies_on_top(order):
    """A point is in the image of a map if what the map takes to it is in the attractor."""
    corners = [((-0.9, -0.7), (0.8, -0.4), (-0.1, 0.9))[k] for k in order]
    save("over", torch.tensor([similarity(0.7, at=(0.3 * x, 0.3 * y)) for x, y in corners]))
    coloured = drawn("over", 60, 64, "--color", "map") / 255
    x, y = 0.3 * corners[2][0], 0.3 * corners[2][1]
    # what the last map takes to the window
    before = [(edge - at) / 0.7 for edge, at in zip(WINDOW, (x, x, y, y), strict=True)]
    image = drawn("over", 60, 64, "--window", *before)
    inside = binary_erosion(image == 255, np.ones((3, 3)))
    nearest = np.abs(coloured[:, :, None] - TAB10[:3]).sum(-1).argmin(-1)
    assert 300 < inside.sum() < 3000
    assert (nearest[inside] == 2).mean() > 0.99
    others = binary_erosion((image == 0) & (coloured.sum(-1) > 0), np.ones((3, 3)))
    assert others.any()
    assert (nearest[others] == 2).mean() < 0.01


@pytest.mark.parametrize("kind", ["occupancy", "density"])
def test_along_a_segment_that_is_its_two_halves_the_address_grows_evenly(kind):
    save("halves", torch.tensor([similarity(0.5, at=(x, 0.01)) for x in (-0.5, 0.5)]))
    found = numbers("halves", 30, 64, "--kind", kind, "--color", "address")
    assert not found[:31].any()
    assert not found[32:].any()
    wanted = matplotlib.colormaps["viridis"](np.arange(64) / 64 + 1 / 128)[:, :3]
    assert np.abs(found[31, :, :3] / found[31, :, 3:] - wanted).max() < 0.02


def test_colours_of_a_density_are_mixed_by_mass():
    """At one pixel a side, all of the mass is in it, and its colour is the mean of all colours by
    their masses."""
    save("weighted", WEIGHTED)
    (mixed,) = numbers("weighted", 30, 1, "--kind", "density", "--color", "map")[0]
    assert mixed[3] == pytest.approx(1)
    assert mixed[:3] == pytest.approx(MASSES @ TAB10[:3], rel=2e-3)


# --- Greys ---


@pytest.mark.parametrize(
    ("size", "window"), [(32, WINDOW), (96, WINDOW), (48, (-0.5, 0.5, -0.75, 0.25))]
)
def test_a_grey_point_is_a_gaussian_half_a_pixel_of_the_fit_wide(size, window):
    place = (0.15625, -0.28125)  # the middle of a pixel of all these
    save("grey", dots([place]), size=8, exposure=0.04)
    x, y = middles(size, window)
    sigma = 0.5 * 2 / 8
    depth = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma**2)) / (
        2 * np.pi * sigma**2
    )
    found = numbers("grey", 1000, size, "--window", *window)
    assert np.abs(found - (1 - np.exp(-0.04 * depth))).max() < 0.01
    assert found.max() > 0.25


@pytest.mark.parametrize(
    ("options", "kind"),
    [([], "grey"), (["--color", "map"], "occupancy"), (["--figure", "hull"], "occupancy"),
     (["--supersample", "2"], "occupancy"), (["--kind", "occupancy"], "occupancy"),
     (["--gamma", "2"], "grey"), (["--morph", "specks", "--frames", "2"], "occupancy")],
)  # fmt: skip
def test_the_fit_of_a_grey_picture_is_drawn_grey_unless_something_else_is_asked_for(
    options, kind, capsys
):
    save("grey", SPECKS, size=32, exposure=3.0)
    drawn("grey", 3, 32, *options)
    assert capsys.readouterr().out.startswith(f"grey: {kind}, 32 × 32, ")


# --- Names of files, and what is said ---


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "specks_render_3_20.png"),
        (["--kind", "density"], "specks_render_3_20.png"),
        (["--sweep", "levels"], "specks_levels_3_20.gif"),
        (["--zoom-at", 0.3, 0.65, 2, "--frames", 2], "specks_zoom_3_20.gif"),
        (["--zoom-at", 0.3, 0.65, 2], "specks_render_3_20.png"),
        (["--morph", "pens", "--frames", 2], "specks_morph_pens_3_20.gif"),
    ],
)
def test_pictures_and_films_have_their_own_names(options, name, capsys):
    assert render("specks", 3, 20, *options) == 0
    assert [path.name for path in Path("results/specks").iterdir()] == [name]
    assert capsys.readouterr().out.endswith(f" s -> {Path('results/specks', name)}\n")


def test_bare_numbers_of_colours_are_colour_times_coverage_and_coverage():
    found = numbers("pens", 30, 20, "--color", "map", "--transparent", "--gamma", 3)
    assert found.shape == (20, 20, 4)
    assert np.abs(found[..., 3] - discs(0.2, 20)).max() < 1e-6
    assert (
        np.abs(found[..., :3] - TAB10[owners(20)] * found[..., 3:])[found[..., 3] > 0].max() < 1e-6
    )
