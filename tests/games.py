"""A chaos game as flam3 plays it, in a few lines of numpy: what pictures of flames are compared
with.
"""

import math

import numpy as np
from scipy.ndimage import binary_dilation

SAME = (1, 0, 0, 1, 0, 0)


def acted(coefs, x):
    """Points (P, 2) under six numbers as a flame has them: columns, one after the other."""
    a, c, b, d, e, f = np.asarray(coefs, dtype=float).T
    return np.stack([a * x[:, 0] + b * x[:, 1] + e, c * x[:, 0] + d * x[:, 1] + f], axis=1)


def played(
    xforms,
    center=(0, 0),
    scale=128,
    size=256,
    finals=(),
    rotate=0,
    steps=400,
    games=4000,
    counts=False,
):
    """The pixels (size, size) that a flame's points hit; xforms are dicts of numbers. With
    `counts`, how many did.
    """
    chance = np.random.default_rng(0)
    weights = np.array([f.get("weight", 1.0) for f in xforms])
    chaos = [(list(f.get("chaos", ())) + [1.0] * len(xforms))[: len(xforms)] for f in xforms]
    steps_to = weights * np.array(chaos)
    steps_to = (steps_to / np.maximum(steps_to.sum(axis=1, keepdims=True), 1e-300)).cumsum(axis=1)
    coefs, posts = (
        np.array([f.get(key, SAME) for f in xforms], dtype=float) for key in ("coefs", "post")
    )
    amounts = np.array([f.get("linear", 1.0) for f in xforms])
    shown = np.array([f.get("opacity", 1.0) for f in xforms])
    picture = np.zeros((size, size), int)
    x = chance.uniform(-1, 1, (games, 2))
    last = chance.choice(len(xforms), games, p=weights / weights.sum())
    turn = math.radians(rotate)
    for step in range(steps):
        last = (
            (chance.random(games)[:, None] >= steps_to[last]).sum(axis=1).clip(max=len(xforms) - 1)
        )
        x = acted(posts[last], amounts[last, None] * acted(coefs[last], x))
        y = x[(shown[last] > 0) & (step > 200)]
        for final in finals:
            y = acted(final, y)
        y = y - center
        y = y @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        column, row = np.floor(y * scale + size / 2).astype(int).T
        here = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        np.add.at(picture, (row[here], column[here]), 1)
    return picture if counts else picture > 0


def written(xforms, center=(0, 0), scale=128, size=256, finals=(), rotate=0, more=""):
    """The same flame as XML."""

    def words(numbers):
        return " ".join(map(repr, np.atleast_1d(numbers).tolist()))

    look = f'size="{size} {size}" center="{words(center)}" scale="{scale}" rotate="{rotate}"'
    lines = [f'<flame name="test" {look}>']
    for tag, some in (("xform", xforms), ("finalxform", [{"coefs": final} for final in finals])):
        for numbers in some:
            said = {"weight": 1.0, "linear": 1.0, **numbers}
            lines.append(
                f"<{tag} {' '.join(f'{key}={words(value)!r}' for key, value in said.items())}/>"
            )
    return "\n".join([*lines, more, "</flame>"]).encode()


def apart(one, other):
    """How many pixels of either picture have none of the other within a pixel."""
    square = np.ones((3, 3), bool)
    return int(
        (one & ~binary_dilation(other, square)).sum()
        + (other & ~binary_dilation(one, square)).sum()
    )
