"""Draw known attractors, give the fitter each picture and the number of maps alone, and count those
that come back.

    python benchmarks/recover.py [FOLDER | --spirals] [--seeds K] [--names NAME ...] [--jobs J]
                                 [--out OUT]

A fit counts as recovered if the IoU of its attractor with the picture is at least 0.95. Thin
attractors are drawn with a pen two pixels wide, solid ones bare; the fitter is not told which. With
FOLDER, the attractors are those of its CSV files, drawn bare: as in FractalDB, a row a b c d e f p
is the map x' = a x + b y + e, y' = c x + d y + f. --spirals draws r = e^(bθ) with pens of two to
five pixels, for three maps, of which no such spiral is made exactly. OUT (default: recover) gets
table.txt, and sheet.png: the difference of each target from the fit of the first seed.
"""

import argparse
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from quality import alone
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.draw.coverage import occupancy
from diff_ifs.draw.geometry import bounds
from diff_ifs.files.command import pick_device
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.results import contact_sheet, difference_frame, save_picture
from diff_ifs.fit.judge import evaluate
from diff_ifs.metrics import iou
from diff_ifs.setup import WINDOW, Setup, affine, similarity
from ifs_model import compose
from train_ifs import fit

SIZE = 256
PEN = 2 / SIZE  # its radius in world units
GOAL = 0.95


def about(scale: float, degrees: float, x: float, y: float):
    """The similarity that shrinks and turns the world about (x, y)."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return affine(c, -s, s, c, x - c * x + s * y, y - s * x - c * y)


def ring(count: int, scale: float, degrees: float = 0.0) -> list:
    """Copies of `scale` about the corners of a regular polygon, the first at the top."""
    angles = [math.pi / 2 + 2 * math.pi * k / count for k in range(count)]
    return [about(scale, degrees, math.cos(angle), math.sin(angle)) for angle in angles]


HALF, THIRD, GOLD = 0.5**0.5, 3**-0.5, (3 - 5**0.5) / 2
SYSTEMS = {  # name: maps, whether a pen draws it
    "gasket": (ring(3, 0.5), True),
    "carpet": (
        [similarity(1 / 3, at=(x, y)) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y],
        False,
    ),
    "koch": (
        [
            similarity(1 / 3, at=(-1, 0)),
            similarity(1 / 3, 60, at=(-0.25, 0.75 * THIRD)),
            similarity(1 / 3, -60, at=(0.25, 0.75 * THIRD)),
            similarity(1 / 3, at=(1, 0)),
        ],
        True,
    ),
    "snowflake": ([similarity(THIRD, 30), *ring(6, 1 / 3)], False),
    "vicsek": (
        [similarity(1 / 3), *(similarity(1 / 3, at=(x, y)) for x in (-1, 1) for y in (-1, 1))],
        True,
    ),
    "heighway": ([about(HALF, 45, 0, 0), similarity(HALF, 135, at=(1, 0))], False),
    "levy": ([similarity(HALF, 45), similarity(HALF, -45, at=(0.5, 0.5))], True),
    "pentaflake": ([similarity(GOLD, 180), *ring(5, GOLD)], True),
    "fern": (
        [
            affine(0, 0, 0, 0.16),
            affine(0.85, 0.04, -0.04, 0.85, 0, 1.6),
            affine(0.20, -0.26, 0.23, 0.22, 0, 1.6),
            affine(-0.15, 0.28, 0.26, 0.24, 0, 0.44),
        ],
        True,
    ),
    "maple": (
        [
            affine(0.14, 0.01, 0, 0.51, -0.08, -1.31),
            affine(0.43, 0.52, -0.45, 0.50, 1.49, -0.75),
            affine(0.45, -0.49, 0.47, 0.47, -1.62, -0.74),
            affine(0.49, 0, 0, 0.51, 0.02, 1.62),
        ],
        False,
    ),
    "tree": (
        [
            affine(0, 0, 0, 0.5),
            affine(0.42, -0.42, 0.42, 0.42, 0, 0.2),
            affine(0.42, 0.42, -0.42, 0.42, 0, 0.2),
            affine(0.1, 0, 0, 0.1, 0, 0.2),
        ],
        True,
    ),
    "twindragon": ([similarity(HALF, 45), similarity(HALF, 45, at=(0.5, -0.5))], False),
}


SPIRALS = [f"spiral {b} {pen}" for b in (0.15, 0.2, 0.25, 0.3) for pen in (2, 3, 5)]


def spiral(name: str) -> torch.Tensor:
    """The picture (S, S), of zeros and ones, of eight turns of a logarithmic spiral, drawn by
    Pillow."""
    growth, pen = map(float, name.split()[1:])
    angles = np.linspace(-16 * math.pi, 0, 20_000)
    points = np.exp(growth * angles)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    low, high = points.min(0), points.max(0)
    places = (points - (low + high) / 2) * 0.9 / (high - low).max() + 0.5
    picture = Image.new("L", (4 * SIZE, 4 * SIZE))
    line = [tuple(place) for place in 4 * SIZE * places]
    ImageDraw.Draw(picture).line(line, 255, round(4 * pen), "curve")
    coverage = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))
    return torch.from_numpy(coverage >= 128).float()


def known(name: str) -> tuple[torch.Tensor, bool]:
    """The maps (n, 2, 3) of an attractor or of a CSV file, and whether a pen draws it."""
    if not name.endswith(".csv"):
        listed, pen = SYSTEMS[name]
        return torch.tensor(listed, dtype=torch.float64), pen
    a, b, c, d, e, f = np.loadtxt(name, delimiter=",", ndmin=2).T[:6]
    return torch.from_numpy(np.stack([[a, b, e], [c, d, f]]).transpose(2, 0, 1).copy()), False


def placed(name: str) -> tuple[torch.Tensor, float]:
    """The maps (n, 2, 3) of an attractor, centred and nine tenths as large as the window, and its
    pen's radius."""
    maps, pen = known(name)
    xmin, xmax, ymin, ymax = bounds(maps)
    scale = 1.8 / max(xmax - xmin, ymax - ymin)
    x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    there = torch.tensor([[scale, 0, -scale * x], [0, scale, -scale * y]], dtype=torch.float64)
    back = torch.tensor([[1 / scale, 0, x], [0, 1 / scale, y]], dtype=torch.float64)
    return compose(compose(there, maps), back), PEN if pen else 0.0


