"""Noise in pictures: how much there is, and how to be rid of it.

Letters in shapes: H, W height and width of the picture. Greys are from 0 to 1.
"""

import numpy as np
from scipy import ndimage


def noise_of(values: np.ndarray) -> float:
    """The standard deviation of the noise in a picture, (H, W) or (H, W, C): of its worst channel.

    The answer to a mask that no plane excites (Immerkaer 1996), its median instead of its mean.
    """
    if min(values.shape[:2]) < 3:
        return 0.0
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    answer = np.abs(ndimage.convolve(values, mask if values.ndim == 2 else mask[..., None]))
    return float(np.median(answer, axis=(0, 1)).max()) / 0.6745 / 6


def smoothing(noise: float) -> float:
    """The sigma of a Gaussian, in pixels, that leaves an eighth of the gap; 0 for less noise.

    It leaves 1 / (2 sqrt(pi) sigma) of white noise.
    """
    return noise / (0.125 * 2 * np.sqrt(np.pi)) if noise > 0.125 else 0.0


def residual_noise(noise: float) -> float:
    """What is left of the noise after `smoothing`."""
    return min(noise, 0.125)


def cleaned(coverage: np.ndarray, noise: float) -> np.ndarray:
    """Coverage (H, W), clipped, without noise below and above, and without the specks that it
    leaves."""
    dead = min(2.5 * noise, 0.3)
    coverage = np.clip((coverage - dead) / (1 - 2 * dead), 0, 1)
    if noise < 0.04:
        return coverage
    for speck, around in ((True, 0.0), (False, 1.0)):
        labels, _ = ndimage.label((coverage >= 0.5) == speck, np.ones((3, 3)))
        small = np.bincount(labels.ravel()) < 12  # pixels
        small[0] = False
        coverage = np.where(small[labels], around, coverage)
    return coverage


def without_salt(grey: np.ndarray) -> np.ndarray:
    """A picture (H, W) without lone bright and dark pixels, where both are strewn over it."""
    others = np.ones((3, 3), dtype=bool)
    others[1, 1] = False
    step = 0.3 * np.ptp(grey)
    bright = grey > ndimage.maximum_filter(grey, footprint=others) + step
    dark = grey < ndimage.minimum_filter(grey, footprint=others) - step
    if min(bright.mean(), dark.mean()) < 1e-3:
        return grey
    middle = ndimage.median_filter(grey, 3)
    return np.where(np.abs(grey - middle) > step, middle, grey)


def is_noise(grey: np.ndarray) -> bool:
    """Whether means of 8 × 8 pixels vary about as little as those of independent ones would."""
    busy = (np.abs(grey - np.median(grey)) > 0.1 * np.ptp(grey)).mean()
    if min(grey.shape) < 16 or busy < 0.2:  # lone dots are no noise
        return False
    return float(block_means(grey, 8).var()) * 64 < 2 * float(grey.var())


def block_means(grey: np.ndarray, k: int) -> np.ndarray:
    """Means of blocks of k × k pixels of a picture (H, W), but for an incomplete last row or
    column."""
    rows, columns = (n // k for n in grey.shape)
    return grey[: rows * k, : columns * k].reshape(rows, k, columns, k).mean((1, 3))
