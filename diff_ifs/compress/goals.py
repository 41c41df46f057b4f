"""The best code for what is asked: so many bytes, so many bits, or so little loss."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.compress.lattice import Coded
from diff_ifs.compress.search import encodings, fewest_bytes, refit, rounded, similarities
from diff_ifs.errors import InputError
from diff_ifs.formats.code import Code

NEAR = 0.06  # what a refit may hope to recover of IoU


def fit_into(
    system: dict, target: Tensor, length: int, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The best code found of a system (a checkpoint's dict) in at most `length` bytes. Raises
    InputError if none."""
    ways = ways_into(system, length)
    if not ways:
        least = min(map(fewest_bytes, encodings(system)))
        raise InputError(
            f"{len(system['maps'])} maps need at least {least} bytes, not {length}; or fit fewer maps"
        )
    maps = starts(system, target)
    found = [
        refit(code, maps[code.similar], target, judgements, progress=progress) for code in ways
    ]
    return max(found, key=lambda found: found.iou)


def ways_into(system: dict, length: int) -> list[Code]:
    """The ways to code a system in at most `length` bytes.

    A few similarities have so few numbers that chance decides which lattice suits them: shorter
    files are tried, too.
    """
    ways = [
        replace(code, length=length - less)
        for code in encodings(system)
        for less in range(3 if code.similar else 1)
    ]
    return [code for code in ways if fewest_bytes(code) <= code.length]


def fit_bits(
    system: dict, target: Tensor, bits: float, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The best code found of a system that has so many bits for each number of a map: six, or four
    of a similarity."""
    code = encodings(system)[-1]
    body = code.header()[1] + bits * (4 if code.similar else 6) * code.n
    code = replace(code, length=max(fewest_bytes(code), math.ceil(body / 8) + 1))
    return refit(code, starts(system, target)[code.similar], target, judgements, progress=progress)


def fit_within(
    system: dict, target: Tensor, goal: float, judgements: int = 200, progress: Callable = bool
) -> Coded:
    """The code of a system in the fewest bytes found whose IoU with the target is at least `goal`.

    Raises InputError if there is none.
    """
    maps, best = starts(system, target), None

    def plain(code: Code, length: int) -> Coded:
        progress(1)
        return rounded(replace(code, length=length), maps[code.similar], target)

    *affine, last = encodings(system)
    # so few numbers that chance decides which lattice suits them: each length is tried, short ones
    # first
    if last.similar:
        for length in range(fewest_bytes(last), (last.header()[1] + 13 * 4 * last.n) // 8 + 2):
            found = plain(last, length)
            if goal - NEAR <= found.iou < goal:
                found = refit(found.code, maps[True], target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
                break
    code = affine[0] if affine else last
    least, most = (
        fewest_bytes(code),
        best.code.length - 1 if best else (code.header()[1] + 16 * 6 * code.n) // 8 + 1,
    )
    enough = None
    while least <= most:  # where rounding alone is good enough
        found = plain(code, (least + most) // 2)
        if found.iou < goal:
            least = found.code.length + 1
        else:
            most, enough = found.code.length - 1, found
    if enough is not None:
        best, least = enough, max(fewest_bytes(code), round(0.7 * enough.code.length))
        while least < best.code.length:  # and where a refit is
            code = replace(code, length=(least + best.code.length) // 2)
            found = refit(code, maps[code.similar], target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
            else:
                least = code.length + 1
    if best is None:
        raise InputError(
            f"no number of bytes reaches an IoU of {goal:.4f}; give a larger --loss, or --bytes N"
        )
    return best


def starts(system: dict, target: Tensor) -> dict[bool, Tensor]:
    """The maps from which the search begins: as they are, and (True) as similarities where they
    nearly are."""
    maps = sorted_maps(system["maps"])
    return {
        code.similar: similarities(code, maps, target) if code.similar else maps
        for code in encodings(system)
    }


def sorted_maps(maps: Tensor) -> Tensor:
    """The maps in an order of their own, float64, so that the order in which they came changes
    nothing."""
    return torch.tensor(sorted(maps.double().tolist()), dtype=torch.float64)
