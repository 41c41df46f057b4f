import math

import numpy as np
import pytest
import torch
from drawings import dots, hits
from scipy.ndimage import distance_transform_edt
from systems import CARPET, CORNER_GASKET, DUST, FERN, KOCH

import render_ifs
from diff_ifs.draw import attractor, growth
from diff_ifs.draw import density as density_module
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.coverage import coverage_strips, dilate, drawn_with_pens, occupancy
from diff_ifs.draw.density import density, density_strips, levels_to_keep, resample
from diff_ifs.draw.distance import distance, distance_strips
from diff_ifs.draw.figures import figure
from diff_ifs.draw.geometry import OVERHEAD, View, bounds, nearest_point
from diff_ifs.draw.growth import iterate
from diff_ifs.draw.pixels import colours_by_inverse_maps, occupied_pixels
from diff_ifs.setup import WINDOW, affine, similarity
from ifs_model import apply, contract, fixed_points, words_of_depth


def pascal(size: int) -> torch.Tensor:
    """Pascal's triangle modulo two, its right angle at the lower left: the gasket of three corners,
    pixel by pixel."""
    index = torch.arange(size)
    return ((index[:, None] & index) == 0).flip(0)


def carpet(depth: int, block: list[list[int]]) -> torch.Tensor:
    """The picture of `depth` substitutions of a pixel by a 3 × 3 block."""
    picture = torch.ones(1, 1, dtype=torch.int64)
    for _ in range(depth):
        picture = torch.kron(picture, torch.tensor(block))
    return picture.bool()


def inside(picture: torch.Tensor) -> torch.Tensor:
    """`picture` widened by one pixel: points on an edge between two pixels may fall into either."""
    return torch.nn.functional.max_pool2d(picture[None].float(), 3, stride=1, padding=1)[0] > 0


@pytest.mark.parametrize("size", [32, 128, 512])
def test_gasket_is_pascals_triangle_modulo_two(size):
    drawn, true = hits(CORNER_GASKET.double(), WINDOW, size), pascal(size)
    assert drawn[true].all(), "every pixel of the construction holds a point"
    assert inside(true)[drawn].all(), "and nothing lies further than an edge away from it"


@pytest.mark.parametrize(
    ("maps", "block"),
    [(CARPET, [[1, 1, 1], [1, 0, 1], [1, 1, 1]]), (DUST, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])],
)
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_carpet_and_cantor_dust_are_their_substitutions(maps, block, depth):
    drawn, true = hits(maps.double(), WINDOW, 3**depth), carpet(depth, block)
    assert drawn[true].all()
    assert inside(true)[drawn].all()


@pytest.mark.parametrize("size", [64, 256])
def test_koch_curve_lies_on_its_construction(size):
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    for _ in range(8):
        points = apply(KOCH.double(), points).flatten(0, 1)
    pixels = ((points * torch.tensor([1.0, -1.0]) + 1) * size / 2).long().clamp(0, size - 1)
    true = torch.zeros(size, size, dtype=torch.bool)
    true[pixels[:, 1], pixels[:, 0]] = True
    drawn = hits(KOCH.double(), WINDOW, size)
    assert inside(true)[drawn].all()
    assert inside(drawn)[true].all()
    assert abs(int(drawn.sum()) - int(true.sum())) < 0.05 * int(true.sum())


@pytest.mark.parametrize(
    ("maps", "size", "base", "dimension"),
    [(CORNER_GASKET, 1024, 2, math.log(3, 2)), (CARPET, 729, 3, math.log(8, 3))],
)
def test_box_counting_dimension(maps, size, base, dimension):
    drawn = hits(
        maps.double(), (-1.02, 0.98, -1.02, 0.98), size
    ).float()  # off the lattice of the fractal
    sides = [base**k for k in range(1, 4 if base == 3 else 6)]
    counts = [float(torch.nn.functional.max_pool2d(drawn[None], side).sum()) for side in sides]
    slope = math.log(counts[0] / counts[-1]) / math.log(sides[-1] / sides[0])
    assert slope == pytest.approx(dimension, abs=0.02)


def test_recursion_counts_levels():
    maps = CORNER_GASKET.double()
    for recursion in range(1, 5):
        drawn = hits(maps, (-1.1, 1.1, -1.1, 1.1), 1000, recursion)
        corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        for _ in range(recursion):
            corners = apply(maps, corners).flatten(0, 1)
        assert int(drawn.sum()) == len((corners * 1e6).round().unique(dim=0))


def test_deep_recursion_costs_what_the_converged_picture_costs():
    points = {
        recursion: sum(
            part.shape[1] for part in Attractor(CARPET, View(WINDOW, 243, recursion)).points()
        )
        for recursion in (12, 1000)
    }
    assert points[1000] <= 1.01 * points[12] < 3 * 243**2


@pytest.mark.parametrize("maps", [CORNER_GASKET, CARPET, KOCH, FERN])
def test_bounds_hold_the_attractor_and_fit_it(maps):
    box = bounds(maps)
    points = torch.cat([p for _, p in iterate(maps.double(), (-3, 3, -3, 3), 0.01, 1000)], dim=1)
    low, high = points.amin(1).tolist(), points.amax(1).tolist()
    for k in range(2):
        assert box[2 * k] <= low[k] + 1e-9
        assert box[2 * k + 1] >= high[k] - 1e-9
        assert box[2 * k + 1] - box[2 * k] < 1.15 * (high[k] - low[k]) + 0.05


