"""What the loop of a fit changes, and the states that it reaches.

Letters in shapes: B systems, n maps, S side of the picture.
"""

import copy
import math
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from diff_ifs.backend import kernels, side_by_side
from diff_ifs.fit.judge import PEN_GAIN, Evaluation, evaluate, selection_scores
from diff_ifs.fit.objective import REFRESH, Objective
from diff_ifs.fit.proposals import initial_systems, mutate, pen_radius
from diff_ifs.fit.self_similar import polished, self_similar
from diff_ifs.fit.spirals import spiral
from diff_ifs.fit.stages import Stage, of_few_maps, stages
from diff_ifs.metrics import pooled
from diff_ifs.setup import MAX_SINGULAR, Setup
from ifs_model import contract, singular_values


@dataclass(frozen=True)
class State:
    """What a fit has reached. Maps are float64 tensors (n, 2, 3) on the CPU."""

    step: int
    steps: int
    size: int  # side of the picture of this stage, in pixels
    # of the leader: the system with the least loss, or with the best IoU where all are judged
    loss: float
    iou: float  # of the leader's converged attractor with the target, at full size
    maps: Tensor  # of the leader
    stroke: float
    picture: Tensor  # (S, S) coverage of the leader's converged attractor at full size
    trace: list[dict]  # step, size, loss and iou of every state so far
    # the leader's (step, maps, stroke) at each state since its start
    path: list[tuple[int, Tensor, float]]
    best_iou: float  # the best of all states so far, by the converged attractor
    best_maps: Tensor
    best_stroke: float
    resume: dict  # what `fit` needs to go on from here


