"""What a GPU does for this program: one table, in at most ten minutes, without a network.

    python benchmarks/on_gpu.py [FOLDER] [--device cuda] [--minutes 10]

First come the steps of benchmarks/speed.py beside their floors. Then fits of the four targets, and
of the PNG files of FOLDER with 8 maps and without options, are made on the device and on the CPU,
in turn, after the choice that is made where no device is asked for; those that the minutes do not
suffice for are left out, and said. Last come the tests of tests/test_devices.py. Any PyTorch from
2.4 on will do.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import speed

from diff_ifs.files.command import pick_device
from diff_ifs.files.names import find_pictures
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.fit.device import faster
from diff_ifs.setup import Setup
from train_ifs import fit

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("koch", "sierpinski", "apple", "flower")


def timed_fit(target: torch.Tensor, setup: Setup, device: str) -> tuple[int, float, float]:
    """How many maps a fit has, its IoU and its seconds."""
    began = time.perf_counter()
    *_, state = fit(target, setup, device, every=10**6)
    return len(state.best_maps), state.best_iou, time.perf_counter() - began


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("folder", type=Path, nargs="?")
    parse.add_argument("--device")
    parse.add_argument("--minutes", type=float, default=10)
    parse.add_argument("--size", type=int, default=256)
    arguments = parse.parse_args(argv)
    end = time.perf_counter() + 60 * arguments.minutes
    device = pick_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    print(f"{name}, beside {torch.get_num_threads()} threads; PyTorch {torch.__version__}\n")
    # The first fit on each compiles loops and loads kernels, which is not any picture's time.
    for place in (device, "cpu"):
        *_, _ = fit(torch.eye(32), Setup(maps=2, size=32, starts=32, rounds=2, steps=50), place)

    print("Steps and floors, as benchmarks/speed.py has them")
    for place in (device, "cpu"):
        print(f"\n{place}")
        speed.steps_table(place, speed.rates(place))

    works = [
        (find_pictures(target)[0], load_setup(target, {"size": arguments.size})[0])
        for target in TARGETS
    ]
    shapes = sorted(arguments.folder.glob("*.png")) if arguments.folder else []
    works += [
        (path, Setup(maps=n, size=arguments.size, grey=False)) for path in shapes for n in (8, None)
    ]
    print(
        "\n| fit | maps | IoU here | IoU on the CPU | seconds here | seconds on the CPU | chosen "
        "|\n|---|---|---|---|---|---|---|"
    )
    ratios = []
    for done, (path, setup) in enumerate(works):
        if time.perf_counter() > end - 60:  # what follows takes about a minute
            print(f"\n{len(works) - done} fits are left out: the time is for what follows")
            break
        target = load_target(path, setup.size)
        chosen = faster(target, setup, (device, "cpu"))
        (n, iou, seconds), (_, iou_cpu, seconds_cpu) = (
            timed_fit(target, setup, place) for place in (device, "cpu")
        )
        ratios.append(seconds / seconds_cpu)
        row = f"{iou:.4f} | {iou_cpu:.4f} | {seconds:.1f} | {seconds_cpu:.1f} | {chosen}"
        print(f"| {path.stem} | {n} | {row} |", flush=True)
    if ratios:
        print(f"\nA fit here takes {statistics.median(ratios):.2f} of the CPU's time (median)")

    tests = [sys.executable, "-m", "pytest", "-q", "tests/test_devices.py"]
    # another PyTorch may warn, and other plugins of pytest, too
    quietly = ["-n", "0", "-W", "ignore"]
    done = subprocess.run(tests + quietly, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"\n{' '.join(tests[1:])}: {(done.stdout or done.stderr).strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
