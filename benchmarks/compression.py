"""Bytes against IoU: fractals, and what else the same bytes can hold.

    python benchmarks/compression.py FOLDER [--maps N ...] [--bytes N ...]
        [--effort K] [--jobs J] [--out OUT]

Every PNG of FOLDER is fitted with each number of maps, and the four targets as their setups say.
For each number of bytes, the best fit is coded by `diff_ifs.compress`. Beside it is what `rivals`
make of at most so many bytes.

OUT (default: compression_FOLDER) gets fits, points.csv, a row for each picture, method and number
of bytes, written as soon as it is there; table.txt and plot.png. What is there is not computed
again.
"""

import argparse
import csv
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from quality import alone
from rivals import JBIG, LOSSLESS, RIVALS, SIZE, best_of_rivals, lossless
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.compress.goals import best_of, fit_bits, fit_within, sorted_maps, ways
from diff_ifs.compress.search import encodings, rounded, score
from diff_ifs.errors import InputError
from diff_ifs.files.checkpoint import as_tensors, load_checkpoint, save_checkpoint
from diff_ifs.files.command import pick_device
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.results import save_trace
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.setup import Setup
from train_ifs import fit

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {  # bytes
    "koch": (16, 20, 24, 28, 40, 64),
    "sierpinski": (12, 16, 19, 22, 32, 64),
    "apple": (40, 60, 80, 120, 190),
    "flower": (40, 120),
}
SIX_BITS = 6  # a number, to compare a refit with plain rounding
LOSS = 0.005  # of IoU, given for the fewest bytes
ASKED = (  # picture or mean of the folder, bytes, IoU or None: at most LOSS less than before
    ("mean", 64, 0.935),
    ("mean", 128, 0.958),
    ("koch", 22, None),
    ("sierpinski", 16, None),
    ("apple", 46, None),
    ("flower", 105, None),
)


# --- Fractals ---


def fitted(path: Path, n: int | None, kept: Path) -> dict:
    """The system fitted to a picture with n maps, or as its setup says; from a file where it is
    there already."""
    if not kept.is_file():
        setup = Setup(maps=n, size=SIZE) if n else load_setup(path.stem, {})[0]
        target = load_target(path, SIZE)
        *_, state = fit(target, setup, pick_device(None), every=20)
        save_checkpoint(kept, path.stem, setup, state, target)
    return as_tensors(load_checkpoint(kept))


def best_fractals(
    systems: list[dict], target: torch.Tensor, lengths: Sequence[int], effort: int
) -> list[float]:
    """IoU of the best code of any of some systems in each number of bytes; nan if none fits."""
    found = [way for system in systems for way in ways(system, target)]
    ious = []
    for length in lengths:
        try:
            ious.append(best_of(found, target, length, effort).iou)
        except InputError:
            ious.append(math.nan)
    return ious


def at_six_bits(system: dict, target: torch.Tensor, effort: int) -> tuple[float, float]:
    """IoU at six bits a number after plain rounding, and after the refit."""
    code = encodings(system)[-1]
    found = fit_bits(system, target, SIX_BITS, effort)
    plain = rounded(replace(code, length=found.code.length), sorted_maps(system["maps"]), target)
    return plain.iou, found.iou


# --- The work ---


def work_on(
    path: Path, method: str, lengths: Sequence[int], fits: list[Path], effort: int
) -> list[dict]:
    """The rows of one picture and method: (name, method, bytes, iou)."""
    target = load_target(path, SIZE)
    pixels = target.numpy() >= 0.5
    if method == "rivals":
        best = best_of_rivals(pixels, lengths)
        found = [(rival, most, iou) for (rival, most), iou in best.items()]
    elif method == "lossless":
        found = [(form, size, 1.0) for form, size in lossless(pixels).items()]
    else:
        systems = [as_tensors(load_checkpoint(kept)) for kept in fits]
        if method == "ifs":
            ious = best_fractals(systems, target, lengths, effort)
            found = [("ifs", most, iou) for most, iou in zip(lengths, ious, strict=True)]
        elif method == "six bits":
            plain, refit = at_six_bits(systems[0], target, effort)
            found = [("plain6", 0, plain), ("refit6", 0, refit), ("full", 0, systems[0]["iou"])]
        else:
            coded = fit_within(systems[0], target, LOSS, effort)
            iou = score(coded.code, coded.numbers, target, quality="final")
            found = [("fewest", coded.code.length, iou), ("full", 0, systems[0]["iou"])]
    return [
        {"name": path.stem, "method": what, "bytes": size, "iou": iou} for what, size, iou in found
    ]


