"""Systems as JSON and .flame, and what may be drawn.

A system is a dict here: `maps`, n lists of 2 × 3 numbers, `window`, `stroke` and `size`; one that is written also has
`weights`.
"""

import json
import math
import xml.parsers.expat

from diff_ifs.formats.code import LARGEST, MAX_BYTES, unpack
from diff_ifs.setup import MAX_MAPS, WINDOW, stretch


def decode(data: bytes, suffix: str) -> dict:
    """The system that the bytes of a file hold; suffix: .ifs, .json or .flame.

    Raises ValueError, ArithmeticError or RecursionError for bytes that hold none that can be drawn.
    """
    if len(data) > MAX_BYTES[suffix]:
        raise ValueError(f"it has more than {MAX_BYTES[suffix]} bytes")
    system = {".ifs": _read_ifs, ".json": _read_json, ".flame": _read_flame}[suffix](data)
    _check(system)
    return system


def _check(system: dict) -> None:
    maps, window = system["maps"], system["window"]
    if not 1 <= len(maps) <= MAX_MAPS:
        raise ValueError(f"it has {len(maps)} maps, not 1 to {MAX_MAPS}")
    if not all(abs(x) <= 1e3 for map_ in maps for row in map_ for x in row):  # nor NaN
        raise ValueError("its maps hold numbers that are not from -1000 to 1000")
    stretches = [stretch(map_) for map_ in maps]
    if (most := max(stretches)) > LARGEST + 1e-9:
        number = stretches.index(most) + 1
        raise ValueError(f"map {number} must shrink the world to {LARGEST} or less, not to {most:.4g}")
    width, height = window[1] - window[0], window[3] - window[2]
    if not (all(abs(x) <= 2e6 for x in window) and width >= 1e-6 and abs(width - height) <= 1e-6 * width):
        raise ValueError("its window is not a square xmin, xmax, ymin, ymax")
    if not 0 <= system["stroke"] <= width:
        raise ValueError("its stroke is not from 0 to the width of the window")


def _read_ifs(data: bytes) -> dict:
    code, numbers = unpack(data)
    return {"maps": code.maps(numbers), "window": code.edges, "stroke": code.radius, "size": code.size}


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


def _read_json(data: bytes) -> dict:
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
    window = _numbers(fields.get("window", WINDOW), "window", (4,))
    stroke, size = (_numbers(fields.get(key, default), key, ()) for key, default in (("stroke", 0.0), ("size", 256.0)))
    if "weights" in fields:
        _numbers(fields["weights"], "weights", (len(maps),))
    if not (1 <= size <= 1 << 20 and size == int(size)):
        raise ValueError('"size" is not a number of pixels')
    return {"maps": maps, "window": tuple(window), "stroke": stroke, "size": int(size)}


def _refuse(word: str):
    raise ValueError(f"{word} is not a number")


def _numbers(value: object, key: str, shape: tuple):
    """Lists of such lengths (None: any up to MAX_MAPS), of finite numbers. Raises ValueError for all else."""
    if not shape:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f'"{key}" must hold finite numbers only')
        return float(value)
    if not isinstance(value, list | tuple) or len(value) > MAX_MAPS or shape[0] not in (None, len(value)):
        form = " × ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f'"{key}" must be a list of {form}')
    return [_numbers(part, key, shape[1:]) for part in value]


def to_flame(system: dict, name: str) -> str:
    """A system as the XML that flam3, Apophysis and Fractorium open, in which y points down; linear maps only.

    These draw the bare attractor. The stroke is written as well, as an attribute of our own.
    """
    from xml.sax.saxutils import quoteattr  # which loads what speaks to the network, in a tenth of a second

    maps, size = system["maps"], system["size"]
    xmin, xmax, ymin, ymax = system["window"]
    colours = "\n".join("FFFFFF" * 8 for _ in range(32))
    lines = [
        f'<flame name={quoteattr(name)} size="{size} {size}" center="{(xmin + xmax) / 2!r} {-(ymin + ymax) / 2!r}" '
        f'scale="{size / (xmax - xmin)!r}" oversample="2" filter="0.5" quality="200" background="0 0 0" '
        f'brightness="4" gamma="4" estimator_radius="0" stroke="{system["stroke"]!r}">'
    ]
    for k, (((a, b, x), (c, d, y)), share) in enumerate(zip(maps, system["weights"], strict=True)):
        coefs = " ".join(repr(0.0 + value) for value in (a, -c, -b, d, x, -y))  # conjugate by the flip of y; no -0.0
        colour = k / max(1, len(maps) - 1)
        lines.append(f'  <xform weight="{share!r}" color="{colour!r}" linear="1" coefs="{coefs}"/>')
    lines.append(f'  <palette count="256" format="RGB">\n{colours}\n  </palette>\n</flame>')
    return "\n".join(lines) + "\n"


