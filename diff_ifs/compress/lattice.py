"""Maps on a lattice: places, boxes, and the picture as a linear function of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diff_ifs.backend import convolve
from diff_ifs.draw import geometry
from diff_ifs.draw.growth import address_tree
from diff_ifs.errors import InputError
from diff_ifs.fit.judge import evaluate
from diff_ifs.fit.objective import GROWN
from diff_ifs.formats.code import MAX_SPREAD, Code, pack
from diff_ifs.setup import WINDOW
from ifs_model import blur_matrix, coverage, frame, pen_discs, splat_tree, turn_and_flip

# how many boxes a refit tries at most, and how much worse than the best one they may seem
BOXES, SLACK = 48, 1.6
SOFT, SOLID = 0.7, 6.0  # blur in pixels, and alpha, of the soft picture that is linearised
SIDE = 128  # of these pictures, at most; 256 is no better, and takes four times as long


def maps_of(code: Code, numbers: Tensor) -> Tensor:
    """The maps of a system (N, 2, 3), float64, of whole numbers (n, 6) or (n, 5), as the file gives
    them back."""
    return torch.tensor(code.maps(numbers.tolist()), dtype=torch.float64)


def maps_at(code: Code, place: Tensor) -> Tensor:
    """The maps (..., n, 2, 3) of a place: of numbers that need not be whole. Differentiable."""
    half, centre = (place.new_tensor([float(x) for x in pair]) for pair in code.frame)
    rows = torch.stack([torch.stack(row, dim=-1) for row in code.rows(place.unbind(-1))], dim=-2)
    unit = rows / _scale(code, place)[..., None]
    linear = 2 * unit[..., :2] * half[:, None] / half
    return torch.cat([linear, (unit[..., 2] * half + centre - linear @ centre)[..., None]], dim=-1)


def place_of(code: Code, maps: Tensor) -> Tensor:
    """The place (n, 6) or (n, 5) of maps (n, 2, 3), or of the nearest similarities: the inverse of
    `maps_at`."""
    half, centre = (maps.new_tensor([float(x) for x in pair]) for pair in code.frame)
    # the box's centre goes where the map takes it, so that a similarity is fitted about the middle
    # of the figure
    moved = (maps[..., 2] + maps[..., :2] @ centre - centre) / half
    scale = _scale(code, maps)
    if code.similar:
        turn, flip = turn_and_flip(maps)
        mirror = (flip.norm(dim=-1) > turn.norm(dim=-1))[..., None]
        return torch.cat(
            [torch.where(mirror, flip, turn) / 2 * scale, moved * scale, mirror.to(maps)], dim=-1
        )
    rows = torch.cat([maps[..., :2] * half / half[:, None] / 2, moved[..., None]], dim=-1)
    return rows.flatten(-2) * scale


def _scale(code: Code, like: Tensor) -> Tensor:
    """What the numbers of each map are divided by, (n, 1)."""
    return like.new_tensor([[4 * kind.steps / (4 + code.gain)] for kind in code.each])


def whole(code: Code, maps: Tensor) -> Tensor:
    """The maps of a system (N, 2, 3), of those that its file holds (n, 2, 3). Differentiable."""
    found = []
    moves = [
        tuple(
            maps.new_tensor([[float(x) for x in row] for row in part]) for part in (turn, [about])
        )
        for turn, about in code.moves()
    ]
    for kind, map_ in zip(code.each, maps, strict=True):
        found.append(map_)
        for turn, (about,) in moves if kind.orbit else ():
            linear = turn @ map_[:, :2] @ turn.T
            off = map_[:, :2] @ about + map_[:, 2] - about
            found.append(torch.cat([linear, (turn @ off + about - linear @ about)[:, None]], dim=1))
    return torch.stack(found)


def round_to_lattice(code: Code, place: Tensor) -> Tensor:
    """The whole numbers (n, 6) or (n, 5), int64, nearest to a place; those outside the lattice are
    drawn in."""
    numbers = place.detach().double().cpu().round().long()
    for kind, map_ in zip(code.each, numbers.numpy(), strict=True):
        for a, b, *shifts in ((0, 1, 2, 3),) if code.similar else ((0, 1, 2), (3, 4, 5)):
            while (m := abs(map_[a]) + abs(map_[b])) > kind.rings:
                larger = a if abs(map_[a]) > abs(map_[b]) else b
                map_[larger] -= np.sign(map_[larger])
            for shift in shifts:
                map_[shift] = map_[shift].clip(2 * m - kind.steps, kind.steps - 2 * m)
    return numbers


def boxes(
    maps: Tensor,
    window: Sequence[float],
    similar: bool = False,
    most: int = BOXES,
    slack: float = SLACK,
) -> list[dict]:
    """Frames of reference for maps (n, 2, 3), the most promising first: the fields box, gain and
    spread of a Code.

    The rows of all maps must lie in the octahedron. The best has the least mean square by which
    points of the attractor (taken as spread over its bounds) move when all numbers are rounded,
    along x times along y; others follow, `most` in all, that are at most `slack` times as bad.
    """
    xmin, xmax, ymin, _ = window
    half = (xmax - xmin) / 2
    middle = np.array([xmin + half, ymin + half])
    bounds = (np.array(geometry.bounds(maps)) - middle.repeat(2)) / half
    far = [((low + high) / 2) ** 2 + (high - low) ** 2 / 12 for low, high in bounds.reshape(2, 2)]
    maps = maps.double().numpy()
    linear = abs(maps[..., :2])
    shift = abs((maps[..., 2] + maps[..., :2] @ middle - middle) / half)
    halves, gains = np.arange(1, 17), np.arange(8)
    for spread in range(MAX_SPREAD + 1):
        reach = halves * 2**spread / 16
        wide, tall = reach[:, None, None], reach[None, :, None]
        need = np.zeros((16, 16, 1))
        for ((a, b), (c, d)), (x, y) in zip(linear, shift, strict=True):
            need = np.maximum(need, a + (b * tall + x) / wide)
            need = np.maximum(need, d + (c * wide + y) / tall)
        spread_out = 1 + 4 * far[0] / wide**2 + 4 * far[1] / tall**2
        cost = wide * tall * (1 + gains / 4) ** 2 * spread_out
        cost[(4 * need - 4 - 1e-9 > gains) | (similar & (wide != tall))] = np.inf
        if np.isfinite(cost).any():
            order = cost.argsort(axis=None, kind="stable")[:most]
            best = [k for k in order if cost.flat[k] <= slack * cost.min()]
            places = [[int(x) for x in np.unravel_index(k, cost.shape)] for k in best]
            return [
                {"box": (-i - 1, i + 1, -j - 1, j + 1), "gain": gain, "spread": spread}
                for i, j, gain in places
            ]
    raise InputError("the attractor reaches too far beyond its window to be coded")


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
        return (8 * (self.code.length - 1) - self.code.header()[1]) / self.code.drawn


def finest(code: Code) -> Code:
    """The same with so many bytes that its lattice is the finest there is, or nearly."""
    return replace(code, length=code.header()[1] // 8 + 9 * code.n + 2)


def stepped(numbers: Tensor, steps: Tensor) -> Tensor:
    """Numbers (n, 6) or (n, 5) after steps (m,), to the nearest whole ones, in all but the mirrors
    of the maps."""
    moved = numbers.clone()
    moved[:, : len(steps) // len(numbers)] += steps.round().long().unflatten(0, (len(numbers), -1))
    return moved


def linearised(here: Coded, target: Tensor) -> tuple[Tensor, Tensor]:
    """H (m, m) and g (m,): m strides n of the numbers change half the squared error of the picture
    by n·Hn / 2 + g·n.

    That is the model of Gauss and Newton. The error is that of the converged attractor; how
    pictures change with the numbers is taken from a soft one, of the points that the attractor is
    grown from, by finite differences over half a stride either way. Pictures have at most SIDE
    pixels a side, and fewer if there are very many maps.
    """
    code, columns = here.code, 4 if here.code.similar else 6
    count, side = code.n * columns, min(len(target), SIDE)
    while count * side**2 > 1 << 25:
        side //= 2
    radius = torch.tensor([code.radius * side / 2]).clamp(max=16)  # wider pens would take long
    tree = address_tree(maps_of(code, here.numbers), WINDOW, GROWN * side)
    to, blur = torch.tensor(frame(WINDOW, side)), blur_matrix(side, SOFT, target)

    def soft(place: Tensor) -> Tensor:
        density = splat_tree(
            whole(code, maps_at(code, place)).float(), tree, to, 1 / GROWN**2, side
        )
        if radius > 1:  # a curve's points, two a pixel, are spread over the pen's width
            density = 4 * radius * convolve(density[None], pen_discs(radius, int(radius + 2)))[0]
        return coverage(blur @ density @ blur, SOLID).flatten()

    slopes, half = torch.empty(count, side**2), stride(code) / 2
    for k in range(count):
        step = torch.zeros(code.n, here.numbers.shape[1], dtype=torch.float64)
        step[divmod(k, columns)] = half
        slopes[k] = soft(here.numbers + step) - soft(here.numbers - step)
    error = (
        evaluate(
            maps_of(code, here.numbers), target, code.radius, supersample=2, quality="draft"
        ).picture
        - target
    )
    smooth = blur_matrix(side, SOFT, target)
    error = smooth @ torch.nn.functional.adaptive_avg_pool2d(error[None, None], side)[0, 0] @ smooth
    return (slopes @ slopes.T).double(), (slopes @ error.flatten()).double()


def nearest_plane(hessian: Tensor, gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Whole steps n (m,) that make n·Hn / 2 + g·n small: one number after the other is rounded, in
    a random order.

    The others make up for it each time (Babai, On Lovász' lattice reduction, Combinatorica 6,
    1986).
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


def predicted_changes(hessian: Tensor, gradient: Tensor) -> Tensor:
    """What steps ± 1 in one or two numbers change n·Hn / 2 + g·n by, (2 m, 2 m): + 1 first; on the
    diagonal, in one."""
    count = len(gradient)
    one = torch.cat([gradient, -gradient]) + hessian.diagonal().repeat(2) / 2
    two = (
        one
        + one[:, None]
        + torch.cat([torch.cat([hessian, -hessian], 1), torch.cat([-hessian, hessian], 1)])
    )
    same = torch.arange(count)
    two[same, same + count] = two[same + count, same] = torch.inf
    return two.diagonal_scatter(one)


def pair_descent(hessian: Tensor, gradient: Tensor, steps: Tensor) -> tuple[Tensor, float]:
    """Whole steps (m,) made better, from others, by changing one or two of them by 1 at a time; and
    n·Hn / 2 + g·n."""
    count = len(gradient)
    for _ in range(2 * count):
        changes = predicted_changes(hessian, gradient + hessian @ steps)
        k = int(changes.argmin())
        if changes.flatten()[k] > -1e-9:
            break
        steps = steps.clone()
        for number in {k // (2 * count), k % (2 * count)}:
            steps[number % count] += 1 if number < count else -1
    return steps, float(steps @ hessian @ steps / 2 + gradient @ steps)


def stride(code: Code) -> int:
    """The steps of the lattice that make about a tenth of a pixel of 256 × 256: shorter moves tell
    nothing apart."""
    return max(1, code.steps // 1000)
