"""Are linear flames drawn as flam3 draws them? python benchmarks/flames.py [COUNT]

Makes COUNT linear flames (149 without it) of random maps that use what editors write, about as
often as the 149 linear ones among the flames that two editors ship with do: rotate, post, flatten,
chaos lists with and without zeros, hidden xforms, weights of 0, final xforms, symmetries, zoom, and
pictures that are not square. Each is drawn by render_ifs.py's code and by flam3-render (Debian:
flam3-utils), at 256 pixels a side, one sample a pixel. A flame is drawn otherwise than by flam3 if
more than 0.2 % of the pixels that flam3 hits have nothing of ours within a pixel, or more than 1 %
of ours nothing of flam3's within two. Of rare words a game draws little, so that such pixels only
count if a game of forty times the length leaves more than three quarters of them. These flames are
listed, with what they use.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from foreign import SIZE, drawn
from PIL import Image
from scipy.ndimage import binary_dilation

from diff_ifs.errors import InputError
from diff_ifs.files.system import load_system

# What a flame uses, and in how many of a hundred.
USES = {
    "rotate": 52,
    "post": 21,
    "flatten": 16,
    "chaos": 6,
    "chaos with zeros": 4,
    "hidden": 4,
    "weight 0": 3,
    "final": 3,
    "symmetry": 10,
    "zoom": 10,
    "oblong": 30,
    "amount": 10,
}


def flame(chance: np.random.Generator) -> tuple[str, list[str]]:
    """The XML of a random linear flame, and what it uses."""
    uses = [use for use, percent in USES.items() if chance.random() < percent / 100]
    count = int(chance.integers(2, 7))
    xforms = []
    for k in range(count):
        turn, size, slant = chance.uniform(0, 2 * math.pi), *chance.uniform(0.35, 0.75, 2)
        c, s = math.cos(turn), math.sin(turn)
        linear = np.array([[c, -s], [s, c]]) @ [[size, 0.3 * (slant - 0.5)], [0, slant]]
        linear *= [1, chance.choice([-1, 1])]
        attributes = {"weight": f"{chance.uniform(0.3, 1):.3g}", "color": "0"}
        amount = chance.uniform(0.7, 1.2) if "amount" in uses and k == 0 else 1.0
        attributes["linear"] = f"{amount:.3g}"
        attributes["coefs"] = numbers([*linear.T.ravel(), *chance.uniform(-1, 1, 2)])
        if "post" in uses and chance.random() < 0.5:
            angle = chance.uniform(0, 2 * math.pi)
            c, s = 0.95 * math.cos(angle), 0.95 * math.sin(angle)
            attributes["post"] = numbers([c, s, -s, c, *chance.uniform(-0.3, 0.3, 2)])
        if "flatten" in uses:
            attributes["flatten"] = "1"
        if "chaos" in uses:
            attributes["chaos"] = numbers(chance.uniform(0.2, 2, count))
        if "chaos with zeros" in uses:
            follow = chance.random(count) < 0.6
            follow[(k + 1) % count] = True
            attributes["chaos"] = numbers(follow)
        if k == 1 and "hidden" in uses:
            attributes["opacity"] = "0"
        if k == 1 and count > 2 and "weight 0" in uses:
            attributes["weight"] = "0"
        xforms.append(element("xform", attributes))
    if "final" in uses:
        coefs = numbers(np.eye(2).ravel() + chance.uniform(-0.4, 0.4, 4))
        coefs += " " + numbers(chance.uniform(-0.3, 0.3, 2))
        xforms.append(element("finalxform", {"color": "0", "linear": "1", "coefs": coefs}))
    if "symmetry" in uses:
        xforms.append(element("symmetry", {"kind": str(chance.choice([-3, -2, 2, 3, 5]))}))
    sides = [SIZE, int(chance.integers(128, SIZE))] if "oblong" in uses else [SIZE, SIZE]
    zoom = chance.uniform(-0.5, 0.5) if "zoom" in uses else 0.0
    head = {
        "name": "random",
        "size": numbers(chance.permutation(sides)),
        "center": numbers(chance.uniform(-0.3, 0.3, 2)),
        "scale": f"{chance.uniform(35, 70):.5g}",
        "zoom": f"{zoom:.4g}",
        "rotate": f"{chance.uniform(-180, 180) if 'rotate' in uses else 0:.5g}",
        "supersample": "1",
        "filter": "0.01",
        "quality": "@",
        "temporal_samples": "1",
        "background": "0 0 0",
        "brightness": "1000",
        "gamma": "4",
        "gamma_threshold": "0",
        "estimator_radius": "0",
    }
    colours = "".join(f'<color index="{k}" rgb="255 255 255"/>' for k in range(256))
    inside = "\n".join(xforms)
    return f"{element('flame', head)[:-2]}>\n{inside}\n{colours}\n</flame>\n", uses


def element(tag: str, attributes: dict[str, str]) -> str:
    inside = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"<{tag} {inside}/>"


def numbers(values) -> str:
    return " ".join(f"{float(value):.6g}" for value in values)


def by_flam3(text: str, quality: int, out: Path) -> np.ndarray:
    """The pixels (height, width) that flam3 hits with so many samples a pixel."""
    done = subprocess.run(
        ["flam3-render"],
        input=text.replace('"@"', f'"{quality}"'),
        env={**os.environ, "out": str(out), "isaac_seed": "0", "nthreads": "1"},
        capture_output=True,
        text=True,
    )
    if not out.exists():
        raise SystemExit(f"flam3-render drew nothing: {done.stderr[-300:]}")
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB")).max(axis=2) > 0


def far(some: np.ndarray, others: np.ndarray, pixels: int) -> float:
    """The part of the pixels of some that have none of others within a number of pixels."""
    near = binary_dilation(others, np.ones((3, 3), bool), iterations=pixels)
    return float((some & ~near).sum() / max(1, some.sum()))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 149
    chance, wrong, refused, used = np.random.default_rng(0), [], Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, count + 1):
            text, uses = flame(chance)
            used.update(uses)
            path = Path(folder) / f"flame_{number}.flame"
            path.write_text(text)
            try:
                system = load_system(str(path))
            except InputError as error:
                reason = str(error).partition("drawn: ")[2] or str(error)
                refused[reason.partition(":")[0]] += 1
                print(f"flame {number} ({', '.join(uses)}): {reason}", flush=True)
                continue
            out = path.with_suffix(".png")
            theirs, ours = by_flam3(text, 300, out), drawn(system)
            high, wide = theirs.shape
            top, left = (SIZE - high) // 2, (SIZE - wide) // 2
            ours = ours[top : top + high, left : left + wide]
            missed, more = far(theirs, ours, 1), far(ours, theirs, 2)
            longer = by_flam3(text, 12000, out) if more > 0.01 else theirs
            if missed > 0.002 or far(ours, longer, 2) > max(0.75 * more, 0.01):
                wrong.append(number)
                print(f"flame {number} ({', '.join(uses)}): {missed:.2%} missed, {more:.2%} more")
    print(f"uses: {', '.join(f'{use} {n}' for use, n in sorted(used.items()))}")
    opened = count - sum(refused.values())
    print(f"{opened} of {count} open, {len(wrong)} of them drawn otherwise than by flam3")
    for reason, n in refused.most_common():
        print(f"{n} refused: {reason}")


if __name__ == "__main__":
    main()
