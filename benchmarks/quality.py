"""Fit every PNG of a folder without a setup, and say how good the fits are.

    python benchmarks/quality.py FOLDER [--maps N|auto] [--size S] [--seed X] [--jobs J]
                                 [--device DEV] [--shard I/K] [--out OUT]

OUT (default: quality_FOLDER_N) gets fits.csv, one row a picture, written as soon as it is fitted,
table.txt and sheet.png: target, fit and difference side by side. Pictures that are in fits.csv
already are not fitted again. settings.json says which folder and settings the rows are of; an OUT
of others, or one with anything else in it, is refused.

J pictures (default: as many as there are cores to use) are fitted side by side, in processes of one
thread each; with --jobs 1, and on a GPU, one after the other, by as many threads as PyTorch takes.
With --shard I/K, I from 0 to K − 1, only every K-th picture is fitted, and its row goes into
fits_I_K.csv: one such command on each of K machines that share OUT does the whole folder. The table
and the sheet are made of all rows that are there: those of the shard that ends last are whole.

    srun -n 8 bash -c 'python benchmarks/quality.py FOLDER --shard $SLURM_PROCID/$SLURM_NTASKS'
    parallel python benchmarks/quality.py FOLDER --jobs 1 --shard {}/8 ::: 0 1 2 3 4 5 6 7
"""

import argparse
import csv
import json
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.files.command import pick_device
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.results import difference_frame, save_picture, save_trace
from diff_ifs.files.target import read_target
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.run import State
from diff_ifs.metrics import chamfer, dice, hd95, iou, mse
from diff_ifs.setup import Setup
from train_ifs import fit, number_of_maps

MEASURES = ("iou", "dice", "chamfer", "hd95", "mse", "maps", "seconds")
LOWER_IS_BETTER = ("chamfer", "hd95", "mse", "maps", "seconds")


def task(path: Path, setup: Setup) -> tuple[torch.Tensor, Setup]:
    """What one picture asks of `fit`."""
    seen = read_target(path, setup.size)
    return torch.from_numpy(seen.coverage), replace(setup, grey=seen.grey)


def fit_picture(path: Path, setup: Setup, device: str = "cpu") -> tuple[dict, Image.Image]:
    """The row of one picture, and its strip of the sheet."""
    target, setup = task(path, setup)
    began = time.perf_counter()
    *_, state = fit(target, setup, device, every=20)
    return shown(path, target, setup, state, time.perf_counter() - began)


def shown(
    path: Path, target: torch.Tensor, setup: Setup, state: State, seconds: float
) -> tuple[dict, Image.Image]:
    """The row of a picture, and its strip of the sheet."""
    picture = evaluate(state.best_maps, target, state.best_stroke, grey=setup.grey).picture
    row = {
        "name": path.stem,
        "iou": iou(picture, target),
        "dice": dice(picture, target),
        "chamfer": chamfer(picture, target),
        "hd95": hd95(picture, target),
        "mse": mse(picture, target),
        "maps": len(state.best_maps),
        "seconds": seconds,
        "stroke": state.best_stroke,
    }
    difference = difference_frame(picture, target, f"{path.stem}    IoU {row['iou']:.3f}")
    side = difference.width
    strip = Image.new("RGB", (3 * side, difference.height))
    for k, grey in enumerate((target, picture)):
        pixels = Image.fromarray(np.uint8(255 * grey.numpy())).resize(
            (side, side), Image.Resampling.NEAREST
        )
        strip.paste(pixels, (k * side, 0))
    strip.paste(difference, (2 * side, 0))
    return row, strip.resize((3 * side // 2, strip.height // 2), Image.Resampling.BOX)


def fit_pictures(
    paths: list[Path], setup: Setup, jobs: int, device: str
) -> Iterator[tuple[dict, Image.Image]]:
    """Rows and strips of all paths, in the order in which they are done."""
    if jobs == 1 or device != "cpu":
        yield from (fit_picture(path, setup, device) for path in paths)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), alone) as pool:
        try:
            for fitted in as_completed([pool.submit(fit_picture, path, setup) for path in paths]):
                yield fitted.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def alone() -> None:
    """Take one thread, as each of several processes should."""
    torch.set_num_threads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"  # read when the loops are loaded


