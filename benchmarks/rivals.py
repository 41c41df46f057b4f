"""What else so many bytes can hold of a binary picture of SIZE × SIZE pixels.

bitmap   the picture scaled down to s × s bits, without any header, scaled up and thresholded
webp     the picture scaled down, as a lossless or lossy WebP file, scaled up and thresholded
jbig     the same in JBIG (T.85), without its header of 20 bytes, where pbmtojbg85 is installed
contour  the same by `contour_coder`
polygon  outlines: corners thinned out by the area they cut off (Visvalingam & Whyatt 1993), then
         moved wherever that makes IoU better; an arithmetic coder makes bytes of the steps from
         corner to corner
"""

import io
import math
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import contour_coder
import numpy as np
from contour_coder import ONE, Decoder, Encoder, number, signed
from PIL import Image, ImageDraw

SIZE = 256
LOSSLESS = ("PNG", "WebP", "G4", "JBIG", "contours")
JBIG = shutil.which("pbmtojbg85")
JBIG_HEADER = 20
RIVALS = ("bitmap", "webp", *(["jbig"] if JBIG else []), "contour", "polygon")
# of a picture scaled down; scaled up, it is always cut at half
THRESHOLDS = (24, 48, 80, 104, 128, 152)
GRIDS = (48, 64, 96, 128, 192, 256)  # places along a side where a polygon's corners may be


def best_of_rivals(pixels: np.ndarray, lengths: Sequence[int]) -> dict[tuple[str, int], float]:
    """The best IoU of each rival in each number of bytes; nan where it has no picture."""
    found = {(method, most): math.nan for method in RIVALS for most in lengths}
    for method, settings in (
        ("bitmap", bitmap(pixels, max(lengths))),
        ("webp", webp(pixels, max(lengths))),
        ("jbig", coded(pixels, max(lengths), jbig_bytes) if JBIG else ()),
        ("contour", coded(pixels, max(lengths), contour_bytes)),
        *(("polygon", polygon(pixels, most)) for most in lengths),
    ):
        for size, picture in settings:
            iou = overlap(picture, pixels)
            for most in lengths:
                if size <= most:
                    found[method, most] = float(np.fmax(found[method, most], iou))
    return found


def fewest_of_contours(pixels: np.ndarray, goal: float) -> int:
    """The bytes that `contour_coder` takes for an IoU of at least `goal`, of the smallest copies of
    the picture that are so good, or of itself."""
    for side in range(16, SIZE, 8):
        found = [in_two_levels(pixels, side, threshold) for threshold in THRESHOLDS]
        good = [small for small in found if overlap(scaled_up(small), pixels) >= goal]
        if good:
            return min(map(contour_bytes, good))
    return contour_bytes(Image.fromarray(pixels))


def scaled(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(np.uint8(255 * pixels)).resize((side, side), Image.Resampling.BOX)


def scaled_up(small: Image.Image) -> np.ndarray:
    return np.asarray(small.convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC)) >= 128


def in_two_levels(pixels: np.ndarray, side: int, threshold: int) -> Image.Image:
    return scaled(pixels, side).point(lambda grey: 255 * (grey >= threshold))


