"""What the loop of a fit changes, and the states that it reaches.

Letters in shapes: B systems, n maps, S side of the picture.
"""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diff_ifs.fit.judge import PEN_GAIN, evaluate, selection_scores
from diff_ifs.fit.objective import Objective
from diff_ifs.fit.proposals import initial_systems, mutate, pen_radius
from diff_ifs.fit.stages import Stage, stages
from diff_ifs.setup import MAX_SINGULAR, Setup
from ifs_model import contract, singular_values


@dataclass(frozen=True)
class State:
    """What a fit has reached. Maps are float64 tensors (n, 2, 3) on the CPU."""

    step: int
    steps: int
    size: int  # side of the picture of this stage, in pixels
    loss: float  # of the leader: the system with the least loss, in the last stage the one with the best IoU
    iou: float  # of the leader's converged attractor with the target, at full size
    maps: Tensor  # of the leader
    stroke: float
    picture: Tensor  # (S, S) coverage of the leader's converged attractor at full size
    trace: list[dict]  # step, size, loss and iou of every state so far
    path: list[tuple[int, Tensor, float]]  # the leader's (step, maps, stroke) at each state since its start
    best_iou: float  # the best of all states so far, by the converged attractor
    best_maps: Tensor
    best_stroke: float
    resume: dict  # what `fit` needs to go on from here


def begin(target: Tensor, setup: Setup, device: torch.device | str) -> dict:
    """The run that `fit` starts from: everything that its loop changes, in plain types and tensors."""
    maps = initial_systems(target, setup).to(device)
    radius = 0.0 if setup.grey else pen_radius(target) if setup.stroke is None else setup.stroke
    stroke = torch.full(maps.shape[:1], radius, device=device) if radius > 0 else None
    return {
        "stage": 0,
        "stage_step": 0,
        "step": 0,
        "maps": maps,
        "stroke": stroke,
        **still(maps),
        "trace": [],
        "path_steps": [],
        "path_maps": [],
        "path_stroke": [],
        "best_score": -math.inf,
        "best_iou": 0.0,
        "best_maps": maps[0],
        "best_stroke": radius,
    }


def still(maps: Tensor) -> dict:
    """The moments of an optimiser that has not moved yet."""
    return {"adam_step": 0, "first": torch.zeros_like(maps), "second": torch.zeros_like(maps)}


def select(run: dict, target: Tensor, stage: Stage, setup: Setup) -> None:
    """Let the best systems go on, and breed them.

    Some are those whose converged attractors are most like the target, at twice the size of the next stage, because a
    coarse picture flatters; see `worth`, of which both IoUs choose in turn. The others have the least loss, because a
    fit that is all but exact may overlap less than a coarse one does.
    """
    size = min(stage.size if setup.grey else 2 * stage.size, len(target))
    finer = F.adaptive_avg_pool2d(target[None, None], size)[0, 0]
    best: list[int] = []
    if stage.judged:
        worths = torch.tensor([selection_scores(maps, finer, setup) for maps in run["maps"]])
        for k in range(stage.judged):
            order = worths[:, k % 2].argsort(descending=True, stable=True).tolist()
            best.append(next(system for system in order if system not in best))
    if stage.judged < stage.systems:
        loss = losses(Objective(target, stage, setup), run)
        others = [k for k in loss.argsort(stable=True).tolist() if k not in best]
        best += others[: stage.systems - len(best)]
    best = torch.tensor(best)
    keep(run, best.repeat_interleave(stage.copies))
    if stage.copies > 1:
        generator = torch.Generator().manual_seed(setup.seed + run["stage"])
        elite = run["maps"].cpu().unflatten(0, (-1, stage.copies))
        bred = [torch.cat([m[:1], mutate(m[1:], finer, generator)]) for m in elite]
        run["maps"] = contract(torch.cat(bred).to(run["maps"].device), setup.bound)


@torch.no_grad()
def losses(objective: Objective, run: dict) -> Tensor:
    """Losses (B,) of all systems before the first step of a stage."""
    sigma = objective.stage.blurs[0]
    objective.refresh(run["maps"], run["stroke"], sigma)
    return objective(run["maps"], run["stroke"], sigma)


