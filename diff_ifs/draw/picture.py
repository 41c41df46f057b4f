"""From a system to the rows of a picture: what is measured of it, and how that is shown.

Letters in shapes: S side of the picture, H rows of a strip, C channels (grey, grey + alpha, RGB or
RGBA).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from diff_ifs.draw import chain
from diff_ifs.draw.coverage import coverage_strips
from diff_ifs.draw.density import density_strips
from diff_ifs.draw.distance import distance_strips
from diff_ifs.draw.geometry import MEMORY, OVERHEAD, Progress, View, Window

# sigma, in pixels of the picture that was fitted, with which greys are drawn, at any resolution
SOFT = 0.5
SHADES = 1024  # colours of a continuous palette


@dataclass(frozen=True)
class Style:
    """How it is shown.

    color: none, map (by the first letter of the address) or address (by all of it), in the colours
    of `cmap`; with none, `cmap` colours the values themselves, and without it they are grey.
    """

    kind: str = "occupancy"
    color: str = "none"
    cmap: str | None = None
    gamma: float = 1.0
    bits: int = 8
    transparent: bool = False

    @property
    def channels(self) -> int:
        """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
        return (1 if self.color == "none" and self.cmap is None else 3) + self.transparent


def palette(name: str, count: int) -> Tensor:
    """`count` colours (count, 3) in [0, 1], evenly spaced along a colour map of matplotlib, or its
    first ones.

    A list of few colours, such as tab10, is taken in turn. Raises KeyError for an unknown name.
    """
    colours = matplotlib.colormaps[name]
    few = colours.N < 64
    at = np.arange(count) % colours.N if few else np.linspace(0, 1, count)
    return torch.from_numpy(colours(at)[:, :3].astype(np.float32))


def map_colours(count: int) -> Tensor:
    """A colour of its own (count, 3) for each of so many maps: of tab10, or more hues."""
    if count <= 10:
        return palette("tab10", count)
    # Hues lie evenly around the circle, those of neighbours nearly opposite, and near ones differ
    # in lightness.
    stride = next(step for step in range(round(0.4 * count), count) if math.gcd(step, count) == 1)
    place = np.arange(count) * stride % count
    saturation, value = np.array([[0.8, 1.0], [0.9, 0.65], [0.45, 0.95]])[place % 3].T
    colours = matplotlib.colors.hsv_to_rgb(np.stack([place / count, saturation, value], axis=1))
    return torch.from_numpy(colours.astype(np.float32))


