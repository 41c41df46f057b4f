"""The names of targets, and where their files are."""

import difflib
import importlib.util
import os
import unicodedata
from pathlib import Path

from diff_ifs.errors import InputError, one_line

HERE = Path(__file__).resolve().parents[2]  # beside the scripts


def check_name(name: str) -> None:
    """Raise InputError unless `name` is the plain name of a target: it becomes part of the names of files."""
    if name.endswith((".png", ".pt")) and is_plain(Path(name).stem):
        raise InputError(f"give the name alone, without its ending: {Path(name).stem}")
    if not is_plain(name):
        words = "use letters, digits, spaces, '_' and '-', as in apple for apple.png"
        raise InputError(f"{one_line(name)!r} is not a plain name: {words}")
    if len(os.fsencode(name)) > 150:
        raise InputError(f"a name of {len(name)} letters is too long for the names of files; rename the picture")
    if _is_module(name) and not (HERE / f"{name}.png").is_file():  # some package may be called flower
        raise InputError(f"{name!r} is the name of a Python module; rename the picture, as in my_{name}.png")


def is_plain(name: str) -> bool:
    """Letters of any script with their marks, digits, '_', and, inside the name, '-' and spaces."""
    marked = all(c.isalnum() or c in "_- " or unicodedata.category(c)[0] == "M" for c in name)
    return marked and name[:1] not in ("", "-", " ") and name[-1] != " "


def _is_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None  # a plain folder passes for a package, but has no origin


def find(filename: str) -> Path | None:
    """A file in the current directory, else beside the scripts, else None."""
    return next((path for path in (Path(filename), HERE / filename) if path.is_file()), None)


def find_picture(name: str) -> Path:
    """NAME.png. Raises InputError, naming the targets that exist, if it is not there."""
    check_name(name)
    path = find(f"{name}.png")
    if path is None:
        for suffix in (".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".PNG", ".JPG"):
            if Path(f"{name}{suffix}").exists():
                raise InputError(
                    f"there is no {name}.png here, but {name}{suffix}; rename it, whatever format it is in"
                )
        known = {path.stem for folder in (Path(), HERE) for path in folder.glob("*.png")}
        raise InputError(f"there is no {name}.png here; {_there_are(known, name, 'pictures')}")
    return path


def find_checkpoint(name: str) -> Path:
    """NAME.pt in the current directory. Raises InputError, naming the command that makes it, if it is not there."""
    check_name(name)
    path = Path(f"{name}.pt")
    if path.is_file():
        return path
    if find(f"{name}.png"):
        raise InputError(f"there is no {path} yet; make it with: python train_ifs.py {_quoted(name)}")
    known = {path.stem for path in Path().glob("*.pt")}
    raise InputError(f"there is no {path} here, nor a {name}.png to fit; {_there_are(known, name, 'checkpoints')}")


def _there_are(names: set[str], wanted: str, what: str) -> str:
    names = sorted(filter(is_plain, names))
    if not names:
        return f"there are no {what} at all"
    if len(names) <= 12:
        return f"the {what} that exist: {', '.join(names)}"
    near = difflib.get_close_matches(wanted, names, n=3) or names[:3]
    return f"of the {len(names)} {what} that exist, did you mean {' or '.join(near)}?"


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return f"'{name}'" if " " in name else name
