"""Look at a fractal, and draw with it: python explore_ifs.py NAME writes results/NAME/NAME.html.

The page is one file that needs no network: a browser shows it, zooms, and changes the maps by hand.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from diff_ifs.errors import InputError
from diff_ifs.files.command import (
    Parser,
    check_place,
    memory_errors_as_input_errors,
    run_script,
)
from diff_ifs.files.names import find_pictures
from diff_ifs.files.system import CHAINED, is_system_file, load_system
from diff_ifs.files.target import read_target
from diff_ifs.setup import stretch

if TYPE_CHECKING:
    import numpy as np


def parser() -> argparse.ArgumentParser:
    parse = Parser(prog="explore_ifs.py", description=__doc__)
    parse.add_argument(
        "name",
        metavar="NAME",
        help="the fractal: NAME for NAME.pt, as train_ifs.py writes it, or a file of maps",
    )
    parse.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page to write (default: results/NAME/NAME.html)",
    )
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with memory_errors_as_input_errors("close other programs"):
            explore(arguments)
    except InputError as error:
        print(f"explore_ifs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def explore(arguments: argparse.Namespace) -> None:
    """Write the page, and say where it is."""
    system = load_system(arguments.name)
    if system.picture is not None or max(map(stretch, system.maps.tolist())) >= 1:
        raise InputError(
            f"{system.path} has {CHAINED}, or maps that stretch the plane, which the page does "
            "not draw"
        )
    name = system.path.stem if is_system_file(arguments.name) else arguments.name
    out = arguments.out or Path("results", name, f"{name}.html")
    if out.suffix not in (".html", ".htm"):
        raise InputError(f"--out must end in .html, not {out.name!r}")
    check_place(out)
    for note in system.notes:
        print(note, file=sys.stderr)
    if system.measure is not None:
        print(f"{system.path}: how often a map follows another is not shown", file=sys.stderr)

    from diff_ifs.files.checkpoint import load_path
    from diff_ifs.page import write_page

    fit = system.checkpoint
    way = load_path(system.path, fit) if "path" in fit else None
    target = find_target(name, system.path, system.size, fit)
    drawn = system.maps, system.window, system.stroke, system.size
    size = write_page(out, name, *drawn, target, way, weights=system.weights)
    print(f"{name}: {len(system.maps)} maps, {size / 1000:.0f} kB -> {out.resolve().as_uri()}")


def find_target(name: str, path: Path, size: int, fit: dict) -> "np.ndarray | None":
    """The picture (S, S) that a fit was made of, else the one of that name, or None."""
    from diff_ifs.files.checkpoint import fitted_target

    with suppress(InputError):
        if fit:
            return fitted_target(path, fit, name)[1]
        return read_target(find_pictures(name)[0], size).coverage
    return None


def command() -> NoReturn:
    run_script(main)


if __name__ == "__main__":
    command()
