"""What holds for every system and every file, tried on random ones."""

import csv
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import hits
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from diff_ifs.draw.coverage import occupancy
from diff_ifs.draw.density import density
from diff_ifs.draw.distance import distance
from diff_ifs.draw.geometry import bounds
from diff_ifs.files.checkpoint import (
    check_target,
    load_checkpoint,
    load_origin,
    resume_of,
    save_checkpoint,
)
from diff_ifs.files.results import (
    BOTH,
    EXTRA,
    MISSING,
    NEITHER,
    save_film,
    save_picture,
    save_trace,
)
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.fit.run import check_resume
from diff_ifs.metrics import chamfer, dice, hd95, iou, mse
from diff_ifs.setup import RANGES, WINDOW, Setup, affine, similarity
from ifs_model import (
    area_weights,
    attractor_points,
    compose,
    contract,
    frame,
    singular_values,
    splat,
    words_by_weight,
)
from train_ifs import fit

SIDE = 48
FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def systems(draw, most: int = 40, bound: float = 0.9) -> torch.Tensor:
    """Contractive systems (n, 2, 3), float64; some maps are singular, identical or at the bound."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(1, most))
    turn, lean = rng.uniform(0, 2 * math.pi, (2, n))
    values = np.sort(rng.uniform(0, bound, (n, 2)), axis=1)[:, ::-1].copy()
    for k, kind in enumerate(
        draw(st.lists(st.sampled_from(("plain", "line", "point", "bound")), max_size=n))
    ):
        values[k] = {
            "plain": values[k],
            "line": (values[k, 0], 0),
            "point": (0, 0),
            "bound": (bound, bound),
        }[kind]
    values[:, 1] *= rng.choice((-1, 1), n)
    left, right = (
        np.stack([np.cos(a), -np.sin(a), np.sin(a), np.cos(a)], 1).reshape(n, 2, 2)
        for a in (turn, lean)
    )
    maps = np.concatenate(
        [left * values[:, None, :] @ right, rng.uniform(-0.7, 0.7, (n, 2, 1))], axis=2
    )
    if draw(st.booleans()):
        maps[: n // 2] = maps[0]
    return torch.from_numpy(maps)


def window_of(maps: torch.Tensor) -> tuple[float, float, float, float]:
    """A square window with the whole attractor in it, and room."""
    left, right, low, high = bounds(maps)
    half = 0.55 * max(right - left, high - low) + 1e-3
    x, y = (left + right) / 2, (low + high) / 2
    return x - half, x + half, y - half, y + half


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether every pixel that is on in `a` is on in `b`, or one of its eight neighbours is."""
    return bool(torch.nn.functional.max_pool2d(b[None].float(), 3, 1, 1)[0][a].all())


@pytest.mark.slow
@settings(FEW, max_examples=15)
@given(systems(bound=0.97), st.sampled_from((1, 7, 48)), st.sampled_from((1, 3, 1000)))
def test_every_contractive_system_is_drawn(maps, size, recursion):
    picture = occupancy(maps, WINDOW, size, recursion)
    assert picture.shape == (size, size)
    assert picture.min() >= 0
    assert picture.max() <= 1
    mass = density(maps, WINDOW, size, min(recursion, 30))
    assert mass.min() >= 0
    assert mass.sum() <= 1 + 1e-9
    away = distance(maps, WINDOW, size, recursion)
    assert away.min() >= 0
    assert not away.isnan().any()
    hit = occupancy(maps, WINDOW, size, recursion, supersample=1) > 0
    assert near(away == 0, hit)
    assert near(hit, away == 0)
    letters = np.random.default_rng(size).integers(0, len(maps), (min(recursion, 60), 300))
    points = torch.linalg.solve(torch.eye(2) - maps[0, :, :2], maps[0, :, 2])[None, :, None].expand(
        300, 2, 1
    )
    for letter in letters:
        points = maps[letter, :, :2] @ points + maps[letter, :, 2:]
    x, y = points[:, 0, 0], points[:, 1, 0]
    seen = (x.abs() < 1) & (y.abs() < 1)
    column, row = ((1 + x[seen]) * size / 2).long(), ((1 - y[seen]) * size / 2).long()
    image = torch.zeros(size, size, dtype=torch.bool)
    image[row, column] = True
    assert near(image, hit), (
        "images of a fixed point under words that long are on the attractor, or its level"
    )


