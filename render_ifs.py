"""Draw a fitted fractal: python render_ifs.py NAME RECURSION RESOLUTION draws NAME.pt after
RECURSION levels.

It writes results/NAME/NAME_render_RECURSION_RESOLUTION.png, a picture of RESOLUTION × RESOLUTION
pixels. With --frames, --sweep or --morph it writes a film.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from diff_ifs.errors import InputError
from diff_ifs.files.command import (
    Parser,
    check_place,
    memory_errors_as_input_errors,
    point_bar,
    run_script,
)
from diff_ifs.files.request import (
    WHOLE,
    check_chain,
    check_colours,
    check_film,
    check_options,
    check_sharp,
    check_stroke,
    check_window,
    whole_number,
)
from diff_ifs.files.results import (
    contact_sheet,
    save_array,
    save_film,
    save_picture,
    save_rows,
)
from diff_ifs.files.system import CHAINED, System, is_system_file, load_system
from diff_ifs.setup import stretch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diff_ifs.draw.geometry import View
    from diff_ifs.draw.picture import Drawing

LARGEST = 2**31 - 1  # pixels a side: what the PNG format can hold
MORPHED = 60  # frames of a film from one fractal to another
FIGURES = ("segment", "square", "hull", "point")


def parser() -> argparse.ArgumentParser:
    parse = Parser(prog="render_ifs.py", description=__doc__)
    add = parse.add_argument
    add("name", metavar="NAME",
        help="the fractal: NAME for NAME.pt, as train_ifs.py writes it, or a file .ifs (ours, or "
             "Fractint's), .csv, "
        ".json or .flame")  # fmt: skip
    add(
        "recursion",
        metavar="RECURSION",
        help="levels of recursion, from 0; beyond about 30 nothing changes any more",
    )
    add("resolution", metavar="RESOLUTION", help="side of the picture in pixels")
    add = parse.add_argument_group("what is drawn").add_argument
    add(
        "--kind",
        choices=("occupancy", "density", "distance", "grey"),
        help="occupancy: the fractal with smooth edges (default); density: its measure, on a "
        "logarithmic scale; "
        "distance: how far each pixel is from it; grey: what was fitted to a grey picture",
    )
    add("--figure", choices=FIGURES,
        help="what level 0 is: the fractal's longest diameter, the checkpoint's window, the "
             "fractal's convex hull or "
        "its centre of mass (default: the fixed points of its maps)")  # fmt: skip
    add("--window", type=float, nargs=4, metavar=("XMIN", "XMAX", "YMIN", "YMAX"),
        help="the square of the world to draw (default: that of the checkpoint or the file, -1 1 "
             "-1 1; where there "
        "is none, what the fractal fills, with a margin)")  # fmt: skip
    add("--zoom-at", type=float, nargs=3, metavar=("X", "Y", "FACTOR"),
        help="draw the window around (X, Y) that is FACTOR times smaller; a pen keeps its width "
             "in pixels")  # fmt: skip
    add(
        "--stroke",
        type=float,
        metavar="R",
        help="radius of the pen in world units (default: that of the checkpoint)",
    )
    add("--supersample", type=int, metavar="N",
        help="sub-pixels a side that smooth the edges of --kind occupancy (default 4 to 1, by "
             "size)")  # fmt: skip
    add(
        "--flame",
        metavar="N",
        help="which of the flames in a .flame file: its number, from 1, or name (default: 1)",
    )
    add(
        "--entry",
        metavar="NAME",
        help="which of the entries in an .ifs file of Fractint (default: the first)",
    )
    add = parse.add_argument_group("how it is shown").add_argument
    add(
        "--color",
        choices=("map", "address", "none"),
        default="none",
        help="colour by the map a point comes from, or by its whole address (default none)",
    )
    add(
        "--cmap",
        metavar="NAME",
        help="colour map of matplotlib; without --color it colours the values themselves",
    )
    add(
        "--gamma",
        type=float,
        metavar="G",
        help="show values to the power 1/G (default 1)",
        default=1.0,
    )
    add("--bits", type=int, choices=(8, 16), default=8, help="bits a channel (default 8)")
    add(
        "--transparent",
        action="store_true",
        help="let the background be transparent instead of black",
    )
    add = parse.add_argument_group("films").add_argument
    add(
        "--frames",
        type=int,
        metavar="N",
        help="a film of N frames that zooms in to --zoom-at, or of --morph",
    )
    add("--sweep", choices=("levels", "fit"),
        help="levels: a film of the levels 0 to RECURSION; fit: one of the fit, from its first "
             "maps to its last; "
        "--out FILE.png makes either a contact sheet")  # fmt: skip
    add(
        "--morph",
        metavar="B",
        help="a film from this fractal to B, a NAME or a file, in --frames frames (default 60)",
    )
    add = parse.add_argument_group("the run").add_argument
    add("--out", type=Path, metavar="FILE",
        help="the file to write: .png, .npy for the bare numbers, .gif or .mp4 (default: in "
             "results/NAME)")  # fmt: skip
    add(
        "--memory",
        type=float,
        metavar="GIB",
        default=2.0,
        help="memory to stay under, in GiB (default 2)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with memory_errors_as_input_errors("lower RESOLUTION or --supersample"):
            render(arguments)
    except InputError as error:
        print(f"render_ifs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def render(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    name = Path(arguments.name).stem if is_system_file(arguments.name) else arguments.name
    film = bool(arguments.frames is not None or arguments.sweep or arguments.morph)
    recursion = whole_number("RECURSION", arguments.recursion, 0, 1_000_000)
    size = whole_number("RESOLUTION", arguments.resolution, 1, LARGEST)
    chosen = (
        arguments.kind or arguments.figure or arguments.supersample or arguments.color != "none"
    )
    arguments.kind = arguments.kind or "occupancy"
    supersample = check_options(arguments, size, film)
    out = arguments.out or Path("results", name, default_name(arguments, name, recursion, size))
    if out.suffix not in ((".gif", ".mp4", ".png") if film else (".png", ".npy")):
        raise InputError(
            f"--out must end in {'.gif, .mp4 or .png' if film else '.png or .npy'} here, not "
            f"{out.name!r}"
        )
    system = load_system(arguments.name, arguments.flame, arguments.entry)
    check_place(out)
    for note in system.notes:
        print(note, file=sys.stderr)
    chain = system.measure if arguments.kind == "density" else system.picture
    if chain is not None:
        check_chain(arguments, system, recursion)
    exposure = system.checkpoint.get("exposure")
    seen_grey = type(exposure) is float and 0 < exposure <= 1e6
    if arguments.kind == "grey" and not seen_grey:
        raise InputError(
            f"{system.path} is not the fit of a grey picture; leave out --kind grey, or fit it "
            "again"
        )
    if seen_grey and not (chosen or arguments.morph):
        arguments.kind, supersample = "grey", 1
    window = check_window(tuple(arguments.window or system.window), size * supersample)
    if arguments.zoom_at:
        x, y, factor = arguments.zoom_at
        zoomed_width = (window[1] - window[0]) / factor
        check_sharp(max(abs(x), abs(y), zoomed_width / 2), zoomed_width, size * supersample)
    if arguments.cmap is not None:
        check_colours(arguments.cmap)
    stroke = system.stroke if arguments.stroke is None else arguments.stroke
    check_stroke(stroke, window[1] - window[0])
    way = None
    if arguments.sweep == "fit":
        from diff_ifs.files.checkpoint import load_path

        way = load_path(system.path, system.checkpoint)
    aim = load_system(arguments.morph) if arguments.morph else None
    for each in (system, aim) if aim else ():
        rules = each.measure if arguments.kind == "density" else each.picture
        if rules is not None or max(map(stretch, each.maps.tolist())) >= 1:
            raise InputError(
                f"{each.path} has {CHAINED}, weights that hang on what came before, or maps that "
                "stretch the plane: --morph cannot follow these"
            )
    if aim and arguments.window is None:
        check_window(aim.window, size * supersample)
    if film:
        frames = (
            len(way[0]) + 1
            if way
            else recursion + 1
            if arguments.sweep
            else arguments.frames or MORPHED
        )
        check_film(frames, size, arguments.memory)

    import torch  # here, because what can be refused is refused by now

    from diff_ifs.draw.geometry import View
    from diff_ifs.draw.picture import SOFT, Drawing, Style

    maps = torch.from_numpy(system.maps).double()
    shown = arguments.color, arguments.cmap, arguments.gamma, arguments.bits, arguments.transparent
    view = View(window, size, recursion, stroke, supersample, arguments.figure, system.window)
    weights = None if system.weights is None else torch.from_numpy(system.weights)
    view = replace(view, weights=weights, chain=chain)
    if arguments.kind == "grey":
        whole = system.window[1] - system.window[0]
        view = replace(view, exposure=exposure, soft=SOFT * whole / system.checkpoint["size"])
    if arguments.zoom_at:
        if chain is None:
            arguments.zoom_at = aimed(maps, view, *arguments.zoom_at)
        if arguments.frames is None:
            view = zoomed(view, *arguments.zoom_at, 1.0)
    if arguments.figure is None and not film and recursion >= WHOLE and chain is None:
        warn_if_short(maps, view, system)
    try:
        with one_thread(), point_bar(name, arguments.quiet) as progress:
            style, memory = Style(arguments.kind, *shown), round(arguments.memory * 2**30)
            drawing = Drawing(maps, view, style, memory, progress)
            if film:
                make_film(arguments, way, aim, drawing, out)
            elif out.suffix == ".npy":
                save_array(out, drawing.strips(), size)
            elif not save_rows(out, drawing.rows(), size):
                print("nothing of the fractal lies in this window", file=sys.stderr)
    except MemoryError as error:
        raise InputError(
            f"{arguments.memory:g} GiB are too little ({error}); give --memory GIB or a lower "
            "RESOLUTION"
        ) from error
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    sides = f"{size} × {size}"
    if out.suffix == ".mp4" and size % 2:
        sides += f" ({size + 1} × {size + 1} in an MP4, whose sides are even)"
    print(f"{name}: {arguments.kind}, {sides}, {time.perf_counter() - began:.1f} s -> {out}")


def warn_if_short(maps: "Tensor", view: "View", system: System) -> None:
    """Say so where the level that is drawn falls visibly short of the attractor, as that of slow
    maps may."""
    from diff_ifs.draw.coverage import missing_fraction
    from diff_ifs.formats.contraction import contraction

    slowest = contraction(system.maps)
    enough = math.ceil(math.log(view.size) / -math.log(max(slowest, 1e-9)))
    if (
        enough > view.recursion
        and (part := missing_fraction(maps, system.window, view.recursion)) > 0.002
    ):
        print(
            f"level {view.recursion} lacks {part:.1%} of the attractor, because its maps shrink "
            f"by {slowest:.3f} only; "
            f"RECURSION {enough} draws all of it",
            file=sys.stderr,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: steps are short, and where other programs run, threads would wait for
    each other.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make_film(
    arguments: argparse.Namespace,
    way: "tuple[list[int], np.ndarray, list[float]] | None",
    aim: System | None,
    drawing: "Drawing",
    out: Path,
) -> None:
    """Write a film or a contact sheet: of a zoom, of the levels, of a fit, or of a way to another
    system.

    The way of a fit ends with the drawing; the way to another system begins with it.
    """
    view, scenes = drawing.view, []
    if arguments.sweep == "levels":
        levels = range(view.recursion + 1)
        scenes = [(f"level {k}", replace(drawing, view=replace(view, recursion=k))) for k in levels]
    elif way:
        for step, maps, stroke in zip(*way, strict=True):
            pen = stroke if arguments.stroke is None else arguments.stroke
            then = replace(
                drawing, maps=drawing.maps.new_tensor(maps), view=replace(view, stroke=pen)
            )
            scenes.append((f"step {step}", then))
        scenes.append(("best", drawing))
    elif aim:
        scenes = morphed(arguments, aim, drawing)
    else:
        for k in range(arguments.frames):
            share = k / max(1, arguments.frames - 1)
            at = zoomed(view, *arguments.zoom_at, share)
            scenes.append((f"zoom {arguments.zoom_at[2] ** share:.3g}", replace(drawing, view=at)))
    frames = [scene.image() for _, scene in scenes]
    if out.suffix == ".png":
        save_picture(out, contact_sheet(frames, [caption for caption, _ in scenes]))
    elif arguments.frames or aim:  # four seconds, but never so slow that it is a slide show
        save_film(out, frames, seconds=len(frames) / min(max(len(frames) / 4, 10), 25))
    else:
        save_film(out, frames, seconds=min(max(4.0, 0.5 * len(frames)), 30.0))


def morphed(
    arguments: argparse.Namespace, aim: System, begin: "Drawing"
) -> "list[tuple[str, Drawing]]":
    """The scenes of a film from a system to another, slow at both ends, with window, pen and
    measure on their way too.
    """
    import numpy as np
    import torch

    from diff_ifs.draw.figures import hull
    from diff_ifs.draw.morph import between, matched, outermost
    from ifs_model import area_weights

    maps, view = begin.maps, begin.view
    systems = maps.numpy(), aim.maps.astype(float)
    hulls = tuple(outermost(hull(maps.new_tensor(system)).numpy()) for system in systems)
    pairs = matched(*systems, hulls)
    ends = [system[pairs[:, k]] for k, system in enumerate(systems)]
    given = view.weights, None if aim.weights is None else torch.from_numpy(aim.weights)
    shares = []  # of the measure; a map with several partners has it shared among them
    for system, weights, owner in zip(systems, given, pairs.T, strict=True):
        weights = area_weights(maps.new_tensor(system)) if weights is None else weights
        shares.append((weights / weights.sum()).numpy()[owner] / np.bincount(owner)[owner])
    first, last = np.array(view.window), np.array(arguments.window or aim.window)
    stroke = aim.stroke if arguments.stroke is None else arguments.stroke
    scenes = []
    for share in np.linspace(0, 1, arguments.frames or MORPHED).tolist():
        part = share * share * (3 - 2 * share)
        middle = (1 - part) * hulls[0].mean(0) + part * hulls[1].mean(0)
        window = tuple(((1 - part) * first + part * last).tolist())
        pen = (1 - part) * view.stroke + part * stroke
        weights = maps.new_tensor((1 - part) * shares[0] + part * shares[1])
        at = replace(begin, maps=maps.new_tensor(between(*ends, middle, part)))
        there = replace(view, window=window, stroke=pen, weights=weights)
        scenes.append((f"{share:.0%}", replace(at, view=there)))
    return scenes


def default_name(arguments: argparse.Namespace, name: str, recursion: int, size: int) -> str:
    what = arguments.sweep or ("zoom" if arguments.frames is not None else "render")
    if arguments.morph:
        what = f"morph_{Path(arguments.morph).stem}"
    return f"{name}_{what}_{recursion}_{size}.{'png' if what == 'render' else 'gif'}"


def aimed(
    maps: "Tensor", view: "View", x: float, y: float, factor: float
) -> tuple[float, float, float]:
    """Where to zoom in: at (x, y), or at the fractal's nearest point if it is not seen there."""
    from diff_ifs.draw.geometry import nearest_point

    reach = (view.window[1] - view.window[0]) / 2 / factor
    u, v = nearest_point(maps, x, y)
    if max(abs(u - x), abs(v - y)) <= reach:
        return x, y, factor
    check_sharp(max(abs(u), abs(v)), 2 * reach, view.size * view.supersample)
    print(
        f"({x}, {y}) is off the fractal; zooming in at its nearest point: --zoom-at {u!r} {v!r} "
        f"{factor:g}",
        file=sys.stderr,
    )
    return u, v, factor


def zoomed(view: "View", x: float, y: float, factor: float, share: float) -> "View":
    """The view on its way from its own window (share 0) to that around (x, y) (share 1), its pen as
    wide in pixels.
    """
    xmin, xmax, ymin, ymax = view.window
    part = factor**-share
    # of the way that the centre has to go
    rest = (part - 1 / factor) / (1 - 1 / factor) if factor > 1 else 0.0
    middle = x + rest * ((xmin + xmax) / 2 - x), y + rest * ((ymin + ymax) / 2 - y)
    half = (xmax - xmin) / 2 * part
    window = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
    return replace(view, window=window, stroke=view.stroke * part)


def command() -> NoReturn:
    run_script(main)


if __name__ == "__main__":
    command()
