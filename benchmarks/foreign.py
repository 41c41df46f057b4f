"""Do the files of other programs open, and are they drawn right? python benchmarks/foreign.py
FOLDER …

For each .flame, .ifs, .csv and .json file of some folders it says whether it opens, how much its
maps stretch the plane and what long products of them shrink it to a map, and how its picture
compares with a chaos game of its rules, one sample a pixel: how many of the game's pixels, of all,
have nothing of the picture within a pixel. What a game comes to but rarely is in the picture alone,
so that the other way round tells little. A file that does not open is no fault: the last column
says why. With --twins, files whose names begin alike up to the first '_' are compared with each
other.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from diff_ifs.draw import chain
from diff_ifs.draw.coverage import occupancy
from diff_ifs.draw.geometry import View
from diff_ifs.errors import InputError
from diff_ifs.files.system import System, is_system_file, load_system

SIZE = 256


def drawn(system: System) -> np.ndarray:
    """What render_ifs.py draws (S, S), one sample a pixel."""
    if system.picture is not None:
        return chain.coverage(View(system.window, SIZE, chain=system.picture)).numpy() > 0
    return occupancy(torch.from_numpy(system.maps), system.window, SIZE, supersample=1).numpy() > 0


def played(system: System, games: int = 4000, steps: int = 1000) -> np.ndarray:
    """The pixels (S, S) that chaos games hit, which give each map its weight, or one by its
    area."""
    chance, rules = np.random.default_rng(0), system.measure or system.picture
    maps = system.maps if rules is None else rules.maps
    if rules is None:
        areas = (
            np.abs(np.linalg.det(maps[:, :, :2])) + 1e-3 * (maps[:, :, :2] ** 2).sum((1, 2)) + 1e-9
        )
        weights = areas if system.weights is None else system.weights
        rows = np.tile(weights / weights.sum(), (len(maps), 1))
    else:
        rows = rules.steps
    rows, letters = rows.cumsum(axis=1), chance.integers(len(maps), size=games)
    x, picture = np.zeros((games, 2)), np.zeros((SIZE, SIZE), bool)
    xmin, xmax, _, ymax = system.window
    for step in range(steps):
        letters = (
            (chance.random(games)[:, None] >= rows[letters]).sum(axis=1).clip(max=len(maps) - 1)
        )
        x = np.einsum("pij,pj->pi", maps[letters, :, :2], x) + maps[letters, :, 2]
        if step < steps // 4:
            continue
        seen = x if rules is None else x[rules.opacities[letters] > 0]
        for final in [np.eye(2, 3)] if rules is None else rules.finals:
            y = seen @ final[:, :2].T + final[:, 2]
            column, row = (
                np.floor((y - [xmin, ymax]) * [1, -1] * SIZE / (xmax - xmin)).astype(int).T
            )
            here = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
            picture[row[here], column[here]] = True
    return picture


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("folders", nargs="+", type=Path)
    parse.add_argument("--twins", action="store_true")
    arguments = parse.parse_args()
    pictures, opened, wrong = {}, 0, 0
    paths = sorted(
        path
        for folder in arguments.folders
        for path in folder.iterdir()
        if is_system_file(path.name)
    )
    print(f"{'file':40} maps  stretch   game  missed")
    for path in paths:
        try:
            system = load_system(str(path))
        except InputError as error:
            print(f"{path.name[:40]:40} {str(error).partition('drawn: ')[2] or error}")
            continue
        opened += 1
        ours, theirs = drawn(system), played(system)
        missed = int((theirs & ~binary_dilation(ours, np.ones((3, 3), bool))).sum())
        wrong += missed > 0.002 * theirs.sum()
        largest = np.linalg.svd(system.maps[:, :, :2], compute_uv=False).max()
        print(
            f"{path.name[:40]:40} {len(system.maps):4} {largest:8.3f} {theirs.sum():6} {missed:7}",
            flush=True,
        )
        pictures[path.name] = ours
    print(f"{opened} of {len(paths)} open, {wrong} of them miss more than 0.2 % of a chaos game")
    if arguments.twins:
        for one, other in itertools.combinations(pictures, 2):
            if one.split("_")[0] == other.split("_")[0]:
                print(
                    f"{one} | {other}: {int((pictures[one] ^ pictures[other]).sum())} pixels differ"
                )


if __name__ == "__main__":
    main()
