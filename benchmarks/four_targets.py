"""Fit the four targets as a user would, and print the table of docs/RESULTS.md.

    python benchmarks/four_targets.py [NAME ...]

Run it in the folder that is to hold NAME.pt and results/. For the Koch curve and the gasket, it
also prints how far the maps that were found are from the true ones: the mean and the largest
distance, in pixels of the 256 × 256 picture, between the images of the figure's corners, up to the
order of the maps and the symmetries of the figure.
"""

import itertools
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from draw_targets import GASKET_CORNERS, KOCH_ENDS, SIZE

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"koch": (4, 0.95), "sierpinski": (3, 0.97), "apple": (12, 0.975), "flower": (30, 0.90)}


def triangle_to(corners: list, images: list) -> torch.Tensor:
    """The affine map (2, 3) that takes three corners to three images."""
    square = torch.cat(
        [torch.tensor(corners, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)], dim=1
    )
    return torch.linalg.solve(square, torch.tensor(images, dtype=torch.float64)).T


def koch_truth() -> tuple[list, list, list]:
    """Corners of the Koch curve, its four maps, and its symmetries as maps."""
    (left, low), (right, _) = KOCH_ENDS
    third, rise = (right - left) / 3, (right - left) / 3 * math.sqrt(3) / 2
    corners = [(left, low), (right, low), ((left + right) / 2, low + rise)]
    joints = [corners[0], (left + third, low), corners[2], (right - third, low), corners[1]]
    maps = []
    for (x0, y0), (x1, y1) in itertools.pairwise(joints):
        # the tip stands to the left of the segment
        along, up = (
            ((x1 - x0) / 2, (y1 - y0) / 2),
            (-(y1 - y0), x1 - x0),
        )
        height = math.sqrt(3) / 6
        tip = (x0 + along[0] + height * up[0], y0 + along[1] + height * up[1])
        maps.append(triangle_to(corners, [(x0, y0), (x1, y1), tip]))
    mirror = triangle_to(corners, [corners[1], corners[0], corners[2]])
    return corners, maps, [triangle_to(corners, corners), mirror]


def gasket_truth() -> tuple[list, list, list]:
    """Corners of the gasket, its three maps, and its six symmetries as maps."""
    corners = list(GASKET_CORNERS)
    maps = [
        triangle_to(corners, [((x + cx) / 2, (y + cy) / 2) for x, y in corners])
        for cx, cy in corners
    ]
    return (
        corners,
        maps,
        [triangle_to(corners, list(order)) for order in itertools.permutations(corners)],
    )


def map_error(found: torch.Tensor, truth: tuple[list, list, list]) -> tuple[float, float]:
    """Distances in pixels, mean and largest, between the corners' images under maps (n, 2, 3) and
    the true maps.

    A true map that follows a symmetry of the figure has the same image as without it, and counts as
    the same.
    """
    corners, maps, symmetries = truth
    homogeneous = torch.tensor([[x, y, 1.0] for x, y in corners], dtype=torch.float64)
    ours = homogeneous @ found.mT  # (n, 3, 2)

    def apart(image: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        choices = [homogeneous @ symmetry.T for symmetry in symmetries]
        images = [
            torch.cat([c, torch.ones(3, 1, dtype=torch.float64)], 1) @ true.T for c in choices
        ]
        return min(((image - other).norm(dim=1) for other in images), key=torch.Tensor.max)

    distances = [[apart(image, true) for true in maps] for image in ours]
    orders = itertools.permutations(range(len(maps)))
    pairings = (torch.cat([distances[k][j] for k, j in enumerate(order)]) for order in orders)
    best = min(pairings, key=torch.Tensor.mean) * SIZE / 2
    return float(best.mean()), float(best.max())


def main() -> None:
    print(
        "| target | maps | IoU | HD95 (px) | numbers stored | whole command (s) | "
        "maps off by (px) |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or LIMITS:
        began = time.perf_counter()
        command = [sys.executable, str(ROOT / "train_ifs.py"), name, "--quiet"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds = time.perf_counter() - began
        hd95 = re.search(r"HD95 (\S+) px", said)[1]
        checkpoint = torch.load(f"{name}.pt", weights_only=True)
        maps, stroke = checkpoint["maps"], checkpoint["stroke"]
        truth = {"koch": koch_truth, "sierpinski": gasket_truth}.get(name)
        off = "{:.2f}, at most {:.2f}".format(*map_error(maps, truth())) if truth else "–"
        most, least = LIMITS[name]
        mark = "" if len(maps) <= most and checkpoint["iou"] >= least else " (missed)"
        print(
            f"| {name} | {len(maps)} | {checkpoint['iou']:.4f}{mark} | {hd95} "
            f"| {6 * len(maps) + (stroke > 0)} | {seconds:.1f} | {off} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
