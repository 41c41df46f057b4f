"""Particles of a measure: merged cell by cell, and deposited in a picture.

Letters in shapes: n maps, P points, S side of the picture.
"""

import numpy as np

from diff_ifs.kernels.jit import compiled


def merge(maps, shares, points, weights, rows: int, columns: int):
    """The images of particles (2, P) and (P,) under maps (n, 2, 3), merged in each cell: points (2, Q), weights (Q,).

    Map k carries on the part shares[k] of a particle's weight. All that falls into a cell becomes one particle at its
    centre of mass. Coordinates are in units of cells, of which there are rows × columns; points outside share the cells
    of the border.
    """
    sums = np.zeros((rows * columns, 3))
    return _merge(maps, shares, points, weights, sums, columns)


@compiled
def _merge(maps, shares, points, weights, sums, columns):
    last_column, last_row = columns - 1.0, len(sums) // columns - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            mass = shares[k] * weights[p]
            column = int(min(x, last_column)) if x > 0 else 0  # written so that not even NaN leaves the grid
            row = int(min(y, last_row)) if y > 0 else 0
            cell = sums[row * columns + column]
            cell[0] += mass
            cell[1] += mass * x
            cell[2] += mass * y
    taken = 0
    for p in range(len(sums)):
        taken += sums[p, 0] > 0
    merged, masses, q = np.empty((2, taken)), np.empty(taken), 0
    for p in range(len(sums)):
        mass = sums[p, 0]
        if mass > 0:
            merged[0, q], merged[1, q], masses[q] = sums[p, 1] / mass, sums[p, 2] / mass, mass
            q += 1
    return merged, masses


@compiled
def deposit(maps, shares, points, weights, picture):
    """Add the masses of the images of particles (2, P) and (P,) under maps (K, 2, 3) to the pixels of a picture (H, W).

    Map k carries on the part shares[k]. Pixel (row, column) is where row <= y < row + 1 and column <= x < column + 1;
    points outside fall on its border.
    """
    last_column, last_row = picture.shape[1] - 1.0, picture.shape[0] - 1.0
    for k in range(maps.shape[0]):
        a, b, e = maps[k, 0, 0], maps[k, 0, 1], maps[k, 0, 2]
        c, d, f = maps[k, 1, 0], maps[k, 1, 1], maps[k, 1, 2]
        for p in range(points.shape[1]):
            x = a * points[0, p] + b * points[1, p] + e
            y = c * points[0, p] + d * points[1, p] + f
            column = int(min(x, last_column)) if x > 0 else 0
            row = int(min(y, last_row)) if y > 0 else 0
            picture[row, column] += shares[k] * weights[p]
