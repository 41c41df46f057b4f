"""Bytes against IoU: fractals, and what else the same bytes can hold.

    python benchmarks/compression.py FOLDER [--maps N ...] [--bytes N ...] [--out OUT] [--fits FITS]

Every PNG of FOLDER is fitted with each number of maps; one that has a setup there, with that alone. For each number of
bytes, the best fit is coded by `ifs_codec`. Beside it, at most so many bytes each:

bitmap   the picture scaled down to s × s bits, without any header, scaled up and thresholded
webp     the picture scaled down, as a lossless or lossy WebP file, scaled up and thresholded
jbig     the same in JBIG (T.85), where pbmtojbg85 is installed
polygon  outlines, two bytes a corner, one more for each outline after the first; corners thinned out by the area they
         cut off (Visvalingam & Whyatt 1993), then moved wherever that makes IoU better

OUT (default: compression_FOLDER) gets points.csv, one row for each picture, method and number of bytes, written as soon
as it is there; table.txt and plot.png. What is in points.csv is not computed again. FITS (default: OUT/fits) keeps the
fitted maps.
"""

import argparse
import csv
import io
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ifs_codec
import ifs_files
from ifs_fit import Setup, fit

SIZE = 256
RIVALS = ("bitmap", "webp", "jbig", "polygon")
LOSSLESS = ("PNG", "WebP", "G4", "JBIG")
JBIG = shutil.which("pbmtojbg85")
SIX_BITS = 6  # a number, to compare a refit with plain rounding


# --- Fractals ---


def fitted(path: Path, maps: list[int], fits: Path) -> Iterator[dict]:
    """The systems fitted to a picture, from FITS where they are there already."""
    has_setup = (path.parent / f"{path.stem}_setup.py").is_file()
    for n in [None] if has_setup else maps:
        setup = ifs_files.load_setup(path.stem, {})[0] if has_setup else Setup(maps=n, size=SIZE)
        kept = fits / f"{path.stem}_{setup.n}.pt"
        if not kept.is_file():
            *_, state = fit(ifs_files.load_target(path, SIZE), setup, ifs_files.pick_device(None), every=20)
            ifs_files.save_checkpoint(kept, path.stem, setup, state)
        yield ifs_files.load_checkpoint(kept)


def best_fractal(systems: list[dict], target: torch.Tensor, length: int, effort: int) -> float:
    """IoU of the best code in so many bytes; nan if no system fits into them.

    All systems are judged as they come from the descent with the quantiser; the best two are refitted to the end.
    """
    tried = []
    for system in systems:
        for code in ifs_codec.codes(system):
            if ifs_codec.fewest_bytes(code) <= length:
                maps = ifs_codec.canonical(system["maps"])
                tried.append((ifs_codec.refit(replace(code, length=length), [maps], target, 0), maps))
    tried.sort(key=lambda way: -way[0].iou)
    return max((ifs_codec.improve(found, target, effort).iou for found, _ in tried[:2]), default=math.nan)


def at_six_bits(system: dict, target: torch.Tensor, effort: int) -> tuple[float, float]:
    """IoU at six bits a number after plain rounding, and after the refit."""
    found = ifs_codec.fit_bits(system, target, SIX_BITS, effort)
    return ifs_codec.rounded(found.code, system["maps"], target).iou, found.iou


# --- Rivals: each yields (bytes, picture) for all its settings ---


def scaled(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(np.uint8(255 * pixels)).resize((side, side), Image.Resampling.BOX)


def scaled_up(small: Image.Image) -> np.ndarray:
    return np.asarray(small.convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC)) >= 128


