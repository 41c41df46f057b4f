"""Target pictures, read from disk."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.errors import InputError, one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

LARGEST = 20_000  # pixels along the longer side of a target
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")  # Pillow knows others, some of which start programs


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
        raise InputError(f"{path} cannot be read as a picture ({one_line(words)}); save it again as a PNG") from error
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