def take_pens(run: dict, target: Tensor) -> None:
    """Draw each system with the pen that suits its converged attractor, all if that is worth it for the best."""
    found = [evaluate(maps, target, search_stroke=True, rim=False) for maps in run["maps"]]
    best = max(range(len(found)), key=lambda k: found[k].iou)
    if run["stroke"] is None:
        if found[best].stroke == 0 or found[best].iou < evaluate(run["maps"][best], target, rim=False).iou + PEN_GAIN:
            return
        run["stroke"] = run["maps"].new_full((len(found),), found[best].stroke)
    radii = run["stroke"].new_tensor([verdict.stroke for verdict in found])
    run["stroke"] = torch.where(radii > 0, radii, run["stroke"])


def keep(run: dict, kept: Tensor) -> None:
    """Go on with these systems (K,), and their paths, at rest."""
    run["path_maps"] = [maps[kept] for maps in run["path_maps"]]
    run["path_stroke"] = [strokes[kept] for strokes in run["path_stroke"]]
    kept = kept.to(run["maps"].device)
    maps = run["maps"][kept].detach()
    run.update(maps=maps, stroke=None if run["stroke"] is None else run["stroke"][kept].detach(), **still(maps))


def report(
    run: dict,
    target: Tensor,
    stage: Stage,
    setup: Setup,
    steps: int,
    loss: Tensor,
    final: bool = False,
    end: bool = False,
) -> State:
    """Judge the leader, in the final stage more than one, at its end with any stroke; remember the best.

    Only what the fit ends with is drawn with its rim, which may take as long as all judgements before.
    """
    systems = len(run["maps"])
    stroke = torch.zeros(systems) if run["stroke"] is None else run["stroke"].detach().cpu()
    run["path_steps"].append(run["step"])
    run["path_maps"].append(run["maps"].detach().cpu())
    run["path_stroke"].append(stroke.clone())
    order = loss.nan_to_num(nan=torch.inf).argsort(stable=True).tolist()
    judged = {
        k: evaluate(run["maps"][k], target, float(stroke[k]), end and setup.stroke != 0, grey=setup.grey, rim=False)
        for k in order[: systems if final else 1]
    }
    leader = max(judged, key=lambda k: judged[k].score)
    maps = run["maps"][leader].detach()
    iou, radius, picture, score = judged[leader]
    if end and not setup.grey:
        iou, radius, picture, score = evaluate(maps, target, radius)
    run["path_stroke"][-1][leader] = radius
    if score > run["best_score"]:
        run.update(best_score=score, best_iou=iou, best_maps=maps, best_stroke=radius)
    run["trace"].append({"step": run["step"], "size": stage.size, "loss": float(loss[leader]), "iou": iou})
    path = zip(run["path_steps"], run["path_maps"], run["path_stroke"], strict=True)
    return State(
        step=run["step"],
        steps=steps,
        size=stage.size,
        loss=float(loss[leader]),
        iou=iou,
        maps=maps.cpu().double(),
        stroke=radius,
        picture=picture,
        trace=list(run["trace"]),
        path=[(step, systems[leader].double(), float(strokes[leader])) for step, systems, strokes in path],
        best_iou=run["best_iou"],
        best_maps=run["best_maps"].cpu().double(),
        best_stroke=run["best_stroke"],
        resume=_snapshot(run),
    )


def _snapshot(run: dict) -> dict:
    """A copy of a run that its next steps leave alone: they lengthen its lists, move its moments and mark its maps."""
    copied = {name: list(value) if isinstance(value, list) else value for name, value in run.items()}
    return copied | {"maps": run["maps"].detach(), "first": run["first"].clone(), "second": run["second"].clone()}


