"""Which maps of a system may have a smaller or a coarser lattice, and which may go."""

from dataclasses import replace

import torch
from torch import Tensor

from diff_ifs.compress.lattice import Coded, finest, linearised, place_of, round_to_lattice, stride
from diff_ifs.compress.search import fewest_bytes
from diff_ifs.fit.judge import evaluate
from diff_ifs.formats.code import Code
from ifs_model import contract

SMALL = 0.24  # the largest (|A| + |B|) / L of maps that take the smaller lattice, which ends at 1/4


def sensitivities(code: Code, maps: Tensor, target: Tensor) -> Tensor:
    """How much the picture feels each map (n,): of half the squared error's curvature in the
    numbers of the map, the geometric mean over its axes."""
    fine = finest(replace(code, kinds=code.kinds if code.symmetry else ()))
    numbers = round_to_lattice(fine, place_of(fine, maps))
    hessian = linearised(Coded(fine, numbers, 0.0), target)[0] * (fine.steps / stride(fine)) ** 2
    wide = len(hessian) // code.n
    blocks = hessian.unflatten(0, (code.n, wide)).unflatten(2, (code.n, wide))
    blocks = torch.stack([blocks[k, :, k] for k in range(code.n)])
    least = 1e-6 * hessian.diagonal().mean() + 1e-12
    return torch.linalg.eigvalsh(blocks).clamp(min=least).log2().mean(1).exp2()


def graded(code: Code, maps: Tensor, felt: Tensor) -> tuple[Code, Tensor]:
    """The kinds of maps with which rounding should cost least in a file of this length, and the
    maps in the order of their kinds; as they are, if one kind is best."""
    place = place_of(code, maps) / torch.tensor([[kind.steps] for kind in code.each])
    rows = place[:, :4].unflatten(1, (2, 2))[:, :1] if code.similar else place.unflatten(1, (2, 3))
    small = (rows[..., 0].abs() + rows[..., 1].abs()).amax(1) <= SMALL
    alone = torch.tensor([not kind.orbit for kind in code.each]) & (code.symmetry != ())
    kinds = 8 if code.symmetry else 4
    best, cost = (code, maps), float(felt.sum()) / code.steps**2
    order = felt.argsort()
    for coarse in range(code.n):
        grade = 4 * alone.long() + 2 * small.long()
        grade[order[:coarse]] += 1
        counts = torch.bincount(grade, minlength=kinds).tolist()
        way, by_kind = replace(code, kinds=tuple(counts)), grade.argsort(stable=True)
        if fewest_bytes(way) > way.length:
            continue
        steps = torch.tensor([kind.steps for kind in way.each])
        rounding = float((felt[by_kind] / steps**2).sum())
        if rounding < cost:
            best, cost = (way, maps[by_kind]), rounding
    return best


def fewer(maps: Tensor, target: Tensor, stroke: float) -> Tensor:
    """The maps without the one whose loss costs the picture least."""
    without = [torch.cat([maps[:k], maps[k + 1 :]]) for k in range(len(maps))]
    ious = [
        evaluate(contract(some), target, stroke, supersample=1, quality="draft").iou
        for some in without
    ]
    return without[ious.index(max(ious))]
