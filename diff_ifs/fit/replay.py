"""What a GPU computes again and again, recorded once.

A step of a fit is about four hundred launches of a few microseconds' work each. Python takes ten
times as long to issue them as a GPU takes to work them off.
"""

import gc
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from diff_ifs.errors import one_line


class Replayed:
    """Launches of a function of tensors on a CUDA device, which are recorded at its second call and
    replayed at later ones with tensors of these shapes.

    Results hold until the next call. What else the function uses must keep its place and its value.
    The first call is an ordinary one, in which libraries load what they need; so are all where a
    driver cannot record.
    """

    def __init__(self):
        self.called, self.able = False, True
        self.forget()

    def forget(self) -> None:
        """Record anew at the next call."""
        self.given: list[Tensor] = []

    def __call__(
        self, function: Callable[..., tuple[Tensor, ...]], *given: Tensor
    ) -> tuple[Tensor, ...]:
        if not (self.called and self.able):
            self.called = True
            return function(*given)
        if [tensor.shape for tensor in given] != [tensor.shape for tensor in self.given]:
            held = [tensor.detach().clone() for tensor in given]
            try:
                self.found, self.replay = record(lambda: function(*held))
            except RuntimeError as error:
                print(f"steps take longer: not recorded ({one_line(error)})", file=sys.stderr)
                self.able = False
                return function(*given)
            self.given = held
        for held, tensor in zip(self.given, given, strict=True):
            held.copy_(tensor)
        self.replay()
        return self.found


def record(work: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Callable]:
    """Results of launches that are recorded, not made, and what makes them.

    Raises RuntimeError where they cannot be recorded.
    """
    graph, side, collects = torch.cuda.CUDAGraph(), torch.cuda.Stream(), gc.isenabled()
    gc.disable()  # to free an older graph meanwhile is not allowed
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            graph.capture_begin()
            try:
                found = work()
            finally:
                graph.capture_end()
    finally:
        if collects:
            gc.enable()
    torch.cuda.current_stream().wait_stream(side)
    return found, graph.replay
