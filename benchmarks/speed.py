"""How long a step of the fit takes, and how far that is from what the machine allows.

    python benchmarks/speed.py [--device DEV] [--out PLOT] > TABLE

Takes about three minutes on two cores. First come the rates of the machine: copying, scattering,
gathering, a matrix product. The floor of a step is the time that its own share of these takes at
those rates:

- a scatter and a gather at four pixels for each point, by PyTorch's own operations on tensors that
  hold all points, or, on a CPU, by the compiled loops of `kernels.splat`, which hold none: two
  floors;
- eight pictures written and read: the density, four passes that blur it and its gradient, coverage,
  error, gradient;
- the operations of these four passes, one multiplication and one addition for each tap and pixel,
  as fast as those of a matrix product.

Exponentials, the words and the optimiser are not counted; of a point, the loops hold its place in
the cache. Where there is one system, the rates are those for one picture, else those for eight. A
step is `fit.run.descend`, a tenth of a choice of words included. The distance field draws the Koch
curve as 4³ segments; our step draws as many points as resolve it no worse, which the agreement
shows. Times are medians; memory is the peak beyond what was there before. PLOT (default:
speed_DEVICE.png) shows cost against points, depth, resolution and batch.
"""

import argparse
import contextlib
import ctypes
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.backend import blur, convolve, kernels, splat_words
from diff_ifs.draw.coverage import occupancy
from diff_ifs.files.command import pick_device
from diff_ifs.files.names import find_pictures
from diff_ifs.files.target import load_target
from diff_ifs.fit.objective import REFRESH, Objective
from diff_ifs.fit.run import Run, descend
from diff_ifs.fit.stages import Stage
from diff_ifs.metrics import iou
from diff_ifs.setup import WINDOW, Map, Setup, affine
from ifs_model import apply, coverage, frame, gaussian, pen_discs, word_maps, words_of_depth

SIZE = 256
POINTS, SYSTEMS = (4_000, 40_000, 400_000), (1, 8, 64)
MOST = 4_000_000  # points of all systems together; what would need more is left out
MANY = 8  # pictures in a batch whose rates stand for those of all batches
PASSES = 16  # over a picture, to write or to read it, in one step
TAPS = 4  # pixels that share a point
HELD = 56  # bytes for each point in tensors that hold all: place, weight, fractions, index
SPREAD = 1.0  # sigma of the splat in pixels
KOCH_ENDS = ((-0.9, -0.26), (0.9, -0.26))
KOCH_POINTS = 4_000  # resolve the Koch curve


# --- Measuring ---


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def peak_memory(work: Callable[[], object], device: str) -> float:
    """MiB that a call of `work` takes at its peak beyond what was there, a median; NaN where the
    system cannot say."""
    return statistics.median(_peak_of_one_call(work, device) for _ in range(3))


