"""The .ifs code: maps as one number, counted out.

Each row (a, b, t) of a map is a point of a lattice in an octahedron; a map is a pair of rows; the
maps are a multiset, because their order means nothing; and the multiset is counted out. How fine
the lattice is follows from the number of bytes. docs/FORMAT.md documents it to the bit.

Letters: n maps, L steps of the lattice, N points of it.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from diff_ifs.setup import WINDOW

VERSION = 1
FINEST = 1 << 16  # steps of the finest lattice
MOST_CODED = 255  # maps in a .ifs file
LEAST_BYTES = 7  # of a .ifs file that `compress.search` makes: one map on a lattice of eight steps
MAX_SPREAD = 15
# singular value of a map in a file: what shrinks more slowly cannot be drawn in reasonable time
LARGEST = 0.99
MAX_BYTES = 1 << 16


def lattice_points(steps: int, similar: bool = False) -> int:
    """How many maps the lattice of L = `steps` has: pairs of rows (A, B, T), or similarities (A, B,
    T, U, mirror)."""
    points = _before_ring(steps // 2 + 1, steps, similar)
    return 2 * points if similar else points**2


def _before_ring(m: int, steps: int, similar: bool) -> int:
    """The number of lattice points with |A| + |B| < m.

    Ring j has 4j pairs (A, B), or one where j is 0, with 2 (L - 2j) + 1 values of T each, and of U
    as well.
    """
    if m == 0:
        return 0
    c, pairs, squares = 2 * steps + 1, m * (m - 1) // 2, m * (m - 1) * (2 * m - 1) // 6
    if similar:
        return c**2 + 4 * c**2 * pairs - 32 * c * squares + 64 * pairs**2
    return c + 4 * c * pairs - 16 * squares


def rank_point(point: Sequence[int], steps: int) -> int:
    """The number of a lattice point (A, B, T) or (A, B, T, U): by rings of |A| + |B|, around each,
    then by T and U."""
    a, b, *shifts = point
    m = abs(a) + abs(b)
    if a > 0 and b >= 0:
        around = b
    elif b > 0:
        around = m - a
    elif a < 0:
        around = 2 * m - b
    else:
        around = 3 * m + a
    height = steps - 2 * m
    for shift in shifts:
        around = around * (2 * height + 1) + shift + height
    return _before_ring(m, steps, len(shifts) == 2) + around


def unrank_point(number: int, steps: int, similar: bool) -> list[int]:
    """The lattice point that has this number: the inverse of `rank_point`."""
    m = (
        bisect_right(
            range(steps // 2 + 1), number, key=lambda ring: _before_ring(ring, steps, similar)
        )
        - 1
    )
    around, height = number - _before_ring(m, steps, similar), steps - 2 * m
    shifts = []
    for _ in range(1 + similar):
        around, shift = divmod(around, 2 * height + 1)
        shifts.insert(0, shift - height)
    quarter, along = divmod(around, m) if m else (0, 0)
    return [
        *((m - along, along), (-along, m - along), (along - m, -along), (along, along - m))[
            quarter
        ],
        *shifts,
    ]


def rank_map(numbers: Sequence[int], steps: int, similar: bool) -> int:
    """The number of a map: of its rows (A, B, T, A', B', T'), or of a similarity (A, B, T, U,
    mirror)."""
    if similar:
        return 2 * rank_point(numbers[:4], steps) + numbers[4]
    return rank_point(numbers[:3], steps) * _before_ring(steps // 2 + 1, steps, False) + rank_point(
        numbers[3:], steps
    )


def unrank_map(number: int, steps: int, similar: bool) -> list[int]:
    """The numbers of a map: the inverse of `rank_map`."""
    if similar:
        return [*unrank_point(number // 2, steps, True), number % 2]
    rows = divmod(number, _before_ring(steps // 2 + 1, steps, False))
    return [x for row in rows for x in unrank_point(row, steps, False)]


def multisets(steps: int, n: int, similar: bool = False) -> int:
    """How many systems of `n` maps the lattice has, whatever their order."""
    return math.comb(lattice_points(steps, similar) + n - 1, n)


def rank_multiset(numbers: Sequence[int]) -> int:
    """The rank of a multiset of n whole numbers among all of them: Σ C(k_i + i - 1, i) over sorted
    k_1 <= … <= k_n.

    (The combinatorial number system; Knuth, The Art of Computer Programming 4A, 7.2.1.3.)
    """
    return sum(math.comb(number + i, i + 1) for i, number in enumerate(sorted(numbers)))


def unrank_multiset(rank: int, n: int) -> list[int]:
    """The sorted multiset of `n` whole numbers that has this rank: the inverse of `rank_multiset`."""
    numbers = []
    for i in range(n, 0, -1):
        # the largest k with C(k + i - 1, i) <= rank; as k^i <= i! C(k + i - 1, i) < (k + i)^i, it
        # is near a root
        most = _root(rank * math.factorial(i), i)
        nearby = range(max(0, most - i), most + 1)
        number = nearby[bisect_right(nearby, rank, key=lambda k, i=i: math.comb(k + i - 1, i)) - 1]
        numbers.append(number)
        rank -= math.comb(number + i - 1, i)
    return numbers[::-1]


def _root(value: int, degree: int) -> int:
    """The whole part of the root of a whole number, by Newton's method from above."""
    guess = int(2 ** (math.log2(value) / degree) * (1 + 1e-9)) + 1 if value else 0
    while (
        guess
        and (better := ((degree - 1) * guess + value // guess ** (degree - 1)) // degree) < guess
    ):
        guess = better
    return guess


@dataclass(frozen=True)
class Code:
    """All that a .ifs file holds but the maps themselves.

    The box is the frame of reference of the maps: its edges (left, right, bottom, top) are in
    eighths of the window's half width, times 2^spread, from the window's centre. In the frame in
    which the box is [-1, 1] × [-1, 1], a row of a map is g / L (2A, 2B, T), with g = 1 + gain / 4.

    The numbers of a map are its two rows (A, B, T, A', B', T'). If all maps are similarities, they
    are (A, B, T, U, mirror) instead, for the rows (A, -B, T) and (B, A, U); with mirror = 1, (A, B,
    T) and (B, -A, U).
    """

    n: int  # maps
    size: int  # of the target, in pixels
    box: tuple[int, int, int, int]
    gain: int = 0
    spread: int = 0
    similar: bool = False
    stroke: int = 0  # its 8-bit code; 0: none
    window: tuple[float, float, float] | None = (
        None  # xmin, ymin and side, in single precision; None: WINDOW
    )
    length: int = 64  # bytes of the file, which fix L

    def header(self) -> tuple[int, int]:
        """The header as a whole number, and how many bits it has."""
        usual = self.window is None and self.spread == 0 and self.gain == 0
        bits = f"{VERSION:03b}{self.similar:b}{self.stroke > 0:b}{not usual:b}"
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
        bits += f"{left + 10:04b}{10 - right:04b}{bottom + 10:04b}{10 - top:04b}"
        return int(bits, 2), len(bits)

    @cached_property
    def steps(self) -> int:
        """L: the finest lattice with which the maps fit into the file. Raises ValueError if none
        does."""
        space = 1 << max(0, 8 * (self.length - 1) - self.header()[1])
        steps = bisect_right(
            range(1, FINEST + 1), space, key=lambda steps: multisets(steps, self.n, self.similar)
        )
        if steps == 0:
            raise ValueError(f"{self.n} maps need more than {self.length} bytes")
        return steps

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

    def frame(self) -> tuple[list[Fraction], list[Fraction]]:
        """Half the sides, and the centre, of the box in the world, both as (x, y)."""
        xmin, ymin, side = (Fraction(x) for x in self.window or (WINDOW[0], WINDOW[2], self.side))
        unit = side / 16 * 2**self.spread  # an eighth of half the window
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

    def maps(self, numbers: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """The maps, n of 2 × 3, of the numbers of each: every one is the exact fraction, rounded
        once."""
        half, centre = self.frame()
        gain = Fraction(4 + self.gain, 4 * self.steps)
        maps = []
        for of_map in numbers:
            lines = []
            for (a, b, t), own, middle in zip(self.rows(of_map), half, centre, strict=True):
                a, b = 2 * gain * a * own / half[0], 2 * gain * b * own / half[1]
                lines.append(
                    [
                        float(x)
                        for x in (a, b, gain * t * own + middle - a * centre[0] - b * centre[1])
                    ]
                )
            maps.append(lines)
        return maps


def pack(code: Code, numbers: Sequence[Sequence[int]]) -> bytes:
    """The bytes of a file, of the numbers of each map: header, maps, checksum."""
    header, bits = code.header()
    body = rank_multiset([rank_map(map_, code.steps, code.similar) for map_ in numbers])
    data = (header << (8 * (code.length - 1) - bits) | body).to_bytes(code.length - 1, "big")
    return data + bytes([checksum(data)])


def unpack(data: bytes) -> tuple[Code, list[list[int]]]:
    """The code and the numbers of the maps that a file's bytes hold. Raises ValueError, which says
    what is wrong."""
    if not 5 <= len(data) <= MAX_BYTES:
        raise ValueError(
            "it has too few bytes" if len(data) < 5 else f"it has more than {MAX_BYTES} bytes"
        )
    if data[0] >> 5 != VERSION:
        raise ValueError(
            f"it has version {data[0] >> 5}, where this program reads version {VERSION}"
        )
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
    window, spread, gain = None, 0, 0
    if unusual:
        window = struct.unpack(">3f", read(96).to_bytes(12, "big")) if read(1) else None
        spread, gain = run("1") + read(1), read(3)
    stroke = read(8) if has_stroke else 0
    power = read(4)
    size = read(12) + 1 if power == 15 else 8 << power
    n = read(4 + run("0")) - 7
    box = (read(4) - 10, 10 - read(4), read(4) - 10, 10 - read(4))
    code = Code(n, size, box, gain, spread, similar, stroke, window, len(data))
    half = (box[1] - box[0], box[3] - box[2])
    if not (
        1 <= n <= MOST_CODED
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
    body = int(bits[at:] or "0", 2)
    if body >= multisets(code.steps, n, similar):
        raise ValueError("its maps make no sense")
    return code, [unrank_map(number, code.steps, similar) for number in unrank_multiset(body, n)]


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
