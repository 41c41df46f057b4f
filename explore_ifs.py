"""Look at a fractal, and draw with it: python explore_ifs.py NAME writes results/NAME/NAME.html.

The page is one file that needs no network: a browser shows it, zooms, and changes the maps by hand.
"""

import argparse
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import ifs_files
from ifs_files import InputError

if TYPE_CHECKING:
    import numpy as np

    from render_ifs import System


def parser() -> argparse.ArgumentParser:
    parse = ifs_files.Parser(prog="explore_ifs.py", description=__doc__)
    add = parse.add_argument
    add("name", metavar="NAME",
        help="the fractal: NAME for NAME.pt, as train_ifs.py writes it, or a file of another kind")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="the page to write (default: results/NAME/NAME.html)")
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with ifs_files.enough_room("close other programs"):
            print(explore(arguments))
    except InputError as error:
        print(f"explore_ifs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def explore(arguments: argparse.Namespace) -> str:
    """Write the page; what is said of it in the end."""
    from render_ifs import load_system

    system = load_system(arguments.name)
    name = system.path.stem if ifs_files.coded(arguments.name) else arguments.name
    out = arguments.out or Path("results", name, f"{name}.html")
    if out.suffix not in (".html", ".htm"):
        raise InputError(f"--out must end in .html here, not {out.name!r}")
    ifs_files.check_place(out)

    from diff_ifs.page import page

    text = page(name, system.checkpoint, find_target(name, system), way_of(system)).encode()
    try:
        with ifs_files.whole_file(out) as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    return f"{name}: {len(system.maps)} maps, {len(text) / 1000:.0f} kB -> {out.resolve().as_uri()}"


def find_target(name: str, system: "System") -> "np.ndarray | None":
    """The picture (S, S) that a system was fitted to, where it is still there."""
    from ifs_checkpoint import fingerprint

    fitted = system.checkpoint.get("target")
    for invert in (False, True):
        try:
            source = ifs_files.find_picture(name)
            with redirect_stderr(io.StringIO()):  # advice that is for those who fit
                picture = ifs_files.read_picture(source, invert)
            pixels = ifs_files.pixels(ifs_files.scaled(picture, source, system.checkpoint["size"]))
        except InputError:
            continue
        if fitted is None or fingerprint(pixels) == fitted:
            return pixels
    return None


def way_of(system: "System") -> "tuple[list[int], np.ndarray, list[float]] | None":
    """The way of the fit that a system came from, where the file holds one."""
    if "path" not in system.checkpoint:
        return None
    from ifs_checkpoint import load_path

    return load_path(system.path, system.checkpoint)


if __name__ == "__main__":
    ifs_files.run(main)
