import copy
import errno
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import draw_targets
import join_digits
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from diff_ifs.errors import InputError
from diff_ifs.files import names
from diff_ifs.files.checkpoint import (
    _unpacked,
    check_target,
    load_checkpoint,
    load_origin,
    resume_of,
    save_checkpoint,
)
from diff_ifs.files.command import check_place, memory_errors_as_input_errors, pick_device
from diff_ifs.files.disk import atomic_write, lock_results
from diff_ifs.files.names import check_name, find_pictures
from diff_ifs.files.results import (
    BOTH,
    EXTRA,
    MISSING,
    NEITHER,
    difference_frame,
    save_film,
    save_picture,
)
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.fit.run import check_resume
from diff_ifs.setup import RANGES, Setup
from train_ifs import fit

ROOT = Path(__file__).parent.parent
TARGETS = ("koch", "sierpinski", "apple", "flower")


def disc(mode: str = "L", size: tuple[int, int] = (64, 64), path: Path = Path("disc.png")) -> Path:
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.where(
        (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (min(size) / 3) ** 2, 255, 0
    ).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.full((64, 64), 5000, dtype=np.uint16)
    grey[20:40, 20:40] = 65535
    Image.fromarray(grey).save("deep.png")
    target = load_target(Path("deep.png"), 64)
    assert float(target[0, 0]) == 0
    assert float(target[30, 30]) == 1
    assert float(load_target(Path("deep.png"), 64, grey=True)[0, 0]) == pytest.approx(
        5000 / 65535, abs=0.01
    )


def test_what_is_transparent_all_over_is_refused():
    Image.new("RGBA", (32, 32), (255, 255, 255, 0)).save("ghost.png")
    with pytest.raises(InputError, match="is transparent all over"):
        load_target(Path("ghost.png"), 32)


def test_a_target_that_is_not_square_is_centred_on_black():
    target = load_target(disc(size=(64, 32)), 64)
    assert not target[:16].any()
    assert not target[48:].any()
    assert target[32, 32] == 1


def test_edges_keep_their_grey():
    target = load_target(disc(size=(300, 300)), 64)
    assert ((target > 0.1) & (target < 0.9)).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as a picture"),
        (
            lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense"),
            "cannot be read as a picture",
        ),
        (lambda path: Image.new("L", (8, 8), 0).save(path), "has one colour alone"),
        (lambda path: Image.new("L", (8, 8), 255).save(path), "has one colour alone"),
    ],
)
def test_bad_pictures_are_refused_in_one_line(make, message):
    path = Path("bad.png")
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        load_target(path, 64)
    assert "\n" not in str(caught.value)


