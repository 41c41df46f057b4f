"""Kill fits at random moments, feed them bad input, fill the disk, and count what was lost: nothing
should be.

    python benchmarks/survive.py > benchmarks/survive.txt

Exits with 1 if a file was damaged, a fit could not go on, or anything but one line was said about
bad input. The fits are forked from one process that has loaded everything, so that a kill strikes
at their work, not at their imports; therefore it needs Linux or macOS. `--share 0.05` tries a
twentieth of everything, as the tests do.
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import torch
from forked import MAIN, TINY, Done, contents, damaged, expect, failures, fork, row, some
from nonsense import bad_inputs, fuzz, refusal_times
from PIL import Image

from diff_ifs.files.checkpoint import load_checkpoint
from diff_ifs.files.target import LARGEST


def kills(most: int, chance: random.Random, base: Path) -> None:
    """kill -9 at random moments; what is left goes on, is killed again, and must end as a fit that
    never stopped."""
    whole: dict[str, tuple[float, dict[str, bytes]]] = {}
    killed = lives = bad = resumed = 0
    moments = []
    while killed < most:
        name = ("koch", "apple")[lives % 2]
        if name not in whole:
            folder = base / f"whole_{name}"
            folder.mkdir()
            done = fork(folder, "train", [name, *TINY])
            expect(done.code == 0, f"{name}: {done.err}")
            whole[name] = done.seconds, contents(folder)
        seconds, wanted = whole[name]
        folder = base / f"life_{lives}"
        folder.mkdir()
        lives += 1
        while not complete(folder / f"{name}.pt"):  # else it had only to say so
            argv = [name, *TINY, *["--resume"] * (folder / f"{name}.pt").exists()]
            moment = chance.uniform(0.0, seconds) if killed < most else 1e9
            done = fork(folder, "train", argv, ((moment, signal.SIGKILL),))
            resumed += "--resume" in argv
            bad += damaged(folder)
            if done.code != -signal.SIGKILL:
                expect(done.code == 0, f"{name} ended with {done.code}: {done.err}")
                break
            killed += 1
            moments.append(moment / seconds)
        if expect(complete(folder / f"{name}.pt"), f"{name}: a life ended without a complete fit"):
            compare(name, contents(folder), wanted)
        shutil.rmtree(folder)
    happened = f"{resumed} resumed, {lives} lives ended with the maps of one never killed"
    row("`kill -9` of a fit", killed, happened, bad)
    print(f"|  (at moments from {min(moments):.0%} to {max(moments):.0%} of a run) | | | |")


def complete(path: Path) -> bool:
    """Whether a checkpoint is that of the last step of a tiny fit."""
    return path.exists() and load_checkpoint(path)["step"] == int(TINY[TINY.index("--steps") + 1])


def compare(name: str, left: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Note how the files of a fit that was killed differ from those of one that never stopped."""
    parts = [path for path in left if path.endswith(".part")]
    expect(not parts, "a killed run's leftovers stay")
    expect(left.keys() == wanted.keys(), f"{name}: not the files of a fit that was not stopped")
    ours, theirs = (
        torch.load(io.BytesIO(files[f"{name}.pt"]), weights_only=True)["maps"]
        for files in (left, wanted)
    )
    expect(torch.equal(ours, theirs), f"{name}: other maps than those of a fit never stopped")
    film = f"results/{name}/{name}.gif"
    expect(left[film] == wanted[film], f"{name}: another GIF")


def stops(most: int, chance: random.Random, base: Path) -> None:
    """Ctrl-C and SIGTERM, once and twice, at random moments."""
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
    for number, twice in ((signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)):
        bad = early = late = at_once = 0
        for k in range(most):
            folder = base / f"stop_{number}_{twice}_{k}"
            folder.mkdir()
            moment = chance.uniform(0.1, 2.5)
            signals = [(moment, number), *[(moment + chance.uniform(0.0, 0.5), number)] * twice]
            done = fork(folder, "train", ["koch", *TINY, "--steps", "20000"], signals)
            bad += damaged(folder)
            expect("Traceback" not in done.err, f"stopped with {done.err}")
            if done.code == -number:
                at_once += 1
                expect(twice, "one signal must not end a fit at once")
            elif done.code != 128 + number:
                failures.append(f"stopped with {done.code}, not {128 + number}: {done.err}")
            elif (folder / "koch.pt").exists():
                left = {path.name for path in (folder / "results/koch").iterdir()}
                wanted = {"koch.gif", "koch_difference.png", "koch_plot.png", "trace.csv"}
                expect(wanted <= left, f"after a stop there are only {sorted(left)}")
                expect("--resume" in done.err, "a stop must say how to go on")
                late += 1
            else:
                early += 1
            shutil.rmtree(folder)
        happened = f"{early + late} exit {128 + number} ({late} with everything written, "
        happened += f"{early} before the first step)" + f", {at_once} at once" * twice
        row(names[number] + ", twice" * twice, most, happened, bad)