def bitmap(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in range(2, math.isqrt(8 * most) + 1):
        yield -(-side * side // 8), scaled_up(scaled(pixels, side).point(lambda grey: 255 * (grey >= 128)))


def webp(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    for side in (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 128):
        small, fits = scaled(pixels, side), False
        for levels in (2, 3, 4, 8):
            grey = small.point([round(round(value * (levels - 1) / 255) * 255 / (levels - 1)) for value in range(256)])
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
    for side in range(4, SIZE + 1, 4) if JBIG else ():
        small = scaled(pixels, side).point(lambda grey: 255 * (grey >= 128))
        size = jbig_bytes(small)
        if size > most:
            return
        yield size, scaled_up(small)


def jbig_bytes(picture: Image.Image) -> int:
    done = subprocess.run([JBIG], input=saved(picture.convert("1"), "PPM"), capture_output=True, check=True)
    return len(done.stdout)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def polygon(pixels: np.ndarray, most: int) -> Iterator[tuple[int, np.ndarray]]:
    from contourpy import contour_generator

    padded = np.pad(pixels.astype(float), 1)
    at = (np.arange(SIZE + 2) - 0.5) / SIZE * 255  # a corner is a pair of bytes, from edge to edge of the picture
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
    """Rings of corners with so many left as fit into `most` bytes; those go first that cut off the least area."""
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
        ImageDraw.Draw(plane).polygon([(x * SIZE / 255 - 0.5, y * SIZE / 255 - 0.5) for x, y in ring], fill=1)
        inside ^= np.asarray(plane)
    return inside


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def best_rival(method: str, pixels: np.ndarray, most: int) -> float:
    settings = {"bitmap": bitmap, "webp": webp, "jbig": jbig, "polygon": polygon}[method](pixels, most)
    return max((overlap(picture, pixels) for size, picture in settings if size <= most), default=math.nan)


def lossless(pixels: np.ndarray) -> dict[str, int]:
    picture = Image.fromarray(pixels)
    sizes = {
        "PNG": len(saved(picture, "PNG", optimize=True)),
        "WebP": len(saved(picture.convert("L"), "WEBP", lossless=True, quality=100, method=6)),
        "G4": len(saved(picture, "TIFF", compression="group4")),
    }
    return sizes | ({"JBIG": jbig_bytes(picture)} if JBIG else {})


# --- The table and the plot ---


def table(points: list[dict]) -> str:
    """Mean IoU by method and bytes, who wins where, lossless sizes, and what the refit recovers."""
    names = sorted({point["name"] for point in points})
    value = {(point["method"], int(point["bytes"]), point["name"]): float(point["iou"]) for point in points}
    lengths = sorted({key[1] for key in value if key[0] == "ifs"})
    methods = [method for method in ("ifs", *RIVALS) if any(key[0] == method for key in value)]

    def mean(method: str, length: int) -> float:
        return statistics.fmean(value[method, length, name] for name in names)  # nan where one has no picture

    lines = [f"{len(names)} pictures: {', '.join(names)}", "", "mean IoU in at most so many bytes"]
    lines.append(f"{'bytes':>8}" + "".join(f"{method:>10}" for method in methods))
    lines += [f"{b:8}" + "".join(f"{mean(m, b):10.4f}".replace("nan", "  –") for m in methods) for b in lengths]
    lines.append("")
    for b in lengths:
        rivals = {name: max(np.nan_to_num(value[m, b, name]) for m in methods[1:]) for name in names}
        ahead = [name for name in names if value["ifs", b, name] > rivals[name]]
        said = "all" if len(ahead) == len(names) else f"{len(ahead)}: {', '.join(ahead)}" if ahead else "none"
        lines.append(f"{b} bytes: the fractal is ahead of every rival on {said}")
    lines += ["", "each picture, IoU of fractal / best rival", f"{'bytes':>12}" + "".join(f"{b:>16}" for b in lengths)]
    for name in names:
        cells = [
            f"{value['ifs', b, name]:.3f} / {max(np.nan_to_num(value[m, b, name]) for m in methods[1:]):.3f}"
            for b in lengths
        ]
        lines.append(f"{name:12}" + "".join(f"{cell.replace('nan', '–'):>16}" for cell in cells))
    formats = [form for form in LOSSLESS if any(key[0] == form for key in value)]
    sizes = {(p["method"], p["name"]): int(p["bytes"]) for p in points if p["method"] in formats}
    lines += ["", "bytes without loss: mean, least to most"]
    for form in formats:
        column = [sizes[form, name] for name in names]
        lines.append(f"{form:>8}{statistics.fmean(column):8.0f}{min(column):8}{max(column):8}")
    full, plain, refit = (
        statistics.fmean(next(v for key, v in value.items() if key[0] == m and key[2] == name) for name in names)
        for m in ("full", "plain6", "refit6")
    )
    share = (refit - plain) / max(1e-9, full - plain)
    lines += [
        "",
        f"{SIX_BITS} bits a number, mean IoU: {full:.4f} before, {plain:.4f} rounded, {refit:.4f} refitted: "
        f"{share:.0%} of the loss recovered",
    ]
    if not JBIG:
        lines.append("no JBIG column: pbmtojbg85 is not installed")
    return "\n".join(lines) + "\n"


def plot(points: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, label in zip(("ifs", *RIVALS), ("IFS", "bitmap", "WebP", "JBIG", "polygon"), strict=True):
        lengths = sorted({int(p["bytes"]) for p in points if p["method"] == method})
        means = [statistics.fmean(float(p["iou"]) for p in points if p["method"] == method and int(p["bytes"]) == b)
                 for b in lengths]  # fmt: skip
        if any(map(math.isfinite, means)):
            axes.plot(lengths, means, marker="o", label=label, linewidth=2.5 if method == "ifs" else 1.2)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="bytes", ylabel="mean IoU at 256 × 256", title=f"{len({p['name'] for p in points})} pictures")
    ticks = sorted({int(p["bytes"]) for p in points if p["method"] == "ifs"})
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.grid(alpha=0.3)
    axes.legend()
    with ifs_files.whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", type=Path)
    parse.add_argument("--maps", type=int, nargs="+", default=[8, 16, 24], metavar="N")
    parse.add_argument("--bytes", type=int, nargs="+", default=[32, 48, 64, 96, 128], metavar="N")
    parse.add_argument("--effort", type=int, default=150, metavar="K", help="attractors judged in each refit")
    parse.add_argument("--out", type=Path)
    parse.add_argument("--fits", type=Path)
    arguments = parse.parse_args(argv)
    pictures = sorted(arguments.folder.glob("*.png"))
    if not pictures:
        parse.error(f"there are no PNG files in {arguments.folder}")
    out = arguments.out or Path(f"compression_{arguments.folder.resolve().name}")
    done = out / "points.csv"
    points = list(csv.DictReader(done.read_text().splitlines())) if done.exists() else []
    known = {(point["name"], point["method"], int(point["bytes"])) for point in points}

    def add(name: str, method: str, length: int, iou: float) -> None:
        points.append({"name": name, "method": method, "bytes": length, "iou": iou})
        ifs_files.save_trace(done, points)

    work = [(path, length) for path in pictures for length in (0, *arguments.bytes)]
    with tqdm(work, unit="point") as bar:
        for path, length in bar:
            name = path.stem
            bar.set_postfix_str(f"{name} {length or ''}")
            target = ifs_files.load_target(path, SIZE)
            pixels = target.numpy() >= 0.5
            for rival in (method for method in RIVALS if length and (JBIG or method != "jbig")):
                if (name, rival, length) not in known:
                    add(name, rival, length, best_rival(rival, pixels, length))
            if (name, "ifs", length) in known or (not length and any(key[:2] == (name, "refit6") for key in known)):
                continue
            systems = list(fitted(path, arguments.maps, arguments.fits or out / "fits"))
            if length:
                add(name, "ifs", length, best_fractal(systems, target, length, arguments.effort))
                continue
            for form, size in lossless(pixels).items():
                add(name, form, size, 1.0)
            plain, refit = at_six_bits(systems[0], target, arguments.effort)
            for method, iou in (("full", systems[0]["iou"]), ("plain6", plain), ("refit6", refit)):
                add(name, method, 0, iou)
    with ifs_files.whole_file(out / "table.txt") as file:
        file.write(table(points).encode())
    plot(points, out / "plot.png")
    print(table(points), end="")


if __name__ == "__main__":
    main()
