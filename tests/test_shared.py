"""What all commands share: devices, memories, disks, arguments, signals, and films as files."""

import re
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence

from diff_ifs.errors import InputError
from diff_ifs.files import command, results


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_devices_are_taken_by_their_numbers(monkeypatch):
    monkeypatch.setattr(command, "check_device", lambda wanted: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for wanted, found in ((None, "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")):
        assert command.pick_device(wanted) == found
    with pytest.raises(InputError, match=r"^there is no device 'cuda:2' here; the last is cuda:1$"):
        command.pick_device("cuda:2")
    with pytest.raises(InputError, match=r"^there is no device 'mps' here; --device takes cuda or"):
        command.pick_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.pick_device(None) == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert command.pick_device(None) == "cpu", "its steps are too short for mps"
    assert command.pick_device("mps") == "mps"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "the memory is too small for this; lower it"),
        (
            RuntimeError("CUDA error: out of memory"),
            "the GPU's memory is too small for this; lower",
        ),
        (RuntimeError("HIP out of memory. Tried"), "the GPU's memory is too small for this; lower"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
         "the memory is too small for this; lower it"),
        (RuntimeError("can't allocate memory"), "the memory is too small for this; lower it"),
        (OSError(28, "No space left on device", "cache.nbi"),
         "the disk is full (cache.nbi); make room, and run again"),
        (OSError(28, "No space left on device"),
         "the disk is full (No space left on device); make room, and run again"),
    ],
)  # fmt: skip
def test_exhausted_memories_and_disks_are_told_apart(error, words):
    with (
        pytest.raises(InputError, match="^" + re.escape(words)),
        command.memory_errors_as_input_errors("lower it"),
    ):
        raise error
    for other in (RuntimeError("a bug"), OSError(13, "Permission denied")):
        with (
            pytest.raises(type(other), match=r"bug|denied"),
            command.memory_errors_as_input_errors("lower it"),
        ):
            raise other


def test_negative_numbers_are_no_options_and_errors_are_one_line(capsys):
    parse = command.Parser(prog="a.py", description="One line.\nAnother.")
    parse.add_argument("--window", type=float, nargs=2)
    parse.add_argument("--n", type=int)
    assert parse.description == "One line."
    for given in (["-1e-3", "-.5"], ["-1E+2", "-2."], ["-0.25e5", "3"]):
        assert parse.parse_args(["--window", *given]).window == [float(x) for x in given]
    with pytest.raises(SystemExit) as left:
        parse.parse_args(["--n", "x\ny"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("a.py: argument --n: invalid int value")
    assert said.endswith("; see a.py --help\n")
    assert said.count("\n") == 1


def test_the_first_signal_is_noted_the_second_is_not_caught_and_later_all_is_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with command.Stop() as stop:
        assert stop.code == 0
        assert signal.getsignal(signal.SIGTERM) == stop.first
        stop.first(signal.SIGTERM, None)
        assert stop.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("count", "seconds", "each"), [(5, 4.0, 800), (3, 1.0, 330), (200, 4.0, 40), (50, 2.0, 40)]
)
def test_a_gif_goes_round_and_round_and_shows_no_frame_for_less_than_a_25th(count, seconds, each):
    def durations(frames: list[Image.Image], **options) -> list[int]:
        results.save_film(Path("a.gif"), frames, seconds, **options)
        with Image.open("a.gif") as film:
            assert film.info["loop"] == 0
            return [frame.info["duration"] for frame in ImageSequence.Iterator(film)]

    frames = [Image.new("L", (4, 4), k) for k in range(count)]
    assert durations(frames, pause=1.5) == [each] * (count - 1) + [1500]
    assert durations(frames[:1]) == [2000]


def test_an_mp4_begins_with_its_frames_ends_with_a_pause_and_has_even_sides(monkeypatch):
    """Three frames in six seconds, as many as there are at least in one: two more make a pause."""
    given = {}

    def imwrite(uri, arrays, **options):
        given.update(options, shades=[int(a[0, 0, 0]) for a in arrays], shape=arrays[0].shape)
        return b"film"

    monkeypatch.setattr("imageio.v3.imwrite", imwrite)
    frames = [Image.new("L", (5, 7), shade) for shade in (10, 20, 30)]
    results.save_film(Path("a.mp4"), frames, seconds=6.0)
    assert given["shades"] == [10, 20, 30, 30, 30]
    assert given["shape"] == (8, 6, 3)
    assert given["fps"] == 1.0
    assert Path("a.mp4").read_bytes() == b"film"
    results.save_film(Path("a.mp4"), frames, seconds=0.3, pause=0.5)
    assert (given["fps"], given["shades"]) == (10.0, [10, 20] + [30] * 6)
