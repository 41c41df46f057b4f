"""Fit every PNG of a folder without a setup, and say how good the fits are.

    python benchmarks/quality.py FOLDER [--maps N] [--size S] [--seed X] [--out OUT]

OUT (default: quality_N) gets fits.csv, one row a picture, written as soon as it is fitted, table.txt and sheet.png:
target, fit and difference side by side. Pictures that are in fits.csv already are not fitted again.
"""

import argparse
import csv
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ifs_files
import ifs_metrics
from ifs_fit import Setup, fit, judge

MEASURES = ("iou", "dice", "chamfer", "hd95", "mse", "seconds")
LOWER_IS_BETTER = ("chamfer", "hd95", "mse", "seconds")


def fit_picture(path: Path, setup: Setup) -> tuple[dict, Image.Image]:
    """The row of one picture, and its strip of the sheet."""
    source = ifs_files.read_picture(path)
    setup = replace(setup, grey=ifs_files.is_grey(source))
    target = ifs_files.as_target(source, path, setup.size)
    began = time.perf_counter()
    *_, state = fit(target, setup, ifs_files.pick_device(None), every=20)
    seconds = time.perf_counter() - began
    picture = judge(state.best_maps, target, state.best_stroke, grey=setup.grey).picture
    row = {
        "name": path.stem,
        "iou": ifs_metrics.iou(picture, target),
        "dice": ifs_metrics.dice(picture, target),
        "chamfer": ifs_metrics.chamfer(picture, target),
        "hd95": ifs_metrics.hd95(picture, target),
        "mse": ifs_metrics.mse(picture, target),
        "seconds": seconds,
        "stroke": state.best_stroke,
    }
    difference = ifs_files.difference_frame(picture, target, f"{path.stem}    IoU {row['iou']:.3f}")
    side = difference.width
    strip = Image.new("RGB", (3 * side, difference.height))
    for k, grey in enumerate((target, picture)):
        pixels = Image.fromarray(np.uint8(255 * grey.numpy())).resize((side, side), Image.Resampling.NEAREST)
        strip.paste(pixels, (k * side, 0))
    strip.paste(difference, (2 * side, 0))
    return row, strip.resize((3 * side // 2, strip.height // 2), Image.Resampling.BOX)


def table(rows: list[dict]) -> str:
    """Mean, median and worst of every measure."""
    lines = [f"{'':8}" + "".join(f"{measure:>10}" for measure in MEASURES)]
    for name, summary in (("mean", statistics.fmean), ("median", statistics.median), ("worst", None)):
        values = []
        for measure in MEASURES:
            column = [float(row[measure]) for row in rows]
            worst = max if measure in LOWER_IS_BETTER else min
            values.append((summary or worst)(column))
        lines.append(f"{name:8}" + "".join(f"{value:10.4f}" for value in values))
    return f"{len(rows)} pictures\n" + "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", type=Path)
    parse.add_argument("--maps", type=int, default=8)
    parse.add_argument("--size", type=int, default=256)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--out", type=Path)
    arguments = parse.parse_args(argv)
    setup = Setup(maps=arguments.maps, size=arguments.size, seed=arguments.seed)
    out = arguments.out or Path(f"quality_{arguments.maps}")
    pictures = sorted(arguments.folder.glob("*.png"))
    if not pictures:
        parse.error(f"there are no PNG files in {arguments.folder}")
    done = out / "fits.csv"
    rows = list(csv.DictReader(done.read_text().splitlines())) if done.exists() else []
    known = {row["name"] for row in rows}
    with tqdm([path for path in pictures if path.stem not in known], unit="picture") as bar:
        for path in bar:
            row, strip = fit_picture(path, setup)
            rows.append(row)
            ifs_files.save_picture(out / "strips" / f"{path.stem}.png", strip)
            ifs_files.save_trace(done, rows)
            bar.set_postfix(IoU=f"{statistics.fmean(float(row['iou']) for row in rows):.4f}")
    with ifs_files.whole_file(out / "table.txt") as file:
        file.write(table(rows).encode())
    strips = [Image.open(out / "strips" / f"{row['name']}.png") for row in rows]
    width, height = max(strip.width for strip in strips), max(strip.height for strip in strips)
    sheet = Image.new("RGB", (2 * width, -(-len(strips) // 2) * height))
    for k, strip in enumerate(strips):
        sheet.paste(strip, (k % 2 * width, k // 2 * height))
    ifs_files.save_picture(out / "sheet.png", sheet)
    print(table(rows), end="")


if __name__ == "__main__":
    main()
