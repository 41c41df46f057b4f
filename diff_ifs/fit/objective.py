"""The loss of many systems at one stage of a fit, and the step that lowers it.

Letters in shapes: B systems, n maps, S side of the picture.
"""

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from diff_ifs.backend import blur, convolve, kernels, tree_loss, word_loss, words_by_weight
from diff_ifs.draw.growth import address_tree
from diff_ifs.fit.replay import Replayed
from diff_ifs.fit.stages import Stage
from diff_ifs.metrics import foreground, pooled
from diff_ifs.setup import WINDOW, Setup
from ifs_model import (
    AddressTree,
    LossSettings,
    area_weights,
    blur_matrix,
    frame,
    pen_discs,
    words_of_depth,
)

REFRESH = 10  # steps between two choices of the words
# alpha with which grown points draw a picture as wide as they are: more suits a pen of half a pixel
BARE = 1.5
RECORDED = ("cuda",)  # kinds of devices on which a step is recorded and replayed
GROWN = 2  # cells a side and pixel in which a grown stage keeps one point each


class Objective:
    """The loss of B systems against a target picture, at one stage of the fit."""

    def __init__(self, target: Tensor, stage: Stage, setup: Setup):
        self.stage, self.setup = stage, setup
        self.target = pooled(target, stage.size)
        pixels = foreground(self.target).cpu().numpy()
        away = distance_transform_edt(~pixels) / stage.size if pixels.any() else 0 * pixels
        (
            self.stray_penalty,
            self.inside,
        ) = (  # what stray points pay, and distances to the outside, in pixels
            torch.from_numpy(field).to(target.dtype).to(target.device)
            for field in (setup.pull * away, distance_transform_edt(pixels))
        )
        self.mass = float(self.target.sum())
        self.discs: Tensor | None = None  # of the pens
        self.pen_variance = 0.0  # of a disc, along each axis
        # points spread evenly over the target, for each tip
        self.even, self.tip = self.target[None], slice(None)
        self.frame = torch.tensor(
            frame(WINDOW, stage.size), dtype=target.dtype, device=target.device
        )
        self.words: tuple[Tensor, ...] = ()  # outer and inner ones, or one for both
        self.trees: list[AddressTree] = []
        self.replayed = Replayed()

    def refresh(self, maps: Tensor, stroke: Tensor | None, sigma: float) -> None:
        """Fix what holds until the next call: the words that are drawn, and alpha.

        Alpha is the one with which points spread evenly over the target would look most like it, at
        this blur.
        """
        if stroke is not None and self.discs is None:
            self.take_pen(stroke)
        if self.stage.grown:
            half = len(maps) // 2
            first = self.stage.solidity
            second = self.setup.solidity * BARE if stroke is None else 2 * first
            self.alphas = maps.new_tensor([first] * (len(maps) - half) + [second] * half)
            self.trees = [address_tree(m.detach(), WINDOW, GROWN * self.stage.size) for m in maps]
            self.replayed.forget()
            return
        # one row and column in so many is enough to choose among 16
        sample = -(-self.stage.size // 128)
        even = blur(self.even, self.beyond_pen(sigma))[:, ::sample, ::sample].flatten(1)
        bare = 1 - self.target[::sample, ::sample].flatten()
        trials = [10 ** (0.1 * k - 0.5) for k in range(16)]
        if (loops := kernels(even)) is not None:
            misfit = torch.from_numpy(
                loops.misfits(even.contiguous().numpy(), bare.contiguous().numpy(), trials)
            )
        else:
            misfit = torch.stack(
                [torch.exp(even * -trial).sub_(bare).square_().mean(1) for trial in trials]
            )
        solidity = self.setup.solidity if stroke is not None else self.stage.solidity
        alphas = solidity * self.mass * even.new_tensor(trials)[misfit.argmin(0)]
        self.alphas = alphas[self.tip].expand(len(maps)).contiguous()
        n, depth = maps.shape[-3], self.setup.depth
        if depth is None:
            words = words_by_weight(area_weights(maps), round(self.stage.points**0.5))
            self.words = (words,)
        elif not self.words:
            self.words = tuple(
                words_of_depth(n, part, maps.device) for part in (depth - depth // 2, depth // 2)
            )

    def take_pen(self, stroke: Tensor) -> None:
        """Draw with pens of these radii (B,), in world units, that the whole stage keeps."""
        radius = stroke * (self.stage.size / 2)
        reach = int(radius.max() + 0.5)  # a disc's edge is one pixel wide
        self.discs = pen_discs(radius, reach)
        self.pen_variance = float(radius.mean()) ** 2 / 4
        radii, self.tip = radius.unique(return_inverse=True)
        tips = (radii - 0.25).clamp(min=0, max=float(self.inside.max()) - 0.5)
        ridges = (self.inside > tips[:, None, None]).to(self.target)  # where the pens' tips went
        ridges *= self.mass / ridges.sum((1, 2), keepdim=True)
        self.even = convolve(ridges, pen_discs(radii, reach))

    def beyond_pen(self, sigma: float) -> float:
        """What a Gaussian must add to the pen's disc so that both together blur as one of `sigma`
        would."""
        return sigma if self.discs is None else max(sigma**2 - self.pen_variance, 0.3**2) ** 0.5

    def __call__(self, maps: Tensor, sigma: float) -> Tensor:
        """Losses (B,): squared error of coverage, summed over a pyramid, and the pull on stray
        points."""
        return self._losses(maps, self.beyond_pen(sigma), self.alphas, *self.words)

    def gradient(self, maps: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Losses (B,), and the gradient of their sum for the maps (B, n, 2, 3)."""
        beyond = self.beyond_pen(sigma)
        if maps.device.type not in RECORDED:
            return self._gradient(maps, beyond, self.alphas, *self.words)
        spread = blur_matrix(self.stage.size, beyond, maps)
        losses, gradient = self.replayed(self._gradient, maps, spread, self.alphas, *self.words)
        return losses.clone(), gradient

    def _gradient(self, maps: Tensor, *drawn: float | Tensor) -> tuple[Tensor, Tensor]:
        maps = maps.detach().requires_grad_()
        losses = self._losses(maps, *drawn)
        return losses.detach(), torch.autograd.grad(losses.sum(), maps)[0]

    def _losses(self, maps: Tensor, blur: float | Tensor, alphas: Tensor, *words: Tensor) -> Tensor:
        """Of systems drawn with this blur beyond the pen, alphas (B,) and words."""
        away = torch.zeros_like(self.stray_penalty) if self.trees else self.stray_penalty
        look = LossSettings(self.target, away, blur, alphas, self.stage.levels, self.discs)
        if self.trees:
            return tree_loss(maps, self.trees, self.frame, 1 / GROWN**2, look)
        pull = self.setup.pull / self.stage.size
        return word_loss(maps, (words[0], words[-1]), self.frame, look, pull)
