"""Systems whose attractors are known exactly."""

import math

import torch

from diff_ifs.setup import affine, similarity

# Half-size copies in three corners of the square: pixel (row, column) counted from the lower left
# is on where the binary digits of row and column never meet, as in Pascal's triangle modulo two.
CORNER_GASKET = torch.tensor(
    [similarity(0.5, at=at) for at in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5))]
)
CARPET = torch.tensor(
    [similarity(1 / 3, at=(x * 2 / 3, y * 2 / 3)) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
)
DUST = torch.tensor(
    [similarity(1 / 3, at=(x * 2 / 3, y * 2 / 3)) for x in (-1, 1) for y in (-1, 1)]
)
_HIGH = math.sqrt(3) / 6
# from (-1, 0) to (1, 0)
KOCH = torch.tensor(
    [
        similarity(1 / 3, at=(-2 / 3, 0)),
        similarity(1 / 3, degrees=60, at=(-1 / 6, _HIGH)),
        similarity(1 / 3, degrees=-60, at=(1 / 6, _HIGH)),
        similarity(1 / 3, at=(2 / 3, 0)),
    ]
)
# Barnsley's fern, roughly in the window; its stem is of rank one
FERN = torch.tensor(
    [
        affine(0.0, 0.0, 0.0, 0.16, 0.0, -0.84),
        affine(0.85, 0.04, -0.04, 0.85, 0.0, 0.16),
        affine(0.20, -0.26, 0.23, 0.22, 0.0, -0.46),
        affine(-0.15, 0.28, 0.26, 0.24, 0.0, -0.66),
    ]
)
