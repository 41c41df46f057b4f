"""Files in and out: targets, setups and coded fractals; frames, films, plots and traces; every message about bad input.

Heavy packages are imported inside the functions that need them, so that a mistyped name is refused at once.
"""

import argparse
import ast
import csv
import ctypes
import difflib
import errno
import gc
import importlib.util
import io
import itertools
import math
import os
import re
import secrets
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import ifs_formats
import ifs_setup
from ifs_setup import Setup

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

HERE = Path(__file__).resolve().parent
MISSING, EXTRA, BOTH, NEITHER = (56, 132, 255), (255, 122, 26), (244, 244, 240), (10, 12, 20)  # colours of a difference
STRIP = 26  # height in pixels of the caption under a frame
LARGEST = 20_000  # pixels along the longer side of a target
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")  # Pillow knows others, some of which start programs
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk


class InputError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do."""

    def __init__(self, words: str):
        super().__init__(_printable(words))  # names of files may hold anything


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and whose description is the first line of a docstring."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog=prog, description=(description or "").partition("\n")[0])  # None: python -OO
        # what argparse would take -1e-3 for, an option, cannot be told from one otherwise
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


class _Deaf(io.FileIO):
    """A standard stream that somebody may have stopped reading: what cannot be written is dropped."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def run(main: Callable[[], int]) -> NoReturn:
    """Call a script's `main` and exit with its code, whatever becomes of standard output and standard error.

    A closed pipe, a full disk behind `>`, a missing stream or an ASCII terminal cost words, never a fit. Torch must not
    have been loaded before: its idle threads are told not to spin for long. What PyTorch and its kin consist of is not
    searched for garbage, again and again while they are loaded and once more at the end, which takes a second in all.
    """
    gc.set_threshold(100_000)
    # They would spin for milliseconds on cores that others want: a fit beside other programs took twice as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ["MPLBACKEND"] = "agg"  # nothing is shown in a window, and matplotlib raises where it names no backend
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
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # not before files are cleaned up
    code = main()
    gc.freeze()
    sys.exit(code)


