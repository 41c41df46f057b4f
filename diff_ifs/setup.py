"""What a NAME_setup.py is made of: maps, and `Setup`, the initial maps of a target and the
hyperparameters of its fit.

It needs no torch, so that whatever is wrong with a setup or an option is said before anything heavy
is loaded.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

Map = tuple[tuple[float, float, float], tuple[float, float, float]]
WINDOW = (-1.0, 1.0, -1.0, 1.0)  # xmin, xmax, ymin, ymax of the world that a picture shows
MAX_MAPS = 1000
MAX_POINTS = 16_000_000
# of a map in a checkpoint: the largest `bound` of a fit, and some room for rounding
MAX_SINGULAR = 0.9901
RANGES = {  # least and most; whole numbers where they are
    "maps": (1, MAX_MAPS),
    "price": (0.0001, 1.0),
    "depth": (1, 64),
    "points": (100, MAX_POINTS),
    "size": (8, 4096),
    "steps": (10, 1_000_000),
    "starts": (1, 100_000),
    "rounds": (0, 1000),
    "jitter": (0.0, 1.0),
    "stroke": (0.0, 1.0),
    "grey": (False, True),
    "invert": (False, True),
    "threshold": (0, 255),
    "rate": (1e-6, 1.0),
    "blur": (0.3, 64.0),
    "pull": (0.0, 100.0),
    "solidity": (0.1, 100.0),
    "bound": (0.1, 0.99),
    "seed": (0, 2**63 - 1),
}
MAY_BE_NONE = ("maps", "depth", "steps", "starts", "rounds", "stroke", "grey", "threshold")


def affine(a: float, b: float, c: float, d: float, x: float = 0.0, y: float = 0.0) -> Map:
    """The map (X, Y) -> (a X + b Y + x, c X + d Y + y)."""
    return ((a, b, x), (c, d, y))


def similarity(
    scale: float, degrees: float = 0.0, at: tuple[float, float] = (0.0, 0.0), mirror: bool = False
) -> Map:
    """The map that shrinks the world by `scale`, turns it by `degrees` (counter-clockwise) and
    moves (0, 0) to `at`.

    With `mirror`, the world is first reflected in the x axis.
    """
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return affine(c, s, s, -c, *at) if mirror else affine(c, -s, s, c, *at)


def stretch(map_: Sequence[Sequence[float]]) -> float:
    """By how much a map stretches the world at most: its larger singular value, as in
    `ifs_model.singular_values`."""
    (a, b, _), (c, d, _) = map_
    return math.hypot(a + d, c - b) / 2 + math.hypot(a - d, c + b) / 2


@dataclass(frozen=True)
class Setup:
    """The initial maps of a target and the hyperparameters of its fit. Raises ValueError for a
    field out of range."""

    # The initial maps, or how many to start from at random; None: as many as the picture repays,
    # and 12 where it is grey or a depth is given.
    maps: int | Sequence[Map] | None = None
    price: float = 0.001  # IoU that each map must gain where the picture says how many there are
    # letters in a word: all n^depth words are drawn; None: words of about equal weight
    depth: int | None = None
    # points drawn of a full-size picture when depth is None; half as many again in the end
    points: int = 40_000
    size: int = 256  # side of the picture that is fitted, in pixels
    # steps of the optimiser, all stages together; None: as many as the rounds need
    steps: int | None = None
    starts: int | None = None  # systems that start, as one batch; None: 256, for a grey picture 32
    # how often the best are bred; None: 5 or more, by the number of maps, if grey 2
    rounds: int | None = None
    jitter: float = 0.05  # spread of the starts around initial maps that are given
    # radius of the pen in world units at the start; 0: no pen; None: from the picture
    stroke: float | None = None
    # whether its greys are part of the picture; None: as train_ifs.py finds it, else no
    grey: bool | None = None
    invert: bool = False  # whether figure and ground of the picture are swapped
    # of 255, from which on brightness, opacity or distance from the ground is figure
    threshold: int | None = None
    rate: float = 0.03  # learning rate at the start
    blur: float = 2.0  # sigma of the splat at the start, in pixels of the first, coarse picture
    pull: float = 0.1  # how strongly stray points are pulled towards the target
    solidity: float = 1.0  # alpha, as a multiple of what suits points spread evenly over the target
    bound: float = 0.97  # largest singular value of a map
    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            if field.name != "maps" or isinstance(self.maps, int | None):
                object.__setattr__(
                    self, field.name, check_field(field.name, getattr(self, field.name))
                )
        if not isinstance(self.maps, int | None):
            self._check_maps()
        if self.depth is not None and self.n**self.depth > MAX_POINTS:
            raise ValueError(
                f"Setup.depth {self.depth} would draw {self.n}^{self.depth} points; at most "
                f"{MAX_POINTS}"
            )

    def _check_maps(self) -> None:
        try:
            shapes = (
                {(len(map_), *map(len, map_)) for map_ in self.maps}
                if 1 <= len(self.maps) <= MAX_MAPS
                else {}
            )
            maps = (
                [[[_number(x) for x in row] for row in map_] for map_ in self.maps]
                if shapes == {(2, 3, 3)}
                else []
            )
        except (TypeError, ValueError, OverflowError):
            maps = []
        if not maps:
            raise ValueError(
                "Setup.maps must be 1 to 1000 maps of 2 × 3 numbers, such as "
                "similarity(0.5, at=(0, 0.4))"
            )
        if not all(
            math.isfinite(x) and abs(x) <= 100 for map_ in maps for row in map_ for x in row
        ):
            raise ValueError("Setup.maps must hold finite numbers from -100 to 100")
        stretches = [stretch(map_) for map_ in maps]
        if (most := max(stretches)) >= 1:
            raise ValueError(
                f"Setup.maps[{stretches.index(most)}] must shrink the world, say by 0.99; it "
                f"stretches by {most:.3f}"
            )
        object.__setattr__(self, "maps", tuple(tuple(tuple(row) for row in map_) for map_ in maps))

    @property
    def n(self) -> int:
        """The number of maps; 12 where the picture is to say it."""
        return (self.maps or 12) if isinstance(self.maps, int | None) else len(self.maps)

    @property
    def batch(self) -> int:
        """The number of systems that start."""
        return self.starts or (32 if self.grey else 256)


def check_field(field: str, value: object, label: str = "") -> int | float | bool | None:
    """The value of a field, in plain types. Raises ValueError, naming the range and the field, if
    it is none."""
    if value is None and field in MAY_BE_NONE:
        return None
    low, high = RANGES[field]
    if isinstance(high, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"{label or f'Setup.{field}'} must be True or False, not {_short(value)}")
    kind = int if isinstance(high, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        raise ValueError(
            f"{label or f'Setup.{field}'} must be {noun} from {low} to {high}, not {_short(value)}"
        )
    return int(value) if kind is int else float(value)


def unknown_field(field: str) -> str:
    """The words for a field that Setup does not have."""
    near = difflib.get_close_matches(field, RANGES, n=1, cutoff=0.65)
    known = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(RANGES)}"
    return f"Setup has no field {field!r}; {known}"


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:  # Python refuses to print very long ones
        return "such a large one"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _number(value: object) -> float:
    if isinstance(value, str):
        raise TypeError("words are no numbers")
    return float(value)
