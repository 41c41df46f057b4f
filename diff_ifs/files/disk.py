"""Files that take their place only when they are complete, the lock of a folder, and what earlier
runs left."""

import itertools
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from diff_ifs.errors import InputError, one_line
from diff_ifs.files.command import FULL


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` once it is complete, so that no half of it
    is ever seen.

    Raises InputError, and leaves what was there, where the disk is full or may not be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        advice = "make room" if error.errno in FULL else "work in a folder that can be written to"
        words = (
            f"cannot write {path} ({error.strerror or one_line(error)}); {advice}, and run again"
        )
        raise InputError(f"{words}: files that were there before are whole") from error
    finally:
        with suppress(OSError):  # it is gone where all went well
            temporary.unlink()


@contextmanager
def lock_results(name: str, folder: Path) -> Iterator[None]:
    """Keep NAME.pt and the folder of its results for one run, and clear away what a killed one had
    half written.

    Raises InputError if another run has them. The lock ends with the process, however that ends.
    Where the system has no such locks, two runs may go on side by side: their files are whole, but
    one overwrites the other's.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise InputError(
                f"cannot make the folder {folder} ({reason}); work in one that can be written to"
            ) from error
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(
                f"cannot write to the folder {folder} ({error.strerror}); change its permissions"
            ) from error
        with _lock(name, folder) as mine:
            if mine:
                kinds = (
                    "frame_*.png",
                    "trace.csv",
                    f"{name}.gif",
                    f"{name}_difference.png",
                    f"{name}_plot.png",
                    f"{name}_target.png",
                    f"{name}_previous*.pt",
                )
                ours = [Path(f"{name}.pt"), *(folder / kind for kind in kinds)]
                for left in (
                    left for path in ours for left in path.parent.glob(f".{path.name}.*.part")
                ):
                    with suppress(OSError):
                        left.unlink()
            yield
    finally:
        for path in made:
            with suppress(OSError):  # only if nothing has come into it
                path.rmdir()


@contextmanager
def _lock(name: str, folder: Path) -> Iterator[bool]:
    """Lock a folder; whether that could be done at all. Raises InputError if another process has
    locked it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = None
    try:
        try:
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            advice = "wait for it, or work in another folder"
            raise InputError(
                f"another run of {name} is at work in this folder; {advice}"
            ) from error
        except OSError:  # a file system without locks, or a folder that may not be read
            yield False
            return
        yield True
    finally:
        if handle is not None:
            os.close(handle)


def keep_previous(path: Path, folder: Path) -> Path | None:
    """Copy the checkpoint of an earlier run into a folder before a new run overwrites it; the copy,
    if there is one.

    That is NAME_previous.pt, or NAME_previous_2.pt, NAME_previous_3.pt … if others have that name,
    so that of many fits none is lost; one that is there already is not copied again.
    """
    if not path.is_file():
        return None
    ends = itertools.chain([""], (f"_{k}" for k in itertools.count(2)))
    copies = (folder / f"{path.stem}_previous{end}{path.suffix}" for end in ends)
    try:
        content = path.read_bytes()
        copy = next(copy for copy in copies if not copy.exists() or copy.read_bytes() == content)
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error}), and will not overwrite it; move it away"
        ) from error
    if not copy.exists():
        with atomic_write(copy) as file:
            file.write(content)
    return copy


def clear_frames(folder: Path) -> None:
    """Remove the frames of an earlier run. Raises InputError where that is not allowed."""
    for path in folder.glob("frame_*.png"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot remove {path} of an earlier run ({error.strerror}); move it away"
            ) from error
