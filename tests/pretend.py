"""A device that is not there. The CPU computes for it, but its tensors do not mix with those of the
CPU.

PyTorch knows devices of the type DEVICE, but this build has no kernel for them: what is not caught
here fails.
"""

from collections import Counter
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "lazy"
# with tensors on the CPU, on a real GPU too
MAY_MIX = (
    "aten::copy_",
    "aten::index.Tensor",
    "aten::index_put_",
)
# for what the GPU has not done yet
WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "unique",
    "bincount",
    "masked_select",
)


def each(work, value):
    """Nested tuples, lists and dictionaries with `work` done on all that they hold. PyTorch's own
    `tree_map` takes longer than most kernels."""
    if isinstance(value, tuple | list):
        return type(value)([each(work, part) for part in value])
    if isinstance(value, dict):
        return {key: each(work, part) for key, part in value.items()}
    return work(value)


def leaves(value) -> list:
    """All that nested tuples, lists and dictionaries hold."""
    found = []
    each(found.append, value)
    return found


class Mode(TorchDispatchMode):
    """Is told of all that is done, without asking each time whether Dynamo compiles it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class There(Tensor):
    """A tensor on the device. `here` is what it stands for, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor):
        options = {
            "strides": here.stride(),
            "storage_offset": here.storage_offset(),
            "dtype": here.dtype,
        }
        there = torch.Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **options)
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        raise RuntimeError(f"{op.name()} of a tensor on a device that is not there any more")


class _Kernels(Mode):
    """What the device does, and how often it made the program wait."""

    def __init__(self, doubles: bool):
        super().__init__()
        self.doubles, self.launches, self.waits = doubles, Counter(), Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, op.name()
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, There)}
        wanted = kwargs.get("device") and torch.device(kwargs["device"]).type
        if not there and wanted != DEVICE:
            return op(*args, **kwargs)
        if (
            there
            and name not in MAY_MIX
            and any(t.ndim and not isinstance(t, There) for t in tensors)
        ):
            raise RuntimeError(f"{name}: tensors on two devices")
        comes_back = wanted == "cpu" or (name == "aten::copy_" and not isinstance(args[0], There))
        self.launches[name] += 1
        self.waits[name] += comes_back or any(word in name for word in WAITS)

        def brought(value):
            if isinstance(value, torch.device) and value.type == DEVICE:
                return torch.device("cpu")
            return value.here if isinstance(value, There) else value

        def taken(value):
            if not isinstance(value, Tensor) or comes_back:
                return value
            if value.dtype == torch.float64 and not self.doubles:
                raise TypeError(f"{name}: the device has no float64")
            return there[id(value)] if id(value) in there else There(value)

        return each(taken, op(*each(brought, args), **each(brought, kwargs)))


class _Numbers(TorchFunctionMode):
    """What PyTorch makes of numbers, or makes numbers of, without telling a dispatch mode."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device"):
            return func(*args, **(kwargs | {"device": "cpu"})).to(kwargs["device"])
        if func is Tensor.new_tensor and isinstance(args[0], There):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


class _Tape(Mode):
    """Keeps what is done, and does it again with the same tensors."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        found = op(*args, **(kwargs or {}))
        self.done.append((op, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for op, args, kwargs, found in self.done:
                again = op(*args, **kwargs)
                for held, value in zip(leaves(found), leaves(again), strict=True):
                    if isinstance(held, There):
                        held.here.copy_(value.here)


def record(work):
    """As `fit.replay.record`, for DEVICE."""
    with _Tape() as tape:
        found = work()
    return found, tape.replay


@contextmanager
def device(doubles: bool = True):
    """Within it, DEVICE is there, with float64 or without; yields what it does."""
    with _Numbers(), _Kernels(doubles) as kernels:
        yield kernels
