"""The measure of an attractor: how much of it lies in each pixel.

Letters in shapes: K words, P particles, S side of the picture, H rows of a strip.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.backend import arrays, load_kernels
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.chart import CHART_SIDE
from diff_ifs.draw.geometry import MEMORY, Progress, Tile, View, Window, strip_rows
from diff_ifs.draw.growth import SLOW, Grid, as_rows, images, joined
from diff_ifs.draw.levels import CLOUD_SIDE, LAYERS
from diff_ifs.draw.words import Words
from diff_ifs.draw.words import words as words_in
from ifs_model import apply, centroid, compose, singular_values

PARTICLE_SIDE = 512  # cells along the longer side of the grid in which particles are merged
PARTICLE_BYTES = 256 << 20  # of particles of different levels that are kept side by side


def density(maps: Tensor, window: Window, size: int, recursion: int = 1000) -> Tensor:
    """Mass (S, S), float64, that the measure puts into each pixel: see `density_strips`."""
    return torch.cat(list(density_strips(maps, View(window, size, recursion))))


def density_strips(
    maps: Tensor,
    view: View,
    palette: Tensor | None = None,
    memory: int = MEMORY,
    progress: Progress = bool,
) -> Iterator[Tensor]:
    """Yield the mass that the measure of the maps puts into each pixel, float64, in strips (H, S)
    from the top.

    The measure gives each map the view's weight, or that of `area_weights`, and starts as one point
    at its centre of mass. Particles that fall into the same cell are merged into one of their total
    weight at their centroid, so that mass is exact and places are exact to second order in the
    cell. With a palette (L, 3), strips are (4, H, S): red, green and blue, weighted with mass, and
    mass. Pens, figures and sub-pixels of the view do not count.
    """
    size, recursion = view.size, view.recursion
    attractor = Attractor(maps, replace(view, supersample=1, figure=None), measure=True)
    slow = _mean_contraction(attractor) > SLOW and not attractor.zoomed
    # maps, which coarser particles and more words draw in less time
    many = max(1.0, len(maps) / 64)
    cell = attractor.cell(CLOUD_SIDE if slow else max(1, round(PARTICLE_SIDE / many**0.5)))
    coarse = functools.cache(lambda: coarse_measure(attractor))
    shortest, most_words = 0 if palette is None else 1, LAYERS if slow else math.inf
    shades = torch.empty(0, 3) if palette is None else palette

    def found_in(tile: Tile) -> list[Words]:
        chance = torch.Generator().manual_seed(0)

        def prune(maps: Tensor, weights: Tensor, crowd: int) -> tuple[Tensor, Tensor]:
            return resample(weights * mass_in_tile(coarse(), maps, tile), crowd, chance)

        return list(words_in(attractor, tile, 1 / cell, prune, shortest, most=most_words))

    whole = found_in((0, size, 0, size))
    longest = max((words.length for words in whole if len(words.maps)), default=0)
    clouds = levels_to_keep(
        measure_levels(attractor, cell, palette is not None), recursion - longest
    )
    largest = max(len(weights) for _, weights in clouds.values())
    rows = strip_rows(size, (24 if palette is None else 192) * size, memory)
    for first in range(0, size, rows):
        tile = (0, size, first, min(first + rows, size))
        height, width = tile[3] - tile[2] + 2, size + 2
        sums = torch.zeros(1 if palette is None else 4, height, width, dtype=torch.float64)
        found = whole if rows == size else found_in(tile)
        words, shares, digits = (
            torch.cat([getattr(w, k) for w in found]) for k in ("maps", "weights", "digits")
        )
        levels = [
            max((k for k in clouds if k <= recursion - w.length), default=min(clouds))
            for w in found
        ]
        sources = [clouds[level] for level, w in zip(levels, found, strict=True) for _ in w.maps]
        drawn_points = sum(len(weights) for _, weights in sources)
        room, kept = max(LAYERS, len(maps)) * max(height * width, largest), range(len(words))
        if drawn_points > room:
            most = max(1, room * len(words) // drawn_points)
            masses = shares * mass_in_tile(coarse(), words, tile)
            kept, factors = resample(masses, most, torch.Generator().manual_seed(0))
            shares[kept] *= factors
            kept = kept.tolist()
        # into the frame of the picture and its border
        words[:, :, 2] += 1.5 - words.new_tensor([tile[0], tile[2]])
        for k in kept:
            points, weights = sources[k]
            given = arrays(words[k], digits[k], points, weights, shades.double())
            load_kernels().deposit(*given[:2], float(shares[k]), *given[2:], sums.numpy())
            progress(len(weights))
        yield (sums[0] if palette is None else sums)[..., 1:-1, 1:-1]


def coarse_measure(attractor: Attractor) -> tuple[Tensor, Tensor, Tensor]:
    """The measure in at most 8 × 8 parts: middles (Q, 2), half their sides (Q, 2), masses (Q,)."""
    *_, (_, points, weights) = measure_levels(attractor, attractor.cell(CHART_SIDE))
    low, high = points.new_tensor(attractor.box).view(2, 2).T
    column, row = ((points.T - low) / (high - low) * 8).long().clamp(0, 7).unbind(1)
    masses = weights.new_zeros(64).scatter_add_(0, row * 8 + column, weights)
    part, found = (row * 8 + column)[:, None].expand(-1, 2), masses.nonzero().squeeze(1)
    first, last = (
        points.new_zeros(64, 2).scatter_reduce_(0, part, points.T, kind, include_self=False)[found]
        for kind in ("amin", "amax")
    )
    return (first + last) / 2, (last - first + attractor.cell(CHART_SIDE)) / 2, masses[found]


def mass_in_tile(coarse: tuple[Tensor, Tensor, Tensor], maps: Tensor, tile: Tile) -> Tensor:
    """About how much (K,) of the image of the measure under words (K, 2, 3) lies in a tile, by a
    `coarse_measure`.
    """
    low, high = maps.new_tensor([[tile[0], tile[2]], [tile[1], tile[3]]]) - 0.5
    middles, halves, masses = coarse
    parts = []
    for some in maps.split(1 << 13):
        there, wide = apply(some, middles), (halves @ some[:, :, :2].abs().mT).clamp(min=0.5)
        share = (torch.minimum(there + wide, high) - torch.maximum(there - wide, low)).clamp(
            min=0
        ) / (2 * wide)
        parts.append(share.prod(2) @ masses)
    return torch.cat(parts)


def resample(masses: Tensor, most: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which (Q,) of masses (K,) to keep, at most `most`, and by which factors (Q,), so that they
    stand for all.

    Those above a threshold are kept as they are, of the others one of each run that adds up to it,
    by chance, so that on average each counts for what it should (stratified resampling with the
    threshold of Fearnhead and Clifford 2003).
    """
    ordered = masses.sort(descending=True).values
    rest, left = ordered.flip(0).cumsum(0).flip(0), most - torch.arange(len(masses))
    sure = int((ordered * left > rest)[:most].cumprod(0).sum())
    threshold = rest[sure] / left[sure]
    heavy = masses > threshold
    runs = torch.arange(int(left[sure])) + torch.rand(
        int(left[sure]), generator=chance, dtype=torch.float64
    )
    light = masses.where(~heavy, 0).cumsum(0)
    picked = torch.searchsorted(light, runs.to(light) * threshold, right=True).clamp(
        max=len(masses) - 1
    )
    times = torch.bincount(picked, minlength=len(masses))
    kept = (heavy | (times > 0) & (masses > 0)).nonzero().squeeze(1)
    return kept, torch.where(heavy, 1, times * threshold / masses)[kept]


