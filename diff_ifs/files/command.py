"""What the commands share: arguments, exit codes, devices, memory."""

import argparse
import ctypes
import errno
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from diff_ifs.errors import InputError, one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and whose description is the first line of
    a docstring."""

    def __init__(self, prog: str, description: str | None):
        # None: python -OO
        super().__init__(prog=prog, description=(description or "").partition("\n")[0])
        # what argparse would take -1e-3 for, an option, cannot be told from one otherwise
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE
        )

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


class _Deaf(io.FileIO):
    """A standard stream that somebody may have stopped reading: what cannot be written is
    dropped."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def run_script(main: Callable[[], int]) -> NoReturn:
    """Call a script's `main` and exit with its code, whatever becomes of standard output and
    standard error.

    A closed pipe, a full disk behind `>`, a missing stream or an ASCII terminal cost words, never a
    fit. Torch must not have been loaded before: its idle threads are told not to spin for long.
    What PyTorch and its kin consist of is not searched for garbage, again and again while they are
    loaded and once more at the end, which takes a second in all.
    """
    gc.set_threshold(100_000)
    # They would spin for milliseconds on cores that others want: a fit beside other programs took
    # twice as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # nothing is shown in a window, and matplotlib raises where it names no backend
    os.environ["MPLBACKEND"] = "agg"
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the program)
        elif stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            raw = io.BufferedWriter(_Deaf(number, "w", closefd=False))
            words = io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, words)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # not before files are cleaned up
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    code = main()
    gc.freeze()
    sys.exit(code)


def check_device(wanted: str | None) -> None:
    """Raise InputError for a device that cannot be there, as far as that can be told without
    loading torch."""
    if wanted is None or wanted == "cpu":
        return
    if wanted == "mps":
        there = sys.platform == "darwin"
    elif re.fullmatch(r"cuda(:\d{1,3})?", wanted):
        there = Path("/dev/kfd").exists()  # AMD's driver, which PyTorch calls cuda too
        with suppress(OSError):
            there = there or bool(
                ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
            )
    else:
        raise InputError(
            f"there is no device {one_line(wanted)!r}; --device takes cuda, mps or cpu"
        )
    if not there:
        raise InputError(
            f"there is no device {wanted!r} here: its driver is missing; --device cpu works "
            "everywhere"
        )


def pick_device(wanted: str | None) -> str:
    """The device to compute on: the one asked for, else cuda or cpu. Raises InputError if it is not
    there.

    Without cuda, the compiled loops of the CPU are the best: steps are too short for mps.
    """
    import torch

    check_device(wanted)
    there = [
        name
        for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps))
        if module.is_available()
    ]
    if wanted is None:
        return "cuda" if "cuda" in there else "cpu"
    kind, _, number = wanted.partition(":")
    if kind not in [*there, "cpu"]:
        raise InputError(
            f"there is no device {wanted!r} here; --device takes {' or '.join([*there, 'cpu'])}"
        )
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"there is no device {wanted!r} here; the last is cuda:{torch.cuda.device_count() - 1}"
        )
    return wanted


@contextmanager
def memory_errors_as_input_errors(advice: str) -> Iterator[None]:
    """Turn an exhausted memory, of the machine or of a GPU, into an InputError that says what to
    lower.

    A full disk that something else than our own files met, such as numba's cache, becomes one as
    well.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch says it with a RuntimeError
        text = "out of memory" if isinstance(error, MemoryError) else str(error)
        if not re.search(
            "out of memory|can't allocate memory|not enough memory", text, re.IGNORECASE
        ):
            raise
        where = "the GPU's" if re.search("cuda|hip|mps", text, re.IGNORECASE) else "the"
        raise InputError(f"{where} memory is too small for this; {advice}") from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(
            f"the disk is full ({error.filename or error.strerror}); make room, and run again"
        ) from error


@contextmanager
def point_bar(name: str, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar that counts points drawn."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="points", unit_scale=True, disable=quiet) as bar:
        yield bar.update


def check_place(path: Path) -> None:
    """Raise InputError for a path that cannot be written to, before the work that would be lost is
    done."""
    try:
        place = next(place for place in path.absolute().parents if place.exists())
        reason = (
            "it is a folder" if path.is_dir() else "" if place.is_dir() else f"{place} is no folder"
        )
        reason = reason or ("" if os.access(place, os.W_OK) else "permission denied")
    except OSError as error:  # a name that is too long, a loop of links
        reason = error.strerror
    if reason:
        raise InputError(f"cannot write {one_line(path)} ({reason}); give another --out")


class Stop:
    """The first Ctrl-C or SIGTERM ends a fit at its next state; a second one ends the program at
    once.

    `code` is the exit code that the signal asks for, 0 before it comes.
    """

    def __enter__(self) -> "Stop":
        self.code, self.handlers = 0, {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell script's background
                self.handlers[number] = signal.signal(number, self.first)
        return self

    def first(self, number: int, frame: FrameType | None) -> None:
        self.code = 128 + number
        for handled in self.handlers:
            signal.signal(handled, signal.SIG_DFL)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
