"""The target of a fit: a picture file, decoded and read as coverage of the figure in it."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.errors import InputError, one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from diff_ifs.files.ground import Reading

LARGEST = 20_000  # pixels along the longer side of a target
# Pillow has others that start programs
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "TIFF",
    "BMP",
    "WEBP",
    "PPM",
)


@dataclass(frozen=True)
class Target:
    """A picture as a fit sees it, and what there is to say about it."""

    coverage: "np.ndarray"  # (S, S), float32, from 0 to 1
    grey: bool  # whether its greys are part of it
    said: str  # what was read, in one line
    hints: list[str]  # what is doubtful about it, and what to do, a line each
    page: bool  # whether a bright page is fitted instead of what is on it


def load_target(
    path: Path,
    size: int,
    invert: bool = False,
    threshold: int | None = None,
    grey: bool | None = None,
) -> "Tensor":
    """The coverage (size, size) of `read_target`, as a tensor."""
    target = read_target(path, size, invert, threshold, grey)
    import torch

    return torch.from_numpy(target.coverage)


def read_target(
    path: Path,
    size: int,
    invert: bool = False,
    threshold: int | None = None,
    grey: bool | None = None,
) -> Target:
    """A picture as coverage (size, size) of its figure, centred on an empty square.

    `invert` swaps figure and ground. With a threshold from 0 to 255, the figure is what has at
    least as much brightness, opacity, or distance from the ground's colour. With `grey`, coverage
    is brightness; None: where the picture has more than two levels. Raises InputError for a file
    that is no picture, and for a picture without a figure.
    """
    import numpy as np

    colours, alpha, jpeg = _decoded(path, max(1024, size))

    from diff_ifs.files import ground
    from diff_ifs.files.line import whole_lines

    shade = _brightness(colours, alpha, invert)
    side = max(shade.shape)
    if grey and threshold is not None:
        raise InputError("a threshold is for black and white: leave it out, or --grey")
    reading, asked = None, grey
    if not grey:
        try:
            reading = ground.read(colours, alpha, None if threshold is None else threshold / 255)
        except ground.NoFigureError as error:
            raise _refusal(path, threshold, error) from error
        if grey is None and threshold is None:
            small = side <= 32 and _soft_share(reading.coverage) > 0.25
            grey = small or reading.greys > ground.MANY_GREYS
    if grey:
        if np.ptp(shade) * 255 < 1:
            raise InputError(f"{path} has one colour alone; draw something on it in another")
        coverage, hints, page = _resized(shade, size, smooth=True), [], False
        if float(coverage.max()) < 0.5:  # nothing would be on
            coverage = coverage / float(coverage.max())
        said = f"{path}: a picture with greys, fitted with them"
        said += "" if asked else "; --no-grey fits black and white"
        return Target(coverage, True, said, hints, page)
    assert reading is not None
    if invert:
        reading = ground.swapped(reading)
    coverage = reading.coverage
    two = not ((coverage > 0) & (coverage < 1)).any()
    least = max(0.3 if jpeg else 0.08, 4 * reading.noise)
    if side <= size and not two:
        coverage = whole_lines(coverage, least)
    coverage = _resized(coverage, size, smooth=side < size and not two)
    if side > size:
        least = max(0.3 if jpeg else 0.08, 4 * reading.noise * size / side)
        coverage = whole_lines(coverage, least).astype(np.float32)
    if not (coverage >= 0.5).any():
        larger = f"give --size {min(side, 4096)}" if side > size else "draw it bolder"
        raise InputError(f"at {size} pixels nothing is left of the figure in {path}: {larger}")
    border = ground.border(reading.coverage) >= 0.5
    page = reading.rule == "levels" and float(border.mean()) > 0.9
    said = _described(path, reading, invert, page, threshold)
    hints = [*_hints(reading, size), *_doubts(reading, threshold)]
    return Target(coverage, False, said, [f"{path}{hint}" for hint in hints], page)


# --- From a file ---


def _decoded(path: Path, side: int) -> tuple["np.ndarray", "np.ndarray | None", bool]:
    """A picture's colours (H, W, 3), its opacity (H, W) or None, and whether it is a JPEG.

    Numbers are from 0 to 1. Its longer side is reduced by a whole factor to at most `side` pixels.
    Of an animation it is the first frame; colour profiles are ignored.
    """
    import numpy as np
    from PIL import Image, ImageOps

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is LARGEST
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            if max(width, height) > LARGEST:
                size = f"{width} × {height}"
                raise InputError(
                    f"{path} has {size} pixels; make it smaller: at most {LARGEST} a side"
                )
            jpeg = opened.format == "JPEG"
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            width, height = opened.size
            k = -(-max(width, height) // side)
            rows = k * max(1, (1 << 22) // (width * k))
            # in strips, so that a large picture is in memory only once
            tops = range(0, height, rows)
            strips = [
                _channels(opened.crop((0, top, width, min(top + rows, height))), k) for top in tops
            ]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file
        words = one_line(error)
        if "cannot identify" in words:
            words = "its format is not one of " + ", ".join(FORMATS)
        raise InputError(
            f"{path} cannot be read as a picture ({words}); save it again as a PNG"
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    pixels = np.concatenate(strips)
    if pixels.shape[2] == 1:  # deep: what it can hold says little about what counts as white
        most = float(pixels.max())
        whole = bool((pixels == pixels.round()).all())
        white = 255.0 if 1 < most <= 255 and whole else most or 1.0
        return np.repeat(pixels / white, 3, axis=2), None, jpeg
    return pixels[..., :3], pixels[..., 3] if pixels.shape[2] == 4 else None, jpeg


def _channels(strip: "Image", k: int) -> "np.ndarray":
    """A strip, each side reduced by k, as numbers: (H, W, 3 or 4), of a deep picture (H, W, 1)."""
    import numpy as np
    from PIL import Image

    if strip.mode.startswith("I") or strip.mode == "F":
        deep = np.nan_to_num(np.asarray(strip, dtype=np.float32), posinf=0.0, neginf=0.0)
        deep = Image.fromarray(deep.clip(min=0))
        return np.asarray(deep.reduce(k) if k > 1 else deep, dtype=float)[..., None]
    strip = strip.convert("RGBA" if strip.has_transparency_data else "RGB")
    return np.asarray(strip.reduce(k) if k > 1 else strip, dtype=float) / 255


def _brightness(colours: "np.ndarray", alpha: "np.ndarray | None", invert: bool) -> "np.ndarray":
    """Brightness (H, W) on black; with `invert`, darkness on white."""
    from diff_ifs.files.ground import LUMA

    shade = (1 - colours if invert else colours) @ LUMA
    return shade if alpha is None else shade * alpha


def _soft_share(coverage: "np.ndarray") -> float:
    """How much of the light Σ c lies in greys: Σ 4 c (1 − c) / Σ c."""
    return float((4 * coverage * (1 - coverage)).sum() / coverage.sum())


def _resized(coverage: "np.ndarray", size: int, smooth: bool) -> "np.ndarray":
    """Coverage (H, W), centred on an empty square of its longer side, at (size, size) pixels."""
    import numpy as np
    from PIL import Image

    height, width = coverage.shape
    side = max(height, width)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = (coverage * 255).round()
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.BOX
    return np.asarray(Image.fromarray(square).resize((size, size), kind), dtype=np.float32) / 255


# --- What there is to say ---


def _refusal(path: Path, threshold: int | None, error: Exception) -> InputError:
    seen, *span = error.args
    if span:
        low, high = span
        return InputError(
            f"--threshold {threshold} of {path} {seen}; give one from {low} to {high}"
        )
    advice = "--grey fits it as it is" if "noise" in seen else "draw something on it in another"
    return InputError(f"{path} {seen}; {advice}")


def _described(
    path: Path, reading: "Reading", invert: bool, page: bool, threshold: int | None
) -> str:
    """What was read, in one line."""
    figure, ground = (_named(colours) for colours in (reading.figure, reading.ground[None]))
    cut = "" if threshold is None else f", parted at {threshold} of 255"
    swap = " (--invert)" if invert else ""
    if reading.rule == "transparency":
        part = "transparent" if invert else "opaque"
        return f"{path}: the {part} part{swap} is the figure{cut}"
    if reading.rule == "colour":
        if invert:
            return f"{path}: the {figure} ground around what is {ground}{swap}{cut}"
        return f"{path}: {_with_article(figure)} figure on {ground}{cut}"
    tones = [float(colour.mean()) for colour in (reading.figure[0], reading.ground)]
    bright, dark = max(tones), min(tones)
    levels = f"two levels, {dark * 255:.0f} and {bright * 255:.0f} of 255{cut}"
    words = ("dark", "light") if invert else ("light", "dark")
    if page:
        remedy = "--no-invert" if invert else "--invert"
        what = "ground" if invert else "page"
        return (
            f"{path}: {_with_article(words[1])} figure on a {words[0]} {what}, and the {what} is "
            f"fitted: {remedy} fits the figure; {levels}"
        )
    return f"{path}: {_with_article(words[0])} figure on a {words[1]} ground{swap}; {levels}"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeio' else 'a'} {word}"


def _named(colours: "np.ndarray") -> str:
    """The name of a colour (1, 3); of several: many-coloured."""
    import colorsys

    if len(colours) != 1:
        return "many-coloured"
    hue, lightness, _ = colorsys.rgb_to_hls(*map(float, colours[0]))
    chroma = float(colours[0].max() - colours[0].min())
    if chroma < 0.12:
        return "black" if lightness < 0.2 else "white" if lightness > 0.85 else "grey"
    greens, blues = ("green",) * 3, ("cyan", "blue", "blue")
    names = ("red", "orange", "yellow", *greens, *blues, "purple", "pink", "pink")
    return names[math.floor(12 * hue + 0.5) % 12]


def _doubts(reading: "Reading", threshold: int | None) -> list[str]:
    if threshold is not None or (reading.sure and reading.greys < 0.02):
        return []
    return [
        f" is read with some doubt: --threshold T settles it, as {reading.cut * 255:.0f} does here"
    ]


def _hints(reading: "Reading", size: int) -> list[str]:
    """What a picture has that a fit will suffer from."""
    on = reading.coverage >= 0.5
    height, width = on.shape
    hints = []
    least = round(size * min(height, width) / max(height, width))
    if least < size / 6:
        lines = "rows" if height < width else "columns"
        larger = f", or give --size {min(4 * size, 4096)}" if size < 4096 else ""
        hints.append(
            f" leaves the fit {least} of {size} {lines}: cut off what is beside the figure{larger}"
        )
    if _framed(on) or (reading.rule != "transparency" and _framed(~on) and on.mean() > 0.5):
        hints.append(" has a thin frame all around, which is fitted with it: cut it off")
    return hints


def _framed(on: "np.ndarray") -> bool:
    """Whether a line, thin and all around, lies along the edges of pixels (H, W)."""
    shorter = min(on.shape)
    shares = []
    for k in range(shorter // 7):
        ring = on[k : on.shape[0] - k, k : on.shape[1] - k]
        edges = (ring[0], ring[-1], ring[1:-1, 0], ring[1:-1, -1])
        total = sum(int(edge.sum()) for edge in edges)
        shares.append(total / sum(edge.size for edge in edges))
    thick = max(2, shorter // 40)
    full = [share > 0.95 for share in shares]
    return any(
        full[k] and any(share < 0.05 for share in shares[k + 1 : k + 1 + thick])
        for k in range(len(full))
    )