def test_a_truncated_picture_is_refused():
    path = disc(size=(200, 200))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="cannot be read"):
        load_target(path, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from diff_ifs import Setup\nSETUP = Setup(stepps=3)\n", "line 2: .*stepps"),
        ("from diff_ifs import Setup\n\nSETUP = Setup(steps=0)\n", "line 3: Setup.steps must be"),
        ("SETUP = (\n", "line 1"),
        ("x = 1\n", r"must define SETUP"),
        ("SETUP = 1\n", r"must define SETUP"),
    ],
)
def test_a_bad_setup_is_refused_with_its_line(text, message):
    Path("disc_setup.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_setup("disc", {})
    assert "\n" not in str(caught.value)


def test_options_override_the_setup_and_defaults_serve_where_there_is_none():
    Path("disc_setup.py").write_text(
        "from diff_ifs import Setup\nSETUP = Setup(steps=30, seed=5)\n"
    )
    setup, path = load_setup("disc", {"seed": 7})
    assert (setup.steps, setup.seed, path.name) == (30, 7, "disc_setup.py")
    assert load_setup("nothing", {}) == (Setup(), None)
    with pytest.raises(InputError, match=r"Setup\.starts"):
        load_setup("disc", {"starts": -1})


DISC = (torch.linspace(-1, 1, 32) ** 2 + torch.linspace(-1, 1, 32)[:, None] ** 2 < 0.4).float()


@pytest.fixture(scope="module")
def state():
    *_, last = fit(DISC, SMALL)
    return last


SMALL = Setup(maps=3, size=32, points=500, steps=20, starts=2)


def load_resume(name, setup):
    path = Path(f"{name}.pt")
    checkpoint, setup = load_origin(path, name, {})
    check_target(path, checkpoint, Path(f"{name}.png"), DISC.numpy())
    return resume_of(path, checkpoint, setup)


def test_a_checkpoint_reads_back_and_holds_the_contract(state):
    save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    plain = torch.load("disc.pt", weights_only=True)
    assert (plain["format"], plain["version"], plain["name"], plain["size"]) == (
        "diff_ifs",
        1,
        "disc",
        32,
    )
    assert plain["maps"].shape == (3, 2, 3)
    assert tuple(plain["window"]) == (-1, 1, -1, 1)
    assert plain["iou"] == state.best_iou
    assert plain["step"] == 20
    assert plain["setup"]["starts"] == 2
    assert np.array_equal(load_checkpoint(Path("disc.pt"))["maps"], state.best_maps)
    for value in (
        plain["resume"]["maps"],
        plain["resume"]["best_maps"],
        *plain["resume"]["path_maps"],
    ):
        assert value.untyped_storage().nbytes() == value.nbytes, (
            "no more is written than what counts"
        )
    *_, more = fit(DISC, SMALL, resume=load_resume("disc", SMALL))
    assert more.step > 20


def test_a_checkpoint_of_another_target_or_setup_is_not_resumed(state):
    save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    with pytest.raises(InputError, match="a fit of 'disc', not of 'star'"):
        load_origin(Path("disc.pt"), "star", {})
    with pytest.raises(InputError, match="another --maps and --seed: leave that out"):
        load_origin(Path("disc.pt"), "disc", {"maps": 4, "seed": 9, "size": SMALL.size})
    with pytest.raises(InputError, match=r"another disc\.png"):
        check_target(
            Path("disc.pt"), load_checkpoint(Path("disc.pt")), Path("disc.png"), 1 - DISC.numpy()
        )


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
    save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    torch.save({**torch.load("disc.pt", weights_only=True), **change}, "disc.pt")
    with pytest.raises(InputError, match=message):
        load_checkpoint(Path("disc.pt"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a checkpoint" * 100])
def test_a_damaged_checkpoint_is_refused(content):
    Path("disc.pt").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(Path("disc.pt"))


def test_a_write_that_fails_leaves_what_was_there():
    path = Path("result.txt")
    path.write_text("before")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        InputError, match=r"cannot write result\.txt \(No space left on device\); make room"
    ):
        write_half()
    assert path.read_text() == "before"
    assert [entry.name for entry in Path().iterdir()] == ["result.txt"]


def test_difference_frames_tell_what_is_missing_and_what_is_too_much():
    have, want = torch.zeros(256, 256), torch.zeros(256, 256)
    have[:, 64:192], want[:, 128:256] = 1, 1
    frame = np.asarray(difference_frame(have, want, "step 0").convert("RGB"))
    colours = [tuple(frame[100, 2 * x + 1].tolist()) for x in (10, 100, 150, 250)]
    assert colours == [NEITHER, EXTRA, BOTH, MISSING]
    assert frame[512:].max() > 200, "the caption"


def test_a_film_pauses_at_its_end():
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in range(0, 250, 10)]
    save_film(Path("film.gif"), frames)
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
        with (
            Image.open(tmp_path / f"{name}.png") as drawn,
            Image.open(ROOT / f"{name}.png") as committed,
        ):
            assert committed.size == (256, 256)
            assert committed.mode == "1"
            assert drawn.tobytes() == committed.tobytes()


def test_digits_are_joined_with_the_next_one_turned_to_the_left(tmp_path):
    there, out = tmp_path / "digits", tmp_path / "joined"
    there.mkdir()
    for name, rows in {"a": [[9, 0], [0, 5]], "b": [[1, 2], [3, 4]]}.items():
        Image.fromarray(np.array(rows, dtype=np.uint8)).save(there / f"{name}.png")
    join_digits.main([str(there), str(out)])
    assert np.asarray(Image.open(out / "a.png")).tolist() == [[9, 4], [1, 5]]
    assert np.asarray(Image.open(out / "b.png")).tolist() == [[1, 5], [9, 4]]


@pytest.mark.parametrize("name", TARGETS)
def test_setups_are_short_and_start_visibly_wrong(name):
    lines = (ROOT / f"{name}_setup.py").read_text().splitlines()
    assert 10 <= len(lines) <= 30
    setup, path = load_setup(name, {})
    assert path == ROOT / f"{name}_setup.py"
    first = next(fit(load_target(ROOT / f"{name}.png", setup.size), setup))
    assert first.iou < 0.5


# --- Pictures ---


def saved(picture: Image.Image, kind: str = "PNG", **options) -> Path:
    path = Path("saved.png")
    picture.save(path, kind, **options)
    return path


MODES = "PNG 1, PNG L, PNG LA, PNG P, PNG RGB, PNG RGBA, PNG I;16, TIFF PA, TIFF CMYK, TIFF YCbCr"
MODES += ", TIFF I, TIFF I;16B"


@pytest.mark.parametrize(
    "kind_and_mode",
    f"{MODES}, TIFF F, GIF P, BMP RGB, PPM L, JPEG CMYK, JPEG L, WEBP RGBA".split(", "),
)
def test_every_mode_and_format_is_the_same_picture(kind_and_mode):
    kind, mode = kind_and_mode.split()
    with Image.open(disc()) as grey:
        path = saved(grey.convert("RGB" if mode in ("PA", "YCbCr") else "L").convert(mode), kind)
    read, plain = load_target(path, 64), load_target(disc(), 64)
    assert (read - plain).abs().max() < (0.15 if kind in ("JPEG", "WEBP") else 1e-6)


def with_metadata(what: str) -> dict:
    if what == "turned":
        exif = Image.Exif()
        exif[0x112] = 6  # to be shown turned clockwise by a quarter
        return {"exif": exif}
    if what == "profile":
        return {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    return {"save_all": True, "append_images": [Image.new("L", (64, 64), 255)]}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("PNG", "turned"),
        ("JPEG", "turned"),
        ("PNG", "profile"),
        ("PNG", "moving"),
        ("GIF", "moving"),
    ],
)
def test_metadata_and_further_frames_do_not_mislead(kind, what):
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    picture = Image.fromarray(half)
    turned = picture.transpose(Image.Transpose.ROTATE_90) if what == "turned" else picture
    read = load_target(saved(turned, kind, **with_metadata(what)), 64)
    assert read[:31].min() > 0.9
    assert read[33:].max() < 0.1


