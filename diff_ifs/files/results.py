"""What a run leaves: pictures and numbers, frames, films, plots and traces."""

import csv
import importlib.util
import io
import itertools
import math
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.errors import InputError
from diff_ifs.files.disk import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

# colours of a difference
MISSING, EXTRA, BOTH, NEITHER = (
    (56, 132, 255),
    (255, 122, 26),
    (244, 244, 240),
    (10, 12, 20),
)
# of differences, by 2 have + want, and of the edges of letters
PALETTE = [NEITHER, MISSING, EXTRA, BOTH] + [
    tuple(round(a + (b - a) * k / 16) for a, b in zip(NEITHER, colour, strict=True))
    for colour in (MISSING, EXTRA, BOTH)
    for k in range(1, 16)
]
STRIP = 26  # height in pixels of the caption under a frame


def save_picture(path: Path, picture: "np.ndarray | Image") -> None:
    """Write an 8- or 16-bit array (S, S), (S, S, 3) or (S, S, 4), or a Pillow picture, as PNG."""
    from PIL import Image

    image, content = (
        picture if isinstance(picture, Image.Image) else Image.fromarray(picture),
        io.BytesIO(),
    )
    image.save(content, format="PNG")
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def save_rows(path: Path, strips: "Iterator[np.ndarray]", size: int) -> bool:
    """Write a picture that comes as strips (H, S, C) from the top, 8 or 16 bits, as PNG; say if
    anything is in it.

    Only one strip is held at a time. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Pillow
    has neither pictures that stream nor 16 bits in colour. Each row is stored as its difference
    from the one above (W3C, PNG, filter 2).
    """
    import numpy as np

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        )

    lit, above, squeeze = False, None, zlib.compressobj(5)
    with atomic_write(path) as file:
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
                part = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(">"))).view(
                    np.uint8
                )
                part = part.reshape(-1, above.shape[1])
                coded = np.full((len(part), 1 + above.shape[1]), 2, dtype=np.uint8)
                np.subtract(part[:1], above, out=coded[:1, 1:])
                np.subtract(part[1:], part[:-1], out=coded[1:, 1:])
                above = part[-1:].copy()
                file.write(chunk(b"IDAT", squeeze.compress(coded)))
        file.write(chunk(b"IDAT", squeeze.flush()) + chunk(b"IEND", b""))
    return lit


def save_array(path: Path, strips: "Iterator[Tensor]", size: int) -> None:
    """Write numbers that come as strips (H, S) or (4, H, S) from the top as a .npy file, (S, S) or
    (S, S, 4).

    Raises InputError if the disk has no room for it.
    """
    import numpy as np

    begun = False
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        for strip in strips:
            values = strip.cpu().numpy()
            values = values if values.ndim == 2 else values.transpose(1, 2, 0)
            shape = (size, size, *values.shape[2:])
            if not begun:
                needed, free = (
                    values.itemsize * int(np.prod(shape, dtype=object)),
                    shutil.disk_usage(path.parent).free,
                )
                if needed > free:
                    raise InputError(
                        f"{path} would take {needed / 2**30:.1f} GiB, and the disk has "
                        f"{free / 2**30:.1f} left"
                    )
                layout = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, layout)
                begun = True
            file.write(np.ascontiguousarray(values).data)


def difference_frame(picture: "Tensor", target: "Tensor", caption: str) -> "Image":
    """What a fit misses (blue), has too much (orange) and shares (white) with its target, with a
    line of text below."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    have, want = (picture >= 0.5).numpy(), (target >= 0.5).numpy()
    pixels = Image.fromarray((2 * have + want).astype(np.uint8))
    zoom = max(1, round(512 / pixels.width))
    width, height = pixels.width * zoom, pixels.height * zoom
    pixels = pixels.resize((width, height), Image.Resampling.NEAREST)
    line = Image.new("RGB", (width, STRIP), NEITHER)
    pen, font = ImageDraw.Draw(line), ImageFont.load_default(size=14)
    pen.text((8, 4), caption, fill=BOTH, font=font)
    right = width - 8
    for word, colour in (("too much", EXTRA), ("missing", MISSING)):
        right -= pen.textlength(word, font=font)
        pen.text((right, 4), word, fill=colour, font=font)
        right -= 14
    # as indices, which films and files take as they are: to find 256 of all colours takes longer
    frame = Image.new("P", (width, height + STRIP))
    frame.putpalette([part for colour in PALETTE for part in colour])
    pixels.putpalette(frame.getpalette())
    frame.paste(pixels)
    frame.paste(line.quantize(palette=frame, dither=Image.Dither.NONE), (0, height))
    return frame


def save_film(path: Path, frames: list["Image"], seconds: float = 4.0, pause: float = 2.0) -> None:
    """Write frames as a film: `seconds` of motion, then a pause on the last frame.

    An endless GIF, or an MP4 if `path` ends in .mp4. Raises InputError where imageio-ffmpeg, which
    makes these, is not installed.
    """
    if path.suffix == ".mp4":
        import imageio.v3 as imageio
        import numpy as np

        if not can_film():
            raise InputError(
                "an MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or give --out a name in "
                ".gif"
            )
        rate = max(1.0, len(frames) / seconds)
        width, height = frames[0].size
        # a video has no odd sides: a black line is added
        even = 0, 0, width + width % 2, height + height % 2
        arrays = [
            np.asarray(frame.convert("RGB").crop(even))
            for frame in [*frames, *frames[-1:] * round(rate * pause)]
        ]
        film = imageio.imwrite(
            "<bytes>", arrays, extension=".mp4", plugin="FFMPEG", fps=rate, macro_block_size=2
        )
    else:
        durations = [max(40, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [
            round(1000 * pause)
        ]
        content = io.BytesIO()
        frames[0].save(
            content,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=durations if len(frames) > 1 else durations[0],  # Pillow takes no list for one
            loop=0,
            optimize=True,
        )
        film = content.getvalue()
    with atomic_write(path) as file:
        file.write(film)


def can_film() -> bool:
    """Whether MP4 can be written."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def contact_sheet(frames: list["Image"], captions: list[str]) -> "Image":
    """Frames of one size side by side, about as many in a row as there are rows, each with a line
    of text below."""
    from PIL import Image, ImageDraw, ImageFont

    across = math.ceil(math.sqrt(len(frames)))
    width, height, gap = frames[0].width, frames[0].height + STRIP, 8
    down = math.ceil(len(frames) / across)
    sheet = Image.new(
        "RGB", (across * (width + gap) + gap, down * (height + gap) + gap), (60, 64, 72)
    )
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
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def save_plot(path: Path, name: str, rows: list[dict]) -> None:
    """Draw loss and IoU over the steps of a trace."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5))
    place = {"left": 0.12, "right": 0.97, "top": 0.93, "bottom": 0.1, "hspace": 0.12}
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw=place)
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
    with atomic_write(path) as file:
        file.write(content.getbuffer())
