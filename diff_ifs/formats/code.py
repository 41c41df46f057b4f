"""The .ifs code: maps as one number, counted out.

Each row (a, b, t) of a map is a point of a lattice in an octahedron; a map is a pair of rows; the
maps are a multiset, because their order means nothing; and the multiset is counted out. How fine
the lattice is follows from the number of bytes. A symmetric system holds one map of each orbit;
maps that are small, or show little, have a smaller or a coarser lattice. docs/FORMAT.md documents
it to the bit.

Letters: n maps, L steps of the lattice.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from diff_ifs.formats.counting import (
    lattice_points,
    rank_map,
    rank_multiset,
    unrank_map,
    unrank_multiset,
)
from diff_ifs.setup import WINDOW

FINEST = 1 << 16  # steps of the finest lattice
MOST_CODED = 255  # maps in a .ifs file
LEAST_BYTES = 5  # of a .ifs file that `compress.search` makes: one map on a lattice of eight steps
MAX_SPREAD = 15
# singular value of a map in a file: what shrinks more slowly cannot be drawn in reasonable time
LARGEST = 0.99
MAX_BYTES = 1 << 16


# cosine and sine of a full turn divided by so many, to the last bit of double precision; or a
# mirror
SYMMETRIES = (
    ("left-right", -1.0, 0.0),
    ("top-bottom", 1.0, 0.0),
    (2, -1.0, 0.0),
    (3, -0.5, 0.8660254037844386),
    (4, 0.0, 1.0),
    (5, 0.30901699437494745, 0.9510565162951535),
    (6, 0.5, 0.8660254037844386),
    (7, 0.6234898018587336, 0.7818314824680298),
)
CENTRE = 1024  # steps of a symmetry's centre in half a window's side


@dataclass(frozen=True)
class Kind:
    """Maps of a system that share a lattice."""

    count: int
    steps: int  # L of this lattice
    rings: int  # the largest |A| + |B| of a row
    orbit: bool  # each stands for itself and for its images under the symmetry


@dataclass(frozen=True)
class Code:
    """All that a .ifs file holds but the maps themselves.

    The box is the frame of reference of the maps: its edges (left, right, bottom, top) are in
    sixteenths of the window's half width, times 2^spread, from the window's centre, about which
    they are symmetric. (In version 1 they are eighths, and need not be.) In the frame in which the
    box is [-1, 1] × [-1, 1], a row of a map is g / L (2A, 2B, T), with g = 1 + gain / 4.

    The numbers of a map are its two rows (A, B, T, A', B', T'). If all maps are similarities, they
    are (A, B, T, U, mirror) instead, for the rows (A, -B, T) and (B, A, U); with mirror = 1, (A, B,
    T) and (B, -A, U).
    """

    n: int  # maps in the file, of which symmetries make more
    size: int  # of the target, in pixels
    box: tuple[int, int, int, int]
    gain: int = 0
    spread: int = 0
    similar: bool = False
    stroke: int = 0  # its 8-bit code; 0: none
    # xmin, ymin and side, in single precision; None: WINDOW
    window: tuple[float, float, float] | None = None
    length: int = 64  # bytes of the file, which fix L
    version: int = 2
    symmetry: tuple[int, ...] = ()  # its place in SYMMETRIES, and 1 or 2 coordinates of its centre
    # how many maps there are of each of 1, 2, 4 or 8 kinds, in the order of `kinds_at`; none: all
    # are of the first
    kinds: tuple[int, ...] = ()

    def header(self) -> tuple[int, int]:
        """The header as a whole number, and how many bits it has."""
        usual = self.window is None and self.spread == 0 and self.gain == 0
        bits = f"{self.version:03b}{self.similar:b}{self.stroke > 0:b}{not usual:b}"
        if self.version > 1:
            bits += f"{self.symmetry != ():b}{len(self.kinds) > 2:b}"
        if not usual:
            bits += f"{self.window is not None:b}"
            if self.window is not None:
                bits += "".join(f"{byte:08b}" for byte in struct.pack(">3f", *self.window))
            bits += "1" * self.spread + f"0{self.gain:03b}"
        if self.stroke:
            bits += f"{self.stroke:08b}"
        power = max(0, self.size.bit_length() - 4)
        bits += f"{power:04b}" if self.size == 8 << power else f"1111{self.size - 1:012b}"
        beyond = f"{self.n + 7:b}"  # an exponential Golomb code of order 3
        bits += "0" * (len(beyond) - 4) + beyond
        left, right, bottom, top = self.box
        if self.version == 1:
            bits += f"{left + 10:04b}{10 - right:04b}{bottom + 10:04b}{10 - top:04b}"
        else:
            bits += f"{right - 1:04b}" + ("" if self.similar else f"{top - 1:04b}")
        if self.symmetry:
            bits += f"{self.symmetry[0]:03b}"
            bits += "".join(f"{place + CENTRE:011b}" for place in self.symmetry[1:])
        if len(self.kinds) > 1:
            labels = [kind for kind, count in enumerate(self.kinds) for _ in range(count)]
            width = mix_bits(self.n, len(self.kinds))
            bits += f"{rank_multiset(labels):0{width}b}" if width else ""
        return int(bits, 2), len(bits)

    def kinds_at(self, steps: int) -> list[Kind]:
        """The kinds of maps on a lattice of L = `steps`: full, coarse, small, small and coarse; of
        orbits first, then of maps that stand for themselves alone."""
        kinds = self.kinds or (self.n,)
        found = []
        for k, count in enumerate(kinds):
            grade = k % 4 if len(kinds) > 2 else 0
            own = max(1, steps // 3) if grade % 2 else steps
            orbit = self.symmetry != () and k < (len(kinds) + 1) // 2
            found.append(Kind(count, own, own // (2 if grade < 2 else 4), orbit))
        return found

    @property
    def each(self) -> list[Kind]:
        """The kind of each map of the file, in its order."""
        return [kind for kind in self.kinds_at(self.steps) for _ in range(kind.count)]

    @cached_property
    def steps(self) -> int:
        """L: the finest lattice with which the maps fit into the file. Raises ValueError if none
        does."""
        space = 1 << max(0, 8 * (self.length - 1) - self.header()[1])
        steps = bisect_right(range(1, FINEST + 1), space, key=self.bodies)
        if steps == 0:
            raise ValueError(f"{self.n} maps need more than {self.length} bytes")
        return steps

    def bodies(self, steps: int) -> int:
        """How many systems the lattice has, whatever the order of the maps of a kind."""
        return math.prod(
            math.comb(
                lattice_points(kind.steps, self.similar, kind.rings) + kind.count - 1, kind.count
            )
            for kind in self.kinds_at(steps)
        )

    @property
    def drawn(self) -> int:
        """How many maps the system has."""
        order = self.symmetry[0] if self.symmetry and self.symmetry[0] > 1 else 2
        return sum(kind.count * (order if kind.orbit else 1) for kind in self.kinds_at(FINEST))

    @property
    def side(self) -> float:
        """Of the window, in world units."""
        return self.window[2] if self.window else WINDOW[1] - WINDOW[0]

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Of the window: xmin, xmax, ymin, ymax."""
        xmin, ymin, side = self.window or (WINDOW[0], WINDOW[2], self.side)
        return xmin, xmin + side, ymin, ymin + side

    @property
    def radius(self) -> float:
        """Of the pen, in world units."""
        return stroke_of(self.stroke, self.side)

    @cached_property
    def frame(self) -> tuple[list[Fraction], list[Fraction]]:
        """Half the sides, and the centre, of the box in the world, both as (x, y)."""
        xmin, ymin, side = (Fraction(x) for x in self.window or (WINDOW[0], WINDOW[2], self.side))
        unit = side / (16 if self.version == 1 else 32) * 2**self.spread
        left, right, bottom, top = self.box
        return (
            [(right - left) * unit / 2, (top - bottom) * unit / 2],
            [
                xmin + side / 2 + (left + right) * unit / 2,
                ymin + side / 2 + (bottom + top) * unit / 2,
            ],
        )

    def rows(self, numbers: Sequence) -> tuple[tuple, tuple]:
        """The two rows that the 6 numbers of a map stand for, or the 5 of a similarity; or tensors,
        of many maps."""
        if not self.similar:
            return tuple(numbers[:3]), tuple(numbers[3:])
        a, b, t, u, mirror = numbers
        sign = 1 - 2 * mirror
        return (a, -sign * b, t), (b, sign * a, u)

    def moves(self) -> list[tuple[list[list[Fraction]], list[Fraction]]]:
        """The symmetries but the identity, each as a matrix and the centre that stays where it
        is."""
        if not self.symmetry:
            return []
        kind, *places = self.symmetry
        order, c, s = SYMMETRIES[kind]
        c, s = Fraction(c), Fraction(s)
        xmin, ymin, side = (Fraction(x) for x in self.window or (WINDOW[0], WINDOW[2], self.side))
        x, y = xmin + side / 2, ymin + side / 2
        unit = side / (2 * CENTRE)
        if kind == 0:
            return [([[c, s], [s, -c]], [x + places[0] * unit, y])]
        if kind == 1:
            return [([[c, s], [s, -c]], [x, y + places[0] * unit])]
        turn = [[c, -s], [s, c]]
        turns = accumulate([turn] * (order - 1), times)
        return [(turn, [x + places[0] * unit, y + places[1] * unit]) for turn in turns]

    def in_order(self, numbers: Sequence[Sequence[int]]) -> list[list[int]]:
        """The numbers of each map, in the order in which a file gives them back."""
        return [
            list(of_map)
            for _, _, of_map in sorted(
                (place, rank_map(of_map, kind.steps, self.similar, kind.rings), of_map)
                for (place, kind), of_map in zip(self._places(), numbers, strict=True)
            )
        ]

    def _places(self) -> list[tuple[int, Kind]]:
        """The number of the kind, and the kind, of each map."""
        kinds = enumerate(self.kinds_at(self.steps))
        return [(place, kind) for place, kind in kinds for _ in range(kind.count)]

    def maps(self, numbers: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """The maps, 2 × 3 each, of the numbers of each: every one is the exact fraction, rounded
        once. An orbit's maps follow one another."""
        half, centre = self.frame
        moves, maps = self.moves(), []
        for kind, of_map in zip(self.each, numbers, strict=True):
            gain = Fraction(4 + self.gain, 4 * kind.steps)
            linear, shift = [], []
            for (a, b, t), own, middle in zip(self.rows(of_map), half, centre, strict=True):
                a, b = 2 * gain * a * own / half[0], 2 * gain * b * own / half[1]
                linear.append([a, b])
                shift.append(gain * t * own + middle - a * centre[0] - b * centre[1])
            maps.append((linear, shift))
            for turn, about in moves if kind.orbit else ():
                moved = times(times(turn, linear), [list(row) for row in zip(*turn, strict=True)])
                off = [
                    x + y - z for x, y, z in zip(apply(linear, about), shift, about, strict=True)
                ]
                ends = zip(apply(turn, off), about, apply(moved, about), strict=True)
                maps.append((moved, [x + y - z for x, y, z in ends]))
        return [
            [[float(x) for x in (*row, t)] for row, t in zip(*map_, strict=True)] for map_ in maps
        ]


def mix_bits(n: int, kinds: int) -> int:
    """The bits that say how many of n maps are of each kind."""
    return (math.comb(n + kinds - 1, n) - 1).bit_length()


def times(a: list[list], b: list[list]) -> list[list]:
    """The product of two matrices."""
    return [
        [sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)]
        for row in a
    ]


def apply(matrix: list[list], vector: list) -> list:
    return [sum(x * y for x, y in zip(row, vector, strict=True)) for row in matrix]


def pack(code: Code, numbers: Sequence[Sequence[int]]) -> bytes:
    """The bytes of a file, of the numbers of each map: header, maps, checksum."""
    header, bits = code.header()
    body, rest = 0, list(numbers)
    for kind in code.kinds_at(code.steps):
        own, rest = rest[: kind.count], rest[kind.count :]
        points = lattice_points(kind.steps, code.similar, kind.rings)
        body *= math.comb(points + kind.count - 1, kind.count)
        body += rank_multiset(
            [rank_map(map_, kind.steps, code.similar, kind.rings) for map_ in own]
        )
    data = (header << (8 * (code.length - 1) - bits) | body).to_bytes(code.length - 1, "big")
    return data + bytes([checksum(data)])


def unpack(data: bytes) -> tuple[Code, list[list[int]]]:
    """The code and the numbers of the maps that a file's bytes hold. Raises ValueError, which says
    what is wrong."""
    if not 5 <= len(data) <= MAX_BYTES:
        raise ValueError(
            "it has too few bytes" if len(data) < 5 else f"it has more than {MAX_BYTES} bytes"
        )
    version = data[0] >> 5
    if version not in (1, 2):
        raise ValueError(f"it has version {version}, where this program reads versions 1 and 2")
    if checksum(data):
        raise ValueError("its checksum does not fit")
    bits = "".join(f"{byte:08b}" for byte in data[:-1])
    at = 3

    def read(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError("it ends too early")
        at += count
        return int(bits[at - count : at], 2) if count else 0

    def run(digit: str) -> int:
        """How many of the next bits, at most 16, are this digit."""
        nonlocal at
        start = at
        while at - start < 16 and bits[at : at + 1] == digit:
            at += 1
        return at - start

    similar, has_stroke, unusual = (bool(read(1)) for _ in range(3))
    symmetric, graded = (bool(read(1)) if version > 1 else False for _ in range(2))
    window, spread, gain = None, 0, 0
    if unusual:
        window = struct.unpack(">3f", read(96).to_bytes(12, "big")) if read(1) else None
        spread, gain = run("1") + read(1), read(3)
    stroke = read(8) if has_stroke else 0
    power = read(4)
    size = read(12) + 1 if power == 15 else 8 << power
    n = read(4 + run("0")) - 7
    if version == 1:
        box = (read(4) - 10, 10 - read(4), read(4) - 10, 10 - read(4))
    else:
        wide = read(4) + 1
        tall = wide if similar else read(4) + 1
        box = (-wide, wide, -tall, tall)
    symmetry, kinds = (), ()
    if symmetric:
        symmetry = (read(3),)
        symmetry += tuple(read(11) - CENTRE for _ in range(1 + (symmetry[0] > 1)))
    if not 1 <= n <= MOST_CODED:
        raise ValueError("its header makes no sense")
    if symmetric or graded:
        many = (1 + symmetric) * (4 if graded else 1)
        mix = read(mix_bits(n, many))
        if mix >= math.comb(n + many - 1, n):
            raise ValueError("its header makes no sense")
        labels = unrank_multiset(mix, n)
        kinds = tuple(labels.count(kind) for kind in range(many))
    code = Code(
        n, size, box, gain, spread, similar, stroke, window, len(data), version, symmetry, kinds
    )
    half = (box[1] - box[0], box[3] - box[2])
    if not (
        code.drawn <= MOST_CODED
        and size <= 4096
        and spread <= MAX_SPREAD
        and stroke >= has_stroke
        and min(half) > 0
    ):
        raise ValueError("its header makes no sense")
    if similar and half[0] != half[1]:
        raise ValueError("its header makes no sense")
    if window and not (all(abs(x) <= 1e6 for x in window) and window[2] >= 1e-6):
        raise ValueError("its window makes no sense")
    body, numbers = int(bits[at:] or "0", 2), []
    if body >= code.bodies(code.steps):
        raise ValueError("its maps make no sense")
    for kind in reversed(code.kinds_at(code.steps)):
        points = lattice_points(kind.steps, similar, kind.rings)
        body, rank = divmod(body, math.comb(points + kind.count - 1, kind.count))
        own = unrank_multiset(rank, kind.count)
        numbers = [unrank_map(number, kind.steps, similar, kind.rings) for number in own] + numbers
    return code, numbers


def checksum(data: bytes) -> int:
    """CRC-8 with the polynomial x^8 + x^2 + x + 1: it notices any flipped bit, any odd number, any
    burst of 8."""
    rest = 0
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest << 1 ^ (0x107 if rest & 0x80 else 0)
    return rest


def stroke_code(stroke: float, side: float) -> int:
    """The 8-bit code of the nearest stroke: 4 bits of exponent over 4 of mantissa, as in a
    floating-point number."""
    return (
        min(range(256), key=lambda code: abs(stroke_of(code, side) - stroke)) if stroke > 0 else 0
    )


def stroke_of(code: int, side: float) -> float:
    """The stroke, in world units, of its code, in a window of this side; exact but for one
    rounding."""
    exponent, mantissa = divmod(code, 16)
    units = mantissa if exponent == 0 else (16 + mantissa) << (exponent - 1)
    return units * side / (1 << 20)
