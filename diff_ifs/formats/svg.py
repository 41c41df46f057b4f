"""A system as an SVG picture: groups, each of which is made of copies of smaller ones, as the
attractor is of its own.

Group k holds a copy of a smaller group under each map: of the one below for the map that shrinks
least, of one further below for others, so that all pieces end at about the same size. Group 0 is
the attractor's convex hull, or with a pen, dots all over the attractor. A pen keeps its width while
the groups shrink, because it is measured in `em`, and each copy raises the font size by what it
shrinks. Where maps turn circles into ellipses, a pen would become one: then there are no groups,
only dots.
"""

import math
from typing import TYPE_CHECKING

from diff_ifs.formats.contraction import contraction, coordinates, stretches, supports

if TYPE_CHECKING:
    import numpy as np

PIECES = 150_000  # that are drawn, at most
FEW = 50  # the same, of pieces with a pen: where they overlap, their soft edges would add up
FINE = 0.5 / 512  # of the window's side: pieces need not be smaller
CORNERS = 32  # of the hull
ROUND = 1.05  # the ratio of singular values up to which a pen is taken to stay round


def to_svg(system: dict, name: str) -> str:
    """A system as SVG, white on black, of the window. Raises ValueError where its maps shrink too
    slowly for that.
    """
    from xml.sax.saxutils import escape

    import numpy as np

    maps, size = np.array(system["maps"], dtype=float), system["size"]
    xmin, xmax, _, ymax = system["window"]
    side = xmax - xmin
    outline, middle, norm = _hull(maps)
    moved = maps.copy()  # about the middle, in units of the window
    moved[:, :, 2] = (maps[:, :, 2] + maps[:, :, :2] @ middle - middle) / side
    outline = outline / side
    # what is flat has no inverse, which SVG wants of a matrix
    flat, scale, back = np.linalg.svd(moved[:, :, :2])
    scale[:, 1] = np.maximum(scale[:, 1], 1e-3 * np.maximum(scale[:, 0], 1e-3))
    moved[:, :, :2] = flat * scale[:, None] @ back
    pen = 2 * system["stroke"] / side
    ratios = stretches(maps[:, :, :2])
    areas = np.abs(np.linalg.det(maps[:, :, :2]))
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" viewBox="0 0 1 1">\n<title>{escape(name)}</title>\n'
        '<rect width="1" height="1" fill="#000"/>\n'
    )
    into = (
        f"matrix(1 0 0 -1 {_short((middle[0] - xmin) / side)} {_short((ymax - middle[1]) / side)})"
    )
    extent = float(np.ptp(outline, axis=0).max())
    spacing, style = max(pen / 16, FINE / 2), 'fill="none" stroke="#fff" stroke-linecap="round"'
    if pen and (ratios**2 > ROUND * areas).any():
        dots = _as_path(_dots(moved, extent, spacing))
        width = _short(pen + FINE / 1.5)
        return (
            f'{head}<path transform="{into}" {style} stroke-width="{width}" d="{dots}"/>\n</svg>\n'
        )
    slowest = min(float(norm.max()), 0.99)
    steps = [max(1, round(math.log(max(s, 1e-6)) / math.log(slowest))) for s in norm]
    most, levels, pieces, wide = FEW if pen else PIECES, 0, [1], extent
    while wide > FINE and levels < 2000:
        more = sum(pieces[max(levels + 1 - step, 0)] for step in steps)
        if more > most:
            break
        pieces.append(more)
        levels, wide = levels + 1, wide * slowest
    if pen:
        shape = f'<path d="{_as_path(_dots(moved, extent, spacing / slowest**levels))}"'
        width = pen + FINE / 1.5
    else:
        ring = " ".join(f"{_short(x)},{_short(y)}" for x, y in outline)
        shape, width = f'<polygon points="{ring}"', FINE / 2
        style = 'fill="#fff" stroke="#fff" stroke-linejoin="round"'
    lines = [f'<g id="l0">{shape} stroke-width="{_short(width / 10)}em"/></g>']
    for level in range(1, levels + 1):
        lines.append(f'<g id="l{level}">')
        for map_, step, ratio in zip(moved, steps, ratios, strict=True):
            (a, b, x), (c, d, y) = map_.tolist()
            matrix = " ".join(map(_short, (a, c, b, d, x, y)))
            link = f'xlink:href="#l{max(level - step, 0)}" transform="matrix({matrix})"'
            lines.append(f'  <use {link} font-size="{_short(100 / max(ratio, 1e-3))}%"/>')
        lines.append("</g>")
    body, whole = "\n".join(lines), f'xlink:href="#l{levels}" transform="{into}"'
    return f'{head}<defs>\n{body}\n</defs>\n<use {whole} {style} font-size="10"/>\n</svg>\n'


def _as_path(dots: "np.ndarray") -> str:
    return "".join(f"M{x:.6f} {y:.6f}h0" for x, y in dots)


def _short(number: float) -> str:
    return f"{0.0 + number:.7g}"


def _hull(maps: "np.ndarray") -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Corners (V, 2) of a polygon about an attractor, from a point of it (2,), and by how much each
    map shrinks (n,).
    """
    import numpy as np

    at = np.linalg.solve(np.eye(2) - maps[:, :, :2].mean(axis=0), maps[:, :, 2].mean(axis=0))
    about = maps.copy()
    about[:, :, 2] += maps[:, :, :2] @ at - at
    rate = contraction(maps)
    reach = supports(about, np.ones((len(maps), len(maps)), bool), rate)
    reach = reach.max(axis=0)[:: len(reach[0]) // CORNERS]
    angles = 2 * np.pi * np.arange(CORNERS) / CORNERS
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = np.linalg.solve(
        np.stack([ring, np.roll(ring, -1, axis=0)], axis=1),
        np.stack([reach, np.roll(reach, -1)], axis=1)[..., None],
    )
    there = coordinates(maps[:, :, :2]) if stretches(maps[:, :, :2]).max() > 0.99 else np.eye(2)
    return corners[..., 0], at, stretches(there @ maps[:, :, :2] @ np.linalg.inv(there))


def _dots(maps: "np.ndarray", extent: float, fine: float) -> "np.ndarray":
    """Points (P, 2) of an attractor, one for each piece of it that is smaller than `fine`, and none
    twice.
    """
    import numpy as np

    from diff_ifs.formats.rules import composed

    words, found = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), []
    while len(words):
        small = stretches(words[:, :, :2]) * extent <= fine
        found.append(words[small][:, :, 2])
        words = composed(words[~small][:, None], maps).reshape(-1, 2, 3)
        places = np.round(
            np.concatenate(
                [words[:, :, 2] / (fine / 2), words[:, :, :2].reshape(-1, 4) * extent / fine], 1
            )
        )
        words = words[np.unique(places, axis=0, return_index=True)[1]]
        if len(words) > 20 * PIECES:
            raise ValueError("its maps shrink too slowly for an SVG with a pen")
    dots = np.concatenate(found)
    return dots[np.unique(np.round(dots / (fine / 2)), axis=0, return_index=True)[1]]