@pytest.mark.slow
@settings(FEW, max_examples=10)
@given(systems(bound=0.9), st.sampled_from((3, 50, 1e4, 1e9)), seeds)
def test_every_contractive_system_is_drawn_in_a_zoom(maps, factor, seed):
    """The fixed point of a word is part of the attractor, so a zoom at it shows it; hairs may be
    lost."""
    solid = (singular_values(maps)[:, 1] > 0.01).nonzero().squeeze(1)
    assume(len(solid))
    a, b, c = maps[np.random.default_rng(seed).choice(solid, 3)]
    word = compose(compose(a, b), c)
    x, y = torch.linalg.solve(torch.eye(2, dtype=maps.dtype) - word[:, :2], word[:, 2]).tolist()
    window = (x - 1 / factor, x + 1 / factor, y - 1 / factor, y + 1 / factor)
    assert bool(hits(maps, window, 21)[9:12, 9:12].any())


@FEW
@given(systems(bound=0.97))
def test_every_contractive_system_has_a_soft_picture_and_gradients(maps):
    maps = maps.float().requires_grad_()
    weights = area_weights(maps)
    words = words_by_weight(weights, 30)
    points, mass = attractor_points(
        maps, weights, (words, words), torch.tensor(frame(WINDOW, SIDE))
    )
    picture = splat(points, mass, SIDE)
    assert picture.isfinite().all()
    assert picture.sum() <= 1 + 1e-4
    (gradient,) = torch.autograd.grad(picture.square().sum(), maps)
    assert gradient.isfinite().all()


@pytest.mark.slow
@settings(FEW, max_examples=12)
@given(systems(bound=0.9))
def test_the_attractor_drawn_is_invariant_under_its_own_maps(maps):
    window = window_of(maps)
    taken = hits(maps, window, SIDE)
    assert taken.any()
    row, column = taken.nonzero().unbind(1)
    (across, _, left), (_, down, top) = frame(window, SIDE)
    centres = torch.stack([(column - left) / across, (row - top) / down], dim=1).double()
    images = (centres @ maps[:, :, :2].mT + maps[:, None, :, 2]).flatten(0, 1)
    x, y = (across * images[:, 0] + left).round().long(), (down * images[:, 1] + top).round().long()
    assert min(x.min(), y.min()) >= 0
    assert max(x.max(), y.max()) < SIDE
    image = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    image[y, x] = True
    assert near(image, taken), "an image of the attractor lies outside it"
    assert near(taken, image), "a part of the attractor is no image of it"


@pytest.mark.slow
@settings(FEW, max_examples=8)
@given(
    systems(most=12, bound=0.9),
    st.integers(0, 3),
    st.booleans(),
    st.floats(0.01, 50),
    st.floats(-3, 3),
    st.floats(-3, 3),
)
def test_moving_a_system_and_its_window_moves_the_picture(maps, quarters, mirror, scale, x, y):
    left, right, low, high = window_of(maps)
    half, middle = (
        (right - left) / 2,
        torch.tensor([(left + right) / 2, (low + high) / 2], dtype=torch.float64),
    )
    turn = torch.linalg.matrix_power(
        torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64), quarters
    )
    if mirror:
        turn = turn @ torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    to = torch.tensor([x, y], dtype=torch.float64)
    there = torch.cat([scale * turn, (to - scale * turn @ middle)[:, None]], dim=1)
    back = torch.cat([turn.T / scale, (middle - turn.T @ to / scale)[:, None]], dim=1)
    moved = compose(compose(there, maps), back)
    window = (x - scale * half, x + scale * half, y - scale * half, y + scale * half)
    # with three sub-pixels a side: of two points in one, growth drops one, and slow maps may lead
    # on only from that
    before, after = (
        occupancy(*seen, SIDE) > 0 for seen in ((maps, (left, right, low, high)), (moved, window))
    )
    if mirror:
        before = before.flip(1)
    before = before.rot90(quarters)
    assert near(before, after)
    assert near(after, before)


@pytest.mark.slow
@settings(FEW, max_examples=8)
@given(systems(most=20), systems(most=20))
def test_a_picture_is_like_itself_and_likeness_is_mutual(ours, theirs):
    a, b = (occupancy(maps, window_of(maps), SIDE, supersample=1) for maps in (ours, theirs))
    assert iou(a, a) == dice(a, a) == 1
    assert hd95(a, a) == chamfer(a, a) == mse(a, a) == 0
    assert iou(a, b) == iou(b, a)
    assert hd95(a, b) == hd95(b, a)
    assert 0 <= iou(a, b) <= dice(a, b) <= 1


