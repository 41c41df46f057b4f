"""The names of targets, and where their files are."""

import difflib
import os
import unicodedata
from pathlib import Path

from diff_ifs.errors import InputError, one_line

HERE = Path(__file__).resolve().parents[2]  # beside the scripts


# Endings of pictures, in the order in which they are looked for; the same in capitals counts as
# well:
PICTURES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".ppm",
    ".pgm",
    ".pbm",
)


def check_name(name: str) -> None:
    """Raise InputError unless `name` is the plain name of a target: it becomes part of the names of
    files."""
    if name.endswith((*PICTURES, ".pt")) and is_plain(Path(name).stem):
        raise InputError(f"give the name alone, without its ending: {Path(name).stem}")
    if not is_plain(name):
        words = "use letters, digits, spaces, '_' and '-', as in apple for apple.png"
        raise InputError(f"{one_line(name)!r} is not a plain name: {words}")
    if len(os.fsencode(name)) > 150:
        raise InputError(
            f"a name of {len(name)} letters is too long for the names of files; rename the picture"
        )


def is_plain(name: str) -> bool:
    """Letters of any script with their marks, digits, '_', and, inside the name, '-' and spaces."""
    marked = all(c.isalnum() or c in "_- " or unicodedata.category(c)[0] == "M" for c in name)
    return marked and name[:1] not in ("", "-", " ") and name[-1] != " "


def find(filename: str) -> Path | None:
    """A file in the current directory, else beside the scripts, else None."""
    return next((path for path in (Path(filename), HERE / filename) if path.is_file()), None)


def is_picture(filename: str) -> bool:
    """Whether this is the plain name of a target with the ending of a picture."""
    return Path(filename).suffix.lower() in PICTURES and is_plain(Path(filename).stem)


def plain(given: str) -> str:
    """The name of a target that is given with or without the ending of its picture."""
    return Path(given).stem if is_picture(given) else given


def find_pictures(given: str) -> list[Path]:
    """The pictures of a target, the one to be read first: `given` is NAME, or NAME with its ending.

    That is the named one, else the PNG. Raises InputError, naming targets like it, if there is
    none.
    """
    name = plain(given)
    check_name(name)
    for folder in (Path(), HERE):
        here = sorted(folder.glob(f"{name}.*")) if folder.is_dir() else []
        here = [path for path in here if path.suffix.lower() in PICTURES and path.is_file()]
        here.sort(
            key=lambda path: (
                path.name != given,
                PICTURES.index(path.suffix.lower()),
                path.suffix.lower() != path.suffix,
            )
        )
        if here and given in (name, here[0].name):
            return here
    known = {
        path.stem for folder in (Path(), HERE) for path in folder.iterdir() if is_picture(path.name)
    }
    wanted = given if is_picture(given) else f"{name}.png"
    raise InputError(f"there is no {wanted} here; {_there_are(known, name, 'pictures')}")


def find_checkpoint(name: str) -> Path:
    """NAME.pt in the current directory. Raises InputError, naming the command that makes it, if it
    is not there."""
    check_name(name)
    path = Path(f"{name}.pt")
    if path.is_file():
        return path
    if any(find(f"{name}{ending}") for ending in PICTURES):
        raise InputError(
            f"there is no {path} yet; make it with: python train_ifs.py {_quoted(name)}"
        )
    known = {path.stem for path in Path().glob("*.pt")}
    raise InputError(
        f"there is no {path} here, nor a {name}.png to fit; "
        f"{_there_are(known, name, 'checkpoints')}"
    )


def _there_are(names: set[str], wanted: str, what: str) -> str:
    names = sorted(filter(is_plain, names))
    if not names:
        return f"there are no {what} at all"
    if near := difflib.get_close_matches(wanted, names, n=3, cutoff=0.75):
        return f"did you mean {' or '.join(near)}?"
    if len(names) <= 12:
        return f"the {what} that exist: {', '.join(names)}"
    return f"none of the {len(names)} {what} that exist has a name like it"


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return f"'{name}'" if " " in name else name