def test_grown_and_followed_pictures_agree(monkeypatch):
    for maps in (CORNER_GASKET, KOCH):
        grown = hits(maps.double(), WINDOW, 300)
        with monkeypatch.context() as patch:
            patch.setattr(attractor, "SOLID_CELLS", 0)
            followed = hits(maps.double(), WINDOW, 300)
        assert inside(grown)[followed].all()
        assert inside(followed)[grown].all()


@pytest.mark.parametrize(
    "maps", [FERN, torch.tensor([similarity(0.5**0.5, d, (d / 90, -0.5)) for d in (45, -45)])]
)
def test_pixels_that_growth_misses_are_drawn(maps):
    """A pixel is hit if one of its sub-pixels is, as growth alone finds them."""
    window = (-1.3, 1.3, -1.3, 1.3)
    for size in 50, 256:
        alone = occupancy(maps.double(), window, size, supersample=1, quality="draft") > 0
        finer = (
            occupancy(maps.double(), window, size, supersample=1024 // size, quality="draft") > 0
        )
        taken = hits(maps.double(), window, size)
        assert int((finer & ~alone).sum()) > 0.05 * int(finer.sum())
        assert int((finer & ~taken).sum()) <= 0.0005 * int(finer.sum())
        assert not (taken & ~dilate(finer, 1.5)).any()


def test_distances_reach_as_far_as_the_attractor():
    """Pixels are told the nearer one of two specks, however far away both are.

    From the first window, the further one is seen in the first of the wider pictures, the nearer
    one only later.
    """
    specks = torch.tensor([[-1.6, 0.0], [2.4, 2.4]], dtype=torch.float64)
    maps = torch.tensor([similarity(1e-4, at=tuple(at)) for at in specks.tolist()]).double()
    for left, low, side in ((0, 0, 1), (0.9, 0.9, 1e-4), (-300, 40, 2)):
        found = distance(maps, (left, left + side, low, low + side), 40)
        across = left + (torch.arange(40, dtype=torch.float64) + 0.5) * side / 40
        down = low + side - (torch.arange(40, dtype=torch.float64) + 0.5) * side / 40
        places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=2).flatten(0, 1)
        true = torch.cdist(places, specks).amin(1).view(40, 40)
        assert ((found - true).abs() <= 0.003 * true).all()


def test_distances_in_a_deep_zoom_are_told_in_double_precision():
    point = torch.tensor([similarity(0.5, at=(0.15, 0.0))]).double()  # (0.3, 0)
    x = float(fixed_points(point)[0, 0])
    found = distance(point, (x + 3e-10, x + 4e-10, 0, 1e-10), 8)
    assert found[-1, 0] == pytest.approx(3.1e-10, rel=0.03)
    assert found[-1, -1] == pytest.approx(3.9e-10, rel=0.03)


@pytest.mark.slow
def test_a_needle_of_many_corners_is_drawn():
    """A hull of many corners has short edges only, however long it is."""
    ring = [
        similarity(0.1, at=(0.8 * math.cos(a), 0.8 * math.sin(a)))
        for a in torch.linspace(0, 6.2, 24).tolist()
    ]
    maps = torch.tensor([*ring, affine(0.6, 0, 0, 0.0004, 0, 0.3012)]).double()
    for shift in range(4):  # wherever the needle lies between the centres of pixels
        low = shift / 1024
        strips = coverage_strips(maps, View((-1, 1, low - 1, low + 1), 256, 1, figure="hull"))
        needle = torch.cat(list(strips))[84:94, 80:176] > 0
        assert needle.any(0).all()


@pytest.mark.slow
def test_large_solid_attractors_of_slow_maps_are_grown(monkeypatch):
    turns = torch.tensor(
        [similarity(0.97, degrees=d, at=(0.01 * d**0.3, 0)) for d in (40, 130, 250)]
    )
    grown = hits(turns.double(), WINDOW, 200)
    monkeypatch.setattr(attractor, "GROWN_CELLS", 0)
    monkeypatch.setattr(growth, "GROWN_AT_ONCE", 1000)
    drawn = hits(turns.double(), WINDOW, 200)
    assert drawn.float().mean() > 0.1
    assert (drawn ^ grown).float().mean() < 0.002 * drawn.float().mean()


def test_a_zoomed_window_is_the_crop_of_a_larger_picture():
    whole = hits(KOCH.double(), WINDOW, 2048)
    window = (-0.25, 0.25, 0.25, 0.75)
    zoomed = hits(KOCH.double(), window, 512)
    crop = whole[256:768, 768:1280]
    assert crop.any()
    assert inside(crop)[zoomed].all()
    assert inside(zoomed)[crop].all()


