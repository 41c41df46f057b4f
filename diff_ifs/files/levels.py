"""The two levels of a picture without colours: numbers, or smooth surfaces under uneven light.

Letters in shapes: H, W height and width of the picture. Greys are from 0 to 1.
"""

import numpy as np
from scipy import ndimage

from diff_ifs.files.noise import block_means


def two_surfaces(grey: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | float]:
    """The levels of dark and bright in a picture (H, W): numbers, or surfaces where light is
    uneven."""
    k = max(1, max(grey.shape) // 192)
    small = block_means(grey, k) if min(grey.shape) >= k else grey
    plain = _misfit(small, small > otsu(small))
    if plain > 4e-4:
        flat = small - smooth_surface(small[..., None], np.argwhere(small > -1))[..., 0]
        # steep places are half way up from dark to bright (Yanowitz & Bruckstein 1989)
        slope = ndimage.gaussian_gradient_magnitude(small, 1)
        edges = np.argwhere(slope > np.quantile(slope, 0.95))
        starts = [small > otsu(small), flat > otsu(flat)]
        if len(edges):
            starts.append(small > smooth_surface(small[..., None], edges)[..., 0])
        misfit, low, gap = min((_surfaces(small, s) for s in starts), key=lambda found: found[0])
        if misfit < plain / 2:
            dark, span = _polynomials(grey.shape, None, 4) @ low, _polynomials(grey.shape) @ gap
            return dark, dark + np.maximum(span, 0.25 * np.median(span))
    return _class_levels(grey, otsu(grey))


def smooth_surface(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The polynomials of degree 2 on which most values (H, W, C) at places (N, 2) lie: (H, W,
    C)."""
    at, wanted = _polynomials(values.shape, places), values[tuple(places.T)]
    weights = np.ones(len(places))
    for _ in range(12):  # least absolute deviations, by weighted least squares
        root = np.sqrt(weights)[:, None]
        found = np.linalg.lstsq(at * root, wanted * root, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(at @ found - wanted).max(-1), 0.005)
    return _polynomials(values.shape) @ found


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values into the two classes of the least variance (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256)
    below = counts.cumsum()[:-1].astype(float)
    above, levels = values.size - below, (edges[1:] + edges[:-1]) / 2
    sums = (counts * levels).cumsum()
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    return float(edges[1 + (below * above * (means[1] - means[0]) ** 2).argmax()])


def grey_share(coverage: np.ndarray, noise: float) -> float:
    """The share of a picture (H, W) that is neither dark nor bright, nor an edge between the two.

    All of it where a quarter is half way between them, however finely they are mixed.
    """
    if (np.abs(coverage - 0.5) < 0.2).mean() > 0.25:
        return 1.0
    slack = 0.2 + 3 * noise
    reach = max(5, round(max(coverage.shape) / 64))
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    dark, bright = np.abs(coverage) < slack, np.abs(coverage - 1) < slack
    near_dark, near_bright = (ndimage.binary_dilation(part, disc) for part in (dark, bright))
    between = near_dark & near_bright & (coverage > 0) & (coverage < 1)
    return float(1 - (dark | bright | between).mean())


def has_flat_levels(grey: np.ndarray, noise: float) -> bool:
    """Whether a picture (H, W) is made of a few flat greys, more than two."""
    if noise > 0.05:
        return False
    reach = ndimage.maximum_filter(grey, 3) - ndimage.minimum_filter(grey, 3)
    left = grey[reach < 0.03 + 5 * noise]
    flat, shares = left.size, []
    if flat < grey.size / 2:
        return False
    while left.size >= 0.03 * flat and len(shares) < 6:
        counts, edges = np.histogram(left, bins=50, range=(0, 1))
        level = np.abs(left - (edges[counts.argmax()] + 0.01)) < 0.025 + 3 * noise
        shares.append(level.sum() / flat)
        left = left[~level]
    return left.size < 0.03 * flat and sum(share > 0.01 for share in shares) > 2


def _polynomials(
    shape: tuple[int, ...], places: np.ndarray | None = None, degree: int = 2
) -> np.ndarray:
    """Legendre polynomials (…, K) at all pixels of a picture or at places (N, 2), by degree."""
    places = np.indices(shape[:2]).transpose(1, 2, 0) if places is None else places
    y, x = np.moveaxis(2 * (places + 0.5) / np.array(shape[:2]) - 1, -1, 0)
    along, down = (np.polynomial.legendre.legvander(at, degree) for at in (x, y))
    powers = [(k - j, j) for k in range(degree + 1) for j in range(k + 1)]
    return np.stack([along[..., i] * down[..., j] for i, j in powers], axis=-1)


def _misfit(small: np.ndarray, bright: np.ndarray) -> float:
    """The mean squared distance of a picture (H, W) from the levels of two classes, in gaps."""
    if bright.all() or not bright.any():
        return np.inf
    high, low = np.median(small[bright]), np.median(small[~bright])
    away = np.minimum(np.abs(small - high), np.abs(small - low)) / max(high - low, 1e-9)
    return float(np.square(np.minimum(away, 0.5)).mean())


def _surfaces(small: np.ndarray, bright: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit a dark surface and a gap above it to two classes, and classes to both, in turn.

    Returns the misfit, as `_misfit`, and the coefficients of the dark surface and of the gap.
    """
    of_low, of_gap = (
        _polynomials(small.shape, None, degree).reshape(small.size, -1) for degree in (4, 2)
    )
    wanted, split = small.ravel(), of_low.shape[1]
    # surfaces bend no more than the picture asks for
    stiff = [*[0] * 3, *[1e-3] * 3, *[3e-3] * 4, *[6e-3] * 5, 0, *[3e-3] * 2, *[1e-2] * 3]
    degrees = np.array([0, *[1] * 2, *[2] * 3, *[3] * 4, *[4] * 5, 0, *[1] * 2, *[2] * 3])
    weights = np.ones(len(wanted))
    for turn in range(16):
        rigid = degrees > 1 + turn // 3  # planes first, so that wrong classes bend nothing
        ridge = np.diag(len(wanted) * np.where(rigid, 1e3, np.array(stiff) + 1e-9))
        edge = ndimage.binary_dilation(bright) ^ ndimage.binary_erosion(bright, border_value=1)
        use = (weights * (1 - 0.9 * edge.ravel()))[:, None]
        system = np.concatenate([of_low, bright.reshape(-1, 1) * of_gap], axis=1)
        weighted = system * use
        found = np.linalg.solve(weighted.T @ system + ridge, weighted.T @ wanted)
        low, gap = found[:split], found[split:]
        span = of_gap @ gap
        # dark and bright change no places
        span = np.maximum(span, 0.25 * abs(np.median(span)) + 1e-6)
        away = (wanted - of_low @ low) / span
        before, bright = bright, (away > 0.5).reshape(small.shape)
        error = np.abs(away - bright.ravel())
        weights = 1 / np.maximum(error, 0.05)
        if turn > 9 and (bright == before).all():
            break
    if bright.all() or not bright.any():
        return np.inf, low, gap
    return float(np.square(np.minimum(error, 0.5)).mean()), low, gap


def _class_levels(grey: np.ndarray, cut: float) -> tuple[float, float]:
    """The levels of what is below and above a cut: inside of it, or where lines are the
    clearest."""
    levels = []
    for part, clearest in ((grey <= cut, 0.02), (grey > cut, 0.98)):
        inside = ndimage.binary_erosion(part, np.ones((3, 3)), border_value=1)
        solid = inside.sum() > 0.2 * part.sum()
        levels.append(np.median(grey[inside]) if solid else np.quantile(grey[part], clearest))
    return float(levels[0]), float(levels[1])