@dataclass
class Run:
    """Everything that the loop of a fit changes; `setup` and `plan` are what it follows."""

    setup: Setup
    plan: list[Stage]
    maps: Tensor  # (B, n, 2, 3)
    stroke: Tensor | None  # radii (B,) of the pens in world units
    stage: int = 0  # of the plan; its length when all is done
    stage_step: int = 0  # steps taken in this stage
    step: int = 0  # steps taken in all
    adam_step: int = 0
    first: Tensor = field(init=False)  # moments of Adam, like maps
    second: Tensor = field(init=False)
    trace: list[dict] = field(default_factory=list)
    path_steps: list[int] = field(default_factory=list)  # at each report, and of all systems
    path_maps: list[Tensor] = field(default_factory=list)
    path_stroke: list[Tensor] = field(default_factory=list)
    best_score: float = -math.inf
    best_iou: float = 0.0
    best_maps: Tensor = field(init=False)
    best_stroke: float = 0.0

    def __post_init__(self):
        self.best_maps = self.maps[0]
        self.before: list[tuple[Tensor, float]] = []  # maps and pen that a complete fit ended with
        self.rest()
        self.steps = sum(stage.steps for stage in self.plan)

    @classmethod
    def started(cls, target: Tensor, setup: Setup, device: torch.device | str) -> "Run":
        """The run that a fit of a target (S, S) starts from."""
        maps = initial_systems(target, setup).to(device)
        radius = 0.0 if setup.grey else pen_radius(target) if setup.stroke is None else setup.stroke
        stroke = torch.full(maps.shape[:1], radius, device=device) if radius > 0 else None
        return cls(setup, stages(setup), maps, stroke, best_stroke=radius)

    @classmethod
    def resumed(cls, resume: dict, setup: Setup, device: torch.device | str) -> "Run":
        """The run of an earlier state; a complete fit goes back to the start of its last stage."""
        run = cls(setup, stages(setup), resume["maps"], resume["stroke"])
        for name, value in copy.deepcopy(resume).items():
            setattr(run, name, value)
        if run.stage == len(run.plan):
            run.stage, run.stage_step, run.maps = run.stage - 1, 0, run.best_maps[None]
            run.stroke = None if run.stroke is None else torch.full((1,), run.best_stroke)
            run.rest()
            if run.path_maps:  # the way of the system that ended nearest to these maps is theirs
                away = (run.path_maps[-1] - run.best_maps.cpu()).abs().sum((1, 2, 3))
                leader = away.argmin()[None]
                run.path_maps = [systems[leader] for systems in run.path_maps]
                run.path_stroke = [strokes[leader] for strokes in run.path_stroke]
        for name in ("maps", "stroke", "best_maps", "first", "second"):
            value = getattr(run, name)
            setattr(run, name, None if value is None else value.to(device))
        if resume["stage"] == len(run.plan):
            run.before = [(run.best_maps, run.best_stroke)]
        run.steps = run.step - run.stage_step + sum(stage.steps for stage in run.plan[run.stage :])
        return run

    def snapshot(self) -> dict:
        """What `resumed` needs, as plain types and tensors that later steps leave alone."""
        saved = {name: getattr(self, name) for name in SAVED}
        saved = {k: list(value) if isinstance(value, list) else value for k, value in saved.items()}
        moments = {"first": self.first.clone(), "second": self.second.clone()}
        return saved | moments | {"maps": self.maps.detach()}

    def rest(self) -> None:
        """Let the optimiser begin anew."""
        self.adam_step = 0
        self.first, self.second = torch.zeros_like(self.maps), torch.zeros_like(self.maps)

    def keep(self, kept: Tensor) -> None:
        """Go on with these systems (K,), and their paths, at rest."""
        self.path_maps = [maps[kept] for maps in self.path_maps]
        self.path_stroke = [strokes[kept] for strokes in self.path_stroke]
        kept = kept.to(self.maps.device)
        self.maps = self.maps[kept].detach()
        self.stroke = None if self.stroke is None else self.stroke[kept].detach()
        self.rest()

    @torch.no_grad()
    def losses(self, target: Tensor) -> Tensor:
        """Losses (B,) of all systems before the first step of a stage."""
        stage = self.plan[self.stage]
        objective = Objective(target, stage, self.setup)
        objective.refresh(self.maps, self.stroke, stage.blurs[0])
        return objective(self.maps, stage.blurs[0])

    def refines(self) -> bool:
        """Whether the stage before this one was a grown one already."""
        return self.stage > 0 and self.plan[self.stage - 1].grown

    def finer(self, target: Tensor) -> Tensor:
        """The target at the size at which systems are chosen: twice that of the stage, as a coarse
        one flatters."""
        size = self.plan[self.stage].size * (1 if self.setup.grey else 2)
        return pooled(target, size)

    def select(self, target: Tensor) -> None:
        """Let the best systems go on, each as often as the stage has copies of it.

        Some are those whose converged attractors are most like the target; see `selection_scores`,
        of which both IoUs choose in turn, that with a pen first where all is refined. The others
        have the least loss, because a fit that is all but exact may overlap less than a coarse one
        does.
        """
        stage, best = self.plan[self.stage], []
        if len(self.maps) <= stage.systems and stage.copies == 1:
            return
        if stage.judged:
            finer, maps = self.finer(target).cpu(), self.maps.cpu()
            scores = torch.tensor(
                side_by_side(lambda system: selection_scores(system, finer, self.setup), maps)
            )
            if self.refines():  # what is left to mend is mended under the pen
                scores = scores.flip(1)
            for k in range(stage.judged):
                order = scores[:, k % 2].argsort(descending=True, stable=True).tolist()
                best.append(next(system for system in order if system not in best))
        if stage.judged < stage.systems:
            order = self.losses(target).argsort(stable=True).tolist()
            best += [k for k in order if k not in best][: stage.systems - len(best)]
        self.keep(torch.tensor(best).repeat_interleave(stage.copies))

    def join(self, target: Tensor) -> None:
        """Before the first grown stage, let a system of few maps join that was found by its
        collage, and one of a curve that a slow map takes along itself; as their way, they take that
        of the first."""
        setup = self.setup
        first = self.plan[self.stage].grown and not self.refines()
        if not (first and of_few_maps(setup) and setup.depth is None):
            return
        found = [self_similar(target, setup)]
        if self.stroke is not None and (maps := spiral(target, setup)) is not None:
            found.append(maps)
        self.keep(torch.tensor([*range(len(self.maps)), *[0] * len(found)]))
        self.maps[-len(found) :] = torch.stack(found)

    def breed(self, target: Tensor) -> None:
        """Place a map or two of each copy anew; the first of a system's copies stays as it is."""
        stage = self.plan[self.stage]
        if stage.copies == 1:
            return
        generator = torch.Generator().manual_seed(self.setup.seed + self.stage)
        finer, elite = self.finer(target), self.maps.cpu().unflatten(0, (-1, stage.copies))
        bred = [torch.cat([m[:1], mutate(m[1:], finer, generator)]) for m in elite]
        self.maps = contract(torch.cat(bred).to(self.maps.device), self.setup.bound)

    def choose_pens(self, target: Tensor) -> None:
        """Draw each system with the pen that suits its converged attractor, if that is worth it for
        the best: always where all that is left is to refine."""
        if self.plan[self.stage].levels or self.setup.grey or self.setup.stroke == 0:
            return
        systems, target = self.maps.cpu(), target.cpu()
        found = side_by_side(
            lambda maps: evaluate(maps, target, search_stroke=True, quality="draft"), systems
        )
        best = max(range(len(found)), key=lambda k: found[k].iou)
        if self.refines() and found[best].iou > self.best_score:
            self.remember(self.maps[best], found[best])
        if self.stroke is None:
            if found[best].stroke == 0:
                return
            if not self.refines():
                bare = evaluate(self.maps[best], target, quality="draft")
                if found[best].iou < bare.iou + PEN_GAIN:
                    return
            self.stroke = self.maps.new_full((len(found),), found[best].stroke)
        radii = self.stroke.new_tensor([evaluation.stroke for evaluation in found])
        self.stroke = torch.where(radii > 0, radii, self.stroke)

    def double(self) -> None:
        """In a grown stage, fit each system twice: with one alpha and with another."""
        if self.plan[self.stage].grown:
            self.keep(torch.arange(len(self.maps)).repeat(2))

    def adam(self, gradient: Tensor, rate: float) -> None:
        """One step of Adam (Kingma & Ba 2015); then the maps are projected to contractions."""
        self.adam_step += 1
        k, maps = self.adam_step, self.maps.detach()
        if (loops := kernels(maps)) is not None:
            arrays = (x.contiguous().numpy() for x in (maps, gradient, self.first, self.second))
            self.maps = torch.from_numpy(loops.descend(*arrays, k, rate, self.setup.bound))
            return
        with torch.no_grad():
            gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
            gradient = gradient.clamp(-1e15, 1e15)  # its square is finite
            first, second = (
                self.first.lerp_(gradient, 0.1),
                self.second.lerp_(gradient.square(), 0.01),
            )
            update = first / (1 - 0.9**k) / ((second / (1 - 0.99**k)).sqrt() + 1e-8)
            self.maps = contract(maps - rate * update, self.setup.bound)

    def advance(self) -> None:
        """Count a step, and the stage that ends with it."""
        self.step, self.stage_step = self.step + 1, self.stage_step + 1
        if self.stage_step == self.plan[self.stage].steps:
            self.stage, self.stage_step = self.stage + 1, 0
            self.rest()

    def ended(self, maps: Tensor, found: Evaluation, target: Tensor) -> tuple[Tensor, Evaluation]:
        """The best of a fit at its end, which may be its last leader, with all its edges.

        They may take as long as all judgements before. So drafts choose what is drawn with them,
        but for a complete fit that went on, which must not end with less. What a pen drew is not
        polished: images of it have thinner lines than it has.
        """
        ends = [(maps, found.stroke), (self.best_maps, self.best_stroke)]
        if not self.before:
            ends = ends[:1] if found.score >= self.best_score else ends[1:]
        drawn = [(maps, evaluate(maps, target, pen)) for maps, pen in ends + self.before]
        maps, found = max(drawn, key=lambda end: end[1].score)
        better = polished(maps, target, self.setup) if found.stroke == 0 else None
        if better is not None:
            better = better.to(maps)
            if evaluate(better, target, quality="draft").iou > found.iou:
                pens = self.setup.stroke != 0
                drawn = [(maps, found), (better, evaluate(better, target, 0.0, pens))]
                maps, found = max(drawn, key=lambda end: end[1].score)
        self.remember(maps, found)
        return maps, found

    def remember(self, maps: Tensor, found: Evaluation) -> None:
        """Take maps for the best so far."""
        self.best_maps, self.best_stroke = maps.detach(), found.stroke
        self.best_score, self.best_iou = found.score, found.iou

    def report(self, target: Tensor, stage: Stage, loss: Tensor) -> State:
        """Judge the leader, in the final stage and at the end of a grown one all systems, in the end
        with any stroke; remember the best.

        Of few maps, which draw thin curves whose IoU goes up and down, all are judged in each grown
        stage.
        """
        final, end, grey = stage is self.plan[-1], self.stage == len(self.plan), self.setup.grey
        pens = end and self.setup.stroke != 0
        every = final or (stage.grown and (self.stage_step == 0 or of_few_maps(self.setup)))
        stroke = torch.zeros(len(self.maps)) if self.stroke is None else self.stroke.detach().cpu()
        self.path_steps.append(self.step)
        systems, target = self.maps.detach().cpu(), target.cpu()
        self.path_maps.append(systems)
        self.path_stroke.append(stroke.clone())
        order = loss.nan_to_num(nan=torch.inf).argsort(stable=True).tolist()
        order = order if every else order[:1]

        def judge(k: int) -> Evaluation:
            return evaluate(systems[k], target, float(stroke[k]), pens, grey=grey, quality="draft")

        judged = dict(zip(order, side_by_side(judge, order), strict=True))
        leader = max(judged, key=lambda k: judged[k].score)
        maps, found = self.maps[leader].detach(), judged[leader]
        if end and not grey:
            maps, found = self.ended(maps, found, target)
            self.path_maps[-1][leader] = maps.cpu()
        elif found.score > self.best_score or (end and found.score == self.best_score):
            self.remember(maps, found)
        self.path_stroke[-1][leader] = found.stroke
        row = {"step": self.step, "size": stage.size, "loss": float(loss[leader]), "iou": found.iou}
        self.trace.append(row)
        path = zip(self.path_steps, self.path_maps, self.path_stroke, strict=True)
        return State(
            **row,
            steps=self.steps,
            maps=maps.cpu().double(),
            stroke=found.stroke,
            picture=found.picture,
            trace=list(self.trace),
            path=[
                (step, systems[leader].double(), float(pen[leader])) for step, systems, pen in path
            ],
            best_iou=self.best_iou,
            best_maps=self.best_maps.cpu().double(),
            best_stroke=self.best_stroke,
            resume=self.snapshot(),
        )


