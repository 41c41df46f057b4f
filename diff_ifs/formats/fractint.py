"""Maps as plain text, a b c d e f and often a weight p a line: entries of Fractint's .ifs files,
and CSV.

A map takes (x, y) to (a x + b y + e, c x + d y + f). Fractint's entries are `name { … }`, with
comments after `;`; the IFS Construction Kit, MathGL and FractalDB write the same numbers.
"""

import math
import re

from diff_ifs.formats.flame import listed
from diff_ifs.formats.rules import Rules
from diff_ifs.setup import MAX_MAPS


def is_text(data: bytes) -> bool:
    """Whether the bytes of a .ifs file are Fractint's text.

    The first byte tells, as our code begins with one from 0x20 to 0x3f, a space or a digit; where
    that is the first one of a comment or of a blank, so do all others: of 20 bytes of code, one at
    least is no printable ASCII.
    """
    may_be_code = data[:1] and data[0] >> 5 == 1
    rest = data.translate(None, bytes(range(32, 127 if may_be_code else 256)) + b"\t\r\n\f\x1a")
    return b"{" in data and not rest and (len(data) >= 20 or not may_be_code)


def read_fractint(data: bytes, wanted: str | None = None) -> Rules:
    """The rules of an entry of Fractint's .ifs text: the first, or the one of a name, whatever its
    case.

    Raises ValueError for what is not that, and for an entry of maps of space.
    """
    text = re.sub(r";[^\r\n]*", "", _decoded(data))
    parts = [part.partition("{") for part in text.split("}")[:-1]]
    entries = [(" ".join(head.split()), body) for head, brace, body in parts if brace]
    entries = [(head, body) for head, body in entries if head.lower() != "comment"]
    if not entries:
        raise ValueError("it is no text of Fractint's, name { a b c d e f p … }")
    names = [re.sub(r"\s*\(.*", "", head) for head, _ in entries]
    number = 0
    if wanted is not None:
        number = next((k for k, name in enumerate(names) if name.lower() == wanted.lower()), -1)
        if number < 0:
            raise ValueError(f"it has no entry {wanted!r}, but {listed(names)}")
    head, body = entries[number]
    if "(3d)" in head.lower():
        raise ValueError(
            f"its entry {names[number]!r} is three-dimensional (3D), which is not drawn here"
        )
    rules = _rules(body)
    if len(entries) > 1:
        rules.others = f"it holds {len(entries)} entries, of which this is {names[number]!r}"
    return rules


def read_csv(data: bytes) -> Rules:
    """The rules of rows of six numbers, or seven with the weight; a first row of words is passed
    over.

    Raises ValueError for anything else.
    """
    text = re.sub(r"#[^\r\n]*", "", _decoded(data)).strip()
    first, _, rest = text.partition("\n")
    words = [word for word in re.split(r"[\s,;]+", first) if word]
    return _rules(text if any(map(_is_number, words)) else rest)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _rules(text: str) -> Rules:
    """The maps of rows of numbers; where lines are broken elsewhere, of seven numbers each."""
    rows, count = [], 0
    for line in text.splitlines():
        if words := re.split(r"[\s,;]+", line.strip().strip(",;")):
            row = [_number(word) for word in words if word]
            rows += [row] if row else []
            count += len(row)
        if count > 7 * MAX_MAPS:
            raise ValueError(f"it has more than {MAX_MAPS} maps")
    lengths = {len(row) for row in rows}
    if 13 in lengths:
        raise ValueError("its rows have 13 numbers: maps of space, which are not drawn here")
    if lengths - {6, 7}:
        numbers = [number for row in rows for number in row]
        rows = [numbers[k : k + 7] for k in range(0, count, 7)]
        if count % 7:
            raise ValueError("its rows must be six numbers a b c d e f, or seven with a weight p")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("some of its rows have weights, and some have none")
    maps = [[[a, b, e], [c, d, f]] for a, b, c, d, e, f, *_ in rows]
    return Rules(maps, [row[6] for row in rows] if rows and len(rows[0]) == 7 else None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(word: str) -> float:
    if not (_is_number(word) and math.isfinite(float(word))):
        raise ValueError(f"{word[:40]!r} is not a finite number")
    return float(word)


def to_fractint(system: dict, name: str) -> str:
    """A system as an entry of Fractint's .ifs text, which has neither window nor pen."""
    rows = [
        " ".join(f"{0.0 + value!r}" for value in (a, b, c, d, e, f, share))
        for ((a, b, e), (c, d, f)), share in zip(system["maps"], system["weights"], strict=True)
    ]
    title = re.sub(r"[^\w-]+", "_", name)
    return f"{title} {{\n" + "".join(f"  {row}\n" for row in rows) + "}\n"
