"""The XML in which flam3, Apophysis, Fractorium and JWildfire keep their flames: linear ones are
read, and written.

A flame's y points down. What an <xform> does is p -> post(amount · coefs(p)), where amount is that
of its linear variations; other variations are refused by name.
"""

import math
import xml.parsers.expat
from collections.abc import Sequence

from diff_ifs.formats.rules import Map, Rules
from diff_ifs.setup import MAX_MAPS

LINEAR = ("linear", "linear3D")
# variations that act on z alone; or with pre_ or post_
SPATIAL = (
    "flatten",
    "zscale",
    "ztranslate",
    "zcone",
    "zblur",
)
# Attributes of an <xform> that move nothing: of colours, names, animation and editors.
APART = {
    "weight",
    "color",
    "color_speed",
    "var_color",
    "symmetry",
    "animate",
    "name",
    "enabled",
    "direct_color",
}
APART_TOO = (
    "color_",
    "mod_",
    "material",
    "wfield_",
    "motion_",
    "antialias_",
    "target_",
    "mirror_",
    "fx_",
    "fade_",
)
CAMERA = (
    "cam_pitch",
    "cam_yaw",
    "cam_roll",
    "cam_bank",
    "cam_perspective",
    "cam_persp",
    "cam_pos_x",
    "cam_pos_y",
    "cam_pos_z",
)


def read_flame(data: bytes, wanted: str | None = None) -> Rules:
    """The rules of a flame in an XML file: the first, or the one of a number, counted from 1, or a
    name.

    Raises ValueError for what is not drawn here, for a document type, and if there is none that is
    wanted.
    """
    file = _File(wanted)
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = file.start, file.end
    parser.StartDoctypeDeclHandler = file.doctype
    try:
        parser.Parse(data, True)
    except (xml.parsers.expat.ExpatError, LookupError) as error:
        if not file.whole:  # what comes after the flame that is wanted does not matter
            raise ValueError(f"it is not XML ({error})") from error
    if not file.names:
        raise ValueError("it has no <flame>")
    if file.flame is None:
        raise ValueError(f"it has no flame {wanted!r}, but {listed(file.names)}")
    rules = _rules(file.flame, file.parts)
    if len(file.names) > 1:
        name = file.flame.get("name", "")
        rules.others = (
            f"it holds {len(file.names)} flames, of which this is {file.number}, {name!r}"
        )
    return rules


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more


class _File:
    """What an XML file has come to: the names of its flames; attributes and parts (tag, attributes)
    of the wanted one.
    """

    def __init__(self, wanted: str | None):
        self.wanted, self.names, self.flame, self.number, self.parts = wanted, [], None, 0, []
        self.path: list[str] = []
        self.layers, self.inside, self.hidden, self.whole = 0, False, False, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.path.append(tag)
        if len(self.path) > 100:
            raise ValueError("its XML is nested too deeply")
        if "edit" in self.path:  # the flames that this one was made of
            return
        if tag == "flame":
            self.names.append(attributes.get("name", ""))
            if self.flame is None and (self.wanted in (None, str(len(self.names)), self.names[-1])):
                self.flame, self.number, self.inside = attributes, len(self.names), True
        elif self.inside and tag == "layer":
            self.hidden = attributes.get("visible", "1") in ("0", "false")
            self.layers += not self.hidden
            if self.layers > 1:
                raise ValueError("it has more than one layer, which are not drawn here")
        elif self.inside and not self.hidden and tag in ("xform", "finalxform", "symmetry"):
            self.parts.append((tag, attributes))
            if len(self.parts) > MAX_MAPS + 100:
                raise ValueError(f"it has more than {MAX_MAPS} maps")

    def end(self, tag: str) -> None:
        self.path.pop()
        self.hidden = self.hidden and tag != "layer"
        if tag == "flame" and "edit" not in self.path:
            self.whole, self.inside = self.whole or self.inside, False

    def doctype(self, *_) -> None:
        raise ValueError("it has a document type, which is not read here")


