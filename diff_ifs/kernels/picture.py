"""From densities to losses: pens, blurs, coverage, pyramids, and their gradients.

Letters in shapes: B systems, S side of the picture. R + 1 numbers are half of what is symmetric,
from its middle on.
"""

import numpy as np

from diff_ifs.kernels.jit import compiled, compiled_part


def convolve(pictures, discs, rows=None):
    """Pictures (B, S, S), zero all around, each with its own disc (B, 2 R + 1, 2 R + 1), symmetric
    in both axes.

    rows: the first one that is wanted, and the one after the last; others are zero.
    """
    reach = discs.shape[1] // 2
    quarters, found = discs[:, reach:, reach:].copy(), np.empty_like(pictures)
    quarters[:, 0] /= 2  # because the middle is added to itself, row and column
    quarters[:, :, 0] /= 2
    _convolve_loop(pictures, quarters, rows or (0, pictures.shape[1]), found)
    return found


@compiled
def _convolve_loop(pictures, quarters, rows, found):
    size, reach = pictures.shape[1], quarters.shape[1] - 1
    line = np.zeros(size + 2 * reach, pictures.dtype)
    middle = line[reach:]
    for b in range(len(pictures)):
        for row in range(size):
            found[b, row] = 0
            if row < rows[0] or row >= rows[1]:
                continue
            for away in range(reach + 1):  # rows so far up and down share their part of the disc
                up, down, part = row - away, row + away, pictures.dtype.type(1)
                if up < 0 and down >= size:
                    break
                if up < 0 or down >= size:  # one of them, taken twice
                    up, down, part = (
                        down if up < 0 else up,
                        up if up >= 0 else down,
                        pictures.dtype.type(0.5),
                    )
                above, below = pictures[b, up], pictures[b, down]
                for c in range(size):
                    middle[c] = part * (above[c] + below[c])
                _add_shifted(line, reach, np.int64(1), quarters[b, away], found[b, row])


@compiled_part
def _add_shifted(line, middle, step, taps, sums):
    """Adds Σ taps[k] (line[middle - k step + c] + line[middle + k step + c]) to sums[c]; three taps
    at a time.
    """
    zero, last = taps.dtype.type(0), len(taps) - 1
    for k in range(0, last + 1, 3):
        # beyond the last tap are some of nothing
        second, third = min(k + 1, last), min(k + 2, last)
        t0, t1, t2 = (
            taps[k],
            taps[second] if k < last else zero,
            taps[third] if k + 1 < last else zero,
        )
        if t0 == zero and t1 == zero and t2 == zero:
            continue
        a0, b0 = line[middle - k * step :], line[middle + k * step :]
        a1, b1 = line[middle - second * step :], line[middle + second * step :]
        a2, b2 = line[middle - third * step :], line[middle + third * step :]
        for c in range(len(sums)):
            sums[c] += t0 * (a0[c] + b0[c]) + t1 * (a1[c] + b1[c]) + t2 * (a2[c] + b2[c])


def picture_loss(density, taps, alphas, target, levels: int, held, wanted):
    """Losses (B,) as those of `ifs_model.picture_loss`, and their gradient for the density (B, S,
    S).

    taps: half of the blur's Gaussian, (R + 1,); alphas: (B,); target: (S, S); held: rows outside of
    which the density is zero, wanted: rows of the gradient, the others are zero; rows are as in
    `convolve`.
    """
    low, high = rows = _more(held, len(taps) - 1, len(target))
    bare = blur(density, taps, -alphas, rows)
    # 1 minus the coverage; NumPy's runs in vectors
    np.exp(bare[:, low:high], out=bare[:, low:high])
    bare[:, :low] = bare[:, high:] = 1
    losses, errors = np.zeros_like(alphas), [(1 - target) - bare]
    while len(errors) <= levels and errors[-1].shape[1] >= 8:
        half = errors[-1].shape[1] // 2
        errors.append(np.empty((len(bare), half, half), bare.dtype))
        _pool(errors[-2], errors[-1])
    coarser = np.empty((len(bare), 0, 0), bare.dtype)
    for error in reversed(errors):
        _weigh(error, coarser, losses)
        coarser = error
    low, high = _more(wanted, len(taps) - 1, len(target))
    bare[:, low:high] *= errors[0][:, low:high]
    return losses, blur(bare, taps, alphas, wanted)


def _more(rows, more: int, size: int):
    """So many more rows on either side."""
    return max(rows[0] - more, 0), min(rows[1] + more, size)


