"""Systems without any symmetry, drawn at a level of few words, beside all of its words."""

import itertools

import matplotlib
import numpy as np
import pytest
import torch
from drawings import drawn, middles, numbers, save
from PIL import Image
from scipy.spatial import cKDTree

from diff_ifs.draw.figures import hull
from diff_ifs.setup import WINDOW, affine

LEVEL, SIZE = 5, 40
WINDOWS = [WINDOW, (-0.3, 0.7, -0.8, 0.2), (-4.0, 2.0, -1.0, 5.0)]
SYSTEMS = {
    "three": [affine(0.5, 0.2, -0.15, 0.4, -0.3, 0.4), affine(-0.35, 0.3, 0.2, 0.45, 0.4, -0.2),
              affine(0.3, -0.1, 0.25, 0.35, 0.1, 0.5)],
    "two": [affine(0.6, 0.35, -0.3, 0.55, 0.15, 0.2), affine(0.4, 0.1, 0.3, -0.5, -0.35, -0.4)],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_systems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, maps in SYSTEMS.items():
        save(name, torch.tensor(maps, dtype=torch.float64), stroke=0.07, window=WINDOWS[2])


def words(maps: list, start: np.ndarray, level: int = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The images (W, V, 2) of points (V, 2) under all words of so many letters, and the letters
    (W, level) of each; the first one is applied last."""
    images, letters = [], list(itertools.product(range(len(maps)), repeat=level))
    for word in letters:
        points = start
        for k in reversed(word):
            points = points @ np.array(maps[k])[:, :2].T + np.array(maps[k])[:, 2]
        images.append(points)
    return np.array(images), np.array(letters).reshape(len(letters), level)


def fixed(maps: list) -> np.ndarray:
    return np.array([np.linalg.solve(np.eye(2) - m[:, :2], m[:, 2]) for m in map(np.array, maps)])


def shares(maps: list) -> np.ndarray:
    """Of the measure: as the areas."""
    areas = np.array([abs(np.linalg.det(np.array(m)[:, :2])) for m in maps])
    return areas / areas.sum()


def pixels_of(points: np.ndarray, window: tuple, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (P,) of points (P, 2), and nothing of what lies outside."""
    side = window[1] - window[0]
    column = np.floor((points[:, 0] - window[0]) / side * size).astype(int)
    row = np.floor((window[3] - points[:, 1]) / side * size).astype(int)
    return row, column


def counted(points, window, size, mass=None) -> np.ndarray:
    row, column = pixels_of(points, window, size)
    seen = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    mass = np.ones(len(points)) if mass is None else mass
    picture = np.zeros((size, size))
    np.add.at(picture, (row[seen], column[seen]), mass[seen])
    return picture


CASES = list(itertools.product(SYSTEMS, WINDOWS))


@pytest.mark.parametrize(("name", "window"), CASES)
def test_a_level_is_the_images_of_the_fixed_points(name, window):
    points = words(SYSTEMS[name], fixed(SYSTEMS[name]))[0].reshape(-1, 2)
    options = [name, LEVEL, SIZE, "--window", *window, "--supersample", 1]
    hit = counted(points, window, SIZE) > 0
    assert np.array_equal(drawn(*options, "--stroke", 0) > 0, hit)
    fine = counted(points, window, 3 * SIZE) > 0
    shown = drawn(*options[:-1], 3, "--stroke", 0) / 255
    assert np.abs(shown - fine.reshape(SIZE, 3, SIZE, 3).mean((1, 3))).max() < 0.003
    # the pen of the checkpoint, from the middles of pixels that are hit
    away = (
        cKDTree(np.argwhere(counted(points, window, SIZE) > 0))
        .query(np.argwhere(np.ones((SIZE, SIZE))))[0]
        .reshape(SIZE, SIZE)
    )
    radius = 0.07 * SIZE / (window[1] - window[0])
    found = drawn(*options) > 0
    assert found[away <= radius - 1e-6].all()
    assert not found[away > radius + 1.5].any()


@pytest.mark.parametrize(("name", "window"), CASES)
def test_a_density_is_the_masses_of_all_words(name, window):
    maps, share = SYSTEMS[name], shares(SYSTEMS[name])
    linear = sum(p * np.array(m)[:, :2] for p, m in zip(share, maps, strict=True))
    shift = sum(p * np.array(m)[:, 2] for p, m in zip(share, maps, strict=True))
    centre = np.linalg.solve(np.eye(2) - linear, shift)
    images, letters = words(maps, centre[None])
    mass = counted(images[:, 0], window, SIZE, share[letters].prod(1))
    found = numbers(name, LEVEL, SIZE, "--window", *window, "--kind", "density")
    # what is near in a wide window is merged, and may be in the pixel beside its own
    assert np.abs(found - mass).sum() < (0.15 if window == WINDOWS[2] else 1e-3)
    assert found.sum() == pytest.approx(mass.sum())
    assert found.argmax() == mass.argmax()


@pytest.mark.parametrize(("name", "window"), CASES)
def test_distances_are_those_from_all_words(name, window):
    points = words(SYSTEMS[name], fixed(SYSTEMS[name]))[0].reshape(-1, 2)
    x, y = middles(SIZE, window)
    places = np.stack(np.broadcast_arrays(x, y), -1).reshape(-1, 2)
    true = cKDTree(points).query(places)[0].reshape(SIZE, SIZE)
    options = ["--window", *window, "--kind", "distance"]
    for stroke in (0.0, 0.07):
        found = numbers(name, LEVEL, SIZE, *options, *([] if stroke else ["--stroke", 0]))
        wanted = np.maximum(true - stroke, 0)
        assert np.abs(found - wanted).max() < 0.75 * (window[1] - window[0]) / SIZE


@pytest.mark.parametrize("color", ["map", "address"])
@pytest.mark.parametrize("cmap", [None, "plasma"])
@pytest.mark.parametrize(("name", "window"), CASES[:4])
def test_each_pixel_has_the_colour_of_a_word_in_it(name, window, color, cmap):
    maps = SYSTEMS[name]
    images, letters = words(maps, fixed(maps))
    n, v = len(maps), images.shape[1]
    at = (letters / n ** np.arange(1, LEVEL + 1)).sum(1) + 0.5 / n**LEVEL
    if color == "map":
        few = matplotlib.colormaps[cmap or "tab10"]
        table = few(np.arange(n)) if cmap is None else few(np.linspace(0, 1, n))
        colours = table[letters[:, 0], :3]
    else:
        colours = matplotlib.colormaps[cmap or "viridis"](at)[:, :3]
    row, column = pixels_of(images.reshape(-1, 2), window, SIZE)
    options = ["--window", *window, "--stroke", 0, "--supersample", 1, "--color", color]
    found = numbers(name, LEVEL, SIZE, *options, *(["--cmap", cmap] if cmap else []))
    for r, c in np.argwhere(found[..., 3] > 0):
        here = colours.repeat(v, 0)[(row == r) & (column == c)]
        nearest = np.abs(here - found[r, c, :3] / found[r, c, 3]).max(1).min()
        assert nearest < (0.01 if color == "map" else 0.06)


def test_the_hull_is_that_of_all_words():
    points = words(SYSTEMS["three"], fixed(SYSTEMS["three"]), 8)[0].reshape(-1, 2)
    corners = hull(torch.tensor(SYSTEMS["three"], dtype=torch.float64)).numpy()
    for angle in np.arange(0, 2 * np.pi, 0.05):
        way = [np.cos(angle), np.sin(angle)]
        assert (corners @ way).max() == pytest.approx((points @ way).max(), abs=0.02)


def test_the_hull_of_what_is_filled_has_its_corners():
    """Four quarters make up a square that leans: of a million points four are its corners."""
    turn = np.array([[0.6, -0.3], [0.3, 0.6]])
    quarters = [
        np.column_stack([np.eye(2) / 2, turn @ (x, y) + (0.05, -0.02)])
        for x in (-0.5, 0.5)
        for y in (-0.5, 0.5)
    ]
    found = hull(torch.tensor(np.array(quarters)))
    wanted = [turn @ (x, y) + (0.1, -0.04) for x in (-1, 1) for y in (-1, 1)]
    assert len(found) <= 8
    for corner in wanted:
        assert np.abs(found.numpy() - corner).max(1).min() < 0.004


@pytest.mark.parametrize("gamma", [1.0, 2.5])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("cmap", [None, "plasma"])
@pytest.mark.parametrize("kind", ["occupancy", "density"])
def test_how_values_are_shown(kind, cmap, transparent, bits, gamma):
    values = numbers("three", LEVEL, SIZE, "--kind", kind)
    if kind == "density":
        mean = values[values > 0].mean()
        values = np.log1p(values / mean) / np.log1p(values.max() / mean)
    values = values ** (1 / gamma)
    most, options = 2**bits - 1, ["--bits", bits, "--gamma", gamma, "--kind", kind]
    options += ["--cmap", cmap] * bool(cmap) + ["--transparent"] * transparent
    if bits == 16 and (cmap or transparent):
        most = 255  # as which Pillow reads these, and grey with alpha as RGBA
    found = drawn("three", LEVEL, SIZE, *options).astype(float) / most
    layers = found if found.ndim == 3 else found[..., None]
    if bits == 16 and transparent and not cmap:
        layers = layers[..., 2:]
    assert layers.shape[2] == (3 if cmap else 1) + transparent
    if cmap:
        wanted = matplotlib.colormaps[cmap](np.linspace(0, 1, 1024))[:, :3]
        wanted = wanted[np.round(values * 1023).astype(int)]
        assert np.abs(layers[..., :3] - wanted).max() < 0.006
    else:
        wanted = np.ones_like(values) if transparent else values
        assert np.abs(layers[..., 0] - wanted).max() < 0.006
    if transparent:
        assert np.abs(layers[..., -1] - values).max() < 0.006
    with Image.open("drawn.png") as picture:
        assert picture.size == (SIZE, SIZE)
