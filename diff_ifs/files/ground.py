"""Figure and ground: which part of a picture is the fractal, and how much of each pixel it covers.

Three rules, in this order. Transparency: what is opaque is the figure. Colour: the ground is the
colour that most of the border has, the figure is the rest. No colour: the picture's own two levels
are found, under a light that may be uneven, and the brighter one is the figure.

Letters in shapes: H, W height and width of the picture. Colours and greys are from 0 to 1.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from diff_ifs.files.levels import grey_share, has_flat_levels, otsu, smooth_surface, two_surfaces
from diff_ifs.files.noise import (
    cleaned,
    is_noise,
    noise_of,
    residual_noise,
    smoothing,
    without_salt,
)

# in one channel: a colour that differs by more from the ground is no part of it
DISTINCT = 60.5 / 255
NEAR = 0.1  # in each channel: colours of one name, for all noise and all artefacts
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in brightness (ITU-R BT.601)
MANY_GREYS = 0.05  # share of a picture whose greys are no soft edges, no lines and no noise


@dataclass(frozen=True)
class Reading:
    """What a picture was read as."""

    coverage: np.ndarray  # (H, W) of the figure, from 0 to 1
    rule: str  # that decided: transparency, colour or levels
    figure: np.ndarray  # its main colours (K, 3)
    ground: np.ndarray  # colour (3,)
    cut: float  # of opacity, distance from the ground or brightness: the figure is above it
    noise: float = 0.0  # standard deviation of what is left of it in the coverage
    greys: float = 0.0  # share of the picture that is no figure, ground, soft edge or line
    sure: bool = True  # whether another cut, a little off, reads much the same


class NoFigureError(Exception):
    """There is nothing to tell from a ground; the message says what was seen."""


def read(colours: np.ndarray, alpha: np.ndarray | None, cut: float | None = None) -> Reading:
    """Tell the figure of a picture from its ground.

    colours: (H, W, 3); alpha: opacity (H, W), or None where all is opaque. With a cut, from 0 to 1,
    the figure is what has at least as much opacity, distance from the ground or brightness. Raises
    NoFigureError.
    """
    if alpha is not None and (alpha < 0.5).mean() > 1e-3:
        return _by_transparency(colours, alpha, cut)
    if _has_colour(colours) and (ground := _border_ground(colours)) is not None:
        reading = _by_colour(colours, ground, cut)
        if reading.greys <= MANY_GREYS:
            return reading
    return _by_levels(colours, cut)


def swapped(reading: Reading) -> Reading:
    """The same with figure and ground in each other's place."""
    figure, ground = reading.ground[None], reading.figure[0]
    return replace(reading, coverage=1 - reading.coverage, figure=figure, ground=ground)


def _parted(values: np.ndarray, cut: float, unit: str) -> np.ndarray:
    """1 where values (H, W) reach a cut, else 0. Raises NoFigureError where one of both is
    nowhere."""
    figure = values >= cut - 1e-6
    if figure.all() or not figure.any():
        low, high = int(values.min() * 255 + 1e-6) + 1, int(values.max() * 255 + 1e-6)
        if low > high:
            raise NoFigureError("has one colour alone")
        what = "leaves nothing of it" if not figure.any() else "takes all of it"
        raise NoFigureError(f"{what}: its {unit} is {low - 1} to {high}", low, high)
    return figure.astype(float)


def _is_sure(coverage: np.ndarray) -> bool:
    """Whether a cut at a third and one at two thirds agree."""
    return float((coverage >= 2 / 3).sum()) > 0.8 * float((coverage >= 1 / 3).sum())


# --- Transparency ---


def _by_transparency(colours: np.ndarray, alpha: np.ndarray, cut: float | None) -> Reading:
    """What is opaque, compared with the most opaque part, is the figure."""
    there = alpha > 0.03
    if not there.any():
        raise NoFigureError("is transparent all over")
    most = float(np.quantile(alpha[there], 0.9))
    coverage = np.minimum(alpha / most, 1)
    if cut is not None:
        coverage = _parted(alpha, cut, "opacity")
    return Reading(
        coverage=coverage,
        rule="transparency",
        figure=_main_colours(colours[coverage >= 0.5]),
        ground=np.zeros(3),
        cut=most / 2,
        sure=_is_sure(coverage),
    )


