"""What a picture is asked for with, and what of it is refused before anything is drawn."""

import argparse
import math

from diff_ifs.errors import InputError
from diff_ifs.files.results import can_film
from diff_ifs.files.system import CHAINED, System

MOST_FRAMES = 1000
# a RECURSION from which on one means the attractor, not a level of its construction
WHOLE = 20
Window = tuple[float, float, float, float]


def whole_number(what: str, text: str, least: int, most: int) -> int:
    if not (
        text.isascii() and text.isdigit() and least <= int(text[:12]) <= most and len(text) <= 12
    ):
        raise InputError(f"{what} must be a whole number from {least} to {most}, not {text!r}")
    return int(text)


def check_options(arguments: argparse.Namespace, size: int, film: bool) -> int:
    """The sub-pixels a side. Raises InputError for options out of range or at odds."""
    supersample = arguments.supersample
    if arguments.kind != "occupancy":
        if supersample is not None:
            raise InputError("--supersample smooths edges, which only --kind occupancy has")
        supersample = 1
    elif supersample is None:
        supersample = 4 if size <= 1024 else 2 if size <= 4096 else 1
    elif not 1 <= supersample <= 16:
        raise InputError("--supersample must be from 1 to 16")
    if arguments.kind in ("density", "grey") and arguments.stroke is not None:
        raise InputError("--stroke is for --kind occupancy and distance")
    if arguments.kind in ("density", "grey") and arguments.figure:
        raise InputError(
            "--figure is for --kind occupancy and distance; a density starts from one point of mass"
        )
    if arguments.kind == "grey" and arguments.color != "none":
        raise InputError("--kind grey has no colours of maps; give --cmap NAME alone")
    if arguments.kind == "distance" and (arguments.color != "none" or arguments.transparent):
        raise InputError(
            "--kind distance has no points to colour and no background; give --cmap NAME alone"
        )
    if not 0.05 <= arguments.gamma <= 20:
        raise InputError("--gamma must be from 0.05 to 20")
    if not 0 < arguments.memory <= 1 << 20:
        raise InputError("--memory must be a positive number of GiB")
    if arguments.window and arguments.zoom_at:
        raise InputError("give either --window or --zoom-at")
    if arguments.zoom_at and not (
        all(map(math.isfinite, arguments.zoom_at)) and arguments.zoom_at[2] >= 1
    ):
        raise InputError("--zoom-at X Y FACTOR needs a FACTOR of 1 or more")
    if arguments.frames is not None:
        if not (arguments.zoom_at or arguments.morph) or arguments.sweep:
            raise InputError(
                "--frames N makes a film that zooms in: it needs --zoom-at X Y FACTOR or --morph "
                "B, and no --sweep"
            )
        if not 1 <= arguments.frames <= MOST_FRAMES:
            raise InputError(f"--frames must be from 1 to {MOST_FRAMES}")
    if arguments.morph and (arguments.sweep or arguments.zoom_at or arguments.kind == "grey"):
        raise InputError("--morph B goes without --sweep, --zoom-at and --kind grey")
    if film and arguments.bits != 8:
        raise InputError("films have 8 bits a channel: leave out --bits 16")
    if arguments.out and arguments.out.suffix == ".mp4" and not can_film():
        raise InputError(
            "an MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or give --out a name in .gif"
        )
    return supersample


def check_chain(arguments: argparse.Namespace, system: System, recursion: int) -> None:
    """Raise InputError for what is not drawn of a system some of whose words are not drawn, or not
    equally often."""
    reason = f"has {CHAINED}"
    if system.picture is None:
        reason = "has weights that hang on what came before, or symmetries"
    for option, given, tip in (
        ("--kind distance", arguments.kind == "distance", "leave it out"),
        ("--figure", arguments.figure, "leave it out"),
        ("--color", arguments.color != "none", "give --cmap NAME alone"),
        ("--sweep", arguments.sweep, "leave it out"),
        (f"RECURSION {recursion}", recursion < WHOLE, f"only as a whole: give {WHOLE}"),
    ):
        if given:
            raise InputError(f"{system.path} {reason}, and is not drawn with {option}; {tip}")


def check_window(window: Window, side: int) -> Window:
    """The window. Raises InputError unless it is a square with sub-pixels float64 tells apart."""
    width, height = window[1] - window[0], window[3] - window[2]
    if not (0 < width < 1e6 and abs(width - height) <= 1e-6 * width):
        raise InputError(
            "--window XMIN XMAX YMIN YMAX must be a square with XMIN < XMAX and YMIN < YMAX, as "
            "in -1 0 -1 0"
        )
    check_sharp(max(map(abs, window)), width, side)
    return window


def check_stroke(stroke: float, width: float) -> None:
    """Raise InputError for a pen that is wider than the window."""
    if not 0 <= stroke <= width:
        raise InputError(
            f"a stroke of {stroke} does not fit the window; give --stroke R with R from 0 to its "
            "width"
        )


def check_film(frames: int, size: int, memory: float) -> None:
    """Raise InputError for a film of more frames than so many GiB hold."""
    if frames > MOST_FRAMES or frames * size**2 * 6 > memory * 2**30:
        raise InputError(
            f"{frames} frames of {size} pixels are too much for one film; make it smaller"
        )


def check_colours(name: str) -> None:
    """Raise InputError for a colour map that matplotlib does not have."""
    import matplotlib

    if name not in matplotlib.colormaps:
        raise InputError(f"matplotlib has no colour map {name!r}; try viridis, magma or tab10")


def check_sharp(furthest: float, width: float, side: int) -> None:
    """Raise InputError unless float64 can tell the sub-pixels of a window apart that lies so far
    from the origin.
    """
    if furthest * side * 2**-50 > 0.25 * width:
        raise InputError(
            "so small a window at so high a resolution is beyond double precision; zoom in less"
        )
