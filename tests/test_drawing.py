"""Parts of the hard rasteriser, each against what a few lines of numpy find by looking at
everything."""

import itertools
import math

import numpy as np
import pytest
import torch
from drawings import dots
from systems import CORNER_GASKET, KOCH

from diff_ifs.draw import coverage
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.chart import Chart
from diff_ifs.draw.distance import distance, distance_strips
from diff_ifs.draw.figures import hull
from diff_ifs.draw.geometry import OVERHEAD, View, bounds, in_pixels, measure_box, nearest_point
from diff_ifs.draw.pixels import occupied_pixels
from diff_ifs.draw.words import heaviest_of_each_place
from diff_ifs.kernels.growth import iterate, mark
from diff_ifs.setup import WINDOW, affine, similarity

LEANING = torch.tensor(
    [
        affine(0.6, -0.2, 0.1, 0.5, -0.3, 0.2),
        affine(0.3, 0.3, -0.4, 0.4, 0.5, -0.3),
        similarity(0.4, 100, (0.2, 0.5)),
    ]
).double()


def points_of(maps: torch.Tensor, depth: int) -> np.ndarray:
    """The images (P, 2) of a fixed point under all words of a depth: points of the attractor."""
    maps = maps.double().numpy()
    points = np.linalg.solve(np.eye(2) - maps[0, :, :2], maps[0, :, 2])[None]
    for _ in range(depth):
        points = np.concatenate([points @ map_[:, :2].T + map_[:, 2] for map_ in maps])
    return points


@pytest.mark.slow
@pytest.mark.parametrize("maps", [LEANING, KOCH, CORNER_GASKET], ids=["leaning", "koch", "gasket"])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.0, -4.0)])
def test_no_point_is_nearer_than_the_one_that_is_found(maps, shift):
    moved = torch.tensor(shift).double()
    maps = torch.cat(
        [maps[..., :2], (maps[..., 2] + moved - maps[..., :2].double() @ moved)[..., None]], dim=-1
    )
    points = points_of(maps, 10 if len(maps) == 3 else 8)
    chance = np.random.default_rng(0)
    for x, y in chance.uniform(-1.5, 1.5, (25, 2)) + np.array(shift):
        u, v = nearest_point(maps, x, y)
        away = np.hypot(points[:, 0] - x, points[:, 1] - y).min()
        assert math.hypot(u - x, v - y) <= away + 1e-9
        assert np.hypot(points[:, 0] - u, points[:, 1] - v).min() < 0.05, (
            "it is one of the attractor's own"
        )


