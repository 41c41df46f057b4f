"""From a system to the rows of a picture: what is looked at, and how it is shown.

Letters in shapes: S side of the picture, H rows of a strip, C channels (grey, grey + alpha, RGB or RGBA).
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

from diff_ifs.draw.coverage import coverage_strips
from diff_ifs.draw.density import density_strips
from diff_ifs.draw.distance import distance_strips
from diff_ifs.draw.figures import figure
from diff_ifs.draw.geometry import MEMORY, OVERHEAD, Progress

KEPT = 1 / 4  # of the memory, in which what was measured is kept for the second look that normalising needs
SOFT = 0.5  # sigma, in pixels of the picture that was fitted, with which greys are drawn, at any resolution
SHADES = 1024  # colours of a continuous palette


@dataclass(frozen=True)
class View:
    """What is drawn: a window, at size × size pixels, after some levels, with a pen, starting from a figure or not."""

    window: tuple[float, float, float, float]
    size: int
    recursion: int
    stroke: float = 0.0
    supersample: int = 1
    figure: str | None = None
    exposure: float = 0.0  # see `greys`
    soft: float = 0.0  # sigma of greys in world units


@dataclass(frozen=True)
class Style:
    """How it is shown.

    color: none, map (by the first letter of the address) or address (by all of it), in the colours of `cmap`; with
    none, `cmap` colours the values themselves, and without it they are grey.
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
    """`count` colours (count, 3) in [0, 1], evenly spaced along a colour map of matplotlib, or its first ones.

    A list of few colours, such as tab10, is taken in turn. Raises KeyError for an unknown name.
    """
    colours = matplotlib.colormaps[name]
    few = colours.N < 64
    at = np.arange(count) % colours.N if few else np.linspace(0, 1, count)
    return torch.from_numpy(colours(at)[:, :3].astype(np.float32))


def render_strips(
    maps: Tensor,
    view: View,
    look: Style,
    memory: int = MEMORY,
    progress: Progress = bool,
    world: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
) -> Iterator[Tensor]:
    """Yield what a picture shows, in strips from the top: (H, S) coverage, mass, or distance from the pen in the world.

    With color map or address, strips are (4, H, S): the sums of red, green and blue, and coverage or mass. `world` is
    the window that the figure "square" stands for.
    """
    corners = None if view.figure is None else figure(view.figure, maps, world)
    colours = None
    if look.color != "none":
        name = look.cmap or ("tab10" if look.color == "map" else "viridis")
        colours = palette(name, len(maps) if look.color == "map" else SHADES).to(maps.device)
    if look.kind == "occupancy":
        yield from coverage_strips(
            maps,
            view.window,
            view.size,
            view.recursion,
            view.stroke,
            view.supersample,
            corners,
            colours,
            memory,
            progress,
        )
    elif look.kind == "grey":
        yield greys(maps, view, memory, progress)
    elif look.kind == "density":
        yield from density_strips(maps, view.window, view.size, view.recursion, colours, memory, progress=progress)
    else:
        strips = distance_strips(maps, view.window, view.size, view.recursion, None, corners, memory, progress)
        for near in strips:
            yield (near - view.stroke).clamp(min=0)


