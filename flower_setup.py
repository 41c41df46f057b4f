"""A flower: six petals of five copies each, a row of three and two beside the outermost. All are
too small."""

from math import cos, radians, sin

from diff_ifs import Setup, similarity


def petal(angle: float) -> list:
    places = [(0.25, 0), (0.48, 0), (0.72, 0), (0.62, 14), (0.62, -14)]
    return [
        similarity(
            0.11,
            degrees=angle,
            at=(r * cos(radians(angle + aside)), r * sin(radians(angle + aside))),
        )
        for r, aside in places
    ]


SETUP = Setup(maps=[copy for angle in range(30, 390, 60) for copy in petal(angle)])
