"""A page that follows a fit."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.page import write_page
from diff_ifs.setup import WINDOW

if TYPE_CHECKING:
    from torch import Tensor

    from diff_ifs.fit.run import State

SHARE = 0.05  # of the time that writing it may take


class LivePage:
    """The page of a fit to a target (S, S), written again and again with the best so far."""

    def __init__(self, path: Path, name: str, target: "Tensor"):
        self.path, self.name, self.target = path, name, target.cpu().numpy()
        self.due = 0.0  # when the next one may be written

    @property
    def address(self) -> str:
        """What a browser opens."""
        return self.path.resolve().as_uri()

    def show(self, state: "State", last: bool = False) -> None:
        """Write the page, unless one was written just now; the last one reloads no more."""
        import torch

        now = time.perf_counter()
        if not last and now < self.due:
            return
        steps, maps, strokes = zip(*state.path, strict=True)
        way = list(steps), torch.stack(maps).cpu().numpy(), list(strokes)
        best = state.best_maps.cpu().numpy(), WINDOW, state.best_stroke, len(self.target)
        write_page(self.path, self.name, *best, self.target, way, not last)
        self.due = now + (time.perf_counter() - now) / SHARE