def test_a_zoom_by_a_billion_shows_the_same_corner():
    """The gasket is self-similar about its corner: zoomed in by a power of two, it looks the same.

    The window's edges lie off the gasket's lattice, where rounding would decide between two pixels.
    """
    pictures = []
    for scale in (1.0, 2.0**-30):
        window = tuple(-1 + scale * edge for edge in (-0.013, 0.987, -0.013, 0.987))
        pictures.append(hits(CORNER_GASKET.double(), window, 256))
    whole, zoomed = pictures
    assert inside(whole)[zoomed].all()
    assert inside(zoomed)[whole].all()
    assert abs(int(whole.sum()) - int(zoomed.sum())) < 0.02 * int(whole.sum())


def test_the_inside_of_a_sprawling_system_is_full():
    maps = torch.tensor(
        [similarity(0.97, degrees=7, at=(1, 0)), similarity(0.97, degrees=-9, at=(0, 1))]
    )
    assert (occupancy(maps, WINDOW, 64) == 1).all()


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.3, 7.0])
def test_dilation_agrees_with_the_distance_transform(radius):
    taken = torch.rand(60, 60, generator=torch.Generator().manual_seed(1)) > 0.99
    taken[20:40, 20:30] = True
    near = torch.from_numpy(distance_transform_edt(~taken.numpy()))
    assert torch.equal(dilate(taken, radius), near <= radius)


def test_stroke_of_a_point_is_a_disc():
    point = torch.tensor([similarity(0.1), similarity(0.2)])  # both shrink towards (0, 0)
    picture = occupancy(point, WINDOW, 200, stroke=0.5, supersample=4)
    assert float(picture.sum()) / 200**2 * 4 == pytest.approx(math.pi / 4, rel=0.01)
    assert picture[100, 100 + 49] == 1
    assert picture[100, 100 + 51] == 0


def test_distance_is_exact_for_a_point():
    point = torch.tensor([similarity(0.1, at=(0.9 * 0.5, 0))])
    near = distance(point, WINDOW, 101, margin=0)
    row, column = 20, 30
    x, y = (2 * column + 1) / 101 - 1, 1 - (2 * row + 1) / 101
    assert float(near[row, column]) == pytest.approx(math.hypot(x - 0.5, y), abs=2 / 101)


def test_distance_counts_what_lies_outside_the_window():
    point = torch.tensor([similarity(0.5, at=(0.75, 0))])  # at (1.5, 0)
    near = distance(point, WINDOW, 64)
    assert float(near[32, 63]) == pytest.approx(0.5, abs=0.05)
    assert distance(point, WINDOW, 64, margin=0.1).isinf().all()


def test_density_gives_each_address_its_product_of_probabilities():
    maps = torch.tensor(
        [
            similarity(0.5, at=(-0.5, -0.5)),
            affine(0.5, 0, 0, 0.25, 0.5, -0.75),
            similarity(0.25, at=(-0.75, 0.75)),
        ]
    )
    areas = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    chances = areas / areas.sum()
    mass = density(maps, WINDOW, 256)
    assert float(mass.sum()) == pytest.approx(1)
    for first in range(3):
        for second in range(3):
            word = torch.tensor([[first, second]])
            box = apply(
                maps[first].double(),
                apply(maps[second].double(), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()),
            )
            low, high = ((box + 1) * 128).round().long().tolist()
            part = mass.flip(0)[low[1] : high[1], low[0] : high[0]].sum()
            assert float(part) == pytest.approx(float(chances[word].prod()), rel=1e-6)


def test_density_of_few_levels_is_exact():
    mass = density(CARPET, WINDOW, 27, recursion=2)
    assert int((mass > 0).sum()) == 64
    assert torch.allclose(mass[mass > 0], torch.full((64,), 1 / 64, dtype=torch.float64))


def test_density_of_a_window_is_the_crop_of_the_whole():
    whole = density(CARPET, WINDOW, 486)
    part = density(CARPET, (-1, -1 / 3, -1 / 3, 1 / 3), 162)
    assert float(part.sum()) == pytest.approx(1 / 8, rel=1e-3)
    assert torch.allclose(part, whole[162:324, :162], atol=1e-6)


def test_degenerate_systems_are_drawn():
    same = torch.tensor([similarity(0.5)] * 3)
    flat = torch.tensor([affine(0.5, 0, 0, 0, -0.5), affine(0.5, 0, 0, 0, 0.5)])
    for maps in (
        same,
        flat,
        contract(torch.randn(12, 2, 3, generator=torch.Generator().manual_seed(0))),
    ):
        picture = occupancy(maps, WINDOW, 32)
        assert picture.isfinite().all()
        assert (picture > 0).any()
    assert int(hits(flat.double(), WINDOW, 64).sum()) == 64, "a line across the picture"


def test_all_words_lie_in_the_picture():
    maps = FERN.double()
    points = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(8):
        points = apply(maps, points).flatten(0, 1)
    assert len(points) == len(words_of_depth(4, 8))
    drawn = hits(maps, (-1.5, 1.5, -1.5, 1.5), 400)
    pixels = ((points * torch.tensor([1.0, -1.0]) + 1.5) * 400 / 3).long()
    missed = ~inside(drawn)[pixels[:, 1], pixels[:, 0]]
    assert missed.double().mean() < 0.001