@FEW
@given(systems(bound=0.999), st.floats(0.1, 0.97))
def test_contracting_keeps_to_the_bound_and_changes_nothing_within_it(maps, bound):
    once = contract(maps, bound)
    assert torch.linalg.matrix_norm(once[..., :2], 2).max() <= bound + 1e-9
    assert torch.allclose(contract(once, bound), once, atol=1e-12)
    assert torch.equal(once[..., 2], maps[..., 2])


# --- Files: read(write(x)) is x ---


@pytest.fixture(scope="module", autouse=True)
def _in_an_empty_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("files"))
        yield


def random_pixels(seed: int, shape: tuple, most: int, kind: type) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape, endpoint=True).astype(kind)


@FEW
@given(seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from((0, 3, 4)), st.booleans())
def test_pictures_read_back(seed, height, width, channels, deep):
    shape = (height, width, channels) if channels and not deep else (height, width)
    pixels = random_pixels(seed, shape, 65535 if deep else 255, np.uint16 if deep else np.uint8)
    save_picture(Path("a.png"), pixels)
    with Image.open("a.png") as read:
        assert np.array_equal(np.asarray(read), pixels)


@FEW
@given(seeds, st.integers(2, 40))
def test_targets_read_back(seed, side):
    pixels = random_pixels(seed, (side, side), 255, np.uint8)
    pixels[0, 0], pixels[0, 1] = 255, 0
    save_picture(Path("a.png"), pixels)
    target = load_target(Path("a.png"), side, grey=True)
    assert np.array_equal((target * 255).round().numpy(), pixels)
    inverted = load_target(Path("a.png"), side, invert=True, grey=True)
    assert torch.allclose(inverted, 1 - target, atol=1e-6)


@FEW
@given(seeds, st.integers(1, 6), st.integers(2, 30), st.integers(2, 30))
def test_films_read_back(seed, count, height, width):
    colours = np.array([NEITHER, MISSING, EXTRA, BOTH], np.uint8)
    frames = [
        Image.fromarray(colours[random_pixels(seed + k, (height, width), 3, np.uint8)])
        for k in range(count)
    ]
    for k, frame_ in enumerate(frames):
        frame_.putpixel((0, 0), (k, 2 * k, 255 - k))  # no two are the same: those would be joined
    save_film(Path("a.gif"), frames)
    with Image.open("a.gif") as film:
        assert getattr(film, "n_frames", 1) == count
        for k, frame_ in enumerate(frames):
            film.seek(k)
            assert np.array_equal(np.asarray(film.convert("RGB")), np.asarray(frame_))


rows = st.fixed_dictionaries(
    {
        "step": st.integers(0, 10**6),
        "size": st.integers(8, 4096),
        "loss": st.floats(),
        "iou": st.floats(0, 1),
    }
)


@FEW
@given(st.lists(rows, min_size=1, max_size=20))
def test_traces_read_back(trace):
    save_trace(Path("a.csv"), trace)
    read = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    for before, after in zip(trace, read, strict=True):
        assert after.keys() == before.keys()
        for key, value in before.items():
            assert type(value)(after[key]) == value or math.isnan(value)


@pytest.fixture(scope="module")
def state():
    """The last state of a small fit; its numbers are changed before they are written."""
    *_, last = fit(torch.eye(16), Setup(maps=3, size=16, points=200, steps=10, starts=2), every=10)
    return last


@pytest.mark.slow
@FEW
@given(
    maps=systems(most=20, bound=0.97),
    seed=seeds,
    stroke=st.floats(0, 1),
    iou=st.floats(0, 1),
    data=st.data(),
)
def test_checkpoints_read_back(state, maps, seed, stroke, iou, data):
    given_maps = tuple(tuple(tuple(row) for row in map_) for map_ in maps.tolist())
    setup = Setup(
        maps=data.draw(st.sampled_from((len(maps), given_maps))),
        stroke=stroke,
        seed=seed,
        rate=max(iou, 0.001),
    )
    target = torch.from_numpy(random_pixels(seed, (16, 16), 255, np.float32)) / 255
    resume = {**state.resume, "best_iou": iou, "best_stroke": stroke, "best_maps": maps}
    for key in ("trace", "path_steps", "path_maps", "path_stroke"):
        resume[key] = []
    resume.update(stroke=None, stage=0, stage_step=0)
    for key in ("maps", "first", "second"):
        resume[key] = maps[None].clone()
    check_resume(resume, setup)
    written = type(state)(
        **{
            **state.__dict__,
            "best_maps": maps,
            "best_stroke": stroke,
            "best_iou": iou,
            "resume": resume,
        }
    )
    save_checkpoint(Path("a.pt"), "a", setup, written, target)
    read = load_checkpoint(Path("a.pt"))
    assert np.array_equal(read["maps"], maps)
    assert (read["stroke"], read["iou"], read["setup"], read["step"]) == (
        stroke,
        iou,
        asdict(setup),
        state.step,
    )
    kept, found = load_origin(Path("a.pt"), "a", {"seed": seed})
    assert found == setup
    check_target(Path("a.pt"), kept, Path("a.png"), target.numpy())
    again = resume_of(Path("a.pt"), kept, setup)
    assert torch.equal(again["first"], maps[None])
    assert {key: again[key] for key in ("step", "stage", "best_iou")} == {
        key: resume[key] for key in ("step", "stage", "best_iou")
    }
    save_checkpoint(Path("b.pt"), "a", setup, written, target)
    assert Path("b.pt").read_bytes() == Path("a.pt").read_bytes()


