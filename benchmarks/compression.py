"""Bytes against IoU: fractals, and what else the same bytes can hold.

    python benchmarks/compression.py FOLDER [--maps N ...] [--bytes N ...] [--effort K] [--jobs J] [--out OUT]

Every PNG of FOLDER is fitted with each number of maps, and the four targets as their setups say.
For each number of bytes, the best fit is coded by `diff_ifs.compress`. Beside it, at most so many
bytes each:

bitmap   the picture scaled down to s × s bits, without any header, scaled up and thresholded
webp     the picture scaled down, as a lossless or lossy WebP file, scaled up and thresholded
jbig     the same in JBIG (T.85), its header of 20 bytes included, where pbmtojbg85 is installed
polygon  outlines, two bytes a corner, one more for each outline after the first; corners thinned out by the area they
         cut off (Visvalingam & Whyatt 1993), then moved wherever that makes IoU better

OUT (default: compression_FOLDER) gets fits, points.csv, a row for each picture, method and number
of bytes, written as soon as it is there; table.txt and plot.png. What is there is not computed
again.
"""

import argparse
import csv
import io
import math
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from quality import alone
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.compress.goals import fit_bits, fit_within, sorted_maps, starts, ways_into
from diff_ifs.compress.search import best_box, encodings, improve, refit, rounded
from diff_ifs.files.checkpoint import as_tensors, load_checkpoint, save_checkpoint
from diff_ifs.files.command import pick_device
from diff_ifs.files.disk import atomic_write
from diff_ifs.files.results import save_trace
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.setup import Setup
from train_ifs import fit