def in_strips(strips) -> torch.Tensor:
    strips = list(strips)
    assert len(strips) > 2
    return torch.cat(strips, dim=-2)


def memory_for(rows: int, bytes_per_row: int) -> int:
    return OVERHEAD + rows * bytes_per_row


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_levels_of_the_square_are_the_substitutions_of_the_carpet(level):
    (drawn,) = coverage_strips(CARPET, View(WINDOW, 243, level, figure="square"))
    true = carpet(level, [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    side = 243 // 3**level
    assert torch.equal(drawn.bool(), true.repeat_interleave(side, 0).repeat_interleave(side, 1))


@pytest.mark.parametrize("level", [0, 1, 3, 6])
def test_levels_of_the_segment_are_the_polygons_of_the_koch_curve(level):
    segment = figure("segment", KOCH, WINDOW)
    assert torch.allclose(
        segment.abs(), torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double(), atol=1e-9
    ), "its diameter"
    (drawn,) = coverage_strips(KOCH, View(WINDOW, 300, level, figure="segment"))
    points = torch.stack([torch.linspace(-1, 1, 2000).double(), torch.zeros(2000).double()], dim=1)
    for _ in range(level):
        points = apply(KOCH.double(), points).flatten(0, 1)
    pixels = ((points * torch.tensor([1.0, -1.0]) + 1) * 150).long().clamp(0, 299)
    true = torch.zeros(300, 300, dtype=torch.bool)
    true[pixels[:, 1], pixels[:, 0]] = True
    assert inside(true)[drawn > 0].all()
    assert inside(drawn)[true].all()
    assert float((drawn > 0).sum()) == pytest.approx(float(true.sum()), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_levels_of_the_hull_are_the_triangles_of_the_gasket(level):
    corners = figure("hull", CORNER_GASKET, WINDOW)
    assert len(corners) == 3
    window = (-1.003, 1.001, -1.002, 1.002)  # so that no pixel's centre lies on an edge
    (drawn,) = coverage_strips(CORNER_GASKET, View(window, 256, level, figure="hull"))
    at = (torch.arange(256).double() + 0.5) / 256 * 2.004
    # in the triangle x, y >= 0, x + y <= 1
    x, y = (
        (at - 1.003 + 1) / 2,
        (1.002 - at[:, None] + 1) / 2,
    )
    true = (x >= 0) & (y >= 0) & (x + y <= 1)
    for _ in range(level):
        x, y = 2 * x, 2 * y
        right, up = x > 1, y > 1
        x, y = torch.where(right, x - 1, x), torch.where(up, y - 1, y)
        true &= (x + y <= 1) & ~(right & up)
    assert torch.equal(drawn.bool(), true)


@pytest.mark.parametrize("name", render_ifs.FIGURES)
def test_deep_levels_of_any_figure_are_the_attractor(name):
    window = (-1.103, 1.107, -1.105, 1.105)
    (drawn,) = coverage_strips(CORNER_GASKET, View(window, 200, 40, figure=name))
    true = hits(CORNER_GASKET.double(), window, 200)
    assert inside(true)[drawn > 0].all()
    assert inside(drawn)[true].all()


@pytest.mark.parametrize("stroke", [0.0, 0.03])
def test_strips_make_up_the_whole_picture(monkeypatch, stroke):
    monkeypatch.setattr(attractor, "SOLID_CELLS", 0)
    whole = occupancy(FERN, WINDOW, 100, stroke=stroke, supersample=2)
    pad = math.ceil(stroke * 100)
    cost = (8 if pad else 2) * (200 + 2 * pad)
    memory = memory_for(17, 2 * cost) + 2 * pad * cost
    strips = coverage_strips(FERN, View(WINDOW, 100, stroke=stroke, supersample=2), memory=memory)
    assert torch.equal(in_strips(strips), whole)


@pytest.mark.parametrize("window", [WINDOW, (-0.5, 0.1, -0.2, 0.4), (0.05, 0.3, -0.9, -0.65)])
def test_distances_in_strips_are_those_of_the_whole(monkeypatch, window):
    monkeypatch.setattr(attractor, "SOLID_CELLS", 0)
    whole = distance(KOCH, window, 90)
    strips = distance_strips(KOCH, View(window, 90), memory=memory_for(23, 48 * 90))
    assert torch.allclose(in_strips(strips), whole, atol=1e-9)


def test_density_in_strips_is_that_of_the_whole():
    strips = density_strips(FERN, View(WINDOW, 120), memory=memory_for(25, 16 * 120))
    assert torch.allclose(in_strips(strips), density(FERN, WINDOW, 120), atol=1e-15)


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(MemoryError, match="a single row needs"):
        next(coverage_strips(KOCH, View(WINDOW, 1000), memory=OVERHEAD + 100))


def test_each_map_has_its_own_colour():
    colours = torch.rand(8, 3, generator=torch.Generator().manual_seed(3))
    for strips in (
        coverage_strips(CARPET, View(WINDOW, 243), colours),
        density_strips(CARPET, View(WINDOW, 243), colours),
    ):
        (picture,) = strips
        centres = ((CARPET[:, :, 2] * torch.tensor([1, -1]) + 1) * 121.5).long()
        for colour, (column, row) in zip(colours, centres, strict=True):
            block = picture[:, row - 39 : row + 40, column - 39 : column + 40]  # clear of the edges
            lit = block[3] > 0
            assert lit.sum() > 3000
            assert torch.allclose(
                (block[:3] / block[3])[:, lit].float(), colour[:, None], atol=1e-5
            )


@pytest.mark.parametrize(
    ("window", "stroke"), [(WINDOW, 0.0), (WINDOW, 0.03), ((0.0, 0.03, 0.0, 0.03), 0.0)]
)
def test_colours_are_where_the_plain_picture_is(window, stroke):
    """The search for the highest colour of a pixel does not look for edges as the plain one
    does."""
    (coloured,) = coverage_strips(
        FERN, View(window, 64, stroke=stroke, supersample=3), torch.ones(1000, 3)
    )
    plain = occupancy(FERN, window, 64, stroke=stroke)
    assert plain.any()
    assert all(torch.equal(layer, plain) for layer in coloured)


@pytest.mark.parametrize("colours", [0, 1024])
@pytest.mark.parametrize("maps", [CARPET, KOCH])
def test_looking_back_finds_the_colours_that_looking_down_finds(maps, colours):
    count, tile = colours or len(maps), (10, 90, 0, 100)
    back = colours_by_inverse_maps(Attractor(maps, View(WINDOW, 100)), tile, count)
    # words are looked for, from the highest colour down
    tiled = Attractor(maps, View(WINDOW, 100), whole=False)
    down = occupied_pixels(tiled, tile, colours=count)
    both = (back > 0) & (down > 0)
    assert both.sum() >= 0.95 * (down > 0).sum()
    assert ((back - down).abs() > count / 100)[both].float().mean() < 0.02


def test_the_first_letter_of_an_endless_address_is_never_rounded_away():
    """About the fixed point of the last of four maps, addresses are dozens of last letters: 0.333…
    in base 4."""
    maps = torch.tensor([similarity(0.5, at=(x, y)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
    near = 2.0**-40
    attractor = Attractor(maps, View((1 - near, 1 + near, 1 - near, 1 + near), 64))
    first_letters = occupied_pixels(attractor, (0, 64, 0, 64), colours=4)
    assert (first_letters == 4).any()
    assert ((first_letters == 4) | (first_letters == 0)).all()


def test_the_nearest_point_is_found_in_double_precision():
    # beyond the middle of the long side, which is the attractor's own
    u, v = nearest_point(CORNER_GASKET, 0.7, 0.9)
    assert abs(u + v) < 1e-15
    assert abs(u - -0.1) < 1e-6
    assert nearest_point(KOCH, -3.0, 0.0) == pytest.approx((-1.0, 0.0), abs=1e-6)


SLOW = {
    "three corners": [similarity(0.99, at=at) for at in ((0.01, 0), (-0.01, 0), (0, 0.01))],
    # copies that slide along a line, ever more slowly
    "slide": [
        similarity(0.99),
        similarity(0.1, at=(0.9, 0.3)),
    ],
    "mirrors": [
        similarity(0.99, 10, (0.012, 0), mirror=True),
        similarity(0.99, 70, (-0.006, 0.008), mirror=True),
    ],
}


def played(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Which pixels a long chaos game hits that takes each map many times in a row, so that it comes
    everywhere."""
    chance, maps = torch.Generator().manual_seed(0), maps.double()
    points, picture = torch.zeros(2000, 2).double(), torch.zeros(size * size, dtype=torch.bool)
    letter, patience = torch.zeros(2000, dtype=torch.long), torch.logspace(-3.3, 0, 2000)
    for step in range(2500):
        new = torch.rand(2000, generator=chance) < patience
        letter = torch.where(new, torch.randint(len(maps), (2000,), generator=chance), letter)
        points = apply(maps[letter], points[:, None]).squeeze(1)
        if step > 1000:
            column, row = (
                ((points * torch.tensor([1.0, -1.0]) + 1) * size / 2)
                .long()
                .clamp(0, size - 1)
                .unbind(1)
            )
            picture[row * size + column] = True
    return picture.view(size, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_maps_that_move_points_by_less_than_a_cell_do_not_stop_growth(name):
    maps = torch.tensor(SLOW[name])
    true, drawn = played(maps, 32), hits(maps.double(), WINDOW, 32)
    assert true.sum() > 10
    assert (true & ~inside(drawn)).sum() == 0
    assert (true & ~drawn).sum() <= 0.02 * true.sum()


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        (0.97, 32),
        pytest.param(0.97, 300, marks=pytest.mark.slow),
        pytest.param(0.9901, 100, marks=pytest.mark.slow),
        pytest.param(0.9901, 500, marks=pytest.mark.slow),
    ],
)
def test_three_slow_maps_fill_their_triangle(scale, size):
    """With x → s x + (1 − s) c for three corners c, s ≥ 2/3, the attractor is the triangle of these
    corners."""
    maps = torch.tensor(
        [
            similarity(scale, at=((1 - scale) * x, (1 - scale) * y))
            for x, y in ((-1, -1), (1, -1), (-1, 1))
        ],
        dtype=torch.float64,
    )
    drawn = hits(maps, WINDOW, size, 100_000)
    true = torch.ones(size, size).tril().bool()
    assert (true & ~drawn).sum() <= 0.005 * true.sum()
    assert (drawn & ~inside(true)).sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "size"), [(0.97, 128), (0.99, 160)])
def test_slow_quarter_turns_fill_their_polygon(scale, size):
    """With x → s R x + t for three t, R a quarter turn, s⁴ ≥ 2/3, the attractor is T + s R T + s²
    R² T + s³ R³ T.

    T is the triangle of the corners t / (1 − s⁴): the attractor of x → s⁴ x + t.
    """
    shifts = [(0.9, 0.1), (-0.6, 0.5), (-0.2, -0.8)]
    maps = torch.tensor(
        [similarity(scale, 90, at=((1 - scale) * x, (1 - scale) * y)) for x, y in shifts],
        dtype=torch.float64,
    )
    angles = torch.arange(240).double() * (math.pi / 120)
    ways = torch.stack([angles.cos(), angles.sin()], dim=1)
    quarter, support = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double(), torch.zeros(240).double()
    for k in range(4):
        corners = (
            maps[:, :, 2] / (1 - scale**4) @ (scale**k * torch.linalg.matrix_power(quarter, k)).T
        )
        support += (ways @ corners.T).amax(1)
    at = (torch.arange(size).double() + 0.5) * 2 / size - 1
    centres = torch.stack([at.expand(size, size), -at[:, None].expand(size, size)], dim=-1)
    beyond = (centres @ ways.T - support).amax(-1) * size / 2  # pixels
    drawn = hits(maps, WINDOW, size)
    assert not drawn[beyond > 0.75].any()
    whole = beyond < -0.75  # pixels that lie in the polygon with all of their corners
    assert inside(drawn)[whole].all()
    assert (whole & ~drawn).sum() <= 0.002 * whole.sum()
    rim = whole & (beyond > -4)
    assert (rim & ~drawn).sum() <= 0.02 * rim.sum()


def slow_and_random(kind: str, seed: int) -> torch.Tensor:
    """Maps (n, 2, 3) of singular value 0.99, turns about points nearby, or of at most 0.9, of any
    shape."""
    chance = torch.Generator().manual_seed(seed)
    if kind == "affine":
        return contract(4 * torch.randn(5, 2, 3, generator=chance).double(), 0.9)
    x, y, turns = torch.rand(3, 18, generator=chance, dtype=torch.float64)
    return torch.tensor(
        [
            similarity(0.99, 360 * turn, at=(0.006 * (u - 0.5), 0.006 * (v - 0.5)))
            for u, v, turn in zip(x.tolist(), y.tolist(), turns.tolist(), strict=True)
        ]
    ).double()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seed", "size"), [("turns", 2, 64), ("affine", 8, 128), ("affine", 8, 256)]
)
def test_pictures_of_slow_maps_reach_as_far_as_their_attractors(kind, seed, size):
    """How far an attractor reaches follows from h(d) = max_i <t_i, d> + h(A_iᵀ d), in which no
    point is dropped."""
    maps = slow_and_random(kind, seed)
    turn = torch.arange(1024).double() * (math.pi / 512)
    ways = torch.stack([turn.cos(), turn.sin()], dim=1)
    pulled, offset = ways @ maps[:, :, :2], maps[:, :, 2] @ ways.T
    at = torch.atan2(pulled[..., 1], pulled[..., 0]) / (math.pi / 512) % 1024
    first, length, support = at.long() % 1024, pulled.norm(dim=-1), torch.zeros(1024).double()
    for _ in range(1500):
        support = (
            offset + length * torch.lerp(support[first], support[(first + 1) % 1024], at % 1)
        ).amax(0)
    right, high, left, low = support[::256].tolist()
    x, y, half = (right - left) / 2, (high - low) / 2, 0.52 * max(left + right, high + low)
    drawn = hits(maps, (x - half, x + half, y - half, y + half), size)
    for k, extent in ((0, left + right), (1, high + low)):
        lit = drawn.any(k).nonzero()
        edge = (
            size - extent * size / (2 * half)
        ) / 2  # pixels between the picture's edge and the attractor
        assert int(lit[0]) == pytest.approx(edge - 0.5, abs=1.25)
        assert int(lit[-1]) == pytest.approx(size - edge - 0.5, abs=1.25)


@pytest.mark.parametrize(
    ("scale", "factor"),
    [
        (3 / 4, 30),
        (3 / 4, 1e9),
        pytest.param(15 / 16, 1e4, marks=pytest.mark.slow),
        pytest.param(15 / 16, 1e9, marks=pytest.mark.slow),
    ],
)
def test_zooms_into_images_that_overlap_are_sharp(scale, factor):
    """Four maps of a square into its corners overlap, and fill it, if they scale it by more than a
    half."""
    corners = [(u * (1 - scale), v * (1 - scale)) for u in (-1, 1) for v in (-1, 1)]
    maps = torch.tensor([similarity(scale, at=corner) for corner in corners]).double()
    pixel = 2 / factor / 64
    for x, y in ((1, 1), (1, 0.3), (-0.1, -1), (0.37, 0.21)):
        window = (x - 31.5 * pixel, x + 32.5 * pixel, y - 31.5 * pixel, y + 32.5 * pixel)
        taken = hits(maps, window, 64, 10**6)
        expected = torch.zeros(64, 64, dtype=torch.bool)
        expected[32 if y == 1 else 0 : 32 if y == -1 else 64, : 32 if x == 1 else 64] = True
        middles = torch.ones(64, dtype=torch.bool)
        middles[31:33] = False  # where the edge lies
        if x == 1:
            taken, expected = taken[:, middles], expected[:, middles]
        if abs(y) == 1:
            taken, expected = taken[middles], expected[middles]
        assert not (taken & ~expected).any()
        assert int((taken ^ expected).sum()) <= 0.01 * int(expected.sum())


@pytest.mark.parametrize("slow", [0.88, pytest.param(0.99, marks=pytest.mark.slow)])
def test_a_zoom_into_a_spiral_is_the_crop_of_a_larger_picture(slow):
    ends = similarity(0.25, 30, at=(1, 0)), similarity(0.2, -60, at=(-0.3, 0.5))
    maps = torch.tensor([similarity(slow, 25), *ends]).double()
    whole = occupancy(maps, (-1.5, 1.5, -1.5, 1.5), 768, 10**4, supersample=2) > 0
    x, y = nearest_point(maps, 1.5, 0.1)
    column, row = round((x + 1.5) * 256) - 32, round((1.5 - y) * 256) - 32
    window = (column / 256 - 1.5, column / 256 - 1.25, 1.25 - row / 256, 1.5 - row / 256)
    crop, zoom = (
        whole[row : row + 64, column : column + 64],
        occupancy(maps, window, 64, 10**4, supersample=2) > 0,
    )
    assert crop.sum() > 100
    assert int((crop & ~zoom).sum()) < 0.02 * int(crop.sum())
    assert not (zoom & ~dilate(crop, 2))[2:-2, 2:-2].any()


def test_what_slow_maps_lose_at_the_border_is_grown_with_addresses_too():
    maps = torch.tensor(
        [similarity(0.95, 90, at=at) for at in ((0.04, 0), (-0.03, 0.02), (0, -0.04))]
    ).double()
    tile, whole = (0, 100, 0, 100), Attractor(maps, View(WINDOW, 100))
    draft = int((occupancy(maps, WINDOW, 100, supersample=1, quality="draft") > 0).sum())
    plain, coloured = (occupied_pixels(whole, tile, colours=count) > 0 for count in (0, 3))
    assert int(plain.sum()) > 1.005 * draft
    assert int(coloured.sum()) > 1.005 * draft
    # a few edges, which colours are not looked for at
    assert int((plain ^ coloured).sum()) < 0.005 * draft


def test_the_border_is_followed_no_further_than_there_is_time(monkeypatch):
    maps = slow_and_random("turns", 0)
    everything = sum(part.shape[1] for _, part in iterate(maps, bounds(maps), 0.002, 1000))
    monkeypatch.setattr(growth, "OUTERMOST_WORK", 1)
    least = sum(part.shape[1] for _, part in iterate(maps, bounds(maps), 0.002, 1000))
    assert least < everything


@pytest.mark.parametrize("recursion", [0, 3, 1000, 10**12])
@pytest.mark.parametrize("kind", ["gasket", "square", "slow"])
def test_a_draft_is_grown_at_once_to_the_points_of_all_levels(kind, recursion):
    """A square has more points than there is room for at first, and a slow system long words."""
    corners = [similarity(0.5, at=(x, y)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    systems = {"gasket": CORNER_GASKET, "square": torch.tensor(corners)}
    maps = (systems.get(kind) if kind in systems else slow_and_random("turns", 0)).double()
    given = maps, bounds(maps), 1 / 64, recursion
    levels = torch.cat([part for _, part in iterate(*given, quality="draft")], dim=1)
    assert torch.equal(growth.draft(*given), levels)


@pytest.mark.parametrize("size", [20, 600])
def test_several_pens_draw_from_one_growth_what_each_draws_alone(size):
    pens, maps = (0.02, 0.05, 0.031), dots([(1.03, 0), (0.2, -1.03), (0.4, 0.3)])
    for pen, picture in zip(pens, drawn_with_pens(maps, WINDOW, size, pens, 2), strict=True):
        alone = occupancy(maps, WINDOW, size, stroke=pen, supersample=2, quality="draft")
        assert torch.equal(picture, alone)


def test_slow_maps_leap_no_further_than_the_levels_asked_for():
    maps = torch.tensor([similarity(0.99, at=(0.01, 0)), similarity(0.99, at=(-0.01, 0))]).double()
    for recursion in (10, 40, 60):
        points = torch.cat(
            [part for _, part in iterate(maps, (-1, 1, -1, 1), 1 / 64, recursion)], dim=1
        )
        assert points[0].abs().min() >= 2 * 0.99**recursion - 1 - 1e-9


@pytest.mark.parametrize("scale", [0.97, 0.9901])
def test_bounds_of_slow_maps_hold_their_attractor(scale):
    maps = torch.tensor(
        [similarity(scale, at=((1 - scale) * x, 5 * (1 - scale))) for x in (7, 9)]
    ).double()
    xmin, xmax, ymin, ymax = bounds(maps)
    assert 5 < xmin <= 7.01
    assert 8.99 <= xmax < 11
    assert 3.99 < ymin <= 5.01
    assert 4.99 <= ymax < 6.01


@pytest.mark.parametrize("scale", [0.97, 0.9901])
def test_bounds_of_slow_turns_fit_their_attractor(scale):
    """Both maps take the unit disc into itself, and one turns the point (1, 0), which the other
    leaves where it is."""
    maps = torch.tensor([similarity(scale, 25), similarity(0.3, at=(0.7, 0))]).double()
    assert max(abs(edge) for edge in bounds(maps)) < 1.2


@pytest.mark.parametrize(
    ("scale", "recursion"),
    [(0.8, 50), (0.99, 60), pytest.param(0.9901, 1000, marks=pytest.mark.slow)],
)
def test_density_of_slow_maps_spreads_as_it_should(scale, recursion):
    """With x → s x + t, t random, the variance after R levels is that of t times (1 − s^(2R)) / (1
    − s²)."""
    step = (1 - scale**2) ** 0.5 / 3
    maps = torch.tensor(
        [similarity(scale, at=(x * step, y * step)) for x in (-1, 1) for y in (-1, 1)]
    ).double()
    mass = density(maps, (-2, 2, -2, 2), 100, recursion)
    assert float(mass.sum()) == pytest.approx(1)
    at = (2 * torch.arange(100).double() + 1) / 50 - 2
    for part in (mass.sum(0), mass.sum(1)):
        mean = float((part * at).sum())
        assert mean == pytest.approx(0, abs=0.003)
        assert float((part * at**2).sum()) - mean**2 == pytest.approx(
            (1 - scale ** (2 * recursion)) / 9, rel=0.04
        )


def bernoulli_density(halvings: int, x: float) -> float:
    """At x, that of Σ ± (1 − s) s^j where s^halvings is a half: a sum of as many evenly spread
    ones."""
    s = 0.5 ** (1 / halvings)
    t = np.linspace(0, 5000, 500001)
    waves = np.prod([np.sinc(2 * (1 - s) * s**k * t / np.pi) for k in range(halvings)], axis=0)
    return float((waves * np.cos(t * x)).sum() * t[1] / np.pi - 0.5 * t[1] / np.pi)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("halvings", "factor", "places"),
    [
        (2, 1e3, [(0.3, -0.2), (-0.6, 0.1)]),
        (2, 1e9, [(0.3, -0.2)]),
        (4, 1e4, [(-0.6, 0.1)]),
        (12, 1e2, [(0.3, -0.2)]),
    ],
)
def test_density_zooms_into_images_that_overlap_hold_their_mass(halvings, factor, places):
    """Both coordinates of four maps into the corners of a square are sums of powers with random
    signs."""
    scale = 0.5 ** (1 / halvings)
    corners = [(u * (1 - scale), v * (1 - scale)) for u in (-1, 1) for v in (-1, 1)]
    maps = torch.tensor([similarity(scale, at=corner) for corner in corners]).double()
    for x, y in places:
        half = 1 / factor
        mass = density(maps, (x - half, x + half, y - half, y + half), 24, 10**6) / (half / 12) ** 2
        expected = bernoulli_density(halvings, x) * bernoulli_density(halvings, y)
        assert float(mass.mean()) == pytest.approx(expected, rel=0.2)
        assert float(mass.std()) < 0.3 * expected


def test_thinned_masses_stand_for_all():
    chance = torch.Generator().manual_seed(0)
    masses = torch.rand(1000, generator=chance).double() ** 8
    masses[::7] = 0
    mean = torch.zeros_like(masses)
    for _ in range(1000):
        kept, factors = resample(masses, 100, chance)
        assert len(kept) <= 100
        mean[kept] += factors * masses[kept] / 1000
    assert float(mean.sum()) == pytest.approx(float(masses.sum()))
    assert float((mean - masses).abs().sum()) < 0.05 * float(masses.sum())
    heaviest = masses.topk(5).indices
    assert torch.equal(mean[heaviest].float(), masses[heaviest].float()), "these are always kept"
    none, _ = resample(torch.zeros(5).double(), 2, chance)
    assert len(none) == 0


def test_levels_of_particles_are_not_kept_all_at_once(monkeypatch):
    levels = [(level, torch.zeros(2, 1000), torch.ones(1000)) for level in range(100)]
    assert list(levels_to_keep(iter(levels), 1000)) == [99]
    assert list(levels_to_keep(iter(levels), 90)) == [*range(90, 100)]
    monkeypatch.setattr(density_module, "PARTICLE_BYTES", 10 * 12_000)
    kept = levels_to_keep(iter(levels), 0)
    assert len(kept) <= 10
    assert max(kept) == 99
