"""The search for the compact code of a fitted fractal that shows it best: rounding, and a refit to the picture.

A system is a dict with the keys of a checkpoint that say what is drawn: `maps` (n, 2, 3), `window`, `stroke`, `size`.
What is in a file, and how, is said in `ifs_formats`.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import ifs_raster
from ifs_files import InputError
from ifs_fit import GROWN, judge
from ifs_formats import LARGEST, MAX_SPREAD, MOST_CODED, Code, multisets, pack, rank_map, stroke_code
from diff_ifs.backend import convolve
from ifs_model import (
    blur_matrix,
    contract,
    coverage,
    frame,
    pen_discs,
    singular_values,
    splat_descendants,
    turn_and_flip,
)
from ifs_setup import WINDOW

NEARLY = 0.05  # the relative difference of two singular values up to which a map nearly is a similarity
BOXES, SLACK = 48, 1.6  # how many boxes a refit tries at most, and how much worse than the best one they may seem
FEW = 8  # similarities up to which the best point is sought on very many lattices, which costs the cube of their number
MANY, WIDER, AIMS = 200, 4.0, 3  # boxes there, how much worse than the best one they may seem, and points of each
LIKELY, FINAL = 60, 10  # of these points, how many are judged coarsely, and of those, finely
ROUNDS = 4  # of a refit: how often the attractor is linearised anew
DAMPINGS, TRIES, JUDGED = (0.0, 0.1, 0.5), 20, 8  # of whole steps: how bold, from how many starts each, how many judged
SOFT, SOLID = 0.7, 6.0  # blur in pixels, and alpha, of the soft picture that is linearised
NEAR = 0.06  # what a refit may hope to recover of IoU
PACE = 40  # judgements between two looks at how fast single steps get on


# --- Places of the lattice, and between them ---


def maps_of(code: Code, numbers: Tensor) -> Tensor:
    """The maps (n, 2, 3), float64, of whole numbers (n, 6) or (n, 5), as the file gives them back."""
    return torch.tensor(code.maps(numbers.tolist()), dtype=torch.float64)


def maps_at(code: Code, place: Tensor) -> Tensor:
    """The maps (..., n, 2, 3) of a place: of numbers that need not be whole. Differentiable."""
    half, centre = (place.new_tensor([float(x) for x in pair]) for pair in code.frame())
    rows = torch.stack([torch.stack(row, dim=-1) for row in code.rows(place.unbind(-1))], dim=-2)
    unit = rows * ((4 + code.gain) / (4 * code.steps))
    linear = 2 * unit[..., :2] * half[:, None] / half
    return torch.cat([linear, (unit[..., 2] * half + centre - linear @ centre)[..., None]], dim=-1)


def place_of(code: Code, maps: Tensor) -> Tensor:
    """The place (n, 6) or (n, 5) of maps (n, 2, 3), or of the nearest similarities: the inverse of `maps_at`."""
    half, centre = (maps.new_tensor([float(x) for x in pair]) for pair in code.frame())
    # the box's centre goes where the map takes it, so that a similarity is fitted about the middle of the figure
    moved = (maps[..., 2] + maps[..., :2] @ centre - centre) / half
    scale = 4 * code.steps / (4 + code.gain)
    if code.similar:
        turn, flip = turn_and_flip(maps)
        mirror = (flip.norm(dim=-1) > turn.norm(dim=-1))[..., None]
        return torch.cat([torch.where(mirror, flip, turn) / 2 * scale, moved * scale, mirror.to(maps)], dim=-1)
    rows = torch.cat([maps[..., :2] * half / half[:, None] / 2, moved[..., None]], dim=-1)
    return rows.flatten(-2) * scale


def nearest(code: Code, place: Tensor) -> Tensor:
    """The whole numbers (n, 6) or (n, 5), int64, nearest to a place; those outside the lattice are drawn in."""
    numbers = place.detach().double().cpu().round().long()
    for map_ in numbers.numpy():
        for a, b, *shifts in ((0, 1, 2, 3),) if code.similar else ((0, 1, 2), (3, 4, 5)):
            while 2 * (m := abs(map_[a]) + abs(map_[b])) > code.steps:
                larger = a if abs(map_[a]) > abs(map_[b]) else b
                map_[larger] -= np.sign(map_[larger])
            for shift in shifts:
                map_[shift] = map_[shift].clip(2 * m - code.steps, code.steps - 2 * m)
    return numbers


def boxes(
    maps: Tensor, window: Sequence[float], similar: bool = False, most: int = BOXES, slack: float = SLACK
) -> list[dict]:
    """Frames of reference for maps (n, 2, 3), the most promising first: the fields box, gain and spread of a Code.

    The rows of all maps must lie in the octahedron. The best has the least mean square by which points of the attractor
    (taken as spread over its bounds) move when all numbers are rounded, along x times along y; others follow, `most` in
    all, that are at most `slack` times as bad.
    """
    xmin, xmax, ymin, _ = window
    half = (xmax - xmin) / 2
    bounds = ifs_raster.bounds(maps)
    west, east = ((x - xmin - half) / half for x in bounds[:2])
    south, north = ((y - ymin - half) / half for y in bounds[2:])
    maps = maps.double().numpy()
    middle = np.array([xmin + half, ymin + half])
    linear = maps[..., :2]
    shift = (maps[..., 2] + linear @ middle - middle) / half
    for spread in range(MAX_SPREAD + 1):
        edges = [(low, high) for low in range(-10, 6) for high in range(-5, 11) if low < high]
        low, high = np.array(edges, dtype=float).T * 2**spread / 8
        reach, centre = (high - low) / 2, (low + high) / 2
        wide, tall = reach[:, None], reach[None, :]
        spread_x = ((west + east) / 2 - centre) ** 2 + (east - west) ** 2 / 12
        spread_y = ((south + north) / 2 - centre) ** 2 + (north - south) ** 2 / 12
        need = np.zeros((len(edges), len(edges)))
        for ((a, b), (c, d)), (x, y) in zip(linear, shift, strict=True):
            off_x = x + (a - 1) * centre[:, None] + b * centre[None, :]
            off_y = y + c * centre[:, None] + (d - 1) * centre[None, :]
            need = np.maximum(need, abs(a) + (abs(b) * tall + abs(off_x)) / wide)
            need = np.maximum(need, abs(d) + (abs(c) * wide + abs(off_y)) / tall)
        gain = np.ceil(4 * need - 4 - 1e-9).clip(0)
        if similar:
            gain[wide != tall] = np.inf
        far = 1 + 4 * spread_x[:, None] / wide**2 + 4 * spread_y[None, :] / tall**2
        cost = np.where(gain <= 7, wide * tall * (1 + gain.clip(max=7) / 4) ** 2 * far, np.inf)
        if np.isfinite(cost).any():
            order = cost.argsort(axis=None, kind="stable")[:most]
            best = [np.unravel_index(k, cost.shape) for k in order if cost.flat[k] <= slack * cost.min()]
            return [{"box": (*edges[i], *edges[j]), "gain": int(gain[i, j]), "spread": spread} for i, j in best]
    raise InputError("the attractor reaches too far beyond its window to be coded")


# --- The refit: the quantiser in the loop ---


@dataclass(frozen=True)
class Coded:
    """A system as a file holds it, and how good it is."""

    code: Code
    numbers: Tensor
    iou: float  # of the converged attractor with the target

    @property
    def data(self) -> bytes:
        return pack(self.code, self.numbers.tolist())

    @property
    def bits_per_map(self) -> float:
        """Of the body, without header and checksum."""
        return (8 * (self.code.length - 1) - self.code.header()[1]) / self.code.n


def codes(system: dict) -> list[Code]:
    """The ways to code a system: with six numbers a map and, where its maps nearly are similarities, with four.

    Raises InputError for one that the format cannot hold.
    """
    maps, window, size = system["maps"].double(), tuple(system["window"]), int(system["size"])
    if len(maps) > MOST_CODED:
        raise InputError(
            f"a .ifs file holds at most {MOST_CODED} maps, not {len(maps)}; fit again with --maps {MOST_CODED}"
        )
    square = None
    if window != WINDOW:
        square = struct.unpack(">3f", struct.pack(">3f", window[0], window[2], window[1] - window[0]))
    side = square[2] if square else WINDOW[1] - WINDOW[0]
    stroke = stroke_code(system["stroke"], side)
    values = singular_values(maps)
    kinds = (False, True) if ((values[:, 0] - values[:, 1]) <= NEARLY * values[:, 0]).all() else (False,)
    return [
        Code(len(maps), size, **boxes(maps, window, similar)[0], similar=similar, stroke=stroke, window=square)
        for similar in kinds
    ]


def fewest_bytes(code: Code) -> int:
    """Of a file that holds such a system on a lattice of at least eight steps."""
    body = (multisets(8, code.n, code.similar) - 1).bit_length()
    return -(-(body + code.header()[1]) // 8) + 1


def rounded(code: Code, maps: Tensor, target: Tensor) -> Coded:
    """The maps on the nearest points of the lattice, without a refit; drawn together where rounding let one expand."""
    for shrink in (1.0, 0.99, 0.97, 0.95, 0.9, 0.8):
        numbers = nearest(code, place_of(code, contract(maps.double(), shrink * LARGEST)))
        if contracts(code, numbers):
            return Coded(code, numbers, score(code, numbers, target))
    raise InputError(f"{code.length} bytes are too few for {code.n} maps")


def contracts(code: Code, numbers: Tensor) -> bool:
    """Whether all maps shrink the world by at least the factor that files are held to."""
    return bool(singular_values(maps_of(code, numbers)).max() <= LARGEST)


def score(code: Code, numbers: Tensor, target: Tensor, supersample: int = 3, rim: bool = False) -> float:
    """The IoU of the converged attractor with the target, its maps in the order in which a file gives them back.

    With `rim`, edges are drawn, too, which takes longer: see `ifs_raster.occupancy`.
    """
    ranked = sorted(numbers.tolist(), key=lambda map_: rank_map(map_, code.steps, code.similar))
    maps = torch.tensor(code.maps(ranked), dtype=torch.float64)
    return judge(maps, target, code.radius, supersample=supersample, rim=rim)[0]


def refit(
    code: Code,
    maps: Tensor,
    target: Tensor,
    judgements: int = 200,
    goal: float = 1.0,
    progress: Callable[[int], object] = bool,
) -> Coded:
    """The best numbers found for maps (n, 2, 3), in a file as long as `code` says; its box is where the search begins.

    Each box is a lattice of its own, so the one in which plain rounding happens to lose least comes first; of a FEW
    similarities, which should be those that `similarities` finds, the `best_point` of very many boxes. Then the picture
    is linearised around these numbers, whole steps that promise to undo most of the error are found in this model, and
    the most promising are judged by the converged attractor; again and again, as long as that helps.
    At last `improve` tries as many steps as `judgements` says. Stops once the IoU is at least `goal`. `progress` is
    told how many attractors were judged just now.
    """
    best = rounded(code, maps, target)
    if best.iou >= goal:
        return best
    if code.similar and code.n <= FEW:
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


def best_box(code: Code, maps: Tensor, target: Tensor, progress: Callable[[int], object] = bool) -> Coded:
    """The maps rounded in that box in which it costs least, by coarse pictures; the `iou` is that of a finer one."""
    found = []
    for box in boxes(maps, code.edges, code.similar):
        way = replace(code, **box)
        numbers = nearest(way, place_of(way, contract(maps, LARGEST)))
        if fewest_bytes(way) <= way.length and contracts(way, numbers):
            found.append(Coded(way, numbers, score(way, numbers, target, supersample=1)))
            progress(1)
    best = max(found, key=lambda coded: coded.iou, default=None) or rounded(code, maps, target)
    return replace(best, iou=score(best.code, best.numbers, target, supersample=2))


def similarities(code: Code, maps: Tensor, target: Tensor) -> Tensor:
    """The similarities near maps (n, 2, 3) that show the target best, on the finest lattice: steps of Gauss and Newton.

    Those nearest by numbers alone may cost more than a coarse lattice does: the Koch curve, 0.015 of IoU.
    """
    here = rounded(finest(code), maps, target)
    while True:
        hessian, gradient = linearised(here, target)
        found = []
        for damping in (0.0, 0.1, 1.0):
            ridge = damping * hessian.diagonal() + 1e-3 * hessian.diagonal().mean() + 1e-6
            steps = stride(here.code) * torch.linalg.solve(hessian + ridge.diag(), -gradient)
            for part in (1.0, 0.5, 0.25, 0.1):
                numbers = nearest(here.code, stepped(here.numbers, part * steps))
                if contracts(here.code, numbers):
                    found.append(Coded(here.code, numbers, score(here.code, numbers, target)))
        best = max(found, key=lambda coded: coded.iou, default=here)
        if best.iou <= here.iou:
            return maps_of(here.code, here.numbers)
        here = best


def finest(code: Code) -> Code:
    """The same with so many bytes that its lattice is the finest there is, or nearly."""
    return replace(code, length=code.header()[1] // 8 + 9 * code.n + 2)


def stepped(numbers: Tensor, steps: Tensor) -> Tensor:
    """Numbers (n, 6) or (n, 5) after steps (m,), to the nearest whole ones, in all but the mirrors of the maps."""
    moved = numbers.clone()
    moved[:, : len(steps) // len(numbers)] += steps.round().long().unflatten(0, (len(numbers), -1))
    return moved


def best_point(code: Code, maps: Tensor, target: Tensor, progress: Callable[[int], object] = bool) -> Coded:
    """Of all lattices whose boxes will do, the point near maps (n, 2, 3), similarities, that shows the target best.

    How much points near the maps cost is told by the picture linearised once, on the finest lattice: the numbers on any
    other lattice are affine functions of those. Those that promise to cost least are judged, LIKELY ones by a coarser
    attractor, and FINAL ones of these once more.
    """
    fine = finest(code)
    start = nearest(fine, place_of(fine, maps))
    hessian = linearised(Coded(fine, start, 0.0), target)[0] / stride(fine) ** 2
    at_start = maps_at(fine, start.double())
    generator, found = torch.Generator().manual_seed(0), []
    for box in boxes(maps, code.edges, similar=True, most=MANY, slack=WIDER):
        way = replace(code, **box)
        if fewest_bytes(way) > way.length:
            continue
        place = place_of(way, at_start)
        back = []  # what a number of each map is on this lattice where one on the finest is raised by 1
        for step in torch.eye(5, dtype=torch.float64)[:4]:
            back.append((place_of(way, maps_at(fine, start + step)) - place)[:, :4])
        back = torch.linalg.inv(torch.block_diag(*torch.stack(back, dim=-1)))
        here = back.T @ hessian @ back
        here += (1e-3 * here.diagonal().mean() + 1e-9) * torch.eye(len(here), dtype=torch.float64)
        numbers = nearest(way, place)
        off = (numbers - place)[:, :4].flatten()
        for k in range(AIMS):
            steps = nearest_plane(here, here @ off, generator) if k else torch.zeros_like(off)
            steps, promise = pairwise(here, here @ off, steps)
            found.append((float(off @ here @ off) / 2 + promise, way, nearest(way, stepped(numbers, steps))))
    likely: list[Coded] = []
    for _, way, numbers in sorted(found, key=lambda point: point[0]):
        if len(likely) == LIKELY:
            break
        if contracts(way, numbers) and not any(way == of.code and torch.equal(numbers, of.numbers) for of in likely):
            likely.append(Coded(way, numbers, score(way, numbers, target, supersample=2)))
            progress(1)
    likely = sorted(likely, key=lambda coded: -coded.iou)[:FINAL]
    final = [replace(coded, iou=score(coded.code, coded.numbers, target)) for coded in likely]
    progress(len(final))
    return max(final, key=lambda coded: coded.iou, default=None) or rounded(code, maps, target)


def linearised(here: Coded, target: Tensor) -> tuple[Tensor, Tensor]:
    """H (m, m) and g (m,): m strides n of the numbers change half the squared error of the picture by n·Hn / 2 + g·n.

    That is the model of Gauss and Newton. The error is that of the converged attractor; how pictures change with the
    numbers is taken from a soft one, of the points that the attractor is grown from, by finite differences over half
    a stride either way. Pictures have at most 256 pixels a side, and fewer if there are very many maps.
    """
    code, columns = here.code, 4 if here.code.similar else 6
    count, side = code.n * columns, min(len(target), 256)
    while count * side**2 > 1 << 25:
        side //= 2
    radius = torch.tensor([code.radius * side / 2]).clamp(max=16)  # wider pens would take long
    ancestry = ifs_raster.ancestry(maps_of(code, here.numbers), WINDOW, GROWN * side)
    to, blur = torch.tensor(frame(WINDOW, side)), blur_matrix(side, SOFT, target)

    def soft(place: Tensor) -> Tensor:
        density = splat_descendants(maps_at(code, place).float(), ancestry, to, 1 / GROWN**2, side)
        if radius > 1:  # a curve's points, two a pixel, are spread over the pen's width
            density = 4 * radius * convolve(density[None], pen_discs(radius, int(radius + 2)))[0]
        return coverage(blur @ density @ blur, SOLID).flatten()

    slopes, half = torch.empty(count, side**2), stride(code) / 2
    for k in range(count):
        step = torch.zeros(code.n, here.numbers.shape[1], dtype=torch.float64)
        step[divmod(k, columns)] = half
        slopes[k] = soft(here.numbers + step) - soft(here.numbers - step)
    error = judge(maps_of(code, here.numbers), target, code.radius, supersample=2, rim=False).picture - target
    smooth = blur_matrix(side, SOFT, target)
    error = smooth @ torch.nn.functional.adaptive_avg_pool2d(error[None, None], side)[0, 0] @ smooth
    return (slopes @ slopes.T).double(), (slopes @ error.flatten()).double()


def whole_steps(here: Coded, target: Tensor, progress: Callable[[int], object] = bool) -> list[Coded]:
    """Codes a few whole strides away in many numbers at once, that the linearised picture promises to be better."""
    hessian, gradient = linearised(here, target)
    generator, found = torch.Generator().manual_seed(0), {}
    ridge = 1e-3 * hessian.diagonal().mean() + 1e-6  # some numbers may change nothing
    for damping in DAMPINGS:
        damped = hessian + (damping * hessian.diagonal() + ridge).diag()
        ends = {}
        for k in range(TRIES):
            steps = torch.randint(-1, 2, gradient.shape, generator=generator) * float(k > 0)
            steps = nearest_plane(damped, gradient, generator) if k % 2 else steps.double()
            steps, promise = pairwise(damped, gradient, steps)
            ends[tuple(steps.tolist())] = promise
        for steps in sorted(ends, key=ends.get)[:JUDGED]:
            moved = nearest(here.code, stepped(here.numbers, stride(here.code) * torch.tensor(steps)))
            found[tuple(moved.flatten().tolist())] = moved
    codes = []
    for numbers in found.values():
        if not torch.equal(numbers, here.numbers) and contracts(here.code, numbers):
            codes.append(Coded(here.code, numbers, score(here.code, numbers, target, supersample=2)))
            progress(1)
    return codes


def nearest_plane(hessian: Tensor, gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Whole steps n (m,) that make n·Hn / 2 + g·n small: one number after the other is rounded, in a random order.

    The others make up for it each time (Babai, On Lovász' lattice reduction, Combinatorica 6, 1986).
    """
    order = torch.randperm(len(gradient), generator=generator)
    hessian = hessian[order][:, order]
    best = torch.linalg.solve(hessian, -gradient[order])
    rows = torch.linalg.cholesky(torch.linalg.inv(hessian)).T
    steps = torch.empty_like(best)
    for k in range(len(best)):
        steps[k] = best[k].round().clamp(-2, 2)
        best[k:] -= (best[k] - steps[k]) / rows[k, k] * rows[k, k:]
    return steps[order.argsort()]


