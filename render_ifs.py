"""Draw a fitted fractal: python render_ifs.py NAME RECURSION RESOLUTION draws NAME.pt after RECURSION levels.

It writes results/NAME/NAME_render_RECURSION_RESOLUTION.png, a picture of RESOLUTION × RESOLUTION pixels.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ifs_files
from ifs_files import InputError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 16384  # pixels a side


def parser() -> argparse.ArgumentParser:
    parse = ifs_files.Parser(prog="render_ifs.py", description=__doc__.splitlines()[0])
    add = parse.add_argument
    add(
        "name",
        metavar="NAME",
        help="the fractal: NAME for NAME.pt, as train_ifs.py writes it, or a file .ifs, .json or .flame",
    )
    add("recursion", metavar="RECURSION", help="levels of recursion, from 1; beyond about 30 nothing changes any more")
    add("resolution", metavar="RESOLUTION", help=f"side of the picture in pixels, from 1 to {LARGEST}")
    add("--kind", choices=("occupancy", "density", "distance"), default="occupancy",
        help="occupancy: the fractal with smooth edges (default); density: its measure, on a logarithmic scale; "
        "distance: how far each pixel is from it")  # fmt: skip
    add("--window", type=float, nargs=4, metavar=("XMIN", "XMAX", "YMIN", "YMAX"),
        help="the square of the world to draw (default: that of the checkpoint, -1 1 -1 1)")  # fmt: skip
    add("--stroke", type=float, metavar="R", help="radius of the pen in world units (default: that of the checkpoint)")
    add(
        "--supersample", type=int, metavar="N", help="sub-pixels a side that smooth the edges (default 4 to 1, by size)"
    )
    add("--out", type=Path, metavar="FILE", help="the PNG to write (default: in results/NAME)")
    add("--device", metavar="DEV", help="cuda or cpu (default: the best that is there)")
    add("--quiet", action="store_true", help="no progress bar")
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with ifs_files.enough_memory("lower RESOLUTION or --supersample"):
            render(arguments)
    except InputError as error:
        print(f"render_ifs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def render(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    name = arguments.name
    recursion = whole_number("RECURSION", arguments.recursion, 1_000_000)
    size = whole_number("RESOLUTION", arguments.resolution, LARGEST)
    supersample = arguments.supersample
    if supersample is None:
        supersample = 4 if size <= 1024 else 2 if size <= 4096 else 1
    elif not (1 <= supersample <= 16 and size * supersample <= LARGEST):
        raise InputError(f"--supersample must be from 1 to {min(16, LARGEST // size)} at {size} pixels")
    coded = Path(name).suffix in (".ifs", ".json", ".flame")
    path = Path(name) if coded else ifs_files.find_checkpoint(name)
    name = path.stem
    if not coded:
        ifs_files.check_archive(path)
    ifs_files.check_device(arguments.device)

    device = ifs_files.pick_device(arguments.device)
    if coded:
        import ifs_codec

        checkpoint = ifs_codec.load(path)
    else:
        checkpoint = ifs_files.load_checkpoint(path)
    window = check_window(arguments.window) if arguments.window else tuple(checkpoint["window"])
    stroke = checkpoint["stroke"] if arguments.stroke is None else arguments.stroke
    if not 0 <= stroke <= window[1] - window[0]:
        raise InputError(f"a stroke of {stroke} does not fit the window; give --stroke R with R from 0 to its width")
    maps = checkpoint["maps"].double().to("cpu" if device == "mps" else device)  # mps has no float64

    out = arguments.out or Path("results", name, f"{name}_render_{recursion}_{size}.png")
    with ifs_files.point_bar(name, arguments.quiet) as progress:
        pixels = draw(arguments.kind, maps, window, size, recursion, stroke, supersample, progress)
    ifs_files.save_picture(out, pixels.cpu().numpy())
    print(f"{name}: {arguments.kind}, {size} × {size}, {time.perf_counter() - began:.1f} s -> {out}")


def draw(
    kind, maps: "Tensor", window, size: int, recursion: int, stroke: float, supersample: int, progress
) -> "Tensor":
    """The picture (S, S) of a system as 8-bit grey."""
    import ifs_raster

    if kind == "occupancy":
        picture = ifs_raster.occupancy(maps, window, size, recursion, stroke, supersample, progress)
    elif kind == "density":
        mass = ifs_raster.density(maps, window, size, recursion, progress)
        typical = mass[mass > 0].median() if (mass > 0).any() else 1.0
        picture = (mass / typical).log1p()
        picture = picture / picture.max().clamp(min=1e-12)
    else:
        near = (ifs_raster.distance(maps, window, size, recursion, progress=progress) - stroke).clamp(min=0)
        picture = near / near.max() if near.isfinite().all() and near.max() > 0 else near.isfinite().logical_not()
    return (picture * 255).round().byte()


def whole_number(what: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= most and len(text) <= 12):
        raise InputError(f"{what} must be a whole number from 1 to {most}, not {text!r}")
    return int(text)


def check_window(window: list[float]) -> tuple[float, ...]:
    width, height = window[1] - window[0], window[3] - window[2]
    if not (1e-12 < width < 1e6 and abs(width - height) <= 1e-9 * width):
        raise InputError(
            "--window XMIN XMAX YMIN YMAX must be a square with XMIN < XMAX and YMIN < YMAX, as in -1 0 -1 0"
        )
    return tuple(window)


if __name__ == "__main__":
    ifs_files.run(main)