def descend(objective: Objective, run: Run) -> Tensor:
    """One step of gradient descent on all systems of a run; their losses (B,) before it."""
    rate, sigma = objective.stage.schedule(run.stage_step)
    if run.stage_step % REFRESH == 0:
        # which words or points are drawn, and how solidly
        objective.refresh(run.maps, run.stroke, sigma)
    losses, gradient = objective.gradient(run.maps, sigma)
    run.adam(gradient, rate)  # and back to contractions
    return losses.detach()


SAVED = tuple(field.name for field in fields(Run) if field.name not in ("setup", "plan"))


def check_resume(resume: object, setup: Setup) -> None:
    """Raise ValueError unless `resume` is what `fit` can go on from with this setup: for a dict
    that was in a file.

    Types and shapes are looked at first, so that nothing is computed of what claims to be too
    large.
    """
    if not isinstance(resume, dict) or resume.keys() != set(SAVED):
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
    if any(
        type(part) is not list or len(part) != len(history[0]) or len(part) > 10**6
        for part in history
    ):
        raise ValueError("trace and path are not lists of one length")
    trace, path_steps, path_maps, path_stroke = history
    for row, step in zip(trace, path_steps, strict=True):
        numbers = (
            [row.get(key) for key in ("step", "size", "loss", "iou")]
            if type(row) is dict
            else [None]
        )
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
        if (
            not isinstance(value, Tensor)
            or value.shape != shape
            or not 1 <= len(value) <= max(2 * most + 4, n)  # two that joined, and all doubled
        ):
            raise ValueError(f"{name} is no tensor of shape {shape}")
        if (
            value.dtype not in (torch.float32, torch.float64)
            or value.requires_grad
            or not value.isfinite().all()
        ):
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
