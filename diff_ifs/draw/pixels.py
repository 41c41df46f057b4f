"""Which pixels of a tile hold a point of an attractor, and in which colour.

Letters in shapes: K words, P points, H × W pixels of a tile.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.backend import arrays, load_kernels
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.geometry import Progress, Tile
from diff_ifs.draw.growth import CHUNK, images
from diff_ifs.draw.levels import LAYERS, figure_points
from diff_ifs.draw.tiles import BEAMS
from ifs_model import compose, fixed_points

# Maps (K, 2, 3), points, and what the maps do to addresses (K, 2), whose images are drawn.
Part = tuple[Tensor, Tensor, Tensor]


def pixel_index(points: Tensor, tile: Tile) -> Tensor:
    """The flat pixels of points (2, P) in a tile with a border of one pixel, which takes what lies
    outside: (P,).
    """
    width, height = tile[1] - tile[0] + 2, tile[3] - tile[2] + 2
    across = (points[0] + (1.5 - tile[0])).clamp_(0, width - 1)
    down = (points[1] + (1.5 - tile[2])).clamp_(0, height - 1).floor_()
    return across.add_(down, alpha=width).long()


def crop_border(flat: Tensor, tile: Tile) -> Tensor:
    """The pixels (..., H, W) of a tile without that border, from flat ones."""
    return flat.unflatten(-1, (tile[3] - tile[2] + 2, tile[1] - tile[0] + 2))[..., 1:-1, 1:-1]


def occupied_pixels(
    attractor: Attractor, tile: Tile, progress: Progress = bool, colours: int = 0
) -> Tensor:
    """Pixels (H, W) that hold a point, boolean; with `colours`, the highest colour 1 …, or 0."""
    height, width = tile[3] - tile[2], tile[1] - tile[0]
    dtype, final = torch.int16 if colours else torch.bool, attractor.quality == "final"
    one_by_one = attractor.corners is None and drawn_one_by_one(attractor, LAYERS * height * width)
    if attractor.corners is None and not one_by_one and not attractor.grown:
        picture = torch.zeros(height, width, dtype=dtype)
        beams = BEAMS if final else BEAMS[:2]
        attractor.cover(colours > 0).draw(picture, tile[0], tile[2], colours, progress, beams)
        return picture
    picture = torch.zeros(height + 2, width + 2, dtype=dtype)
    if attractor.corners is not None:
        parts = figure_points(attractor, tile, colours > 0)
    elif one_by_one:
        parts = level_points(attractor, colours > 0)
    else:
        same = (
            torch.eye(2, 3, dtype=torch.float64)[None],
            torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        )
        parts = ((same[0], points, same[1]) for points in attractor.points(colours > 0))
    for maps, points, digits in parts:
        corner = 1.5 - tile[0], 1.5 - tile[2]
        load_kernels().mark(*arrays(maps, digits, points), colours, corner, picture.numpy())
        progress(len(maps) * points.shape[1])
    picture = picture[1:-1, 1:-1].contiguous()
    if final and attractor.corners is None and not one_by_one and not colours:
        # What growth leaves out is little enough to be looked for with more words, with the most
        # where the picture is small: of the Lévy curve, 4.6 % are missed with cells of 0.35 pixels,
        # 1.1 % with 0.1.
        cover = replace(attractor.cover(), fine=0.02 if attractor.small else 0.1, allowed=1 << 24)
        cover.draw(picture, tile[0], tile[2], 0, progress)
    return picture


def drawn_one_by_one(attractor: Attractor, most: int) -> bool:
    """Whether all words of a level are drawn: at most `most`, and not as close as pixels.

    Growth would leave gaps between such points, and what finds what growth leaves out would look
    into every gap.
    """
    n, recursion = len(attractor.maps), attractor.recursion
    return recursion <= 64 and n ** (recursion + 1) <= most and not attractor.settled


def level_points(attractor: Attractor, addresses: bool) -> Iterator[Part]:
    """Yield all points of a level, as words of the first half of its letters and points of words of
    the others.

    These are the images of the fixed points of the maps under words of `recursion` letters: those
    under shorter words are among them, as a fixed point is its own image.
    """
    maps, digits = attractor.maps, attractor.digits
    points = fixed_points(maps).T
    words, shifts = (
        torch.eye(2, 3, dtype=torch.float64)[None],
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    )
    if addresses:
        points = torch.cat([points, (digits[:, 1] / (1 - digits[:, 0]))[None]])
    for level in range(attractor.recursion):
        if level % 2:
            points = images(maps, points, digits)
        else:
            words = compose(words[:, None], maps).flatten(0, 1)
            factor, shift = (
                shifts[:, :1] * digits[:, 0],
                shifts[:, 1:] + shifts[:, :1] * digits[:, 1],
            )
            shifts = torch.stack([factor.flatten(), shift.flatten()], dim=1)
    for part in points.split(CHUNK, dim=1):
        yield words, part, shifts


def colours_by_inverse_maps(attractor: Attractor, tile: Tile, colours: int) -> Tensor:
    """The colours of `occupied_pixels`, of an attractor that is grown as a whole: (H, W), 0 also at
    some of its edges.

    A point x lies in the image of map i if the point that i takes to x lies on the attractor. The
    address of x is then letter i and the address of that point; each round tells one letter more,
    of the highest address there is.
    """
    maps, n = attractor.maps, len(attractor.maps)
    points = torch.cat(list(attractor.points()), dim=1)
    left, right, top, bottom = attractor.box
    whole = round(left + 0.5), math.ceil(right + 0.5), round(top + 0.5), math.ceil(bottom + 0.5)
    here = pixel_index(points, whole)
    shades = torch.full(((whole[1] - whole[0] + 2) * (whole[3] - whole[2] + 2),), -1.0)
    shades[here] = 0.5
    linear = torch.linalg.inv(maps[:, :, :2])
    back = torch.cat([linear, -linear @ maps[:, :, 2:]], dim=2)
    for _ in range(1 if colours == n else math.ceil(math.log(4 * colours) / math.log(n))):
        found = []
        for part in points.split(CHUNK, dim=1):
            best = shades.new_full(part.shape[1:], -1.0)
            for i in range(n):
                shade = shades[pixel_index(images(back[i : i + 1], part), whole)]
                best = torch.where(shade < 0, best, (i + shade) / n)
            found.append(best)
        found = torch.cat(found)
        shades.index_fill_(0, here, 0.0).scatter_reduce_(0, here, found, "amax")
    index, picture = (
        pixel_index(points, tile),
        shades.new_zeros((tile[1] - tile[0] + 2) * (tile[3] - tile[2] + 2)),
    )
    picture.scatter_reduce_(0, index, (found * colours).floor().add_(1).clamp_(0, colours), "amax")
    return crop_border(picture.short(), tile)
