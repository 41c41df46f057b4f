"""Compiled loops or PyTorch: the one place that chooses.

Soft pictures are PyTorch on any device (`ifs_model`), and compiled loops on a CPU (`kernels`). Functions here have the
names, shapes and meaning of their twins in `ifs_model`. Hard pictures are compiled loops on the CPU alone.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from types import ModuleType

import torch
from torch import Tensor

import ifs_model
from ifs_model import Ancestry, Look

NO_DOUBLE = ("mps",)  # kinds of devices that have no float64: what needs it is done on the CPU for them
_is_plain = ContextVar("_is_plain", default=False)


@functools.cache
def load_kernels() -> ModuleType:
    """The compiled loops. Raises RuntimeError where numba may not compile."""
    import numba

    import ifs_kernels

    if numba.config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set: without compiled loops, pictures would take hours")
    return ifs_kernels


def kernels(like: Tensor) -> ModuleType | None:
    """The loops compiled for the CPU, if the tensor lies there."""
    return load_kernels() if like.device.type == "cpu" and not _is_plain.get() else None


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Plain PyTorch for soft pictures, for what is wanted before there is time to compile or even to load a loop."""
    before = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(before)


def arrays(*tensors: Tensor) -> list:
    """As NumPy has them, without gaps."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def words_by_weight(weights: Tensor, count: int) -> Tensor:
    if (loops := kernels(weights)) is None:
        return ifs_model.words_by_weight(weights, count)
    n = weights.shape[-1]
    rounds = ifs_model.rounds_of(n, count)
    words = torch.from_numpy(loops.words_by_weight(*arrays(weights.reshape(-1, n)), rounds))
    return words.reshape(*weights.shape[:-1], 1 + rounds * (n - 1), -1)


def splat_words(maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Not differentiable: `words_loss` has the gradient."""
    if (loops := kernels(maps)) is None:
        return ifs_model.splat_words(maps, words, to, size)
    weights = ifs_model.area_weights(maps)
    outer, inner = ifs_model.halves(maps, weights, words, to)
    shares = (ifs_model.word_weights(weights, half) for half in words)
    density, excess = loops.splat(*arrays(outer, inner.mT, *shares), size, torch.get_num_threads())
    return torch.from_numpy(density), torch.from_numpy(excess)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Not differentiable."""
    if (loops := kernels(pictures)) is None:
        return ifs_model.blur(pictures, sigma)
    taps = pictures.new_tensor(ifs_model.gaussian(sigma))
    return torch.from_numpy(loops.blur(*arrays(pictures, taps, pictures.new_ones(len(pictures)))))


def convolve(pictures: Tensor, discs: Tensor) -> Tensor:
    """Not differentiable."""
    if (loops := kernels(pictures)) is None:
        return ifs_model.convolve(pictures, discs)
    return torch.from_numpy(loops.convolve(*arrays(pictures, discs)))


def words_loss(maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, look: Look, pull: float) -> Tensor:
    if (loops := kernels(maps)) is None:
        return ifs_model.words_loss(maps, words, to, look, pull)
    first, second = (half.expand(len(maps), *half.shape[-2:]) for half in words)
    spelling = arrays(maps.double(), first, second, to.double())
    found = loops.words_loss(*spelling, ifs_model.FLATTEST, pull, *look_arrays(look), torch.get_num_threads())
    return _Found.apply(maps, *(torch.from_numpy(array) for array in found))


def grown_loss(maps: Tensor, ancestries: Sequence[Ancestry], to: Tensor, weight: float, look: Look) -> Tensor:
    if (loops := kernels(maps)) is None:
        return ifs_model.grown_loss(maps, ancestries, to, weight, look)
    letters, parents = (arrays(*parts) for parts in zip(*(ancestry[:2] for ancestry in ancestries), strict=True))
    roots, (systems, to) = [ancestry.sizes[0] for ancestry in ancestries], arrays(maps, to)
    grown = systems, letters, parents, roots, to, weight
    found = loops.grown_loss(*grown, *look_arrays(look), torch.get_num_threads())
    return _Found.apply(maps, *(torch.from_numpy(array) for array in found))


def look_arrays(look: Look) -> tuple:
    """Alphas, discs, and all that systems share, as the compiled loops take them."""
    discs = look.alphas.new_ones(len(look.alphas), 1, 1) if look.discs is None else look.discs
    alphas, discs, away, target = arrays(look.alphas, discs, look.away, look.target)
    taps = look.target.new_tensor(ifs_model.gaussian(look.sigma)).numpy()
    return alphas, discs, (away, taps, target, look.levels)


class _Found(torch.autograd.Function):
    """Losses (B,) of maps (B, n, 2, 3), whose gradient was found together with them."""

    @staticmethod
    def forward(ctx, maps: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient.to(maps.dtype))
        return losses.clone()

    @staticmethod
    def backward(ctx, upstream: Tensor):
        return upstream[:, None, None, None] * ctx.saved_tensors[0], None, None