def done_by(jobs: int, work: list[tuple], do: Callable) -> Iterator:
    """What `do` makes of each tuple of arguments, in the order in which it is done, by so many
    processes."""
    with (
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), alone) as pool,
        tqdm(total=len(work), unit=do.__name__) as bar,
    ):
        try:
            for ready in as_completed([pool.submit(do, *arguments) for arguments in work]):
                bar.update()
                yield ready.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# --- The table and the plot ---


class Points:
    """What has been measured, by method, bytes and picture."""

    def __init__(self, rows: list[dict]):
        self.value = {
            (row["method"], int(row["bytes"]), row["name"]): float(row["iou"]) for row in rows
        }
        self.methods = [m for m in ("ifs", *RIVALS) if any(key[0] == m for key in self.value)]
        self.formats = [form for form in LOSSLESS if any(key[0] == form for key in self.value)]

    def lengths(self, name: str) -> list[int]:
        return sorted(
            {length for method, length, of in self.value if (method, of) == ("ifs", name)}
        )

    def size(self, method: str, name: str) -> int:
        return next(length for what, length, of in self.value if (what, of) == (method, name))

    def best_rival(self, length: int, name: str) -> tuple[float, str]:
        return max((np.nan_to_num(self.value[m, length, name]), m) for m in self.methods[1:])

    def mean(self, method: str, length: int, names: list[str]) -> float:
        # nan where one has no picture
        return statistics.fmean(self.value[method, length, name] for name in names)

    def curves(self, names: list[str]) -> dict[str, list[float]]:
        return {
            m: [self.mean(m, length, names) for length in self.lengths(names[0])]
            for m in self.methods
        }


def cell(value: float, width: int = 10) -> str:
    return f"{'–' if math.isnan(value) else f'{value:.4f}':>{width}}"