def full_disks(share: float, chance: random.Random, base: Path) -> None:
    """Files that may not grow beyond a limit, and, where mounting is allowed, file systems that are
    too small."""
    tried = refused = went_well = bad = 0

    def judge(done: Done, folder: Path, before: dict[str, bytes]) -> None:
        nonlocal tried, refused, went_well, bad
        tried += 1
        refused += done.code == 2
        went_well += done.code == 0
        expect(done.code in (0, 2), f"on a full disk {done.code}: {done.err}")
        last = done.err.splitlines()[-1:]  # above it may stand that an earlier checkpoint is kept
        expect(done.code == 0 or "make room" in "".join(last), f"a full disk said {done.err}")
        expect("Traceback" not in done.err, f"a full disk said {done.err}")
        bad += damaged(folder)
        missing = [path for path in before if path not in contents(folder) and "frame_" not in path]
        bad += len(missing)
        expect(not missing, f"on a full disk {missing} got lost")

    fitted = base / "fitted"
    fitted.mkdir()
    expect(fork(fitted, "train", ["koch", *TINY]).code == 0, "the first fit")
    for resume in (False, True):
        for size in some([1_000, 3_000, 6_000, 8_000, 10_000, 20_000, 40_000], share, chance):
            folder = base / f"limit_{size}_{resume}"
            shutil.copytree(fitted, folder)
            before = contents(folder)
            argv, limits = ["koch", *TINY, *["--resume"] * resume], {resource.RLIMIT_FSIZE: size}
            judge(fork(folder, "train", argv, limits=limits), folder, before)
    mounted = 0
    for size in some([32, 64, 96, 128, 160, 192, 224, 256], share, chance):
        folder = base / f"small_{size}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        with contextlib.suppress(OSError):
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                mounted += 1
                try:
                    for _ in range(2):
                        before = contents(folder)
                        judge(fork(folder, "train", ["koch", *TINY]), folder, before)
                finally:
                    subprocess.run(["umount", str(folder)], check=True)
    happened = f"{refused} refused in one line, {went_well} fitted"
    row(f"full disk ({mounted} of them a small tmpfs)", tried, happened, bad)


def little_memory(share: float, base: Path) -> None:
    """An address space that is too small for the fit."""
    folder = base / "memory"
    folder.mkdir()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {resource.RLIMIT_AS: used + 200_000_000}
    cases = [["--size", "4096"], ["--starts", "20000", "--points", "400000"]]
    cases, refused = cases[: max(1, round(share * len(cases)))], 0
    for case in cases:
        done = fork(folder, "train", ["koch", "--quiet", *case], limits=limits)
        one_line = done.err.count("\n") <= 2  # above it may stand what was read
        said = done.code == 2 and one_line and "lower --starts, --points or --size" in done.err
        refused += expect(said, f"little memory, {case}: {done.code} {done.err[-300:]}")
    row("memory exhausted", len(cases), f"{refused} refused in one line", damaged(folder))


def large_pictures(base: Path) -> None:
    """The largest pictures that are read."""
    folder = base / "large"
    folder.mkdir()

    def draw(argv: list[str]) -> int:
        Image.MAX_IMAGE_PIXELS = None
        picture = Image.new(argv[0], (LARGEST, LARGEST))
        picture.paste("white", (2_000, 4_000, 12_000, 18_000))
        picture.save(f"large_{argv[0]}.png", compress_level=1)
        return 0

    MAIN["draw"] = draw
    for mode in ("1", "L", "RGBA"):
        expect(fork(folder, "draw", [mode]).code == 0, f"a large picture of mode {mode}")
        done = fork(folder, "train", [f"large_{mode}", "--maps", "4", *TINY])
        expect(done.code == 0, f"a large picture of mode {mode}: {done.err}")
        words = f"fitted, {done.memory / 1e9:.1f} GB of memory in all, {done.seconds:.0f} s"
        row(f"{LARGEST} × {LARGEST} PNG of mode {mode}", 1, words, damaged(folder / "results"))


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--share", type=float, default=1.0)
    parse.add_argument("--seed", type=int, default=0)
    arguments = parse.parse_args()
    share, chance = arguments.share, random.Random(arguments.seed)
    torch.set_num_threads(1)  # a process with threads of its own cannot be forked
    print("| what was tried | how often | what happened | lost or damaged |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base:
        os.chdir(base)
        base = Path(base)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            MAIN["train"](["koch", *TINY])  # loads loops, fonts and all else that a fit needs
        kills(max(1, round(110 * share)), chance, base)
        stops(max(1, round(10 * share)), chance, base)
        full_disks(share, chance, base)
        if sys.platform == "linux":  # elsewhere there is no such limit
            little_memory(share, base)
        bad_inputs(share, chance, base)
        fuzz(max(1, round(600 * share)), chance, base)
        if share >= 1:  # these take and measure time
            large_pictures(base)
            refusal_times(base)
    print(f"\n{len(failures)} failures")
    for failure in failures[:50]:
        print(f"  {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
