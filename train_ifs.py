"""Fit a fractal to a picture: python train_ifs.py NAME reads NAME.png and, where there is one,
NAME_setup.py.

It writes NAME.pt, the fitted system, and results/NAME/: difference frames, a GIF of them, a plot
and a trace.
"""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from diff_ifs.errors import InputError
from diff_ifs.files.album import draw_frame, write_results
from diff_ifs.files.command import (
    Parser,
    Stop,
    check_device,
    memory_errors_as_input_errors,
    pick_device,
    run_script,
)
from diff_ifs.files.disk import clear_frames, keep_previous, lock_results
from diff_ifs.files.names import find_checkpoint, find_pictures, is_picture, plain
from diff_ifs.files.results import save_picture
from diff_ifs.files.setup_file import check_options, load_setup, setup_from
from diff_ifs.files.target import read_target

if TYPE_CHECKING:
    from torch import Tensor
    from tqdm import tqdm

    from diff_ifs.files.target import Target
    from diff_ifs.fit.run import State
    from diff_ifs.setup import Setup

POOR = 0.8  # IoU below which a fit of black and white calls for another
# Fields of a Setup that are options:
FIELDS = ["maps", "price", "depth", "points", "steps", "starts", "size", "stroke", "seed", "grey"]
FIELDS += ["invert", "threshold"]  # how the picture is read


def parser() -> argparse.ArgumentParser:
    parse = Parser(prog="train_ifs.py", description=__doc__)
    add = parse.add_argument
    add("name", metavar="NAME", help="the target: NAME.png, .jpg, … here or beside the script")
    add(
        "--maps",
        type=number_of_maps,
        metavar="N",
        help="number of maps, from a random start; auto: as many as the picture repays, at most 48 "
        "(default: those of NAME_setup.py, or auto; 12 for a grey picture)",
    )
    add(
        "--from",
        dest="source",
        metavar="FILE",
        help="start from the maps of a file that render_ifs.py draws, instead of a setup",
    )
    add(
        "--price",
        type=float,
        metavar="P",
        help="IoU that each map must gain to --maps auto (default 0.001)",
    )
    add(
        "--depth",
        type=int,
        metavar="D",
        help="draw all words of D letters while fitting (default: words of equal weight)",
    )
    add(
        "--points",
        type=int,
        metavar="P",
        help="points drawn at full size while fitting (default 40000)",
    )
    add(
        "--steps",
        type=int,
        metavar="K",
        help="steps of the optimiser (default 780 and more, for a grey picture 390)",
    )
    add(
        "--starts",
        type=int,
        metavar="B",
        help="systems to start from (default 256, for a grey picture 32)",
    )
    add("--size", type=int, metavar="S", help="fit at S × S pixels (default 256)")
    add(
        "--stroke",
        type=float,
        metavar="R",
        help="radius of the pen in world units to begin with; 0: none (default: from the picture)",
    )
    add("--seed", type=int, metavar="X", help="seed of the random numbers (default 0)")
    add(
        "--grey",
        action=argparse.BooleanOptionalAction,
        help="fit greys as coverage, or black and white alone "
        "(default: greys if the picture has more than two levels)",
    )
    add(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="swap figure and ground, as for dark on a bright page",
    )
    add(
        "--threshold",
        type=int,
        metavar="T",
        help="figure is what has at least T of 255 of brightness, of opacity where some of the "
        "picture is transparent, or of distance from the ground where it has colours "
        "(default: from the picture)",
    )
    add(
        "--device",
        metavar="DEV",
        help="cuda, mps or cpu (default: cuda where it is there and faster, else cpu)",
    )
    add("--resume", action="store_true", help="go on from NAME.pt")
    add(
        "--watch",
        action="store_true",
        help="keep results/NAME/NAME.html, a page for a browser, current",
    )
    add("--quiet", action="store_true", help="no progress bar")
    return parse


def number_of_maps(text: str) -> int | str:
    """The value of --maps."""
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"it must be a number or auto, not {text!r}")


