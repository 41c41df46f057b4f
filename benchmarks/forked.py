"""What survive.py and nonsense.py share: commands in processes of their own, and what is left."""

import contextlib
import csv
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import imageio.v3  # noqa: F401 (for the forked fits)
import numpy as np
from PIL import Image

import render_ifs
import train_ifs
from diff_ifs.files.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--size", "32", "--steps", "20", "--starts", "2", "--points", "500", "--quiet"]
MAIN = {"train": train_ifs.main, "render": render_ifs.main}
failures: list[str] = []


class Done(NamedTuple):
    """How a forked command ended: its exit code or minus its signal, what it said, and what it
    took."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int  # the most it had, in bytes


def fork(folder: Path, script: str, argv: list[str], signals=(), limits=None) -> Done:
    """Run a script's main in a process of its own, in a folder. `signals` are pairs (seconds after
    the start, signal), `limits` a dict of what `setrlimit` takes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        began, pid = time.perf_counter(), os.fork()
        if pid == 0:
            _run(folder, script, argv, limits or {}, (out.fileno(), err.fileno()))
        waiting, status = list(signals), None
        while status is None:
            ended, code, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
            elif waiting and time.perf_counter() - began >= waiting[0][0]:
                os.kill(pid, waiting.pop(0)[1])
            elif time.perf_counter() - began > 300:
                os.kill(pid, signal.SIGKILL)
                failures.append(f"{script} {' '.join(argv)} did not end")
            else:
                time.sleep(0.001)
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Done(status, out.read(), err.read(), seconds, memory)


def _run(folder: Path, script: str, argv: list[str], limits: dict, streams) -> None:
    """In the child: the command, whose output goes to two open files; then the child ends."""
    code = 1
    try:
        os.chdir(folder)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        for what, most in limits.items():
            resource.setrlimit(what, (most, most))
        code = MAIN[script](argv)
    except SystemExit as stop:  # argparse's way out
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def expect(truth: object, words: str) -> bool:
    """Note a failure unless `truth` holds."""
    if not truth:
        failures.append(words)
    return bool(truth)


def damaged(folder: Path) -> int:
    """How many files under a folder are not whole. What a killed process had not finished bears
    another name."""
    count = 0
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.endswith((".part", "_setup.py")):
            continue
        try:
            if path.suffix == ".pt":
                assert np.isfinite(load_checkpoint(path)["iou"])
            elif path.suffix == ".csv":
                rows = [list(map(float, row)) for row in list(csv.reader(path.open()))[1:]]
                assert rows
                assert all(len(row) == 4 for row in rows)
                assert path.read_text().endswith("\n")
            else:
                with Image.open(path) as picture:
                    for k in range(getattr(picture, "n_frames", 1)):
                        picture.seek(k)
                        picture.load()
        except Exception as error:
            count += 1
            failures.append(f"{path.name} is damaged: {error!r}")
    return count


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files under a folder, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def row(what: str, tried: int, happened: str, lost: int) -> None:
    """Print a row of the table."""
    print(f"| {what} | {tried} | {happened} | {lost} |", flush=True)


def some(cases: list, share: float, chance: random.Random) -> list:
    """All of some cases, or a random share of them: at least one, in their order."""
    chosen = set(chance.sample(range(len(cases)), max(1, round(share * len(cases)))))
    return [case for k, case in enumerate(cases) if k in chosen]
