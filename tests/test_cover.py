"""Pictures that are covered tile by tile, against growth and against addresses that are known."""

import math

import numpy as np
import pytest
import torch
from drawings import hits
from systems import CARPET, CORNER_GASKET, FERN, KOCH

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.coverage import dilate
from diff_ifs.draw.geometry import View, Window, nearest_point
from diff_ifs.draw.pixels import occupied_pixels
from diff_ifs.kernels import jit, tiles
from diff_ifs.kernels.tiles import ALIKE
from diff_ifs.setup import WINDOW, affine, similarity
from ifs_model import apply, fixed_points


def overlapping(n: int, scale: float, ratio: float, seed: int, twice: int = 0) -> torch.Tensor:
    """n random maps (n, 2, 3) of singular values `scale` and `ratio` times that, the first `twice`
    of them twice."""
    chance = torch.Generator().manual_seed(seed)
    turns, fixed = (
        torch.rand(n, 2, generator=chance).double() * 2 * math.pi,
        torch.rand(n, 2, generator=chance) - 0.5,
    )
    first, last = (
        torch.stack([c, -s, s, c], 1).view(n, 2, 2)
        for c, s in ((t.cos(), t.sin()) for t in turns.T)
    )
    linear = first @ torch.tensor([[scale, 0], [0, scale * ratio]]).double() @ last
    shift = fixed.double()[..., None] - linear @ fixed.double()[..., None]
    maps = torch.cat([linear, shift], dim=2)
    return torch.cat([maps, maps[:twice]])


def covered(maps: torch.Tensor, window: Window, size: int, recursion: int = 1000, colours: int = 0):
    """The picture (S, S) of an attractor, covered even if it is small enough to be grown."""
    attractor = Attractor(maps.double(), View(window, size, recursion), whole=False)
    return occupied_pixels(attractor, (0, size, 0, size), colours=colours)


def alone(maps: torch.Tensor, window: Window, size: int, recursion: int = 1000):
    """The same picture as growth draws it, without what a cover would add to it."""
    attractor = Attractor(maps.double(), View(window, size, recursion, quality="draft"))
    return occupied_pixels(attractor, (0, size, 0, size))


def near(maps: torch.Tensor, size: int, side: int) -> tuple[Window, torch.Tensor]:
    """A window of size × size pixels of the picture of side × side pixels about a point, and that
    part of it, grown."""
    attractor = Attractor(maps, View((-2, 2, -2, 2), side))
    attractor.grown = True
    x, y = nearest_point(maps, 0.6, 0.1)
    column, row = round((x + 2) / 4 * side) - size // 2, round((2 - y) / 4 * side) - size // 2
    crop = occupied_pixels(attractor, (0, side, 0, side))[row : row + size, column : column + size]
    left, top = 4 * column / side - 2, 2 - 4 * row / side
    return (left, left + 4 * size / side, top - 4 * size / side, top), crop


@pytest.mark.parametrize("maps", [KOCH, CORNER_GASKET, CARPET, FERN])
@pytest.mark.parametrize("size", [100, 729])
def test_a_cover_draws_what_growth_does(maps, size):
    off = (-1.0031, 0.9969, -1.0042, 0.9958)
    grown = alone(maps, off, size)
    taken = covered(maps, off, size)
    assert int((grown & ~taken).sum()) <= 0.004 * int(grown.sum())
    assert not (taken & ~dilate(grown, 1.5)).any()


@pytest.mark.slow
def test_colours_are_drawn_wherever_there_are_points():
    """Words are split until they have one colour, so that many of them end at the edges of
    pixels."""
    grown = alone(CORNER_GASKET, WINDOW, 192)
    assert not (grown & (covered(CORNER_GASKET, WINDOW, 192, colours=1024) == 0)).any()


@pytest.mark.parametrize("level", [1, 3, 5])
def test_a_cover_has_no_more_levels_than_asked_for(level):
    """At level L the drawn points are the images of the fixed points under words of at most L
    letters."""
    grown = alone(KOCH, (-1.0031, 0.9969, -1.0042, 0.9958), 300, level)
    taken = covered(KOCH, (-1.0031, 0.9969, -1.0042, 0.9958), 300, level)
    assert grown.sum() > 4**level / 2
    assert not (grown & ~taken).any()
    # a grown cell has one point, of which not all images lie in others
    assert int((taken & ~grown).sum()) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "scale", "ratio", "twice"),
    [(8, 0.7, 0.3, 0), (8, 0.8, 0.5, 4), (40, 0.8, 0.6, 0), (16, 0.5, 0.01, 0), (6, 0.9, 0.3, 0)],
)
def test_a_zoom_into_many_images_is_the_crop_of_a_larger_picture(n, scale, ratio, twice):
    maps = overlapping(n, scale, ratio, 1, twice)
    window, crop = near(maps, 96, 1536)
    zoom = hits(maps, window, 96)
    assert crop.sum() > 50
    assert int((crop & ~zoom).sum()) <= 0.02 * int(crop.sum())
    assert not (zoom & ~dilate(crop, 3))[3:-3, 3:-3].any()


