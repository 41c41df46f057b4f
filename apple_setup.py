"""An apple: a ring of copies and a large one make the body; a stem and a leaf stand on it. All are
far too small."""

from math import cos, radians, sin

from diff_ifs import Setup, affine, similarity

RING = [
    similarity(0.22, degrees=k, at=(0.4 * cos(radians(k)), 0.4 * sin(radians(k)) - 0.15))
    for k in range(0, 360, 45)
]

SETUP = Setup(
    maps=[
        *RING,
        similarity(0.35, at=(0.0, -0.15)),
        affine(0.05, 0.0, 0.0, 0.15, x=-0.05, y=0.6),
        similarity(0.15, degrees=-30, at=(0.2, 0.7)),
        similarity(0.15, degrees=-30, at=(0.35, 0.8)),
    ],
    steps=600,
)
