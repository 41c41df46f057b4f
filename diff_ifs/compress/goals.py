"""The best code for what is asked: so many bytes, so many bits, or so little loss."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diff_ifs.compress.grades import fewer, graded, sensitivities
from diff_ifs.compress.lattice import Coded, finest, place_of, round_to_lattice
from diff_ifs.compress.search import (
    FEW,
    best_box,
    columns,
    descended,
    encodings,
    fewest_bytes,
    improve,
    refit,
    rounded,
    score,
)
from diff_ifs.compress.symmetry import symmetric_codes
from diff_ifs.errors import InputError
from diff_ifs.fit.judge import evaluate
from diff_ifs.formats.code import Code

NEAR = 0.04  # what a refit may hope to recover of IoU
AS_GOOD = 0.01  # how much of IoU a symmetric system may be worse by, to be tried
ROOM = (24, 32)  # bits a map: with fewer than the first, systems of fewer maps are tried
# of the ways that look best, how many are refitted, and how close in IoU
REFITTED, CLOSE = 2, 0.004


@dataclass(frozen=True)
class Way:
    """One of the ways to code a system: its code, whatever the length, and the maps (n, 2, 3) from
    which the search for their numbers begins."""

    code: Code
    maps: Tensor
    felt: Tensor | None  # how much the picture feels each map; None: of so few, all alike

    @property
    def numbers(self) -> int:
        return self.code.n * columns(self.code)

    def at(self, length: int) -> tuple[Code, Tensor]:
        """Code and maps for a file of so many bytes."""
        code = replace(self.code, length=length)
        return (code, self.maps) if self.felt is None else graded(code, self.maps, self.felt)


def ways(system: dict, target: Tensor) -> list[Way]:
    """The ways to code a system (a checkpoint's dict), those of the fewest numbers first: as it is,
    as similarities where its maps nearly are, and made symmetric where that shows the target as
    well."""
    maps, codes = sorted_maps(system["maps"]), encodings(system)
    found = [descended(code, maps, target) if code.similar else (code, maps) for code in codes]
    for pair in symmetric_codes(codes[-1], maps, target)[:2]:
        code, some = descended(*pair, target)
        fine = finest(code)
        iou = score(fine, round_to_lattice(fine, place_of(fine, some)), target)
        if iou >= system.get("iou", 0) - AS_GOOD:
            found.append((code, some))
            break
    return sorted((_way(*pair, target) for pair in found), key=lambda way: way.numbers)


def _way(code: Code, maps: Tensor, target: Tensor) -> Way:
    few = code.n * columns(code) <= FEW
    return Way(code, maps, None if few else sensitivities(code, maps, target))


def fit_into(
    system: dict, target: Tensor, length: int, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The best code found of a system (a checkpoint's dict), or of some of its maps, in at most
    `length` bytes. Raises InputError if there is none."""
    found, maps = ways(system, target), sorted_maps(system["maps"])
    for bits in ROOM:
        most = max(1, (8 * length - 46) // bits)
        if most < len(maps):
            while len(maps) > most:
                maps = fewer(maps, target, system["stroke"])
                progress(1)
            pair = descended(encodings({**system, "maps": maps})[0], maps, target)
            found.append(_way(*pair, target))
    return best_of(found, target, length, judgements, progress)


def best_of(
    found: list[Way], target: Tensor, length: int, judgements: int, progress: Callable = bool
) -> Coded:
    """The best code found in at most `length` bytes: those ways are refitted that lose least when
    they are rounded, and what comes of it is improved. Raises InputError if none has room.

    A few numbers are at the mercy of the lattice: shorter files are tried, too.
    """
    tried = []
    for way in found:
        for size in range(length, length - (3 if way.felt is None else 1), -1):
            if fewest_bytes(way.code) <= size:
                pair = way.at(size)
                with suppress(InputError):  # too few bytes for its slow maps
                    tried.append((best_box(*pair, target, progress).iou, *pair))
    if not tried:
        least = min(fewest_bytes(way.code) for way in found)
        n = min(way.code.n for way in found)
        raise InputError(f"even {n} of its maps needs at least {least} bytes, not {length}")
    tried.sort(key=lambda pair: -pair[0])
    likely = [pair for iou, *pair in tried[:REFITTED] if iou >= tried[0][0] - CLOSE]
    refitted = [refit(*pair, target, 0, progress=progress) for pair in likely]
    return improve(max(refitted, key=lambda coded: coded.iou), target, judgements, 1.0, progress)


def fit_bits(
    system: dict, target: Tensor, bits: float, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The best code found of a system that has so many bits for each number of a map: six, or four
    of a similarity."""
    code, maps = encodings(system)[-1], sorted_maps(system["maps"])
    body = code.header()[1] + bits * columns(code) * code.n
    if code.similar:
        code, maps = descended(code, maps, target)
    code, maps = _way(code, maps, target).at(max(fewest_bytes(code), math.ceil(body / 8) + 1))
    return refit(code, maps, target, judgements, progress=progress)


def fit_within(
    system: dict, target: Tensor, loss: float, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The code of a system in the fewest bytes found that loses at most `loss` of its IoU with the
    target, both as searches judge and with all edges drawn.

    Raises InputError if there is none.
    """
    fitted = system["maps"], target, system["stroke"]
    goal = evaluate(*fitted, quality="draft").iou - loss
    with_edges = evaluate(*fitted).iou - loss

    def good(found: Coded) -> bool:
        progress(1)
        return (
            found.iou >= goal
            and score(found.code, found.numbers, target, quality="final") >= with_edges
        )

    best = None
    for way in ways(system, target):
        most = best.code.length - 1 if best else (way.code.header()[1] + 16 * way.numbers) // 8 + 1
        search = _shortest_of_few if way.felt is None else _shortest
        options = (judgements, goal, progress)
        best = search(way, target, most, good, options) or best
    if best is None:
        raise InputError(
            f"no number of bytes reaches an IoU of {goal:.4f}; give a larger --loss, or --bytes N"
        )
    return best


def _shortest_of_few(
    way: Way, target: Tensor, most: int, good: Callable[[Coded], bool], options: tuple
) -> Coded | None:
    """Of so few numbers that chance decides which lattice suits them, each length is tried, short
    ones first."""
    _, goal, _ = options
    for length in range(fewest_bytes(way.code), most + 1):
        code, maps = way.at(length)
        found = _plain(code, maps, target)
        if found and found.iou >= goal - NEAR and not good(found):
            found = refit(code, maps, target, *options)
        if found and good(found):
            return found
    return None


def _shortest(
    way: Way, target: Tensor, most: int, good: Callable[[Coded], bool], options: tuple
) -> Coded | None:
    """The length is halved upon: where rounding alone is good enough, and then where a refit
    is."""
    least, best = fewest_bytes(way.code), None
    while least <= most:
        length = (least + most) // 2
        found = _plain(*way.at(length), target)
        if found and good(found):
            most, best = length - 1, found
        else:
            least = length + 1
    if best is None:
        return None
    least = max(fewest_bytes(way.code), round(0.7 * best.code.length))
    while least < best.code.length:
        length = (least + best.code.length) // 2
        found = refit(*way.at(length), target, *options)
        if good(found):
            best = found
        else:
            least = length + 1
    return best


def _plain(code: Code, maps: Tensor, target: Tensor) -> Coded | None:
    """The maps rounded; None where so few bytes let one of them expand."""
    try:
        return rounded(code, maps, target)
    except InputError:
        return None


def sorted_maps(maps: Tensor) -> Tensor:
    """The maps in an order of their own, float64, so that the order in which they came changes
    nothing."""
    return torch.tensor(sorted(maps.double().tolist()), dtype=torch.float64)