def _rules(flame: dict[str, str], parts: list[tuple[str, dict[str, str]]]) -> Rules:
    maps, weights, opacities, lists, finals = [], [], [], [], []
    for tag, attributes in parts:
        if tag == "xform":
            number = len(maps) + 1
            maps.append(_map(attributes, f"xform {number}"))
            weights += _floats(attributes.get("weight", "1"), "weight", 1)
            opacities.append(_opacity(attributes))
            text = attributes.get("chaos", attributes.get("xaos", ""))
            lists.append(_floats(text, "chaos list", len(text.split()), f"xform {number}"))
        elif tag == "finalxform" and attributes.get("enabled", "1") != "0":
            finals.append((_map(attributes, "finalxform"), _opacity(attributes)))
        elif tag == "symmetry":
            turns = _symmetry(attributes.get("kind", "1"))
            maps, weights, opacities = (
                maps + turns,
                weights + [1.0] * len(turns),
                opacities + [1.0] * len(turns),
            )
            lists += [[] for _ in turns]
    if not 1 <= len(maps) <= MAX_MAPS:
        raise ValueError(f"it has {len(maps)} maps, not 1 to {MAX_MAPS}")
    chaos = []
    if any(factor != 1 for factors in lists for factor in factors):
        chaos = [(factors + [1.0] * len(maps))[: len(maps)] for factors in lists]
        if any(factor < 0 for factors in chaos for factor in factors):
            raise ValueError("its chaos lists have negative numbers")
    for key in CAMERA:
        if any(_floats(flame.get(key, "0"), key, 1)) and not (
            key == "cam_roll" and flame[key] == flame.get("rotate")
        ):
            raise ValueError(f"its camera is three-dimensional ({key}), which is not drawn here")
    (stroke,) = _floats(flame.get("stroke", "0"), "stroke", 1)
    window, size, turn = _camera(flame)
    if turn is not None:
        finals.append((turn, 1.0))
    finals = [(_upright(final), opacity) for final, opacity in finals]
    return Rules(
        [_upright(m) for m in maps],
        weights,
        window,
        stroke,
        size,
        opacities,
        chaos,
        finals,
        "xform",
    )


def _camera(flame: dict[str, str]) -> tuple[tuple[float, ...] | None, int, Map | None]:
    """The window (y up), the longer side in pixels, and the turn about the centre (y down) of a
    flame's picture.
    """
    wide, high = _floats(flame.get("size", "256 256"), "size", 2)
    (x, y), (scale,), (zoom,), (cam_zoom,) = (
        _floats(flame.get(key, default), key, len(default.split()))
        for key, default in (("center", "0 0"), ("scale", "128"), ("zoom", "0"), ("cam_zoom", "1"))
    )
    if "rotate" in flame:
        (degrees,) = _floats(flame["rotate"], "rotate", 1)
    else:  # Apophysis writes radians, the other way round, as well
        degrees = -math.degrees(_floats(flame.get("angle", "0"), "angle", 1)[0])
    if not (
        min(wide, high) >= 1
        and max(wide, high) <= 1 << 20
        and scale > 0
        and abs(zoom) <= 64
        and cam_zoom > 0
    ):
        raise ValueError("its size, scale or zoom makes no sense")
    half, turn = max(wide, high) / 2 / (scale * 2.0**zoom * cam_zoom), None
    if degrees % 360:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = [[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y]]
    window = (x - half, x + half, -y - half, -y + half) if "scale" in flame else None
    return window, int(max(wide, high)), turn


def _map(attributes: dict[str, str], which: str) -> Map:
    """The map of an xform, y down."""
    a, c, b, d, x, y = _floats(attributes.get("coefs", "1 0 0 1 0 0"), "coefs", 6, which)
    p, r, q, s, u, v = _floats(attributes.get("post", "1 0 0 1 0 0"), "post", 6, which)
    amount = _amount(attributes, which)
    a, b, x, c, d, y = (amount * value for value in (a, b, x, c, d, y))
    return [
        [p * a + q * c, p * b + q * d, p * x + q * y + u],
        [r * a + s * c, r * b + s * d, r * x + s * y + v],
    ]


