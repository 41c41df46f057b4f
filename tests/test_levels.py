"""Shallow levels, which are few separate points: drawn as counted one by one, and at no more cost
than deep ones.
"""

import numpy as np
import pytest
import torch
from drawings import hits
from systems import CORNER_GASKET, KOCH

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.coverage import coverage_strips
from diff_ifs.draw.geometry import View
from diff_ifs.draw.levels import LAYERS
from diff_ifs.draw.pixels import occupied_pixels
from diff_ifs.draw.tiles import TileRenderer
from diff_ifs.setup import WINDOW, similarity

OFF = (-1.0031, 0.9969, -1.0042, 0.9958)  # no point lies on an edge between pixels


def overlapping(n: int, seed: int = 0) -> torch.Tensor:
    """Maps (n, 2, 3) of different scales whose images overlap, as those of a fitted silhouette
    do.
    """
    chance = np.random.default_rng(seed)
    scales, turns, x, y = chance.uniform(
        [[0.15], [0], [-0.35], [-0.35]], [[0.6], [360], [0.35], [0.35]], (4, n)
    ).tolist()
    maps = [
        similarity(*shape, at)
        for *shape, at in zip(scales, turns, zip(x, y, strict=True), strict=True)
    ]
    return torch.tensor(maps).double()


def pixels_of(
    maps: torch.Tensor, level: int, size: int, window=WINDOW
) -> tuple[np.ndarray, np.ndarray]:
    """Flat pixels and first letters of all images of fixed points under words of up to `level`
    letters.
    """
    maps = maps.double().numpy()
    points = np.stack([np.linalg.solve(np.eye(2) - m[:, :2], m[:, 2]) for m in maps])
    letters = np.arange(len(maps))
    for _ in range(level):
        letters = np.repeat(np.arange(len(maps)), len(points))
        points = np.concatenate([points @ m[:, :2].T + m[:, 2] for m in maps])
    column = np.floor((points[:, 0] - window[0]) / (window[1] - window[0]) * size)
    row = np.floor((window[3] - points[:, 1]) / (window[3] - window[2]) * size)
    inside = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < size)
    return (row * size + column)[inside].astype(int), letters[inside]


@pytest.mark.parametrize("level", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(
    "maps", [CORNER_GASKET, KOCH, overlapping(7)], ids=["gasket", "koch", "seven"]
)
@pytest.mark.parametrize("window", [OFF, (0.1017, 0.3017, -0.0523, 0.1477)], ids=["whole", "part"])
def test_every_point_of_a_shallow_level_is_drawn_and_nothing_else(maps, level, window):
    true = np.zeros(256 * 256, dtype=bool)
    true[pixels_of(maps, level, 256, window)[0]] = True
    assert np.array_equal(hits(maps, window, 256, level).numpy().ravel(), true)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_the_last_map_of_a_pixel_gives_its_colour_at_shallow_levels_too(level):
    maps = overlapping(5)
    flat, letters = pixels_of(maps, level, 48, OFF)
    true = np.zeros(48 * 48, dtype=int)
    np.maximum.at(true, flat, letters + 1)
    (picture,) = coverage_strips(maps, View(OFF, 48, level), torch.eye(5)[:, :3])
    shades = np.r_[np.zeros((1, 3)), np.eye(5)[:, :3]][true]
    assert np.array_equal(picture[:3].permute(1, 2, 0).reshape(-1, 3).numpy(), shades)


@pytest.mark.slow
def test_a_shallow_level_costs_no_more_than_a_deep_one(monkeypatch):
    """Of twelve maps that overlap; gaps between few points were once looked into with eleven times
    as many words.
    """
    maps, size, looked_at, draw = overlapping(12, 1), 192, [], TileRenderer.draw

    def counted(self, *arguments, **options):
        draw(self, *arguments, **options)
        looked_at.append(self.looked_at)

    monkeypatch.setattr(TileRenderer, "draw", counted)
    work = {}
    for level in (30, *range(9)):
        looked_at.clear()
        marked: list[int] = []
        occupied_pixels(Attractor(maps, View(OFF, size, level)), (0, size, 0, size), marked.append)
        work[level] = sum(looked_at)
        assert sum(marked) <= LAYERS * size**2
    assert work[30] > size**2 / 4
    assert all(words <= 1.5 * work[30] for words in work.values()), work