def look_loss(density, discs, away, taps, alphas, target, levels: int):
    """Losses (B,) as those of `ifs_model.look_loss`, and their gradient for the density (B, S, S).

    discs: of the pens, (B, 2 R + 1, 2 R + 1), with R = 0 for none; away: what a stray point adds,
    (S, S). The gradient holds only in rows that hold something and next to them: no point is shared
    with a pixel elsewhere.
    """
    size, reach, held = len(target), discs.shape[1] // 2, _held(density)
    wanted, reached = _more(held, 1, size), _more(held, reach, size)
    drawn = convolve(density, discs, reached) if reach else density
    losses, gradient = picture_loss(
        drawn, taps, alphas, target, levels, reached, _more(wanted, reach, size)
    )
    _add_stray(drawn, away, losses, gradient)
    return losses, convolve(gradient, discs, wanted) if reach else gradient


@compiled
def _add_stray(density, away, losses, gradient):
    for b in range(len(density)):
        total = 0.0
        for row in range(density.shape[1]):
            here = density.dtype.type(0)
            for c in range(density.shape[2]):
                here += density[b, row, c] * away[row, c]
                gradient[b, row, c] += away[row, c]
            total += here
        losses[b] += total


def blur(pictures, taps, scales, rows=None):
    """Pictures (B, S, S) times scales (B,), blurred; taps: half of the Gaussian, (R + 1,); rows: as
    in `convolve`.
    """
    size, halved, blurred = pictures.shape[1], taps.copy(), np.empty_like(pictures)
    halved[0] /= 2  # because the middle is added to itself
    padded = size + 2 * (len(taps) - 1)
    room = np.zeros(padded, taps.dtype), np.zeros(padded * size, taps.dtype), np.empty_like(taps)
    _blur_loop(pictures, halved, scales, rows or (0, size), room, blurred)
    return blurred


@compiled
def _blur_loop(pictures, taps, scales, rows, room, blurred):
    size, reach = pictures.shape[1], len(taps) - 1
    line, lines, scaled = room  # lines: blurred along the rows
    middle = line[reach:]
    for b in range(len(pictures)):
        for k in range(reach + 1):
            scaled[k] = scales[b] * taps[k]
        for row in range(max(rows[0] - reach, 0), min(rows[1] + reach, size)):
            for c in range(size):
                middle[c] = pictures[b, row, c]
            along = lines[(reach + row) * size : (reach + row + 1) * size]
            for c in range(size):
                along[c] = 0
            _add_shifted(line, reach, np.int64(1), taps, along)
        for row in range(size):
            blurred_row = blurred[b, row]
            for c in range(size):
                blurred_row[c] = 0
            if rows[0] <= row < rows[1]:
                _add_shifted(lines, (reach + row) * size, size, scaled, blurred_row)


def _held(pictures):
    """The first row that holds something in any of the pictures (B, S, S) >= 0, and the one after
    the last.
    """
    rows = np.flatnonzero(np.einsum("brc->r", pictures))  # twice as fast as the method `sum`
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


@compiled
def _pool(fine, coarse):
    """Means over 2 × 2 pixels, which leave out the last row and column of an odd picture."""
    quarter = fine.dtype.type(0.25)
    for b in range(len(fine)):
        for row in range(coarse.shape[1]):
            up, down = fine[b, 2 * row], fine[b, 2 * row + 1]
            for c in range(coarse.shape[2]):
                coarse[b, row, c] = quarter * (
                    up[2 * c] + up[2 * c + 1] + down[2 * c] + down[2 * c + 1]
                )


@compiled
def _weigh(error, coarser, losses):
    """Add mean squared errors to the losses; errors become the gradient for them, given that for
    the pooled errors.
    """
    pixels, real = error.shape[1] * error.shape[2], error.dtype.type
    quarter, scale = real(0.25), real(2.0 / pixels)
    for b in range(len(error)):
        squares = 0.0
        for row in range(error.shape[1]):
            here = real(0)
            for c in range(error.shape[2]):
                here += error[b, row, c] * error[b, row, c]
                error[b, row, c] *= scale
            squares += here
        losses[b] += squares / pixels
        for row in range(2 * coarser.shape[1]):
            line, above = error[b, row], coarser[b, row // 2]
            for c in range(coarser.shape[2]):
                line[2 * c] += quarter * above[c]
                line[2 * c + 1] += quarter * above[c]


def misfits(even, bare, trials):
    """Mean squares (T, B) of exp(-trial * even) - bare, for pictures (B, P), one bare picture (P,)
    and T trials.

    On one thread: PyTorch shares even this out, and then waits for a core that others may have.
    """
    found, left = np.empty((len(trials), len(even)), even.dtype), np.empty_like(even)
    for trial, row in zip(trials, found, strict=True):
        np.multiply(even, -trial, out=left)
        np.exp(left, out=left)
        left -= bare
        np.einsum("bp,bp->b", left, left, out=row)
    return found / even.shape[1]