def test_deep_pictures_are_scaled_by_what_they_can_hold():
    shape = np.zeros((32, 32))
    shape[8:24, 8:24] = 1
    for grey in (shape * 65535, shape * 255, shape.astype(np.float32), shape * (2.0**31 - 1)):
        array = grey.astype(np.float32 if grey.dtype == np.float32 else np.int32)
        assert torch.equal(
            load_target(saved(Image.fromarray(array), "TIFF"), 32), torch.tensor(shape).float()
        )
    broken = shape.astype(np.float32)
    broken[0, 0], broken[0, 1] = np.nan, -np.inf
    assert torch.equal(
        load_target(saved(Image.fromarray(broken), "TIFF"), 32), torch.tensor(shape).float()
    )


def test_dark_figures_are_read_inverted_and_opaque_ones_as_they_are():
    with Image.open(disc()) as opened:
        white = opened.convert("L")
    plain = load_target(disc(), 64)
    dark = saved(ImageOps.invert(white))
    assert torch.equal(load_target(dark, 64, invert=True), plain)
    icon = Image.merge("LA", [Image.new("L", white.size, 0), white])
    assert torch.equal(load_target(saved(icon), 64), plain)


@pytest.mark.slow
def test_large_pictures_are_read_beyond_pillows_own_limit():
    side = 14_000
    assert side**2 > 2 * Image.MAX_IMAGE_PIXELS
    large = Image.new("1", (side, side - 1000))
    large.paste(1, (0, 500, side // 2, side - 1500))
    target = load_target(saved(large), 28)
    assert torch.equal(target[3:25, :14], torch.ones(22, 14)), "strips are joined where they belong"
    assert target.sum() == pytest.approx(24 * 14, abs=1)
    assert side**2 > 2 * Image.MAX_IMAGE_PIXELS, "Pillow's limit is put back"


def test_larger_pictures_and_pictures_that_run_programs_are_refused():
    with pytest.raises(InputError, match="20001 × 1 pixels; make it smaller: at most 20000 a side"):
        load_target(saved(Image.new("1", (20_001, 1))), 32)
    # for Ghostscript
    Path("saved.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(InputError, match="its format is not one of PNG, JPEG"):
        load_target(Path("saved.png"), 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "refusal"),
    [((1, 1), "has one colour alone"), ((1, 9), None), ((20_000, 1), "nothing is left")],
)
def test_slivers_are_a_picture_or_one_clear_line(size, refusal):
    picture = Image.new("L", size, 0)
    picture.paste(255, (0, 0, 1 + size[0] // 2, 1))
    if refusal is None:
        assert load_target(saved(picture), 63)[:7, 28:35].min() == 1
        return
    with pytest.raises(InputError, match=refusal):
        load_target(saved(picture), 63)


# --- Names, devices, setups ---


def test_a_picture_in_this_folder_comes_before_an_example_of_its_name():
    assert find_pictures("koch")[0].is_absolute(), "the example"
    Image.new("1", (8, 8), 1).save("koch.png")
    assert find_pictures("koch") == [Path("koch.png")]


@pytest.mark.parametrize(("name", "said"), [("horse", "horse"), ("my horse", "'my horse'")])
def test_the_command_that_makes_a_checkpoint_can_be_pasted_into_a_shell(name, said):
    Image.new("1", (8, 8), 1).save(f"{name}.png")
    with pytest.raises(InputError, match=f"make it with: python train_ifs.py {said}$"):
        names.find_checkpoint(name)


@pytest.mark.parametrize(
    "name", ["koch", "my horse", "Äpfel-2", "сова", "सेब", "a\u0308pfel", "_", "2"]
)
def test_plain_names_pass(name):
    check_name(name)


HOSTILE = [
    "",
    ".",
    "../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "-x",
    "--help",
    " x",
    "x ",
    "x\n",
    "x\0",
    "a.b",
    "*",
    "$HOME",
    "\udc80",
]


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 200])
def test_names_that_are_not_plain_are_refused(name):
    with pytest.raises(InputError) as caught:
        check_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["turtle", "wave", "calendar", "token", "code", "copy", "glob", "torch", "diff_ifs"]
)
def test_names_of_modules_are_names_like_others_and_hide_no_module(name):
    disc(path=Path(f"{name}.png"))
    Path(f"{name}_setup.py").write_text(
        "import copy, glob\nfrom diff_ifs import Setup\nSETUP = Setup(seed=7)\n"
    )
    before = sys.modules.get(name)
    assert find_pictures(name) == [Path(f"{name}.png")]
    assert load_setup(name, {})[0].seed == 7
    assert sys.modules.get(name) is before


def test_of_many_pictures_the_nearest_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(names, "HERE", tmp_path)
    for k in range(40):
        Path(f"leaf{k}.png").touch()
    Path("with\nnewline.png").touch()
    with pytest.raises(InputError, match=r"there is no leaf77.png here; did you mean leaf7.*\?$"):
        find_pictures("leaf77")
    with pytest.raises(InputError, match="none of the 40 pictures that exist has a name like it"):
        find_pictures("horse")


def test_whatever_a_file_is_called_the_message_is_one_printable_line():
    said = str(InputError("there is no a\nb\x1b[31m\udc80.json here"))
    assert said == "there is no a b?[31m?.json here"


@pytest.mark.parametrize(
    "device", ["tpu", "cuda:x", "cuda:-1", "mps:1", "", "cpu:0", "meta", "cuda:99"]
)
def test_devices_that_are_not_there_are_refused(device):
    with pytest.raises(InputError, match="there is no device"):
        pick_device(device)


def test_every_field_of_a_setup_has_a_range():
    assert [field.name for field in fields(Setup)] == list(RANGES)
    Setup(**{name: low for name, (low, _) in RANGES.items()})
    for name, (low, high) in RANGES.items():
        if isinstance(high, bool):
            continue
        for value in (
            low - 1,
            2 * high + 1,
            True,
            *(["x", float("nan")] if name != "maps" else []),
        ):
            with pytest.raises(
                ValueError, match=rf"Setup\.{name} must be a (whole )?number from .* to "
            ):
                Setup(**{name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from diff_ifs import Setup\nSETUP = Setup(\n    stpes=30,\n)\n",
            "line 2: .*no field 'stpes'; did you mean 'steps'",
        ),
        (
            "from diff_ifs import Setup\nSETUP = Setup(**{'strats': 3})\n",
            "line 2: .* did you mean 'starts'",
        ),
        (
            "from diff_ifs import Setup\nSETUP = Setup(colour=3)\n",
            "line 2: .*the fields are maps, price, depth",
        ),
        (
            "from diff_ifs import Setup\nSETUP = Setup(maps=4,\n  rate=-1)\n",
            "line 2: .*rate must be a number from 1e-06 to 1",
        ),
        (
            "from diff_ifs import Setup\nSETUP = Setup(size='big')\n",
            "line 2: .*whole number from 8 to 4096, not 'big'",
        ),
        (
            "from diff_ifs import Setup\nsize = 3\nSETUP = Setup(size=size)\n",
            "line 3: .*from 8 to 4096, not 3",
        ),
        ("import sys\nsys.exit(0)\n", "line 2: SystemExit: 0"),
        ("x = {}\nx['a']\n", "line 2: KeyError: 'a'"),
        ("def f():\n    raise ValueError('two\\nlines')\nf()\n", "line 2: two lines"),
        ("x = 1\0\n", "null bytes"),
        ("# caf\u00e9 \ud800\n", "disc_setup.py"),
        ("x = (\n", r"line 1: '\(' was never closed"),
        ("x = 1\nreturn x\n", "line 2: 'return' outside function"),
        ("class Odd(BaseException):\n    pass\nraise Odd('no')\n", "line 3: no"),
    ],
)
def test_errors_of_setups_are_one_line_that_names_theirs(text, message):
    Path("disc_setup.py").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=message) as caught:
        load_setup("disc", {})
    assert str(caught.value).isprintable()