@dataclass(frozen=True)
class Drawing:
    """A picture of a system: maps (n, 2, 3), what is looked at, how it is shown, and in how many
    bytes of memory.
    """

    maps: Tensor
    view: View
    style: Style
    memory: int = MEMORY
    progress: Progress = bool

    def strips(self) -> Iterator[Tensor]:
        """Yield what it shows, in strips from the top: (H, S) coverage, mass, or distance from the
        pen in the world.

        With color map or address, strips are (4, H, S): the sums of red, green and blue, and
        coverage or mass.
        """
        maps, view, style, free = self.maps, self.view, self.style, self.memory - self._kept_bytes
        if view.chain is not None and style.kind == "density":
            yield chain.mass(view.chain, view.window, view.size, self.progress)
        elif view.chain is not None:
            yield chain.coverage(view, free, self.progress)
        elif style.kind == "occupancy":
            yield from coverage_strips(maps, view, self._colours, free, self.progress)
        elif style.kind == "grey":
            yield greys(maps, view, free, self.progress)
        elif style.kind == "density":
            yield from density_strips(maps, view, self._colours, free, self.progress)
        else:
            for near in distance_strips(maps, view, None, free, self.progress):
                yield (near - view.stroke).clamp(min=0)

    def rows(self) -> Iterator[np.ndarray]:
        """Yield the rows of the picture, (H, S, C) uint8 or uint16.

        Mass m is shown as log(1 + m / mean) over all that is lit, as a part of its peak, to the
        power 1 / gamma; distance as a part of the largest one. Both need a second look, for which
        strips are kept if there is room.
        """
        strips = list(self.strips()) if self._kept_bytes else None
        tone = _tone(lambda: strips or self.strips(), self.style)
        pieces = max(1, (1 << 20) // self.view.size)
        for strip in strips or self.strips():
            for piece in strip.split(pieces, dim=-2):
                yield shown(piece, tone, self.style)

    def image(self) -> Image.Image:
        """The whole picture, for a film or a sheet; what is transparent shows black."""
        picture, transparent = np.concatenate(list(self.rows())), self.style.transparent
        alpha = picture[..., -1:].astype(np.float32) / 255 if transparent else 1
        colours = picture[..., :-1] if transparent else picture
        return Image.fromarray(
            (colours * alpha).astype(np.uint8).repeat(3 // colours.shape[-1], axis=-1)
        )

    @property
    def _colours(self) -> Tensor | None:
        """Those of addresses (L, 3)."""
        count, name = len(self.maps), self.style.cmap
        if self.style.color == "none":
            return None
        if self.style.color == "address":
            return palette(name or "viridis", SHADES)
        return map_colours(count) if name is None else palette(name, count)

    @property
    def _kept_bytes(self) -> int:
        """Bytes of what is measured, where it is kept for a second look, in a quarter of the memory
        at most, else 0.
        """
        needed = (8 if self.style.color == "none" else 32) * self.view.size**2
        return (
            needed
            if self.style.kind in ("density", "distance") and needed <= self.memory / 4
            else 0
        )


def greys(maps: Tensor, view: View, memory: int = MEMORY, progress: Progress = bool) -> Tensor:
    """Coverage (S, S), float64: 1 − exp(−exposure · ρ), with ρ the measure per unit of area,
    blurred by a Gaussian.

    The blur is that of the fit, in the world, so that a picture has the same greys at every
    resolution. Raises MemoryError for what does not fit into memory.
    """
    size, (xmin, xmax, ymin, ymax) = view.size, view.window
    pixel = (xmax - xmin) / size
    sigma = min(view.soft / pixel, size / 4)  # a zoom beyond that would show nothing but one grey
    pad = math.ceil(4 * sigma)
    side, edge = size + 2 * pad, pad * pixel
    needed = OVERHEAD + 32 * side**2
    if needed > memory:
        raise MemoryError(f"greys are drawn at once, and need {needed / 2**30:.1f} GiB")
    window = (xmin - edge, xmax + edge, ymin - edge, ymax + edge)
    strips = density_strips(maps, View(window, side, view.recursion), None, memory, progress)
    mass = gaussian_filter(torch.cat(list(strips)).numpy(), sigma, mode="constant", truncate=4.0)
    return -torch.expm1(
        torch.from_numpy(mass[pad : pad + size, pad : pad + size]) * (-view.exposure / pixel**2)
    )


def exposure(maps: Tensor, window: Window, target: Tensor) -> float:
    """The exposure with which `greys` of maps (n, 2, 3) are most like a target (S, S), by the mean
    squared error.
    """
    size = len(target)
    soft = SOFT * (window[1] - window[0]) / size
    depth = -torch.log1p(-greys(maps, View(window, size, 1000, exposure=1e-9, soft=soft))) * 1e9
    trials = torch.logspace(-3, 3, 241, dtype=torch.float64)
    wanted = target.cpu().double()
    return float(
        trials[
            torch.stack(
                [(-torch.expm1(-t * depth) - wanted).square().mean() for t in trials]
            ).argmin()
        ]
    )


def shown(strip: Tensor, tone: Callable[[Tensor], Tensor], style: Style) -> np.ndarray:
    """Rows (H, S, C) of a picture from what was measured, (H, S) or (4, H, S), and what `tone`
    makes of it.
    """
    lut = None if style.cmap is None or style.color != "none" else palette(style.cmap, SHADES)
    amount, top = strip if style.color == "none" else strip[3], 2**style.bits - 1
    value = tone(amount)
    if style.color != "none":
        shade = strip[:3] / amount.clamp(min=torch.finfo(amount.dtype).tiny)
        layers = list(shade if style.transparent else shade * value)
    elif lut is not None:
        layers = list(lut[(value * (SHADES - 1)).round().long()].permute(2, 0, 1))
    else:
        layers = [torch.ones_like(value) if style.transparent else value]
    if style.transparent:
        layers.append(value)
    picture = (
        (torch.stack([layer.float() for layer in layers], dim=-1) * top).round_().clamp_(0, top)
    )
    return picture.numpy().astype(np.uint8 if style.bits == 8 else np.uint16)


def _tone(measured: Callable[[], Iterator[Tensor]], style: Style) -> Callable[[Tensor], Tensor]:
    """What turns coverage, mass or distance into a value in [0, 1]."""
    if style.kind in ("occupancy", "grey"):
        return lambda coverage: coverage ** (1 / style.gamma) if style.gamma != 1 else coverage
    total, lit, peak = 0.0, 0, 0.0
    for strip in measured():
        amount = strip if style.color == "none" else strip[3]
        finite = amount[amount.isfinite() & (amount > 0)]
        total, lit = total + float(finite.sum()), lit + len(finite)
        peak = max(peak, float(finite.max())) if len(finite) else peak
    if style.kind == "density":
        mean = total / max(lit, 1) or 1.0
        full = float(np.log1p(peak / mean)) or 1.0
        return lambda mass: ((mass / mean).log1p() / full) ** (1 / style.gamma)
    return lambda near: (
        (near / (peak or 1.0)).nan_to_num(posinf=1.0).clamp(max=1) ** (1 / style.gamma)
    )
