"""Maps that fill the gaps that other maps leave.

If the maps send a picture to pieces that make it up again, their attractor is like the picture
(collage theorem, Barnsley et al., "Solution of an inverse problem for fractals and other sets",
PNAS 83, 1986). With all maps but one given, the last has six numbers and a cost that takes
microseconds: so it is searched, not descended.

Letters in shapes: U pixels that are left, P pixels of the picture, C candidates, E trials, n maps.
"""

import math

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from diff_ifs.backend import arrays, load_kernels
from diff_ifs.metrics import pixel_centres, pooled
from ifs_model import rotations, singular_values

SIDE = 64  # pixels a side in which collages are compared
CANDIDATES = 8  # of which the best is taken
TRIALS = 120  # changes that are tried on each
SAMPLE = 200  # pixels that a cost is taken over
REACHES = (0.05, 0.8)  # of the part of the gap that a candidate begins from, in world units
CAPS = (0.03, 0.15)  # distance from which on a pixel counts as not meant to be met, in world units
FINEST = 0.003  # step at which a candidate is left as it is
# largest singular value: a map that hardly moves the picture covers all of it, and says nothing
WIDEST = 0.88


def moments(pixels: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Means (C, 2) and covariances (C, 2, 2) of pixels (P, 2), for masses (C, P)."""
    mass = mass / mass.sum(1, keepdim=True)
    mean = mass @ pixels
    away = pixels - mean[:, None]
    return mean, (mass[..., None] * away).mT @ away


def roots(covariances: Tensor) -> Tensor:
    """Symmetric square roots of covariances (C, 2, 2); a pixel wide at least, for the inverses."""
    values, axes = torch.linalg.eigh(covariances)
    return (axes * values.clamp(min=1e-5).sqrt()[:, None]) @ axes.mT


def clip_width(maps: Tensor) -> Tensor:
    """Maps (C, 2, 3), the too wide ones scaled down to WIDEST about the image of the middle."""
    scale = (WIDEST / singular_values(maps)[:, 0]).clamp(max=1)
    return torch.cat([maps[..., :2] * scale[:, None, None], maps[..., 2:]], dim=-1)


class Collage:
    """A target (S, S), to be made up of its images under maps. Pixels are seen from their middle,
    in world units.
    """

    def __init__(self, target: Tensor):
        coarse = pooled(target.double().cpu(), SIDE)
        on = coarse >= min(0.5, float(coarse.max()))
        pixels = pixel_centres(on, torch.float64)
        mean, covariance = moments(pixels, torch.ones(1, len(pixels), dtype=torch.float64))
        self.middle, self.pixels = mean[0], pixels - mean
        # makes the picture as wide as it is high
        self.round = torch.linalg.inv(roots(covariance)[0])
        self.away = torch.from_numpy(distance_transform_edt(~on.numpy())) * (2 / len(on))

    def gap(self, maps: Tensor) -> Tensor:
        """Which pixels (P,) no image under maps (n, 2, 3) falls into."""
        given = arrays(maps.double().cpu(), self.pixels, self.middle)
        return torch.from_numpy(load_kernels().gap(*given, len(self.away)))

    def place(self, gap: Tensor, generator: torch.Generator) -> Tensor:
        """A map (2, 3) for a gap (P,): the best of several, begun with the moments of its parts."""
        left = self.pixels[gap if int(gap.sum()) > 3 else torch.ones_like(gap)]
        share = len(left) / len(self.pixels)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        def some(pixels: Tensor, count: int) -> Tensor:
            return pixels[torch.randint(len(pixels), (count,), generator=generator)]

        reach = REACHES[0] * (REACHES[1] / REACHES[0]) ** uniform(CANDIDATES, 1)
        cap = CAPS[0] * (CAPS[1] / CAPS[0]) ** float(uniform(1))
        mean, covariance = moments(
            left, torch.exp(torch.cdist(some(left, CANDIDATES), left) ** 2 / (-2 * reach**2))
        )
        linear = roots(covariance) @ rotations(2 * math.pi * uniform(CANDIDATES))
        linear[:, :, 1] *= torch.where(uniform(CANDIDATES, 1) < 0.5, -1.0, 1.0)  # mirrors
        noise = torch.randn(CANDIDATES, TRIALS, 2, 3, generator=generator, dtype=torch.float64)
        maps = clip_width(torch.cat([linear @ self.round, mean[..., None]], dim=2))
        found, costs = self.climb(
            maps, some(left, SAMPLE), some(self.pixels, SAMPLE), cap, share, noise
        )
        best = found[costs.argmin()]
        best[:, 2] += self.middle - best[:, :2] @ self.middle
        return best

    def climb(
        self, maps: Tensor, left: Tensor, pixels: Tensor, cap: float, share: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps (C, 2, 3) after at most E trials, noise (C, E, 2, 3), and their costs (C,); what
        costs less is kept.

        Pixels (U, 2) are a sample of what is left, `share` of the picture, and pixels (P, 2) one of
        the picture. A map costs the mean square of how far images of the picture fall from it, by
        the area that they cover, and of how far they are from what is left, in which no pixel
        counts as farther than `cap`. Steps grow by half with each success and shrink by 7 % with
        each failure (Rechenberg's rule of one fifth).
        """
        given = arrays(maps, left, pixels, self.away, self.middle, noise)
        found, costs = load_kernels().hill_climb(*given, cap, share, WIDEST, FINEST)
        return torch.from_numpy(found), torch.from_numpy(costs)
