"""Maps rounded to few bytes, and fitted to their picture once more.

A system is a dict with the keys of a checkpoint that say what is drawn: `maps` (n, 2, 3), `window`,
`stroke`, `size`. What is in a file, and how, is said in `diff_ifs.formats.code`.
"""

import struct
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.compress.lattice import (
    Coded,
    boxes,
    finest,
    linearised,
    maps_at,
    maps_of,
    nearest_plane,
    pair_descent,
    place_of,
    predicted_changes,
    round_to_lattice,
    stepped,
    stride,
    whole,
)
from diff_ifs.draw.geometry import Quality
from diff_ifs.errors import InputError
from diff_ifs.fit.judge import evaluate
from diff_ifs.formats.code import CENTRE, LARGEST, MOST_CODED, Code, stroke_code
from diff_ifs.setup import WINDOW
from ifs_model import contract, singular_values

# the relative difference of two singular values up to which a map nearly is a similarity
NEARLY = 0.05
# numbers up to which the best point is sought on very many lattices, which costs the cube of their
# number
FEW = 32
# boxes there, how much worse than the best one they may seem, and points of each
MANY, WIDER, AIMS = 120, 4.0, 3
LIKELY, FINAL = 40, 8  # of these points, how many are judged coarsely, and of those, finely
ROUNDS = 4  # of a refit: how often the attractor is linearised anew
# of whole steps: how bold, from how many starts each, how many judged
DAMPINGS, TRIES, JUDGED = (0.0, 0.1, 0.5), 10, 8
PACE = 40  # judgements between two looks at how fast single steps get on


def encodings(system: dict) -> list[Code]:
    """The ways to code a system: with six numbers a map and, where its maps nearly are
    similarities, with four.

    Raises InputError for one that the format cannot hold.
    """
    maps, window, size = system["maps"].double(), tuple(system["window"]), int(system["size"])
    if len(maps) > MOST_CODED:
        raise InputError(
            f"a .ifs file holds at most {MOST_CODED} maps, not {len(maps)}; "
            f"fit again with --maps {MOST_CODED}"
        )
    square = None
    if window != WINDOW:
        square = struct.unpack(
            ">3f", struct.pack(">3f", window[0], window[2], window[1] - window[0])
        )
    side = square[2] if square else WINDOW[1] - WINDOW[0]
    stroke = stroke_code(system["stroke"], side)
    values = singular_values(maps)
    kinds = (
        (False, True)
        if ((values[:, 0] - values[:, 1]) <= NEARLY * values[:, 0]).all()
        else (False,)
    )
    return [
        Code(
            len(maps),
            size,
            **boxes(maps, window, similar)[0],
            similar=similar,
            stroke=stroke,
            window=square,
        )
        for similar in kinds
    ]


def columns(code: Code) -> int:
    """How many numbers of a map can be moved."""
    return 4 if code.similar else 6