def promises(hessian: Tensor, gradient: Tensor) -> Tensor:
    """What steps ± 1 in one or two numbers change n·Hn / 2 + g·n by, (2 m, 2 m): + 1 first; on the diagonal, in one."""
    count = len(gradient)
    one = torch.cat([gradient, -gradient]) + hessian.diagonal().repeat(2) / 2
    two = one + one[:, None] + torch.cat([torch.cat([hessian, -hessian], 1), torch.cat([-hessian, hessian], 1)])
    same = torch.arange(count)
    two[same, same + count] = two[same + count, same] = torch.inf
    return two.diagonal_scatter(one)


def pairwise(hessian: Tensor, gradient: Tensor, steps: Tensor) -> tuple[Tensor, float]:
    """Whole steps (m,) made better, from others, by changing one or two of them by 1 at a time; and n·Hn / 2 + g·n."""
    count = len(gradient)
    for _ in range(2 * count):
        changes = promises(hessian, gradient + hessian @ steps)
        k = int(changes.argmin())
        if changes.flatten()[k] > -1e-9:
            break
        steps = steps.clone()
        for number in {k // (2 * count), k % (2 * count)}:
            steps[number % count] += 1 if number < count else -1
    return steps, float(steps @ hessian @ steps / 2 + gradient @ steps)


def improve(
    best: Coded, target: Tensor, judgements: int, goal: float = 1.0, progress: Callable[[int], object] = bool
) -> Coded:
    """Move one or two numbers by a stride, or the stroke by a step, wherever the converged attractor gets better.

    Those come first of which the linearised picture promises most. Attractors are judged with coarser sub-pixels here,
    at less than half the cost; the best is judged again.
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
        if judged % PACE == PACE - 1:  # give up where the goal is further than the pace of late would lead
            milestones.append(here.iou)
            pace = (milestones[-1] - milestones[-2]) / PACE
            if goal < 1 and goal - here.iou > pace * (judgements - judged):
                break
        if fresh:
            changes = promises(hessian, gradient)
            changes[tuple(torch.tril_indices(2 * count, 2 * count, -1))] = torch.inf
            order = changes.flatten().topk(min(4 * judgements, count**2), largest=False).indices.tolist()
            moves = [frozenset(divmod(k, 2 * count)) for k in order]
            if here.code.stroke:
                moves[8:8] = [frozenset({2 * count}), frozenset({2 * count + 1})]
            moves, fresh = [move for move in moves if move not in tried], False
        if not moves:
            break
        move = moves.pop(0)
        tried.add(move)
        progress(1)
        code, steps = here.code, torch.zeros_like(gradient)
        for k in move:
            if k >= 2 * count:
                code = replace(code, stroke=min(max(1, code.stroke + 1 - 2 * (k % 2)), 255))
            else:
                steps[k % count] = 1 if k < count else -1
        numbers = stepped(here.numbers, reach * steps)
        if not torch.equal(numbers, nearest(code, numbers)) or not contracts(code, numbers):
            continue
        iou = score(code, numbers, target, supersample=2)
        if iou > here.iou:
            here, fresh, gradient = Coded(code, numbers, iou), True, gradient + hessian @ steps
            if iou >= goal and score(code, numbers, target) >= goal:
                break
    here = replace(here, iou=score(here.code, here.numbers, target))
    return here if here.iou > best.iou else best


def stride(code: Code) -> int:
    """The steps of the lattice that make about a tenth of a pixel of 256 × 256: shorter moves tell nothing apart."""
    return max(1, code.steps // 1000)


def fit_into(system: dict, target: Tensor, length: int, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The best code found of a system (a checkpoint's dict) in at most `length` bytes. Raises InputError if none."""
    ways = ways_into(system, length)
    if not ways:
        least = min(map(fewest_bytes, codes(system)))
        raise InputError(f"{len(system['maps'])} maps need at least {least} bytes, not {length}; or fit fewer maps")
    maps = starts(system, target)
    found = [refit(code, maps[code.similar], target, judgements, progress=progress) for code in ways]
    return max(found, key=lambda found: found.iou)


def ways_into(system: dict, length: int) -> list[Code]:
    """The ways to code a system in at most `length` bytes.

    A few similarities have so few numbers that chance decides which lattice suits them: shorter files are tried, too.
    """
    ways = [replace(code, length=length - less) for code in codes(system) for less in range(3 if code.similar else 1)]
    return [code for code in ways if fewest_bytes(code) <= code.length]


def fit_bits(system: dict, target: Tensor, bits: float, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The best code found of a system that has so many bits for each number of a map: six, or four of a similarity."""
    code = codes(system)[-1]
    body = code.header()[1] + bits * (4 if code.similar else 6) * code.n
    code = replace(code, length=max(fewest_bytes(code), math.ceil(body / 8) + 1))
    return refit(code, starts(system, target)[code.similar], target, judgements, progress=progress)


def fit_within(system: dict, target: Tensor, goal: float, judgements: int = 200, progress: Callable = bool) -> Coded:
    """The code of a system in the fewest bytes found whose IoU with the target is at least `goal`.

    Raises InputError if there is none.
    """
    maps, best = starts(system, target), None

    def plain(code: Code, length: int) -> Coded:
        progress(1)
        return rounded(replace(code, length=length), maps[code.similar], target)

    *affine, last = codes(system)
    if (
        last.similar
    ):  # so few numbers that chance decides which lattice suits them: each length is tried, short ones first
        for length in range(fewest_bytes(last), (last.header()[1] + 13 * 4 * last.n) // 8 + 2):
            found = plain(last, length)
            if goal - NEAR <= found.iou < goal:
                found = refit(found.code, maps[True], target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
                break
    code = affine[0] if affine else last
    least, most = fewest_bytes(code), best.code.length - 1 if best else (code.header()[1] + 16 * 6 * code.n) // 8 + 1
    enough = None
    while least <= most:  # where rounding alone is good enough
        found = plain(code, (least + most) // 2)
        if found.iou < goal:
            least = found.code.length + 1
        else:
            most, enough = found.code.length - 1, found
    if enough is not None:
        best, least = enough, max(fewest_bytes(code), round(0.7 * enough.code.length))
        while least < best.code.length:  # and where a refit is
            code = replace(code, length=(least + best.code.length) // 2)
            found = refit(code, maps[code.similar], target, judgements, goal, progress)
            if found.iou >= goal:
                best = found
            else:
                least = code.length + 1
    if best is None:
        raise InputError(f"no number of bytes reaches an IoU of {goal:.4f}; give a larger --loss, or --bytes N")
    return best


def starts(system: dict, target: Tensor) -> dict[bool, Tensor]:
    """The maps from which the search begins: as they are, and (True) as similarities where they nearly are."""
    maps = canonical(system["maps"])
    return {code.similar: similarities(code, maps, target) if code.similar else maps for code in codes(system)}


def canonical(maps: Tensor) -> Tensor:
    """The maps in an order of their own, float64, so that the order in which they came changes nothing."""
    return torch.tensor(sorted(maps.double().tolist()), dtype=torch.float64)
