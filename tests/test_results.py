"""Files in and out: where a picture lies in its square, when a file is safe, what a difference and
a film show."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from diff_ifs.errors import InputError, one_line
from diff_ifs.files import names, results
from diff_ifs.files.disk import atomic_write, keep_previous
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def corner(width: int, height: int) -> Image.Image:
    """An L along the left and the lower edge."""
    picture = Image.new("L", (width, height))
    draw = ImageDraw.Draw(picture)
    draw.rectangle([0, 0, width // 4 - 1, height - 1], fill=255)
    draw.rectangle([0, height - height // 8, width - 1, height - 1], fill=255)
    return picture


# --- Targets ---


@pytest.mark.parametrize(("width", "height"), [(32, 64), (64, 32), (16, 64), (64, 64), (64, 24)])
def test_a_picture_lies_in_the_middle_of_a_square_of_its_longer_side(width, height):
    picture = corner(width, height)
    picture.save("corner.png")
    square = Image.new("L", (64, 64))
    square.paste(picture, ((64 - width) // 2, (64 - height) // 2))
    target = load_target(Path("corner.png"), 64)
    assert np.array_equal(target.numpy() * 255, np.asarray(square))


def test_a_large_picture_is_averaged_and_a_small_one_has_sharp_pixels():
    picture = corner(64, 64)
    picture.save("large.png")
    small = load_target(Path("large.png"), 16).numpy()
    wanted = (np.asarray(picture) / 255).reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(small - wanted).max() < 0.003
    large = load_target(Path("large.png"), 128).numpy()
    assert np.array_equal(large, (np.asarray(picture) / 255).repeat(2, 0).repeat(2, 1))


def test_a_target_beside_the_scripts_gives_way_to_one_in_the_folder():
    assert names.find_pictures("koch") == [names.HERE / "koch.png"]
    corner(64, 64).save("koch.png")
    assert names.find_pictures("koch") == [Path("koch.png")]
    Path("koch_setup.py").write_text("from diff_ifs import Setup\nSETUP = Setup(seed=8)\n")
    assert load_setup("koch", {})[0].seed == 8


def test_a_checkpoint_is_looked_for_in_the_folder_alone(monkeypatch):
    beside = names.HERE / "nothing_of_that_name.pt"
    assert not beside.exists()
    with pytest.raises(InputError, match=r"there is no nothing_of_that_name\.pt here, nor a"):
        names.find_checkpoint("nothing_of_that_name")
    Path("mine.pt").touch()
    assert names.find_checkpoint("mine") == Path("mine.pt")
    with pytest.raises(InputError, match=r"the checkpoints that exist: mine$"):
        names.find_checkpoint("other")


# --- Whole files ---


def test_a_file_takes_its_place_only_when_all_of_it_is_on_the_disk(monkeypatch):
    """What is handed to the system counts, not what waits in a buffer of Python's."""
    Path("result.txt").write_text("before")
    honest, events = os.fsync, []

    def fsync(descriptor):
        events.append((os.fstat(descriptor).st_size, Path("result.txt").read_text()))
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(Path("result.txt")) as file:
        file.write(b"all of it")
    assert events == [(9, "before")]
    assert Path("result.txt").read_text() == "all of it"


def test_a_write_that_is_given_up_leaves_what_was_there():
    Path("result.txt").write_text("before")

    def interrupted():
        with atomic_write(Path("result.txt")) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in Path().iterdir()] == ["result.txt"]
    assert Path("result.txt").read_text() == "before"


def test_folders_are_made_for_files():
    with atomic_write(Path("deep/er/result.txt")) as file:
        file.write(b"here")
    assert Path("deep/er/result.txt").read_bytes() == b"here"


def test_earlier_checkpoints_are_kept_under_the_next_free_name():
    path = Path("horse.pt")
    assert keep_previous(path, Path("kept")) is None
    kept = []
    for content in (b"one", b"two", b"two", b"three", b"one"):
        path.write_bytes(content)
        kept.append(keep_previous(path, Path("kept")))
    names = [
        "horse_previous",
        "horse_previous_2",
        "horse_previous_2",
        "horse_previous_3",
        "horse_previous",
    ]
    assert [copy.stem for copy in kept] == names, "one that is kept already is not kept again"
    assert [Path(f"kept/{name}.pt").read_bytes() for name in names] == [
        b"one",
        b"two",
        b"two",
        b"three",
        b"one",
    ]
    assert path.read_bytes() == b"one"


# --- Rows and numbers ---


