import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import draw_targets
import numpy as np
import pytest
import torch
from PIL import Image

import ifs_files
from ifs_files import InputError
from ifs_fit import Setup, fit

ROOT = Path(__file__).parent.parent
TARGETS = ("koch", "sierpinski", "apple", "flower")


def disc(mode: str = "L", size: tuple[int, int] = (64, 64), path: Path = Path("disc.png")) -> Path:
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.where((x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (min(size) / 3) ** 2, 255, 0).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_targets_of_every_mode_are_the_same_picture(mode):
    path = disc(mode, path=Path("disc.tif" if mode == "CMYK" else "disc.png"))
    assert torch.equal(ifs_files.load_target(path, 64), ifs_files.load_target(disc(path=Path("grey.png")), 64))


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.full((64, 64), 5000, dtype=np.uint16)
    grey[20:40, 20:40] = 65535
    Image.fromarray(grey).save("deep.png")
    target = ifs_files.load_target(Path("deep.png"), 64)
    assert float(target[0, 0]) == pytest.approx(5000 / 65535, abs=0.01)
    assert float(target[30, 30]) == 1


def test_transparent_pixels_count_as_black():
    Image.new("RGBA", (32, 32), (255, 255, 255, 0)).save("ghost.png")
    with pytest.raises(InputError, match="all black"):
        ifs_files.load_target(Path("ghost.png"), 32)


def test_a_target_that_is_not_square_is_centred_on_black():
    target = ifs_files.load_target(disc(size=(64, 32)), 64)
    assert not target[:16].any()
    assert not target[48:].any()
    assert target[32, 32] == 1


def test_edges_keep_their_grey():
    target = ifs_files.load_target(disc(size=(300, 300)), 64)
    assert ((target > 0.1) & (target < 0.9)).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as a picture"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense"), "cannot be read as a picture"),
        (lambda path: Image.new("L", (8, 8), 0).save(path), "is all black"),
        (lambda path: Image.new("L", (8, 8), 255).save(path), "is all white"),
    ],
)
def test_bad_pictures_are_refused_in_one_line(make, message):
    path = Path("bad.png")
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        ifs_files.load_target(path, 64)
    assert "\n" not in str(caught.value)