def table(rows: list[dict], names: list[str]) -> str:
    """Mean IoU by method and bytes, who wins where, lossless sizes, what the refit recovers; the
    four targets."""
    points = Points(rows)
    lengths, lines = points.lengths(names[0]), [f"{len(names)} pictures: {', '.join(names)}"]

    def curves_of(names: list[str], title: str) -> None:
        curves = points.curves(names)
        lines.extend(["", title, f"{'bytes':>8}" + "".join(f"{method:>10}" for method in curves)])
        for k, length in enumerate(points.lengths(names[0])):
            lines.append(f"{length:8}" + "".join(cell(curve[k]) for curve in curves.values()))

    curves_of(names, "mean IoU in at most so many bytes")
    lines.append("")
    for length in lengths:
        won = [n for n in names if points.value["ifs", length, n] > points.best_rival(length, n)[0]]
        but = [
            n
            for n in names
            if points.value["ifs", length, n]
            > max(
                np.nan_to_num(points.value[m, length, n])
                for m in points.methods[1:]
                if m != "polygon"
            )
        ]
        lines.append(
            f"{length} bytes: the fractal is ahead of all scaled pictures on {len(but)} of "
            f"{len(names)}, of polygons as well on {len(won)}{': ' if won else ''}{', '.join(won)}"
        )
    lines += [
        "",
        "each picture: fractal / best rival",
        f"{'bytes':12}" + "".join(f"{b:>22}" for b in lengths),
    ]
    for name in names:
        rivals = [points.best_rival(length, name) for length in lengths]
        own = [f"{points.value['ifs', length, name]:.3f}".replace("nan", "–") for length in lengths]
        cells = [
            f"{iou} / {best:.3f} {method}" for iou, (best, method) in zip(own, rivals, strict=True)
        ]
        lines.append(f"{name:12}" + "".join(f"{cell:>22}" for cell in cells))
    lines += [
        "",
        "bytes without loss (G4: without a TIFF file around it)",
        f"{'':12}" + "".join(f"{form:>8}" for form in points.formats),
    ]
    for what, some in (("mean", names), *((target, [target]) for target in TARGETS)):
        means = [
            statistics.fmean(points.size(form, name) for name in some) for form in points.formats
        ]
        lines.append(f"{what:12}" + "".join(f"{mean:8.0f}" for mean in means))
    full, plain, refit = (points.mean(method, 0, names) for method in ("full", "plain6", "refit6"))
    recovered = [
        (points.value["refit6", 0, name] - points.value["plain6", 0, name])
        / max(1e-9, points.value["full", 0, name] - points.value["plain6", 0, name])
        for name in names
    ]
    lines += [
        "",
        f"{SIX_BITS} bits a number, mean IoU: {full:.4f} before, {plain:.4f} rounded, "
        f"{refit:.4f} refitted: {(refit - plain) / max(1e-9, full - plain):.0%} of the loss "
        f"recovered (from {min(recovered):.0%} to {max(recovered):.0%} of a picture's)",
    ]
    for name in TARGETS:
        curves_of(
            [name],
            f"{name}: IoU in at most so many bytes; {points.value['full', 0, name]:.4f} before",
        )
        least = points.size("fewest", name)
        ratios = [
            f"{form} takes {points.size(form, name) / least:.0f} times as many"
            for form in points.formats
        ]
        fewest = f"{least} bytes lose at most {LOSS}: {points.value['fewest', least, name]:.4f}"
        lines.append(f"{fewest}; {', '.join(ratios)}")
    lines += ["", f"{'asked':44}{'reached':>10}"]
    for name, length, iou in ASKED:
        of = f"mean at {length} bytes" if name == "mean" else f"{name} in {length} bytes"
        if iou is None:
            wanted, reached = f"{of}, at most {LOSS} lost", f"{points.size('fewest', name)} bytes"
        elif name == "mean":
            wanted, reached = (
                f"{of} >= {iou}",
                cell(points.mean("ifs", length, names)) if length in lengths else "–",
            )
        else:
            wanted, reached = f"{of} >= {iou}", cell(points.value["ifs", length, name])
        lines.append(f"{wanted:44}{reached:>10}")
    if not JBIG:
        lines.append("no JBIG column: pbmtojbg85 is not installed")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], names: list[str], path: Path) -> None:
    from matplotlib.figure import Figure

    points = Points(rows)
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    panels = figure.subplot_mosaic(
        [["mean", "mean", "koch", "sierpinski"], ["mean", "mean", "apple", "flower"]]
    )
    labels = {
        "ifs": "IFS",
        "bitmap": "scaled bitmap",
        "webp": "scaled WebP",
        "jbig": "scaled JBIG",
        "contour": "scaled contours",
        "polygon": "polygon",
    }
    for name, axes in panels.items():
        some = names if name == "mean" else [name]
        lengths = points.lengths(some[0])
        for method, curve in points.curves(some).items():
            width, size = (2.5, 6) if method == "ifs" else (1.2, 4)
            axes.plot(
                lengths, curve, marker="o", markersize=size, linewidth=width, label=labels[method]
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, list(map(str, lengths)))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_title(f"mean of {len(names)} pictures" if name == "mean" else name)
    panels["mean"].set(xlabel="bytes", ylabel="IoU at 256 × 256")
    panels["mean"].legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", type=Path)
    parse.add_argument("--maps", type=int, nargs="+", default=[8, 12, 16, 20, 24, 32], metavar="N")
    parse.add_argument("--bytes", type=int, nargs="+", default=[64, 128], metavar="N")
    parse.add_argument(
        "--effort", type=int, default=60, metavar="K", help="attractors judged after each refit"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parse.add_argument("--jobs", type=int, default=cores, help="processes of one thread each")
    parse.add_argument("--out", type=Path)
    arguments = parse.parse_args(argv)
    pictures = sorted(arguments.folder.glob("*.png"))
    if not pictures:
        parse.error(f"there are no PNG files in {arguments.folder}")
    if set(TARGETS) & {path.stem for path in pictures}:
        parse.error(f"pictures must not be called {', '.join(TARGETS)}: these come by themselves")
    out = arguments.out or Path(f"compression_{arguments.folder.resolve().name}")
    done = out / "points.csv"
    rows = list(csv.DictReader(done.read_text().splitlines())) if done.exists() else []
    known = {(row["name"], row["method"], int(row["bytes"])) for row in rows}

    fits, to_fit, work = {}, [], []
    for path in (*pictures, *(ROOT / f"{name}.png" for name in TARGETS)):
        name, target = path.stem, path.stem in TARGETS
        fits[name] = {
            out / "fits" / f"{name}_{n or 'setup'}.pt": n
            for n in ([None] if target else arguments.maps)
        }
        to_fit += [(path, n, kept) for kept, n in fits[name].items() if not kept.is_file()]
        kept, effort = list(fits[name]), arguments.effort
        lengths = TARGETS[name] if target else arguments.bytes
        if missing := [length for length in lengths if (name, "ifs", length) not in known]:
            work.append((path, "ifs", missing, kept, effort))
        if missing := [length for length in lengths if (name, "polygon", length) not in known]:
            work.append((path, "rivals", missing, kept, effort))
        if (name, "PNG") not in {key[:2] for key in known}:
            work.append((path, "lossless", [], kept, effort))
        if (name, "full", 0) not in known:
            work.append((path, "fewest" if target else "six bits", [], kept, effort))
    for _ in done_by(arguments.jobs, to_fit, fitted):
        pass
    for found in done_by(arguments.jobs, work, work_on):
        rows += found
        save_trace(done, rows)
    summary = table(rows, [path.stem for path in pictures])
    with atomic_write(out / "table.txt") as file:
        file.write(summary.encode())
    plot(rows, [path.stem for path in pictures], out / "plot.png")
    print(summary, end="")


if __name__ == "__main__":
    main()