def drawn(name: str) -> tuple[torch.Tensor, int]:
    """The picture (S, S) of an attractor so placed, and its number of maps."""
    if name in SPIRALS:
        return spiral(name), 3
    maps, pen = placed(name)
    coverage = occupancy(maps, WINDOW, SIZE, stroke=pen, supersample=6 if pen else 4)
    return (coverage >= 0.5).float(), len(maps)


def title(name: str) -> str:
    return Path(name).name.removesuffix(".csv")


def recovered(name: str, seed: int) -> tuple[str, int, float, float, torch.Tensor]:
    """Name, seed, IoU, seconds and picture of one fit."""
    target, n = drawn(name)
    began = time.perf_counter()
    *_, state = fit(target, Setup(maps=n, seed=seed), pick_device(None), every=20)
    seconds = time.perf_counter() - began
    picture = evaluate(state.best_maps, target, state.best_stroke).picture
    return name, seed, iou(picture, target), seconds, picture


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", nargs="?", type=Path)
    parse.add_argument("--spirals", action="store_true")
    parse.add_argument("--seeds", type=int, default=3)
    parse.add_argument("--names", nargs="+", choices=SYSTEMS)
    parse.add_argument("--jobs", type=int, default=os.cpu_count())
    parse.add_argument("--out", type=Path, default=Path("recover"))
    arguments = parse.parse_args(argv)
    if sum(map(bool, (arguments.folder, arguments.names, arguments.spirals))) > 1:
        parse.error("give FOLDER, --names or --spirals")
    names = SPIRALS if arguments.spirals else arguments.names or list(SYSTEMS)
    if arguments.folder:
        names = [str(path) for path in sorted(arguments.folder.glob("*.csv"))]
        if not names:
            parse.error(f"there are no CSV files in {arguments.folder}")
    sizes = {name: drawn(name)[1] for name in names}
    found = {}
    # The first fit of a fresh clone compiles its loops, which is not any picture's time.
    *_, _ = fit(torch.eye(32), Setup(maps=2, size=32, starts=32, rounds=2, steps=50))
    # side by side in one thread each, one after the other in as many as PyTorch takes
    threads = alone if arguments.jobs > 1 else None
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), threads) as pool:
        work = [(name, seed) for name in names for seed in range(arguments.seeds)]
        for result in tqdm(
            pool.map(recovered, *zip(*work, strict=True)), total=len(work), unit="fit"
        ):
            found[result[:2]] = result[2:]
    lines = [
        f"{'':14}{'maps':>5}"
        + "".join(f"{f'seed {k}':>9}" for k in range(arguments.seeds))
        + f"{'seconds':>9}"
    ]
    for name in names:
        fits = [found[name, seed] for seed in range(arguments.seeds)]
        cells = "".join(f"{iou:9.3f}" for iou, _, _ in fits)
        seconds = sum(seconds for _, seconds, _ in fits) / len(fits)
        lines.append(f"{title(name):14}{sizes[name]:5}{cells}{seconds:9.1f}")
    often = [sum(found[name, seed][0] >= GOAL for seed in range(arguments.seeds)) for name in names]
    most = sum(2 * count > arguments.seeds for count in often)
    lines.append(
        f"IoU >= {GOAL}: {sum(often)} of {len(found)} fits; {most} of {len(often)} attractors in "
        "most of the seeds"
    )
    text = "\n".join(lines) + "\n"
    with atomic_write(arguments.out / "table.txt") as file:
        file.write(text.encode())
    frames = [
        difference_frame(
            found[name, 0][2], drawn(name)[0], f"{title(name)}    IoU {found[name, 0][0]:.3f}"
        )
        for name in names
    ]
    sheet = contact_sheet(frames, [f"{title(name)}, {sizes[name]} maps" for name in names])
    save_picture(arguments.out / "sheet.png", sheet)
    print(text, end="")


if __name__ == "__main__":
    main()
