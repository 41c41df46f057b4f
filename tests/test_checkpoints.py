"""Checkpoints to their limits: what is just allowed, what is not, and archives that somebody has
tampered with."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import dots

from diff_ifs.draw.picture import exposure
from diff_ifs.errors import InputError
from diff_ifs.files.checkpoint import fingerprint, load_checkpoint, load_path
from diff_ifs.setup import WINDOW, similarity

MAPS = torch.tensor([similarity(0.5, at=(0.3, 0.1)), similarity(0.4, 20, (-0.2, -0.6))]).double()
PLAIN = {
    "format": "diff_ifs",
    "version": 1,
    "name": "horse",
    "maps": MAPS,
    "window": WINDOW,
    "stroke": 0.1,
    "size": 256,
    "step": 7,
    "iou": 0.9,
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(**changes: object) -> dict:
    torch.save({**PLAIN, **changes}, "horse.pt")
    return load_checkpoint(Path("horse.pt"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"maps": torch.tensor([similarity(0.99, at=(0, 0))] * 1000)},
        {"maps": torch.tensor([similarity(0.5, at=(1000.0, -1000.0))])},
        {"window": (-1e6, 1e6, -1e6, 1e6)},
        {"window": (0, 2e-12, 0, 2e-12)},
        {"window": [0, 1, 0, 1]},
        {"stroke": 0},
        {"stroke": 1},
        {"stroke": 1.0},
        {"step": 10**9, "size": 8, "iou": -1},
        {"step": 0, "size": 4096, "iou": 1},
        {"name": "Pferd 2"},
    ],
)
def test_checkpoints_at_the_limits_are_read(changes):
    read = load(**changes)
    for key, value in {**PLAIN, **changes}.items():
        assert np.array_equal(read[key], value), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.tensor([similarity(0.5)] * 1001)}, "1 to 1000 maps"),
        ({"maps": MAPS[:0]}, "1 to 1000 maps"),
        ({"maps": MAPS[:, :, :2]}, "1 to 1000 maps"),
        ({"maps": MAPS[0]}, "1 to 1000 maps"),
        ({"maps": MAPS.tolist()}, "1 to 1000 maps"),
        ({"maps": torch.tensor([similarity(0.5), similarity(0.991)])}, "not contractions"),
        ({"maps": torch.tensor([similarity(0.5), [[0, 0.991, 0], [0, 0, 0]]])}, "not contractions"),
        ({"maps": torch.tensor([similarity(0.5, at=(0, float("inf")))])}, "not contractions"),
        (
            {"maps": torch.tensor([similarity(0.5), similarity(0.5, at=(0, 1001.0))])},
            "lead far away",
        ),
        (
            {"maps": torch.tensor([similarity(0.5, at=(-1001.0, 0)), similarity(0.5)])},
            "lead far away",
        ),
        ({"window": (0, 1, 0)}, r"window \(xmin"),
        ({"window": (0, 1, 0, "1")}, r"window \(xmin"),
        ({"window": (0, True, 0, 1)}, r"window \(xmin"),
        ({"window": (0, 1, 0, float("nan"))}, r"window \(xmin"),
        ({"window": (-1.1e6, 1, 0, 1)}, r"window \(xmin"),
        ({"window": (1, 0, 0, 1)}, "empty window"),
        ({"window": (0, 1, 1, 0)}, "empty window"),
        ({"window": (0, 1, 0, 1.001)}, "not square"),
        ({"window": (0, 1.001, 0, 1)}, "not square"),
        ({"stroke": 1.01}, "stroke from 0 to 1"),
        ({"stroke": -0.01}, "stroke from 0 to 1"),
        ({"stroke": True}, "stroke from 0 to 1"),
        ({"stroke": float("nan")}, "stroke from 0 to 1"),
        ({"step": -1}, "step from 0"),
        ({"step": 1.0}, "step from 0"),
        ({"size": 7}, "size from 8 to 4096"),
        ({"size": 4097}, "size from 8 to 4096"),
        ({"iou": 1.01}, "an IoU"),
        ({"iou": None}, "an IoU"),
        ({"name": "../horse"}, "the name of a target"),
        ({"name": 5}, "the name of a target"),
        ({"version": 0}, "another version than 1"),
        ({"version": True}, "another version than 1"),
        ({"format": 1}, "not a checkpoint"),
    ],
)
def test_checkpoints_beyond_the_limits_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load(**changes)


def rewritten(change) -> None:
    """horse.pt again, with each record changed by `change(name, content)`; None drops it."""
    with zipfile.ZipFile("horse.pt") as archive:
        records = [(record.filename, archive.read(record)) for record in archive.infolist()]
    with zipfile.ZipFile("horse.pt", "w") as archive:
        for name, content in records:
            if (content := change(name, content)) is not None:
                archive.writestr(name, content)


@pytest.mark.parametrize(("lost", "passes"), [(0, True), (8, False), (4, False), (96, False)])
def test_a_tensor_may_not_reach_beyond_its_storage_by_a_single_number(lost, passes):
    load()

    def shorter(name: str, content: bytes) -> bytes:
        return content[: len(content) - lost] if name.endswith("data/0") else content

    rewritten(shorter)
    if passes:
        assert np.array_equal(load_checkpoint(Path("horse.pt"))["maps"], MAPS)
        return
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(Path("horse.pt"))


def test_archives_that_are_no_checkpoints_are_refused():
    load()
    rewritten(lambda name, content: None if name.endswith("data/0") else content)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(Path("horse.pt"))
    load()
    rewritten(lambda name, content: None if name.endswith("data.pkl") else content)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(Path("horse.pt"))
    load()
    with zipfile.ZipFile("horse.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("horse/data/9", bytes(10))
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(Path("horse.pt"))


def test_tensors_that_are_views_of_others_are_read_as_they_are():
    whole = torch.arange(60, dtype=torch.float64).view(5, 2, 6) / 200
    for maps in (whole[1:3, :, 1:4], whole[::2, :, ::2], whole[1:4, :, :3].flip(0), MAPS.float()):
        assert np.array_equal(load(maps=maps)["maps"], maps.numpy())
    turned = torch.tensor([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]]).mT
    assert np.array_equal(load(maps=turned)["maps"], turned.numpy())


# --- The way of a fit ---

WAY = {"steps": [0, 10], "maps": torch.stack([MAPS, 0.5 * MAPS]), "strokes": [0.0, 0.25]}


def test_the_way_of_a_fit_is_read_as_it_is():
    steps, maps, strokes = load_path(Path("horse.pt"), load(path=WAY))
    assert steps == [0, 10]
    assert np.array_equal(maps, WAY["maps"])
    assert strokes == [0.0, 0.25]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": []},
        {"steps": [0]},
        {"steps": (0, 10)},
        {"steps": [0, 10.5]},
        {"strokes": [0.0]},
        {"strokes": [0.0, 1.01]},
        {"strokes": [0.0, -0.01]},
        {"strokes": [0.0, None]},
        {"maps": torch.stack([MAPS, 2.1 * MAPS])},
        {"maps": torch.stack([MAPS, 1.99 * MAPS])},  # a singular value of 0.995, beyond any fit's
        {"maps": torch.stack([MAPS, torch.full_like(MAPS, torch.nan)])},
        {"maps": WAY["maps"][:1]},
        {"maps": WAY["maps"][:, :1]},
        {"maps": torch.stack([MAPS, MAPS + torch.tensor([0, 0, 1001.0])])},
        {"maps": None},
        {"steps": [], "maps": WAY["maps"][:0], "strokes": []},
    ],
)
def test_a_way_that_cannot_be_shown_is_refused(changes):
    checkpoint = load(path={**WAY, **changes})
    with pytest.raises(InputError, match="a damaged way"):
        load_path(Path("horse.pt"), checkpoint)


# --- What is written ---


def test_the_fingerprint_of_a_target_is_that_of_its_pixels_bytes():

    target = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert fingerprint(target) == hashlib.sha256(target.tobytes()).hexdigest()
    assert fingerprint(target) != fingerprint(target.T.copy())


def test_an_exposure_is_found_for_a_grey_picture():
    """One speck of all mass: its Gaussian, half a pixel wide, as 1 − exp(−e ρ)."""

    at = (2 * np.arange(32) + 1) / 32 - 1
    x, y = at[20], at[9]
    sigma = 0.5 * 2 / 32
    depth = np.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * sigma**2)) / (
        2 * np.pi * sigma**2
    )
    target = torch.from_numpy(1 - np.exp(-0.004 * depth)).float()
    assert exposure(dots([(x, -y)]), WINDOW, target) == pytest.approx(0.004, rel=0.25)