def test_a_truncated_picture_is_refused():
    path = disc(size=(200, 200))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="cannot be read"):
        ifs_files.load_target(path, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from ifs_fit import Setup\nSETUP = Setup(stepps=3)\n", "line 2: .*stepps"),
        ("from ifs_fit import Setup\n\nSETUP = Setup(steps=0)\n", "line 3: Setup.steps must be"),
        ("SETUP = (\n", "line 1"),
        ("x = 1\n", r"must define SETUP"),
        ("SETUP = 1\n", r"must define SETUP"),
    ],
)
def test_a_bad_setup_is_refused_with_its_line(text, message):
    Path("disc_setup.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        ifs_files.load_setup("disc", {})
    assert "\n" not in str(caught.value)


def test_options_override_the_setup_and_defaults_serve_where_there_is_none():
    Path("disc_setup.py").write_text("from ifs_fit import Setup\nSETUP = Setup(steps=30, seed=5)\n")
    setup, path = ifs_files.load_setup("disc", {"seed": 7})
    assert (setup.steps, setup.seed, path.name) == (30, 7, "disc_setup.py")
    assert ifs_files.load_setup("nothing", {}) == (Setup(), None)
    with pytest.raises(InputError, match=r"Setup\.starts"):
        ifs_files.load_setup("disc", {"starts": -1})


DISC = (torch.linspace(-1, 1, 32) ** 2 + torch.linspace(-1, 1, 32)[:, None] ** 2 < 0.4).float()


@pytest.fixture(scope="module")
def state():
    *_, last = fit(DISC, SMALL)
    return last


SMALL = Setup(maps=3, size=32, points=500, steps=20, starts=2)


def test_a_checkpoint_reads_back_and_holds_the_contract(state):
    ifs_files.save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    plain = torch.load("disc.pt", weights_only=True)
    assert (plain["format"], plain["version"], plain["name"], plain["size"]) == ("diff_ifs", 1, "disc", 32)
    assert plain["maps"].shape == (3, 2, 3)
    assert tuple(plain["window"]) == (-1, 1, -1, 1)
    assert plain["iou"] == state.best_iou
    assert plain["step"] == 20
    assert plain["setup"]["starts"] == 2
    assert torch.equal(ifs_files.load_checkpoint(Path("disc.pt"))["maps"], state.best_maps)
    *_, more = fit(DISC, SMALL, resume=ifs_files.load_resume(Path("disc.pt"), "disc", SMALL, DISC))
    assert more.step > 20


def test_a_checkpoint_of_another_target_or_setup_is_not_resumed(state):
    ifs_files.save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    with pytest.raises(InputError, match="a fit of 'disc', not of 'star'"):
        ifs_files.load_resume(Path("disc.pt"), "star", SMALL, DISC)
    with pytest.raises(InputError, match="another maps and seed"):
        ifs_files.load_resume(Path("disc.pt"), "disc", replace(SMALL, maps=4, seed=9), DISC)
    with pytest.raises(InputError, match=r"another disc\.png"):
        ifs_files.load_resume(Path("disc.pt"), "disc", SMALL, 1 - DISC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a checkpoint"),
        ({"version": 2}, "another version than 1"),
        ({"maps": torch.zeros(3, 3)}, "maps of shape"),
        ({"maps": torch.full((3, 2, 3), float("nan"))}, "not contractions"),
        ({"maps": torch.ones(3, 2, 3)}, "not contractions"),
        ({"window": (1, -1, -1, 1)}, "empty window"),
        ({"window": "all"}, "window"),
        ({"stroke": -1.0}, "stroke"),
    ],
)
def test_a_checkpoint_from_a_stranger_is_checked(state, change, message):
    ifs_files.save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    torch.save({**torch.load("disc.pt", weights_only=True), **change}, "disc.pt")
    with pytest.raises(InputError, match=message):
        ifs_files.load_checkpoint(Path("disc.pt"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a checkpoint" * 100])
def test_a_damaged_checkpoint_is_refused(content):
    Path("disc.pt").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        ifs_files.load_checkpoint(Path("disc.pt"))


def test_a_write_that_fails_leaves_what_was_there():
    path = Path("result.txt")
    path.write_text("before")

    def write_half():
        with ifs_files.whole_file(path) as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"cannot write result\.txt \(No space left on device\); make room"):
        write_half()
    assert path.read_text() == "before"
    assert [entry.name for entry in Path().iterdir()] == ["result.txt"]


def test_difference_frames_tell_what_is_missing_and_what_is_too_much():
    have, want = torch.zeros(256, 256), torch.zeros(256, 256)
    have[:, 64:192], want[:, 128:256] = 1, 1
    frame = np.asarray(ifs_files.difference_frame(have, want, "step 0"))
    colours = [tuple(frame[100, 2 * x + 1].tolist()) for x in (10, 100, 150, 250)]
    assert colours == [ifs_files.NEITHER, ifs_files.EXTRA, ifs_files.BOTH, ifs_files.MISSING]
    assert frame[512:].max() > 200, "the caption"


def test_a_film_pauses_at_its_end():
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in range(0, 250, 10)]
    ifs_files.save_film(Path("film.gif"), frames)
    with Image.open("film.gif") as film:
        assert film.n_frames == 25
        durations = []
        for k in range(25):
            film.seek(k)
            durations.append(film.info["duration"])
        assert film.info["loop"] == 0
    assert durations[-1] >= 2000
    assert sum(durations[:-1]) < 6000


def test_the_pins_of_conda_and_pip_are_equal():
    conda = re.findall(r"^ *- (\S+==\S+)$", (ROOT / "diff_ifs.yaml").read_text(), re.MULTILINE)
    assert conda == (ROOT / "requirements.txt").read_text().split()
    assert len(conda) >= 5


def test_the_committed_targets_are_what_the_script_draws(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["draw_targets.py", str(tmp_path)])
    draw_targets.main()
    for name in TARGETS:
        with Image.open(tmp_path / f"{name}.png") as drawn, Image.open(ROOT / f"{name}.png") as committed:
            assert committed.size == (256, 256)
            assert committed.mode == "1"
            assert drawn.tobytes() == committed.tobytes()


@pytest.mark.parametrize("name", TARGETS)
def test_setups_are_short_and_start_visibly_wrong(name):
    lines = (ROOT / f"{name}_setup.py").read_text().splitlines()
    assert 10 <= len(lines) <= 30
    setup, path = ifs_files.load_setup(name, {})
    assert path == ROOT / f"{name}_setup.py"
    first = next(fit(ifs_files.load_target(ROOT / f"{name}.png", setup.size), setup))
    assert first.iou < 0.5


def test_readme_quotes_the_committed_output_and_the_real_setup():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for output in ("four_targets.txt", "quality_8.txt"):
        assert (ROOT / "benchmarks" / output).read_text(encoding="utf-8") in readme
    assert (ROOT / "koch_setup.py").read_text(encoding="utf-8").split('"""\n\n', 1)[1] in readme
