"""Everything behind the commands: fractals fitted to pictures, drawn, filed and compressed.

The names below are loaded when they are first used, so that `from diff_ifs import Setup` loads no
torch.
"""

import importlib

_HOMES = {
    "setup": ("Setup", "affine", "similarity"),
    "errors": ("InputError",),
    "fit.judge": ("evaluate",),
    "draw.coverage": ("occupancy",),
    "draw.density": ("density",),
    "draw.distance": ("distance",),
    "metrics": ("iou", "dice", "mse", "chamfer", "hd95"),
}
_HOME = {name: f"diff_ifs.{module}" for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
