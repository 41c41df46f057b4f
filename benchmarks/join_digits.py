"""Make pictures of digits that fill their frames as pictures of clothes do.

    python benchmarks/join_digits.py FOLDER OUT

Each grey picture of FOLDER is laid over the next one, by name, which is turned by a quarter: the
brighter of the two is seen. Fifty digits of MNIST give fifty pictures of which a fifth is lit, in
place of Fashion-MNIST, which no package ships.
"""

import sys
from pathlib import Path

from PIL import Image, ImageChops


def main(argv: list[str] | None = None) -> None:
    folder, out = map(Path, argv or sys.argv[1:])
    paths = sorted(folder.glob("*.png"))
    pictures = [Image.open(path).convert("L") for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    for path, picture, other in zip(paths, pictures, pictures[1:] + pictures[:1], strict=True):
        turned = other.transpose(Image.Transpose.ROTATE_90)
        ImageChops.lighter(picture, turned).save(out / path.name)


if __name__ == "__main__":
    main()
