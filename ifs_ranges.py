"""What the fields of a Setup may hold, and the words that refuse the rest.

It needs no torch, so that a bad option or field is refused before anything heavy is loaded.
"""

import difflib

MAX_MAPS = 1000
MAX_POINTS = 16_000_000
MAX_SINGULAR = 0.9901  # of a map in a checkpoint: the largest `bound` of a fit, and some room for rounding

RANGES = {  # least and most; whole numbers where they are
    "maps": (1, MAX_MAPS),
    "depth": (1, 64),
    "points": (100, MAX_POINTS),
    "size": (8, 4096),
    "steps": (10, 1_000_000),
    "starts": (1, 100_000),
    "rounds": (0, 1000),
    "jitter": (0.0, 1.0),
    "stroke": (0.0, 1.0),
    "grey": (False, True),
    "rate": (1e-6, 1.0),
    "blur": (0.3, 64.0),
    "pull": (0.0, 100.0),
    "solidity": (0.1, 100.0),
    "bound": (0.1, 0.99),
    "seed": (0, 2**63 - 1),
}
MAY_BE_NONE = ("depth", "steps", "rounds", "stroke", "grey")


def check_field(field: str, value: object, label: str = "") -> int | float | bool | None:
    """The value of a field, in plain types. Raises ValueError, naming the range and the field, if it is none."""
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
        raise ValueError(f"{label or f'Setup.{field}'} must be {noun} from {low} to {high}, not {_short(value)}")
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