def check_device(wanted: str | None) -> None:
    """Raise InputError for a device that cannot be there, as far as that can be told without loading torch."""
    if wanted is None or wanted == "cpu":
        return
    if wanted == "mps":
        there = sys.platform == "darwin"
    elif re.fullmatch(r"cuda(:\d{1,3})?", wanted):
        there = Path("/dev/kfd").exists()  # AMD's driver, which PyTorch calls cuda too
        with suppress(OSError):
            there = there or bool(ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"))
    else:
        raise InputError(f"there is no device {_one_line(wanted)!r}; --device takes cuda, mps or cpu")
    if not there:
        raise InputError(f"there is no device {wanted!r} here: its driver is missing; --device cpu works everywhere")


def pick_device(wanted: str | None) -> str:
    """The device to compute on: the one asked for, else cuda or cpu. Raises InputError if it is not there.

    Without cuda, the compiled loops of the CPU are the best: steps are too short for mps.
    """
    import torch

    check_device(wanted)
    there = [name for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    if wanted is None:
        return "cuda" if "cuda" in there else "cpu"
    kind, _, number = wanted.partition(":")
    if kind not in [*there, "cpu"]:
        raise InputError(f"there is no device {wanted!r} here; --device takes {' or '.join([*there, 'cpu'])}")
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(f"there is no device {wanted!r} here; the last is cuda:{torch.cuda.device_count() - 1}")
    return wanted


@contextmanager
def enough_room(advice: str) -> Iterator[None]:
    """Turn an exhausted memory, of the machine or of a GPU, into an InputError that says what to lower.

    A full disk that something else than our own files met, such as numba's cache, becomes one as well.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch says it with a RuntimeError
        text = "out of memory" if isinstance(error, MemoryError) else str(error)
        if not re.search("out of memory|can't allocate memory|not enough memory", text, re.IGNORECASE):
            raise
        where = "the GPU's" if re.search("cuda|hip|mps", text, re.IGNORECASE) else "the"
        raise InputError(f"{where} memory is too small for this; {advice}") from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(f"the disk is full ({error.filename or error.strerror}); make room, and run again") from error


@contextmanager
def point_bar(name: str, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar that counts points drawn."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="points", unit_scale=True, disable=quiet) as bar:
        yield bar.update


# --- Targets, setups and checkpoints from disk ---


def check_name(name: str) -> None:
    """Raise InputError unless `name` is the plain name of a target: it becomes part of the names of files."""
    if name.endswith((".png", ".pt")) and is_plain(Path(name).stem):
        raise InputError(f"give the name alone, without its ending: {Path(name).stem}")
    if not is_plain(name):
        words = "use letters, digits, spaces, '_' and '-', as in apple for apple.png"
        raise InputError(f"{_one_line(name)!r} is not a plain name: {words}")
    if len(os.fsencode(name)) > 150:
        raise InputError(f"a name of {len(name)} letters is too long for the names of files; rename the picture")
    if _is_module(name) and not (HERE / f"{name}.png").is_file():  # some package may be called flower
        raise InputError(f"{name!r} is the name of a Python module; rename the picture, as in my_{name}.png")


def is_plain(name: str) -> bool:
    """Letters of any script with their marks, digits, '_', and, inside the name, '-' and spaces."""
    marked = all(c.isalnum() or c in "_- " or unicodedata.category(c)[0] == "M" for c in name)
    return marked and name[:1] not in ("", "-", " ") and name[-1] != " "


def _is_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None  # a plain folder passes for a package, but has no origin


def find(filename: str) -> Path | None:
    """A file in the current directory, else beside the scripts, else None."""
    return next((path for path in (Path(filename), HERE / filename) if path.is_file()), None)


def find_picture(name: str) -> Path:
    """NAME.png. Raises InputError, naming the targets that exist, if it is not there."""
    check_name(name)
    path = find(f"{name}.png")
    if path is None:
        for suffix in (".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".PNG", ".JPG"):
            if Path(f"{name}{suffix}").exists():
                raise InputError(
                    f"there is no {name}.png here, but {name}{suffix}; rename it, whatever format it is in"
                )
        known = {path.stem for folder in (Path(), HERE) for path in folder.glob("*.png")}
        raise InputError(f"there is no {name}.png here; {_there_are(known, name, 'pictures')}")
    return path


def find_checkpoint(name: str) -> Path:
    """NAME.pt in the current directory. Raises InputError, naming the command that makes it, if it is not there."""
    check_name(name)
    path = Path(f"{name}.pt")
    if path.is_file():
        return path
    if find(f"{name}.png"):
        raise InputError(f"there is no {path} yet; make it with: python train_ifs.py {_quoted(name)}")
    known = {path.stem for path in Path().glob("*.pt")}
    raise InputError(f"there is no {path} here, nor a {name}.png to fit; {_there_are(known, name, 'checkpoints')}")


def _there_are(names: set[str], wanted: str, what: str) -> str:
    names = sorted(filter(is_plain, names))
    if not names:
        return f"there are no {what} at all"
    if len(names) <= 12:
        return f"the {what} that exist: {', '.join(names)}"
    near = difflib.get_close_matches(wanted, names, n=3) or names[:3]
    return f"of the {len(names)} {what} that exist, did you mean {' or '.join(near)}?"


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return f"'{name}'" if " " in name else name


def load_target(path: Path, size: int, invert: bool = False) -> "Tensor":
    """A picture as coverage (size, size) in [0, 1]: its brightness on black, centred on a black square.

    Raises InputError for a file that is no picture, or a picture without both black and white.
    """
    coverage = pixels(scaled(read_picture(path, invert), path, size))
    import torch

    return torch.from_numpy(coverage)


def scaled(picture: "Image", path: Path, size: int) -> "Image":
    """A square grey picture, read from `path`, at size × size pixels. Raises InputError if nothing is left of it."""
    from PIL import Image

    kind = Image.Resampling.BILINEAR if is_grey(picture) else Image.Resampling.BOX
    small = picture.resize((size, size), kind)
    if small.getextrema()[1] < 128:
        raise InputError(f"at {size} pixels nothing is left of {path}: draw it bolder, or give a larger --size")
    return small


def pixels(picture: "Image") -> "np.ndarray":
    """A square grey picture as coverage (S, S) in [0, 1]."""
    import numpy as np

    return np.asarray(picture, dtype=np.float32) / 255


def is_grey(picture: "Image") -> bool:
    """Whether a picture's greys are more than soft edges: Σ 4 g (1 − g) exceeds a quarter of its light Σ g."""
    levels = [(level / 255, count) for level, count in enumerate(picture.histogram())]
    between, light = (sum(of(g) * count for g, count in levels) for of in (lambda g: 4 * g * (1 - g), lambda g: g))
    return between > light / 4


def read_picture(path: Path, invert: bool = False) -> "Image":
    """A picture's brightness, 8 bits a pixel, centred on a black square of its longer side.

    Transparent parts are background: black, or with `invert`, where dark and bright change places, white. Of an
    animation it is the first frame; colour profiles are ignored. Raises InputError for a file that is no picture,
    for one that is too large, and for one without both black and white. Says so if most of it is white.
    """
    from PIL import Image, ImageOps

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is LARGEST
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as opened:
            if max(opened.size) > LARGEST:
                size = f"{opened.width} × {opened.height}"
                raise InputError(f"{path} has {size} pixels; make it smaller: at most {LARGEST} a side")
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            see_through = opened.has_transparency_data
            width, side = opened.width, max(opened.size)
            square = Image.new("L", (side, side), 0)
            white, counts, rows = _white_level(opened), [0] * 256, max(1, (1 << 24) // width)
            for top in range(0, opened.height, rows):  # in strips, so that a large picture is in memory only once
                strip = _brightness(opened.crop((0, top, width, min(top + rows, opened.height))), white, invert)
                counts = [a + b for a, b in zip(counts, strip.histogram(), strict=True)]
                square.paste(strip, ((side - width) // 2, (side - opened.height) // 2 + top))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file
        words = "its format is not one of " + ", ".join(FORMATS) if "cannot identify" in str(error) else error
        raise InputError(f"{path} cannot be read as a picture ({_one_line(words)}); save it again as a PNG") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    dark, bright = sum(counts[:128]), sum(counts[128:])
    if not (dark and bright):
        colour, wanted = ("white", "black") if bright else ("black", "white")
        tip = (
            "leave out --invert"
            if invert
            else "add --invert if the fractal is dark on transparent" * (see_through and not bright)
        )
        tip = tip or f"paint some of it {wanted}"
        shown = f"{'inverted, ' if invert else ''}{path} is all {colour}"
        brightest = max(level for level, count in enumerate(counts) if count)
        if 0 < brightest < 128:
            shown += f", at most {brightest} of 255"
        raise InputError(f"{shown}: the fractal must be white on black, so {tip}")
    if bright > dark:
        tip = "leave out --invert" if invert else "add --invert"
        print(f"{path} is mostly white; if the fractal is the other part, {tip}", file=sys.stderr)
    return square


def _white_level(picture: "Image") -> float:
    """What counts as white in a picture of 16 or 32 bits a pixel, which Pillow would clip; 0 for all others."""
    import numpy as np

    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return 0.0
    rows = range(0, picture.height, 256)
    strips = (picture.crop((0, top, picture.width, min(top + 256, picture.height))) for top in rows)
    grey = (np.asarray(strip, dtype=np.float64) for strip in strips)
    most = max(float(values[np.isfinite(values)].max(initial=0)) for values in grey)
    levels = (1.0, 255.0, 65535.0, 2.0**31) if picture.mode == "F" else (255.0, 65535.0, 2.0**31)
    return next((level for level in levels if most <= level), most)


def _brightness(picture: "Image", white: float, invert: bool) -> "Image":
    """A picture's brightness, mode L, on its background; `white` is its white level if that is not 255."""
    import numpy as np
    from PIL import Image, ImageOps

    if white:
        grey = np.nan_to_num(np.asarray(picture, dtype=np.float32) / white).clip(0, 1) * 255
        picture = Image.fromarray(grey.round().astype(np.uint8))
    elif picture.has_transparency_data:
        background = Image.new("RGBA", picture.size, "white" if invert else "black")
        picture = Image.alpha_composite(background, picture.convert("RGBA"))
    grey = picture.convert("L")
    return ImageOps.invert(grey) if invert else grey


def check_options(overrides: dict) -> None:
    """Raise InputError for a command-line option out of its range."""
    for field, value in overrides.items():
        try:
            ifs_setup.check_field(field, value, f"--{field}")
        except ValueError as error:
            raise InputError(_one_line(error)) from error


def _check_setup_field(field: ast.keyword) -> None:
    if field.arg is None:  # Setup(**something)
        return
    if field.arg not in ifs_setup.RANGES:
        raise ValueError(ifs_setup.unknown_field(field.arg))
    try:
        value = ast.literal_eval(field.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return  # it must be run to be known
    if isinstance(value, int | float | str | None):
        ifs_setup.check_field(field.arg, value)


def load_setup(name: str, overrides: dict) -> tuple[Setup, Path | None]:
    """The setup of NAME_setup.py with some fields replaced, and the file; the defaults and None where there is none.

    Raises InputError for a setup that fails, with the line that did. Torch is loaded only if the setup uses it.
    """
    path = find(f"{name}_setup.py")
    setup = Setup() if path is None else _run_setup(path)
    try:
        return replace(setup, **overrides), path
    except ValueError as error:
        raise InputError(_one_line(error)) from error


def _run_setup(path: Path) -> Setup:
    """The SETUP that a NAME_setup.py defines; what can be seen to be wrong is refused before any of it is run."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}{_failing_line(error, path)}: {_one_line(error)}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Setup":
            for field in node.keywords:
                try:
                    _check_setup_field(field)
                except ValueError as error:
                    raise InputError(f"{path}, line {field.value.lineno}: {_one_line(error)}") from error
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module in ("ifs_fit", "ifs_model")  # which have these names from there, but load torch
            and all(hasattr(ifs_setup, imported.name) for imported in node.names)
        ):
            node.module = "ifs_setup"
    module = sys.modules[path.stem] = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(tree, str(path), "exec"), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        words = _one_line(error)
        unknown = re.search(r"Setup.__init__\(\) got an unexpected keyword argument '(\w+)'", words)
        words = ifs_setup.unknown_field(unknown[1]) if unknown else words
        raise InputError(f"{path}{_failing_line(error, path)}: {words}") from error
    finally:
        sys.modules.pop(path.stem, None)
    if not isinstance(setup := vars(module).get("SETUP"), Setup):
        raise InputError(f"{path} must define SETUP = Setup(...), with Setup from ifs_setup")
    return setup


def _failing_line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _one_line(words: object) -> str:
    """Words as one printable line of bounded length; for an error without words, its kind."""
    text = _printable(str(words.msg if isinstance(words, SyntaxError) else words))
    if isinstance(words, KeyError | SystemExit):
        text = f"{type(words).__name__}: {text}"
    elif isinstance(words, BaseException):
        text = text or type(words).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def coded(name: str) -> bool:
    """Whether this is the name of a file that `load_coded` reads, not of a checkpoint."""
    return Path(name).suffix in ifs_formats.MAX_BYTES


def load_coded(path: Path) -> dict:
    """The system in a .ifs, .json or .flame file: maps (n, 2, 3), an array, window, stroke, size. Raises InputError."""
    try:
        with open(path, "rb") as file:
            data = file.read(ifs_formats.MAX_BYTES[path.suffix] + 1)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path} here; compress_ifs.py makes one of a NAME.pt") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        system = ifs_formats.decode(data, path.suffix)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path} is not a fractal that can be drawn: {_one_line(error)}") from error
    import numpy as np

    return {**system, "maps": np.array(system["maps"], dtype=float)}


# --- Files to disk: whole or not at all ---


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` once it is complete, so that no half of it is ever seen.

    Raises InputError, and leaves what was there, where the disk is full or may not be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        advice = "make room" if error.errno in FULL else "work in a folder that can be written to"
        words = f"cannot write {path} ({error.strerror or _one_line(error)}); {advice}, and run again"
        raise InputError(f"{words}: files that were there before are whole") from error
    finally:
        with suppress(OSError):  # it is gone where all went well
            temporary.unlink()


def check_place(path: Path) -> None:
    """Raise InputError for a path that cannot be written to, before the work that would be lost is done."""
    try:
        place = next(place for place in path.absolute().parents if place.exists())
        reason = "it is a folder" if path.is_dir() else "" if place.is_dir() else f"{place} is no folder"
        reason = reason or ("" if os.access(place, os.W_OK) else "permission denied")
    except OSError as error:  # a name that is too long, a loop of links
        reason = error.strerror
    if reason:
        raise InputError(f"cannot write {_one_line(path)} ({reason}); give another --out")


@contextmanager
def claim(name: str, folder: Path) -> Iterator[None]:
    """Keep NAME.pt and the folder of its results for one run, and clear away what a killed one had half written.

    Raises InputError if another run has them. The lock ends with the process, however that ends. Where the system has
    no such locks, two runs may go on side by side: their files are whole, but one overwrites the other's.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or _one_line(error)
            raise InputError(
                f"cannot make the folder {folder} ({reason}); work in one that can be written to"
            ) from error
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(
                f"cannot write to the folder {folder} ({error.strerror}); change its permissions"
            ) from error
        with _lock(name, folder) as mine:
            if mine:
                kinds = ("frame_*.png", "trace.csv", f"{name}.gif", f"{name}_difference.png", f"{name}_plot.png")
                ours = [Path(f"{name}.pt"), Path(f"{name}_previous*.pt"), *(folder / kind for kind in kinds)]
                for left in (left for path in ours for left in path.parent.glob(f".{path.name}.*.part")):
                    with suppress(OSError):
                        left.unlink()
            yield
    finally:
        for path in made:
            with suppress(OSError):  # only if nothing has come into it
                path.rmdir()


@contextmanager
def _lock(name: str, folder: Path) -> Iterator[bool]:
    """Lock a folder; whether that could be done at all. Raises InputError if another process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = None
    try:
        try:
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            advice = "wait for it, or work in another folder"
            raise InputError(f"another run of {name} is at work in this folder; {advice}") from error
        except OSError:  # a file system without locks, or a folder that may not be read
            yield False
            return
        yield True
    finally:
        if handle is not None:
            os.close(handle)


def keep_previous(path: Path) -> Path | None:
    """Copy the checkpoint of an earlier run before a new run overwrites it; the copy, or None where there is nothing.

    That is NAME_previous.pt, or NAME_previous_2.pt, NAME_previous_3.pt … if others have that name, so that of many fits
    none is lost; one that is there already is not copied again.
    """
    if not path.is_file():
        return None
    ends = itertools.chain([""], (f"_{k}" for k in itertools.count(2)))
    copies = (path.with_stem(f"{path.stem}_previous{end}") for end in ends)
    try:
        content = path.read_bytes()
        copy = next(copy for copy in copies if not copy.exists() or copy.read_bytes() == content)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error}), and will not overwrite it; move it away") from error
    if not copy.exists():
        with whole_file(copy) as file:
            file.write(content)
    return copy


def save_picture(path: Path, picture: "np.ndarray | Image") -> None:
    """Write an 8- or 16-bit array (S, S), (S, S, 3) or (S, S, 4), or a Pillow picture, as PNG."""
    from PIL import Image

    image, content = picture if isinstance(picture, Image.Image) else Image.fromarray(picture), io.BytesIO()
    image.save(content, format="PNG")
    with whole_file(path) as file:
        file.write(content.getbuffer())


def save_rows(path: Path, strips: "Iterator[np.ndarray]", size: int) -> bool:
    """Write a picture that comes as strips (H, S, C) from the top, 8 or 16 bits, as PNG; say if anything is in it.

    Only one strip is held at a time. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Pillow has neither pictures
    that stream nor 16 bits in colour. Each row is stored as its difference from the one above (W3C, PNG, filter 2).
    """
    import numpy as np

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))

    lit, above, squeeze = False, None, zlib.compressobj(5)
    with whole_file(path) as file:
        for strip in strips:
            lit = lit or bool(strip.any())
            height, _, channels = strip.shape
            if above is None:
                colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
                header = struct.pack(">IIBBBBB", size, size, 8 * strip.itemsize, colour, 0, 0, 0)
                file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
                above = np.zeros((1, size * channels * strip.itemsize), dtype=np.uint8)
            step = max(1, (1 << 24) // above.shape[1])
            for first in range(0, height, step):
                part = strip[first : first + step]
                part = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(">"))).view(np.uint8)
                part = part.reshape(-1, above.shape[1])
                coded = np.full((len(part), 1 + above.shape[1]), 2, dtype=np.uint8)
                np.subtract(part[:1], above, out=coded[:1, 1:])
                np.subtract(part[1:], part[:-1], out=coded[1:, 1:])
                above = part[-1:].copy()
                file.write(chunk(b"IDAT", squeeze.compress(coded)))
        file.write(chunk(b"IDAT", squeeze.flush()) + chunk(b"IEND", b""))
    return lit


def save_array(path: Path, strips: "Iterator[Tensor]", size: int) -> None:
    """Write numbers that come as strips (H, S) or (4, H, S) from the top as a .npy file, (S, S) or (S, S, 4).

    Raises InputError if the disk has no room for it.
    """
    import numpy as np

    begun = False
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        for strip in strips:
            values = strip.cpu().numpy()
            values = values if values.ndim == 2 else values.transpose(1, 2, 0)
            shape = (size, size, *values.shape[2:])
            if not begun:
                needed, free = values.itemsize * int(np.prod(shape, dtype=object)), shutil.disk_usage(path.parent).free
                if needed > free:
                    raise InputError(
                        f"{path} would take {needed / 2**30:.1f} GiB, and the disk has {free / 2**30:.1f} left"
                    )
                layout = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, layout)
                begun = True
            file.write(np.ascontiguousarray(values).data)


def clear_frames(folder: Path) -> None:
    """Remove the frames of an earlier run. Raises InputError where that is not allowed."""
    for path in folder.glob("frame_*.png"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot remove {path} of an earlier run ({error.strerror}); move it away") from error


def difference_frame(picture: "Tensor", target: "Tensor", caption: str) -> "Image":
    """What a fit misses (blue), has too much (orange) and shares (white) with its target, with a line of text below."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    have, want = (picture >= 0.5).numpy(), (target >= 0.5).numpy()
    colours = np.array([NEITHER, MISSING, EXTRA, BOTH], dtype=np.uint8)
    pixels = Image.fromarray(colours[2 * have + want])
    zoom = max(1, round(512 / pixels.width))
    frame = Image.new("RGB", (pixels.width * zoom, pixels.height * zoom + STRIP), NEITHER)
    frame.paste(pixels.resize((pixels.width * zoom, pixels.height * zoom), Image.Resampling.NEAREST))
    pen, font = ImageDraw.Draw(frame), ImageFont.load_default(size=14)
    baseline = frame.height - STRIP + 4
    pen.text((8, baseline), caption, fill=BOTH, font=font)
    right = frame.width - 8
    for word, colour in (("too much", EXTRA), ("missing", MISSING)):
        right -= pen.textlength(word, font=font)
        pen.text((right, baseline), word, fill=colour, font=font)
        right -= 14
    return frame


def save_film(path: Path, frames: list["Image"], seconds: float = 4.0, pause: float = 2.0) -> None:
    """Write frames as a film: `seconds` of motion, then a pause on the last frame.

    An endless GIF, or an MP4 if `path` ends in .mp4. Raises InputError where imageio-ffmpeg, which makes these, is not
    installed.
    """
    import imageio.v3 as imageio
    import numpy as np

    if path.suffix == ".mp4":
        if not can_film():
            raise InputError("an MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or give --out a name in .gif")
        rate = max(1.0, len(frames) / seconds)
        width, height = frames[0].size
        even = (0, 0, width + width % 2, height + height % 2)  # a video has no odd sides: a black line is added
        arrays = [
            np.asarray(frame.convert("RGB").crop(even)) for frame in [*frames, *frames[-1:] * round(rate * pause)]
        ]
        film = imageio.imwrite("<bytes>", arrays, extension=".mp4", plugin="FFMPEG", fps=rate, macro_block_size=2)
    else:
        durations = [max(40, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [round(1000 * pause)]
        film = imageio.imwrite(
            "<bytes>",
            [np.asarray(frame) for frame in frames],
            extension=".gif",
            plugin="pillow",
            duration=durations if len(frames) > 1 else durations[0],  # Pillow takes no list for one
            loop=0,
            optimize=True,
        )
    with whole_file(path) as file:
        file.write(film)


def can_film() -> bool:
    """Whether MP4 can be written."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def contact_sheet(frames: list["Image"], captions: list[str]) -> "Image":
    """Frames of one size side by side, about as many in a row as there are rows, each with a line of text below."""
    from PIL import Image, ImageDraw, ImageFont

    across = math.ceil(math.sqrt(len(frames)))
    width, height, gap = frames[0].width, frames[0].height + STRIP, 8
    down = math.ceil(len(frames) / across)
    sheet = Image.new("RGB", (across * (width + gap) + gap, down * (height + gap) + gap), (60, 64, 72))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for k, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        at = gap + k % across * (width + gap), gap + k // across * (height + gap)
        sheet.paste(frame, at)
        pen.text((at[0] + 4, at[1] + frame.height + 4), caption, fill=BOTH, font=font)
    return sheet


def save_trace(path: Path, rows: list[dict]) -> None:
    """Write dicts that share their keys as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def save_plot(path: Path, name: str, rows: list[dict]) -> None:
    """Draw loss and IoU over the steps of a trace."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [row["step"] for row in rows]
    above.semilogy(steps, [row["loss"] for row in rows], color="tab:orange")
    above.set_ylabel("loss")
    above.set_title(f"{name}: best IoU {max(row['iou'] for row in rows):.4f}")
    below.plot(steps, [row["iou"] for row in rows], color="tab:blue")
    below.set(xlabel="step", ylabel="IoU of the attractor", ylim=(0, 1))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        for before, row in itertools.pairwise(rows):
            if row["size"] != before["size"]:
                axes.axvline(before["step"], color="grey", linestyle=":")
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # letters of the name that the font lacks
        figure.savefig(content, format="png", dpi=110)
    with whole_file(path) as file:
        file.write(content.getbuffer())
