"""The Koch curve: four small copies in a row, the middle two tilted up against each other. A pen
draws it."""

from diff_ifs import Setup, similarity

SETUP = Setup(
    maps=[
        similarity(0.40, at=(-0.6, -0.1)),
        similarity(0.40, degrees=40, at=(-0.2, 0.1)),
        similarity(0.40, degrees=-40, at=(0.2, 0.1)),
        similarity(0.40, at=(0.6, -0.1)),
    ],
    stroke=0.01,
    blur=1.0,
    starts=4,
    steps=400,
)
