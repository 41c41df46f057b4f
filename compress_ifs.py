"""Compress a fitted fractal: python compress_ifs.py NAME turns NAME.pt into NAME.ifs, a file of a
few dozen bytes.

The picture NAME.png is needed: the rounded maps are fitted to it once more.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from diff_ifs.errors import InputError, one_line
from diff_ifs.files.command import Parser, check_place, memory_errors_as_input_errors, run_script
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.names import find_checkpoint
from diff_ifs.files.system import CHAINED, is_system_file, load_system
from diff_ifs.formats.code import LEAST_BYTES
from diff_ifs.formats.exchange import to_json
from diff_ifs.formats.flame import to_flame
from diff_ifs.formats.fractint import to_fractint
from diff_ifs.formats.svg import to_svg
from diff_ifs.setup import WINDOW

if TYPE_CHECKING:
    pass

LOSS = 0.005  # of IoU, that is given for fewer bytes unless told otherwise
EXPORTS = {  # what writes each kind, and how its files end
    "flame": (to_flame, ".flame"),
    "json": (to_json, ".json"),
    "fractint": (to_fractint, "_fractint.ifs"),
    "svg": (to_svg, ".svg"),
}


def parser() -> argparse.ArgumentParser:
    parse = Parser(prog="compress_ifs.py", description=__doc__)
    add = parse.add_argument
    add(
        "name",
        metavar="NAME",
        help="the fractal: NAME.pt in the current directory, as train_ifs.py writes it",
    )
    how = parse.add_mutually_exclusive_group()
    how.add_argument(
        "--loss",
        type=float,
        metavar="X",
        help=f"the fewest bytes that lose at most X of IoU ({LOSS})",
    )
    how.add_argument("--bytes", type=int, metavar="N", help="the best fit into N bytes")
    how.add_argument(
        "--bits", type=float, metavar="B", help="B bits for each number of a map, from 3 to 16"
    )
    how.add_argument(
        "--export",
        choices=tuple(EXPORTS),
        help="write NAME.flame, NAME.json or, for Fractint, NAME_fractint.ifs, without any loss, "
        "or the picture NAME.svg; NAME may be a file that render_ifs.py draws, too",
    )
    add(
        "--effort",
        type=int,
        default=200,
        metavar="K",
        help="attractors judged in each refit (default 200)",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="the file to write (default: NAME.ifs, or as --export says)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with memory_errors_as_input_errors("lower --size of the fit"):
            if arguments.export:
                export(arguments)
            else:
                compress(arguments)
    except InputError as error:
        print(f"compress_ifs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def compress(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    name = arguments.name
    checkpoint_path = find_checkpoint(name)
    least = LEAST_BYTES
    for option, low, high in (
        ("loss", 0, 1),
        ("bytes", least, 1 << 16),
        ("bits", 3, 16),
        ("effort", 0, 1_000_000),
    ):
        value = getattr(arguments, option)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{option} must be from {low} to {high}, not {value}")
    out = arguments.out or Path(f"{name}.ifs")
    check_place(out)

    from diff_ifs.files.checkpoint import as_tensors, fitted_target, load_checkpoint

    checkpoint = load_checkpoint(checkpoint_path)
    if tuple(checkpoint["window"]) != WINDOW:
        raise InputError(f"{checkpoint_path} was not fitted to a picture in the window -1 1 -1 1")
    picture, coverage = fitted_target(checkpoint_path, checkpoint, name)

    import torch
    from tqdm import tqdm

    from diff_ifs.compress.goals import fit_bits, fit_into, fit_within
    from diff_ifs.compress.search import score
    from diff_ifs.fit.judge import evaluate

    if "exposure" in checkpoint:
        print(
            f"{name} was fitted to a grey picture; its file keeps black and white, "
            "as --kind occupancy",
            file=sys.stderr,
        )
    checkpoint, target = as_tensors(checkpoint), torch.from_numpy(coverage)
    fitted = checkpoint["maps"], target, checkpoint["stroke"]
    with tqdm(desc=name, unit="attractor", disable=arguments.quiet, delay=1) as bar:
        options = (arguments.effort, bar.update)
        if arguments.bytes is not None:
            found = fit_into(checkpoint, target, arguments.bytes, *options)
        elif arguments.bits is not None:
            found = fit_bits(checkpoint, target, arguments.bits, *options)
        else:
            loss = LOSS if arguments.loss is None else arguments.loss
            found = fit_within(checkpoint, target, loss, *options)
    data = found.data
    with atomic_write(out) as file:
        file.write(data)
    # With their edges, which no search looks at.
    before, after = evaluate(*fitted).iou, score(found.code, found.numbers, target, quality="final")
    whole = picture.stat().st_size
    print(
        f"{name}: {len(data)} bytes, IoU {before:.4f} -> {after:.4f}, {found.code.drawn} maps of "
        f"{found.bits_per_map:.1f} bits, {whole / len(data):.1f} times smaller than "
        f"{picture.name} ({whole} bytes), {time.perf_counter() - began:.1f} s -> {out}"
    )


def export(arguments: argparse.Namespace) -> None:
    name = Path(arguments.name).stem if is_system_file(arguments.name) else arguments.name
    system = load_system(arguments.name)
    out = arguments.out or Path(f"{name}{EXPORTS[arguments.export][1]}")
    check_place(out)
    if system.picture is not None:
        raise InputError(f"{system.path} has {CHAINED}, which --export does not write")
    for note in system.notes:
        print(note, file=sys.stderr)
    if system.measure is not None:
        print(f"{system.path}: how often a map follows another is not written", file=sys.stderr)

    import torch

    fields = {
        "window": system.window,
        "stroke": system.stroke,
        "size": system.size,
        "weights": system.weights,
    }
    try:
        text = as_text({"maps": torch.from_numpy(system.maps), **fields}, name, arguments.export)
    except ValueError as error:
        raise InputError(f"{system.path}: {one_line(error)}") from error
    with atomic_write(out) as file:
        file.write(text.encode())
    print(f"{name}: {len(system.maps)} maps -> {out}")


def as_text(system: dict, name: str, kind: str) -> str:
    """A system, with maps (n, 2, 3), as the text of a file of that kind, one of EXPORTS; weights by
    area if none."""
    from ifs_model import area_weights

    maps, weights = system["maps"].double(), system.get("weights")
    weights = area_weights(maps).tolist() if weights is None else list(map(float, weights))
    return EXPORTS[kind][0]({**system, "maps": maps.tolist(), "weights": weights}, name)


def command() -> NoReturn:
    run_script(main)


if __name__ == "__main__":
    command()
