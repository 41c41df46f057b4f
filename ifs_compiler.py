"""Whether there are compiled loops, and how a fresh copy gets them: once, and by other processes.

numba compiles a loop when it is first called and leaves it on disk. For those of a fit that takes some fifteen seconds
of one core. So two other processes call them on next to nothing, while this one loads PyTorch; it compiles what nobody
has begun yet, and waits for what they are at.
"""

import contextlib
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

_compiling = {"rehearse_first": "", "rehearse_second": ""}  # the loop that each of them is at, by what it calls
_news = threading.Condition()
_is_other = False


@functools.cache
def load_kernels() -> ModuleType | None:
    """`ifs_kernels`, or None where numba is missing or may not compile. In a fresh copy, others begin to compile."""
    try:
        import numba

        import ifs_kernels
    except (ImportError, OSError, RuntimeError, ValueError):  # missing, nowhere to write, or NUMBA_NUM_THREADS is 0
        return None  # everything works without it, but takes longer
    if numba.config.DISABLE_JIT:
        return None  # uncompiled, its loops would take hours
    if ifs_kernels.is_fresh():
        for name in _compiling:
            threading.Thread(target=_follow, args=[name], daemon=True).start()
    return ifs_kernels


def _follow(name: str) -> None:
    """Let another process `rehearse`, and note what it is at."""
    command = sys.executable, "-c", f"import ifs_compiler; ifs_compiler.rehearse({name!r})"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with contextlib.suppress(OSError), subprocess.Popen(command, cwd=Path(__file__).parent, **streams) as other:
        for line in other.stdout:
            _note(name, line.strip())
    _note(name, "")


def _note(name: str, loop: str) -> None:
    with _news:
        _compiling[name] = loop
        _news.notify_all()


def rehearse(name: str) -> None:
    """Call a function of `ifs_kernels`, whose loops tell standard output when they begin."""
    global _is_other
    _is_other = True
    if hasattr(os, "nice"):
        os.nice(10)  # what the first process does meanwhile comes first
    import ifs_kernels

    getattr(ifs_kernels, name)()


def entry(loop: Callable) -> Callable:
    """A compiled loop that Python calls, as `loop` of what is returned; it waits while another process compiles it."""
    name = loop.__name__

    def call(*arguments):
        if name in _compiling.values():
            with _news:
                _news.wait_for(lambda: name not in _compiling.values())
        return loop(*arguments)

    def told(*arguments):
        with contextlib.suppress(OSError):  # nobody listens any more
            print(name, flush=True)
        return loop(*arguments)

    chosen = told if _is_other else call
    chosen.loop = loop
    return chosen
