"""A coder of binary pictures by their contours, the rival that a fractal code must be compared
with.

A contour is a closed chain of cracks, the edges between pixels, with the figure on its right. Each
step of it turns or goes straight on; how likely each is, is learned from the steps before it. Each
context, of 0 to DEEP earlier steps, believes what it has seen and, as one more observation, what
the next shorter context believes; the contexts are mixed by Bayes' rule. An arithmetic coder makes
bytes of that. No header but the side of the picture; the first contour is placed about the middle,
so that a centred figure's place takes two bits.
"""

from collections.abc import Iterator

import numpy as np

DEEP = 14  # earlier steps in the longest context
ONE = 1 << 16  # the probability 1 in the arithmetic coder
LEAST = 1e-6  # weight that a length of context may fall to
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up, as (row, column)
RIGHT_HAND = ((0, 0), (0, -1), (-1, -1), (-1, 0))  # the pixel there, from the corner of pixels
STRAIGHT, SAME, OTHER = range(3)  # a step, compared with the turn before it


class Encoder:
    """An arithmetic coder without rounding: the interval's ends are whole numbers as long as they
    need to be."""

    def __init__(self):
        self.low, self.width, self.scale = 0, 1, 0

    def bit(self, probability: int, bit: int) -> int:
        """Write a bit that is 1 with this probability, in parts of ONE; returns it."""
        self.low *= ONE
        if not bit:
            self.low += self.width * probability
        self.width *= probability if bit else ONE - probability
        self.scale += 16
        return bit

    def data(self) -> bytes:
        """The fewest bytes that, with zeros after them, lie in the interval."""
        for length in range(self.scale // 8 + 2):
            unit = 1 << max(0, self.scale - 8 * length)
            value = -(-self.low // unit)
            if value * unit < self.low + self.width:
                return (value << max(0, 8 * length - self.scale)).to_bytes(length, "big")
        raise AssertionError("an interval holds a number")


class Decoder:
    def __init__(self, data: bytes):
        self.rest, self.scale = int.from_bytes(data, "big"), 8 * len(data)
        self.low, self.width, self.used = 0, 1, 0

    def bit(self, probability: int, _: int | None = None) -> int:
        """Read a bit that is 1 with this probability, in parts of ONE."""
        self.low, self.used = self.low * ONE, self.used + 16
        limit = self.low + self.width * probability
        if self.scale < self.used:
            self.rest, self.scale = self.rest << (self.used - self.scale), self.used
        bit = int(self.rest < limit << (self.scale - self.used))
        if not bit:
            self.low = limit
        self.width *= probability if bit else ONE - probability
        return bit


class Turns:
    """What is known of the next step of a contour: whether it turns, and if so, which way."""

    def __init__(self):
        self.counts: dict[tuple, list[int]] = {}
        self.weights = np.full((2, DEEP + 1), 1 / (DEEP + 1))
        self.first = (0.6, 0.8)  # straight on, and turns the other way: digital lines do

    def code(self, coder: Encoder | Decoder, question: int, past: tuple, bit: int | None) -> int:
        """Write or read the answer to a question (0: straight on? 1: the other way?), and learn
        from it."""
        believed, chance = [], self.first[question]
        seen = [
            self.counts.setdefault((question, *past[len(past) - k :]), [0, 0])
            for k in range(min(DEEP, len(past)) + 1)
        ]
        for no, yes in seen:
            chance = (yes + chance) / (no + yes + 1)
            believed.append(chance)
        believed = np.array(believed + [chance] * (DEEP + 1 - len(believed)))
        mixed = float(self.weights[question] @ believed)
        bit = coder.bit(min(max(round(mixed * ONE), 1), ONE - 1), bit)
        weights = self.weights[question] * (believed if bit else 1 - believed)
        self.weights[question] = np.maximum(weights / weights.sum(), LEAST)
        for counts in seen:
            counts[bit] += 1
        return bit


def contours(pixels: np.ndarray) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """The contours of a binary picture: the corner (row, column) where each begins, to the right,
    and its turns (1: right, 0: straight on, -1: left). Pixels that touch at a corner stay apart."""
    padded = np.pad(pixels, 1)

    def figure(row: int, column: int) -> bool:
        return bool(padded[row + 1, column + 1])

    begun = {(int(r), int(c)) for r, c in np.argwhere(padded[1:] & ~padded[:-1]) - (0, 1)}
    while begun:
        start = row, column = min(begun)
        turns, way = [], 0
        while not turns or (row, column, way) != (*start, 0):
            if way == 0:
                begun.discard((row, column))
            row, column = row + STEPS[way][0], column + STEPS[way][1]
            for turn in (1, 0, -1):
                (down, along), (up, back) = (
                    RIGHT_HAND[(way + turn) % 4],
                    RIGHT_HAND[(way + turn - 1) % 4],
                )
                if figure(row + down, column + along) and not figure(row + up, column + back):
                    break
            way = (way + turn) % 4
            turns.append(turn)
        yield start, turns


def encode(pixels: np.ndarray) -> bytes:
    """The bytes of a square binary picture (S, S), S from 1 to 256."""
    coder, turns = Encoder(), Turns()
    side, corner = len(pixels), None
    number(coder, 8, side - 1)
    for begin, chain in contours(pixels):
        coder.bit(ONE // 2, 1)
        _chain(coder, turns, chain)
        for now, expected in zip(begin, corner or _middle(chain, side), strict=True):
            signed(coder, now - expected)
        corner = begin
    coder.bit(ONE // 2, 0)
    return coder.data()


def decode(data: bytes) -> np.ndarray:
    """The picture (S, S) that `encode` was given."""
    coder, turns = Decoder(data), Turns()
    side, corner = number(coder, 8) + 1, None
    inside = np.zeros((side, side), dtype=bool)
    while coder.bit(ONE // 2):
        chain = _chain(coder, turns)
        expected = corner or _middle(chain, side)
        row, column = corner = tuple(place + signed(coder) for place in expected)
        for row_step, column_step in _ways(chain):
            if row_step:  # a pixel is inside if an odd number of vertical cracks lie left of it
                inside[min(row, row + row_step), column:] ^= True
            row, column = row + row_step, column + column_step
    return inside


def _chain(coder: Encoder | Decoder, model: Turns, chain: list[int] | None = None) -> list[int]:
    """Write or read the turns of a contour, which ends where it began."""
    done, past, last, way, row, column = [], (), 1, 0, 0, 0
    while not done or (row, column, way) != (0, 0, 0):
        row, column = row + STEPS[way][0], column + STEPS[way][1]
        given = chain[len(done)] if chain else None
        turn, step = 0, STRAIGHT
        if not model.code(coder, 0, past, given == 0):
            other = model.code(coder, 1, past, given == -last)
            turn, step = (-last, OTHER) if other else (last, SAME)
            last = turn
        past, way = (*past, step)[-DEEP:], (way + turn) % 4
        done.append(turn)
    return done


def _ways(chain: list[int]) -> Iterator[tuple[int, int]]:
    way = 0
    for turn in chain:
        yield STEPS[way]
        way = (way + turn) % 4


def _middle(chain: list[int], side: int) -> tuple[int, ...]:
    """Where a contour begins if its bounds lie in the middle of the picture."""
    path = np.cumsum([(0, 0), *_ways(chain)], axis=0)
    return tuple(int(x) for x in (side - (path.max(0) - path.min(0))) // 2 - path.min(0))


def number(coder: Encoder | Decoder, bits: int, value: int = 0) -> int:
    """Write or read a whole number of so many bits."""
    return sum(coder.bit(ONE // 2, value >> k & 1) << k for k in range(bits - 1, -1, -1))


def signed(coder: Encoder | Decoder, value: int = 0) -> int:
    """Write or read a whole number by the Elias gamma code of 1, 2, 3, 4, 5 … for 0, 1, -1, 2, -2
    …"""
    code = 2 * value if value > 0 else 1 - 2 * value
    digits = 0
    while coder.bit(ONE // 2, int(digits < code.bit_length() - 1)):
        digits += 1
    code = 1 << digits | number(coder, digits, code)
    return code // 2 if code % 2 == 0 else -(code // 2)