def fewest_bytes(code: Code) -> int:
    """Of a file that holds such a system on lattices of at least eight steps."""
    body = (code.bodies(24 if len(code.kinds) > 2 else 8) - 1).bit_length()
    return -(-(body + code.header()[1]) // 8) + 1


def rounded(code: Code, maps: Tensor, target: Tensor) -> Coded:
    """The maps on the nearest points of the lattice, without a refit; drawn together where rounding
    let one expand."""
    for shrink in (1.0, 0.99, 0.97, 0.95, 0.9, 0.8):
        numbers = round_to_lattice(code, place_of(code, contract(maps.double(), shrink * LARGEST)))
        if contracts(code, numbers):
            return Coded(code, numbers, score(code, numbers, target))
    raise InputError(f"{code.length} bytes are too few for {code.n} maps")


def contracts(code: Code, numbers: Tensor) -> bool:
    """Whether all maps shrink the world by at least the factor that files are held to."""
    return bool(singular_values(maps_of(code, numbers)).max() <= LARGEST)


def score(
    code: Code, numbers: Tensor, target: Tensor, supersample: int = 3, quality: Quality = "draft"
) -> float:
    """The IoU of the converged attractor with the target, its maps in the order in which a file
    gives them back.

    The final quality draws edges, too, which takes longer: see `draw.geometry.Quality`.
    """
    maps = torch.tensor(code.maps(code.in_order(numbers.tolist())), dtype=torch.float64)
    return evaluate(maps, target, code.radius, supersample=supersample, quality=quality)[0]


def refit(
    code: Code,
    maps: Tensor,
    target: Tensor,
    judgements: int = 200,
    goal: float = 1.0,
    progress: Callable[[int], object] = bool,
) -> Coded:
    """The best numbers found for maps (n, 2, 3), in a file as long as `code` says; its box is where
    the search begins.

    Each box is a lattice of its own, so the one in which plain rounding happens to lose least comes
    first; of a FEW similarities, which should be those that `similarities` finds, the `best_point`
    of very many boxes. Then the picture is linearised around these numbers, whole steps that
    promise to undo most of the error are found in this model, and the most promising are judged by
    the converged attractor; again and again, as long as that helps. At last `improve` tries as many
    steps as `judgements` says. Stops once the IoU is at least `goal`. `progress` is told how many
    attractors were judged just now.
    """
    best = rounded(code, maps, target)
    if best.iou >= goal:
        return best
    if columns(code) * code.n <= FEW:
        best = max(best, best_point(code, maps, target, progress), key=lambda coded: coded.iou)
        if best.iou >= goal:
            return best
        here = replace(best, iou=score(best.code, best.numbers, target, supersample=2))
    else:
        here = best_box(code, maps, target, progress)
    for _ in range(ROUNDS):
        found = max(whole_steps(here, target, progress), key=lambda coded: coded.iou, default=here)
        if found.iou <= here.iou:
            break
        here = found
    here = replace(here, iou=score(here.code, here.numbers, target))
    return improve(here if here.iou > best.iou else best, target, judgements, goal, progress)


def best_box(
    code: Code, maps: Tensor, target: Tensor, progress: Callable[[int], object] = bool
) -> Coded:
    """The maps rounded in that box in which it costs least, by coarse pictures; the `iou` is that
    of a finer one."""
    found = []
    for box in boxes(whole(code, maps), code.edges, code.similar):
        way = replace(code, **box)
        numbers = round_to_lattice(way, place_of(way, contract(maps, LARGEST)))
        if fewest_bytes(way) <= way.length and contracts(way, numbers):
            found.append(Coded(way, numbers, score(way, numbers, target, supersample=1)))
            progress(1)
    best = max(found, key=lambda coded: coded.iou, default=None) or rounded(code, maps, target)
    return replace(best, iou=score(best.code, best.numbers, target, supersample=2))


def descended(code: Code, maps: Tensor, target: Tensor) -> tuple[Code, Tensor]:
    """Of the systems that such a code can hold, that near maps (n, 2, 3) which shows the target
    best, on the finest lattice: steps of Gauss and Newton, and of a symmetry's centre.

    Those nearest by numbers alone may cost more than a coarse lattice does: the Koch curve as
    similarities, 0.015 of IoU.
    """
    here = rounded(finest(code), maps, target)
    while True:
        hessian, gradient = linearised(here, target)
        ways = [(nudged(here.code, k, by), here.numbers) for k in range(1, len(here.code.symmetry))
                for by in (-4, -2, -1, 1, 2, 4)]  # fmt: skip
        for damping in (0.0, 0.1, 1.0):
            ridge = damping * hessian.diagonal() + 1e-3 * hessian.diagonal().mean() + 1e-6
            steps = stride(here.code) * torch.linalg.solve(hessian + ridge.diag(), -gradient)
            for part in (1.0, 0.5, 0.25, 0.1):
                moved = stepped(here.numbers, part * steps)
                ways.append((here.code, round_to_lattice(here.code, moved)))
        found = [Coded(*way, score(*way, target)) for way in ways if contracts(*way)]
        best = max(found, key=lambda coded: coded.iou, default=here)
        if best.iou <= here.iou:
            found_code = replace(code, symmetry=here.code.symmetry)
            return found_code, maps_at(here.code, here.numbers.double())
        here = best


def best_point(
    code: Code, maps: Tensor, target: Tensor, progress: Callable[[int], object] = bool
) -> Coded:
    """Of all lattices whose boxes will do, the point near maps (n, 2, 3) that shows the target
    best.

    How much points near the maps cost is told by the picture linearised once, on the finest
    lattice: the numbers on any other lattice are affine functions of those. Those that promise to
    cost least are judged, LIKELY ones by a coarser attractor, and FINAL ones of these once more.
    """
    fine = finest(code)
    start = round_to_lattice(fine, place_of(fine, maps))
    hessian = linearised(Coded(fine, start, 0.0), target)[0] / stride(fine) ** 2
    at_start, wide = maps_at(fine, start.double()), columns(code)
    generator, found = torch.Generator().manual_seed(0), []
    for box in boxes(whole(code, maps), code.edges, code.similar, most=MANY, slack=WIDER):
        way = replace(code, **box)
        if fewest_bytes(way) > way.length:
            continue
        place = place_of(way, at_start)
        # what a number of each map is on this lattice where one on the finest is raised by 1
        back = []
        for step in torch.eye(start.shape[1], dtype=torch.float64)[:wide]:
            back.append((place_of(way, maps_at(fine, start + step)) - place)[:, :wide])
        back = torch.linalg.inv(torch.block_diag(*torch.stack(back, dim=-1)))
        here = back.T @ hessian @ back
        here += (1e-3 * here.diagonal().mean() + 1e-9) * torch.eye(len(here), dtype=torch.float64)
        numbers = round_to_lattice(way, place)
        off = (numbers - place)[:, :wide].flatten()
        for k in range(AIMS):
            steps = nearest_plane(here, here @ off, generator) if k else torch.zeros_like(off)
            steps, promise = pair_descent(here, here @ off, steps)
            found.append(
                (
                    float(off @ here @ off) / 2 + promise,
                    way,
                    round_to_lattice(way, stepped(numbers, steps)),
                )
            )
    likely: list[Coded] = []
    for _, way, numbers in sorted(found, key=lambda point: point[0]):
        if len(likely) == LIKELY:
            break
        if contracts(way, numbers) and not any(
            way == of.code and torch.equal(numbers, of.numbers) for of in likely
        ):
            likely.append(Coded(way, numbers, score(way, numbers, target, supersample=2)))
            progress(1)
    likely = sorted(likely, key=lambda coded: -coded.iou)[:FINAL]
    final = [replace(coded, iou=score(coded.code, coded.numbers, target)) for coded in likely]
    progress(len(final))
    return max(final, key=lambda coded: coded.iou, default=None) or rounded(code, maps, target)


def whole_steps(
    here: Coded, target: Tensor, progress: Callable[[int], object] = bool
) -> list[Coded]:
    """Codes a few whole strides away in many numbers at once, that the linearised picture promises
    to be better."""
    hessian, gradient = linearised(here, target)
    generator, found = torch.Generator().manual_seed(0), {}
    ridge = 1e-3 * hessian.diagonal().mean() + 1e-6  # some numbers may change nothing
    for damping in DAMPINGS:
        damped = hessian + (damping * hessian.diagonal() + ridge).diag()
        ends = {}
        for k in range(TRIES):
            steps = torch.randint(-1, 2, gradient.shape, generator=generator) * float(k > 0)
            steps = nearest_plane(damped, gradient, generator) if k % 2 else steps.double()
            steps, promise = pair_descent(damped, gradient, steps)
            ends[tuple(steps.tolist())] = promise
        for steps in sorted(ends, key=ends.get)[:JUDGED]:
            moved = round_to_lattice(
                here.code, stepped(here.numbers, stride(here.code) * torch.tensor(steps))
            )
            found[tuple(moved.flatten().tolist())] = moved
    codes = []
    for numbers in found.values():
        if not torch.equal(numbers, here.numbers) and contracts(here.code, numbers):
            codes.append(
                Coded(here.code, numbers, score(here.code, numbers, target, supersample=2))
            )
            progress(1)
    return codes


def improve(
    best: Coded,
    target: Tensor,
    judgements: int,
    goal: float = 1.0,
    progress: Callable[[int], object] = bool,
) -> Coded:
    """Move one or two numbers by a stride, or the stroke by a step, wherever the converged
    attractor gets better.

    Those come first of which the linearised picture promises most. Attractors are judged with
    coarser sub-pixels here, at less than half the cost; the best is judged again.
    """
    if best.iou >= goal or judgements == 0:
        return best
    here = replace(best, iou=score(best.code, best.numbers, target, supersample=2))
    hessian, gradient = linearised(here, target)
    count, reach = len(gradient), stride(here.code)
    moves: list[frozenset[int]] = []
    tried: set[frozenset[int]] = set()
    fresh, milestones = True, [here.iou]
    for judged in range(judgements):
        if (
            judged % PACE == PACE - 1
        ):  # give up where the goal is further than the pace of late would lead
            milestones.append(here.iou)
            pace = (milestones[-1] - milestones[-2]) / PACE
            if goal < 1 and goal - here.iou > pace * (judgements - judged):
                break
        if fresh:
            changes = predicted_changes(hessian, gradient)
            changes[tuple(torch.tril_indices(2 * count, 2 * count, -1))] = torch.inf
            order = (
                changes.flatten()
                .topk(min(4 * judgements, count**2), largest=False)
                .indices.tolist()
            )
            moves = [frozenset(divmod(k, 2 * count)) for k in order]
            others = 2 * (bool(here.code.stroke) + max(0, len(here.code.symmetry) - 1))
            moves[8:8] = [frozenset({2 * count + k}) for k in range(others)]
            moves, fresh = [move for move in moves if move not in tried], False
        if not moves:
            break
        move = moves.pop(0)
        tried.add(move)
        progress(1)
        code, steps = here.code, torch.zeros_like(gradient)
        for k in move:
            if k >= 2 * count:
                which, down = divmod(k - 2 * count, 2)
                code = nudged(code, which + (not code.stroke), 1 - 2 * down)
            else:
                steps[k % count] = 1 if k < count else -1
        numbers = stepped(here.numbers, reach * steps)
        if not torch.equal(numbers, round_to_lattice(code, numbers)) or not contracts(
            code, numbers
        ):
            continue
        iou = score(code, numbers, target, supersample=2)
        if iou > here.iou:
            here, fresh, gradient = Coded(code, numbers, iou), True, gradient + hessian @ steps
            if iou >= goal and score(code, numbers, target) >= goal:
                break
    here = replace(here, iou=score(here.code, here.numbers, target))
    return here if here.iou > best.iou else best


def nudged(code: Code, which: int, by: int) -> Code:
    """The code with its stroke (0), or a coordinate of its symmetry's centre (1, 2), moved by so
    many steps."""
    if which == 0:
        return replace(code, stroke=min(max(1, code.stroke + by), 255))
    places = list(code.symmetry)
    places[which] = min(max(-CENTRE, places[which] + by), CENTRE - 1)
    return replace(code, symmetry=tuple(places))
