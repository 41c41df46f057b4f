"""Which pixels of a tile hold a point of an attractor, and in which colour.

Letters in shapes: P points, H × W pixels of a tile.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.backend import kernels
from diff_ifs.draw.attractor import EDGE, FINEST, Attractor
from diff_ifs.draw.figures import figure_points
from diff_ifs.draw.geometry import Progress, Tile, Window
from diff_ifs.draw.growth import at_once, images
from diff_ifs.draw.tiles import BEAMS

EDGE_WORDS = 1 << 24  # that may be looked at for what growth leaves out


def pixel_index(points: Tensor, tile: Tile) -> Tensor:
    """The flat pixels of points (2, P) in a tile with a rim of one pixel, which takes what lies outside: (P,)."""
    width, height = tile[1] - tile[0] + 2, tile[3] - tile[2] + 2
    across = (points[0] + (1.5 - tile[0])).clamp_(0, width - 1)
    down = (points[1] + (1.5 - tile[2])).clamp_(0, height - 1).floor_()
    return across.add_(down, alpha=width).long()


def crop_border(flat: Tensor, tile: Tile) -> Tensor:
    """The pixels (..., H, W) of a tile without their rim, from flat ones."""
    return flat.unflatten(-1, (tile[3] - tile[2] + 2, tile[1] - tile[0] + 2))[..., 1:-1, 1:-1]


def occupied_pixels(attractor: Attractor, tile: Tile, progress: Progress = bool, colours: int = 0) -> Tensor:
    """Which pixels of a tile hold a point: (H, W), boolean; with `colours`, the highest colour 1 … there, or 0."""
    height, width = tile[3] - tile[2] + 2, tile[1] - tile[0] + 2
    dtype = torch.int16 if colours else torch.bool
    if attractor.corners is None and not attractor.grown:
        picture = torch.zeros(height - 2, width - 2, dtype=dtype, device=attractor.maps.device)
        beams = BEAMS if attractor.rim else BEAMS[:2]
        attractor.cover(colours > 0).draw(picture, tile[0], tile[2], colours, progress, beams)
        return picture
    picture = torch.zeros(height * width, dtype=dtype, device=attractor.maps.device)
    loops = None if colours else kernels(picture)
    if attractor.corners is None:
        as_they_are = torch.eye(2, 3, dtype=torch.float64, device=attractor.maps.device)[None]
        parts = ((as_they_are, points, None) for points in attractor.points(colours > 0))
    else:
        parts = figure_points(attractor, tile, colours > 0)
    for maps, points, digits in parts:
        if loops is not None:
            arrays = maps.contiguous().numpy(), points.contiguous().numpy()
            loops.mark(*arrays, 1.5 - tile[0], 1.5 - tile[2], picture.view(height, width).numpy())
        else:
            moved = images(maps, points, digits)
            index = pixel_index(moved, tile)
            if colours:  # where images overlap, the last letter in the alphabet wins
                picture.scatter_reduce_(0, index, (moved[2] * colours + 1).short(), "amax")
            else:
                picture.index_fill_(0, index, True)
        progress(len(maps) * points.shape[1])
    picture = crop_border(picture, tile)
    if attractor.rim and attractor.corners is None and not colours:
        picture = picture.contiguous()
        cover = replace(attractor.cover(), fine=FINEST if attractor.small else EDGE, allowed=EDGE_WORDS)
        cover.draw(picture, tile[0], tile[2], 0, progress)
    return picture


def colours_by_inverse_maps(attractor: Attractor, tile: Tile, colours: int) -> Tensor:
    """The colours of `drawn`, of an attractor that is grown as a whole: (H, W), 0 also at some of its edges.

    A point x lies in the image of map i if the point that i takes to x lies on the attractor. The address of x is then
    letter i and the address of that point; each round tells one letter more, of the highest address there is.
    """
    maps, n = attractor.maps, len(attractor.maps)
    points = torch.cat(list(attractor.points()), dim=1)
    left, right, top, bottom = attractor.box
    whole = round(left + 0.5), math.ceil(right + 0.5), round(top + 0.5), math.ceil(bottom + 0.5)
    here = pixel_index(points, whole)
    shades = torch.full(((whole[1] - whole[0] + 2) * (whole[3] - whole[2] + 2),), -1.0, device=maps.device)
    shades[here] = 0.5
    linear = torch.linalg.inv(maps[:, :, :2])
    back = torch.cat([linear, -linear @ maps[:, :, 2:]], dim=2)
    for _ in range(1 if colours == n else math.ceil(math.log(4 * colours) / math.log(n))):
        found = []
        for part in points.split(at_once(maps.device), dim=1):
            best = shades.new_full(part.shape[1:], -1.0)
            for i in range(n):
                shade = shades[pixel_index(images(back[i : i + 1], part), whole)]
                best = torch.where(shade < 0, best, (i + shade) / n)
            found.append(best)
        found = torch.cat(found)
        shades.index_fill_(0, here, 0.0).scatter_reduce_(0, here, found, "amax")
    index, picture = pixel_index(points, tile), shades.new_zeros((tile[1] - tile[0] + 2) * (tile[3] - tile[2] + 2))
    picture.scatter_reduce_(0, index, (found * colours).floor().add_(1).clamp_(0, colours), "amax")
    return crop_border(picture.short(), tile)


def hits(maps: Tensor, window: Window, side: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Which of side × side pixels hold a point of the attractor after `recursion` levels: (side, side), boolean."""
    return occupied_pixels(Attractor(maps, window, side, recursion), (0, side, 0, side), progress)
