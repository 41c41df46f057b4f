"""Particles of a measure: merged cell by cell, and deposited in a picture.

Letters in shapes: n maps, P points, S side of the picture.
"""

import numpy as np

from diff_ifs.kernels.jit import compiled


def merge(maps, digits, shares, points, weights, rows: int, columns: int):
    """The images of particles (D, P) and (P,) under maps (n, 2, 3), merged in each cell: points (D,
    Q), weights (Q,).

    D is 2, or 3 with addresses, to which maps do what digits (n, 2) say. Map k carries on the part
    shares[k] of a particle's weight. All that falls into a cell becomes one particle at its centre
    of mass. Coordinates are in units of cells, of which there are rows × columns; points outside
    share the cells of the border.
    """
    sums = np.zeros((rows * columns, 1 + len(points)))
    return _merge_loop(maps, digits, shares, points, weights, sums, columns)


@compiled
def _merge_loop(maps, digits, shares, points, weights, sums, columns):
    last_column, last_row = columns - 1.0, len(sums) // columns - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            mass = shares[k] * weights[p]
            # written so that not even NaN leaves the grid
            column = int(min(x, last_column)) if x > 0 else 0
            row = int(min(y, last_row)) if y > 0 else 0
            cell = sums[row * columns + column]
            cell[0] += mass
            cell[1] += mass * x
            cell[2] += mass * y
            if len(points) > 2:
                cell[3] += mass * (digits[k, 0] * points[2, p] + digits[k, 1])
    taken = 0
    for p in range(len(sums)):
        taken += sums[p, 0] > 0
    merged, masses, q = np.empty((len(points), taken)), np.empty(taken), 0
    for p in range(len(sums)):
        mass = sums[p, 0]
        if mass > 0:
            for axis in range(len(points)):
                merged[axis, q] = sums[p, 1 + axis] / mass
            masses[q] = mass
            q += 1
    return merged, masses


@compiled
def deposit(map_, digits, share, points, weights, palette, pictures):
    """Add the masses of the images of particles (D, P) and (P,) under a map (2, 3) to the pixels of
    pictures (C, H, W).

    The map carries on the part `share`, and does to addresses what digits (2,) say. D is that of
    `merge`. The last picture takes the mass; three before it, if there are, mass times the red,
    green and blue that a palette (L, 3) gives to addresses. Pixel (row, column) is where row <= y <
    row + 1 and column <= x < column + 1; points outside fall on the border.
    """
    last_column, last_row = pictures.shape[2] - 1.0, pictures.shape[1] - 1.0
    a, b, e, c, d, f = map_[0, 0], map_[0, 1], map_[0, 2], map_[1, 0], map_[1, 1], map_[1, 2]
    for p in range(points.shape[1]):
        x = a * points[0, p] + b * points[1, p] + e
        y = c * points[0, p] + d * points[1, p] + f
        column = int(min(x, last_column)) if x > 0 else 0
        row = int(min(y, last_row)) if y > 0 else 0
        mass = share * weights[p]
        pictures[-1, row, column] += mass
        if len(pictures) > 1:
            shade = int((digits[0] * points[2, p] + digits[1]) * len(palette))
            for k in range(3):
                pictures[k, row, column] += palette[shade, k] * mass
