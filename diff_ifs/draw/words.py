"""The words that meet a tile."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.geometry import Tile
from ifs_model import apply, compose, singular_values

# From the maps (K, 2, 3) and weights (K,) of words, and how many to keep: which to keep, and
# factors of their weights.
Prune = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor | float]]

# words that are looked at side by side, where images overlap so much that there are more
CROWD = 1 << 13


@dataclass(frozen=True)
class Words:
    """Words of one length: maps (K, 2, 3), weights (K,), what they do to addresses (K, 2)."""

    length: int
    maps: Tensor
    weights: Tensor
    digits: Tensor


def words(
    attractor: Attractor,
    tile: Tile,
    limit: float,
    prune: Prune,
    shortest: int = 0,
    crowd: int = CROWD,
    most: float = math.inf,
) -> Iterator[Words]:
    """Yield the words that draw a tile, none of which is a prefix of another.

    A word whose image of the box misses the tile is dropped; one that shrinks the world by less
    than `limit`, or has fewer than `shortest` letters, and fewer than `recursion`, is replaced by
    its children. Of more than `crowd`, or in a zoom of as many as can be followed to the longest
    words, those that `prune` picks are kept, and weigh what it says. Before there are more than
    `most`, and after two million were looked at, those that are there are taken, small or not, so
    that none are lost.
    """
    edges = _corners(attractor)
    low, high = edges.new_tensor([[tile[0], tile[2]], [tile[1], tile[3]]]) - 0.5
    found = Words(
        0, torch.eye(2, 3).to(edges)[None], edges.new_ones(1), edges.new_tensor([[1.0, 0.0]])
    )
    # that are looked at: those of slow maps end before they are small
    looked_at, enough_words = 0, 1 << 21
    if attractor.zoomed and limit > 0:
        longest = math.log(limit) / math.log(min(max(attractor.slowest, 1e-9), 1 - 1e-9))
        crowd = min(crowd, max(1 << 7, int(enough_words / (max(longest, 1) * len(attractor.maps)))))
    for length in range(attractor.recursion + 1):
        seen = apply(found.maps, edges)
        seen = ((seen.amax(1) >= low) & (seen.amin(1) <= high)).all(1)
        maps, weights, digits = found.maps[seen], found.weights[seen], found.digits[seen]
        small = (singular_values(maps)[:, 0] <= limit) & (length >= shortest) | (
            length == attractor.recursion
        )
        looked_at += len(seen)
        enough = looked_at > enough_words or int((~small).sum()) * len(attractor.maps) > most
        if enough and length >= shortest:
            small.fill_(True)
        yield Words(length, maps[small], weights[small], digits[small])
        if small.all():
            return
        large = (~small).nonzero().squeeze(1)
        if len(large) > crowd:
            kept, factors = prune(maps[large], weights[large], crowd)
            large = large[kept]
            weights[large] *= factors
        maps, weights, digits = maps[large, None], weights[large, None], digits[large, None]
        shifts = torch.addcmul(digits[..., 1], digits[..., 0], attractor.digits[:, 1])
        found = Words(
            length + 1,
            compose(maps, attractor.maps).flatten(0, 1),
            (weights * attractor.weights).flatten(),
            torch.stack([(digits[..., 0] * attractor.digits[:, 0]), shifts], dim=-1).flatten(0, 1),
        )


def heaviest_of_each_place(
    attractor: Attractor, maps: Tensor, weights: Tensor, tile: Tile
) -> Tensor:
    """An order of words (K,) in which each of 32² places of a tile has its heaviest word first."""
    seen = apply(maps, _corners(attractor))
    low, high = maps.new_tensor([[tile[0], tile[2]], [tile[1], tile[3]]])
    middle = (seen.amin(1).clamp(low, high) + seen.amax(1).clamp(low, high)) / 2
    column, row = ((middle - low) / (high - low) * 32).long().clamp(max=31).unbind(1)
    heaviest = weights.argsort(descending=True, stable=True)
    by_place = heaviest[(row * 32 + column)[heaviest].argsort(stable=True)]
    first = torch.searchsorted((row * 32 + column)[by_place], (row * 32 + column)[by_place])
    rank = torch.arange(len(weights)) - first
    return by_place[rank.argsort(stable=True)]


def _corners(attractor: Attractor) -> Tensor:
    """Those of the attractor's box (4, 2)."""
    return attractor.maps.new_tensor([[x, y] for x in attractor.box[:2] for y in attractor.box[2:]])