def _peak_of_one_call(work: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if device != "cpu" or not sys.platform.startswith("linux"):
        return math.nan
    with contextlib.suppress(AttributeError):  # not in every C library
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before counts again when it is taken
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what there is
    before = _resident()
    work()
    return (_resident() - before) / 2**20


def _resident() -> int:
    """The largest resident size of this process in bytes, since it was last set back."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def seconds(work: Callable[[], object], device: str, budget: float = 0.4) -> float:
    """The median time of a call of `work`, which has been called once before."""
    work()
    spent = []
    while sum(spent) < budget:
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


# --- The floor ---


def rates(device: str) -> dict[str, float]:
    """Seconds for each byte copied, for each element scattered or gathered, point splatted, and
    operation of a GEMM."""
    generator = torch.Generator().manual_seed(0)
    floats = torch.zeros(1 << 25, device=device)
    other = torch.empty_like(floats)
    found = {"byte": seconds(lambda: other.copy_(floats), device) / (8 * len(floats))}
    square = torch.rand(1024, 1024, generator=generator).to(device)
    found["operation"] = seconds(lambda: square @ square, device) / (2 * 1024**3)
    return found | _picture_rates(device, 1, generator) | _picture_rates(device, MANY, generator)


def _picture_rates(device: str, batch: int, generator: torch.Generator) -> dict[str, float]:
    count, threads = batch * 200_000, torch.get_num_threads()
    index = torch.randint(SIZE**2, (batch, 200_000), generator=generator).to(device)
    values = torch.ones(index.shape, device=device)
    picture = torch.zeros(batch, SIZE**2, device=device)
    works = {
        "scatter": lambda: picture.scatter_add_(1, index, values),
        "gather": lambda: picture.gather(1, index),
    }
    if (loops := kernels(picture)) is not None:
        outer = torch.eye(2, 3).repeat(batch, 200, 1, 1) * (SIZE / 2)  # points anywhere
        outer[..., 2] = torch.rand(batch, 200, 2, generator=generator) * (SIZE / 2 - 1)
        inner = torch.rand(batch, 2, 1000, generator=generator)
        shares = torch.ones(batch, 200), torch.ones(batch, 1000)
        words = [part.numpy() for part in (outer, inner, *shares)]
        upstream = torch.rand(batch, SIZE, SIZE).numpy(), torch.ones(batch).numpy()
        works["splat"] = lambda: loops.splat(*words, SIZE, threads)
        works["splat's gradient"] = lambda: loops.splat_gradient(*words, *upstream, threads)
    return {f"{name} {batch}": seconds(work, device) / count for name, work in works.items()}


def floors(rate: dict[str, float], points: int, systems: int, size: int) -> tuple[float, float]:
    """Seconds that a step cannot do without: by PyTorch's operations, and by the compiled loops
    (NaN without them).

    `points` are those of each system.
    """
    batch = 1 if systems == 1 else MANY
    operations = 4 * 2 * (2 * len(gaussian(SPREAD)) - 1)
    pictures = systems * size**2 * (PASSES * 4 * rate["byte"] + operations * rate["operation"])
    by_torch = TAPS * (rate[f"scatter {batch}"] + rate[f"gather {batch}"]) + HELD * rate["byte"]
    compiled = sum(rate.get(f"{name} {batch}", math.nan) for name in ("splat", "splat's gradient"))
    return pictures + systems * points * by_torch, pictures + systems * points * compiled


# --- The step ---


def koch_maps() -> list[Map]:
    """The maps of the Koch curve between KOCH_ENDS."""
    left, right = (complex(*end) for end in KOCH_ENDS)
    joints, maps = [0, 1 / 3, 1 / 2 + 1j * math.sqrt(3) / 6, 2 / 3, 1], []
    for start, end in itertools.pairwise(joints):
        turn = complex(end - start)
        move = left + (right - left) * start - turn * left
        maps.append(affine(turn.real, -turn.imag, turn.imag, turn.real, move.real, move.imag))
    return maps


KOCH = {"name": "koch", "maps": koch_maps(), "stroke": 0.01}


class Step:
    """A fit that stands at the start of a stage."""

    def __init__(self, device: str, points: int, systems: int, size=SIZE, grown=False, **fields):
        chosen = {"name": "apple", "maps": 12, "stroke": 0.0} | fields
        target = load_target(find_pictures(chosen.pop("name"))[0], size).to(device)
        setup = Setup(starts=systems, size=size, points=points, **chosen)
        rates, blurs, endless = (setup.rate / 100, setup.rate / 100), (SPREAD, SPREAD), 10**9
        plan = (size, points, systems, systems, 1, endless, rates, blurs)
        stage = Stage(*plan, solidity=1.0, levels=4, grown=grown)
        self.objective, self.device = Objective(target, stage, setup), device
        self.run = Run.started(target, setup, device)
        self.objective.refresh(self.run.maps, self.run.stroke, SPREAD)

    def forward(self) -> Tensor:
        return self.objective(self.run.maps, SPREAD)

    def gradient(self) -> None:
        self.run.maps.requires_grad_()
        torch.autograd.grad(self.forward().sum(), self.run.maps)

    def descend(self) -> None:
        for _ in range(REFRESH):
            descend(self.objective, self.run)
            self.run.stage_step += 1

    def seconds(self) -> float:
        """Of one step, a tenth of a choice of words included."""
        return seconds(self.descend, self.device) / REFRESH

    def agreement(self, wanted: Tensor) -> float:
        """The best IoU with a picture (S, S) that the points of the first system reach with any
        alpha."""
        look, maps = self.objective, self.run.maps[:1]
        density, _ = splat_words(maps, (look.words[0], look.words[-1]), look.frame, len(wanted))
        pen = pen_discs(self.run.stroke[:1] * len(wanted) / 2, look.discs.shape[-1] // 2)
        soft = blur(convolve(density, pen), look.beyond_pen(SPREAD))[0]
        alphas = torch.logspace(0, 2, 60, device=soft.device) / soft.max()
        return max(iou(coverage(soft, alpha), wanted) for alpha in alphas)

    def memory(self) -> float:
        return peak_memory(self.descend, self.device)


# --- What others do ---


def dense_splat(
    points: Tensor, shares: Tensor, size: int, sigma: float, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """A Gaussian of `sigma` pixels for each point (2, P) at each pixel: density (S, S), and
    gradient (2, P) of points.

    As short as it can be: the exponentials of 64 points and all pixels at a time. Shares are (P,),
    `upstream` is the gradient of the density.
    """
    at = torch.arange(size, dtype=points.dtype, device=points.device)
    density, gradients = torch.zeros(size, size, dtype=points.dtype, device=points.device), []
    for chunk, share in zip(points.split(64, dim=1), shares.split(64), strict=True):
        chunk = chunk.detach().requires_grad_()
        across, down = (at - chunk[0, :, None]) ** 2, (at - chunk[1, :, None]) ** 2
        exponent = -(across[:, None, :] + down[:, :, None]) / (2 * sigma**2)
        part = (share[:, None, None] * torch.exp(exponent)).sum(0) / (2 * math.pi * sigma**2)
        gradients += torch.autograd.grad(part, chunk, upstream)
        density += part.detach()
    return density, torch.cat(gradients, dim=1)


def distance_field(maps: Tensor, segment: Tensor, depth: int, size: int, radius: float) -> Tensor:
    """Coverage (S, S) of a segment (2, 2), its ends, under all words of `depth` letters of maps (n,
    2, 3).

    The distance of a pixel is the least of those to all images of the segment, as in Scott 2022
    (arXiv 2203.01231); a pixel is on within `radius` pixels.
    """
    to = torch.tensor(frame(WINDOW, size), device=maps.device)
    words = word_maps(maps, words_of_depth(len(maps), depth, maps.device))
    ends = apply(to, apply(words, segment))[..., None, None]  # (K, 2, 2, 1, 1)
    at = torch.arange(size, dtype=maps.dtype, device=maps.device)
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    across, down = at - start[:, 0], at[:, None] - start[:, 1]
    place = ((across * along[:, 0] + down * along[:, 1]) / along.square().sum(1)).clamp(0, 1)
    near = torch.hypot(across - place * along[:, 0], down - place * along[:, 1]).amin(0)
    return torch.sigmoid((radius - near) / 0.25)


def distance_field_step(
    maps: Tensor, segment: Tensor, depth: int, target: Tensor, radius: float
) -> None:
    """Forward and backward, with the squared error summed over a pyramid of five levels."""
    maps = maps.detach().requires_grad_()
    error = (distance_field(maps, segment, depth, len(target), radius) - target)[None, None]
    loss = error.square().mean()
    for _ in range(4):
        error = torch.nn.functional.avg_pool2d(error, 2)
        loss = loss + error.square().mean()
    torch.autograd.grad(loss, maps)


# --- The tables ---


def steps_table(device: str, rate: dict[str, float]) -> dict[tuple[int, int], float]:
    """Print the steps at full size; their seconds by (points, systems)."""
    print(f"\nA training step at {SIZE} × {SIZE}, 12 maps: milliseconds")
    print("  points  systems          a step, in milliseconds  Mpoints/s  systems/s ", end="")
    print("    × the floor, by   peak MiB")
    print("                   forward  and backward  and Adam ", end="")
    print("                          torch     loops")
    found = {}
    for points in POINTS:
        for systems in SYSTEMS:
            if points * systems > MOST:
                print(f"{points:8} {systems:8}   left out: more than {MOST:,} points in all")
                continue
            step = Step(device, points, systems)
            with torch.no_grad():
                forward = seconds(step.forward, device)
            backward, whole = seconds(step.gradient, device), step.seconds()
            found[points, systems] = whole
            by_torch, by_loops = (whole / floor for floor in floors(rate, points, systems, SIZE))
            print(f"{points:8} {systems:8} {1e3 * forward:8.2f} {1e3 * backward:13.2f}", end="")
            print(f" {1e3 * whole:9.2f} {points * systems / whole / 1e6:10.1f}", end="")
            print(f" {systems / whole:10.1f} {by_torch:9.2f}", end="")
            print(f" {'–':>9}" if math.isnan(by_loops) else f" {by_loops:9.2f}", end="")
            print(f" {step.memory():10.0f}", flush=True)
    return found


def rivals_table(device: str, whole: float) -> None:
    """Print what dense splats and distance fields cost beside a step; `whole`: that of one system,
    40,000 points."""
    print(f"\nThe same jobs done otherwise, {SIZE} × {SIZE}: milliseconds")
    generator = torch.Generator().manual_seed(0)
    part, points = 256, 40_000
    places = (SIZE * torch.rand(2, part, generator=generator)).to(device)
    upstream = torch.rand(SIZE, SIZE, generator=generator).to(device)
    shares = torch.ones(part, device=device)

    def dense() -> None:
        dense_splat(places, shares, SIZE, SPREAD, upstream)

    slow = seconds(dense, device) * points / part
    print(f"our step, {points:,} points of 12 maps {1e3 * whole:34.2f}")
    print(f"dense splat of as many, its loss not counted {1e3 * slow:24.0f}   ", end="")
    print(f"{slow / whole:.0f} × as long (measured on {part} points)   ", end="")
    print(f"{peak_memory(dense, device):.0f} MiB at 64 points a chunk")

    field, radius = field_step(device, 3), KOCH["stroke"] * SIZE / 2
    slow = seconds(field, device, budget=4.0)  # of calls of 50 to 100 ms a few say little
    theirs = peak_memory(field, device)
    maps, segment = (torch.tensor(part, device=device) for part in (KOCH["maps"], KOCH_ENDS))
    curve = occupancy(maps.cpu(), WINDOW, SIZE, stroke=KOCH["stroke"], supersample=6).to(device)
    for count in (KOCH_POINTS, points):
        koch = Step(device, count, 1, **KOCH)
        agreement = koch.agreement(curve)
        whole, ours = koch.seconds(), koch.memory()
        print(f"our step, Koch curve, {count:6,} points under a pen {1e3 * whole:17.2f}   ", end="")
        print(f"{ours:.0f} MiB   IoU with the curve {agreement:.3f}; distance field: ", end="")
        print(f"{slow / whole:.0f} × as long, {theirs / max(ours, 1):.0f} × the memory")
    drawn = [iou(distance_field(maps, segment, depth, SIZE, radius), curve) for depth in (3, 4, 5)]
    print(f"distance field, Koch curve, depth 3 {1e3 * slow:34.0f}   {theirs:.0f} MiB   ", end="")
    print("IoU with the curve {:.3f}; depth 4: {:.3f}, depth 5: {:.3f}".format(*drawn))


def field_step(device: str, depth: int) -> Callable[[], None]:
    """A step of the distance field on the Koch curve, of which all words of `depth` letters are
    drawn."""
    step = Step(device, KOCH_POINTS, 1, **KOCH)
    maps, segment = step.run.maps[0], torch.tensor(KOCH_ENDS, device=device)
    target, radius = step.objective.target, KOCH["stroke"] * SIZE / 2
    return lambda: distance_field_step(maps, segment, depth, target, radius)


def grown_table(device: str) -> None:
    """Print the steps of the last stage, whose points are those of the grown attractor."""
    print(f"\nA step with grown points, {SIZE} × {SIZE}, 12 maps: milliseconds")
    print(" systems  points of each      step")
    for systems in (1, 2, 4):
        step = Step(device, 40_000, systems, grown=True)
        points = sum(len(tree.letters) for tree in step.objective.trees) / systems
        print(f"{systems:8} {points:15.0f} {1e3 * step.seconds():9.2f}", flush=True)


def starts_table(device: str) -> dict[int, float]:
    """Print what a batch of starts at 64 × 64 gains; the seconds of its steps by systems."""
    print("\nStarts side by side, 64 × 64, 2,500 points each")
    print(" systems   step (ms)   steps of one start/s   × one by one")
    found = {}
    for systems in (1, 4, 8, 32, 64):
        found[systems] = Step(device, 2500, systems, size=64).seconds()
        rate, gain = systems / found[systems], systems * found[1] / found[systems]
        print(f"{systems:8} {1e3 * found[systems]:11.2f} {rate:22.0f} {gain:14.1f}", flush=True)
    return found


def plot(path: Path, curves: dict[str, dict[str, dict[float, float]]]) -> None:
    """One panel of milliseconds for each kind of cost, with the slope between the last two points
    of each curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(curves), figsize=(4.2 * len(curves), 3.8), layout="constrained", sharey=True
    )
    for axis, (title, lines) in zip(axes, curves.items(), strict=True):
        for label, line in lines.items():
            (x0, y0), (x1, y1) = list(line.items())[-2:]
            slope = f"slope {math.log(y1 / y0) / math.log(x1 / x0):.2f}"
            if title.startswith("depth"):  # cost there grows as a power of n
                slope = f"× {(y1 / y0) ** (1 / (x1 - x0)):.1f} a letter"
            costs = [1e3 * y for y in line.values()]
            axis.plot(line.keys(), costs, "o-", label=f"{label}: {slope}")
        axis.set(xlabel=title, yscale="log")
        axis.set_xscale("linear" if title.startswith("depth") else "log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("a step (ms)")
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--device", help="cuda, mps or cpu (default: cuda where there is one)")
    parse.add_argument("--out", type=Path, help="the plot (default: speed_DEVICE.png)")
    arguments = parse.parse_args(argv)
    device = pick_device(arguments.device)
    out = arguments.out or Path(f"speed_{device.split(':')[0]}.png")
    name = f"{torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    print(f"{device} ({name}), PyTorch {torch.__version__}\n\nRates of the machine")
    rate = rates(device)
    print(f"copying              {2e-9 / rate['byte'] / 2:9.1f} GB/s, written and read")
    print(f"matrix product       {1e-9 / rate['operation']:9.1f} billion operations/s, 1024 × 1024")
    for kind in ("scatter", "gather", "splat", "splat's gradient"):
        if f"{kind} 1" in rate:
            of = "point" if kind.startswith("splat") else "pixel"
            one, many = (1e9 * rate[f"{kind} {batch}"] for batch in (1, MANY))
            print(f"{kind:20} {one:9.2f} ns a {of}; {many:.2f} ns in {MANY} pictures at once")
    steps = steps_table(device, rate)
    rivals_table(device, steps[40_000, 1])
    grown_table(device)
    starts = starts_table(device)
    by_points = {points: Step(device, points, 1).seconds() for points in (1_000, 12_000, 120_000)}
    by_points |= {points: time for (points, systems), time in steps.items() if systems == 1}
    by_points = dict(sorted(by_points.items()))
    sides, depths = (64, 128, 256, 512, 1024), range(3, 10)
    by_size = {size: Step(device, 40_000, 1, size).seconds() for size in sides}
    by_depth = {depth: Step(device, 4000, 1, **KOCH, depth=depth).seconds() for depth in depths}
    by_field = {depth: seconds(field_step(device, depth), device) for depth in range(1, 5)}
    curves = {
        f"points ({SIZE} × {SIZE}, one system)": {"words of equal weight": by_points},
        f"depth (Koch curve, {SIZE} × {SIZE})": {"all words": by_depth, "distance field": by_field},
        "side of the picture (40,000 points)": {"one system": by_size},
        "systems (64 × 64, 2,500 points each)": {"a batch": starts},
    }
    plot(out, curves)
    grown = math.log(steps[400_000, 1] / steps[40_000, 1]) / math.log(10)
    print(
        f"\nCost grows with points from 40,000 to 400,000 as their power {grown:.2f}. Plot: {out}"
    )


if __name__ == "__main__":
    main()