# --- Colour ---


def _has_colour(colours: np.ndarray) -> bool:
    """Whether there is colour in a picture (H, W, 3), not counting noise and the tint of a lamp."""
    means = colours
    if noise_of(colours) > 0.01:
        means = ndimage.uniform_filter(colours, (5, 5, 0))
    chroma = np.ptp(means, axis=-1)
    contrast = np.ptp(np.quantile(means.reshape(-1, 3), (0.001, 0.999), axis=0), axis=0).max()
    return float((chroma > min(0.12, max(0.04, contrast / 4))).mean()) > 5e-4


def border(values: np.ndarray) -> np.ndarray:
    """The outermost pixels (N, …), two deep, of a picture (H, W, …)."""
    ring = np.ones(values.shape[:2], dtype=bool)
    ring[2:-2, 2:-2] = False
    return values[ring]


def _border_ground(colours: np.ndarray) -> np.ndarray | None:
    """The colour that most of the border has: (3,), or (H, W, 3) under uneven light; else None."""
    if noise_of(colours) > NEAR / 4:
        colours = ndimage.uniform_filter(colours, (5, 5, 0))
    ring = border(colours)
    colour = _commonest(ring)
    near = float((np.abs(ring - colour).max(-1) < NEAR).mean())
    if near < 0.9:
        places = border(np.indices(colours.shape[:2]).transpose(1, 2, 0))
        surface = smooth_surface(colours, places)
        smooth = float((np.abs(border(surface) - ring).max(-1) < NEAR).mean())
        if smooth >= max(0.75, near + 0.1):
            return _lit(colours, surface)
    return _lit(colours, colour) if near >= 0.5 else None


