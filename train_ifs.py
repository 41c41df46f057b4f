"""Fit a fractal to a picture: python train_ifs.py NAME reads NAME.png and, where there is one, NAME_setup.py.

It writes NAME.pt, the fitted system, and results/NAME/: difference frames, a GIF of them, a plot and a trace.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ifs_files
from ifs_files import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def parser() -> argparse.ArgumentParser:
    parse = ifs_files.Parser(prog="train_ifs.py", description=__doc__.splitlines()[0])
    add = parse.add_argument
    add("name", metavar="NAME", help="the target: NAME.png here or beside the script, white on black")
    add(
        "--maps",
        type=int,
        metavar="N",
        help="number of maps, from a random start (default: those of NAME_setup.py, or 12)",
    )
    add(
        "--depth",
        type=int,
        metavar="D",
        help="draw all words of D letters while fitting (default: words of equal weight)",
    )
    add("--points", type=int, metavar="P", help="points drawn at full size while fitting (default 40000)")
    add("--steps", type=int, metavar="K", help="steps of the optimiser (default 500)")
    add("--starts", type=int, metavar="B", help="systems to start from (default 32)")
    add("--size", type=int, metavar="S", help="fit at S × S pixels (default 256)")
    add(
        "--stroke",
        type=float,
        metavar="R",
        help="radius of the pen in world units; 0: none (default: from the picture)",
    )
    add("--seed", type=int, metavar="X", help="seed of the random numbers (default 0)")
    add("--device", metavar="DEV", help="cuda, mps or cpu (default: the best that is there)")
    add("--resume", action="store_true", help="go on from NAME.pt")
    add("--quiet", action="store_true", help="no progress bar")
    return parse


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return train(arguments)
    except InputError as error:
        print(f"train_ifs.py: {error}", file=sys.stderr)
        return 2


def train(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    name, checkpoint = arguments.name, Path(f"{arguments.name}.pt")
    picture = ifs_files.find_picture(name)
    previous = ifs_files.find_checkpoint(name) if arguments.resume else None

    from tqdm import tqdm

    import ifs_metrics
    from ifs_fit import fit, judge

    device = ifs_files.pick_device(arguments.device)
    fields = ("maps", "depth", "points", "steps", "starts", "size", "stroke", "seed")
    overrides = {field: value for field in fields if (value := getattr(arguments, field)) is not None}
    setup, setup_file = ifs_files.load_setup(name, overrides)
    target = ifs_files.load_target(picture, setup.size)
    resume = ifs_files.load_resume(previous, name, setup) if previous else None
    if setup_file is None:
        print(f"no {name}_setup.py: {setup.starts} random starts of {setup.n} maps", file=sys.stderr)

    folder, frames, state, interrupted = Path("results", name), {}, None, False
    with tqdm(total=setup.steps, desc=name, unit="step", disable=arguments.quiet) as bar:
        try:
            for state in fit(target, setup, device, every=setup.steps // 50, resume=resume):
                bar.total = state.steps
                bar.set_postfix(loss=f"{state.loss:.4f}", IoU=f"{state.best_iou:.4f}", refresh=False)
                bar.update(state.step - bar.n)
                if not frames:
                    ifs_files.clear_frames(folder)
                frames[state.step] = state.maps, draw_frame(folder, target, state.step, state.picture)
                ifs_files.save_checkpoint(checkpoint, name, setup, state)
        except KeyboardInterrupt:
            interrupted = True
    if state is None:
        return 130
    for step, maps, stroke in state.path:  # the leader may have been another system then: show the winner's own path
        if step not in frames or not frames[step][0].equal(maps):
            frames[step] = maps, draw_frame(folder, target, step, judge(maps, target, stroke)[2])
    best = judge(state.best_maps, target, state.best_stroke)[2]
    ends = ifs_files.difference_frame(best, target, f"best    IoU {state.best_iou:.3f}")
    ifs_files.save_picture(folder / f"{name}_difference.png", ends)
    ifs_files.save_film(folder / f"{name}.gif", [*(frames[step][1] for step, _, _ in state.path), ends])
    ifs_files.save_trace(folder / "trace.csv", state.trace)
    ifs_files.save_plot(folder / f"{name}_plot.png", name, state.trace)
    hd95 = ifs_metrics.hd95(best, target)
    numbers = 6 * setup.n + (state.best_stroke > 0)
    print(
        f"{name}: IoU {state.best_iou:.4f}, HD95 {hd95:.2f} px, {setup.n} maps, {numbers} numbers, "
        f"{time.perf_counter() - began:.1f} s -> {checkpoint}, {folder}/"
    )
    if interrupted:
        print(f"stopped at step {state.step}; go on with: python train_ifs.py {name} --resume", file=sys.stderr)
        return 130
    return 0


def draw_frame(folder: Path, target: "Tensor", step: int, picture: "Tensor") -> "Image":
    """The difference between a picture in progress and its target; also written to results/NAME/frame_STEP.png."""
    import ifs_metrics

    frame = ifs_files.difference_frame(picture, target, f"step {step}    IoU {ifs_metrics.iou(picture, target):.3f}")
    ifs_files.save_picture(folder / f"frame_{step:06d}.png", frame)
    return frame


if __name__ == "__main__":
    sys.exit(main())