def _amount(attributes: dict[str, str], which: str) -> float:
    """How much of the linear variation an xform has. Raises ValueError for one that has another, or
    none.
    """
    amount, found = 0.0, ""
    for key, value in attributes.items():
        plain = key.removeprefix("pre_").removeprefix("post_")
        numbers = _numbers(value)
        if key in LINEAR:
            amount += _floats(value, key, 1, which)[0]
        elif key == "var":  # amounts of the variations by their numbers in flam3, 0 for linear
            first, *rest = _floats(value, key, len(value.split()), which) or [0.0]
            amount += first
            found = (
                found or "".join(f"number {k + 1}" for k, other in enumerate(rest) if other)[:10]
            )
        elif key == "var1":
            number = _floats(value, key, 1, which)[0]
            amount += number == 0
            found = found or (f"number {number:g}" if number else "")
        elif key in ("coefs", "post", "chaos", "xaos", "opacity", "plotmode") or key in APART:
            continue
        elif plain in SPATIAL or key.startswith(APART_TOO) or not numbers or not any(numbers):
            continue  # a word, as JWildfire has many, or nothing of a variation
        elif len(numbers) == 6 and numbers == [1, 0, 0, 1, 0, 0]:
            continue  # the planes that JWildfire adds
        elif not any(
            key.startswith(f"{other}_") for other in attributes if other not in LINEAR
        ):  # parameters of others
            found = found or repr(key)
    if found:
        raise ValueError(f"{which} has the variation {found}; only linear ones are drawn here")
    if amount == 0:
        raise ValueError(f"{which} has no variation; linear ones are drawn here")
    return amount


def _opacity(attributes: dict[str, str]) -> float:
    """How much of what an xform produces is drawn, from 0 to 1."""
    if attributes.get("plotmode") == "off":
        return 0.0
    return min(max(_floats(attributes.get("opacity", "1"), "opacity", 1)[0], 0.0), 1.0)


def _symmetry(kind: str) -> list[Map]:
    """The xforms that <symmetry> stands for: turns, and for a negative kind, a reflection in x
    before them.
    """
    (number,) = _floats(kind, "kind of symmetry", 1)
    if number == 0 or number != int(number) or abs(number) > MAX_MAPS:
        raise ValueError(f"its symmetry is of kind {kind[:40]!r}, which is not drawn here")
    turns = [2 * math.pi * k / abs(number) for k in range(1, int(abs(number)))]
    mirror = [[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]] if number < 0 else []
    return mirror + [
        [[math.cos(t), -math.sin(t), 0.0], [math.sin(t), math.cos(t), 0.0]] for t in turns
    ]


def _upright(map_: Map) -> Map:
    """A map as it is when y points the other way."""
    (a, b, x), (c, d, y) = map_
    return [[a, -b, x], [-c, d, -y]]


def _numbers(text: str) -> list[float]:
    """The numbers that a text consists of; none where it is anything else."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _floats(text: str, key: str, count: int, which: str = "") -> list[float]:
    values = _numbers(text)
    if len(values) != count or not all(map(math.isfinite, values)):
        where = f" in {which}" if which else ""
        raise ValueError(
            f"its {key} must be {count} finite number{'s' * (count > 1)}, not {text[:40]!r}{where}"
        )
    return values


def to_flame(system: dict, name: str) -> str:
    """A system as the XML that flam3, Apophysis and Fractorium open, in which y points down; linear
    maps only.

    These draw the bare attractor. The stroke is written as well, as an attribute of our own.
    """
    # which loads what speaks to the network, in a tenth of a second
    from xml.sax.saxutils import (
        quoteattr,
    )

    maps, size = system["maps"], system["size"]
    xmin, xmax, ymin, ymax = system["window"]
    colours = "\n".join("FFFFFF" * 8 for _ in range(32))
    lines = [
        f'<flame name={quoteattr(name)} size="{size} {size}" '
        f'center="{(xmin + xmax) / 2!r} {-(ymin + ymax) / 2!r}" scale="{size / (xmax - xmin)!r}" '
        'oversample="2" filter="0.5" quality="200" background="0 0 0" '
        f'brightness="4" gamma="4" estimator_radius="0" stroke="{system["stroke"]!r}">'
    ]
    for k, (map_, share) in enumerate(zip(maps, system["weights"], strict=True)):
        (a, b, x), (c, d, y) = _upright(map_)
        coefs = " ".join(repr(0.0 + value) for value in (a, c, b, d, x, y))  # no -0.0
        colour = k / max(1, len(maps) - 1)
        lines.append(f'  <xform weight="{share!r}" color="{colour!r}" linear="1" coefs="{coefs}"/>')
    lines.append(f'  <palette count="256" format="RGB">\n{colours}\n  </palette>\n</flame>')
    return "\n".join(lines) + "\n"