def _lit(colours: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A ground (3,) or (H, W, 3) with the light that falls on it, where that is uneven."""
    for _ in range(4):
        near = np.abs(colours - ground).max(-1) < NEAR
        near = ndimage.binary_erosion(near, iterations=2)
        if near.sum() < 100:
            break
        places = np.argwhere(near)
        surface = smooth_surface(colours, places[:: max(1, len(places) // 4000)])
        before, after = (float((colours - g)[near].std()) for g in (ground, surface))
        if after > 0.7 * before or before < 0.01:
            break
        ground = surface
    return ground


def _commonest(colours: np.ndarray) -> np.ndarray:
    """The commonest of colours (N, 3): the middle of the fullest cell, then of all near to it."""
    cells = (colours * 12).astype(int) @ np.array([1, 20, 400])
    values, counts = np.unique(cells, return_counts=True)
    middle = np.median(colours[cells == values[counts.argmax()]], axis=0)
    for _ in range(3):
        middle = np.median(colours[np.abs(colours - middle).max(-1) < NEAR], axis=0)
    return middle


def _main_colours(colours: np.ndarray) -> np.ndarray:
    """Up to six colours (K, 3) that most of the pixels (N, 3) have, the commonest first."""
    left, found = colours[:: max(1, len(colours) // 20_000)], []
    enough = len(left) / 10
    while len(left) > enough and len(found) < 6:
        found.append(_commonest(left))
        left = left[np.abs(left - found[-1]).max(-1) >= 2 * NEAR]
    return np.array(found)


def _by_colour(colours: np.ndarray, ground: np.ndarray, cut: float | None) -> Reading:
    """All that differs from the ground, (3,) or (H, W, 3), is the figure."""
    away = colours - ground
    noise = noise_of(away)
    distance = np.abs(away).max(-1)
    typical = float(np.median(distance[distance > otsu(distance)])) if np.ptp(distance) else 0.0
    if typical < max(4 * noise, 2 / 255):
        raise NoFigureError("has one colour alone")
    found = min(DISTINCT, typical / 2)
    if cut is not None:
        coverage, left = _parted(distance, cut, "distance from the ground's colour"), 0.0
    else:
        blur = smoothing(noise / typical)
        left = residual_noise(noise / typical)
        if blur:
            away = ndimage.gaussian_filter(away, (blur, blur, 0))
            distance = np.abs(away).max(-1)
        coverage = cleaned(_colour_coverage(away, distance, found, noise), left)
    page = (np.abs(border(away)).max(-1) < NEAR / 3).mean() > 0.9  # as no photo has
    soft = np.clip(distance / (2 * found), 0, 1)
    return Reading(
        coverage=coverage,
        rule="colour",
        figure=_main_colours(colours[coverage >= 0.5]),
        ground=np.median((colours - away)[coverage < 0.5], axis=0),
        cut=found,
        noise=left,
        greys=0.0 if page or noise > NEAR / 2 or cut is not None else grey_share(soft, left),
        sure=_is_sure(soft),
    )


def _colour_coverage(
    away: np.ndarray, distance: np.ndarray, cut: float, noise: float
) -> np.ndarray:
    """Coverage (H, W) by what lies away from the ground: differences (H, W, 3), and the greatest of
    each."""
    figure = distance > cut
    core = ndimage.binary_erosion(figure, iterations=2)
    if core.sum() <= 50:
        core = distance >= np.median(distance[figure])
    middle = np.median(away[core], axis=0)
    if np.mean(np.abs(away[core] - middle).max(-1) < 1.5 * NEAR + 2 * noise) <= 0.93:
        return distance / (2 * cut)
    # One colour: how far a pixel has come to it. Another, as of a thin part, is figure as well.
    coverage = away @ middle / (middle @ middle)
    other = np.abs(away - coverage[..., None] * middle).max(-1)
    return np.maximum(coverage, other / (2 * cut))


# --- Levels ---


def _by_levels(colours: np.ndarray, cut: float | None) -> Reading:
    """The brighter of a picture's two levels is the figure."""
    brightness = colours @ LUMA
    darkest, reach = float(brightness.min()), float(np.ptp(brightness))
    if reach < 1e-6:
        raise NoFigureError("has one colour alone")
    if cut is not None:
        coverage = _parted(brightness, cut, "brightness")
        shown = coverage >= 0.5
        figure, ground = (np.median(colours[part], axis=0) for part in (shown, ~shown))
        return Reading(coverage, "levels", figure[None], ground, cut)
    grey = (brightness - darkest) / reach
    if is_noise(grey):
        raise NoFigureError("shows noise alone")
    grey = without_salt(grey)
    noise = noise_of(grey)
    if has_flat_levels(grey, noise):
        stacked = np.repeat(brightness[..., None], 3, axis=2)
        page = _border_ground(stacked)
        if page is not None and page.ndim == 1:
            reading = replace(_by_colour(stacked, page, None), rule="levels", greys=0.0)
            darker = reading.figure.mean() < reading.ground.mean()
            cut = float(page[0]) + (-reading.cut if darker else reading.cut)
            return replace(swapped(reading) if darker else reading, cut=cut)
    low, high = two_surfaces(ndimage.gaussian_filter(grey, 1.5) if noise > 0.05 else grey)
    gap = high - low
    noise /= float(np.median(gap))
    if blur := smoothing(noise):
        grey = ndimage.gaussian_filter(grey, blur)
    left = residual_noise(noise)
    raw = (grey - low) / gap
    coverage = cleaned(raw, left)
    shown = coverage >= 0.5
    if shown.all() or not shown.any():
        raise NoFigureError("has one colour alone")
    return Reading(
        coverage=coverage,
        rule="levels",
        figure=np.median(colours[shown], axis=0)[None],
        ground=np.median(colours[~shown], axis=0),
        cut=darkest + reach * float(np.median(low + gap / 2)),
        noise=left,
        greys=grey_share(raw, left),
        sure=_is_sure(coverage),
    )