def resumed(resume: dict, stage_count: int, device: torch.device | str) -> dict:
    """The run of an earlier state, on this device; a complete fit is set back to the start of its last stage."""
    run = copy.deepcopy(resume)
    if run["stage"] == stage_count:
        maps = run["best_maps"][None]
        stroke = None if run["stroke"] is None else torch.full((1,), run["best_stroke"])
        run.update(stage=stage_count - 1, stage_step=0, maps=maps, stroke=stroke, **still(maps))
        if run["path_maps"]:  # the way of the system that ended nearest to these maps is theirs
            leader = (run["path_maps"][-1] - run["best_maps"].cpu()).abs().sum((1, 2, 3)).argmin()[None]
            for name in ("path_maps", "path_stroke"):
                run[name] = [systems[leader] for systems in run[name]]
    for name in ("maps", "stroke", "best_maps", "first", "second"):
        run[name] = None if run[name] is None else run[name].to(device)
    return run


def check_resume(resume: object, setup: Setup) -> None:
    """Raise ValueError unless `resume` is what `fit` can go on from with this setup: for a dict that was in a file.

    Types and shapes are looked at first, so that nothing is computed of what claims to be too large.
    """
    names = {"stage", "stage_step", "step", "maps", "stroke", "adam_step", "first", "second", "trace"}
    names |= {"path_steps", "path_maps", "path_stroke", "best_score", "best_iou", "best_maps", "best_stroke"}
    if not isinstance(resume, dict) or resume.keys() != names:
        raise ValueError("its fields are not those of a run")
    n, most = setup.n, setup.batch
    ends = [stage.steps - 1 for stage in stages(setup)] + [0]  # the last is that of a complete fit

    def whole(name: str, high: int) -> None:
        if type(resume[name]) is not int or not 0 <= resume[name] <= high:
            raise ValueError(f"{name} is no whole number from 0 to {high}")

    whole("stage", len(ends) - 1)
    whole("stage_step", ends[resume["stage"]])
    whole("step", 10**9)
    whole("adam_step", 10**9)
    for name, low in (("best_score", -1), ("best_iou", 0), ("best_stroke", 0)):
        if type(resume[name]) not in (int, float) or not low <= resume[name] <= 1:
            raise ValueError(f"{name} is no number from {low} to 1")
    history = [resume[name] for name in ("trace", "path_steps", "path_maps", "path_stroke")]
    if any(type(part) is not list or len(part) != len(history[0]) or len(part) > 10**6 for part in history):
        raise ValueError("trace and path are not lists of one length")
    trace, path_steps, path_maps, path_stroke = history
    for row, step in zip(trace, path_steps, strict=True):
        numbers = [row.get(key) for key in ("step", "size", "loss", "iou")] if type(row) is dict else [None]
        if not all(type(x) in (int, float) and abs(x) <= 1e30 for x in [*numbers, step]):
            raise ValueError("trace or path_steps holds what is no finite number")

    systems = _count(resume["maps"])
    wanted = {name: (resume[name], (systems, n, 2, 3)) for name in ("maps", "first", "second")}
    wanted["best_maps"] = resume["best_maps"], (n, 2, 3)
    if resume["stroke"] is not None:
        wanted["stroke"] = resume["stroke"], (systems,)
    for k, (maps, strokes) in enumerate(zip(path_maps, path_stroke, strict=True)):
        wanted[f"path_maps[{k}]"] = maps, (_count(maps), n, 2, 3)
        wanted[f"path_stroke[{k}]"] = strokes, (_count(maps),)
    for name, (value, shape) in wanted.items():
        if not isinstance(value, Tensor) or value.shape != shape or not 1 <= len(value) <= max(2 * most, n):
            raise ValueError(f"{name} is no tensor of shape {shape}")
        if value.dtype not in (torch.float32, torch.float64) or value.requires_grad or not value.isfinite().all():
            raise ValueError(f"{name} does not hold finite numbers")
        if "stroke" in name and not (value.min() >= 0 and value.max() <= 1):
            raise ValueError(f"{name} is no radius from 0 to 1")
        if "maps" in name and value.abs().max() > 1e3:
            raise ValueError(f"{name} leads far away")
    for name in ("maps", "best_maps", *(f"path_maps[{k}]" for k in range(len(path_maps)))):
        if singular_values(wanted[name][0]).max() > MAX_SINGULAR:
            raise ValueError(f"{name} holds maps that do not shrink the world")


def _count(value: object) -> int:
    return len(value) if isinstance(value, Tensor) and value.ndim > 0 else 0
