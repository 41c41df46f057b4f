"""The measure of an attractor: how much of it lies in each pixel.

Letters in shapes: K words, P particles, S side of the picture, H rows of a strip.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diff_ifs.backend import kernels
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.chart import CHART_SIDE
from diff_ifs.draw.figures import CLOUD_SIDE, LAYERS
from diff_ifs.draw.geometry import MEMORY, Progress, Tile, Window, strip_rows
from diff_ifs.draw.growth import SLOW, Grid, as_rows, at_once, images, joined
from diff_ifs.draw.pixels import crop_border, pixel_index
from diff_ifs.draw.words import Words
from diff_ifs.draw.words import words as words_in
from ifs_model import apply, centroid, compose, singular_values

PARTICLE_SIDE = 512  # the same, for the particles of a density
PARTICLE_BYTES = 256 << 20  # of particles of different levels that are kept side by side
SAMPLES, MERGED = 1 << 18, 16  # words that stand for a slow measure, and the last levels, which are merged exactly
GLANCE = 8  # a side of the boxes that tell how much of a measure's image lies in a tile
GLANCED = 1 << 13  # words looked at side by side


def density(maps: Tensor, window: Window, size: int, recursion: int = 1000, progress: Progress = bool) -> Tensor:
    """Mass (S, S), float64, that the measure of the maps puts into each pixel after `recursion` levels.

    The measure gives each map the probability of `area_weights`, and starts as one point at its centre of mass.
    Particles that fall into the same cell are merged into one of their total weight at their centroid, so that mass
    is exact and places are exact to second order in the cell.
    """
    return torch.cat(list(density_strips(maps, window, size, recursion, progress=progress)))


def density_strips(
    maps: Tensor,
    window: Window,
    size: int,
    recursion: int = 1000,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield the mass of `density` in strips (H, S) from the top.

    With a palette (L, 3), strips are (4, H, S): red, green and blue, weighted with mass, and mass.
    """
    attractor = Attractor(maps, window, size, recursion, measure=True)
    slow = float((attractor.weights * singular_values(attractor.maps)[:, 0]).sum()) > SLOW and not attractor.zoomed
    many = max(1.0, len(maps) / 64)  # maps, which coarser particles and more words draw in less time
    cell = attractor.cell(CLOUD_SIDE if slow else max(1, round(PARTICLE_SIDE / many**0.5)))
    coarse = functools.cache(lambda: coarse_measure(attractor))
    shortest, most_words = 0 if palette is None else 1, LAYERS if slow else math.inf

    def found_in(tile: Tile) -> list[Words]:
        chance = torch.Generator().manual_seed(0)

        def prune(maps: Tensor, weights: Tensor, crowd: int) -> tuple[Tensor, Tensor]:
            return resample(weights * mass_in_tile(coarse(), maps, tile), crowd, chance)

        return list(words_in(attractor, tile, 1 / cell, prune, shortest, most=most_words))

    whole = found_in((0, size, 0, size))
    longest = max((words.length for words in whole if len(words.maps)), default=0)
    clouds = levels_to_keep(measure_levels(attractor, cell, palette is not None), recursion - longest)
    largest = max(len(weights) for _, weights in clouds.values())
    rows = strip_rows(size, (24 if palette is None else 192) * size, memory)
    for first in range(0, size, rows):
        tile = (0, size, first, min(first + rows, size))
        flat = (tile[3] - tile[2] + 2) * (size + 2)
        sums = torch.zeros(1 if palette is None else 4, flat, dtype=torch.float64, device=maps.device)
        found = whole if rows == size else found_in(tile)
        words, shares, digits = (torch.cat([getattr(w, k) for w in found]) for k in ("maps", "weights", "digits"))
        levels = [max((k for k in clouds if k <= recursion - w.length), default=min(clouds)) for w in found]
        sources = [clouds[level] for level, w in zip(levels, found, strict=True) for _ in w.maps]
        drawn_points = sum(len(weights) for _, weights in sources)
        room, kept = max(LAYERS, len(maps)) * max(flat, largest), range(len(words))
        if drawn_points > room:
            most = max(1, room * len(words) // drawn_points)
            kept, factors = resample(
                shares * mass_in_tile(coarse(), words, tile), most, torch.Generator().manual_seed(0)
            )
            shares[kept] *= factors
            kept = kept.tolist()
        for k in kept:
            points, weights = sources[k]
            if palette is None and (loops := kernels(sums)) is not None:
                here = words[k : k + 1].clone()  # into the frame of `places`
                here[0, :, 2] += 1.5 - here.new_tensor([tile[0], tile[2]])
                arrays = (array.numpy() for array in (here, shares[k : k + 1], points, weights))
                loops.deposit(*arrays, sums[0].view(-1, size + 2).numpy())
            else:
                moved = images(words[k : k + 1], points, None if palette is None else digits[k : k + 1])
                accumulate(sums, pixel_index(moved, tile), shares[k] * weights, moved, palette)
            progress(len(weights))
        yield crop_border(sums[0] if palette is None else sums, tile)


def coarse_measure(attractor: Attractor) -> tuple[Tensor, Tensor, Tensor]:
    """The measure in up to GLANCE × GLANCE parts: their middles (Q, 2), half their sides (Q, 2), masses (Q,)."""
    *_, (_, points, weights) = measure_levels(attractor, attractor.cell(CHART_SIDE))
    low, high = points.new_tensor(attractor.box).view(2, 2).T
    column, row = ((points.T - low) / (high - low) * GLANCE).long().clamp(0, GLANCE - 1).unbind(1)
    masses = weights.new_zeros(GLANCE**2).scatter_add_(0, row * GLANCE + column, weights)
    part, found = (row * GLANCE + column)[:, None].expand(-1, 2), masses.nonzero().squeeze(1)
    ends = (
        points.new_zeros(GLANCE**2, 2).scatter_reduce_(0, part, points.T, kind, include_self=False)[found]
        for kind in ("amin", "amax")
    )
    first, last = ends
    return (first + last) / 2, (last - first + attractor.cell(CHART_SIDE)) / 2, masses[found]


def mass_in_tile(coarse: tuple[Tensor, Tensor, Tensor], maps: Tensor, tile: Tile) -> Tensor:
    """About how much (K,) of the image of the measure under words (K, 2, 3) lies in a tile, by a `coarse_measure`."""
    low, high = maps.new_tensor([[tile[0], tile[2]], [tile[1], tile[3]]]) - 0.5
    middles, halves, masses = coarse
    parts = []
    for some in maps.split(GLANCED):
        there, wide = apply(some, middles), (halves @ some[:, :, :2].abs().mT).clamp(min=0.5)
        share = (torch.minimum(there + wide, high) - torch.maximum(there - wide, low)).clamp(min=0) / (2 * wide)
        parts.append(share.prod(2) @ masses)
    return torch.cat(parts)


def resample(masses: Tensor, most: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which (Q,) of masses (K,) to keep, at most `most`, and by which factors (Q,), so that they stand for all.

    Those above a threshold are kept as they are, of the others one of each run that adds up to it, by chance, so that
    on average each counts for what it should (stratified resampling with the threshold of Fearnhead and Clifford 2003).
    """
    ordered = masses.sort(descending=True).values
    rest, left = ordered.flip(0).cumsum(0).flip(0), most - torch.arange(len(masses), device=masses.device)
    sure = int((ordered * left > rest)[:most].cumprod(0).sum())
    threshold = rest[sure] / left[sure]
    heavy = masses > threshold
    runs = torch.arange(int(left[sure])) + torch.rand(int(left[sure]), generator=chance, dtype=torch.float64)
    light = masses.where(~heavy, 0).cumsum(0)
    picked = torch.searchsorted(light, runs.to(light) * threshold, right=True).clamp(max=len(masses) - 1)
    times = torch.bincount(picked, minlength=len(masses))
    kept = (heavy | (times > 0) & (masses > 0)).nonzero().squeeze(1)
    return kept, torch.where(heavy, 1, times * threshold / masses)[kept]


def levels_to_keep(levels: Iterator[tuple[int, Tensor, Tensor]], least: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Of levels of particles the last, and those from `least` on, every other one where they are too large to keep."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for level, points, weights in levels:
        if level <= least:
            kept.clear()
        kept[level] = points, weights
        if sum(points.nbytes + weights.nbytes for points, weights in kept.values()) > PARTICLE_BYTES and len(kept) > 3:
            for old in sorted(kept)[1:-1:2]:
                del kept[old]
    return kept


def accumulate(sums: Tensor, index: Tensor, mass: Tensor, points: Tensor, palette: Tensor | None) -> None:
    """Add masses (P,) of points at flat pixels (P,) to the last of sums (1 or 4, pixels), and their colours before."""
    sums[-1].scatter_add_(0, index, mass)
    if palette is not None:
        shades = palette.to(mass)[(points[2] * len(palette)).long()]
        for layer, shade in zip(sums[:3], shades.unbind(1), strict=True):
            layer.scatter_add_(0, index, shade * mass)


def measure_levels(attractor: Attractor, cell: float, addresses: bool = False) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the measure after 0, 1, 2 … levels, as (level, points (2, P) or (3, P), weights (P,)), until it is settled.

    Merging takes a little of the spread of each cell away, which adds up where maps are slow; there only the last
    levels are merged, and those before are stood for by `sampled` words.
    """
    cells = Grid(attractor.box, cell, attractor.maps.device)
    steps = compose(compose(cells.there, attractor.maps), cells.back)
    shrink = float((attractor.weights * singular_values(steps)[:, 0]).sum())
    points, weights = centroid(steps, attractor.weights)[:, None], steps.new_ones(1)
    if addresses:
        points = torch.cat([points, torch.full_like(points[:1], 0.5)])
    gap, level = attractor.span, 0
    yield level, images(cells.back, points), weights
    merged = min(MERGED, max(1, 64 // len(steps)))
    if shrink > SLOW and attractor.recursion > 2 * merged:
        settled = math.ceil(math.log(max(4 * gap / cell, 1)) / -math.log(min(shrink, 1 - 1e-7)))
        level = min(attractor.recursion, max(settled, 2 * merged)) - merged
        words, digits = random_words(steps, attractor.weights, attractor.digits, level)
        points = images(words, points[:, :1], digits if addresses else None)
        weights, gap = steps.new_full((len(words),), 1 / len(words)), cell * shrink**-merged
    size = max(1, at_once(steps.device) // len(steps))
    loops = None if addresses else kernels(steps)
    while level < attractor.recursion and gap >= cell / 4:
        if loops is not None:
            arrays = (array.contiguous().numpy() for array in (steps, attractor.weights, points, weights))
            points, weights = map(torch.from_numpy, loops.merge(*arrays, cells.rows, cells.columns))
        else:
            sums = steps.new_zeros(1 + len(points), cells.rows * cells.columns)  # mass, and mass times coordinates
            for part, share in zip(points.split(size, dim=1), weights.split(size), strict=True):
                moved = images(steps, part, attractor.digits)
                share = (attractor.weights[:, None] * share).flatten()
                index = cells.index(moved).long()
                for total, value in zip(sums, (share, *(moved * share)), strict=True):
                    total.scatter_add_(0, index, value)
            taken = sums[0].nonzero().squeeze(1)
            weights, *moments = sums.index_select(1, taken)
            points = torch.stack(moments) / weights
        level, gap = level + 1, gap * shrink
        yield level, images(cells.back, points), weights


def random_words(maps: Tensor, weights: Tensor, digits: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """SAMPLES words of `length` letters at random, each with its probability: maps (P, 2, 3) and digits (P, 2).

    Words are joined from random pairs of words of half the length, so that a length of thousands takes a dozen rounds.
    """
    chance = torch.Generator().manual_seed(0)
    alphabet = torch.cat([maps, as_rows(digits)], dim=1)
    at = (
        torch.arange(SAMPLES) + torch.rand(SAMPLES, generator=chance)
    ) / SAMPLES  # one letter's words in its proportion
    drawn_letters = torch.searchsorted(weights.cpu().cumsum(0), at.double()).clamp(max=len(maps) - 1)
    power, words = alphabet[drawn_letters.to(maps.device)], None
    while True:
        if length % 2:
            words = power if words is None else joined(words, power[torch.randperm(SAMPLES, generator=chance)])
        length //= 2
        if not length:
            return words[:, :2], words[:, 2, 1:]
        power = joined(power, power[torch.randperm(SAMPLES, generator=chance)])