def rows_of(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def table(parts: list[list[dict]]) -> str:
    """Mean, median and worst of every measure. `parts` are the rows of each shard; their rates add
    up."""
    rows = [row for part in parts for row in part]
    lines = [f"{'':8}" + "".join(f"{measure:>10}" for measure in MEASURES)]
    for name, summary in (
        ("mean", statistics.fmean),
        ("median", statistics.median),
        ("worst", None),
    ):
        values = []
        for measure in MEASURES:
            column = [float(row[measure]) for row in rows]
            worst = max if measure in LOWER_IS_BETTER else min
            values.append((summary or worst)(column))
        lines.append(f"{name:8}" + "".join(f"{value:10.4f}" for value in values))
    rate = sum(60 * len(part) / sum(float(row["wall"]) for row in part) for part in parts)
    return f"{len(rows)} pictures, {rate:.1f} a minute\n" + "\n".join(lines) + "\n"


def summarise(out: Path, names: list[str]) -> str:
    """Write the table and the sheet of all pictures that any shard has fitted; the table."""
    parts = [rows_of(path) for path in sorted(out.glob("fits*.csv"))]
    summary = table(parts)
    with atomic_write(out / "table.txt") as file:
        file.write(summary.encode())
    known = {row["name"] for part in parts for row in part}
    strips = [Image.open(out / "strips" / f"{name}.png") for name in names if name in known]
    width, height = max(strip.width for strip in strips), max(strip.height for strip in strips)
    sheet = Image.new("RGB", (2 * width, -(-len(strips) // 2) * height))
    for k, strip in enumerate(strips):
        sheet.paste(strip, (k % 2 * width, k // 2 * height))
    save_picture(out / "sheet.png", sheet)
    return summary


def settings_of(out: Path) -> dict | None:
    """What the rows in a folder are of; None where there is nothing, and {} where it is not
    known."""
    if (path := out / "settings.json").is_file():
        return json.loads(path.read_text())
    return {} if out.is_dir() and any(out.iterdir()) else None


def shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/K with I from 0 to K - 1, such as 0/2")
    return int(found[1]), int(found[2])


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", type=Path)
    parse.add_argument("--maps", type=number_of_maps, default=8, metavar="N|auto")
    parse.add_argument("--size", type=int, default=256)
    parse.add_argument("--seed", type=int, default=0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parse.add_argument("--jobs", type=int, default=cores)
    parse.add_argument("--shard", type=shard, default=(0, 1), metavar="I/K")
    parse.add_argument("--out", type=Path)
    parse.add_argument("--device")
    arguments = parse.parse_args(argv)
    device = pick_device(arguments.device)
    if arguments.jobs < 1:
        parse.error("--jobs must be at least 1")
    setup = Setup(
        maps=None if arguments.maps == "auto" else arguments.maps,
        size=arguments.size,
        seed=arguments.seed,
    )
    turn, shards = arguments.shard
    out = arguments.out or Path(f"quality_{arguments.folder.resolve().name}_{arguments.maps}")
    pictures = sorted(arguments.folder.glob("*.png"))
    if not pictures:
        parse.error(f"there are no PNG files in {arguments.folder}")
    settings = {"folder": str(arguments.folder.resolve())}
    settings |= {name: getattr(arguments, name) for name in ("maps", "size", "seed")}
    if (there := settings_of(out)) not in (None, settings):
        parse.error(
            f"{out} holds {there or 'other things'}, not fits of {settings}: give another --out"
        )
    with atomic_write(out / "settings.json") as file:
        file.write(json.dumps(settings).encode())
    known = {row["name"] for path in out.glob("fits*.csv") for row in rows_of(path)}
    todo = [path for path in pictures[turn::shards] if path.stem not in known]
    done = out / ("fits.csv" if shards == 1 else f"fits_{turn}_{shards}.csv")
    if todo:  # the first fit of a fresh clone compiles its loops, which is not any picture's time
        *_, _ = fit(torch.eye(32), Setup(maps=2, size=32, starts=32, rounds=2, steps=50))
    rows, began = rows_of(done), time.perf_counter()
    for row, strip in (
        bar := tqdm(
            fit_pictures(todo, setup, arguments.jobs, device), total=len(todo), unit="picture"
        )
    ):
        # since the picture before: these add up, side by side or not
        row["wall"] = time.perf_counter() - began
        began += row["wall"]
        rows.append(row)
        save_picture(out / "strips" / f"{row['name']}.png", strip)
        save_trace(done, rows)
        bar.set_postfix(IoU=f"{statistics.fmean(float(row['iou']) for row in rows):.4f}")
    if known or rows:
        print(summarise(out, [path.stem for path in pictures]), end="")


if __name__ == "__main__":
    main()
