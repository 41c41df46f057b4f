"""Thin lines: what is drawn thinner than a pixel stays one line."""

import numpy as np
from scipy import ndimage


def whole_lines(coverage: np.ndarray, least: float) -> np.ndarray:
    """Coverage (H, W) in which the crest of a line that stays below 1/2 is raised above it.

    A line thinner than a pixel covers none by half, or only some, and would be torn. What is thin
    is what an opening takes away; its crest is where it is brightest across, and darker by half two
    pixels off. Left as it is: what is fainter than `least`; what is shorter than four pixels and
    joins no two parts of what is on.
    """
    thin = coverage - ndimage.grey_opening(coverage, size=(5, 5))
    level = ndimage.maximum_filter(thin, size=3)
    on = coverage >= 0.5
    faint = ~on & (thin >= level / 2) & (thin > least)
    if not faint.any():
        return coverage
    rows, columns = coverage.shape
    padded = np.pad(coverage, 2)

    def moved(y: int, x: int) -> np.ndarray:
        return padded[2 + y : 2 + y + rows, 2 + x : 2 + x + columns]

    crest = np.zeros_like(faint)
    for y, x in ((0, 1), (1, 0), (1, 1), (1, -1)):
        top = (coverage >= moved(y, x)) & (coverage > moved(-y, -x))
        far = np.maximum(moved(2 * y, 2 * x), moved(-2 * y, -2 * x))
        crest |= faint & top & (coverage >= 2 * far)
    for _ in range(2):  # where the crest goes over from one row to the next
        crest |= (thin > least / 2) & _between(crest | on)
    pieces, count = ndimage.label(crest, np.ones((3, 3)))
    least_part, most_part = _neighbours(on)
    labels = np.arange(count + 1)
    joins = ndimage.maximum(most_part, pieces, labels) > ndimage.minimum(least_part, pieces, labels)
    boxes = ndimage.find_objects(pieces)
    long = [False] + [max(side.stop - side.start for side in box) >= 4 for box in boxes]
    drawn = crest & (joins | np.array(long))[pieces]
    return np.where(drawn, np.maximum(thin / np.maximum(level, 1e-6), 0.5), coverage)


def _between(on: np.ndarray) -> np.ndarray:
    """The pixels (H, W) off that touch two parts of what is on."""
    least, most = _neighbours(on)
    return ~on & (most > least)


def _neighbours(on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest number of a part of what is on (H, W) that each pixel touches."""
    parts, count = ndimage.label(on, np.ones((3, 3)))
    least = ndimage.minimum_filter(np.where(on, parts, count + 1), 3)
    return least, ndimage.maximum_filter(parts, 3)
