"""Parts that pictures are drawn with, each on something so small that all of it is looked at."""

import colorsys
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from systems import CORNER_GASKET

from diff_ifs.draw import density, growth, levels
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.chart import Chart
from diff_ifs.draw.coverage import dilate
from diff_ifs.draw.figures import figure, hull
from diff_ifs.draw.geometry import (
    MEMORY,
    OVERHEAD,
    View,
    bounds,
    nearest_point,
    strip_rows,
    to_edges,
)
from diff_ifs.draw.morph import matched
from diff_ifs.draw.picture import Drawing, Style, greys, map_colours
from diff_ifs.draw.pixels import crop_border, drawn_one_by_one, pixel_index
from diff_ifs.kernels import jit, tiles
from diff_ifs.setup import WINDOW, affine, similarity
from ifs_model import fixed_points

LEANING = torch.tensor(
    [affine(0.6, -0.2, 0.1, 0.5, -0.3, 0.2), affine(0.3, 0.3, -0.4, 0.4, 0.5, -0.3),
     similarity(0.4, 100, (0.2, 0.5))]
).double()  # fmt: skip
QUARTERS = torch.tensor(
    [similarity(0.5, at=(x, y)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
).double()


def numbers(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- Charts and grids ---


def test_a_chart_knows_the_way_from_each_cell_to_the_next_free_and_the_next_taken_one():
    chance = np.random.default_rng(0)
    points = torch.from_numpy(chance.uniform([[2], [-3]], [[7], [0]], (2, 40)))
    box, cell = (2.0, 7.0, -3.0, 0.0), 0.5
    chart = Chart(points, torch.zeros(40).long(), box, cell)
    left, top = chart.frame[4:6]
    assert left <= 2 - cell
    assert top <= -3 - cell
    rows, columns = chart.shapes[0, 1:]
    taken = np.zeros((rows, columns), dtype=bool)
    taken[((points[1] - top) / cell).long(), ((points[0] - left) / cell).long()] = True
    middles = np.array(
        [(left + (c + 0.5) * cell, top + (r + 0.5) * cell) for r, c in np.ndindex(rows, columns)]
    )
    away = np.hypot(*(middles[:, None] - middles).transpose(2, 0, 1))
    on = taken.ravel()
    wanted = np.where(on, away[:, ~on].min(1), 0)
    assert chart.depths == pytest.approx(wanted)
    found = np.hypot(*(chart.nearest - middles).T)
    assert found == pytest.approx(away[:, on].min(1)), "the middle of one of the nearest"
    assert all(np.abs(middles[on] - place).max(1).min() < 1e-9 for place in chart.nearest)
    assert chart.filled == pytest.approx(on.sum() * cell**2 / 15)
    assert chart.frame == pytest.approx([4.5, -1.5, 2.5, 1.5, left, top, cell, 5])
    assert chart.span == 5


def test_a_grid_keeps_the_first_point_of_each_cell_with_its_address():
    """Images under two maps, of cells of a half."""
    grid = growth.Grid((0.0, 2.0, 0.0, 1.0), 0.5)
    points = numbers([0.1, 0.3, 1.2], [0.2, 0.4, 0.9], [0.25, 0.75, 0.5])
    there = grid.occupy(grid.there, points)
    assert there.shape == (3, 2), "the second shares the cell of the first"
    back = growth.images(grid.back, there)
    assert back.numpy() == pytest.approx(points[:, [0, 2]].numpy())
    assert grid.occupy(grid.there, points).shape[1] == 0
    grid.clear()
    digits = growth.address_digits(2)
    maps = torch.cat([grid.there, grid.there])
    again = grid.occupy(maps, points, digits)
    assert again[2].tolist() == pytest.approx([0.125, 0.25]), "those of the first map came first"
    assert digits[:, 1].tolist() == [0, 0.5]
    assert (0.5 - digits[:, 0]).tolist() == pytest.approx([5e-10] * 2, rel=1e-3)


def test_what_words_do_to_points_and_addresses():
    maps = numbers([[0, -1, 3], [1, 0, 5]], [[2, 0, 0], [0, 3, 1]])
    points = numbers([1, 2], [10, 20], [0.5, 0.25])
    digits = numbers([0.1, 0.6], [0.2, 0.7])
    found = growth.images(maps, points, digits)
    assert found.tolist() == [
        pytest.approx([-7, -17, 2, 4]), pytest.approx([6, 7, 31, 61]),
        pytest.approx([0.65, 0.625, 0.8, 0.75]),
    ]  # fmt: skip
    assert growth.images(maps, points)[2].tolist() == [0.5, 0.25, 0.5, 0.25]


@pytest.mark.parametrize(("longest", "lengths"), [(64, (2, 4, 8, 16)), (15, (2, 4, 8)), (1, ())])
def test_long_words_of_slow_maps_double_until_they_shrink_to_a_half(longest, lengths):
    """0.95^16 is 0.44; eight powers of one map are all the same."""
    maps = torch.tensor([similarity(0.5, at=(1, 0)), similarity(0.95, 10, (0.1, 0))]).double()
    digits = growth.address_digits(2)
    words, shifts = growth.long_words(maps, digits, longest)
    scales = torch.linalg.det(words[:, :, :2]).sqrt()
    wanted = np.repeat([0.95**n for n in lengths], 9)
    assert scales.tolist() == pytest.approx(wanted)
    for n in lengths:
        power = np.linalg.matrix_power(np.vstack([maps[1], [0, 0, 1]]), n)[:2]
        here = (scales - 0.95**n).abs() < 1e-6
        assert np.allclose(words[here], power)
        assert shifts[here].numpy() == pytest.approx(
            np.tile([0.5**n, 1 - 0.5**n], (9, 1)), rel=1e-6
        )
    assert len(growth.long_words(maps[:1], digits[:1], 64)[0]) == 0
    flat = torch.tensor([affine(0.95, 0, 0, 0.3)]).double()
    assert bool(len(growth.long_words(flat, digits[:1], longest)[0])) == bool(lengths)


@pytest.mark.parametrize("mirrored", [False, True])
def test_points_of_a_thin_image_are_known_to_lie_on_it(mirrored, monkeypatch):
    """A tenth as thick as it is long, turned by 30°: a hundred pixels of an attractor."""
    monkeypatch.setattr(tiles, "stretch", jit.stretch.py_func)  # parts of loops are not called
    points = fixed_points(LEANING)
    for _ in range(7):
        points = torch.cat([points @ m[:, :2].T + m[:, 2] for m in LEANING])
    chart = Chart(points.T.contiguous(), torch.zeros(len(points)).long(), bounds(LEANING), 0.02)
    turn = numbers(*similarity(1.0, 30))[:, :2]
    word = (turn @ numbers([60, 0, 0], [0, -6 if mirrored else 6, 0])).numpy()
    word[:, 2] = 200, 100
    for x, y in points[::97].numpy() @ word[:, :2].T + word[:, 2]:
        depth = tiles.signed_depth.py_func(word, float(x), float(y), 40.0, chart.of_depth)
        assert depth > -2, "two cells of a fiftieth, of which 60 pixels make up one"


# --- Places ---


def test_the_nearest_point_is_nearer_than_all_images_of_a_fixed_point():
    points = fixed_points(LEANING)
    for _ in range(8):
        points = torch.cat([points @ m[:, :2].T + m[:, 2] for m in LEANING])
    for x, y in ((-1.4, 0.3), (0.9, 0.8), (0.2, -1.1), (0.05, 0.1)):
        u, v = nearest_point(LEANING, x, y)
        away = float((points - numbers(x, y)).norm(dim=1).min())
        assert away - 0.03 < math.hypot(u - x, v - y) <= away + 1e-9
        assert float((points - numbers(u, v)).norm(dim=1).min()) < 0.03
    corner = nearest_point(CORNER_GASKET, 3.0, 0.0, 1, numbers([-1, -1], [1, -1], [-1, 1]))
    assert corner == (1.0, -1.0), "of few levels, an image of what was given"


def test_boxes_are_moved_out_to_edges_and_rows_fit_into_memory():
    assert to_edges((0.4, 7.2, -3.6, -2.1)) == (-0.5, 7.2, -4.5, -2.1)
    assert to_edges((0.6, 0.7, 2.0, 2.0)) == (0.5, 1.5, 1.5, 2.5)
    assert strip_rows(100, 10, OVERHEAD + 59) == 5
    assert strip_rows(4, 10, OVERHEAD + 59) == 4
    with pytest.raises(MemoryError, match=r"^a single row needs 2\.7 GiB$"):
        strip_rows(100, 2 << 30, MEMORY)


def test_hulls_of_segments_and_points_are_their_ends():
    line = torch.tensor([affine(0.5, 0, 0.25, 0, at, at / 2) for at in (-0.5, 0.5)]).double()
    ends = sorted(hull(line).tolist())
    assert np.array(ends) == pytest.approx(np.array([(-1, -0.5), (1, 0.5)]), abs=1e-3)
    assert np.array(sorted(figure("segment", line, WINDOW).tolist())) == pytest.approx(
        np.array(ends)
    )
    point = torch.tensor([affine(0.5, 0, 0, 0.3, 0.2, 0.07)]).double()
    assert hull(point).numpy() == pytest.approx(np.array([[0.4, 0.1]]), abs=1e-6)
    corners = figure("square", line, (0.0, 2.0, -3.0, -1.0)).tolist()
    assert corners == [[0, -3], [2, -3], [2, -1], [0, -1]]
    assert figure("point", point, WINDOW).numpy() == pytest.approx(np.array([[0.4, 0.1]]))


# --- Polygons in tiles ---


def test_polygons_have_the_centres_that_lie_in_them_and_leave_right_and_bottom_edges():
    corners = [(2.3, 1.2), (11.7, 3.0), (6.1, 7.4)]
    box = [(5.0, 2.0), (8.0, 2.0), (8.0, 4.0), (5.0, 4.0)]
    tile = (3, 10, 2, 8)

    def inside(polygon, x, y):
        sides = zip(polygon, polygon[1:] + polygon[:1], strict=True)
        return all((u - p) * (y - q) - (v - q) * (x - p) > 0 for (p, q), (u, v) in sides)

    wanted = {(x, y) for x in range(3, 10) for y in range(2, 8) if inside(corners, x, y)}
    found = [torch.cat(some, dim=-1) for some in
             zip(*levels._within(numbers(corners), tile), strict=True)]  # fmt: skip
    assert {tuple(place) for place in found[0].T.int().tolist()} == wanted
    assert found[0].shape[1] == len(wanted)
    ((places, owner),) = levels._within(numbers(box, box), tile)
    assert {tuple(p) for p in places.T.int().tolist()} == set(itertools.product((5, 6, 7), (2, 3)))
    assert torch.bincount(owner).tolist() == [6, 6]


def test_segments_are_drawn_by_eighths_of_a_pixel_within_their_tile():
    starts, ends = numbers([-5, 3], [4, 4], [2, -9]), numbers([20, 8], [4, 6], [2, -2])
    points, owner = (
        torch.cat(some, dim=-1) for some in zip(*levels._along(starts, ends, (0, 10, 0, 8)),
                                                strict=True)
    )  # fmt: skip
    assert owner.unique().tolist() == [0, 1], "the third is beside the tile"
    first, second = points[:, owner == 0], points[:, owner == 1]
    assert second.T[0].tolist() == [4, 4]
    assert second.T[-1].tolist() == [4, 6]
    assert first[0].min() <= -0.5, "its first pixels begin half a pixel before their middles"
    assert first[0].max() >= 10 - 0.125
    assert first[0].max() <= 10
    assert (first[1] - (4 + first[0] / 5)).abs().max() < 1e-9
    for line in (first, second):
        assert line.diff(dim=1).norm(dim=0).max() <= 0.125 + 1e-9


def test_members_of_runs_are_numbered():
    ((owner, number),) = levels.enumerate_runs(torch.tensor([2, 0, 3]))
    assert (owner.tolist(), number.tolist()) == ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2])


def test_pixels_of_a_tile_have_a_border_for_what_lies_outside():
    """Of three columns and two rows from (10, 20): of five by four in all."""
    points = numbers([9.4, 9.5, 12.4, 12.5, 99, -99, 11], [19.6, 20.4, 21.2, 20, 21, 21, 99])
    index = pixel_index(points, (10, 13, 20, 22)).tolist()
    assert index == [5, 6, 13, 9, 14, 10, 17]
    flat = torch.arange(20)
    assert crop_border(flat, (10, 13, 20, 22)).tolist() == [[6, 7, 8], [11, 12, 13]]


def test_levels_of_few_words_are_drawn_word_by_word_until_they_are_as_close_as_pixels():
    """Four maps that halve: of 64 pixels, level 6 is all."""
    maps = QUARTERS
    for level, most, alone in ((3, 256, True), (3, 255, False), (5, 1 << 20, True),
                               (7, 1 << 20, False)):  # fmt: skip
        attractor = Attractor(maps, View(WINDOW, 64, level))
        assert drawn_one_by_one(attractor, most) == alone


@pytest.mark.parametrize("shape", [(3, 30), (30, 3), (1, 1)])
def test_pens_wider_than_a_strip_is_high_reach_along_it(shape):
    taken = torch.zeros(shape, dtype=torch.bool)
    place = shape[0] // 2, shape[1] // 2
    taken[place] = True
    row, column = np.mgrid[: shape[0], : shape[1]]
    away = np.hypot(row - place[0], column - place[1])
    assert np.array_equal(dilate(taken, 7.3).numpy(), away <= 7.3)


def test_of_a_large_slow_attractor_what_is_far_from_the_picture_is_one():
    """Two picture's sides from it on each side; of others, all is told apart."""
    slow = torch.tensor([similarity(0.95, at=(x, 3)) for x in (-40, 40)]).double()
    left, right, top, bottom = growth._reach(slow, 16)
    assert (left, right) == (-32.5, 48)
    assert top < 48 <= bottom
    fast = torch.tensor([similarity(0.5, at=(x, 3)) for x in (-400, 400)]).double()
    left, right, _, _ = growth._reach(fast, 16)
    assert left < -790
    assert right > 790


# --- Ways from one system to another ---


def test_maps_are_matched_by_the_mean_of_their_images_distances():
    """Squares, of three corners: 4, 4 and 4 from the moved map, and 0, 0 and 9 from the one that
    moves a corner by 3; the other map is 0.3 nearer to both."""
    hull = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    moved, bent = affine(0, 0, 0, 0, 2, 0), affine(3, 0, 0, 0)
    pairs = matched(
        np.array([affine(0, 0, 0, 0), affine(0, 0, 0, 0, 0.3)]),
        np.array([moved, bent]),
        (hull,) * 2,
    )
    assert pairs.tolist() == [[0, 1], [1, 0]]  # 3 + 2.89 is less than 4 + 2.49


# --- Masses ---


def test_a_coarse_measure_has_the_masses_of_eight_by_eight_parts():
    """Four quarters of a square, of which each has another weight."""
    weights = numbers(0.4, 0.3, 0.2, 0.1)  # left below, left above, right below, right above
    attractor = Attractor(QUARTERS, View(WINDOW, 64, weights=weights), measure=True)
    middles, halves, masses = density.coarse_measure(attractor)
    assert len(masses) == 64
    assert float(masses.sum()) == pytest.approx(1)
    right, below = middles[:, 0] > 31.5, middles[:, 1] > 31.5
    for part, weight in zip((~right & below, ~right & ~below, right & below, right & ~below),
                            weights.tolist(), strict=True):  # fmt: skip
        assert int(part.sum()) == 16
        assert float(masses[part].sum()) == pytest.approx(weight, abs=0.04)
    spans = [sorted(set(middles[:, k].round().int().tolist())) for k in (0, 1)]
    assert min(map(len, spans)) >= 8
    assert 3 < halves.min() <= halves.max() < 4.6, "an eighth of 64, and half a cell"


def test_the_mass_of_words_in_a_tile_is_that_of_their_parts():
    coarse = numbers([0, 0], [10, 0]), numbers([2, 1], [2, 1]), numbers(0.75, 0.25)
    maps = numbers([[1, 0, 0.5], [0, 1, 0.5]], [[0, 1, 0], [2, 0, 0]])
    found = density.mass_in_tile(coarse, maps, (0, 20, 0, 30))
    # the first: from -1.5 to 2.5 and from -0.5 to 1.5, of which the tile begins at -0.5; its other
    # part is in it. The second: turned, from -1 to 1 and from -4 to 4; and from 16 to 24.
    assert found.tolist() == pytest.approx(
        [0.75 * 3 / 4 + 0.25, 0.75 * 1.5 / 2 * 4.5 / 8 + 0.25 * 1.5 / 2]
    )


def test_of_masses_the_heavy_stay_and_each_counts_on_average_for_what_it_should():
    masses = numbers(5, 0.1, 0.2, 3, 0.3, 0.15, 0.25)
    kept, factors = density.resample(masses, 7, torch.Generator().manual_seed(0))
    assert (kept.tolist(), factors.tolist()) == (list(range(7)), [1] * 7)
    sums = torch.zeros(7, dtype=torch.float64)
    for seed in range(400):
        kept, factors = density.resample(masses, 4, torch.Generator().manual_seed(seed))
        assert len(kept) <= 4
        assert {0, 3} <= set(kept.tolist())
        assert factors[:1].tolist() == [1]
        sums[kept] += factors * masses[kept] / 400
        assert float((factors * masses[kept]).sum()) == pytest.approx(9)
    assert sums.tolist() == pytest.approx(masses.tolist(), rel=0.25)


def test_of_levels_of_particles_those_that_may_be_needed_are_kept(monkeypatch):
    def made(count):
        return ((k, torch.zeros(2, 4), torch.zeros(4)) for k in range(count))

    assert sorted(density.levels_to_keep(made(7), 3)) == [3, 4, 5, 6]
    assert sorted(density.levels_to_keep(made(7), 9)) == [6]
    monkeypatch.setattr(density, "PARTICLE_BYTES", 5 * 48)
    assert sorted(density.levels_to_keep(made(6), 0)) == [0, 2, 4, 5], "every other one"


def test_random_words_have_letters_as_often_as_their_weights():
    """In their first and in their last letter, of five."""
    maps, weights = LEANING, numbers(0.5, 0.3, 0.2)
    words, digits = density.random_words(maps, weights, growth.address_digits(3), 5)
    assert len(words) == 1 << 18
    letters = digits[:, 1:] * 3 ** torch.arange(1, 6) + 1e-3
    letters = letters.floor().long() % 3
    for place in (0, 4):
        share = torch.bincount(letters[:, place], minlength=3) / len(words)
        assert share.tolist() == pytest.approx(weights.tolist(), abs=0.01)
    assert torch.linalg.det(words[:, :, :2])[:9].tolist() == pytest.approx(
        torch.linalg.det(maps[:, :, :2])[letters[:9]].prod(1).tolist()
    )


# --- Colours, and values that are shown ---


def test_more_than_ten_maps_go_around_the_circle_of_hues_in_large_steps():
    """Twelve by five twelfths; neighbours in hue differ in how full and how bright they are."""
    wanted = []
    for k in range(12):
        place = 5 * k % 12
        full, bright = ((0.8, 1.0), (0.9, 0.65), (0.45, 0.95))[place % 3]
        wanted.append(colorsys.hsv_to_rgb(place / 12, full, bright))
    assert map_colours(12).numpy() == pytest.approx(np.array(wanted), abs=1e-6)
    assert map_colours(10)[9].tolist() == pytest.approx([0x17 / 255, 0xBE / 255, 0xCF / 255])
    hues = sorted(colorsys.rgb_to_hsv(*colour)[0] for colour in map_colours(35).tolist())
    assert np.diff(hues) == pytest.approx([1 / 35] * 34, abs=1e-4)


@pytest.mark.parametrize("kind", ["density", "distance"])
def test_what_is_looked_at_twice_is_the_same_whether_it_is_kept_or_not(kind, monkeypatch):
    drawing = Drawing(LEANING, View(WINDOW, 24, 6, stroke=0.05), Style(kind, gamma=2.0))
    kept = np.concatenate(list(drawing.rows()))
    measured = []
    honest = Drawing.strips

    def strips(self):
        measured.append(1)
        return honest(self)

    monkeypatch.setattr(Drawing, "strips", strips)
    list(drawing.rows())
    assert len(measured) == 1, "measured once"
    monkeypatch.setattr(Drawing, "_kept_bytes", 0)
    assert np.array_equal(np.concatenate(list(drawing.rows())), kept)
    assert len(measured) == 3


def test_the_peak_and_the_mean_are_those_of_all_strips(monkeypatch):
    """Of 9 and 1 in the first, 2 in the second: log(1 + m / 4) over log(1 + 9 / 4)."""
    strips = numbers([9, 1]), numbers([0, 2])
    monkeypatch.setattr(Drawing, "strips", lambda _: iter(strips))
    shown = np.concatenate(list(Drawing(LEANING, View(WINDOW, 2), Style("density")).rows()))[..., 0]
    wanted = 255 * np.log1p(np.array([[9, 1], [0, 2]]) / 4) / np.log1p(9 / 4)
    assert np.abs(shown - wanted).max() <= 0.5
    shown = np.concatenate(list(Drawing(LEANING, View(WINDOW, 2), Style("distance")).rows()))[
        ..., 0
    ]
    assert np.abs(shown - np.array([[255, 28.3], [0, 56.7]])).max() <= 0.5


@pytest.mark.parametrize(("color", "each"), [("none", 8), ("map", 32)])
def test_what_is_measured_is_kept_in_a_quarter_of_the_memory(color, each):
    view = View(WINDOW, 24, 6)
    for kind, room, kept in (("density", 0, 576 * each), ("density", -1, 0),
                             ("occupancy", 0, 0), ("grey", 0, 0)):  # fmt: skip
        drawing = Drawing(LEANING, view, Style(kind, color), 4 * 576 * each + room)
        assert drawing._kept_bytes == kept


def test_greys_that_do_not_fit_into_memory_are_refused():
    """Of 4 bytes eight times for each pixel of a picture with a border of four sigmas."""
    view = View(WINDOW, 4096, exposure=1.0, soft=2 / 64)
    side = 4096 + 2 * math.ceil(4 * 2 / 64 / (2 / 4096))
    needed = OVERHEAD + 32 * side**2
    words = f"greys are drawn at once, and need {needed / 2**30:.1f} GiB"
    with pytest.raises(MemoryError, match=words):
        greys(LEANING, view, needed - 1)


def test_greys_of_few_levels_are_those_of_their_specks():
    """Level 1 of four quarters are four specks: there is nothing in the middle of each quarter's
    quarters."""
    view = View(WINDOW, 32, 1, exposure=0.01, soft=0.02)
    found = greys(QUARTERS, view)
    spots = {(row, column) for row in (7, 8, 23, 24) for column in (7, 8, 23, 24)}
    lit = {tuple(place) for place in (found > 0.1 * found.max()).nonzero().tolist()}
    assert lit <= spots
    assert len({(row // 16, column // 16) for row, column in lit}) == 4
    deep = greys(QUARTERS, dataclasses.replace(view, recursion=30))
    assert float(deep.std() / deep.mean()) < 0.2


def test_a_zoom_into_greys_is_never_one_blur():
    """Where a pixel of the fit is a whole picture, sigma is a quarter of it."""
    window = (-0.01, 0.01, -0.01, 0.01)
    point = torch.tensor([similarity(1e-6, at=(0.0033, 0.0048))]).double()
    found = greys(point, View(window, 16, exposure=1e-5, soft=0.5)).numpy()
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (row, column) == (4, 10)
    profile = -np.log1p(-found[row])
    fall = np.exp(-((np.arange(16) - 10) ** 2) / (2 * 4**2))
    assert profile / profile.max() == pytest.approx(fall, abs=0.02)
