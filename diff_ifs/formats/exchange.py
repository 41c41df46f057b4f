"""The files of systems, whichever they are, and JSON among them.

A system that is written is a dict: `maps`, n lists of 2 × 3 numbers, `weights`, `window`, `stroke`
and `size`.
"""

import json
import math

from diff_ifs.formats.code import unpack
from diff_ifs.formats.flame import read_flame
from diff_ifs.formats.fractint import is_text, read_csv, read_fractint
from diff_ifs.formats.rules import Rules
from diff_ifs.setup import MAX_MAPS

MOST_BYTES = {".ifs": 1 << 20, ".csv": 1 << 20, ".json": 1 << 20, ".flame": 1 << 23}


def decode(data: bytes, suffix: str, flame: str | None = None, entry: str | None = None) -> Rules:
    """The rules that the bytes of a file hold; suffix: .ifs, .csv, .json or .flame.

    Of several flames or entries in a file, it is the one of a number or a name, or the first.
    Raises ValueError, ArithmeticError or RecursionError for bytes that hold none.
    """
    if len(data) > MOST_BYTES[suffix]:
        raise ValueError(f"it has more than {MOST_BYTES[suffix]} bytes")
    fractint = suffix == ".ifs" and is_text(data)
    for option, wanted, fits in (
        ("--flame", flame, suffix == ".flame"),
        ("--entry", entry, fractint),
    ):
        if wanted is not None and not fits:
            raise ValueError(
                f"{option} is for "
                f"{'a .flame' if option == '--flame' else 'an .ifs text of Fractint'}"
            )
    if suffix == ".flame":
        rules = read_flame(data, flame)
    elif fractint:
        rules = read_fractint(data, entry)
    else:
        rules = {".ifs": _read_code, ".csv": read_csv, ".json": _read_json}[suffix](data)
    if rules.window is not None:
        width, height = rules.window[1] - rules.window[0], rules.window[3] - rules.window[2]
        if not (
            all(abs(x) <= 2e6 for x in rules.window)
            and width >= 1e-6
            and abs(width - height) <= 1e-6 * width
        ):
            raise ValueError("its window is not a square xmin, xmax, ymin, ymax")
        if rules.stroke > width:
            raise ValueError("its stroke is not from 0 to the width of the window")
    if rules.stroke < 0:
        raise ValueError("its stroke is not from 0 to the width of the window")
    return rules


def _read_code(data: bytes) -> Rules:
    code, numbers = unpack(data)
    return Rules(code.maps(numbers), None, code.edges, code.radius, code.size)


def to_json(system: dict, name: str) -> str:
    """A system as JSON, one map a line."""
    lines = ",\n    ".join(json.dumps(map_) for map_ in system["maps"])
    fields = {
        "format": "diff_ifs",
        "version": 1,
        "name": name,
        "n": len(system["maps"]),
        "weights": system["weights"],
        "window": list(system["window"]),
        "stroke": system["stroke"],
        "size": system["size"],
    }
    rest = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items())
    return f'{{\n{rest},\n  "maps": [\n    {lines}\n  ]\n}}\n'


def _read_json(data: bytes) -> Rules:
    try:
        fields = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_int=float)
    except ValueError as error:  # of syntax, or of UTF-8
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(fields, dict) or "maps" not in fields:
        raise ValueError('it must be an object with "maps": [[[a, b, x], [c, d, y]], ...]')
    if fields.get("format", "diff_ifs") != "diff_ifs" or fields.get("version", 1) != 1:
        raise ValueError("it is of another format or version")
    maps = _numbers(fields["maps"], "maps", (None, 2, 3))
    if fields.get("n", len(maps)) != len(maps):
        raise ValueError('"n" is not the number of its maps')
    window = tuple(_numbers(fields["window"], "window", (4,))) if "window" in fields else None
    stroke, size = (
        _numbers(fields.get(key, default), key, ())
        for key, default in (("stroke", 0.0), ("size", 256.0))
    )
    weights = _numbers(fields["weights"], "weights", (len(maps),)) if "weights" in fields else None
    if not (1 <= size <= 1 << 20 and size == int(size)):
        raise ValueError('"size" is not a number of pixels')
    return Rules(maps, weights, window, stroke, int(size))


def _refuse(word: str):
    raise ValueError(f"{word} is not a number")


def _numbers(value: object, key: str, shape: tuple):
    """Lists of such lengths (None: any up to MAX_MAPS), of finite numbers. Raises ValueError for
    all else."""
    if not shape:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f'"{key}" must hold finite numbers only')
        return float(value)
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_MAPS
        or shape[0] not in (None, len(value))
    ):
        form = " × ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f'"{key}" must be a list of {form}')
    return [_numbers(part, key, shape[1:]) for part in value]
