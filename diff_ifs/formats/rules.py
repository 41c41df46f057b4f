"""What a file says of a fractal, whoever wrote it: the rules of a chaos game, and what of it is
shown.

The chaos game applies one map after the other, each at random by its weight. A file may say more:
which map may come after which (`chaos`), what is not drawn of what is produced (`opacities`), and
what is done to points before they are drawn, but not to those the game goes on with (`finals`).
`prepared` finds the plain system that has the same attractor, where there is one; else a `Chain`
says what is drawn.

Letters in shapes: n maps, m letters of a chain.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from diff_ifs.formats.contraction import between, contraction, spectral_radii, stretches, supports
from diff_ifs.setup import MAX_MAPS

if TYPE_CHECKING:
    import numpy as np

Map = list[list[float]]
SAME: Map = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@dataclass
class Rules:
    """The rules of one fractal. `noun` is what its file calls a map; `others` tells of more
    fractals in the file.
    """

    maps: list[Map]
    weights: list[float] | None = None  # of each map, n; None: by their areas
    window: tuple[float, float, float, float] | None = None  # None: the attractor's own box
    stroke: float = 0.0
    size: int = 256
    # n from 0, hidden, to 1; empty: all are shown
    opacities: list[float] = field(default_factory=list)
    # n factors each, of the weights of what follows; or none
    chaos: list[list[float]] = field(default_factory=list)
    # each with its opacity: the part that it acts on
    finals: list[tuple[Map, float]] = field(default_factory=list)
    noun: str = "map"
    others: str = ""


@dataclass(frozen=True)
class Chain:
    """A chaos game with a memory: arrays of float64.

    A_k, what letter k has just produced, is f_k(∪ A_j) over all j that k may follow. What is drawn
    is the union of h(A_k), over all k of some opacity and all `finals` h.
    """

    maps: "np.ndarray"  # (m, 2, 3)
    steps: "np.ndarray"  # (m, m): the probability of each letter (column) after each (row)
    opacities: "np.ndarray"  # (m,)
    finals: "np.ndarray"  # (h, 2, 3)
    shares: "np.ndarray"  # (h,): the part of points that each final map draws

    @property
    def follows(self) -> "np.ndarray":
        """Whether a letter (column) may come after another (row): (m, m)."""
        return self.steps > 0


@dataclass(frozen=True)
class Prepared:
    """What is drawn: a plain system if `picture` is None; its measure, by its weights if `measure`
    is None.
    """

    maps: "np.ndarray"  # (n, 2, 3)
    weights: "np.ndarray | None"
    picture: Chain | None
    measure: Chain | None
    rate: float  # at which long products of its maps shrink the plane
    stretch: float  # by how much one of them stretches it, at most


def prepared(rules: Rules) -> Prepared:
    """What is drawn by rules. Raises ValueError for rules that have no attractor, or none that can
    be drawn.
    """
    import numpy as np

    if not 1 <= len(rules.maps) <= MAX_MAPS:
        raise ValueError(f"it has {len(rules.maps)} maps, not 1 to {MAX_MAPS}")
    finals = np.array([final for final, _ in rules.finals], dtype=float)
    if not (np.abs(rules.maps).max() <= 1e3 and np.abs(finals).max(initial=0) <= 1e6):  # nor NaN
        raise ValueError("its maps hold numbers that are not from -1000 to 1000")
    chain, words = _chain(rules)
    follows = None if chain.follows.all() else chain.follows
    maps, shown, final = chain.maps, chain.opacities > 0, chain.finals[0]
    if follows is None:
        maps, shown, words = _without_isometries(maps, shown, words, rules.noun)
    rate = contraction(maps, follows, words, rules.noun)
    found = {"rate": rate, "stretch": float(stretches(maps[:, :, :2]).max())}
    plain = follows is None and shown.all() and len(chain.finals) == 1
    if plain and abs(np.linalg.det(final[:, :2])) > 1e-6 * stretches(final[:, :2]) ** 2:
        if (
            maps is not chain.maps
            or np.ptp(chain.steps, axis=0).max() > 1e-12
            or np.ptp(chain.opacities) > 0
        ):
            return Prepared(_moved(maps, final), None, None, chain, **found)
        weights = (
            None if rules.weights is None else np.array([rules.weights[k - 1] for (k,) in words])
        )
        return Prepared(_moved(maps, final), weights, None, None, **found)
    even = np.full((len(maps), len(maps)), 1 / len(maps))
    picture = (
        replace(chain, maps=maps, steps=even, opacities=shown * 1.0) if follows is None else chain
    )
    return Prepared(maps, None, picture, chain, **found)


def _chain(rules: Rules) -> tuple[Chain, list[tuple[int, ...]]]:
    """The chaos game of rules, without what never happens in it, and the numbers of the maps that
    are left.
    """
    import numpy as np

    maps, noun = np.array(rules.maps, dtype=float), rules.noun
    if rules.weights is None:
        large = stretches(maps[:, :, :2])
        weights = np.maximum(np.abs(np.linalg.det(maps[:, :, :2])), 0.01 * large**2) + 1e-9
    else:
        weights = np.array(rules.weights, dtype=float)
    factors = np.array(rules.chaos, dtype=float) if rules.chaos else np.ones((len(maps), len(maps)))
    if (weights < 0).any():
        raise ValueError(f"{noun} {int((weights < 0).argmax()) + 1} has a negative weight")
    if (factors < 0).any():
        raise ValueError(
            f"the chaos list of {noun} {int((factors < 0).any(axis=1).argmax()) + 1} has a "
            "negative number"
        )
    if not weights.any():
        raise ValueError(f"the weights of all {noun}s are 0")
    if max(weights.max(), factors.max()) > 1e12:
        raise ValueError(f"the weights of its {noun}s are not from 0 to 1e12")
    steps = weights * factors
    kept = np.flatnonzero(weights > 0)
    steps = steps[np.ix_(kept, kept)]
    if (stuck := ~(steps > 0).any(axis=1)).any():
        raise ValueError(
            f"no {noun} may come after {noun} {kept[stuck.argmax()] + 1}, as its chaos list has it"
        )
    reached = steps > 0
    for _ in range(len(kept).bit_length()):
        reached |= (reached.astype(np.float32) @ reached.astype(np.float32)) > 0
    lasting = ~(reached & ~reached.T).any(axis=1)  # what is left for good is not seen in the end
    kept, steps = kept[lasting], steps[np.ix_(lasting, lasting)]
    finals, shares = np.array([SAME]), np.ones(1)
    for final, opacity in rules.finals:
        moved = composed(np.array(final), finals)
        finals, shares = (
            np.concatenate([moved, finals]),
            np.concatenate([shares * opacity, shares * (1 - opacity)]),
        )
        finals, shares = finals[shares > 0], shares[shares > 0]
        if len(finals) > 64:
            raise ValueError("it has too many final xforms")
    opacities = np.array(rules.opacities or [1.0] * len(maps))[kept]
    if not opacities.any():
        raise ValueError(f"all of its {noun}s are hidden")
    chain = Chain(maps[kept], steps / steps.sum(axis=1, keepdims=True), opacities, finals, shares)
    return chain, [(int(k) + 1,) for k in kept]


def composed(f: "np.ndarray", g: "np.ndarray") -> "np.ndarray":
    """The composition f∘g of maps (..., 2, 3)."""
    import numpy as np

    return np.concatenate([f[..., :2] @ g[..., :2], f[..., :2] @ g[..., 2:] + f[..., 2:]], axis=-1)


def _moved(maps: "np.ndarray", final: "np.ndarray") -> "np.ndarray":
    """The maps of the image of an attractor under a map that can be undone."""
    import numpy as np

    back = np.linalg.inv(final[:, :2])
    return composed(composed(final, maps), np.concatenate([back, -back @ final[:, 2:]], axis=1))


def _without_isometries(
    maps: "np.ndarray", shown: "np.ndarray", words: list[tuple[int, ...]], noun: str
) -> tuple["np.ndarray", "np.ndarray", list[tuple[int, ...]]]:
    """Maps that have the same attractor, none of which comes back to itself when it is repeated, as
    a turn by 120° does.

    Those that do make a group G, if they are a symmetry; with the others f, the attractor is that
    of all g∘f. Raises ValueError if there is no end to the group. What is shown comes back as
    `shown` of the new maps, and so do words.
    """
    import numpy as np

    back = _come_back(maps)
    order, others = np.flatnonzero(back).tolist(), np.flatnonzero(~back).tolist()
    if not order:
        return maps, shown, words
    if not others:
        raise ValueError(f"it has no attractor: none of its {noun}s shrinks the plane")
    reach = 1 + np.abs(maps[:, :, 2]).max()
    group, group_words, used = np.array([SAME]), [()], []
    for generator in order:
        if np.abs(group - maps[generator]).max(axis=(1, 2)).min() < 1e-3 * reach:
            continue
        used.append(generator)
        waiting = list(range(len(group)))
        while waiting:
            e = waiting.pop(0)
            for k in used:
                element, word = composed(maps[k], group[e]), words[k] + group_words[e]
                apart = np.abs(group - element)
                same = apart[:, :, :2].max(axis=(1, 2)) < 1e-3
                moved = apart[:, :, 2].max(axis=1) > 1e-3 * reach
                if (
                    same & moved
                ).any():  # two turns about different centres: a shift, which never ends
                    word += group_words[int((same & moved).argmax())]
                    what = ", ".join(map(str, dict.fromkeys(reversed(word))))
                    raise ValueError(
                        f"it has no attractor: {noun}s {what} one after the other shift the plane "
                        "without an end"
                    )
                if not same.any():
                    waiting.append(len(group))
                    group, group_words = (
                        np.concatenate([group, element[None]]),
                        [*group_words, word],
                    )
                if len(group) * len(others) > MAX_MAPS:
                    raise ValueError(f"with its symmetries it has more than {MAX_MAPS} maps")
    if shown[order].any():  # such a map takes the attractor to itself
        visible = np.ones(len(group) * len(others), bool)
    else:
        visible = np.concatenate([shown[others], np.zeros((len(group) - 1) * len(others), bool)])
    moved = composed(group[:, None], maps[None, others]).reshape(-1, 2, 3)
    return moved, visible, [word + words[k] for word in group_words for k in others]


def _come_back(maps: "np.ndarray") -> "np.ndarray":
    """Whether maps (n,), repeated at most 360 times, come back to where they began, up to
    rounding."""
    import numpy as np

    linear = maps[:, :, :2]
    some = np.abs(np.abs(np.linalg.det(linear)) - 1) < 1e-4
    some &= spectral_radii(linear) < 1 + 1e-4
    back, power = np.zeros_like(some), maps
    reach = 1 + np.abs(maps[:, :, 2]).max(axis=1)
    for _ in range(360 if some.any() else 0):
        apart = np.abs(power - SAME)
        back |= (apart[:, :, :2].max(axis=(1, 2)) < 1e-3) & (
            apart[:, :, 2].max(axis=1) < 1e-3 * reach
        )
        power = np.where(some[:, None, None], composed(maps, power), power)
    return back & some


def own_window(what: Prepared, stroke: float = 0.0) -> tuple[float, float, float, float]:
    """The square about all that is drawn, with its pen, and a margin of 4 % on each side."""
    import numpy as np

    chain, maps = what.picture, what.maps
    follows = np.ones((len(maps), len(maps)), bool) if chain is None else chain.follows
    at, letter, chance = np.zeros(2), 0, np.random.default_rng(0)
    for _ in range(1000):  # a point that is as good as on the attractor
        at = maps[letter, :, :2] @ at + maps[letter, :, 2]
        letter = chance.choice(np.flatnonzero(follows[letter]))
    moved = maps.copy()
    moved[:, :, 2] += maps[:, :, :2] @ at - at
    reach = supports(moved, follows, what.rate)
    if chain is None:
        ends = reach.max(axis=0)[:: len(reach[0]) // 4]
        right, top, left, bottom = (
            at[0] + ends[0],
            at[1] + ends[1],
            at[0] - ends[2],
            at[1] - ends[3],
        )
    else:
        reach = reach[chain.opacities > 0].max(axis=0)
        ring = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        low, high, first, last = between(ring @ chain.finals[:, :, :2], len(reach))
        middles = chain.finals[:, :, :2] @ at + chain.finals[:, :, 2]
        ends = (middles @ ring.T + low * reach[first] + high * reach[last]).max(axis=0)
        right, top, left, bottom = ends[0], ends[1], -ends[2], -ends[3]
    least = 1e-6 * (1 + np.abs(at).max())  # of a single point
    half = 1.08 * (stroke + max(right - left, top - bottom, least) / 2)
    x, y = (left + right) / 2, (bottom + top) / 2
    return float(x - half), float(x + half), float(y - half), float(y + half)
