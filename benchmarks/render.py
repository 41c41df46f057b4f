"""How fast the renderer draws, beside a chaos game, plain enumeration and what the machine allows.

    python benchmarks/render.py [--quick]

Run it in a folder that holds koch.pt, sierpinski.pt, apple.pt and flower.pt, as
benchmarks/four_targets.py leaves them; it writes its pictures to a temporary folder. --quick leaves
out the picture of 32768 × 32768 pixels.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import diff_ifs.draw.density as density_module
from diff_ifs.draw.attractor import Attractor
from diff_ifs.draw.density import PARTICLE_SIDE, density, density_strips, measure_levels
from diff_ifs.draw.geometry import View
from diff_ifs.setup import WINDOW
from ifs_model import apply, area_weights, centroid

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("koch", "sierpinski", "apple", "flower")
SIDE = 1024
ZOOMS = {"koch": (-1, 0), "sierpinski": (-1, -1), "apple": (0.3, -0.75), "flower": (0.7, 0.7)}


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median time of some work, after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[repeats // 2]


def floor() -> list[tuple[str, float, str]]:
    """What the machine allows: copying, and adding to random pixels of a picture of 1024 × 1024."""
    count = 1 << 22
    source = torch.ones(1 << 25, dtype=torch.float64)
    target, picture = torch.empty_like(source), torch.zeros(SIDE * SIDE, dtype=torch.float64)
    index = torch.randint(0, SIDE * SIDE, (count,), generator=torch.Generator().manual_seed(0))
    near = index.sort().values
    copy = seconds(lambda: target.copy_(source))
    scatter = seconds(lambda: picture.scatter_add_(0, index, source[:count]))
    close = seconds(lambda: picture.scatter_add_(0, near, source[:count]))
    return [
        ("floor: copy", 2 * source.nbytes / copy / 1e9, "GB/s"),
        ("floor: scatter-add, pixels at random", count / scatter / 1e6, "M/s"),
        ("floor: scatter-add, pixels in order", count / close / 1e6, "M/s"),
    ]


def density_rates(maps: torch.Tensor) -> list[tuple[str, float, str]]:
    """Points of density at 1024²: those mapped and added to a picture one by one, of particles and
    words together.

    What merged particles stand for is said apart: the words of all levels that the picture is made
    of.
    """
    maps, view, drawn = maps.double(), View(WINDOW, SIDE), []
    whole = seconds(lambda: list(density_strips(maps, view, progress=drawn.append)))
    points = sum(drawn) / 6
    attractor = Attractor(maps, view)
    cell = attractor.cell(PARTICLE_SIDE)
    clouds = list(measure_levels(attractor, cell))
    density_module.measure_levels = lambda *_: iter(clouds)
    alone = seconds(lambda: density(maps, WINDOW, SIDE))
    density_module.measure_levels = measure_levels
    grown = len(maps) * sum(len(weights) for _, _, weights in clouds[:-1])
    words = math.log10(len(maps)) * (len(clouds) - 1)
    return [
        ("ours: mapped and drawn, whole picture", (points + grown) / whole / 1e6, "M/s"),
        ("ours: mapped and drawn, words alone", points / alone / 1e6, "M/s"),
        ("ours: seconds of the whole picture", whole, "s"),
        (f"ours: words that its particles stand for: 10^{words:.0f}, in", whole, "s"),
    ]


def chaos_game(maps: torch.Tensor) -> list[tuple[str, float, str]]:
    """A chaos game in numba, as fractal-pretraining draws its pictures: one random map after the
    other, one core."""
    try:
        from numba import njit
    except ImportError:
        print(
            "numba is not installed, so that the chaos game is left out: pip install numba",
            file=sys.stderr,
        )
        return []
    systems = maps.double().numpy()
    edges = area_weights(maps.double()).cumsum(0).numpy()

    @njit
    def play(systems, edges, count, side, picture):
        x = y = 0.0
        for k in range(count):
            which = np.searchsorted(edges, np.random.random() * edges[-1])
            f = systems[min(which, len(edges) - 1)]
            x, y = f[0, 0] * x + f[0, 1] * y + f[0, 2], f[1, 0] * x + f[1, 1] * y + f[1, 2]
            column, row = int((x + 1) * side / 2), int((1 - y) * side / 2)
            if k > 20 and 0 <= column < side and 0 <= row < side:
                picture[row, column] += 1

    count, picture = 10_000_000, np.zeros((SIDE, SIDE))
    play(systems, edges, 100, SIDE, picture)
    return [
        (
            "numba chaos game, one core",
            count / seconds(lambda: play(systems, edges, count, SIDE, picture), 3) / 1e6,
            "M/s",
        )
    ]


def enumeration(maps: torch.Tensor) -> tuple[str, float, str]:
    """All words of D letters, for the largest D with at most four million points, and a
    bincount."""
    maps = maps.double()
    depth = int(math.log(4e6) / math.log(len(maps)))
    weights = area_weights(maps)

    def draw() -> torch.Tensor:
        points, mass = centroid(maps, weights)[None], weights.new_ones(1)
        for _ in range(depth):
            points, mass = apply(maps, points).flatten(0, 1), (weights[:, None] * mass).flatten()
        column, row = (
            ((points * points.new_tensor([1, -1]) + 1) * (SIDE / 2)).long().clamp(0, SIDE - 1)
        ).unbind(1)
        return torch.bincount(row * SIDE + column, mass, SIDE * SIDE)

    rate = len(maps) ** depth / seconds(draw, 3) / 1e6
    return f"plain enumeration of {len(maps)}^{depth} points, bincount", rate, "M/s"


def command(folder: str, *arguments: object) -> tuple[float, float]:
    """Seconds and GiB of one run of render_ifs.py."""
    line = [
        sys.executable,
        ROOT / "render_ifs.py",
        *arguments,
        "--quiet",
        "--out",
        Path(folder, "picture.png"),
    ]
    began = time.perf_counter()
    with subprocess.Popen(
        [*map(str, line)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"failed: {' '.join(map(str, arguments))}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--quick", action="store_true")
    arguments = parse.parse_args()
    missing = [name for name in TARGETS if not Path(f"{name}.pt").is_file()]
    if missing:
        raise SystemExit(
            f"there is no {missing[0]}.pt here; make it with: python train_ifs.py {missing[0]}"
        )
    systems = {name: torch.load(f"{name}.pt", weights_only=True)["maps"] for name in TARGETS}
    torch.set_num_threads(1)  # as render_ifs.py does
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    # first the commands: a process is charged with the memory of the one that starts it
    print("whole commands\n\n| picture | seconds | peak GiB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:

        def row(what: str, *options: object) -> float:
            taken, peak = command(folder, *options)
            print(f"| {what} | {taken:.1f} | {peak:.2f} |", flush=True)
            return taken

        for name in TARGETS:
            row(f"{name} 30 4096", name, 30, 4096)
        depths = [
            row(f"apple {recursion} 4096", "apple", recursion, 4096) for recursion in (12, 30, 300)
        ]
        print(f"| slowest of these to fastest | {max(depths) / min(depths):.2f} × | |")
        for name, at in ZOOMS.items():
            whole = row(f"{name} 60 1024", name, 60, 1024)
            zoomed = row(
                f"{name} 60 1024, zoomed in by 10^9", name, 60, 1024, "--zoom-at", *at, 1e9
            )
            print(f"| zoom to whole | {zoomed / whole:.2f} × | |")
        if not arguments.quick:
            row("sierpinski 30 32768, without a pen", "sierpinski", 30, 32768, "--stroke", 0)
    print(f"\ndensity at {SIDE}²\n\n| what | | |\n|---|---|---|")
    for what, rate, unit in floor():
        print(f"| {what} | {rate:.1f} | {unit} |", flush=True)
    for name in ("apple", "flower"):
        results = [
            *density_rates(systems[name]),
            *chaos_game(systems[name]),
            enumeration(systems[name]),
        ]
        for what, rate, unit in results:
            print(f"| {name}, {what} | {rate:.{3 if unit == 's' else 1}f} | {unit} |", flush=True)


if __name__ == "__main__":
    main()