def test_a_setup_that_was_changed_a_moment_ago_is_read_anew():
    for steps in (20, 30):
        Path("disc_setup.py").write_text(
            f"from diff_ifs import Setup\nSETUP = Setup(steps={steps})\n"
        )
        assert load_setup("disc", {})[0].steps == steps
    assert [path.name for path in Path().iterdir()] == ["disc_setup.py"], "no cache beside it"


NUMBERS, MAP = "((0.5, 0.0, 0.1), (0.0, 0.25, 0.2))", "affine(0.5, 0, 0, 0.25, 0.1, 0.2)"


@pytest.mark.parametrize(
    "text",
    [
        f"from diff_ifs import Setup, affine, similarity\nSETUP = Setup(maps=[{MAP}])",
        f"from diff_ifs import Setup, affine\nSETUP = Setup(maps=[{MAP}])",
        f"from diff_ifs import Setup\nimport diff_ifs\nSETUP = Setup(maps=[diff_ifs.{MAP}])",
        f"import torch\nfrom diff_ifs import Setup\nSETUP = Setup(maps=torch.tensor([{NUMBERS}], "
        "dtype=float))",
        "import numpy as np\nfrom diff_ifs import Setup\nSETUP = "
        f"Setup(maps=[np.array({NUMBERS})])",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom diff_ifs "
        "import Setup\n\n"
        f"@dataclass\nclass Own:\n    maps: list\n\nSETUP = Setup(maps=Own([{NUMBERS}]).maps)",
    ],
)
def test_setups_may_be_written_in_many_ways(text):
    Path("disc_setup.py").write_text(text)
    setup, _ = load_setup("disc", {})
    assert setup == Setup(maps=(((0.5, 0.0, 0.1), (0.0, 0.25, 0.2)),))
    assert "disc_setup" not in sys.modules


