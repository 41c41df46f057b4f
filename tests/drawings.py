"""Pictures as render_ifs.py draws them, of systems so simple that numpy or Pillow draws them
too."""

import numpy as np
import torch
from PIL import Image

import render_ifs
from diff_ifs.draw.coverage import occupancy
from diff_ifs.setup import WINDOW, similarity

# Nothing here is symmetric: whatever is turned, mirrored or has its axes swapped is another
# picture.
PLACES = ((-0.5531, 0.3527), (0.3043, 0.6541), (0.1517, -0.4523))


def dots(places=PLACES, scale: float = 1e-5) -> torch.Tensor:
    """A system (n, 2, 3) whose attractor is a speck at each place, too small to be told from a
    point."""
    return torch.tensor([similarity(scale, at=place) for place in places], dtype=torch.float64)


def hits(maps: torch.Tensor, window=WINDOW, side: int = 64, recursion: int = 1000) -> torch.Tensor:
    """Which of side × side pixels hold a point of the attractor: (side, side), boolean."""
    return occupancy(maps, window, side, recursion, supersample=1) > 0


def save(name: str, maps: torch.Tensor, **fields) -> None:
    """Write NAME.pt."""
    plain = {"format": "diff_ifs", "version": 1, "name": name, "maps": maps, "window": WINDOW}
    plain |= {"stroke": 0.0, "size": 256, "setup": {}, "step": 0, "iou": 0.0}
    torch.save({**plain, **fields}, f"{name}.pt")


def render(*arguments: object) -> int:
    """Run render_ifs.py; its exit code."""
    return render_ifs.main([*map(str, arguments), "--quiet"])


def drawn(*arguments: object) -> np.ndarray:
    """The picture that render_ifs.py writes."""
    assert render(*arguments, "--out", "drawn.png") == 0
    with Image.open("drawn.png") as picture:
        return np.asarray(picture)


def numbers(*arguments: object) -> np.ndarray:
    """The bare numbers that render_ifs.py writes."""
    assert render(*arguments, "--out", "drawn.npy") == 0
    return np.load("drawn.npy")


def film(path: str) -> list[np.ndarray]:
    """The frames (H, W, 3) of a GIF."""
    with Image.open(path) as opened:
        frames = []
        for k in range(opened.n_frames):
            opened.seek(k)
            frames.append(np.asarray(opened.convert("RGB")))
        return frames


def middles(size: int, window=WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """x (S,) and y (S, 1) of the middles of pixels, the first row on top."""
    at = (np.arange(size) + 0.5) / size
    x = window[0] + at * (window[1] - window[0])
    return x, (window[3] - at * (window[3] - window[2]))[:, None]


def discs(radius: float, size: int, window=WINDOW, parts: int = 4, places=PLACES) -> np.ndarray:
    """Coverage (S, S) of discs about the middles of those parts of pixels in which the places
    lie."""
    part = (window[1] - window[0]) / (size * parts)
    at = np.arange(size * parts)
    taken = np.zeros((size * parts, size * parts), dtype=bool)
    for x, y in places:
        row, column = np.floor((window[3] - y) / part), np.floor((x - window[0]) / part)
        taken |= np.hypot(at[:, None] - row, at - column) <= radius / part + 1e-9
    return taken.reshape(size, parts, size, parts).mean((1, 3))
