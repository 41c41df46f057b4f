"""Bytes of true fractals, and of their contours at the same IoU.

    python benchmarks/true_fractals.py [FOLDER] [--effort K] [--jobs J] [--out OUT]

The twelve known attractors of `recover.py`, and those of FOLDER's CSV files, are drawn at 256 ×
256, and their true maps are coded in the fewest bytes that lose at most LOSS of IoU. Beside them
are the bytes in which the contour coder is as good, of the picture as it is or scaled down, and the
box dimension of the outline. OUT (default: true_fractals.txt) gets the table.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from compression import LOSS, done_by
from recover import SYSTEMS, drawn, placed
from rivals import SIZE, fewest_of_contours, outline_dimension

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.compress.goals import fit_within
from diff_ifs.compress.search import score
from diff_ifs.files.disk import atomic_write
from diff_ifs.fit.judge import evaluate
from diff_ifs.setup import WINDOW


def coded(name: str, effort: int) -> dict:
    """What the table says of an attractor, or of the one of a CSV file."""
    torch.set_num_threads(1)
    (maps, pen), (target, n) = placed(name), drawn(name)
    before = evaluate(maps, target, pen).iou
    system = {"maps": maps, "window": WINDOW, "stroke": pen, "size": SIZE, "iou": before}
    found, pixels = fit_within(system, target, LOSS, effort), target.numpy() >= 0.5
    iou = score(found.code, found.numbers, target, quality="final")
    return {
        "name": name,
        "maps": n,
        "dimension": outline_dimension(pixels),
        "before": before,
        "iou": iou,
        "bytes": found.code.length,
        "contours": fewest_of_contours(pixels, iou),
    }


def table(rows: list[dict]) -> str:
    lines = [
        f"{'':12}{'maps':>5}{'outline':>9}{'true':>8}{'coded':>8}{'bytes':>7}{'a map':>7}"
        f"{'contours':>10}{'ratio':>8}"
    ]
    for row in rows:
        lines.append(
            f"{Path(row['name']).stem:12}{row['maps']:5}{row['dimension']:9.2f}{row['before']:8.4f}"
            f"{row['iou']:8.4f}{row['bytes']:7}{row['bytes'] / row['maps']:7.2f}"
            f"{row['contours']:10}{row['bytes'] / row['contours']:8.3f}"
        )
    for title, some in (
        ("known", [row for row in rows if row["name"] in SYSTEMS]),
        ("of files", [row for row in rows if row["name"] not in SYSTEMS]),
        ("all", rows),
    ):
        if some:
            size, n = (sum(row[key] for row in some) for key in ("bytes", "maps"))
            ratios = [row["bytes"] / row["contours"] for row in some]
            lines.append(
                f"{title}: {size} bytes for {n} maps, {size / n:.2f} a map; of the contours' bytes "
                f"{statistics.median(ratios):.3f} in the median, {max(ratios):.3f} at most"
            )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", nargs="?", type=Path)
    parse.add_argument("--effort", type=int, default=60, metavar="K")
    parse.add_argument("--jobs", type=int, default=2)
    parse.add_argument("--out", type=Path, default=Path("true_fractals.txt"))
    arguments = parse.parse_args(argv)
    names = [*SYSTEMS, *(str(p) for p in sorted((arguments.folder or Path("/")).glob("*.csv")))]
    work = [(name, arguments.effort) for name in names]
    rows = {row["name"]: row for row in done_by(arguments.jobs, work, coded)}
    text = table([rows[name] for name in names])
    with atomic_write(arguments.out) as file:
        file.write(text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
