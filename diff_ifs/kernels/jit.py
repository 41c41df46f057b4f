"""How loops are compiled, how threads share them, and the algebra that they share."""

import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import config, njit

BLOCK = 1024  # points that are worked on at once: they stay in the nearest cache
CORES = config.NUMBA_NUM_THREADS  # threads that share tiles
PARTS = 4  # of the tiles, for each thread: some take longer than others
_options = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# As it is written, on every machine: what is chosen may hang on the last bit.
# parts are called by loops alone
exact, exact_part = njit(**_options), njit(no_cpython_wrapper=True, **_options)
# Kernels are loops over numbers: to copy arrays or to add two of them takes numba seconds to
# compile. Sums may be taken in any fixed order, so that they run in vectors; NaN and infinity keep
# their meaning.
_options["fastmath"] = {"reassoc", "contract"}
compiled, compiled_part = njit(**_options), njit(no_cpython_wrapper=True, **_options)


def by_system(kernel, threads: int, *arrays, together: int = 1) -> None:
    """Run a kernel on all systems, shared out among threads; each is one thread's, so that sums
    keep their order.

    A thread has at least `together` of them: sixteen threads that take two small pictures each
    spend three quarters of their time waiting for the interpreter, which only one can run.
    """
    parts = min(threads, -(-len(arrays[0]) // together))
    if parts <= 1:
        kernel(*arrays)
        return
    cuts = [len(arrays[0]) * k // parts for k in range(parts + 1)]
    own, *others = ([array[low:high] for array in arrays] for low, high in itertools.pairwise(cuts))
    given = [_workers(threads, os.getpid()).submit(kernel, *chunk) for chunk in others]
    kernel(*own)
    for future in given:
        future.result()


def by_tile(kernel, corners, counts, *words) -> list:
    """What a kernel returns for parts of the tiles and their words, which threads share: a list for
    each value.
    """
    tiles, ends = len(corners), np.append(0, counts.cumsum())
    parts = min(CORES * PARTS, tiles) if CORES > 1 else 1
    if parts <= 1:
        return [[value] for value in kernel(corners, counts, *words)]
    cuts = [tiles * k // parts for k in range(parts + 1)]

    def run(low: int, high: int):
        return kernel(
            corners[low:high], counts[low:high], *(array[ends[low] : ends[high]] for array in words)
        )

    return list(zip(*_workers(CORES + 1, os.getpid()).map(run, cuts, cuts[1:]), strict=True))


@functools.cache
def _workers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call: new ones each time cost a step a fifth. A forked process
    needs its own.
    """
    return ThreadPoolExecutor(threads - 1)


@compiled_part
def turn_and_flip(map_):
    """|α| and |β| of A = (z -> α z + β z̄)."""
    (a, b), (c, d) = (map_[0, 0], map_[0, 1]), (map_[1, 0], map_[1, 1])
    return np.hypot(a + d, c - b) / 2, np.hypot(a - d, c + b) / 2


@compiled_part
def solved(map_, x, y):
    """The solution p of (1 - A) p = (x, y)."""
    a, b, c, d = map_[0, 0], map_[0, 1], map_[1, 0], map_[1, 1]
    determinant = (1 - a) * (1 - d) - b * c
    return ((1 - d) * x + b * y) / determinant, ((1 - a) * y + c * x) / determinant


@exact_part
def stretch(w):
    """Half the sum and half the difference of the singular values of a map (2, 3)."""
    a, b, c, d = w[0, 0], w[0, 1], w[1, 0], w[1, 1]
    return math.sqrt((a + d) ** 2 + (c - b) ** 2) / 2, math.sqrt((a - d) ** 2 + (c + b) ** 2) / 2
