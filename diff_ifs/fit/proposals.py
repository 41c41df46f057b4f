"""Where a fit starts, and copies of a system with maps placed anew.

Letters in shapes: B systems, n maps, S side of the picture.
"""

import math

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from diff_ifs.draw.coverage import occupancy
from diff_ifs.fit.collage import Collage, moments, roots
from diff_ifs.metrics import foreground, pixel_centres, pooled
from diff_ifs.setup import WINDOW, Setup
from ifs_model import area_weights, centroid, contract, determinants, rotations

THIN = 2.5  # half thickness in pixels up to which a picture counts as drawn with a pen


def random_maps(target: Tensor, starts: int, n: int, generator: torch.Generator) -> Tensor:
    """Random systems (B, n, 2, 3) whose maps share the picture (S, S) out among themselves.

    The maps send the picture's centre of mass to the centres of a k-means clustering of its pixels
    (a few rounds of Lloyd's algorithm from random pixels), shrink it to its cluster's share of the
    area, and turn, stretch and reflect it at random.
    """
    coarse = pooled(target.cpu(), 64)
    on = coarse >= min(0.5, float(coarse.max()))
    pixels, mass = pixel_centres(on), coarse[on]
    middle = (pixels * mass[:, None]).sum(0) / mass.sum()
    systems = []
    for _ in range(starts):
        centres = pixels[torch.multinomial(mass, n, replacement=len(mass) < n, generator=generator)]
        for _ in range(3):
            owner = F.one_hot(torch.cdist(pixels, centres).argmin(1), n) * mass[:, None]
            share = owner.sum(0)
            centres = (owner.T @ pixels) / share.clamp(min=1e-6)[:, None]
        scale = (share / share.sum()).sqrt()
        turn, lean = 2 * math.pi * torch.rand(2, n, generator=generator)
        stretch = torch.exp(0.3 * torch.randn(n, generator=generator))
        sign = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1
        axes = torch.stack([scale * stretch, sign * scale / stretch], dim=-1)
        linear = rotations(turn) @ (axes[:, :, None] * rotations(lean))
        systems.append(torch.cat([linear, (centres - linear @ middle)[..., None]], dim=-1))
    return torch.stack(systems)


def pen_radius(target: Tensor) -> float:
    """Half the thickness, in world units, of a picture (S, S) drawn with a thin pen; 0 for a solid
    one.

    Along a strip of half-width w, the mean distance of its points to the outside is w / 2.
    """
    pixels = foreground(target.cpu())
    inside = torch.from_numpy(distance_transform_edt(pixels.numpy()))[pixels]
    half_width = 2 * (float(inside.mean()) - 0.5) if len(inside) else 0.0
    return max(half_width, 0.5) * 2 / len(target) if half_width <= THIN else 0.0


def mutate(systems: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Copies of one system, (B, n, 2, 3), in each of which one or two maps are placed or turned
    anew at random.

    A map, small ones first, is moved to a pixel of the target (S, S) that the attractor misses, as
    large as its like, or with the mean and covariance of all that is missed nearby, which may be as
    flat as a stem; or one keeps its place but is turned or reflected about it. In half of the
    copies, maps are taken away and others placed where that leaves a gap in the collage. Descent
    alone does none of these: it follows the nearest slope.
    """
    systems, maps, side = systems.clone(), systems[0].double(), len(target)
    target = target.cpu()
    missed = (target - occupancy(maps, WINDOW, side, supersample=1, quality="draft")).clamp(
        min=0
    ).flatten() + 1e-6
    middle = centroid(maps, area_weights(maps)).float()
    area = determinants(systems[0]).abs()
    pixels = pixel_centres(torch.ones(side, side, dtype=torch.bool))
    _, spread = moments(pixels, target.flatten()[None])
    whole = torch.linalg.inv(roots(spread)[0])
    collage = Collage(target)

    def chance() -> float:
        return float(torch.rand((), generator=generator))

    noise = torch.full((len(systems), 1, 1, 1), 0.01)
    for b, system in enumerate(systems):
        if chance() < 0.5:
            fill_gaps(
                system, collage, 1 if chance() < 0.6 else 2 if chance() < 0.6 else 3, generator
            )
            noise[b] = 0.003
            continue
        for _ in range(1 if chance() < 0.6 else 2):
            linear = rotations(2 * math.pi * torch.rand((), generator=generator))
            if chance() < 0.5:
                linear = linear @ torch.diag(torch.tensor([1.0, -1.0]))
            if chance() < 0.5:
                k = int(
                    torch.multinomial(1 / (area + 0.2 * area.mean() + 1e-9), 1, generator=generator)
                )
                place = pixels[int(torch.multinomial(missed, 1, generator=generator))]
                if chance() < 0.5:
                    reach = 0.05 * 8 ** chance()
                    near = torch.exp((pixels - place).square().sum(1) / (-2 * reach**2))
                    means, spreads = moments(pixels, (missed * near)[None])
                    place, linear = means[0], roots(spreads)[0] @ linear @ whole
                else:
                    stretch = math.exp(0.4 * float(torch.randn((), generator=generator)))
                    linear = linear * area.median().sqrt() * 0.7 * stretch
            else:
                k = int(torch.randint(len(area), (), generator=generator))
                place = system[k, :, :2] @ middle + system[k, :, 2]
                linear = system[k, :, :2] @ linear
            system[k] = torch.cat([linear, (place - linear @ middle)[:, None]], dim=1)
    return systems + noise * torch.randn(systems.shape, generator=generator)


def fill_gaps(system: Tensor, collage: Collage, count: int, generator: torch.Generator) -> None:
    """Take `count` maps of a system (n, 2, 3), at most all, and place each where its absence leaves
    a gap."""
    order = torch.randperm(len(system), generator=generator)
    taken, present = order[:count], order[count:]
    for k in taken:
        system[k] = collage.place(collage.gap(system[present]), generator)
        present = torch.cat([present, k[None]])


def initial_systems(target: Tensor, setup: Setup) -> Tensor:
    """The systems (B, n, 2, 3) that a fit starts from: the setup's maps and jittered copies, or
    random ones."""
    generator = torch.Generator().manual_seed(setup.seed)
    if isinstance(setup.maps, int | None):
        return contract(random_maps(target, setup.batch, setup.n, generator), min(0.9, setup.bound))
    maps = torch.tensor(setup.maps)
    noise = setup.jitter * torch.randn(setup.batch, *maps.shape, generator=generator)
    noise[0] = 0
    return contract(maps + noise, setup.bound)