def levels_to_keep(
    levels: Iterator[tuple[int, Tensor, Tensor]], least: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """Of levels of particles the last, and those from `least` on, every other one where they are
    too large to keep.
    """
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for level, points, weights in levels:
        if level <= least:
            kept.clear()
        kept[level] = points, weights
        if (
            sum(points.nbytes + weights.nbytes for points, weights in kept.values())
            > PARTICLE_BYTES
            and len(kept) > 3
        ):
            for old in sorted(kept)[1:-1:2]:
                del kept[old]
    return kept


def _mean_contraction(attractor: Attractor) -> float:
    """By how much a map of the measure shrinks the world on average, at least."""
    return min(
        attractor.slowest, float((attractor.weights * singular_values(attractor.maps)[:, 0]).sum())
    )


def measure_levels(
    attractor: Attractor, cell: float, addresses: bool = False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the measure after 0, 1, 2 … levels, as (level, points (2, P) or (3, P), weights (P,)),
    until it is settled.

    Merging takes a little of the spread of each cell away, which adds up where maps are slow; there
    only the last levels are merged, and those before are stood for by `random_words`.
    """
    grid = Grid(attractor.box, cell)
    steps = compose(compose(grid.there, attractor.maps), grid.back)
    shrink = _mean_contraction(attractor)
    points, weights = centroid(steps, attractor.weights)[:, None], steps.new_ones(1)
    if addresses:
        points = torch.cat([points, torch.full_like(points[:1], 0.5)])
    gap, level = attractor.span, 0
    yield level, images(grid.back, points), weights
    merged = min(16, max(1, 64 // len(steps)))
    if shrink > SLOW and attractor.recursion > 2 * merged:
        settled = math.ceil(math.log(max(4 * gap / cell, 1)) / -math.log(min(shrink, 1 - 1e-7)))
        level = min(attractor.recursion, max(settled, 2 * merged)) - merged
        words, digits = random_words(steps, attractor.weights, attractor.digits, level)
        points = images(words, points[:, :1], digits)
        weights, gap = steps.new_full((len(words),), 1 / len(words)), cell * shrink**-merged
    while level < attractor.recursion and gap >= cell / 4:
        given = arrays(steps, attractor.digits, attractor.weights, points, weights)
        points, weights = map(
            torch.from_numpy, load_kernels().merge(*given, grid.rows, grid.columns)
        )
        level, gap = level + 1, gap * shrink
        yield level, images(grid.back, points), weights


def random_words(
    maps: Tensor, weights: Tensor, digits: Tensor, length: int
) -> tuple[Tensor, Tensor]:
    """2^18 words of `length` letters at random, each with its probability: maps (P, 2, 3) and
    digits (P, 2).

    Words are joined from random pairs of words of half the length, so that a length of thousands
    takes a dozen rounds.
    """
    chance, count = torch.Generator().manual_seed(0), 1 << 18
    alphabet = torch.cat([maps, as_rows(digits)], dim=1)
    # a letter has its share of the words
    at = (torch.arange(count) + torch.rand(count, generator=chance)) / count
    power, words = (
        alphabet[torch.searchsorted(weights.cumsum(0), at.double()).clamp(max=len(maps) - 1)],
        None,
    )
    while True:
        if length % 2:
            words = (
                power
                if words is None
                else joined(words, power[torch.randperm(count, generator=chance)])
            )
        length //= 2
        if not length:
            return words[:, :2], words[:, 2, 1:]
        power = joined(power, power[torch.randperm(count, generator=chance)])