def test_a_chart_knows_how_far_the_attractor_reaches_in_all_directions():
    """Each of its ranges of angles, over half a turn, holds all points for all angles in it."""
    points = points_of(LEANING, 9)
    # the chart sees only these
    some = torch.from_numpy(points[:: max(1, len(points) // 400)].T.copy())
    box = bounds(LEANING)
    chart = Chart(some, torch.zeros(some.shape[1]).long(), box, 0.02)
    kept = [points[(np.abs(points - p).max(1) < 0.01).nonzero()[0]] for p in some.T.numpy()]
    near = np.concatenate(kept)  # others that share their cells, or nearly
    middle = np.array([(box[0] + box[1]) / 2, (box[2] + box[3]) / 2])
    count = len(chart.extents)
    for k in range(0, count, 7):
        for share in (0.001, 0.5, 0.999):
            angle = ((k + share) / count - 0.5) * math.pi
            reach = (near - middle) @ [math.cos(angle), math.sin(angle)]
            assert chart.extents[k, 0] <= reach.min() + 1e-9
            assert chart.extents[k, 1] >= reach.max() - 1e-9
            assert chart.extents[k, 1] - chart.extents[k, 0] < np.ptp(reach) + 0.2


def test_a_chart_holds_the_first_point_of_each_cell_and_of_cells_of_twice_the_side():
    points = torch.tensor([[0.1, 0.3, 0.6, 2.7, 2.6], [0.2, 0.2, 0.7, 1.9, 3.4]]).double()
    chart = Chart(points, torch.arange(5), (0.0, 3.0, 0.0, 4.0), 0.5)
    left, top = chart.frame[4:6].tolist()
    for level, (offset, rows, columns) in enumerate(chart.shapes.tolist()):
        side = 0.5 * 2**level
        wanted = {}
        for k, (x, y) in enumerate(points.T.tolist()):
            wanted.setdefault((int((y - top) / side), int((x - left) / side)), k)
        grid = chart.index[offset : offset + rows * columns].reshape(rows, columns)
        found = {(int(r), int(c)): int(grid[r, c]) for r, c in np.argwhere(grid >= 0).tolist()}
        assert found == wanted


@pytest.mark.parametrize(
    "step", [(0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, 1), (-1, 1), (1, -1)]
)
def test_cells_beside_any_vacant_cell_are_at_the_border(step):
    """A point that lies further out than all before is taken there, and nowhere else."""
    columns, rows, cell = 7, 6, (3, 2)  # row and column
    free = np.zeros((rows, columns), dtype=bool)
    outermost = np.zeros((rows * columns, 8), dtype=np.uint8)
    outermost[cell[0] * columns + cell[1]] = 11  # half of the way, in each direction
    same = np.eye(2, 3)[None]
    point = np.array([[cell[1] + 0.97], [cell[0] + 0.95]])
    new, _ = iterate(same, point, free.ravel().copy(), columns, outermost.copy())
    assert new.shape[1] == 0, "all around is taken"
    free[cell[0] + step[0], cell[1] + step[1]] = True
    new, origins = iterate(same, point, free.ravel().copy(), columns, outermost.copy())
    assert np.array_equal(new, point)
    assert origins.tolist() == [0]
    for u, v in ((0.02, 0.5), (0.5, 0.02), (0.06, 0.04), (0.98, 0.03), (0.03, 0.98), (0.97, 0.5)):
        out = np.array([[cell[1] + u], [cell[0] + v]])
        assert (
            iterate(same, out, free.ravel().copy(), columns, outermost.copy())[0].shape[1] == 1
        ), "any way out"
    for further in ((0.5, 0.5), (0.45, 0.5)):  # not further out than what is there
        inner = np.array([[cell[1] + further[0]], [cell[0] + further[1]]])
        assert iterate(same, inner, free.ravel().copy(), columns, outermost.copy())[0].shape[1] == 0


def test_the_first_point_in_a_free_cell_is_kept_and_mapped_on():
    """Six points on a grid of 4 × 3 cells, and two maps."""
    maps = np.array([[[1.0, 0, 0], [0, 1.0, 0]], [[0, 1.0, 0.5], [1.0, 0, 0]]])
    points = np.array([[0.5, 0.7, 2.5, 3.5, -2.0, 9.0], [0.5, 0.2, 1.5, 0.5, 1.5, 9.0]])
    free = np.ones(12, dtype=bool)
    free[0 * 4 + 3] = False
    new, origins = iterate(maps, points, free, 4, np.zeros((0, 8), np.uint8))
    wanted, taken = [], {3}
    for k, map_ in enumerate(maps):
        for p, (x, y) in enumerate((points.T @ map_[:, :2].T + map_[:, 2]).tolist()):
            cell = 4 * min(max(int(y), 0), 2) + min(max(int(x), 0), 3)
            if cell not in taken:
                taken.add(cell)
                wanted.append((6 * k + p, x, y))
    assert origins.tolist() == [w[0] for w in wanted]
    assert np.allclose(new.T, [w[1:] for w in wanted])
    assert set(np.flatnonzero(~free)) == taken


# --- Bounds, frames, figures ---


@pytest.mark.parametrize("maps", [LEANING, KOCH])
def test_bounds_are_those_of_the_attractor_on_each_side(maps):
    points, box = points_of(maps, 9), bounds(maps)
    low, high = points.min(0), points.max(0)
    assert box[0] <= low[0] + 1e-9
    assert box[1] >= high[0] - 1e-9
    assert box[2] <= low[1] + 1e-9
    assert box[3] >= high[1] - 1e-9
    wide = max(high - low)
    assert np.abs(np.array(box) - [low[0], high[0], low[1], high[1]]).max() < 0.06 * wide


def test_bounds_with_a_figure_hold_it_and_its_images():
    corners = torch.tensor([[-2.0, 0.1], [0.3, 1.7], [1.1, -0.4]]).double()
    box = bounds(LEANING, corners=corners)
    points, seen = corners.numpy(), [corners.numpy()]
    for _ in range(6):
        points = np.concatenate([points @ m[:, :2].T + m[:, 2] for m in LEANING.numpy()])
        seen.append(points)
    seen = np.concatenate(seen)
    assert np.abs(np.array(box)[[0, 2]] - seen.min(0)).max() < 0.12
    assert np.abs(np.array(box)[[1, 3]] - seen.max(0)).max() < 0.12
    assert (np.array(box)[[0, 2]] <= seen.min(0) + 1e-9).all()
    assert (np.array(box)[[1, 3]] >= seen.max(0) - 1e-9).all()


def test_maps_in_pixels_do_what_maps_do_in_the_world():
    window, side = (-0.5, 2.5, -2.0, 1.0), 60
    seen = in_pixels(LEANING, window, side).numpy()
    world = np.array([[0.3, -0.7], [1.9, 0.4]])

    def pixels(points: np.ndarray) -> np.ndarray:
        return np.stack([(points[:, 0] + 0.5) * 20 - 0.5, (1.0 - points[:, 1]) * 20 - 0.5], axis=1)

    for map_, there in zip(LEANING.numpy(), seen, strict=True):
        after = pixels(world @ map_[:, :2].T + map_[:, 2])
        # nudged by less
        assert np.allclose(pixels(world) @ there[:, :2].T + there[:, 2], after, atol=1e-5)


def test_the_hull_has_the_outermost_points_in_their_order():
    corners, points = hull(LEANING).numpy(), points_of(LEANING, 11)
    for angle in np.linspace(0, 2 * np.pi, 50):
        way = [math.cos(angle), math.sin(angle)]
        assert (corners @ way).max() == pytest.approx((points @ way).max(), abs=0.005)
    ahead = np.roll(corners, -1, 0) - corners
    turns = ahead[:, 0] * np.roll(ahead, -1, 0)[:, 1] - ahead[:, 1] * np.roll(ahead, -1, 0)[:, 0]
    assert (np.sign(turns) == np.sign(turns[0])).all(), "all the way around the same way"


def test_the_box_of_a_measure_reaches_16_deviations_to_each_side():
    maps = torch.tensor(
        [affine(0.5, 0.2, 0, 0.5, -0.4, 0.1), affine(0.5, 0, 0.1, 0.6, 0.5, -0.2)]
    ).double()
    weights = torch.tensor([0.3, 0.7]).double()
    points, share = np.zeros((1, 2)), np.ones(1)
    for _ in range(16):
        points = np.concatenate([points @ m[:, :2].T + m[:, 2] for m in maps.numpy()])
        share = np.concatenate([share * p for p in weights.numpy()])
    mean = share @ points
    deviation = np.sqrt(share @ (points - mean) ** 2)
    low, high = mean - 16 * deviation, mean + 16 * deviation
    assert measure_box(maps, weights) == pytest.approx((low[0], high[0], low[1], high[1]), rel=1e-3)


# --- Pens, and what a level lacks ---


@pytest.mark.parametrize("radius", [0.0, 1.0, 3.7])
def test_dilation_reaches_as_far_up_as_down_and_sideways(radius):
    taken = torch.zeros(20, 30, dtype=torch.bool)
    for row, column in ((3, 4), (17, 28), (9, 15)):
        taken[row, column] = True
    row, column = np.mgrid[:20, :30]
    true = np.min([np.hypot(row - r, column - c) for r, c in ((3, 4), (17, 28), (9, 15))], axis=0)
    assert np.array_equal(coverage.dilate(taken, radius).numpy(), true <= radius)


def test_colours_of_a_pen_are_those_of_the_nearest_pixel():
    colours = torch.zeros(12, 20, dtype=torch.int16)
    colours[4, 3], colours[6, 15] = 5, 2
    found = coverage._with_pen(colours, 4.2)
    row, column = np.mgrid[:12, :20]
    to_five, to_two = np.hypot(row - 4, column - 3), np.hypot(row - 6, column - 15)
    wanted = np.where(np.minimum(to_five, to_two) <= 4.2, np.where(to_five < to_two, 5, 2), 0)
    assert np.array_equal(found.numpy(), wanted)


def test_what_a_level_lacks_is_a_part_of_the_pixels():
    """Level k of halves of an interval has 2^(k+1) points, the fixed points' images, of 128
    pixels."""
    line = torch.tensor(
        [similarity(0.5, at=(-0.5, 0.011)), similarity(0.5, at=(0.5, 0.011))]
    ).double()
    whole = int((coverage.occupancy(line, WINDOW, 128, supersample=1) > 0).sum())
    for level in (2, 4):
        ends = {-1.0, 1.0}
        for _ in range(level):
            ends = {x / 2 + shift for x, shift in itertools.product(ends, (-0.5, 0.5))} | ends
        pixels = len({min(int((x + 1) * 64 + 1e-3), 127) for x in ends})
        assert coverage.missing_fraction(line, WINDOW, level) == pytest.approx(
            1 - pixels / whole, abs=0.02
        )


def test_a_cloud_that_is_thinned_keeps_no_more_than_asked_for_in_every_place():
    """Order: the heaviest word of each of 32 × 32 places comes first, then the second ones."""
    attractor = Attractor(LEANING, View(WINDOW, 64))
    places = [(10, 10), (10, 10), (50, 20), (10, 10), (50, 20)]
    maps = torch.stack([
        torch.tensor([[1e-6, 0, x], [0, 1e-6, y]]).double() for x, y in places
    ])  # fmt: skip
    order = heaviest_of_each_place(
        attractor, maps, torch.tensor([0.1, 0.5, 0.2, 0.3, 0.4]).double(), (0, 64, 0, 64)
    ).tolist()
    assert sorted(order[:2]) == [1, 4]
    assert sorted(order[2:4]) == [2, 3]
    assert order[4] == 0


# --- Distances ---


def far_and_near(window: tuple, size: int, places: list[tuple[float, float]]) -> np.ndarray:
    """The distance (S, S) of the middle of each pixel from the nearest place."""
    at = (np.arange(size) + 0.5) / size * (window[1] - window[0])
    x, y = window[0] + at, (window[3] - at)[:, None]
    return np.min([np.hypot(x - u, y - v) for u, v in places], axis=0)


@pytest.mark.parametrize(
    "places",
    [
        [(-0.81, 0.77), (0.43, -0.91)],
        [(0.13, 0.09), (1.31, -0.52), (-1.2, 0.8)],
        [(-0.2, 1.7), (0.3, -1.4)],
        [(-1.5, -0.1)],
    ],
)
def test_distances_in_strips_are_those_from_the_nearest_place_anywhere(places):
    rows = OVERHEAD + 9 * 48 * 180
    strips = list(distance_strips(dots(places), View(WINDOW, 60), memory=rows))
    assert len(strips) > 2
    found = torch.cat(strips).numpy()
    assert np.abs(found - far_and_near(WINDOW, 60, places)).max() < 0.75 * 2 / 60


@pytest.mark.parametrize(
    "window", [(0.0, 1.0, 0.0, 1.0), (-7.0, -6.5, 3.0, 3.5), (40.0, 41.0, -20.0, -19.0)]
)
def test_what_is_far_from_the_window_is_known_to_a_few_thousandths(window):
    places = [(2.6, 5.1), (-3.7, -2.9), (9.3, -8.2)]
    found = distance(dots(places), window, 24).numpy()
    true = far_and_near(window, 24, places)
    assert true.min() > 1
    assert np.abs(found / true - 1).max() < 0.004


@pytest.mark.parametrize(
    "window", [(1.5, 1.6, 0.2, 0.3), (1.001, 1.0011, 0.2, 0.2001), (3, 3.2, 2, 2.2)]
)
def test_a_figure_may_be_nearer_than_its_corners(window):
    """Level 0 of the square is the square: from beside it, an edge is near, however far the corners
    are."""
    (found,) = distance_strips(KOCH, View(window, 20, 0, figure="square"))
    at = (np.arange(20) + 0.5) / 20 * (window[1] - window[0])
    x, y = window[0] + at, (window[3] - at)[:, None]
    true = np.hypot(np.maximum(x - 1, 0), np.maximum(y - 1, 0))
    assert np.abs(found.numpy() / true - 1).max() < 0.003


# --- Tiles ---


@pytest.mark.parametrize("tile", [(10, 90, 0, 100), (15, 48, 20, 99), (71, 100, 3, 9)])
@pytest.mark.parametrize("grown", [True, False])
def test_a_tile_that_is_not_square_is_a_part_of_the_picture(tile, grown):
    pictures = []
    for part in ((0, 100, 0, 100), tile):
        attractor = Attractor(LEANING, View(WINDOW, 100), whole=grown)
        pictures.append(occupied_pixels(attractor, part))
    left, right, top, bottom = tile
    whole = pictures[0][top:bottom, left:right]
    assert pictures[1].shape == (bottom - top, right - left)
    assert whole.any()
    assert (whole ^ pictures[1]).float().mean() < 0.01


@pytest.mark.parametrize("addresses", [(0.15, 0.95), (0.95, 0.15)])
def test_of_points_in_one_pixel_the_highest_colour_is_seen(addresses):
    """In the second half of all addresses, where a map of two takes them, 0.95 becomes 0.975."""
    picture, points = np.zeros((6, 6), np.int16), np.array([(2.2, 2.4), (3.1, 3.3), addresses])
    mark(np.eye(2, 3)[None], np.array([[0.5, 0.5]]), points, 100, (1.0, 0.0), picture)
    assert np.argwhere(picture).tolist() == [[3, 3]]
    assert picture[3, 3] == 98