def fit(
    target: "Tensor",
    setup: "Setup",
    device: str = "cpu",
    every: int = 10,
    resume: dict | None = None,
) -> Iterator["State"]:
    """Fit an IFS to a picture by gradient descent; yield a State at the start, every so many steps,
    after each stage.

    target: coverage (S, S), S = setup.size, an array or tensor of booleans, bytes or floats from 0
    to 1. `every` is rounded up to a multiple of ten. `resume` is that of an earlier state: the fit
    goes on as if it had never stopped; one that was complete repeats its last stage from the best
    maps it had found. Where the setup leaves it open, the picture says how many maps there are.
    Raises ValueError for another target.
    """
    from diff_ifs.arrays import as_target
    from diff_ifs.fit.census import count
    from diff_ifs.fit.objective import REFRESH, Objective
    from diff_ifs.fit.run import Run, descend

    target = as_target(target, setup.size).to(device)
    if setup.maps is None:
        n = resume["maps"].shape[1] if resume else count(target, setup, device).n
        setup = replace(setup, maps=n)
    run = Run.resumed(resume, setup, device) if resume else Run.started(target, setup, device)
    every = max(1, -(-every // REFRESH)) * REFRESH
    while run.stage < len(run.plan):
        stage = run.plan[run.stage]  # coarse to fine: size, blur, rate, systems
        if run.stage_step == 0:
            # those with the least loss and those whose converged attractors are best
            run.select(target)
            run.join(target)  # one that was found by its collage, or as a spiral
            run.breed(target)  # copies with a map or two placed anew
            run.choose_pens(target)
            run.double()
        if not run.trace:
            yield run.report(target, stage, run.losses(target))
        # the soft picture of each system against the target
        objective = Objective(target, stage, setup)
        for _ in range(run.stage_step, stage.steps):
            losses = descend(objective, run)
            run.advance()
            if run.stage_step % every == 0:  # 0 again after the stage's last step
                yield run.report(target, stage, losses)


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    with Stop() as stop:
        try:
            with memory_errors_as_input_errors("lower --starts, --points or --size"):
                return train(arguments, stop)
        except InputError as error:
            print(f"train_ifs.py: {error}", file=sys.stderr)
            return 2


def train(arguments: argparse.Namespace, stop: Stop) -> int:
    began = time.perf_counter()
    # What can be refused is refused here, before torch is loaded.
    name = plain(arguments.name)
    checkpoint, folder = Path(f"{name}.pt"), Path("results", name)
    pictures = find_pictures(arguments.name)
    overrides = {
        field: value for field in FIELDS if (value := getattr(arguments, field)) is not None
    }
    initial = overrides.get("steps") == 0
    if initial:
        del overrides["steps"]
        if arguments.resume:
            raise InputError("--steps 0 shows what a fit starts from: leave it out, or --resume")
    if overrides.get("maps") == "auto":
        overrides["maps"] = None
        if arguments.resume:
            raise InputError("--resume goes on with the maps that are there: leave out --maps auto")
    check_options(overrides)
    check_device(arguments.device)
    origin = None
    if arguments.resume:
        from diff_ifs.files.checkpoint import load_origin

        origin, setup = load_origin(find_checkpoint(name), name, overrides)
        before = str(origin.get("picture"))
        if arguments.name == name and is_picture(before) and plain(before) == name:
            pictures = find_pictures(before)
        setup_file = None
        if arguments.source is not None:
            raise InputError("--resume goes on with the maps that are there: leave out --from")
    elif arguments.source is not None:
        setup, setup_file = setup_from(arguments.source, overrides), Path(arguments.source)
    else:
        setup, setup_file = load_setup(name, overrides)
    if arguments.price is not None and setup.maps is not None and not origin:
        raise InputError("--price is for --maps auto: give no number of maps, or leave out --price")
    seen = read_target(pictures[0], setup.size, setup.invert, setup.threshold, setup.grey)
    setup = replace(setup, grey=seen.grey)

    with lock_results(name, folder):
        from diff_ifs.files.checkpoint import check_target, resume_of, save_checkpoint

        resume = None
        if origin:
            check_target(checkpoint, origin, pictures[0], seen.coverage)
            if setup.maps is None:
                setup = replace(setup, maps=len(origin["maps"]))
            resume = resume_of(checkpoint, origin, setup)

        import torch
        from tqdm import tqdm

        from diff_ifs.fit.census import LADDER, TYPICAL, count
        from diff_ifs.fit.device import faster
        from diff_ifs.fit.stages import stages
        from diff_ifs.metrics import hd95, mse

        device = pick_device(arguments.device)
        target = torch.from_numpy(seen.coverage)
        if arguments.device is None and device != "cpu":
            device = faster(target, setup, (device, "cpu"))
        tell(seen, pictures)
        save_picture(folder / f"{name}_target.png", (seen.coverage * 255).round().astype("uint8"))
        power = None if origin else TYPICAL
        if setup.maps is None:
            asked = {
                "total": len(LADDER),
                "desc": f"{name}: how many maps",
                "unit": "search",
                "leave": False,
            }
            n, power = count(target, setup, device, partial(tqdm, **asked, disable=arguments.quiet))
            setup = replace(setup, maps=n)
        if setup_file and arguments.source is None and setup_file.parent != pictures[0].parent:
            print(f"the setup is {setup_file}", file=sys.stderr)
        if setup_file is None and not origin:
            print(
                f"no {name}_setup.py: {setup.batch} random starts of {setup.n} maps",
                file=sys.stderr,
            )

        if stop.code:
            print("stopped before the fit began; no checkpoint was written", file=sys.stderr)
            return stop.code
        if initial:
            state = next(fit(target, setup, device))
            draw_frame(folder, target, 0, state.picture)
            print(
                f"{name}: IoU {state.iou:.4f} before the first step -> "
                f"{folder}/frame_000000.png, no {checkpoint}"
            )
            return 0
        live = None
        if arguments.watch:
            from diff_ifs.page.live import LivePage

            live = LivePage(folder / f"{name}.html", name, target)
            print(f"watch it at {live.address}", file=sys.stderr)
        frames, state, fault = {}, None, ""
        steps = sum(stage.steps for stage in stages(setup))
        with tqdm(total=steps, desc=name, unit="step", disable=arguments.quiet) as bar:
            for reached in fit(target, setup, device, every=steps // 50, resume=resume):
                if fault := fault_of(reached):
                    break
                if state is None:
                    if not arguments.resume and (kept := keep_previous(checkpoint, folder)):
                        print(
                            f"the checkpoint of an earlier fit is kept as {kept}", file=sys.stderr
                        )
                    clear_frames(folder)
                state = reached
                show(bar, state)
                if (
                    state.step < state.steps
                ):  # that of the last step is written last: it says that all is there
                    save_checkpoint(checkpoint, name, setup, state, target, pictures[0].name)
                frames[state.step] = (
                    state.maps,
                    draw_frame(folder, target, state.step, state.picture),
                )
                if live:
                    live.show(state)
                if stop.code:
                    break
        if state is None:
            raise InputError(f"{fault}; try another --seed")

        if stop.code:
            print("stopping: writing what there is; Ctrl-C again stops at once", file=sys.stderr)
        best = write_results(folder, name, target, state, frames, setup.grey)
        save_checkpoint(checkpoint, name, setup, state, target, pictures[0].name)
        if live:
            live.show(state, last=True)

    away, error = hd95(best, target), mse(best, target)
    fidelity = f"IoU {state.best_iou:.4f}" + (f", MSE {error:.5f}" if setup.grey else "")
    fidelity += f", HD95 {away:.2f} px" if math.isfinite(away) else ""
    numbers = 6 * setup.n + (state.best_stroke > 0)
    silent = setup.grey or setup_file or stop.code or power is None
    more = "" if silent else promise(state.best_iou, setup.n, power)
    print(
        f"{name}: {fidelity}, {setup.n} maps, {numbers} numbers, "
        f"{time.perf_counter() - began:.1f} s -> {checkpoint}, {folder}/{more}"
    )
    if seen.page:
        print(
            "this is a fit of the ground, not of the figure: "
            f"{'--no-invert' if setup.invert else '--invert'} fits the figure",
            file=sys.stderr,
        )
    others = f"--maps {min(3 * setup.n, 1000)} or another --seed"
    if not bool((best >= 0.5).any()) and not setup.grey:
        print(
            f"a failed fit: no pixel of its attractor shows; try {others}, or --stroke 0.01",
            file=sys.stderr,
        )
    elif setup.grey and error > 0.5 * float(target.var()):
        print(
            f"a failed fit: it looks like nothing yet; try {others}, or --no-grey", file=sys.stderr
        )
    elif state.best_iou < POOR and not (setup.grey or stop.code):
        print(f"a poor fit: {others} may find a better one", file=sys.stderr)
    if fault:
        raise InputError(
            f"{fault}; {checkpoint} holds the best until then: try another --seed or a lower rate"
        )
    if stop.code and state.step == state.steps:
        print("the fit had come to its end: nothing is missing", file=sys.stderr)
    elif stop.code:
        print(f"stopped at step {state.step}; go on with: {again(arguments)}", file=sys.stderr)
    return stop.code


def fault_of(state: "State") -> str:
    """What is wrong with a state that went astray, else nothing."""

    def finite(value: object) -> bool:
        if isinstance(value, dict | list):
            return all(map(finite, value.values() if isinstance(value, dict) else value))
        return (
            bool(value.isfinite().all())
            if hasattr(value, "isfinite")
            else value is None or math.isfinite(value)
        )

    lost = [name for name, value in state.resume.items() if not finite(value)]
    where = f"{lost[0]} holds numbers that are not finite" if lost else ""
    return f"the fit went astray at step {state.step} ({where})" if lost else ""


def show(bar: "tqdm", state: "State") -> None:
    bar.total = state.steps
    bar.set_postfix(loss=f"{state.loss:.4f}", IoU=f"{state.best_iou:.4f}", refresh=False)
    bar.update(state.step - bar.n)
    if not state.step:
        bar.refresh()  # however soon after the empty one


def promise(iou: float, n: int, power: float) -> str:
    """What twice as many maps would bring, in words."""
    from diff_ifs.fit.census import promised

    later = promised(iou, n, 2 * n, power)
    return (
        f"; {2 * n} maps: about {later:.2f}"
        if later >= iou + 0.005
        else "; more maps would bring little"
    )


def again(arguments: argparse.Namespace) -> str:
    """The command that goes on with a fit that was stopped: its options are in the checkpoint."""
    words = ["python", "train_ifs.py", arguments.name]
    words += ["--device", arguments.device] if arguments.device else []
    switches = [f"--{option}" for option in ("watch", "quiet") if getattr(arguments, option)]
    return shlex.join([*words, *switches, "--resume"])


def tell(seen: "Target", pictures: list[Path]) -> None:
    """Say what was read, and what is doubtful about it."""
    others = [f"python train_ifs.py {shlex.quote(other.name)} reads that" for other in pictures[1:]]
    lines = [seen.said, *seen.hints, *(f"{pictures[0].name} is read; {other}" for other in others)]
    print("\n".join(lines), file=sys.stderr)


def command() -> NoReturn:
    run_script(main)


if __name__ == "__main__":
    command()