def test_numbers_of_numpy_in_a_setup_are_plain_in_its_checkpoint(state):
    setup = replace(SMALL, stroke=np.float64(0.03), rate=np.float64(0.01))
    save_checkpoint(Path("disc.pt"), "disc", setup, state, DISC)
    load_checkpoint(Path("disc.pt"))


@pytest.mark.parametrize("seed", range(3))
def test_checkpoints_that_strangers_craft_are_refused_before_they_take_memory(state, seed):
    """Some claim 48 MB to 2 GB; what Python and numpy take for any of them is counted."""
    import nonsense  # its imports are slow

    save_checkpoint(Path("disc.pt"), "disc", SMALL, state, DISC)
    crafted = sorted(nonsense.crafted(torch.load("disc.pt", weights_only=True)).items())
    tracemalloc.start()
    try:
        for name, content in crafted[seed::3]:
            Path(f"{name}.pt").write_bytes(content)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with pytest.raises(InputError) as caught:
                pytest.fail(f"{name} was taken for {load_resume(name, SMALL)}")
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken < 2e6 + 10 * len(content), (name, taken)
            assert str(caught.value).isprintable(), name
            assert len(str(caught.value)) < 400, name
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("best_maps", lambda maps: maps + 1e30, "leads far away"),
        ("maps", lambda maps: maps + 1e30, "leads far away"),
        ("path_stroke", lambda strokes: [stroke - 0.5 for stroke in strokes], "is no radius"),
        ("best_stroke", lambda _: -5.0, "best_stroke is no number"),
    ],
)
def test_a_run_that_is_out_of_all_range_is_not_resumed(state, field, change, message):
    broken = {**state.resume, field: change(state.resume[field])}
    with pytest.raises(ValueError, match=message):
        check_resume(broken, SMALL)


