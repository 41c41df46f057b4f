"""The page that explore_ifs.py writes: one HTML file to look at a system, zoom, draw and save.

page.html is the template. The files .js are joined to one script, which the page runs, and a worker
that paints for it.
"""

import base64
import hashlib
import html
import io
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from diff_ifs.files.disk import atomic_write

if TYPE_CHECKING:
    import numpy as np

DRAWING = (
    "maps",
    "chart",
    "distance",
    "words",
    "cover",
    "occupancy",
    "density",
    "levels",
    "splats",
)
PAGE = ("painter", "code", "palettes", "stage", "frames", "save", "watch", "panel", "page")
MOST_NUMBERS = 12_000  # of the maps, and of those on the way of a fit, for pages below 300 kB


def write_page(path: Path, *system, **more) -> int:
    """Write a page, whole or not at all, and return its bytes. Raises InputError if it cannot."""
    content = page(*system, **more).encode()
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def page(
    name: str,
    maps: "np.ndarray",
    window: tuple[float, float, float, float],
    stroke: float,
    size: int,
    target: "np.ndarray | None" = None,
    way: "tuple[list[int], np.ndarray, list[float]] | None" = None,
    reload: bool = False,
    weights: "np.ndarray | None" = None,
) -> str:
    """The HTML of a page that shows a system: maps (n, 2, 3), window, pen, and size in pixels.

    target: the picture (S, S), in [0, 1], that was fitted. way: the steps of the fit, the maps
    (K, n, 2, 3) and strokes at each. With `reload` it loads itself again and again. weights: the
    maps' shares (n,) of the measure, if not by their areas.
    """
    data = {
        "name": name,
        "maps": [_numbers(map_) for map_ in maps],
        "window": [float(edge) for edge in window],
        "stroke": float(stroke),
        "size": int(size),
        "target": None if target is None else _picture(target),
        "way": None if way is None else _thinned(*way),
        "reload": reload,
        "weights": None if weights is None else [float(share) for share in weights],
    }
    words = json.dumps(data, separators=(",", ":"), allow_nan=False)
    parts = {
        "title": html.escape(f"{name} · diff_ifs").encode("utf-8", "replace").decode(),
        "style": _read("style.css"),
        "data": words.replace("<", "\\u003c"),  # so that nothing in it ends the element
        "script": "\n".join(['"use strict";', *(_read(f"{name}.js") for name in DRAWING + PAGE)]),
    }
    parts["policy"] = (
        f"default-src 'none'; script-src {_hash(parts['script'])}; "
        f"style-src {_hash(parts['style'])}; img-src data: blob:; worker-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def _read(filename: str) -> str:
    return files(__name__).joinpath(filename).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source of a Content-Security-Policy that allows this text and nothing else."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _numbers(map_) -> list[float]:
    return [float(x) for row in map_ for x in row]


def _picture(target: "np.ndarray") -> str:
    """A picture (S, S) in [0, 1] as a data URI of a PNG."""
    import numpy as np
    from PIL import Image

    content = io.BytesIO()
    pixels = np.rint(np.asarray(target) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _thinned(steps: list[int], maps: "np.ndarray", strokes: list[float]) -> dict | None:
    """The way of a fit, less some of its steps, or all, where there are very many numbers."""
    room = MOST_NUMBERS // maps[0].size - 1
    if room < 2:
        return None
    every = -(-(len(steps) - 1) // (room - 1)) or 1
    kept = [*range(0, len(steps) - 1, every), len(steps) - 1]
    return {
        "steps": [int(steps[k]) for k in kept],
        "maps": [[[round(x, 5) for x in _numbers(map_)] for map_ in maps[k]] for k in kept],
        "strokes": [round(float(strokes[k]), 6) for k in kept],
    }
