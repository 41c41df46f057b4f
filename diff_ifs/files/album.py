"""The pictures of a fit: difference frames on the way, and what it ends with."""

from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.files.results import difference_frame, save_film, save_picture, save_plot, save_trace

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from diff_ifs.fit.run import State


def draw_frame(folder: Path, target: "Tensor", step: int, picture: "Tensor") -> "Image":
    """The difference between a picture in progress and its target; also written to
    results/NAME/frame_STEP.png."""
    from diff_ifs.metrics import iou

    frame = difference_frame(picture, target, f"step {step}    IoU {iou(picture, target):.3f}")
    save_picture(folder / f"frame_{step:06d}.png", frame)
    return frame


def write_results(
    folder: Path, name: str, target: "Tensor", state: "State", frames: dict, grey: bool
) -> "Tensor":
    """Write the pictures, film, trace and plot of a fit; the coverage of its best system. `frames`
    are those drawn."""
    from diff_ifs.backend import side_by_side
    from diff_ifs.fit.judge import evaluate

    def draw(way: tuple[int, "Tensor", float]) -> None:
        """The leader may have been another system then: show the winner's own path."""
        step, maps, stroke = way
        if step not in frames or not frames[step][0].equal(maps):
            picture = evaluate(maps, target, stroke, grey=grey, quality="draft").picture
            frames[step] = maps, draw_frame(folder, target, step, picture)

    side_by_side(draw, state.path)
    if state.step == state.steps and not grey:
        best = state.picture  # with all its edges: a fit ends with its best
    else:
        best = evaluate(state.best_maps, target, state.best_stroke, grey=grey).picture
    ends = difference_frame(best, target, f"best    IoU {state.best_iou:.3f}")
    save_picture(folder / f"{name}_difference.png", ends)
    save_film(folder / f"{name}.gif", [*(frames[step][1] for step, _, _ in state.path), ends])
    save_trace(folder / "trace.csv", state.trace)
    save_plot(folder / f"{name}_plot.png", name, state.trace)
    return best
