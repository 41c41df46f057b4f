"""How long a user waits: for a help text, a refusal, and the first reports of a fit, in a fresh
copy and afterwards.

    python benchmarks/startup.py [RUNS]

Each number is the median of that many runs (3). A fresh copy has no compiled loops; what it
compiles, it keeps.
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# of the start, after the first steps, at the end
REPORTS = (
    r" 0/\d+ .*IoU=",
    r" [1-9]\d*/\d+ .*IoU=",
    r"-> koch\.pt",
)


def waits(folder: Path, *arguments: str, signs: tuple[str, ...]) -> list[float]:
    """Seconds from a command until it has said what matches each of the patterns, and until it has
    ended."""
    began, said, found = time.perf_counter(), "", []
    command = [sys.executable, "train_ifs.py", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=folder, **streams) as process:
        while some := process.stdout.read1():
            said += some.decode()
            while len(found) < len(signs) and re.search(signs[len(found)], said):
                found.append(time.perf_counter() - began)
    if len(found) < len(signs):
        raise SystemExit(f"startup.py: {' '.join(command)} did not say what was expected:\n{said}")
    return [*found, time.perf_counter() - began]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows: dict[str, list[list[float]]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            for path in [*ROOT.glob("*.py"), ROOT / "koch.png"]:
                shutil.copy(path, name)
            shutil.copytree(
                ROOT / "diff_ifs",
                Path(name, "diff_ifs"),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            for what in ("koch, fresh copy", "koch, again"):
                rows.setdefault(what, []).append(waits(Path(name), "koch", signs=REPORTS))
            rows.setdefault("--help", []).append(waits(Path(name), "--help", signs=("usage",)))
            rows.setdefault("a refusal", []).append(
                waits(Path(name), "nowhere", signs=("nowhere",))
            )
    print("| train_ifs.py | first report (s) | after the first steps (s) | whole command (s) |")
    print("|---|---|---|---|")
    for what, times in rows.items():
        first, *steps, end = (
            f"{statistics.median(column):.2f}" for column in zip(*times, strict=True)
        )
        print(f"| {what} | {first} | {steps[0] if steps else '–'} | {end} |")


if __name__ == "__main__":
    main()