def greys(maps: Tensor, view: View, memory: int = MEMORY, progress: Progress = bool) -> Tensor:
    """Coverage (S, S), float64: 1 − exp(−exposure · ρ), with ρ the measure per unit of area, blurred by a Gaussian.

    The blur is that of the fit, in the world, so that a picture has the same greys at every resolution. Raises
    MemoryError for what does not fit into memory.
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
    strips = density_strips(maps, window, side, view.recursion, None, memory, progress)
    mass = gaussian_filter(torch.cat(list(strips)).cpu().numpy(), sigma, mode="constant", truncate=4.0)
    return -torch.expm1(torch.from_numpy(mass[pad : pad + size, pad : pad + size]) * (-view.exposure / pixel**2))


def exposure(maps: Tensor, window: tuple[float, float, float, float], target: Tensor) -> float:
    """The exposure with which `greys` of maps (n, 2, 3) are most like a target (S, S), by the mean squared error."""
    size = len(target)
    soft = SOFT * (window[1] - window[0]) / size
    depth = -torch.log1p(-greys(maps, View(window, size, 1000, exposure=1e-9, soft=soft))) * 1e9
    trials = torch.logspace(-3, 3, 241, dtype=torch.float64)
    wanted = target.cpu().double()
    return float(trials[torch.stack([(-torch.expm1(-t * depth) - wanted).square().mean() for t in trials]).argmin()])


def cache_bytes(size: int, look: Style, memory: int) -> int:
    """Bytes of what is measured of a picture, where they are kept, else 0, and it is measured twice."""
    needed = (8 if look.color == "none" else 32) * size**2
    return needed if look.kind in ("density", "distance") and needed <= KEPT * memory else 0


def encode_rows(
    measured: Callable[[], Iterator[Tensor]], size: int, look: Style, memory: int = MEMORY
) -> Iterator[np.ndarray]:
    """Yield the rows of a picture, (H, S, C) uint8 or uint16, from what `measured` yields each time it is called.

    What it yields is kept for a second look if it is `kept` of so much memory, in bytes.

    Mass m is shown as log(1 + m / mean) over all that is lit, as a part of its peak, to the power 1 / gamma; distance
    as a part of the largest one.
    """
    if cache_bytes(size, look, memory):
        strips = list(measured())
        again: Callable[[], Iterator[Tensor]] = lambda: iter(strips)  # noqa: E731
    else:
        again = measured
    tone = _tone(again, look)
    lut = None if look.cmap is None or look.color != "none" else palette(look.cmap, SHADES)
    top = 2**look.bits - 1
    pieces = (piece for strip in again() for piece in strip.split(max(1, (1 << 20) // size), dim=-2))
    for strip in pieces:
        strip = strip.cpu()
        amount = strip if look.color == "none" else strip[3]
        value = tone(amount)
        if look.color != "none":
            shade = strip[:3] / amount.clamp(min=torch.finfo(amount.dtype).tiny)
            layers = list(shade if look.transparent else shade * value)
        elif lut is not None:
            layers = list(lut[(value * (SHADES - 1)).round().long()].permute(2, 0, 1))
        else:
            layers = [torch.ones_like(value) if look.transparent else value]
        if look.transparent:
            layers.append(value)
        picture = (torch.stack([layer.float() for layer in layers], dim=-1) * top).round_().clamp_(0, top)
        yield picture.numpy().astype(np.uint8 if look.bits == 8 else np.uint16)


def _tone(measured: Callable[[], Iterator[Tensor]], look: Style) -> Callable[[Tensor], Tensor]:
    """What turns coverage, mass or distance into a value in [0, 1]."""
    if look.kind in ("occupancy", "grey"):
        return lambda coverage: coverage ** (1 / look.gamma) if look.gamma != 1 else coverage
    total, lit, peak = 0.0, 0, 0.0
    for strip in measured():
        amount = strip if look.color == "none" else strip[3]
        finite = amount[amount.isfinite() & (amount > 0)]
        total, lit = total + float(finite.sum()), lit + len(finite)
        peak = max(peak, float(finite.max())) if len(finite) else peak
    if look.kind == "density":
        mean = total / max(lit, 1) or 1.0
        full = float(np.log1p(peak / mean)) or 1.0
        return lambda mass: ((mass / mean).log1p() / full) ** (1 / look.gamma)
    return lambda near: (near / (peak or 1.0)).nan_to_num(posinf=1.0).clamp(max=1) ** (1 / look.gamma)


def image(measured: Callable[[], Iterator[Tensor]], size: int, look: Style, memory: int = MEMORY) -> Image.Image:
    """The whole picture, for a film or a sheet; what is transparent shows black."""
    picture = np.concatenate(list(encode_rows(measured, size, look, memory)))
    alpha = picture[..., -1:].astype(np.float32) / 255 if look.transparent else 1
    colours = picture[..., :-1] if look.transparent else picture
    return Image.fromarray((colours * alpha).astype(np.uint8).repeat(3 // colours.shape[-1], axis=-1))
