"""The Sierpinski gasket: three copies of half its size, one in each corner. Here they are too small
and tilted."""

from diff_ifs import Setup, similarity

SETUP = Setup(
    maps=[
        similarity(0.4, degrees=10, at=(-0.3, -0.4)),
        similarity(0.4, degrees=-10, at=(0.3, -0.4)),
        similarity(0.4, at=(0.0, 0.4)),
    ],
    stroke=0.01,
    blur=1.0,
    starts=4,
    steps=400,
)