@pytest.mark.parametrize("factor", [30, 1000])
@pytest.mark.parametrize("y", [0.21, 0.6])
def test_slivers_fill_a_square(factor, y):
    """Four maps squeeze a square to half its height; more of their images lie in each line than can
    be kept."""
    maps = torch.tensor(
        [affine(0.8, 0, 0, 0.5, u / 5, v / 2) for u in (-1, 1) for v in (-1, 1)]
    ).double()
    half = 1 / factor
    taken = covered(maps, (1 - half, 1 + half, y - half, y + half), 64, 10**6)
    assert taken[:, :32].all()
    assert not taken[:, 33:].any()


@pytest.mark.parametrize("factor", [1, 7, 1e4, 1e9])
def test_the_highest_address_of_a_pixel_gives_its_colour(factor):
    """Four images of a square into its corners overlap and fill it, so that the last one that holds
    a point is on top.

    What the inverse of that map takes the point to has the rest of the address.
    """
    corners = [(u / 4, v / 4) for u in (-1, 1) for v in (-1, 1)]
    maps = torch.tensor([similarity(0.75, at=corner) for corner in corners]).double()
    x, y, half = 0.1237, -0.3119, 1 / factor
    window = (x - half, x + half, y - half, y + half) if factor > 1 else WINDOW
    taken = covered(maps, window, 128, 10**4, colours=64).long() - 1
    steps = (torch.arange(128) + 0.5) / 64 - 1
    middles = steps.double() * half
    spots = torch.stack(torch.meshgrid(middles, -middles, indexing="xy"), dim=-1)
    if factor > 1:
        spots += torch.tensor([x, y]).double()
    expected = torch.zeros(128, 128, dtype=torch.long)
    for _ in range(3):
        last = (spots > -0.5).long() @ torch.tensor([2, 1])
        expected = expected * 4 + last
        spots = (spots - torch.tensor(corners).double()[last]) / 0.75
    # pixels on edges of images
    assert int((taken != expected).sum()) <= (0.08 if factor < 100 else 0.02) * 128**2
    assert int((taken < expected).sum()) <= 0.001 * 128**2


@pytest.mark.parametrize("colours", [0, 300])
def test_threads_that_share_tiles_change_no_bit(colours, monkeypatch):
    maps, pictures = overlapping(8, 0.8, 0.5, 2, 4), []
    for cores in 1, 2, 5:
        monkeypatch.setattr(jit, "CORES", cores)
        pictures.append(covered(maps, WINDOW, 200, colours=colours))
    assert pictures[0].any()
    assert not pictures[0].all()
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_the_best_words_are_kept(monkeypatch):
    """Of words 0 … 5 of one tile, 1 and 4 are the same, and 5 covers the tile."""
    # parts of loops are not called from Python
    monkeypatch.setattr(tiles, "sort_keys", tiles.sort_keys.py_func)
    maps = np.arange(36.0).reshape(6, 2, 3)
    maps[4] = maps[1] + ALIKE / 4
    scores = np.array([1.0, 3.0, 2.0, 5.0, 3.0, 9.0])
    heights = 1.0 - 0.125 * np.arange(6)
    frame = np.array([0.0, 0.0, 1.0, 1.0])

    def chosen(beam, colours, covers):
        rooms = tuple(np.zeros((4, 6), np.int64))
        given = -scores, -heights, maps, 6, beam, colours, covers, frame, rooms
        count, due = tiles.select_words.py_func(*given)
        return rooms[0][:count].tolist(), due

    assert chosen(5, 0, 8) == ([5, 3, 1, 2, 0], 0)
    assert chosen(2, 0, 8) == ([5, 3], 1)
    assert chosen(5, 16, 8) == ([0, 1, 2, 3, 5], 0)
    # word 3 covers the tile: what is lower is left out
    assert chosen(4, 16, 5) == (
        [0, 1, 2, 3],
        6,
    )
    assert chosen(2, 16, 8) == ([0, 5], 14)  # a word of addresses up to 0.875 is left out
    maps[4] = maps[1] + ALIKE
    assert chosen(6, 0, 8) == ([5, 3, 1, 4, 2, 0], 0)


def test_maps_that_are_nearly_the_same_differ_in_a_deep_zoom():
    """Halves of an interval whose second map is there twice, 3e-7 apart: they end on either side of
    a gap."""
    maps = torch.tensor(
        [similarity(0.25, at=at) for at in ((-0.6, 0), (0.6, 0), (0.6 + 3e-7, 0))]
    ).double()
    ends = fixed_points(maps)[1:, 0]
    middle, half = float(ends.mean()), 4 * float(ends[1] - ends[0])
    taken = covered(maps, (middle - half, middle + half, -half, half), 255)
    columns = [int((end - middle + half) / (2 * half) * 255) for end in ends]
    assert all(taken[127, column] for column in columns)


@pytest.mark.slow
def test_slow_maps_are_followed_to_the_end():
    """The 100th image of a fixed point under a map that shrinks the world by a hundredth lies deep
    in a disc."""
    maps = torch.tensor([similarity(0.99, 25), similarity(0.3, at=(0.7, 0))]).double()
    point = fixed_points(maps)[1]
    for _ in range(100):
        point = apply(maps[:1], point[None])[0, 0]
    x, y = point.tolist()
    for half in (1e-2, 1e-4):
        assert covered(maps, (x - half, x + half, y - half, y + half), 63, 10**5)[
            30:33, 30:33
        ].any()
