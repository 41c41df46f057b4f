"""Systems in coded files."""

from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.errors import InputError, one_line
from diff_ifs.formats.code import MAX_BYTES
from diff_ifs.formats.exchange import decode

if TYPE_CHECKING:
    pass


def is_code_file(name: str) -> bool:
    """Whether this is the name of a file that `load_coded` reads, not of a checkpoint."""
    return Path(name).suffix in MAX_BYTES


def load_coded(path: Path) -> dict:
    """The system in a .ifs, .json or .flame file: maps (n, 2, 3), an array, window, stroke, size. Raises InputError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES[path.suffix] + 1)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path} here; compress_ifs.py makes one of a NAME.pt") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        system = decode(data, path.suffix)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path} is not a fractal that can be drawn: {one_line(error)}") from error
    import numpy as np

    return {**system, "maps": np.array(system["maps"], dtype=float)}