def _read_flame(data: bytes) -> dict:
    """The first flame of an XML file. Raises ValueError for all but linear maps, and for a document type."""
    flame, maps, depth = None, [], 0

    def start(tag: str, attributes: dict) -> None:
        nonlocal flame, depth
        depth += 1
        if depth > 100:
            raise ValueError("its XML is nested too deeply")
        if tag == "flame":
            if flame is not None:
                raise StopIteration
            flame = attributes
        elif flame is not None and tag == "xform":
            maps.append(_xform(attributes, len(maps) + 1))
        elif flame is not None and tag in ("finalxform", "symmetry"):
            raise ValueError(f"it has a {tag}, which is not drawn here")

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        if tag == "flame":
            raise StopIteration

    def doctype(*_) -> None:
        raise ValueError("it has a document type, which is not read here")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, doctype
    try:
        parser.Parse(data, True)
    except StopIteration:
        pass
    except (xml.parsers.expat.ExpatError, LookupError) as error:
        raise ValueError(f"it is not XML ({error})") from error
    if flame is None:
        raise ValueError("it has no <flame>")
    wide, high = _floats(flame.get("size", "256 256"), "size", 2)
    (x, y), (scale,), (zoom,), (turn,) = (
        _floats(flame.get(key, default), key, len(default.split()))
        for key, default in (("center", "0 0"), ("scale", "128"), ("zoom", "0"), ("rotate", flame.get("angle", "0")))
    )
    if turn != 0:
        raise ValueError("it is rotated, which is not drawn here")
    if not (min(wide, high) >= 1 and max(wide, high) <= 1 << 20 and scale > 0 and abs(zoom) <= 64):
        raise ValueError("its size, scale or zoom makes no sense")
    half = max(wide, high) / 2 / (scale * 2.0**zoom)
    (stroke,) = _floats(flame.get("stroke", "0"), "stroke", 1)
    window = (x - half, x + half, -y - half, -y + half)
    return {"maps": maps, "window": window, "stroke": stroke, "size": int(max(wide, high))}


def _xform(attributes: dict, number: int) -> list:
    """The map of an <xform>: coefs, with the flip of y undone, times the amount of its one variation, linear."""
    if number > MAX_MAPS:
        raise ValueError(f"it has more than {MAX_MAPS} maps")
    known = {
        "weight",
        "color",
        "coefs",
        "symmetry",
        "color_speed",
        "animate",
        "opacity",
        "name",
        "plotmode",
        "var_color",
    }
    amount = 0.0
    for key, value in attributes.items():
        if key in ("linear", "linear3D"):
            amount += _floats(value, key, 1)[0]
        elif key == "post":
            if _floats(value, key, 6) != [1, 0, 0, 1, 0, 0]:
                raise ValueError(f"xform {number} has a post transform, which is not drawn here")
        elif key == "chaos":
            if any(share != 1 for share in _floats(value, key, len(value.split()))):
                raise ValueError(f"xform {number} has a chaos list, which is not drawn here")
        elif key not in known and _floats(value, key, 1)[0] != 0:
            raise ValueError(f"xform {number} has the variation {key!r}; only linear ones are drawn here")
    a, c, b, d, x, y = (amount * value for value in _floats(attributes.get("coefs", ""), "coefs", 6))
    return [[a, -b, x], [-c, d, -y]]


def _floats(text: str, key: str, count: int) -> list[float]:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"its {key} must be {count} finite number{'s' * (count > 1)}, not {text[:40]!r}")
    return values
