"""The one door to systems: checkpoints of fits, and files of systems, whoever wrote them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.errors import InputError, one_line
from diff_ifs.files.names import find_checkpoint
from diff_ifs.formats.exchange import MOST_BYTES, decode
from diff_ifs.formats.rules import Chain, own_window, prepared

if TYPE_CHECKING:
    import numpy as np


# what System.picture tells
CHAINED = "hidden maps, or final ones, or such as may not follow each other"


@dataclass(frozen=True)
class System:
    """What is drawn, and the checkpoint it came from, which is empty for other files.

    The attractor is that of maps (n, 2, 3), float64, unless `picture` says that only some words of
    them are drawn. Its measure gives each map its weight (n,), or None, by its area, unless
    `measure` has the rules of a chaos game.
    """

    maps: "np.ndarray"
    window: tuple[float, float, float, float]
    stroke: float
    size: int
    path: Path
    weights: "np.ndarray | None" = None
    picture: Chain | None = None
    measure: Chain | None = None
    notes: tuple[str, ...] = ()
    checkpoint: dict = field(default_factory=dict)


def is_system_file(name: str) -> bool:
    """Whether this is the name of a file of a system, by its ending, not that of a checkpoint."""
    return Path(name).suffix in MOST_BYTES


def load_system(name: str, flame: str | None = None, entry: str | None = None) -> System:
    """The system of a checkpoint NAME, or of a file .ifs, .csv, .json or .flame, as `decode` finds
    it.

    Raises InputError if there is none, if it is damaged, or has no attractor that can be drawn.
    """
    if is_system_file(name):
        return _of_file(Path(name), flame, entry)
    if flame is not None or entry is not None:
        raise InputError(
            f"{'--entry' if flame is None else '--flame'} is for files of several fractals, not "
            "for NAME.pt"
        )
    path = find_checkpoint(name)
    from diff_ifs.files.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    window = tuple(found["window"])
    return System(found["maps"], window, found["stroke"], found["size"], path, checkpoint=found)


def _of_file(path: Path, flame: str | None, entry: str | None) -> System:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES[path.suffix] + 1)
    except FileNotFoundError as error:
        tip = "" if path.suffix == ".csv" else "; compress_ifs.py makes one of a NAME.pt"
        raise InputError(f"there is no {path} here{tip}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        rules = decode(data, path.suffix, flame, entry)
        what = prepared(rules)
        window = rules.window or own_window(what, rules.stroke)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path} is not a fractal that can be drawn: {one_line(error)}") from error
    notes = [f"{path}: {rules.others}"] if rules.others else []
    if what.stretch > 1:
        notes.append(
            f"{path}: maps that stretch the plane by up to {what.stretch:.4g}, and long "
            "products of "
            f"them that shrink it to {what.rate:.4g} a map"
        )
    return System(
        what.maps,
        window,
        rules.stroke,
        rules.size,
        path,
        what.weights,
        what.picture,
        what.measure,
        tuple(notes),
    )