def bitmap(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in range(2, math.isqrt(8 * most) + 1):
        for threshold in THRESHOLDS:
            yield -(-side * side // 8), scaled_up(in_two_levels(pixels, side, threshold))


def webp(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in (*range(4, 12), *range(12, 24, 2), *range(24, 48, 4), 48, 56, 64, 80, 96, 128):
        small, fits = scaled(pixels, side), False
        for levels in (2, 3, 4, 8):
            step = 255 / (levels - 1)
            grey = small.point([round(round(value / step) * step) for value in range(256)])
            size = len(saved(grey, "WEBP", lossless=True, quality=100, method=6))
            fits |= size <= most
            if size <= most:
                yield size, scaled_up(grey)
        for quality in (0, 5, 10, 20, 40, 70):
            data = saved(small, "WEBP", quality=quality, method=6)
            fits |= len(data) <= most
            if len(data) <= most:
                with Image.open(io.BytesIO(data)) as decoded:
                    yield len(data), scaled_up(decoded)
        if not fits:
            return


def coded(pixels: np.ndarray, most: int, size_of) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures scaled down, with the bytes that a lossless coder makes of them."""
    for side in range(4, SIZE + 1, 2):
        sizes = []
        for threshold in THRESHOLDS:
            small = in_two_levels(pixels, side, threshold)
            sizes.append(size_of(small))
            if sizes[-1] <= most:
                yield sizes[-1], scaled_up(small)
        if min(sizes) > 1.3 * most:
            return


def jbig_bytes(picture: Image.Image) -> int:
    """Of JBIG, without its header."""
    done = subprocess.run(
        [JBIG], input=saved(picture.convert("1"), "PPM"), capture_output=True, check=True
    )
    return len(done.stdout) - JBIG_HEADER


def contour_bytes(picture: Image.Image) -> int:
    """Of the contour coder. Raises ValueError if they do not give the picture back."""
    pixels = np.asarray(picture.convert("L")) >= 128
    data = contour_coder.encode(pixels)
    if not np.array_equal(contour_coder.decode(data), pixels):
        raise ValueError("the contour coder lost something")
    return len(data)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def g4_bytes(picture: Image.Image) -> int:
    """Of the coded strips alone, without the TIFF file around them."""
    with Image.open(io.BytesIO(saved(picture, "TIFF", compression="group4"))) as tiff:
        return sum(tiff.tag_v2[279])  # StripByteCounts


def lossless(pixels: np.ndarray) -> dict[str, int]:
    picture = Image.fromarray(pixels)
    sizes = {
        "PNG": len(saved(picture, "PNG", optimize=True)),
        "WebP": len(saved(picture.convert("L"), "WEBP", lossless=True, quality=100, method=6)),
        "G4": g4_bytes(picture),
        "contours": contour_bytes(picture),
    }
    return sizes | ({"JBIG": jbig_bytes(picture)} if JBIG else {})


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def outline_dimension(pixels: np.ndarray) -> float:
    """The box dimension of a picture's outline: the slope of log boxes against log 1 / side, for
    boxes of 2 to 32 pixels."""
    padded = np.pad(pixels, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline = pixels & ~inner
    sides = 2 ** np.arange(1, 6)
    boxes = [
        outline.reshape(SIZE // side, side, SIZE // side, side).any((1, 3)).sum() for side in sides
    ]
    return float(-np.polyfit(np.log(sides), np.log(boxes), 1)[0])


# --- Polygons ---


def polygon(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    from contourpy import contour_generator

    # corners are from edge to edge of the picture, 0 to 1
    at = (np.arange(SIZE + 2) - 0.5) / SIZE
    rings = contour_generator(at, at, np.pad(pixels.astype(float), 1)).lines(0.5)
    order = thinned([ring[:-1] for ring in rings])
    starts = []
    for grid in GRIDS:
        few, many = 0, len(order) - 1  # of `order`, the first that is small enough
        while few < many:
            middle = (few + many) // 2
            if len(polygon_data(on_grid(order[middle], grid), grid)) <= most:
                many = middle
            else:
                few = middle + 1
        rings = on_grid(order[many], grid)
        starts.append((overlap(filled(rings, grid), pixels), grid, rings))
    for _, grid, rings in sorted(starts, key=lambda start: -start[0])[:2]:
        data = polygon_data(moved(rings, grid, pixels, most), grid)
        if len(data) <= most:
            yield len(data), filled(*polygon_of(data))


def on_grid(rings: list[np.ndarray], grid: int) -> list[np.ndarray]:
    return [np.clip((ring * (grid - 1)).round().astype(int), 0, grid - 1) for ring in rings]


def thinned(rings: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Rings of corners, with fewer and fewer of them: those go first that cut off the least
    area."""
    rings = [list(map(tuple, ring)) for ring in rings]

    def cut(ring: list, k: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = ring[k - 1], ring[k], ring[(k + 1) % len(ring)]
        return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2

    areas = [[cut(ring, k) for k in range(len(ring))] for ring in rings]
    order = []
    while rings:
        if sum(map(len, rings)) < 400:
            order.append([np.array(ring) for ring in rings])
        smallest = [min(area) for area in areas]
        r = smallest.index(min(smallest))
        k = areas[r].index(smallest[r])
        if len(rings[r]) == 3:
            del rings[r], areas[r]
            continue
        del rings[r][k], areas[r][k]
        for near in (k - 1, k % len(rings[r])):
            areas[r][near] = cut(rings[r], near)
    return [*order, []]


def moved(rings: list[np.ndarray], grid: int, pixels: np.ndarray, most: int) -> list[np.ndarray]:
    """The same with corners moved wherever that makes IoU better and takes no more than so many
    bytes."""
    best, step = overlap(filled(rings, grid), pixels), max(1, grid // 32)
    for _ in range(8):
        before = best
        for ring in rings:
            for corner in ring:
                for move in [(x, y) for x in (-step, 0, step) for y in (-step, 0, step) if x or y]:
                    old = corner.copy()
                    corner[:] = np.clip(old + move, 0, grid - 1)
                    now = overlap(filled(rings, grid), pixels)
                    if now > best and len(polygon_data(rings, grid)) <= most:
                        best = now
                    else:
                        corner[:] = old
        if best == before:
            if step == 1:
                break
            step //= 2
    return rings


def filled(rings: list[np.ndarray], grid: int) -> np.ndarray:
    """The pixels whose centres lie within an odd number of rings."""
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    for ring in rings:
        plane = Image.new("1", (SIZE, SIZE))
        corners = [(float(x), float(y)) for x, y in ring * (SIZE / (grid - 1)) - 0.5]
        ImageDraw.Draw(plane).polygon(corners, fill=1)
        inside ^= np.asarray(plane)
    return inside


class Lengths:
    """Adaptive bits for the digits and signs of the steps from corner to corner."""

    def __init__(self):
        self.seen: dict[tuple, list[int]] = {}

    def bit(self, coder: Encoder | Decoder, context: tuple, bit: int) -> int:
        counts = self.seen.setdefault(context, [1, 1])
        bit = coder.bit(ONE * counts[1] // sum(counts), bit)
        counts[bit] += 1
        return bit

    def step(self, coder: Encoder | Decoder, before: int, value: int) -> int:
        """Write or read a step, after another one along the same axis."""
        digits, size = 0, abs(value)
        while self.bit(coder, ("digits", digits), int(digits < size.bit_length())):
            digits += 1
        if digits == 0:
            return 0
        size = 1 << (digits - 1) | number(coder, digits - 1, size)
        negative = self.bit(coder, ("sign", before > 0, before < 0), int(value < 0))
        return -size if negative else size


def polygon_data(rings: list[np.ndarray], grid: int) -> bytes:
    coder, lengths = Encoder(), Lengths()
    number(coder, 3, GRIDS.index(grid))
    signed(coder, len(rings))
    for ring in rings:
        _ring(coder, lengths, grid, ring)
    return coder.data()


def polygon_of(data: bytes) -> tuple[list[np.ndarray], int]:
    coder, lengths = Decoder(data), Lengths()
    grid = GRIDS[number(coder, 3)]
    return [_ring(coder, lengths, grid) for _ in range(signed(coder))], grid


def _ring(
    coder: Encoder | Decoder, lengths: Lengths, grid: int, ring: np.ndarray | None = None
) -> np.ndarray:
    """Write or read the corners of a ring."""
    count = signed(coder, 0 if ring is None else len(ring))
    given = np.zeros((count, 2), dtype=int) if ring is None else ring
    bits = (grid - 1).bit_length()
    corners = [[number(coder, bits, int(x)) for x in given[0]]]
    before = (0, 0)
    for step in np.diff(given, axis=0).tolist():
        before = [lengths.step(coder, *pair) for pair in zip(before, step, strict=True)]
        corners.append([a + b for a, b in zip(corners[-1], before, strict=True)])
    return np.array(corners)
