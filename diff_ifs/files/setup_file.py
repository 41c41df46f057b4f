"""NAME_setup.py, read and checked before anything heavy is loaded."""

import re
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from diff_ifs.errors import InputError, one_line
from diff_ifs.files.names import find
from diff_ifs.files.system import CHAINED, load_system
from diff_ifs.setup import Setup, check_field, unknown_field


def check_options(overrides: dict) -> None:
    """Raise InputError for a command-line option out of its range."""
    for field, value in overrides.items():
        try:
            check_field(field, value, f"--{field}")
        except ValueError as error:
            raise InputError(one_line(error)) from error


def load_setup(name: str, overrides: dict) -> tuple[Setup, Path | None]:
    """The setup of NAME_setup.py with some fields replaced, and the file; the defaults and None
    where there is none.

    Raises InputError for a setup that fails, with the line that did. Torch is loaded only if the
    setup uses it.
    """
    path = find(f"{name}_setup.py")
    setup = Setup() if path is None else _run_setup(path)
    try:
        return replace(setup, **overrides), path
    except ValueError as error:
        raise InputError(one_line(error)) from error


def _run_setup(path: Path) -> Setup:
    """The SETUP that a NAME_setup.py defines."""
    module = sys.modules[f"the setup {path.stem}"] = ModuleType(f"the setup {path.stem}")
    module.__file__ = str(path)  # a name that shadows nothing and that nothing shadows
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        words = one_line(error)
        if unknown := re.search(
            r"Setup.__init__\(\) got an unexpected keyword argument '(\w+)'", words
        ):
            words = unknown_field(unknown[1])
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("ifs_"):
            words = (
                f"{error.name} is no more; write: from diff_ifs import Setup, affine, similarity"
            )
        raise InputError(f"{path}{_failing_line(error, path)}: {words}") from error
    finally:
        del sys.modules[module.__name__]
    if not isinstance(setup := vars(module).get("SETUP"), Setup):
        raise InputError(f"{path} must define SETUP = Setup(...), with: from diff_ifs import Setup")
    return setup


def _failing_line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}" if error.lineno else ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f", line {lines[-1]}" if lines else ""


def setup_from(file: str, overrides: dict) -> Setup:
    """The setup that starts from the maps of a file, in the frame of its window, with some fields
    replaced.

    Raises InputError if there are none that a fit can start from.
    """
    if "maps" in overrides:
        raise InputError("give either --from FILE or --maps")
    system = load_system(file)
    if system.picture is not None:
        raise InputError(f"{file} has {CHAINED}: no fit has these")
    xmin, xmax, ymin, ymax = system.window
    scale, middle = 2 / (xmax - xmin), ((xmin + xmax) / 2, (ymin + ymax) / 2)
    maps = system.maps.copy()
    maps[:, :, 2] = scale * (maps[:, :, 2] + maps[:, :, :2] @ middle - middle)
    stroke = {"stroke": min(scale * system.stroke, 1.0)} if system.stroke > 0 else {}
    try:
        return Setup(**{"maps": maps.tolist(), **stroke, **overrides})
    except ValueError as error:
        raise InputError(f"{file}: {one_line(error)}") from error
