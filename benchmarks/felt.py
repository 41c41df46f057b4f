"""How many bits of its maps a picture feels: a bound for the bytes of a .ifs file.

    python benchmarks/felt.py NAME ... [--loss X]

NAME.pt and NAME.png are fits and their pictures. Around the best point of the finest lattice, the
error of the picture is a quadratic form of the numbers; the ellipsoid is found on whose surface the
converged attractor loses X of IoU in the mean. The bits are the logarithm of how many such
ellipsoids the lattice of all systems has room for, whatever the order of the maps: a code that
always finds a point in the ellipsoid, and knows no more of maps than the octahedron, needs as many.
The bytes are these bits with the header's and the checksum's.
"""

import argparse
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from diff_ifs.compress.goals import ways
from diff_ifs.compress.lattice import (
    Coded,
    finest,
    linearised,
    place_of,
    round_to_lattice,
    stepped,
    stride,
)
from diff_ifs.compress.search import contracts, score
from diff_ifs.files.checkpoint import as_tensors, fitted_target, load_checkpoint
from diff_ifs.formats.code import Code
from diff_ifs.formats.counting import lattice_points


def felt(code: Code, maps: torch.Tensor, target: torch.Tensor, loss: float) -> float:
    """The bits of one way to code a system."""
    code = finest(code)
    numbers = round_to_lattice(code, place_of(code, maps))
    curvature = linearised(Coded(code, numbers, 0.0), target)[0] / stride(code) ** 2
    sizes, axes = torch.linalg.eigh(curvature)
    least = float(sizes.max()) / code.steps**2  # no axis is much longer than the lattice
    sizes = sizes.clamp(min=least)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(24, len(sizes), generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=1, keepdim=True) / sizes.sqrt()) @ axes.T
    before = score(code, numbers, target, 2)

    def lost(radius: float) -> float:
        moved = [round_to_lattice(code, stepped(numbers, radius * way)) for way in directions]
        ious = [score(code, some, target, 2) for some in moved if contracts(code, some)]
        return before - sum(ious) / len(moved)

    low, high = 0.0, 40.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if lost(middle) < loss else (low, middle)
    m = len(sizes)
    ball = m / 2 * math.log2(math.pi) - math.lgamma(m / 2 + 1) / math.log(2)
    volume = ball + m * math.log2(high) - float(sizes.log2().sum()) / 2
    systems = 0.0
    for kind in code.kinds_at(code.steps):
        points = lattice_points(kind.steps, code.similar, kind.rings)
        systems += kind.count * math.log2(points) - math.lgamma(kind.count + 1) / math.log(2)
    return systems - volume


def main(argv: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("names", nargs="+", metavar="NAME")
    parse.add_argument("--loss", type=float, default=0.005)
    arguments = parse.parse_args(argv)
    for name in arguments.names:
        path = Path(f"{name}.pt")
        checkpoint = load_checkpoint(path)
        target = torch.from_numpy(fitted_target(path, checkpoint, name)[1])
        for way in ways(as_tensors(checkpoint), target):
            code = way.code
            bits = felt(code, way.maps, target, arguments.loss)
            size = math.ceil((code.header()[1] + bits) / 8) + 1
            print(
                f"{name}: {code.n * (4 if code.similar else 6)} numbers, {code.drawn} maps: "
                f"{bits:.0f} bits are felt, {size} bytes"
            )


if __name__ == "__main__":
    main()
