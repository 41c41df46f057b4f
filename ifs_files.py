"""Files in and out: targets, setups and checkpoints; frames, films, plots and traces; every message about bad input.

Heavy packages are imported inside the functions that need them, so that a mistyped name is refused at once.
"""

import argparse
import csv
import importlib.util
import io
import itertools
import math
import os
import re
import shutil
import struct
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from ifs_fit import Setup, State

HERE = Path(__file__).resolve().parent
MISSING, EXTRA, BOTH, NEITHER = (56, 132, 255), (255, 122, 26), (244, 244, 240), (10, 12, 20)  # colours of a difference
STRIP = 26  # height in pixels of the caption under a frame


class InputError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def pick_device(wanted: str | None) -> str:
    """The device to compute on: the one asked for, else the best that is there. Raises InputError if it is not."""
    import torch

    there = [name for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    if wanted is None:
        return [*there, "cpu"][0]
    if wanted.split(":")[0] not in [*there, "cpu"]:
        raise InputError(f"there is no device {wanted!r} here; --device takes {' or '.join([*there, 'cpu'])}")
    return wanted


@contextmanager
def point_bar(name: str, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar that counts points drawn."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="points", unit_scale=True, disable=quiet) as bar:
        yield bar.update


# --- Targets, setups and checkpoints from disk ---


def check_name(name: str) -> None:
    """Raise InputError unless `name` is the plain name of a target."""
    if name.endswith((".png", ".pt")):
        raise InputError(f"give the name alone, without its ending: {Path(name).stem}")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise InputError(f"{name!r} is not a plain name: use letters, digits, '_' and '-', as in apple for apple.png")


def find(filename: str) -> Path | None:
    """A file in the current directory, else beside the scripts, else None."""
    return next((path for path in (Path(filename), HERE / filename) if path.is_file()), None)


def find_picture(name: str) -> Path:
    """NAME.png. Raises InputError, naming the targets that exist, if it is not there."""
    check_name(name)
    path = find(f"{name}.png")
    if path is None:
        known = sorted({path.stem for folder in (Path(), HERE) for path in folder.glob("*.png")})
        raise InputError(f"there is no {name}.png here; {_there_are(known, 'pictures')}")
    return path


def find_checkpoint(name: str) -> Path:
    """NAME.pt in the current directory. Raises InputError, naming the command that makes it, if it is not there."""
    check_name(name)
    path = Path(f"{name}.pt")
    if path.is_file():
        return path
    if find(f"{name}.png"):
        raise InputError(f"there is no {name}.pt yet; make it with: python train_ifs.py {name}")
    known = sorted(path.stem for path in Path().glob("*.pt"))
    raise InputError(f"there is no {name}.pt here, nor a {name}.png to fit; {_there_are(known, 'checkpoints')}")


def _there_are(names: list[str], what: str) -> str:
    return f"the {what} that exist: {', '.join(names)}" if names else f"there are no {what} at all"


def load_target(path: Path, size: int) -> "Tensor":
    """A picture as coverage (size, size) in [0, 1]: its brightness on black, centred on a black square.

    Raises InputError for a file that is no picture, or a picture without both black and white.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            deep = picture.mode.startswith("I") or picture.mode == "F"
            if deep:  # 16 and 32 bits a pixel: Pillow would clip them instead of scaling
                grey = np.asarray(picture, dtype=np.float32)
                scale = 65535.0 if grey.max() > 255 else 255.0
                picture = Image.fromarray((grey / scale).clip(0, 1) * 255).convert("L")
            elif picture.has_transparency_data:
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA"))
            picture = picture.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture ({_one_line(error)}); save it again as a PNG") from error
    darkest, brightest = picture.getextrema()
    if brightest < 128 or darkest >= 128:
        colour, wanted = ("black", "white") if brightest < 128 else ("white", "black")
        raise InputError(f"{path} is all {colour}: the fractal must be white on black, so paint some of it {wanted}")
    side = max(picture.size)
    square = Image.new("L", (side, side), 0)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    square = square.resize((size, size), Image.Resampling.BOX)
    target = torch.from_numpy(np.asarray(square, dtype=np.float32) / 255)
    if not (target >= 0.5).any():
        raise InputError(f"at {size} pixels nothing is left of {path}: draw it bolder, or give a larger --size")
    return target


def load_setup(name: str, overrides: dict) -> tuple["Setup", Path | None]:
    """The setup of NAME_setup.py with some fields replaced, and the file; the defaults and None where there is none.

    Raises InputError for a setup that fails, with the line that did.
    """
    from ifs_fit import Setup

    path = find(f"{name}_setup.py")
    setup = Setup()
    if path is not None:
        spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"{path}{_failing_line(error, path)}: {_one_line(error)}") from error
        setup = getattr(module, "SETUP", None)
        if not isinstance(setup, Setup):
            raise InputError(f"{path} must define SETUP = Setup(...), with Setup from ifs_fit")
    try:
        return replace(setup, **overrides), path
    except ValueError as error:
        raise InputError(_one_line(error)) from error


def _failing_line(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    return f", line {lines[-1]}" if lines else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def load_checkpoint(path: Path) -> dict:
    """The dict of a checkpoint, checked: everything that rendering needs is there and sane. Raises InputError."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path} is not a checkpoint of train_ifs.py, or it is damaged; make it again") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != "diff_ifs":
        raise InputError(f"{path} is not a checkpoint of train_ifs.py")
    if checkpoint.get("version") != 1:
        raise InputError(f"{path} has version {checkpoint.get('version')!r}; this program reads version 1")
    maps, window, stroke = (checkpoint.get(key) for key in ("maps", "window", "stroke"))
    if not (isinstance(maps, torch.Tensor) and maps.ndim == 3 and maps.shape[1:] == (2, 3) and 1 <= len(maps) <= 1000):
        raise InputError(f"{path} does not hold maps of shape (n, 2, 3)")
    from ifs_model import singular_values

    if not maps.isfinite().all() or singular_values(maps.double()).max() >= 1 or maps.abs().max() > 1e3:
        raise InputError(f"{path} holds maps that are not contractions; make it again")
    if not (isinstance(window, tuple | list) and len(window) == 4 and all(isinstance(x, int | float) for x in window)):
        raise InputError(f"{path} does not hold a window (xmin, xmax, ymin, ymax)")
    if not (window[0] < window[1] and window[2] < window[3]):
        raise InputError(f"{path} holds an empty window")
    if not (isinstance(stroke, float) and 0 <= stroke <= 1):
        raise InputError(f"{path} does not hold a stroke from 0 to 1")
    return checkpoint


def load_path(path: Path, checkpoint: dict) -> "tuple[list[int], Tensor, list[float]]":
    """The way of a fit: steps, maps (K, n, 2, 3) and strokes at each. Raises InputError where it is not there."""
    import torch

    from ifs_model import singular_values

    way = checkpoint.get("path")
    if not isinstance(way, dict):
        raise InputError(f"{path} does not hold the way of its fit; make it again with train_ifs.py")
    steps, maps, strokes = (way.get(key) for key in ("steps", "maps", "strokes"))
    sound = (
        isinstance(maps, torch.Tensor)
        and maps.shape[1:] == checkpoint["maps"].shape
        and isinstance(steps, list)
        and isinstance(strokes, list)
        and len(steps) == len(strokes) == len(maps) > 0
        and all(isinstance(step, int) for step in steps)
        and all(isinstance(stroke, float) and 0 <= stroke <= 1 for stroke in strokes)
        and bool(maps.isfinite().all())
        and float(singular_values(maps.double()).max()) < 1
        and float(maps.abs().max()) <= 1e3
    )
    if not sound:
        raise InputError(f"{path} holds a damaged way of its fit; make it again with train_ifs.py")
    return steps, maps, strokes


def load_resume(path: Path, name: str, setup: "Setup") -> dict:
    """What a fit needs to go on from a checkpoint. Raises InputError if that was made of another target or setup."""
    checkpoint = load_checkpoint(path)
    if checkpoint.get("name") != name:
        raise InputError(f"{path} is a fit of {checkpoint.get('name')!r}, not of {name!r}")
    if checkpoint.get("setup") != asdict(setup):
        changed = [key for key, value in asdict(setup).items() if (checkpoint.get("setup") or {}).get(key) != value]
        raise InputError(
            f"{path} was made with another {' and '.join(changed)}; give the same options, or leave out --resume"
        )
    if not isinstance(checkpoint.get("resume"), dict):
        raise InputError(f"{path} does not hold what --resume needs; start again without it")
    return checkpoint["resume"]


# --- Files to disk: whole or not at all ---


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` once it is complete, so that no half of it is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def save_checkpoint(path: Path, name: str, setup: "Setup", state: "State") -> None:
    """Write the best system of a fit, and what is needed to go on with it."""
    import torch

    from ifs_model import WINDOW

    with whole_file(path) as file:
        torch.save(
            {
                "format": "diff_ifs",
                "version": 1,
                "name": name,
                "maps": state.best_maps,
                "window": WINDOW,
                "stroke": state.best_stroke,
                "size": setup.size,
                "setup": asdict(setup),
                "step": state.step,
                "iou": state.best_iou,
                "path": {
                    "steps": [step for step, _, _ in state.path],
                    "maps": torch.stack([maps for _, maps, _ in state.path]),
                    "strokes": [stroke for _, _, stroke in state.path],
                },
                "resume": _on_cpu(state.resume),
            },
            file,
        )


def _on_cpu(value):
    """The same nest of dicts and lists with every tensor on the CPU."""
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value.cpu() if hasattr(value, "cpu") else value


def save_picture(path: Path, picture: "np.ndarray | Image") -> None:
    """Write an 8- or 16-bit array (S, S), (S, S, 3) or (S, S, 4), or a Pillow picture, as PNG."""
    from PIL import Image

    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    with whole_file(path) as file:
        image.save(file, format="PNG")


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
    """Remove the frames of an earlier run."""
    for path in folder.glob("frame_*.png"):
        path.unlink()


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
        arrays = [np.asarray(frame.convert("RGB")) for frame in [*frames, *frames[-1:] * round(rate * pause)]]
        film = imageio.imwrite("<bytes>", arrays, extension=".mp4", plugin="FFMPEG", fps=rate, macro_block_size=2)
    else:
        durations = [max(40, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [round(1000 * pause)]
        film = imageio.imwrite(
            "<bytes>",
            [np.asarray(frame) for frame in frames],
            extension=".gif",
            plugin="pillow",
            duration=durations,
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
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