def test_a_storage_that_many_tensors_share_is_read_once():
    whole = torch.zeros(1000)
    torch.save({"shared": [whole[:1], whole[:1]]}, "shared.pt")
    one, other = _unpacked(Path("shared.pt"))["shared"]
    assert np.shares_memory(one, other)


def test_an_archive_whose_records_share_their_bytes_is_refused():
    with zipfile.ZipFile("bomb.pt", "w") as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}, 2))
        archive.writestr("bomb/data/0", bytes(1000))
        for k in range(1, 50):
            again = copy.copy(archive.filelist[1])
            again.filename = f"bomb/data/{k}"
            archive.filelist.append(again)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(Path("bomb.pt"))


# --- Writing ---


def test_what_is_written_is_beside_its_place_until_it_is_whole():
    with atomic_write(Path("new.txt")) as file:
        file.write(b"all of it")
        file.flush()
        (beside,) = Path().iterdir()
        assert re.fullmatch(r"\.new\.txt\.[0-9a-f]+\.part", beside.name)
    assert [path.name for path in Path().iterdir()] == ["new.txt"]
    assert Path("new.txt").read_bytes() == b"all of it"
    with open("new.txt", "rb") as reader:
        with atomic_write(Path("new.txt")) as file:
            file.write(b"another")
        assert reader.read() == b"all of it", "it was replaced, not overwritten"


