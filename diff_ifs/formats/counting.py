"""Points of the lattice, maps and multisets of maps, numbered from 0: the enumeration of .ifs
files.

docs/FORMAT.md documents it to the bit. Letters: n maps, L steps of the lattice, m a ring of it.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence


def lattice_points(steps: int, similar: bool, rings: int) -> int:
    """How many maps the lattice of L = `steps` has up to this ring: pairs of rows (A, B, T), or
    similarities (A, B, T, U, mirror)."""
    points = _before_ring(rings + 1, steps, similar)
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


def rank_map(numbers: Sequence[int], steps: int, similar: bool, rings: int) -> int:
    """The number of a map: of its rows (A, B, T, A', B', T'), or of a similarity (A, B, T, U,
    mirror)."""
    if similar:
        return 2 * rank_point(numbers[:4], steps) + numbers[4]
    first, second = rank_point(numbers[:3], steps), rank_point(numbers[3:], steps)
    return first * _before_ring(rings + 1, steps, False) + second


def unrank_map(number: int, steps: int, similar: bool, rings: int) -> list[int]:
    """The numbers of a map: the inverse of `rank_map`."""
    if similar:
        return [*unrank_point(number // 2, steps, True), number % 2]
    rows = divmod(number, _before_ring(rings + 1, steps, False))
    return [x for row in rows for x in unrank_point(row, steps, False)]


def rank_multiset(numbers: Sequence[int]) -> int:
    """The rank of a multiset of n whole numbers among all of them: Σ C(k_i + i - 1, i) over sorted
    k_1 <= … <= k_n.

    (The combinatorial number system; Knuth, The Art of Computer Programming 4A, 7.2.1.3.)
    """
    return sum(math.comb(number + i, i + 1) for i, number in enumerate(sorted(numbers)))


def unrank_multiset(rank: int, n: int) -> list[int]:
    """The sorted multiset of `n` whole numbers of this rank: the inverse of `rank_multiset`."""
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
