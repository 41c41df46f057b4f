"""Draw the figure of README.md and docs/METHOD.md: python benchmarks/draw_figure.py, where NAME.pt
of koch is.

Five panels, for the Koch curve early in its fit: maps, words as points, density, coverage,
difference.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ifs_model as model
from diff_ifs.files.checkpoint import as_tensors, load_checkpoint
from diff_ifs.files.names import find_pictures
from diff_ifs.files.target import load_target
from diff_ifs.setup import WINDOW

STEP = 20


def main() -> None:
    target = load_target(find_pictures("koch")[0], 256)
    run = as_tensors(load_checkpoint(Path("koch.pt"))["resume"])
    maps = run["path_maps"][run["path_steps"].index(STEP)][0].double()
    weights = model.area_weights(maps)
    words = (model.words_by_weight(weights, 50), model.words_by_weight(weights, 50))
    to_pixels = torch.tensor(model.frame(WINDOW, 128), dtype=torch.float64)
    points, shares = model.attractor_points(maps, weights, words, to_pixels)
    density = model.splat(points, shares, 128)
    spread = model.blur_matrix(128, 1.0, density)
    soft = model.coverage(spread @ density @ spread, 2.0 * float(target.sum()) / 4)
    small = torch.nn.functional.avg_pool2d(target[None], 2)[0]

    figure = Figure(figsize=(13, 3.1), layout="constrained")
    panels = figure.subplots(1, 5)
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.float64)
    for k, image in enumerate(model.apply(maps, square)):
        panels[0].plot(*image.T, color=f"C{k}", lw=2)
    panels[0].plot(*square.T, color="grey", lw=1)
    panels[0].set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    panels[1].scatter(*points, s=0.5, color="black")
    panels[1].set(xlim=(-0.5, 127.5), ylim=(127.5, -0.5))
    panels[2].imshow(density.sqrt(), cmap="magma")
    panels[3].imshow(soft, cmap="gray", vmin=0, vmax=1)
    panels[4].imshow(soft - small, cmap="RdBu_r", vmin=-1, vmax=1)
    titles = (
        "maps f₁ … fₙ",
        "points f_w(m) of words w",
        "splat: density ρ",
        "coverage 1 − exp(−α ρ)",
        "minus the target",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.set_title(title, fontsize=11)
    figure.savefig(Path(__file__).parent / "how_it_works.png", dpi=110)


if __name__ == "__main__":
    main()