def test_a_folder_that_cannot_be_made_or_written_to_is_said_in_one_line():
    Path("results").touch()
    with pytest.raises(
        InputError, match=r"cannot write results/a\.png .*work in a folder that can be written to"
    ):
        save_picture(Path("results/a.png"), np.zeros((4, 4), np.uint8))
    with (
        pytest.raises(InputError, match="cannot make the folder results/koch"),
        lock_results("koch", Path("results/koch")),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs flock")
def test_two_runs_of_one_name_are_not_at_work_at_once_and_a_dead_one_does_not_count():
    folder = Path("results/koch")
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom diff_ifs.files.disk import lock_results\n"
        "with lock_results('koch', Path('results/koch')):\n"
        "    print('mine', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as other:
        assert other.stdout.readline() == "mine\n"
        with (
            pytest.raises(InputError, match="another run of koch is at work in this folder"),
            lock_results("koch", folder),
        ):
            pass
        with lock_results("apple", Path("results/apple")):
            pass
        other.kill()
    with lock_results("koch", folder):
        assert folder.is_dir()
    assert not Path("results/apple").exists(), "an empty folder is not left behind"


def test_what_a_killed_run_had_half_written_is_cleared_away():
    folder = Path("results/koch")
    folder.mkdir(parents=True)
    kinds = ("frame_000010.png", "trace.csv", "koch.gif", "koch_difference.png", "koch_plot.png")
    kinds += ("koch_target.png", "koch_previous.pt", "koch_previous_2.pt")
    leftovers = [Path(".koch.pt.00ff.part"), *(folder / f".{kind}.00ff.part" for kind in kinds)]
    others = [
        Path(".koch2.pt.00ff.part"),
        folder / ".koch_render_9_64.png.00ff.part",
        folder / "koch.gif",
    ]
    for path in leftovers + others:
        path.touch()
    with lock_results("koch", folder):
        pass
    assert not [path for path in leftovers if path.exists()]
    assert all(path.exists() for path in others)


def test_an_exhausted_memory_says_what_to_lower():
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
    ):
        with (
            pytest.raises(InputError, match="the memory is too small for this; lower it"),
            memory_errors_as_input_errors("lower it"),
        ):
            raise error
    with (
        pytest.raises(InputError, match="the GPU's memory"),
        memory_errors_as_input_errors("lower it"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(RuntimeError, match="a bug"), memory_errors_as_input_errors("lower it"):
        raise RuntimeError("a bug")
    with (
        pytest.raises(InputError, match="the memory is too small"),
        memory_errors_as_input_errors("lower it"),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
    with (
        pytest.raises(InputError, match=r"the disk is full \(cache\); make room"),
        memory_errors_as_input_errors("lower it"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cache")
    with pytest.raises(FileNotFoundError), memory_errors_as_input_errors("lower it"):
        open("nowhere")  # noqa: SIM115


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("there", "it is a folder"),
        ("file/a/b.png", "file is no folder"),
        (f"{'x' * 300}/a.png", "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(path, reason):
    Path("there").mkdir()
    Path("file").touch()
    with pytest.raises(
        InputError, match=rf"cannot write {path[:200]}.* \((.*/)?{reason}\); give another --out"
    ):
        check_place(Path(path))
    check_place(Path("there/deep/er/a.png"))
    assert not Path("there/deep").exists()


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".gif", ".tif", ".bmp", ".webp", ".ppm", ".PNG", ".JPG"]
)
def test_pictures_have_other_endings_too_and_may_be_named_with_theirs(suffix):
    Path(f"horse{suffix}").touch()
    for given in ("horse", f"horse{suffix}"):
        assert find_pictures(given) == [Path(f"horse{suffix}")]
    Path("horse.tiff").touch()
    assert find_pictures("horse.tiff") == [Path("horse.tiff"), Path(f"horse{suffix}")]
    Path("horse.png").touch()
    assert find_pictures("horse")[0] == Path("horse.png")
    assert find_pictures(f"horse{suffix}")[0] == Path(f"horse{suffix}")
