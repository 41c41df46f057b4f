"""The compact code of a fitted fractal, a few dozen bytes, and its exchange with other programs as JSON and .flame.

A system is a dict with the keys of a checkpoint that say what is drawn: `maps` (n, 2, 3), `window`, `stroke`, `size`.

The code is one number. Each row (a, b, t) of a map is a point of a lattice in an octahedron; a map is a pair of rows;
the maps are a multiset, because their order means nothing; and the multiset is counted out. How fine the lattice is
follows from the number of bytes. README documents the format to the bit.

Letters: n maps, L steps of the lattice, N points of it.
"""

import json
import math
import struct
import xml.parsers.expat
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
from torch import Tensor

import ifs_raster
from ifs_files import InputError
from ifs_fit import GROWN, judge
from ifs_model import (
    WINDOW,
    area_weights,
    blur_matrix,
    contract,
    coverage,
    draw_with_pen,
    frame,
    singular_values,
    splat_descendants,
)

VERSION = 1
FINEST = 1 << 16  # steps of the finest lattice
MAX_MAPS = 255  # in a .ifs file
MAX_SPREAD = 15
NEARLY = 0.05  # the relative difference of two singular values up to which a map nearly is a similarity
BOXES, SLACK = 48, 1.6  # how many boxes a refit tries at most, and how much worse than the best one they may seem
ROUNDS = 4  # of a refit: how often the attractor is linearised anew
DAMPINGS, TRIES, JUDGED = (0.0, 0.1, 0.5), 20, 8  # of whole steps: how bold, from how many starts each, how many judged
SOFT, SOLID = 0.7, 6.0  # blur in pixels, and alpha, of the soft picture that is linearised
NEAR = 0.06  # what a refit may hope to recover of IoU
PACE = 40  # judgements between two looks at how fast single steps get on
LARGEST = 0.99  # singular value of a map in a file: what shrinks more slowly cannot be drawn in reasonable time
MAX_BYTES = {".ifs": 1 << 16, ".json": 1 << 20, ".flame": 1 << 20}


# --- The lattice: integers (A, B, T) with 2|A| + 2|B| + |T| <= L ---


