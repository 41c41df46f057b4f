"""Compiled loops or PyTorch: the one place that chooses.

Soft pictures are PyTorch on any device (`ifs_model`), and compiled loops on a CPU (`kernels`).
Functions here have the names, shapes and meaning of their twins in `ifs_model`. Hard pictures are
compiled loops on the CPU alone.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import torch
from torch import Tensor

import ifs_model
from diff_ifs.errors import InputError, one_line
from ifs_model import AddressTree, LossSettings

# kinds of devices that have no float64: what needs it is done on the CPU for them
NO_DOUBLE = ("mps",)


@functools.cache
def load_kernels() -> ModuleType:
    """The compiled loops. Raises InputError where numba is missing or may not compile."""
    try:
        import numba

        loops = importlib.import_module("diff_ifs.kernels")
    except ImportError as error:
        raise InputError(f"numba is needed ({one_line(error)}): pip install numba") from error
    except (OSError, RuntimeError, ValueError) as error:
        words = f"numba does not start ({one_line(error)}): is NUMBA_NUM_THREADS or the like set?"
        raise InputError(words) from error
    if numba.config.DISABLE_JIT:
        raise InputError(
            "NUMBA_DISABLE_JIT is set, and without compiled loops pictures would take hours: "
            "unset it"
        )
    return loops


def kernels(like: Tensor) -> ModuleType | None:
    """The loops compiled for the CPU, if the tensor lies there."""
    return load_kernels() if like.device.type == "cpu" else None


def side_by_side(function: Callable, items: Iterable) -> list:
    """What a function that is mostly compiled loops gives for each item, shared out among as many
    threads as PyTorch takes."""
    threads = torch.get_num_threads()
    run = map if threads == 1 else _threads(threads, os.getpid()).map
    return list(run(function, items))


@functools.cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call. A forked process needs its own, and so do the loops,
    which these threads ask for theirs: shared, they would wait for each other."""
    return ThreadPoolExecutor(count)


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


def splat_words(
    maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Not differentiable: `word_loss` has the gradient."""
    if (loops := kernels(maps)) is None:
        return ifs_model.splat_words(maps, words, to, size)
    weights = ifs_model.area_weights(maps)
    outer, inner = ifs_model.outer_and_inner_words(maps, weights, words, to)
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


def word_loss(
    maps: Tensor, words: tuple[Tensor, Tensor], to: Tensor, look: LossSettings, pull: float
) -> Tensor:
    if (loops := kernels(maps)) is None:
        return ifs_model.word_loss(maps, words, to, look, pull)
    first, second = (half.expand(len(maps), *half.shape[-2:]) for half in words)
    spelling = arrays(maps.double(), first, second, to.double())
    found = loops.word_loss(
        *spelling, ifs_model.FLATTEST, pull, *settings_arrays(look), torch.get_num_threads()
    )
    return _Found.apply(maps, *(torch.from_numpy(array) for array in found))


def tree_loss(
    maps: Tensor, trees: Sequence[AddressTree], to: Tensor, weight: float, look: LossSettings
) -> Tensor:
    if (loops := kernels(maps)) is None:
        return ifs_model.tree_loss(maps, trees, to, weight, look)
    letters, parents = (arrays(*parts) for parts in zip(*(tree[:2] for tree in trees), strict=True))
    roots, (systems, to) = [tree.sizes[0] for tree in trees], arrays(maps, to)
    grown = systems, letters, parents, roots, to, weight
    found = loops.tree_loss(*grown, *settings_arrays(look), torch.get_num_threads())
    return _Found.apply(maps, *(torch.from_numpy(array) for array in found))


def settings_arrays(look: LossSettings) -> tuple:
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
