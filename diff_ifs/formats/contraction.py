"""Whether maps have an attractor: norms in which they shrink the plane, products that do, products
that do not.

A system has an attractor if all long products of its maps shrink: if the joint spectral radius of
their linear parts is less than 1 (Rota and Strang 1960). One map may stretch in one direction all
the same. Coordinates are looked for in which no map does, and where there are none, products that
all shrink, none of which is the beginning of another (Gripenberg 1996). A product whose spectral
radius is 1 or more shows that there is no attractor.

Letters in shapes: n maps, K products.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# the mean contraction of a letter, in long products, beyond which nothing is drawn
SLOWEST = 0.9999
PRODUCTS = 1 << 17  # that are looked at, at most
LONGEST = 200  # letters of a product


def stretches(linear: "np.ndarray") -> "np.ndarray":
    """The larger singular values (...,) of matrices (..., 2, 2)."""
    import numpy as np

    a, b, c, d = linear[..., 0, 0], linear[..., 0, 1], linear[..., 1, 0], linear[..., 1, 1]
    return (np.hypot(a + d, c - b) + np.hypot(a - d, c + b)) / 2


def spectral_radii(linear: "np.ndarray") -> "np.ndarray":
    """The larger absolute eigenvalues (...,) of matrices (..., 2, 2)."""
    import numpy as np

    half, area = (linear[..., 0, 0] + linear[..., 1, 1]) / 2, np.linalg.det(linear)
    inner = half**2 - area
    return np.where(
        inner < 0, np.sqrt(np.maximum(area, 0)), np.abs(half) + np.sqrt(np.maximum(inner, 0))
    )


def coordinates(linear: "np.ndarray") -> "np.ndarray":
    """The change of coordinates L (2, 2) in which the largest singular value of L A L⁻¹ is least,
    over all A (n, 2, 2).

    L is upper triangular with determinant 1: other ones differ by a turn and a scale, which change
    nothing. The value is quasiconvex in LᵀL, so that a grid that is laid closer and closer about
    its best point finds it.
    """
    import numpy as np

    middle, reach, steps = np.zeros(2), 4.0, np.linspace(-1, 1, 9)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    # of equals, the middle is the best
    grid = grid[np.abs(grid).max(axis=1).argsort(kind="stable")]
    for _ in range(60):
        at = np.clip(middle + reach * grid, -12, 12)
        scale = np.exp(at[:, 0])
        there = np.zeros((len(at), 1, 2, 2))
        there[:, 0, 0, 0], there[:, 0, 0, 1], there[:, 0, 1, 1] = scale, at[:, 1] * scale, 1 / scale
        worst = stretches(there @ linear @ np.linalg.inv(there)).max(axis=1)
        best = int(worst.argmin())
        middle, reach = at[best], min(reach * (0.6 if np.abs(grid[best]).max() < 1 else 1.5), 8.0)
        if reach < 1e-6:
            break
    return there[best, 0]


def contraction(
    maps: "np.ndarray",
    follows: "np.ndarray | None" = None,
    words: Sequence[tuple[int, ...]] | None = None,
    noun: str = "map",
) -> float:
    """The rate at which long products of maps (n, 2, 3) shrink the plane: a bound of their joint
    spectral radius.

    That is their largest singular value where it is 0.99 or less. With `follows` (n, n), only
    products count in which map j stands to the left of map i, so that it comes after it, where
    follows[i, j]. Raises ValueError if there is no such rate up to SLOWEST, and names a product
    that shows it if there is one: by `words`, what each map is called, as numbers of maps the last
    of which comes first.
    """
    import numpy as np

    linear = maps[:, :, :2]
    largest = float(stretches(linear).max())
    if largest <= 0.99:
        return largest
    if follows is not None or spectral_radii(linear).max() < 1:
        there = coordinates(linear)
        linear = there @ linear @ np.linalg.inv(there)
        largest = min(largest, float(stretches(linear).max()))
    if largest <= 0.99:
        return largest
    for rate in (0.97, 0.99, 0.999, SLOWEST):
        shrink, grows, radius = _products(linear, rate, follows)
        if grows is not None:
            called = [number for k in grows for number in (words[k] if words else (k + 1,))]
            raise ValueError(no_attractor(called, radius, noun))
        if shrink:
            return min(rate, largest)
    if largest <= SLOWEST:
        return largest
    raise ValueError(
        f"it shrinks the plane too slowly, if at all: of {PRODUCTS} products of its maps, none "
        f"grows, and not all shrink by {SLOWEST} a map"
    )


def _products(
    linear: "np.ndarray", rate: float, follows: "np.ndarray | None"
) -> tuple[bool, Sequence[int] | None, float]:
    """Whether long products shrink to at most `rate` a letter; else a product that does not shrink,
    if one is found, and its spectral radius.
    """
    import numpy as np

    n = len(linear)
    after = np.ones((n, n), bool) if follows is None else follows
    products, letters, looked_at = linear, np.arange(n)[:, None], n
    for length in range(1, LONGEST + 1):
        # whether a product may follow itself, and be a power
        again = after[letters[:, 0], letters[:, -1]]
        radii = np.where(again, spectral_radii(products), 0)
        if radii.max() >= 1 - 1e-9:
            return False, letters[radii.argmax()].tolist(), float(radii.max())
        large = stretches(products) > rate**length
        if not large.any():
            return True, None, 0.0
        products, letters = products[large], letters[large]
        looked_at += len(products) * n
        if looked_at > PRODUCTS:
            break
        parent, child = np.nonzero(after.T[letters[:, -1]])  # what may come before the last letter
        products = products[parent] @ linear[child]
        letters = np.concatenate([letters[parent], child[:, None]], axis=1)
    return False, None, 0.0


def no_attractor(numbers: Sequence[int], radius: float, noun: str = "map") -> str:
    """The words for a product of maps, by their numbers, the last of which comes first, that does
    not shrink.
    """
    called = [str(number) for number in reversed(list(numbers))]
    if len(called) > 12:
        called[6:-5] = ["…"]
    if len(called) == 1:
        what = f"{noun} {called[0]} does"
    else:
        what = f"{noun}s {', '.join(called[:-1])} and {called[-1]} one after the other do"
    return f"it has no attractor: {what} not shrink the plane (spectral radius {radius:.4g})"


def supports(
    maps: "np.ndarray", follows: "np.ndarray", rate: float, directions: int = 512
) -> "np.ndarray":
    """How far what each map has just produced reaches in a ring of directions, to a thousandth: (n,
    directions).

    That is h_k(d) = <t_k, d> + max h_j(A_kᵀ d) over all maps j that k may follow; between two
    directions of the ring, h is bounded by their linear combination. The origin has to lie near the
    attractor.
    """
    import numpy as np

    step = 2 * math.pi / directions
    ring = np.stack(
        [np.cos(step * np.arange(directions)), np.sin(step * np.arange(directions))], axis=1
    )
    offset = maps[:, :, 2] @ ring.T
    low, high, left, right = between(ring @ maps[:, :, :2], directions)
    before, kind = np.unique(follows.T, axis=0, return_inverse=True)
    if (
        len(before) > 100
    ):  # to look at all would take long: as if any could follow any, which is further
        before, kind = np.ones((1, len(maps)), bool), np.zeros(len(maps), int)
    found, rows = np.zeros_like(offset), kind.reshape(-1, 1)
    for _ in range(math.ceil(math.log(1e-4 * (1 - rate)) / math.log(max(rate, 1e-9)))):
        earlier = np.stack([found[some].max(axis=0) for some in before])
        wider = offset + low * earlier[rows, left] + high * earlier[rows, right]
        change, found = np.abs(wider - found).max(), wider
        if change <= 1e-3 * (1 - rate) * np.ptp(found):
            break
    return found


def between(directions_: "np.ndarray", count: int) -> tuple["np.ndarray", ...]:
    """Vectors (..., 2) as combinations low · left + high · right of neighbours in a ring of `count`
    unit vectors.
    """
    import numpy as np

    step = 2 * math.pi / count
    turn = np.arctan2(directions_[..., 1], directions_[..., 0]) / step
    first = np.floor(turn)
    length = np.hypot(directions_[..., 0], directions_[..., 1]) / math.sin(step)
    left = first.astype(int) % count
    low, high = length * np.sin((1 - (turn - first)) * step), length * np.sin((turn - first) * step)
    return low, high, left, (left + 1) % count