def lattice_points(steps: int, similar: bool = False) -> int:
    """How many maps the lattice of L = `steps` has: pairs of rows (A, B, T), or similarities (A, B, T, U, mirror)."""
    points = _before_ring(steps // 2 + 1, steps, similar)
    return 2 * points if similar else points**2


def _before_ring(m: int, steps: int, similar: bool) -> int:
    """The number of lattice points with |A| + |B| < m.

    Ring j has 4j pairs (A, B), or one where j is 0, with 2 (L - 2j) + 1 values of T each, and of U as well.
    """
    if m == 0:
        return 0
    c, pairs, squares = 2 * steps + 1, m * (m - 1) // 2, m * (m - 1) * (2 * m - 1) // 6
    if similar:
        return c**2 + 4 * c**2 * pairs - 32 * c * squares + 64 * pairs**2
    return c + 4 * c * pairs - 16 * squares


def rank_point(point: Sequence[int], steps: int) -> int:
    """The number of a lattice point (A, B, T) or (A, B, T, U): by rings of |A| + |B|, around each, then by T and U."""
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
    m = bisect_right(range(steps // 2 + 1), number, key=lambda ring: _before_ring(ring, steps, similar)) - 1
    around, height = number - _before_ring(m, steps, similar), steps - 2 * m
    shifts = []
    for _ in range(1 + similar):
        around, shift = divmod(around, 2 * height + 1)
        shifts.insert(0, shift - height)
    quarter, along = divmod(around, m) if m else (0, 0)
    return [*((m - along, along), (-along, m - along), (along - m, -along), (along, along - m))[quarter], *shifts]


def rank_map(numbers: Sequence[int], steps: int, similar: bool) -> int:
    """The number of a map: of its rows (A, B, T, A', B', T'), or of a similarity (A, B, T, U, mirror)."""
    if similar:
        return 2 * rank_point(numbers[:4], steps) + numbers[4]
    return rank_point(numbers[:3], steps) * _before_ring(steps // 2 + 1, steps, False) + rank_point(numbers[3:], steps)


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
    """The rank of a multiset of n whole numbers among all of them: Σ C(k_i + i - 1, i) over sorted k_1 <= … <= k_n.

    (The combinatorial number system; Knuth, The Art of Computer Programming 4A, 7.2.1.3.)
    """
    return sum(math.comb(number + i, i + 1) for i, number in enumerate(sorted(numbers)))


def unrank_multiset(rank: int, n: int) -> list[int]:
    """The sorted multiset of `n` whole numbers that has this rank: the inverse of `rank_multiset`."""
    numbers = []
    for i in range(n, 0, -1):
        # the largest k with C(k + i - 1, i) <= rank; as k^i <= i! C(k + i - 1, i) < (k + i)^i, it is near a root
        most = _root(rank * math.factorial(i), i)
        nearby = range(max(0, most - i), most + 1)
        number = nearby[bisect_right(nearby, rank, key=lambda k, i=i: math.comb(k + i - 1, i)) - 1]
        numbers.append(number)
        rank -= math.comb(number + i - 1, i)
    return numbers[::-1]


def _root(value: int, degree: int) -> int:
    """The whole part of the root of a whole number, by Newton's method from above."""
    guess = int(2 ** (math.log2(value) / degree) * (1 + 1e-9)) + 1 if value else 0
    while guess and (better := ((degree - 1) * guess + value // guess ** (degree - 1)) // degree) < guess:
        guess = better
    return guess


# --- The code: what a file says of its maps, and the maps ---


@dataclass(frozen=True)
class Code:
    """All that a .ifs file holds but the maps themselves.

    The box is the frame of reference of the maps: its edges (left, right, bottom, top) are in eighths of the window's
    half width, times 2^spread, from the window's centre. In the frame in which the box is [-1, 1] × [-1, 1], a row of a
    map is g / L (2A, 2B, T), with g = 1 + gain / 4.

    The numbers of a map are its two rows (A, B, T, A', B', T'). If all maps are similarities, they are (A, B, T, U,
    mirror) instead, for the rows (A, -B, T) and (B, A, U); with mirror = 1, (A, B, T) and (B, -A, U).
    """

    n: int  # maps
    size: int  # of the target, in pixels
    box: tuple[int, int, int, int]
    gain: int = 0
    spread: int = 0
    similar: bool = False
    stroke: int = 0  # its 8-bit code; 0: none
    window: tuple[float, float, float] | None = None  # xmin, ymin and side, in single precision; None: WINDOW
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
        """L: the finest lattice with which the maps fit into the file. Raises ValueError if none does."""
        space = 1 << max(0, 8 * (self.length - 1) - self.header()[1])
        steps = bisect_right(range(1, FINEST + 1), space, key=lambda steps: multisets(steps, self.n, self.similar))
        if steps == 0:
            raise ValueError(f"{self.n} maps need more than {self.length} bytes")
        return steps

    @property
    def side(self) -> float:
        """Of the window, in world units."""
        return self.window[2] if self.window else WINDOW[1] - WINDOW[0]

    def system(self, numbers: Tensor) -> dict:
        """What these numbers draw."""
        xmin, ymin, side = self.window or (WINDOW[0], WINDOW[2], self.side)
        window, stroke = (xmin, xmin + side, ymin, ymin + side), stroke_of(self.stroke, side)
        return {"maps": self.maps(numbers), "window": window, "stroke": stroke, "size": self.size}

    def frame(self) -> tuple[list[Fraction], list[Fraction]]:
        """Half the sides, and the centre, of the box in the world, both as (x, y)."""
        xmin, ymin, side = (Fraction(x) for x in self.window or (WINDOW[0], WINDOW[2], self.side))
        unit = side / 16 * 2**self.spread  # an eighth of half the window
        left, right, bottom, top = self.box
        return (
            [(right - left) * unit / 2, (top - bottom) * unit / 2],
            [xmin + side / 2 + (left + right) * unit / 2, ymin + side / 2 + (bottom + top) * unit / 2],
        )

    def rows(self, numbers: Tensor) -> Tensor:
        """The rows (..., n, 2, 3) that the numbers (..., n, 6) stand for, or (..., n, 5) of similarities."""
        if not self.similar:
            return numbers.unflatten(-1, (2, 3))
        a, b, t, u, mirror = numbers.unbind(-1)
        sign = 1 - 2 * mirror
        return torch.stack([a, -sign * b, t, b, sign * a, u], dim=-1).unflatten(-1, (2, 3))

    def maps(self, numbers: Tensor) -> Tensor:
        """The maps (n, 2, 3), float64, of whole numbers (n, 6) or (n, 5): each is the exact fraction, rounded once."""
        half, centre = self.frame()
        gain = Fraction(4 + self.gain, 4 * self.steps)
        maps = []
        for rows in self.rows(numbers).tolist():
            lines = []
            for (a, b, t), own, middle in zip(rows, half, centre, strict=True):
                a, b = 2 * gain * a * own / half[0], 2 * gain * b * own / half[1]
                lines.append([float(x) for x in (a, b, gain * t * own + middle - a * centre[0] - b * centre[1])])
            maps.append(lines)
        return torch.tensor(maps, dtype=torch.float64)

    def at(self, place: Tensor) -> Tensor:
        """The maps (..., n, 2, 3) of a place: of numbers that need not be whole. Differentiable."""
        half, centre = (place.new_tensor([float(x) for x in pair]) for pair in self.frame())
        unit = self.rows(place) * ((4 + self.gain) / (4 * self.steps))
        linear = 2 * unit[..., :2] * half[:, None] / half
        return torch.cat([linear, (unit[..., 2] * half + centre - linear @ centre)[..., None]], dim=-1)

    def place(self, maps: Tensor) -> Tensor:
        """The place (n, 6) or (n, 5) of maps (n, 2, 3), or of the similarities nearest to them: the inverse of `at`."""
        half, centre = (maps.new_tensor([float(x) for x in pair]) for pair in self.frame())
        linear = maps[..., :2]
        if self.similar:
            (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
            turn, flip = torch.stack([a + d, c - b], dim=-1) / 2, torch.stack([a - d, c + b], dim=-1) / 2
            mirror = flip.norm(dim=-1) > turn.norm(dim=-1)
            a, b = torch.where(mirror[..., None], flip, turn).unbind(-1)
            sign = 1 - 2 * mirror.to(a)
            linear = torch.stack([a, -sign * b, b, sign * a], dim=-1).unflatten(-1, (2, 2))
        # the box's centre goes where the map takes it, so that a similarity is fitted about the middle of the figure
        moved = (maps[..., 2] + maps[..., :2] @ centre - centre) / half
        scale = 4 * self.steps / (4 + self.gain)
        if self.similar:
            return torch.cat([torch.stack([a, b], -1) / 2 * scale, moved * scale, mirror[..., None].to(a)], dim=-1)
        rows = torch.cat([linear * half / half[:, None] / 2, moved[..., None]], dim=-1)
        return rows.flatten(-2) * scale

    def nearest(self, place: Tensor) -> Tensor:
        """The whole numbers (n, 6) or (n, 5), int64, nearest to a place; those outside the lattice are drawn in."""
        numbers = place.detach().double().cpu().round().long()
        for map_ in numbers.numpy():
            for a, b, *shifts in ((0, 1, 2, 3),) if self.similar else ((0, 1, 2), (3, 4, 5)):
                while 2 * (m := abs(map_[a]) + abs(map_[b])) > self.steps:
                    larger = a if abs(map_[a]) > abs(map_[b]) else b
                    map_[larger] -= np.sign(map_[larger])
                for shift in shifts:
                    map_[shift] = map_[shift].clip(2 * m - self.steps, self.steps - 2 * m)
        return numbers


def pack(code: Code, numbers: Tensor) -> bytes:
    """The bytes of a file: header, maps, checksum."""
    header, bits = code.header()
    body = rank_multiset([rank_map(map_, code.steps, code.similar) for map_ in numbers.tolist()])
    data = (header << (8 * (code.length - 1) - bits) | body).to_bytes(code.length - 1, "big")
    return data + bytes([checksum(data)])


def unpack(data: bytes) -> tuple[Code, Tensor]:
    """The code and the numbers of the maps that a file's bytes hold. Raises ValueError, which says what is wrong."""
    if not 5 <= len(data) <= MAX_BYTES[".ifs"]:
        raise ValueError("it has too few bytes" if len(data) < 5 else "it has too many bytes")
    if data[0] >> 5 != VERSION:
        raise ValueError(f"it has version {data[0] >> 5}, where this program reads version {VERSION}")
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
    if not (1 <= n <= MAX_MAPS and size <= 4096 and spread <= MAX_SPREAD and stroke >= has_stroke and min(half) > 0):
        raise ValueError("its header makes no sense")
    if similar and half[0] != half[1]:
        raise ValueError("its header makes no sense")
    if window and not (all(abs(x) <= 1e6 for x in window) and window[2] >= 1e-6):
        raise ValueError("its window makes no sense")
    body = int(bits[at:] or "0", 2)
    if body >= multisets(code.steps, n, similar):
        raise ValueError("its maps make no sense")
    return code, torch.tensor([unrank_map(number, code.steps, similar) for number in unrank_multiset(body, n)])


def checksum(data: bytes) -> int:
    """CRC-8 with the polynomial x^8 + x^2 + x + 1: it notices any flipped bit, any odd number, any burst of 8."""
    rest = 0
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest << 1 ^ (0x107 if rest & 0x80 else 0)
    return rest


def stroke_code(stroke: float, side: float) -> int:
    """The 8-bit code of the nearest stroke: 4 bits of exponent over 4 of mantissa, as in a floating-point number."""
    return min(range(256), key=lambda code: abs(stroke_of(code, side) - stroke)) if stroke > 0 else 0


def stroke_of(code: int, side: float) -> float:
    """The stroke, in world units, of its code, in a window of this side; exact but for one rounding."""
    exponent, mantissa = divmod(code, 16)
    units = mantissa if exponent == 0 else (16 + mantissa) << (exponent - 1)
    return units * side / (1 << 20)


def boxes(maps: Tensor, window: Sequence[float], similar: bool = False) -> list[dict]:
    """Frames of reference for maps (n, 2, 3), the most promising first: the fields box, gain and spread of a Code.

    The rows of all maps must lie in the octahedron. The best has the least mean square by which points of the attractor
    (taken as spread over its bounds) move when all numbers are rounded, along x times along y; others follow that are
    at most SLACK times as bad.
    """
    xmin, xmax, ymin, _ = window
    half = (xmax - xmin) / 2
    bounds = ifs_raster.bounds(maps)
    west, east = ((x - xmin - half) / half for x in bounds[:2])
    south, north = ((y - ymin - half) / half for y in bounds[2:])
    maps = maps.double().numpy()
    middle = np.array([xmin + half, ymin + half])
    linear = maps[..., :2]
    shift = (maps[..., 2] + linear @ middle - middle) / half
    for spread in range(MAX_SPREAD + 1):
        edges = [(low, high) for low in range(-10, 6) for high in range(-5, 11) if low < high]
        low, high = np.array(edges, dtype=float).T * 2**spread / 8
        reach, centre = (high - low) / 2, (low + high) / 2
        wide, tall = reach[:, None], reach[None, :]
        spread_x = ((west + east) / 2 - centre) ** 2 + (east - west) ** 2 / 12
        spread_y = ((south + north) / 2 - centre) ** 2 + (north - south) ** 2 / 12
        need = np.zeros((len(edges), len(edges)))
        for ((a, b), (c, d)), (x, y) in zip(linear, shift, strict=True):
            off_x = x + (a - 1) * centre[:, None] + b * centre[None, :]
            off_y = y + c * centre[:, None] + (d - 1) * centre[None, :]
            need = np.maximum(need, abs(a) + (abs(b) * tall + abs(off_x)) / wide)
            need = np.maximum(need, abs(d) + (abs(c) * wide + abs(off_y)) / tall)
        gain = np.ceil(4 * need - 4 - 1e-9).clip(0)
        if similar:
            gain[wide != tall] = np.inf
        far = 1 + 4 * spread_x[:, None] / wide**2 + 4 * spread_y[None, :] / tall**2
        cost = np.where(gain <= 7, wide * tall * (1 + gain.clip(max=7) / 4) ** 2 * far, np.inf)
        if np.isfinite(cost).any():
            order = cost.argsort(axis=None, kind="stable")[:BOXES]
            best = [np.unravel_index(k, cost.shape) for k in order if cost.flat[k] <= SLACK * cost.min()]
            return [{"box": (*edges[i], *edges[j]), "gain": int(gain[i, j]), "spread": spread} for i, j in best]
    raise InputError("the attractor reaches too far beyond its window to be coded")


# --- The refit: the quantiser in the loop ---


@dataclass(frozen=True)
class Coded:
    """A system as a file holds it, and how good it is."""

    code: Code
    numbers: Tensor
    iou: float  # of the converged attractor with the target

    @property
    def data(self) -> bytes:
        return pack(self.code, self.numbers)

    @property
    def bits_per_map(self) -> float:
        """Of the body, without header and checksum."""
        return (8 * (self.code.length - 1) - self.code.header()[1]) / self.code.n


def codes(system: dict) -> list[Code]:
    """The ways to code a system: with six numbers a map and, where its maps nearly are similarities, with four.

    Raises InputError for one that the format cannot hold.
    """
    maps, window, size = system["maps"].double(), tuple(system["window"]), int(system["size"])
    if len(maps) > MAX_MAPS:
        raise InputError(
            f"a .ifs file holds at most {MAX_MAPS} maps, not {len(maps)}; fit again with --maps {MAX_MAPS}"
        )
    square = None
    if window != WINDOW:
        square = struct.unpack(">3f", struct.pack(">3f", window[0], window[2], window[1] - window[0]))
    side = square[2] if square else WINDOW[1] - WINDOW[0]
    stroke = stroke_code(system["stroke"], side)
    values = singular_values(maps)
    kinds = (False, True) if ((values[:, 0] - values[:, 1]) <= NEARLY * values[:, 0]).all() else (False,)
    return [
        Code(len(maps), size, **boxes(maps, window, similar)[0], similar=similar, stroke=stroke, window=square)
        for similar in kinds
    ]


def fewest_bytes(code: Code) -> int:
    """Of a file that holds such a system on a lattice of at least eight steps."""
    body = (multisets(8, code.n, code.similar) - 1).bit_length()
    return -(-(body + code.header()[1]) // 8) + 1


def rounded(code: Code, maps: Tensor, target: Tensor) -> Coded:
    """The maps on the nearest points of the lattice, without a refit; drawn together where rounding let one expand."""
    for shrink in (1.0, 0.99, 0.97, 0.95, 0.9, 0.8):
        numbers = code.nearest(code.place(contract(maps.double(), shrink * LARGEST)))
        if contracts(code, numbers):
            return Coded(code, numbers, score(code, numbers, target))
    raise InputError(f"{code.length} bytes are too few for {code.n} maps")


def contracts(code: Code, numbers: Tensor) -> bool:
    """Whether all maps shrink the world by at least the factor that files are held to."""
    return bool(singular_values(code.maps(numbers)).max() <= LARGEST)


def score(code: Code, numbers: Tensor, target: Tensor, supersample: int = 3) -> float:
    """The IoU of the converged attractor with the target, its maps in the order in which a file gives them back."""
    ranked = sorted(numbers.tolist(), key=lambda map_: rank_map(map_, code.steps, code.similar))
    system = code.system(torch.tensor(ranked))
    return judge(system["maps"], target, system["stroke"], supersample=supersample)[0]


def refit(
    code: Code,
    maps: Tensor,
    target: Tensor,
    judgements: int = 200,
    goal: float = 1.0,
    progress: Callable[[int], object] = bool,
) -> Coded:
    """The best numbers found for maps (n, 2, 3), in a file as long as `code` says; its box is where the search begins.

    Each box is a lattice of its own, so the one in which plain rounding happens to lose least comes first. Then the
    picture is linearised around the rounded maps, whole steps that promise to undo most of the error are found in
    this model, and the most promising are judged by the converged attractor; again and again, as long as that helps.
    At last `improve` tries as many steps as `judgements` says. Stops once the IoU is at least `goal`. `progress` is
    told how many attractors were judged just now.
    """
    best = rounded(code, maps, target)
    if best.iou >= goal:
        return best
    here = best_box(code, maps, target, progress)
    for _ in range(ROUNDS):
        found = max(whole_steps(here, target, progress), key=lambda coded: coded.iou, default=here)
        if found.iou <= here.iou:
            break
        here = found
    here = replace(here, iou=score(here.code, here.numbers, target))
    return improve(here if here.iou > best.iou else best, target, judgements, goal, progress)


def best_box(code: Code, maps: Tensor, target: Tensor, progress: Callable[[int], object] = bool) -> Coded:
    """The maps rounded in that box in which it costs least, by coarse pictures; the `iou` is that of a finer one."""
    window = code.system(code.place(maps).round())["window"]
    found = []
    for box in boxes(maps, window, code.similar):
        way = replace(code, **box)
        numbers = way.nearest(way.place(contract(maps, LARGEST)))
        if fewest_bytes(way) <= way.length and contracts(way, numbers):
            found.append(Coded(way, numbers, score(way, numbers, target, supersample=1)))
            progress(1)
    best = max(found, key=lambda coded: coded.iou, default=None) or rounded(code, maps, target)
    return replace(best, iou=score(best.code, best.numbers, target, supersample=2))


def linearised(here: Coded, target: Tensor) -> tuple[Tensor, Tensor]:
    """H (m, m) and g (m,): m strides n of the numbers change half the squared error of the picture by n·Hn / 2 + g·n.

    That is the model of Gauss and Newton. The error is that of the converged attractor; how pictures change with the
    numbers is taken from a soft one, of the points that the attractor is grown from, by finite differences over half
    a stride either way. Pictures have at most 256 pixels a side, and fewer if there are very many maps.
    """
    code, columns = here.code, 4 if here.code.similar else 6
    count, side = code.n * columns, min(len(target), 256)
    while count * side**2 > 1 << 25:
        side //= 2
    radius = torch.tensor([stroke_of(code.stroke, code.side) * side / 2]).clamp(max=16)  # wider pens would take long
    ancestry = ifs_raster.ancestry(code.maps(here.numbers), WINDOW, GROWN * side)
    to, blur = torch.tensor(frame(WINDOW, side)), blur_matrix(side, SOFT, target)

    def soft(place: Tensor) -> Tensor:
        density = splat_descendants(code.at(place).float(), ancestry, to, 1 / GROWN**2, side)
        if radius > 1:  # a curve's points, two a pixel, are spread over the pen's width
            density = 4 * radius * draw_with_pen(density[None], radius, int(radius + 2))[0]
        return coverage(blur @ density @ blur, SOLID).flatten()

    slopes, half = torch.empty(count, side**2), stride(code) / 2
    for k in range(count):
        step = torch.zeros(code.n, here.numbers.shape[1], dtype=torch.float64)
        step[divmod(k, columns)] = half
        slopes[k] = soft(here.numbers + step) - soft(here.numbers - step)
    system = code.system(here.numbers)
    error = judge(system["maps"], target, system["stroke"], supersample=2).picture - target
    smooth = blur_matrix(side, SOFT, target)
    error = smooth @ torch.nn.functional.adaptive_avg_pool2d(error[None, None], side)[0, 0] @ smooth
    return (slopes @ slopes.T).double(), (slopes @ error.flatten()).double()


def whole_steps(here: Coded, target: Tensor, progress: Callable[[int], object] = bool) -> list[Coded]:
    """Codes a few whole strides away in many numbers at once, that the linearised picture promises to be better."""
    hessian, gradient = linearised(here, target)
    generator, found = torch.Generator().manual_seed(0), {}
    ridge = 1e-3 * hessian.diagonal().mean() + 1e-6  # some numbers may change nothing
    for damping in DAMPINGS:
        damped = hessian + (damping * hessian.diagonal() + ridge).diag()
        ends = {}
        for k in range(TRIES):
            steps = torch.randint(-1, 2, gradient.shape, generator=generator) * float(k > 0)
            steps = nearest_plane(damped, gradient, generator) if k % 2 else steps.double()
            steps, promise = pairwise(damped, gradient, steps)
            ends[tuple(steps.tolist())] = promise
        for steps in sorted(ends, key=ends.get)[:JUDGED]:
            moved = here.numbers.clone()
            moved[:, : len(steps) // here.code.n] += (stride(here.code) * torch.tensor(steps).long()).unflatten(
                0, (here.code.n, -1)
            )
            moved = here.code.nearest(moved)
            found[tuple(moved.flatten().tolist())] = moved
    codes = []
    for numbers in found.values():
        if not torch.equal(numbers, here.numbers) and contracts(here.code, numbers):
            codes.append(Coded(here.code, numbers, score(here.code, numbers, target, supersample=2)))
            progress(1)
    return codes


def nearest_plane(hessian: Tensor, gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Whole steps n (m,) that make n·Hn / 2 + g·n small: one number after the other is rounded, in a random order.

    The others make up for it each time (Babai, On Lovász' lattice reduction, Combinatorica 6, 1986).
    """
    order = torch.randperm(len(gradient), generator=generator)
    hessian = hessian[order][:, order]
    best = torch.linalg.solve(hessian, -gradient[order])
    rows = torch.linalg.cholesky(torch.linalg.inv(hessian)).T
    steps = torch.empty_like(best)
    for k in range(len(best)):
        steps[k] = best[k].round().clamp(-2, 2)
        best[k:] -= (best[k] - steps[k]) / rows[k, k] * rows[k, k:]
    return steps[order.argsort()]


def promises(hessian: Tensor, gradient: Tensor) -> Tensor:
    """What steps ± 1 in one or two numbers change n·Hn / 2 + g·n by, (2 m, 2 m): + 1 first; on the diagonal, in one."""
    count = len(gradient)
    one = torch.cat([gradient, -gradient]) + hessian.diagonal().repeat(2) / 2
    two = one + one[:, None] + torch.cat([torch.cat([hessian, -hessian], 1), torch.cat([-hessian, hessian], 1)])
    same = torch.arange(count)
    two[same, same + count] = two[same + count, same] = torch.inf
    return two.diagonal_scatter(one)


def pairwise(hessian: Tensor, gradient: Tensor, steps: Tensor) -> tuple[Tensor, float]:
    """Whole steps (m,) made better, from others, by changing one or two of them by 1 at a time; and n·Hn / 2 + g·n."""
    count = len(gradient)
    for _ in range(2 * count):
        changes = promises(hessian, gradient + hessian @ steps)
        k = int(changes.argmin())
        if changes.flatten()[k] > -1e-9:
            break
        steps = steps.clone()
        for number in {k // (2 * count), k % (2 * count)}:
            steps[number % count] += 1 if number < count else -1
    return steps, float(steps @ hessian @ steps / 2 + gradient @ steps)


def improve(
    best: Coded, target: Tensor, judgements: int, goal: float = 1.0, progress: Callable[[int], object] = bool
) -> Coded:
    """Move one or two numbers by a stride, or the stroke by a step, wherever the converged attractor gets better.

    Those come first of which the linearised picture promises most. Attractors are judged with coarser sub-pixels here,
    at less than half the cost; the best is judged again.
    """
    if best.iou >= goal or judgements == 0:
        return best
    here = replace(best, iou=score(best.code, best.numbers, target, supersample=2))
    hessian, gradient = linearised(here, target)
    count, columns, reach = len(gradient), len(gradient) // here.code.n, stride(here.code)
    moves: list[frozenset[int]] = []
    tried: set[frozenset[int]] = set()
    fresh, milestones = True, [here.iou]
    for judged in range(judgements):
        if judged % PACE == PACE - 1:  # give up where the goal is further than the pace of late would lead
            milestones.append(here.iou)
            pace = (milestones[-1] - milestones[-2]) / PACE
            if goal < 1 and goal - here.iou > pace * (judgements - judged):
                break
        if fresh:
            changes = promises(hessian, gradient)
            changes[tuple(torch.tril_indices(2 * count, 2 * count, -1))] = torch.inf
            order = changes.flatten().topk(min(4 * judgements, count**2), largest=False).indices.tolist()
            moves = [frozenset(divmod(k, 2 * count)) for k in order]
            if here.code.stroke:
                moves[8:8] = [frozenset({2 * count}), frozenset({2 * count + 1})]
            moves, fresh = [move for move in moves if move not in tried], False
        if not moves:
            break
        move = moves.pop(0)
        tried.add(move)
        progress(1)
        code, numbers, steps = here.code, here.numbers.clone(), torch.zeros_like(gradient)
        for k in move:
            if k >= 2 * count:
                code = replace(code, stroke=min(max(1, code.stroke + 1 - 2 * (k % 2)), 255))
            else:
                steps[k % count] = 1 if k < count else -1
        numbers[:, :columns] += (reach * steps).long().unflatten(0, (-1, columns))
        if not torch.equal(numbers, code.nearest(numbers)) or not contracts(code, numbers):
            continue
        iou = score(code, numbers, target, supersample=2)
        if iou > here.iou:
            here, fresh, gradient = Coded(code, numbers, iou), True, gradient + hessian @ steps
            if iou >= goal and score(code, numbers, target) >= goal:
                break
    here = replace(here, iou=score(here.code, here.numbers, target))
    return here if here.iou > best.iou else best


def stride(code: Code) -> int:
    """The steps of the lattice that make about a tenth of a pixel of 256 × 256: shorter moves tell nothing apart."""
    return max(1, code.steps // 1000)


def fit_into(system: dict, target: Tensor, length: int, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The best code found of a system (a checkpoint's dict) in at most `length` bytes. Raises InputError if none."""
    ways = ways_into(system, length)
    if not ways:
        least = min(map(fewest_bytes, codes(system)))
        raise InputError(f"{len(system['maps'])} maps need at least {least} bytes, not {length}; or fit fewer maps")
    maps = canonical(system["maps"])
    return max((refit(code, maps, target, judgements, progress=progress) for code in ways), key=lambda found: found.iou)


def ways_into(system: dict, length: int) -> list[Code]:
    """The ways to code a system in at most `length` bytes.

    A few similarities have so few numbers that chance decides which lattice suits them: shorter files are tried, too.
    """
    ways = [replace(code, length=length - less) for code in codes(system) for less in range(3 if code.similar else 1)]
    return [code for code in ways if fewest_bytes(code) <= code.length]


def fit_bits(system: dict, target: Tensor, bits: float, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The best code found of a system that has so many bits for each number of a map: six, or four of a similarity."""
    code = codes(system)[-1]
    body = code.header()[1] + bits * (4 if code.similar else 6) * code.n
    code = replace(code, length=max(fewest_bytes(code), math.ceil(body / 8) + 1))
    return refit(code, canonical(system["maps"]), target, judgements, progress=progress)


def fit_within(system: dict, target: Tensor, goal: float, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The code of a system in the fewest bytes found whose IoU with the target is at least `goal`.

    Raises InputError if there is none.
    """
    maps, best = canonical(system["maps"]), None

    def plain(code: Code, length: int) -> Coded:
        progress(1)
        return rounded(replace(code, length=length), maps, target)

    *affine, last = codes(system)
    if (
        last.similar
    ):  # so few numbers that chance decides which lattice suits them: each length is tried, short ones first
        for length in range(fewest_bytes(last), (last.header()[1] + 13 * 4 * last.n) // 8 + 2):
            found = plain(last, length)
            if goal - NEAR <= found.iou < goal:
                found = refit(found.code, maps, target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
                break
    code = affine[0] if affine else last
    least, most = fewest_bytes(code), best.code.length - 1 if best else (code.header()[1] + 16 * 6 * code.n) // 8 + 1
    enough = None
    while least <= most:  # where rounding alone is good enough
        found = plain(code, (least + most) // 2)
        if found.iou < goal:
            least = found.code.length + 1
        else:
            most, enough = found.code.length - 1, found
    if enough is not None:
        best, least = enough, max(fewest_bytes(code), round(0.7 * enough.code.length))
        while least < best.code.length:  # and where a refit is
            code = replace(code, length=(least + best.code.length) // 2)
            found = refit(code, maps, target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
            else:
                least = code.length + 1
    if best is None:
        raise InputError(f"no number of bytes reaches an IoU of {goal:.4f}; give a larger --loss, or --bytes N")
    return best


def canonical(maps: Tensor) -> Tensor:
    """The maps in an order of their own, float64, so that the order in which they came changes nothing."""
    return torch.tensor(sorted(maps.double().tolist()), dtype=torch.float64)


# --- Exchange: .ifs, JSON and .flame ---


def load(path: Path) -> dict:
    """The system in a .ifs, .json or .flame file: maps (n, 2, 3) float64, window, stroke, size. Raises InputError."""
    read = {".ifs": _read_ifs, ".json": _read_json, ".flame": _read_flame}[path.suffix]
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES[path.suffix] + 1)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path} here; compress_ifs.py makes one of a NAME.pt") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if len(data) > MAX_BYTES[path.suffix]:
            raise ValueError(f"it has more than {MAX_BYTES[path.suffix]} bytes")
        system = read(data)
        _check(system)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path} is not a fractal that can be drawn: {' '.join(str(error).split())}") from error
    return system


def _check(system: dict) -> None:
    maps, window = system["maps"], system["window"]
    if not 1 <= len(maps) <= 1000:
        raise ValueError(f"it has {len(maps)} maps, not 1 to 1000")
    if not maps.isfinite().all() or maps.abs().max() > 1e3:
        raise ValueError("its maps hold numbers that are not from -1000 to 1000")
    stretch = singular_values(maps)[:, 0]
    if stretch.max() > LARGEST + 1e-9:
        k = int(stretch.argmax())
        raise ValueError(f"map {k + 1} must shrink the world to {LARGEST} or less, not to {float(stretch[k]):.4g}")
    width, height = window[1] - window[0], window[3] - window[2]
    if not (all(abs(x) <= 2e6 for x in window) and width >= 1e-6 and abs(width - height) <= 1e-6 * width):
        raise ValueError("its window is not a square xmin, xmax, ymin, ymax")
    if not 0 <= system["stroke"] <= width:
        raise ValueError("its stroke is not from 0 to the width of the window")


def _read_ifs(data: bytes) -> dict:
    code, numbers = unpack(data)
    return code.system(numbers)


def to_json(system: dict, name: str) -> str:
    """A system as JSON, one map a line."""
    maps = system["maps"].double()
    lines = ",\n    ".join(json.dumps(map_) for map_ in maps.tolist())
    fields = {
        "format": "diff_ifs",
        "version": 1,
        "name": name,
        "n": len(maps),
        "weights": area_weights(maps).tolist(),
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
    maps = torch.tensor(maps, dtype=torch.float64).reshape(-1, 2, 3)
    return {"maps": maps, "window": tuple(window), "stroke": stroke, "size": int(size)}


def _refuse(word: str):
    raise ValueError(f"{word} is not a number")


def _numbers(value: object, key: str, shape: tuple):
    """Lists of such lengths (None: any up to 1000), of finite numbers. Raises ValueError for all else."""
    if not shape:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f'"{key}" must hold finite numbers only')
        return float(value)
    if not isinstance(value, list | tuple) or len(value) > 1000 or shape[0] not in (None, len(value)):
        form = " × ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f'"{key}" must be a list of {form}')
    return [_numbers(part, key, shape[1:]) for part in value]


def to_flame(system: dict, name: str) -> str:
    """A system as the XML that flam3, Apophysis and Fractorium open, in which y points down; linear maps only.

    These draw the bare attractor. The stroke is written as well, as an attribute of our own.
    """
    maps, size = system["maps"].double(), system["size"]
    xmin, xmax, ymin, ymax = system["window"]
    colours = "\n".join("FFFFFF" * 8 for _ in range(32))
    shares = area_weights(maps).tolist()
    lines = [
        f'<flame name={quoteattr(name)} size="{size} {size}" center="{(xmin + xmax) / 2!r} {-(ymin + ymax) / 2!r}" '
        f'scale="{size / (xmax - xmin)!r}" oversample="2" filter="0.5" quality="200" background="0 0 0" '
        f'brightness="4" gamma="4" estimator_radius="0" stroke="{system["stroke"]!r}">'
    ]
    for k, (((a, b, x), (c, d, y)), share) in enumerate(zip(maps.tolist(), shares, strict=True)):
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
    tensor = torch.tensor(maps, dtype=torch.float64).reshape(-1, 2, 3)
    return {"maps": tensor, "window": window, "stroke": stroke, "size": int(max(wide, high))}


def _xform(attributes: dict, number: int) -> list:
    """The map of an <xform>: coefs, with the flip of y undone, times the amount of its one variation, linear."""
    if number > 1000:
        raise ValueError("it has more than 1000 maps")
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
