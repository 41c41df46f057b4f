"""What the library takes: arrays or tensors, and one sentence about what is wrong with others."""

import numpy as np
import torch
from torch import Tensor


def as_coverage(picture: Tensor | np.ndarray) -> Tensor:
    """A picture (H, W) of booleans, of bytes from 0 to 255 or of floats from 0 to 1, as coverage in
    [0, 1], float32.

    Raises ValueError for anything else.
    """
    tensor = torch.as_tensor(picture)
    if tensor.ndim != 2:
        raise ValueError(
            f"a picture must be of shape (height, width), not {tuple(tensor.shape)}; convert "
            "colours first"
        )
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    if tensor.dtype == torch.bool:
        return tensor.float()
    if not tensor.is_floating_point():
        raise ValueError(
            f"a picture must hold booleans, bytes or floats from 0 to 1, not {tensor.dtype}"
        )
    if not (tensor.isfinite().all() and tensor.min() >= 0 and tensor.max() <= 1):
        raise ValueError(
            "a picture of floats must be coverage from 0 to 1; divide levels of 0 to 255 by 255"
        )
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def as_target(picture: Tensor | np.ndarray, size: int) -> Tensor:
    """A square picture (S, S), S = `size`, as coverage. Raises ValueError for anything else."""
    target = as_coverage(picture)
    if target.shape != (size, size):
        height, width = target.shape
        raise ValueError(
            f"the target is {height} × {width}, the setup's size {size}: give Setup(size=...), or "
            "scale it"
        )
    return target
