"""Draw the four example targets, 256 × 256, white on black, with Pillow alone.

    python benchmarks/draw_targets.py [FOLDER]

Nothing here is shared with the model or the rasteriser, so that a fit to these pictures is an
honest test. World coordinates are the project's: x right, y up, the picture is [-1, 1] × [-1, 1].
"""

import itertools
import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 256
FINE = 16  # drawn this much larger, then averaged and thresholded
KOCH_ENDS = ((-0.9, -0.26), (0.9, -0.26))
# radius in world units of the pen that draws the curve and the gasket: a line two pixels wide
PEN = 2 / SIZE
GASKET_CORNERS = ((-0.9, -0.78), (0.9, -0.78), (0.0, -0.78 + 0.9 * math.sqrt(3)))

Point = tuple[float, float]


class Sheet:
    """A binary picture drawn at FINE times its size, in world coordinates."""

    def __init__(self):
        self.image = Image.new("L", (SIZE * FINE, SIZE * FINE), 0)
        self.pen = ImageDraw.Draw(self.image)

    def _pixels(self, points: list[Point]) -> list[Point]:
        """Pixel centres are at whole numbers for Pillow, which would cut off the rest instead of
        rounding."""
        half = SIZE * FINE / 2
        return [(round((1 + x) * half - 0.5), round((1 - y) * half - 0.5)) for x, y in points]

    def polygon(self, points: list[Point]) -> None:
        self.pen.polygon(self._pixels(points), fill=255)

    def stroke(self, points: list[Point], radii: list[float]) -> None:
        """A line through the points, `radii` wide to either side at each of them, with round joints
        and ends."""
        pixels, wide = (
            self._pixels(points),
            [round(radius * SIZE * FINE / 2 - 0.5) for radius in radii],
        )
        for (u, v), r in zip(pixels, wide, strict=True):
            self.pen.ellipse([u - r, v - r, u + r, v + r], fill=255)
        for start, end, r in zip(pixels, pixels[1:], wide, strict=False):
            self.pen.line([start, end], fill=255, width=2 * r + 1)

    def save(self, path: Path) -> None:
        small = self.image.resize((SIZE, SIZE), Image.Resampling.BOX)
        small.point(lambda grey: 255 * (grey >= 128)).convert("1").save(path)


def bezier(points: list[Point], count: int = 200) -> list[Point]:
    """`count` points along the Bézier curve of the given control points (de Casteljau)."""
    curve = []
    for k in range(count):
        t, row = k / (count - 1), points
        while len(row) > 1:
            row = [(a + t * (c - a), b + t * (d - b)) for (a, b), (c, d) in itertools.pairwise(row)]
        curve.append(row[0])
    return curve


def mirrored(curve: list[Point]) -> list[Point]:
    """The closed outline of a curve from the axis x = 0 and back to it, and of its mirror image."""
    return curve + [(-x, y) for x, y in reversed(curve)]


def koch_points(start: Point, end: Point, depth: int) -> list[Point]:
    if depth == 0:
        return [start]
    (x, y), (dx, dy) = start, ((end[0] - start[0]) / 3, (end[1] - start[1]) / 3)
    height = math.sqrt(3) / 2
    first, last = (x + dx, y + dy), (x + 2 * dx, y + 2 * dy)
    tip = (x + 1.5 * dx - height * dy, y + 1.5 * dy + height * dx)
    corners = [start, first, tip, last, end]
    return [point for a, b in itertools.pairwise(corners) for point in koch_points(a, b, depth - 1)]


def draw_koch(sheet: Sheet) -> None:
    points = [*koch_points(*KOCH_ENDS, depth=6), KOCH_ENDS[1]]
    sheet.stroke(points, [PEN] * len(points))


def draw_sierpinski(
    sheet: Sheet, corners: tuple[Point, ...] = GASKET_CORNERS, depth: int = 7
) -> None:
    if depth == 0:
        sheet.polygon(list(corners))
        sheet.stroke([*corners, corners[0]], [PEN] * 4)
        return
    for cx, cy in corners:
        draw_sierpinski(sheet, tuple(((x + cx) / 2, (y + cy) / 2) for x, y in corners), depth - 1)


def draw_apple(sheet: Sheet) -> None:
    side = bezier([(0, 0.40), (0.10, 0.62), (0.44, 0.62), (0.62, 0.44)])
    side += bezier([(0.62, 0.44), (0.90, 0.16), (0.72, -0.42), (0.44, -0.70)])
    side += bezier([(0.44, -0.70), (0.28, -0.86), (0.14, -0.84), (0, -0.76)])
    sheet.polygon(mirrored(side))
    stem = bezier([(0, 0.36), (0.0, 0.60), (-0.06, 0.72), (-0.14, 0.86)])
    sheet.stroke(stem, [0.035 + 0.02 * k / len(stem) for k in range(len(stem))])
    tip, base = (0.50, 0.90), (0.02, 0.62)
    sheet.polygon(
        bezier([base, (0.04, 0.92), (0.28, 0.98), tip])
        + bezier([tip, (0.46, 0.62), (0.20, 0.52), base])
    )


def draw_flower(sheet: Sheet, petals: int = 6, teeth: int = 12) -> None:
    """Rounded petals about the centre, each with a saw of `teeth` teeth along its rim."""
    outline = []
    count = petals * teeth * 40
    for k in range(count):
        turn = k / count
        lobe = abs(math.sin(math.pi * petals * turn))
        saw = abs((petals * teeth * turn) % 1 - 0.5) * 2
        radius = 0.30 + 0.60 * lobe**0.6 - 0.07 * saw * (0.3 + 0.7 * lobe)
        angle = 2 * math.pi * turn
        outline.append((radius * math.cos(angle), radius * math.sin(angle)))
    sheet.polygon(outline)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, draw in (
        ("koch", draw_koch),
        ("sierpinski", draw_sierpinski),
        ("apple", draw_apple),
        ("flower", draw_flower),
    ):
        sheet = Sheet()
        draw(sheet)
        sheet.save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