@pytest.mark.parametrize(("channels", "dtype"), [(1, "u1"), (3, "u2"), (4, "u2"), (2, "u2")])
def test_strips_make_up_a_png_of_any_depth(channels, dtype):
    """Read by imageio's own reader of 16 bits, or by Pillow; rows of several strips follow each
    other."""
    import imageio.v3 as imageio

    shape = 9, 9, channels
    picture = np.random.default_rng(0).integers(
        0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True
    )
    assert results.save_rows(Path("rows.png"), iter([picture[:4], picture[4:5], picture[5:]]), 9)
    data = Path("rows.png").read_bytes()
    assert data[24] == 8 * picture.itemsize
    assert data[25] == {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    high = (picture >> 8).astype(np.uint8) if picture.itemsize == 2 else picture
    if channels in (1, 3, 4):
        read = imageio.imread("rows.png", plugin="pillow")
        assert np.array_equal(read.reshape(shape), high if channels > 1 else picture)


def test_a_picture_of_nothing_is_said_to_be_empty():
    black = np.zeros((4, 4, 3), dtype=np.uint8)
    assert not results.save_rows(Path("black.png"), iter([black]), 4)
    black[2, 1, 2] = 1
    assert results.save_rows(Path("black.png"), iter([black[:2], black[2:]]), 4)


def test_numbers_are_written_strip_by_strip_in_their_order():
    plain = torch.arange(36, dtype=torch.float64).view(6, 6)
    results.save_array(Path("plain.npy"), iter([plain[:1], plain[1:4], plain[4:]]), 6)
    assert np.array_equal(np.load("plain.npy"), plain.numpy())
    layers = torch.arange(4 * 36, dtype=torch.float32).view(4, 6, 6)
    results.save_array(Path("layers.npy"), iter([layers[:, :2], layers[:, 2:]]), 6)
    found = np.load("layers.npy")
    assert found.dtype == np.float32
    assert np.array_equal(found, layers.permute(1, 2, 0).numpy())


# --- Differences ---


@pytest.mark.parametrize(
    ("size", "zoom"), [(64, 8), (256, 2), (300, 2), (512, 1), (800, 1), (50, 10)]
)
def test_differences_of_small_pictures_are_shown_larger(size, zoom):
    have, want = torch.zeros(size, size), torch.zeros(size, size)
    have[3:9, 2:20], want[5:30, 10:14] = 0.5, 1
    have[20:22, 11] = 0.49
    frame = np.asarray(results.difference_frame(have, want, "").convert("RGB"))
    assert frame.shape == (size * zoom + 26, size * zoom, 3)
    for (row, column), colour in {
        (4, 3): results.EXTRA,
        (6, 12): results.BOTH,
        (20, 11): results.MISSING,
        (0, 0): results.NEITHER,
        (size - 1, size - 1): results.NEITHER,
    }.items():
        square = frame[row * zoom : (row + 1) * zoom, column * zoom : (column + 1) * zoom]
        assert (square == colour).all()


def test_the_colours_of_a_difference_are_named_below_it_in_their_colours():
    frame = results.difference_frame(torch.zeros(256, 256), torch.zeros(256, 256), "step 3")
    line = np.asarray(frame.convert("RGB"))[512:]
    font = ImageFont.load_default(size=14)
    blue, orange = ((line == colour).all(-1) for colour in (results.MISSING, results.EXTRA))
    assert blue.any()
    assert orange.any()
    assert blue.nonzero()[1].max() < orange.nonzero()[1].min(), "missing is named first"
    wide = ImageDraw.Draw(frame).textlength("too much", font=font)
    assert 490 < orange.nonzero()[1].max() <= 504
    assert orange.nonzero()[1].min() >= 504 - wide - 1
    assert results.MISSING[2] == max(results.MISSING), "README: blue is missing"
    assert results.EXTRA[0] == max(results.EXTRA) > results.EXTRA[1] > results.EXTRA[2], (
        "orange is too much"
    )
    assert min(results.BOTH) > 230, "white is right"


# --- Names ---


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("a" * 150, True),
        ("a" * 151, False),
        ("ä" * 75, True),
        ("ä" * 76, False),
        ("a-b c_2", True),
        ("-a", False),
    ],
)
def test_names_have_at_most_150_bytes(name, passes):
    if passes:
        names.check_name(name)
        return
    with pytest.raises(InputError):
        names.check_name(name)


def test_messages_are_cut_off_where_they_get_long():
    assert one_line("x" * 300) == "x" * 300
    assert one_line("x" * 301) == "x" * 300 + "…"
    assert one_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "there are no pictures at all"),
        (12, "the pictures that exist: a00, a01"),
        (13, "none of the 13 pictures"),
    ],
)
def test_a_dozen_names_are_listed_and_of_more_the_nearest(count, said):
    some = {f"a{k:02}" for k in range(count)}
    assert said in names._there_are(some, "horse", "pictures")


def test_a_name_that_was_meant_has_most_letters_in_common():
    """house and horse four of five, mouse three; at most three are named, the nearest first."""
    assert names._there_are({"mouse", "house"}, "horse", "pictures") == "did you mean house?"
    assert names._there_are({"mouse"}, "horse", "pictures") == "the pictures that exist: mouse"
    near = {"horse1", "horse12", "hors", "house"}
    said = "did you mean horse1 or hors or horse12?"
    assert names._there_are(near, "horse", "pictures") == said
