"""Pictures as tensors: their pixels, and how much two of them differ."""

import torch
import torch.nn.functional as F
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor


def pooled(picture: Tensor, size: int) -> Tensor:
    """A picture (S, S) averaged down to (size, size); as it is where it is no larger."""
    return F.adaptive_avg_pool2d(picture[None, None], min(size, len(picture)))[0, 0]


def pixel_centres(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The centres (P, 2), in the world, of the pixels that a picture (S, S) of booleans has."""
    at = (2 * torch.arange(len(pixels), dtype=dtype) + 1) / len(pixels) - 1
    row, column = pixels.nonzero().unbind(1)
    return torch.stack([at[column], -at[row]], dim=1)


def foreground(picture: Tensor) -> Tensor:
    """The pixels that are on, as booleans."""
    return picture if picture.dtype == torch.bool else picture >= 0.5


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union, |a ∩ b| / |a ∪ b|, in [0, 1]; two empty pictures agree perfectly
    (1)."""
    a, b = foreground(a), foreground(b)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def dice(a: Tensor, b: Tensor) -> float:
    """Dice's coefficient 2 |a ∩ b| / (|a| + |b|), in [0, 1]; 1 for two empty pictures."""
    overlap = iou(a, b)
    return 2 * overlap / (1 + overlap)


def mse(a: Tensor, b: Tensor) -> float:
    """Mean squared difference of two coverages, in [0, 1]."""
    return float(((a.double() - b.double()) ** 2).mean())


def chamfer(a: Tensor, b: Tensor) -> float:
    """Mean distance in pixels between the two outlines, averaged over both directions.

    Infinite if exactly one picture is empty, 0 if both are.
    """
    there, back = _outline_distances(a, b)
    return (float(there.mean()) + float(back.mean())) / 2


def hd95(a: Tensor, b: Tensor) -> float:
    """95th percentile of the distances in pixels from each outline to the other, the worse of the
    two directions.

    (Huttenlocher, Klanderman & Rucklidge 1993, with the quantile in place of their rank.) Infinite
    if exactly one picture is empty, 0 if both are.
    """
    there, back = _outline_distances(a, b)
    return max(float(torch.quantile(way, 0.95, interpolation="higher")) for way in (there, back))


def _outline_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each outline pixel of `a` the distance to the outline of `b`, and the other way round."""
    outlines = [_outline(picture) for picture in (a, b)]
    if not all(outline.any() for outline in outlines):
        distance = 0.0 if not any(outline.any() for outline in outlines) else float("inf")
        return torch.tensor([distance]), torch.tensor([distance])
    to_a, to_b = (distance_transform_edt(~outline) for outline in outlines)
    return torch.from_numpy(to_b[outlines[0]]), torch.from_numpy(to_a[outlines[1]])


def _outline(picture: Tensor):
    """The pixels that are on and have a neighbour (of four) that is off; the border of the picture
    counts as off."""
    pixels = foreground(picture).cpu().numpy()
    return pixels & ~binary_erosion(pixels)