ROOT = Path(__file__).resolve().parent.parent
SIZE = 256
TARGETS = {  # bytes
    "koch": (16, 20, 24, 28, 40, 64),
    "sierpinski": (12, 16, 19, 22, 32, 64),
    "apple": (40, 60, 80, 120, 190),
    "flower": (120, 150, 190, 250),
}
RIVALS = ("bitmap", "webp", "jbig", "polygon")
LOSSLESS = ("PNG", "WebP", "G4", "JBIG")
JBIG = shutil.which("pbmtojbg85")
SIX_BITS = 6  # a number, to compare a refit with plain rounding
LOSS = 0.005  # of IoU, given for the fewest bytes
ASKED = (  # picture or mean of the folder, bytes, IoU or None: at most LOSS less than before
    ("mean", 64, 0.88),
    ("mean", 128, 0.92),
    ("koch", 28, None),
    ("sierpinski", 22, None),
    ("apple", 80, 0.97),
    ("flower", 190, 0.89),
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


def best_fractal(systems: list[dict], target: torch.Tensor, length: int, effort: int) -> float:
    """IoU of the best code in so many bytes; nan if no system fits into them.

    Of all systems the two are refitted that lose least when they are rounded, and the better one of
    these is improved.
    """
    ways = []
    for system in systems:
        if codes := ways_into(system, length):
            maps = starts(system, target)
            ways += [(code, maps[code.similar]) for code in codes]
    ways.sort(key=lambda way: -best_box(*way, target).iou)
    found = [refit(*way, target, 0) for way in ways[:2]]
    best = max(found, key=lambda coded: coded.iou, default=None)
    return improve(best, target, effort).iou if best else math.nan


def at_six_bits(system: dict, target: torch.Tensor, effort: int) -> tuple[float, float]:
    """IoU at six bits a number after plain rounding, and after the refit."""
    code = encodings(system)[-1]
    found = fit_bits(system, target, SIX_BITS, effort)
    plain = rounded(replace(code, length=found.code.length), sorted_maps(system["maps"]), target)
    return plain.iou, found.iou


# --- Rivals: each yields (bytes, picture) for all its settings ---

THRESHOLDS = (
    24,
    48,
    80,
    104,
    128,
    152,
)  # of a picture scaled down; scaled up, it is always cut at half


def scaled(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(np.uint8(255 * pixels)).resize((side, side), Image.Resampling.BOX)


def scaled_up(small: Image.Image) -> np.ndarray:
    return np.asarray(small.convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC)) >= 128


def in_two_levels(pixels: np.ndarray, side: int, threshold: int) -> Image.Image:
    return scaled(pixels, side).point(lambda grey: 255 * (grey >= threshold))


def bitmap(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in range(2, math.isqrt(8 * most) + 1):
        for threshold in THRESHOLDS:
            yield -(-side * side // 8), scaled_up(in_two_levels(pixels, side, threshold))


def webp(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in (
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        14,
        16,
        18,
        20,
        22,
        24,
        28,
        32,
        36,
        40,
        44,
        48,
        56,
        64,
        80,
        96,
        128,
    ):
        small, fits = scaled(pixels, side), False
        for levels in (2, 3, 4, 8):
            grey = small.point(
                [
                    round(round(value * (levels - 1) / 255) * 255 / (levels - 1))
                    for value in range(256)
                ]
            )
            size = len(saved(grey, "WEBP", lossless=True, quality=100, method=6))
            fits |= size <= most
            if size <= most:
                yield size, scaled_up(grey)
        for quality in (0, 5, 10, 20, 40, 70):
            data = saved(small, "WEBP", quality=quality, method=6)
            fits |= len(data) <= most
            if len(data) <= most:
                with Image.open(io.BytesIO(data)) as decoded:
                    yield len(data), scaled_up(decoded)
        if not fits:
            return


def jbig(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in range(4, SIZE + 1, 2) if JBIG else ():
        sizes = []
        for threshold in THRESHOLDS:
            small = in_two_levels(pixels, side, threshold)
            sizes.append(jbig_bytes(small))
            if sizes[-1] <= most:
                yield sizes[-1], scaled_up(small)
        if min(sizes) > 1.3 * most:
            return


def jbig_bytes(picture: Image.Image) -> int:
    done = subprocess.run(
        [JBIG], input=saved(picture.convert("1"), "PPM"), capture_output=True, check=True
    )
    return len(done.stdout)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def polygon(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    from contourpy import contour_generator

    padded = np.pad(pixels.astype(float), 1)
    at = (
        (np.arange(SIZE + 2) - 0.5) / SIZE * 255
    )  # a corner is a pair of bytes, from edge to edge of the picture
    rings = [ring[:-1] for ring in contour_generator(at, at, padded).lines(0.5)]
    rings = thinned(rings, most)
    rings = [np.clip(ring.round(), 0, 255) for ring in rings]
    best, step = overlap(filled(rings), pixels), 8
    for _ in range(12):
        before = best
        for ring in rings:
            for corner in ring:
                for move in [(x, y) for x in (-step, 0, step) for y in (-step, 0, step) if x or y]:
                    old = corner.copy()
                    corner[:] = np.clip(old + move, 0, 255)
                    now = overlap(filled(rings), pixels)
                    if now > best:
                        best = now
                    else:
                        corner[:] = old
        if best == before:
            if step == 1:
                break
            step //= 2
    yield 2 * sum(map(len, rings)) + len(rings) - 1, filled(rings)


def thinned(rings: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Rings of corners with so many left as fit into `most` bytes; those go first that cut off the
    least area."""
    rings = [list(map(tuple, ring)) for ring in rings]

    def cut(ring: list, k: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = ring[k - 1], ring[k], ring[(k + 1) % len(ring)]
        return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2

    areas = [[cut(ring, k) for k in range(len(ring))] for ring in rings]
    while 2 * sum(map(len, rings)) + len(rings) - 1 > most:
        smallest = [min(area) for area in areas]
        r = smallest.index(min(smallest))
        k = areas[r].index(smallest[r])
        if len(rings[r]) == 3:
            del rings[r], areas[r]
            continue
        del rings[r][k], areas[r][k]
        for near in (k - 1, k % len(rings[r])):
            areas[r][near] = cut(rings[r], near)
    return [np.array(ring) for ring in rings]


def filled(rings: list[np.ndarray]) -> np.ndarray:
    """The pixels whose centres lie within an odd number of rings."""
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    for ring in rings:
        plane = Image.new("1", (SIZE, SIZE))
        ImageDraw.Draw(plane).polygon(
            [(x * SIZE / 255 - 0.5, y * SIZE / 255 - 0.5) for x, y in ring], fill=1
        )
        inside ^= np.asarray(plane)
    return inside


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def best_rival(method: str, pixels: np.ndarray, most: int) -> float:
    settings = {"bitmap": bitmap, "webp": webp, "jbig": jbig, "polygon": polygon}[method](
        pixels, most
    )
    return max(
        (overlap(picture, pixels) for size, picture in settings if size <= most), default=math.nan
    )


def g4_bytes(picture: Image.Image) -> int:
    """Of the coded strips alone, without the TIFF file around them."""
    with Image.open(io.BytesIO(saved(picture, "TIFF", compression="group4"))) as tiff:
        return sum(tiff.tag_v2[279])  # StripByteCounts


def lossless(pixels: np.ndarray) -> dict[str, int]:
    picture = Image.fromarray(pixels)
    sizes = {
        "PNG": len(saved(picture, "PNG", optimize=True)),
        "WebP": len(saved(picture.convert("L"), "WEBP", lossless=True, quality=100, method=6)),
        "G4": g4_bytes(picture),
    }
    return sizes | ({"JBIG": jbig_bytes(picture)} if JBIG else {})


# --- The work ---


def work_on(path: Path, method: str, length: int, fits: list[Path], effort: int) -> list[dict]:
    """The rows of one picture and method: (name, method, bytes, iou)."""
    target = load_target(path, SIZE)
    if method == "rivals":
        pixels = target.numpy() >= 0.5
        found = [
            (rival, length, best_rival(rival, pixels, length))
            for rival in RIVALS
            if JBIG or rival != "jbig"
        ]
    elif method == "lossless":
        found = [(form, size, 1.0) for form, size in lossless(target.numpy() >= 0.5).items()]
    else:
        systems = [as_tensors(load_checkpoint(kept)) for kept in fits]
        if method == "ifs":
            found = [("ifs", length, best_fractal(systems, target, length, effort))]
        elif method == "six bits":
            plain, refit = at_six_bits(systems[0], target, effort)
            found = [("plain6", 0, plain), ("refit6", 0, refit), ("full", 0, systems[0]["iou"])]
        else:
            coded = fit_within(systems[0], target, systems[0]["iou"] - LOSS, effort)
            found = [("fewest", coded.code.length, coded.iou), ("full", 0, systems[0]["iou"])]
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
        return statistics.fmean(
            self.value[method, length, name] for name in names
        )  # nan where one has no picture

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
        but = [n for n in names if points.value["ifs", length, n] > max(
            np.nan_to_num(points.value[m, length, n]) for m in points.methods[1:] if m != "polygon")]  # fmt: skip
        lines.append(
            f"{length} bytes: the fractal is ahead of all scaled pictures on {len(but)} of {len(names)}, "
            f"of polygons as well on {len(won)}{': ' if won else ''}{', '.join(won)}"
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
        f"{SIX_BITS} bits a number, mean IoU: {full:.4f} before, {plain:.4f} rounded, {refit:.4f} refitted: "
        f"{(refit - plain) / max(1e-9, full - plain):.0%} of the loss recovered (from {min(recovered):.0%} to "
        f"{max(recovered):.0%} of a picture's)",
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
    labels = dict(
        zip(
            ("ifs", *RIVALS),
            ("IFS", "scaled bitmap", "scaled WebP", "scaled JBIG", "polygon"),
            strict=True,
        )
    )
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
    parse.add_argument("--maps", type=int, nargs="+", default=[8, 16, 24], metavar="N")
    parse.add_argument("--bytes", type=int, nargs="+", default=[32, 48, 64, 96, 128], metavar="N")
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
        for length in TARGETS[name] if target else arguments.bytes:
            work += [
                (path, what, length, kept, effort)
                for what in ("ifs", "rivals")
                if (name, "ifs" if what == "ifs" else "polygon", length) not in known
            ]
        if (name, "PNG") not in {key[:2] for key in known}:
            work.append((path, "lossless", 0, kept, effort))
        if (name, "full", 0) not in known:
            work.append((path, "fewest" if target else "six bits", 0, kept, effort))
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