numbers = {
    name: st.booleans()
    if isinstance(high, bool)
    else st.integers(low, min(high, 10**6))
    if isinstance(high, int)
    else st.floats(low, high)
    for name, (low, high) in RANGES.items()
    if name != "depth"
}


@FEW
@given(st.fixed_dictionaries({}, optional=numbers))
def test_setups_read_back(fields):
    words = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    Path("a_setup.py").write_text(f"from diff_ifs import Setup\n\nSETUP = Setup({words})\n")
    assert load_setup("a", {})[0] == Setup(**fields)


# --- Systems and pictures at the edge of what there is ---

EDGE_SYSTEMS = {
    "points": [similarity(0.0, at=(x, 0.0)) for x in (-0.5, 0.0, 0.5)],
    "lines": [affine(0.5, 0, 0, 0, x, y) for x, y in ((-0.5, 0.0), (0.5, 0.2))],
    "one map": [similarity(0.5, degrees=30, at=(0.1, 0.1))],
    "identical": [similarity(0.5, at=(0.2, 0.2))] * 3,
    "identical points": [similarity(0.0, at=(0.2, 0.2))] * 3,
    "at the bound": [
        similarity(0.97, degrees=10, at=(0.02, 0.0)),
        similarity(0.97, at=(-0.02, 0.0), mirror=True),
    ],
    "beyond the bound": [
        similarity(0.999, degrees=1, at=(0.01, 0.0)),
        similarity(0.999, at=(-0.01, 0.0)),
    ],
    "hardly there": [similarity(1e-30, at=(0.9, 0.9)), similarity(1e-300, at=(0.1, 0.1))],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EDGE_SYSTEMS)
def test_systems_at_the_edge_are_fitted(kind):
    at = torch.linspace(-1, 1, 16)
    disc = (at**2 + at[:, None] ** 2) < 0.5
    setup = Setup(maps=EDGE_SYSTEMS[kind], size=16, points=300, steps=10, starts=2)
    for state in fit(disc.float(), setup, every=10):
        check_resume(state.resume, setup)
    assert state.step == 10
    check_iou(state, disc)


def check_iou(state, want: torch.Tensor) -> None:
    """What a fit says of its best system is true of that system's picture."""
    parts = 6 if state.best_stroke > 0 else 3
    picture = occupancy(state.best_maps, WINDOW, 16, stroke=state.best_stroke, supersample=parts)
    have = picture >= 0.5
    said = float((have & want).sum() / (have | want).sum())
    assert state.best_iou == pytest.approx(said, abs=0.05)


def edge_pictures() -> dict[str, torch.Tensor]:
    row, column = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    noise = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    pictures = {
        "a single pixel": (row == 8) & (column == 8),
        "one far corner": (row < 2) & (column > 13),
        "a thin line": column == 8,
        "a diagonal": row == column,
        "a checkerboard": (row + column) % 2 == 0,
        "squares": (row // 4 + column // 4) % 2 == 0,
        "noise": noise < 0.5,
        "dust": noise < 0.02,
        "two corners": (row == column) & (row % 15 == 0),
        "all but one pixel": (row != 3) | (column != 3),
        "all white": row >= 0,
    }
    return {
        **{name: picture.float() for name, picture in pictures.items()},
        "grey": noise.clamp(max=0.6),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", edge_pictures())
def test_pictures_at_the_edge_are_fitted(kind):
    setup = Setup(maps=3, size=16, points=300, steps=10, starts=2)
    for state in fit(edge_pictures()[kind], setup, every=10):
        check_resume(state.resume, setup)
    assert state.step == 10
    if kind != "grey":
        check_iou(state, edge_pictures()[kind] >= 0.5)
