"""Coverage: occupied sub-pixels, pens and colours, strip by strip.

Letters in shapes: S side of the picture, H rows of a strip.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.geometry import MEMORY, Progress, Quality, View, Window, strip_rows
from diff_ifs.draw.pixels import colours_by_inverse_maps, occupied_pixels
from ifs_model import singular_values


def missing_fraction(maps: Tensor, window: Window, recursion: int) -> float:
    """The part of the attractor's pixels, of 128² in a window, in which a level has no point."""
    whole, level = (
        occupancy(maps, window, 128, r, supersample=1, quality="draft") for r in (1000, recursion)
    )
    return float((whole > level).sum() / whole.sum().clamp(min=1))


def coverage_strips(
    maps: Tensor,
    view: View,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield coverage, float32, (H, S) in [0, 1], in strips from the top.

    A pixel's coverage is the part of its supersample² sub-pixels that hold a point of the attractor
    or, with a stroke, that lie within the stroke of such a sub-pixel. With a palette (L, 3), strips
    are (4, H, S): red, green and blue, times coverage, and coverage. Addresses between 0 and 1 take
    its colours in turn; a palette of n colours shows the first letter. Raises MemoryError if not
    even a row fits into so many bytes.
    """
    pad, supersample = view.pad, view.supersample
    for taken in _taken_strips(maps, view, palette, memory, progress):
        if pad:
            taken = _with_pen(taken, view.stroke / view.part)[pad:-pad, pad:-pad]
        for piece in taken.split(max(1, (1 << 20) // view.side) * supersample):
            if palette is None:
                yield _pooled(piece, supersample)
            else:
                on = (piece > 0).float()
                shades = palette.to(on)[(piece.long() - 1).clamp(min=0)].permute(2, 0, 1) * on
                yield torch.stack([_pooled(layer, supersample) for layer in (*shades, on)])


def _taken_strips(
    maps: Tensor,
    view: View,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield the sub-pixels that hold a point, booleans or colours, in strips from the top that are
    padded all around for the pen."""
    size, side, supersample, pad = view.size, view.side, view.supersample, view.pad
    cost = (2 if palette is None else 32) + (6 if pad else 0)
    padding = 2 * pad * cost * (side + 2 * pad)
    rows = strip_rows(size, cost * supersample * (side + 2 * pad), memory - padding)
    plain = Attractor(maps, view, memory, whole=rows == size)
    if palette is not None:
        flattest = float(singular_values(plain.maps).min())
        look_back = plain.grown and plain.settled and flattest > 1e-6 and len(maps) > 1
        # grown points hide those of other maps that came later
        coloured = Attractor(maps, view, memory, whole=False)
    for first in range(0, size, rows):
        last = min(first + rows, size)
        tile = (-pad, side + pad, first * supersample - pad, last * supersample + pad)
        taken = occupied_pixels(plain, tile, progress)
        if palette is not None:  # edges, which colours miss here and there, have the nearest one
            count = len(palette)
            if look_back:
                shaded = colours_by_inverse_maps(plain, tile, count)
            else:
                shaded = occupied_pixels(coloured, tile, progress, count)
            taken = _coloured(shaded * taken, taken)
        yield taken


def _pooled(layer: Tensor, supersample: int) -> Tensor:
    """Means of supersample² sub-pixels: (H, W) of any kind to float32."""
    means = layer[None].float()
    return (torch.nn.functional.avg_pool2d(means, supersample) if supersample > 1 else means)[0]


def _with_pen(taken: Tensor, radius: float) -> Tensor:
    """What is drawn (H, W), booleans or colours, with a pen, which takes the nearest colour."""
    return (
        dilate(taken, radius)
        if taken.dtype == torch.bool
        else _coloured(taken, dilate(taken > 0, radius))
    )


def _coloured(colours: Tensor, wanted: Tensor) -> Tensor:
    """Colours (H, W), 0 for none, where pixels without one that are wanted (H, W) have taken that
    of the nearest.
    """
    missing = wanted & (colours == 0)
    if not missing.any() or not colours.any():
        return colours
    near = distance_transform_edt(
        (colours == 0).numpy(), return_distances=False, return_indices=True
    )
    row, column = torch.from_numpy(near)[:, missing].long()
    return colours.index_put((missing,), colours[row, column])


def occupancy(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    stroke: float = 0.0,
    supersample: int = 3,
    quality: Quality = "final",
) -> Tensor:
    """Coverage (S, S), float32 in [0, 1], of the attractor of maps (n, 2, 3): see `coverage_strips`
    and `View`.
    """
    view = View(window, size, recursion, stroke, supersample, quality=quality)
    return torch.cat(list(coverage_strips(maps, view)))


def drawn_with_pens(
    maps: Tensor, window: Window, size: int, strokes: Sequence[float], supersample: int
) -> list[Tensor]:
    """Drafts as those of `occupancy`, one for each of these strokes, from one growth."""
    view = View(window, size, stroke=max(strokes), supersample=supersample, quality="draft")
    pad, strips = view.pad, [[] for _ in strokes]
    for taken in _taken_strips(maps, view):
        for stroke, drawn in zip(strokes, strips, strict=True):
            wide = dilate(taken, stroke / view.part)[pad:-pad, pad:-pad]
            drawn.append(_pooled(wide, supersample))
    return [torch.cat(drawn) for drawn in strips]


def dilate(taken: Tensor, radius: float) -> Tensor:
    """The pixels (H, W) whose centres lie within `radius` pixels of that of one that is taken.

    A disc is a stack of rows. The picture, widened step by step along its rows, is shifted up and
    down to where the disc has a row of that width.
    """
    height, width = taken.shape
    offsets = range(min(int(radius), height - 1) + 1)
    halves = [min(int(math.sqrt(radius**2 - offset**2)), width - 1) for offset in offsets]
    wide, disc = taken.clone(), torch.zeros_like(taken)
    for half in range(halves[0] + 1):
        if half:
            wide[:, half:] |= taken[:, :-half]
            wide[:, :-half] |= taken[:, half:]
        for offset in (offset for offset in offsets if halves[offset] == half):
            disc[offset:] |= wide[: height - offset]
            disc[: height - offset] |= wide[offset:]
    return disc
