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
import csv
import io
import os
import random
import resource
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import imageio.v3  # noqa: F401 (for the forked fits)
import matplotlib.figure
import numpy as np
import torch
from PIL import Image

import render_ifs
import train_ifs
from diff_ifs.errors import InputError
from diff_ifs.files.checkpoint import check_target, load_checkpoint, load_origin, resume_of
from diff_ifs.files.names import check_name
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import LARGEST, load_target
from diff_ifs.formats.code import checksum

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--size", "32", "--steps", "20", "--starts", "2", "--points", "500", "--quiet"]
NAMES = ("koch", "apple")
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


def fork(
    folder: Path, script: str, argv: list[str], signals: tuple = (), limits: dict | None = None
) -> Done:
    """Run a script's main in a process of its own. `signals` are pairs (seconds after the start,
    signal)."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout.flush()
        began, pid = time.perf_counter(), os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(folder)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout, sys.stderr = (
                    os.fdopen(number, "w", closefd=False) for number in (1, 2)
                )
                for what, most in (limits or {}).items():
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
        if path.is_dir() or path.name.endswith(".part") or path.name.endswith("_setup.py"):
            continue
        try:
            if path.suffix == ".pt":
                checkpoint = load_checkpoint(path)
                assert np.isfinite(checkpoint["iou"])
            elif path.suffix == ".csv":
                rows = list(csv.DictReader(path.read_text().splitlines()))
                assert rows
                assert all(
                    len(row) == 4 and all(map(float, row.values())) is not None for row in rows
                )
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
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def row(what: str, tried: int, happened: str, lost: int) -> None:
    print(f"| {what} | {tried} | {happened} | {lost} |", flush=True)


# --- Kills ---


def kills(most: int, chance: random.Random, base: Path) -> None:
    """kill -9 at random moments; what is left goes on, is killed again, and must end as a fit that
    never stopped."""
    whole: dict[str, tuple[float, dict[str, bytes]]] = {}
    killed = lives = bad = resumed = 0
    moments = []
    while killed < most:
        name = NAMES[lives % len(NAMES)]
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
        while True:
            there = (folder / f"{name}.pt").exists()
            moment = chance.uniform(0.0, seconds) if killed < most else 1e9
            done = fork(
                folder, "train", [name, *TINY, *["--resume"] * there], ((moment, signal.SIGKILL),)
            )
            resumed += there
            bad += damaged(folder)
            if done.code == 0:
                break
            if not expect(
                done.code == -signal.SIGKILL, f"{name} ended with {done.code}: {done.err}"
            ):
                break
            killed += 1
            moments.append(moment / seconds)
            if complete(
                folder / f"{name}.pt"
            ):  # it had only to say so; to resume it would be to polish it
                break
        if expect(complete(folder / f"{name}.pt"), f"{name}: a life ended without a complete fit"):
            left = contents(folder)
            expect(
                not [path for path in left if path.endswith(".part")],
                "a killed run's leftovers stay",
            )
            expect(
                left.keys() == wanted.keys(), f"{name}: not the files of a fit that was not stopped"
            )
            ours, theirs = (
                torch.load(io.BytesIO(c[f"{name}.pt"]), weights_only=True) for c in (left, wanted)
            )
            expect(
                torch.equal(ours["maps"], theirs["maps"]),
                f"{name}: other maps than those of a fit that was not stopped",
            )
            expect(
                left[f"results/{name}/{name}.gif"] == wanted[f"results/{name}/{name}.gif"],
                f"{name}: another GIF",
            )
        shutil.rmtree(folder)
    spread = f"from {min(moments):.0%} to {max(moments):.0%} of a run"
    row(
        "`kill -9` of a fit",
        killed,
        f"{resumed} resumed, {lives} lives ended with the maps of one never killed",
        bad,
    )
    print(f"|  (at moments {spread}) | | | |")


def complete(path: Path) -> bool:
    """Whether a checkpoint is that of the last step of a tiny fit."""
    return path.exists() and load_checkpoint(path)["step"] == int(TINY[TINY.index("--steps") + 1])


def stops(most: int, chance: random.Random, base: Path) -> None:
    """Ctrl-C and SIGTERM, once and twice, at random moments."""
    for number, twice in ((signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)):
        bad = early = late = stopped = at_once = 0
        for k in range(most):
            folder = base / f"stop_{number}_{twice}_{k}"
            folder.mkdir()
            steps = ["--steps", "20000"]
            moment = chance.uniform(0.1, 4.0)
            signals = [(moment, number), *[(moment + chance.uniform(0.0, 0.5), number)] * twice]
            done = fork(folder, "train", ["koch", *TINY, *steps], tuple(signals))
            bad += damaged(folder)
            expect("Traceback" not in done.err, f"stopped with {done.err}")
            if done.code == -number:
                at_once += 1
                expect(twice, "one signal must not end a fit at once")
            elif expect(
                done.code == 128 + number,
                f"stopped with {done.code} instead of {128 + number}: {done.err}",
            ):
                stopped += 1
                if (folder / "koch.pt").exists():
                    left = {path.name for path in (folder / "results/koch").iterdir()}
                    wanted = {"koch.gif", "koch_difference.png", "koch_plot.png", "trace.csv"}
                    expect(wanted <= left, f"after a stop there are only {sorted(left)}")
                    expect("--resume" in done.err, "a stop must say how to go on")
                    late += 1
                else:
                    early += 1
            shutil.rmtree(folder)
        what = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
        happened = f"{stopped} exit {128 + number} ({late} with everything written, {early} before the first step)"
        row(what + ", twice" * twice, most, happened + f", {at_once} at once" * twice, bad)


# --- A machine that fails ---


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
            argv = ["koch", *TINY, *["--resume"] * resume]
            judge(fork(folder, "train", argv, limits={resource.RLIMIT_FSIZE: size}), folder, before)
    mounted = 0
    for size in some([32, 64, 96, 128, 160, 192, 224, 256], share, chance):
        folder = base / f"small_{size}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        with contextlib.suppress(OSError):
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                mounted += 1
                try:
                    judge(fork(folder, "train", ["koch", *TINY]), folder, {})
                    before = contents(folder)
                    judge(fork(folder, "train", ["koch", *TINY]), folder, before)
                finally:
                    subprocess.run(["umount", str(folder)], check=True)
    row(
        f"full disk ({mounted} of them a small tmpfs)",
        tried,
        f"{refused} refused in one line, {went_well} fitted",
        bad,
    )


def little_memory(share: float, base: Path) -> None:
    """An address space that is too small for the fit."""
    folder = base / "memory"
    folder.mkdir()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    cases = [["--size", "4096"], ["--starts", "20000", "--points", "400000"]]
    cases, refused = cases[: max(1, round(share * len(cases)))], 0
    for case in cases:
        limits = {resource.RLIMIT_AS: used + 300_000_000}
        done = fork(folder, "train", ["koch", "--quiet", *case], limits=limits)
        said = (
            done.code == 2
            and done.err.count("\n") <= 2  # above it may stand what was read
            and "lower --starts, --points or --size" in done.err
        )
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


# --- Bad input ---


def bad_inputs(share: float, chance: random.Random, base: Path) -> None:
    """What a user may type or leave lying about: each is refused in one line, and nothing changes
    on disk."""
    folder = base / "bad"
    folder.mkdir()
    shutil.copy(ROOT / "koch.png", folder / "koch.png")
    expect(fork(folder, "train", ["koch", *TINY]).code == 0, "a fit to be spoilt")
    good = torch.load(folder / "koch.pt", weights_only=True)
    Image.new("L", (32, 32), 0).save(folder / "black.png")
    Image.new("1", (32, 32), 1).save(folder / "white.png")
    Image.new("1", (1, 1), 1).save(folder / "one.png")
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(folder / "ghost.png")
    Image.new("1", (20001, 1), 1).save(folder / "long.png")
    (folder / "empty.png").touch()
    (folder / "noise.png").write_bytes(bytes(range(256)) * 4)
    (folder / "cut.png").write_bytes((ROOT / "apple.png").read_bytes()[:400])
    (folder / "script.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    )
    (folder / "folder.png").mkdir()
    speck = Image.new("L", (2000, 2000), 0)
    speck.putpixel((0, 0), 255)
    speck.save(folder / "speck.png")
    setups = {
        "syntax": "SETUP = (\n",
        "encoding": b"# caf\xe9\n",
        "nul": b"x = 1\0\n",
        "field": "from diff_ifs import Setup\nSETUP = Setup(stepps=3)\n",
        "range": "from diff_ifs import Setup\nSETUP = Setup(steps=3)\n",
        "kind": "from diff_ifs import Setup\nSETUP = Setup(size='large')\n",
        "stretch": "from diff_ifs import Setup, similarity\nSETUP = Setup(maps=[similarity(2)])\n",
        "shape": "from diff_ifs import Setup\nSETUP = Setup(maps=[1, 2, 3])\n",
        "infinite": "from diff_ifs import Setup\nSETUP = Setup(maps=[((float('nan'), 0, 0), (0, 0.5, 0))])\n",
        "nothing": "x = 3\n",
        "number": "SETUP = 3\n",
        "unknown": "print(foo)\n",
        "missing": "import not_there\n",
        "leaves": "import sys\nsys.exit(0)\n",
        "loop": "def f():\n    return f()\nf()\n",
        "words": "raise ValueError('two\\nlines')\n",
        "deep": f"x = {'(' * 500}{')' * 500}\n",
        "depth": "from diff_ifs import Setup\nSETUP = Setup(maps=30, depth=20)\n",
        "stretches": "from diff_ifs import Setup, similarity\nSETUP = Setup(maps=[similarity(2)])\n",
        "odd": "class Odd(BaseException):\n    pass\nraise Odd('no')\n",
        "outside": "x = 1\nreturn x\n",
    }
    for name, text in setups.items():
        shutil.copy(ROOT / "koch.png", folder / f"{name}.png")
        (folder / f"{name}_setup.py").write_bytes(
            text if isinstance(text, bytes) else text.encode()
        )
    checkpoints = crafted(good)
    for name, content in checkpoints.items():
        (folder / f"{name}.pt").write_bytes(content)
        shutil.copy(ROOT / "koch.png", folder / f"{name}.png")
        shutil.copy(ROOT / "koch_setup.py", folder / f"{name}_setup.py")

    names = [
        "../koch",
        "/etc/koch",
        "koch.png",
        "koch/",
        ".",
        "..",
        "",
        " koch",
        "-",
        "--",
        "a\nb",
        "a\0b",
        "C:koch",
        "~",
    ]
    names += [
        "os",
        "torch",
        "numpy",
        "ifs_model",
        "train_ifs",
        "sys",
        "x" * 300,
        "nowhere",
        "*",
        "$(ls)",
        "a;b",
        "\x1b[31m",
    ]
    values = {
        "steps": ["0", "9", "-1", "1e3", "2.5", "many", "9" * 30, ""],
        "maps": ["0", "1001", "-3", "x"],
        "size": ["7", "4097", "1000000000"],
        "starts": ["0", "100001"],
        "points": ["99", "16000001"],
        "depth": ["0", "65", "60"],
        "stroke": ["-0.1", "1.1", "nan", "inf", "x"],
        "seed": ["-1", "9" * 20, "9" * 5000],
        "device": ["tpu", "cuda:99", "cuda:x", "mps:3", "", "cpu:1", "\x1b"],
    }
    cases: list[tuple[str, str, list[str]]] = [("name", "train", ["--", name]) for name in names]
    cases += [("name", "render", ["--", name, "9", "64"]) for name in names]
    cases += [
        ("option", "train", ["koch", f"--{o}", v]) for o, tried in values.items() for v in tried
    ]
    cases += [
        ("option", "train", ["koch", "--unknown"]),
        ("option", "train", []),
        ("option", "train", ["koch", "apple"]),
    ]
    for numbers in (
        ["9", "0"],
        ["-1", "64"],
        ["9", "1e9"],
        ["9", "999999999"],
        ["x", "y"],
        ["9"],
        ["²", "64"],
    ):
        cases.append(("option", "render", ["--quiet", "--", "koch", *numbers]))
    for window in (
        ["1", "-1", "-1", "1"],
        ["nan", "1", "-1", "1"],
        ["0", "0", "0", "0"],
        ["-1", "1", "-2", "2"],
    ):
        cases.append(("option", "render", ["koch", "9", "64", "--window", *window]))
    cases += [
        ("option", "render", ["koch", "9", "64", *more])
        for more in (["--stroke", "nan"], ["--supersample", "99"])
    ]
    pictures = (
        "black",
        "white",
        "one",
        "ghost",
        "long",
        "empty",
        "noise",
        "cut",
        "script",
        "folder",
        "speck",
    )
    cases += [("picture", "train", [name, "--quiet"]) for name in pictures]
    cases += [("setup", "train", [name, "--quiet"]) for name in setups]
    cases += [("checkpoint", "train", [name, *TINY, "--resume"]) for name in checkpoints]
    renders = [name for name in checkpoints if not name.startswith("resume_")]
    cases += [("checkpoint", "render", [name, "9", "64", "--quiet"]) for name in renders]

    expect(
        len(cases) == len({(script, *argv) for _, script, argv in cases}), "two cases are the same"
    )
    tried, refused, lost = {}, {}, {}
    after = contents(folder)
    for kind, script, argv in some(cases, share, chance):
        before = after
        limits = {resource.RLIMIT_AS: 8 << 30} if sys.platform == "linux" else None
        done = fork(folder, script, argv, limits=limits)
        said = (
            done.code == 2
            and done.out == ""
            and done.err.count("\n") == 1
            and done.err.rstrip("\n").isprintable()
        )
        tried[kind] = tried.get(kind, 0) + 1
        refused[kind] = refused.get(kind, 0) + expect(
            said, f"{script} {argv!r}: {done.code} {done.out} {done.err[-400:]}"
        )
        after = contents(folder)
        lost[kind] = lost.get(kind, 0) + (
            not expect(after == before, f"{script} {argv!r} changed what is on disk")
        )
    for kind, count in tried.items():
        row(f"bad {kind}", count, f"{refused[kind]} refused in one line", lost[kind])


def crafted(good: dict) -> dict[str, bytes]:
    """Checkpoints that a stranger might send: wrong types, shapes and numbers, and claims of
    enormous sizes."""
    maps, resume = good["maps"], good["resume"]
    laughs: list = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    changes = {
        "format": {"format": "other"},
        "list_format": {"format": ["diff_ifs"]},
        "version": {"version": 2},
        "tensor_version": {"version": torch.ones(2)},
        "million": {"maps": maps[:1].expand(1_000_000, 2, 3)},
        "flat": {"maps": torch.zeros(4, 6)},
        "none": {"maps": maps[:0]},
        "no_maps": {"maps": None},
        "nan": {"maps": maps * float("nan")},
        "far": {"maps": maps + 1e9},
        "wide": {"maps": maps * 10},
        "whole": {"maps": torch.zeros(4, 2, 3, dtype=torch.long)},
        "complex": {"maps": maps.to(torch.complex64)},
        "graph": {"maps": maps.clone().requires_grad_()},
        "half": {"maps": maps.half()},
        "windows": {"window": (1.0, -1.0, -1.0, 1.0)},
        "window_nan": {"window": (float("nan"), 1.0, -1.0, 1.0)},
        "window_inf": {"window": (-float("inf"), float("inf"), -1.0, 1.0)},
        "window_text": {"window": "-1 1 "},
        "window_oblong": {"window": (-1.0, 1.0, -1.0, 2.0)},
        "strokes": {"stroke": -1.0},
        "stroke_nan": {"stroke": float("nan")},
        "stroke_tensor": {"stroke": torch.zeros(2)},
        "gigapixel": {"size": 1_000_000_000},
        "step_text": {"step": "many"},
        "iou_nan": {"iou": float("nan")},
        "nameless": {"name": "../x"},
        "laughs": {"name": laughs},
        "resume_none": {"resume": None},
        "resume_setup": {"setup": None},
        "resume_setup_laughs": {"setup": {**good["setup"], "maps": laughs}},
        "resume_setup_tensor": {"setup": {**good["setup"], "steps": torch.ones(2)}},
        "resume_target": {"target": "0" * 64},
        "resume_laughs": {"resume": laughs},
        "resume_endless": {"resume": {**resume, "stage": 0, "stage_step": 10**8}},
        "resume_trace": {
            "resume": {**resume, "trace": [{**row, "loss": 10**400} for row in resume["trace"]]}
        },
    }
    for field, value in resume.items():
        changes[f"resume_without_{field}"] = {
            "resume": {k: v for k, v in resume.items() if k != field}
        }
        changes[f"resume_text_{field}"] = {"resume": {**resume, field: "text"}}
        changes[f"resume_huge_{field}"] = {
            "resume": {**resume, field: torch.zeros(1).expand(10**6, 4, 2, 3)}
        }
        if isinstance(value, torch.Tensor):
            changes[f"resume_nan_{field}"] = {"resume": {**resume, field: value * float("nan")}}
        if isinstance(value, int | float):
            changes[f"resume_large_{field}"] = {"resume": {**resume, field: type(value)(10**12)}}
    files = {}
    for name, change in changes.items():
        whole = {**good, "name": name, **change}
        content = io.BytesIO()
        torch.save(whole, content)
        files[name] = content.getvalue()

    def saved(name: str, how: dict | None = None, **change) -> bytes:
        content = io.BytesIO()
        torch.save({**good, "name": name, **change}, content, **(how or {}))
        return content.getvalue()

    files["foreign_type"] = saved("foreign_type", maps=bytearray(3))
    files["old_format"] = saved("old_format", {"_use_new_zipfile_serialization": False})
    files["squeezed"] = repacked(saved("squeezed"), lambda name, data: data, zipfile.ZIP_DEFLATED)
    opening = b"\x80\x02"
    for name, pickle in {
        "runs_a_program": b"cos\nsystem\nX\x04\0\0\0true\x85R.",
        "takes_memory": b"cbuiltins\nbytearray\nJ\0\0\0\x7f\x85R.",
        "takes_storage": b"ctorch.storage\nUntypedStorage\nJ\0\0\0\x7f\x85R.",
        "ends_early": b"}q\0",
    }.items():
        files[name] = repacked(
            saved(name), lambda n, d, p=pickle: opening + p if n.endswith("data.pkl") else d
        )
    files["no_bytes"] = b""
    files["text"] = b"not a checkpoint" * 100
    return files


def repacked(archive: bytes, change, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with each record's content changed."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(content, "w", compression) as new,
    ):
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return content.getvalue()


# --- How soon ---


def starts(base: Path) -> None:
    """Whole commands in new processes: how soon `--help` and refusals come, and the first step of a
    fit."""
    folder = base / "starts"
    folder.mkdir()
    setups = {
        "field": "from diff_ifs import Setup\nSETUP = Setup(stepps=3)\n",
        "syntax": "SETUP = (\n",
        "stretches": "from diff_ifs import Setup, affine\nSETUP = Setup(maps=[affine(2,0,0,0)])\n",
        "fails": "from diff_ifs import Setup\nSETUP = Setup(steps=int('x'))\n",
    }
    for name, text in setups.items():
        shutil.copy(ROOT / "koch.png", folder / f"{name}.png")
        (folder / f"{name}_setup.py").write_text(text)
    (folder / "noise.png").write_bytes(bytes(range(256)))
    (folder / "koch.pt").write_bytes(b"not a checkpoint")
    device = [] if torch.cuda.is_available() else [["koch", "--device", "cuda"]]
    refused = [
        ["../koch"],
        ["torch"],
        ["nowhere"],
        ["noise"],
        *([name] for name in setups),
        *device,
    ]
    refused += [
        ["koch", "--steps", "3"],
        ["koch", "--resume"],
        ["koch", "--depth", "x"],
        ["koch", "--device", "tpu"],
    ]
    seconds = {}
    for argv in (["--help"], *refused):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, ROOT / "train_ifs.py", *argv],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        seconds[" ".join(argv)] = time.perf_counter() - began
        expect(
            done.returncode == (0 if argv == ["--help"] else 2),
            f"{argv} ended with {done.returncode}",
        )
    slowest = max(seconds, key=seconds.__getitem__)
    row(
        "`--help` and refusals, whole command",
        len(seconds),
        f"at most {seconds[slowest]:.2f} s ({slowest})",
        0,
    )
    coded_starts(folder)
    (folder / "koch.pt").unlink()
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, ROOT / "train_ifs.py", "koch", "--quiet"], cwd=folder
    ) as fitting:
        while not (folder / "koch.pt").exists() and fitting.poll() is None:
            time.sleep(0.005)
        first = time.perf_counter() - began
        fitting.kill()
    expect((folder / "koch.pt").exists(), "a fit that ends before its first checkpoint")
    row("first checkpoint of `koch`, whole command", 1, f"after {first:.2f} s", 0)


def coded_starts(folder: Path) -> None:
    """How soon whole commands refuse damaged coded files, and what their arguments alone tell."""
    ifs_file, maps = bytearray(b"\x20" + bytes(30)), "[[0.5, 0, 0], [0, 0.5, 0]]"
    ifs_file[-1] = checksum(bytes(ifs_file[:-1]))
    contents = {
        "short.ifs": b"",
        "long.ifs": b"\x20" + bytes(1 << 17),
        "version.ifs": b"\xe0" + bytes(30),
        "flipped.ifs": bytes([*ifs_file[:-1], ifs_file[-1] ^ 1]),
        "senseless.ifs": bytes(ifs_file),
        "text.json": b"maps",
        "deep.json": b"[" * 100_000,
        "many.json": f'{{"maps": [{",".join([maps] * 1001)}]}}'.encode(),
        "wide.json": b'{"maps": [[[1.5, 0, 0], [0, 1.5, 0]]]}',
        "text.flame": b"<flame",
        "deep.flame": b"<flame>" + b"<a>" * 100_000,
        "julia.flame": b'<flame><xform julia="1" coefs="0.5 0 0 0.5 0 0"/></flame>',
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    options = [
        ["--window", "0", "1", "0", "2"],
        ["--cmap", "nosuch"],
        ["--stroke", "-1"],
        ["--out", "a.jpg"],
    ]
    commands = {
        "coded files": [
            *(["render_ifs.py", name, "9", "64"] for name in contents),
            *(["compress_ifs.py", name, "--export", "json"] for name in contents),
        ],
        "arguments for a checkpoint": [
            *(["render_ifs.py", "koch", "9", "64", *option] for option in options),
            *(
                ["compress_ifs.py", "koch", *option]
                for option in (["--bytes", "2"], ["--bits", "99"])
            ),
        ],
    }
    shutil.copy(ROOT / "koch.png", folder)
    for what, lines in commands.items():
        seconds, refused = {}, 0
        for script, *argv in lines:
            began = time.perf_counter()
            command = [sys.executable, ROOT / script, *argv]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            seconds[" ".join([script, *argv])] = time.perf_counter() - began
            said = done.returncode == 2 and done.stderr.count("\n") == 1
            refused += expect(
                said, f"{script} {argv} ended with {done.returncode}: {done.stderr[-300:]}"
            )
        slowest = max(seconds, key=seconds.__getitem__)
        words = f"{refused} refused in one line, in at most {seconds[slowest]:.2f} s ({slowest})"
        row(f"bad {what}, whole command", len(lines), words, 0)


# --- Fuzz ---


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bytes with some of them changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(data)) if data else 0
        what = chance.randrange(5)
        if what == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if data else b""
        elif what == 2:
            del data[at : at + chance.randrange(1, 40)]
        elif what == 3:
            data[at:at] = data[at : at + chance.randrange(1, 40)]
        elif chance.random() < 0.3:
            del data[at:]
    return bytes(data)


def fuzz(most: int, chance: random.Random, base: Path) -> None:
    """Mutated pictures, checkpoints, setups and random names: each is read, or refused in one line."""
    folder = base / "fuzz"
    folder.mkdir()
    fork(folder, "train", ["koch", *TINY])
    setup, _ = load_setup(
        "koch", {"size": 32, "steps": 20, "starts": 2, "points": 500, "grey": False}
    )
    target = load_target(ROOT / "koch.png", 32)
    checkpoint = (folder / "koch.pt").read_bytes()
    apple = Image.open(ROOT / "apple.png").convert("L").resize((48, 40))
    pictures, kinds = (
        [],
        "PNG L, PNG 1, PNG RGBA, PNG P, PNG I;16, JPEG L, GIF P, TIFF L, BMP RGB, WEBP RGB, PPM L",
    )
    for kind, mode in (words.split() for words in kinds.split(", ")):
        content = io.BytesIO()
        apple.convert(mode).save(content, kind)
        pictures.append(content.getvalue())
    setups = [
        (ROOT / f"{name}_setup.py").read_bytes()
        for name in ("koch", "apple", "flower", "sierpinski")
    ]

    def picture() -> None:
        path = folder / "fuzzed.png"
        path.write_bytes(mutated(chance.choice(pictures), chance))
        read = load_target(path, 32)
        assert read.isfinite().all()

    def damaged_checkpoint() -> None:
        path = folder / "fuzzed.pt"
        content = checkpoint
        if chance.random() < 0.5:  # past the archive's own check sums
            part = chance.choice(("data.pkl", "data/0", "data/3"))
            content = repacked(content, lambda n, d: mutated(d, chance) if n.endswith(part) else d)
        else:
            content = mutated(content, chance)
        path.write_bytes(content)
        fuzzed, _ = load_origin(path, "koch", {"size": 32})
        check_target(path, fuzzed, Path("koch.png"), target.numpy())
        assert np.isfinite(fuzzed["maps"]).all()
        resume_of(path, fuzzed, setup)

    def setup_file() -> None:
        (folder / "fuzzed_setup.py").write_bytes(mutated(chance.choice(setups), chance))
        load_setup("fuzzed", {})

    def name() -> None:
        letters = string.printable + "äλ日本\u0301\u200b\udc80😀"
        check_name("".join(chance.choice(letters) for _ in range(chance.randrange(12))))

    for what, case in (
        ("picture", picture),
        ("checkpoint", damaged_checkpoint),
        ("setup", setup_file),
        ("name", name),
    ):
        counts = [0, 0]

        def batch(argv: list[str], case=case) -> int:
            for _ in range(int(argv[0])):
                try:
                    case()
                    print("read")
                except InputError as error:
                    print(
                        "refused"
                        if str(error).isprintable() and len(str(error)) < 1000
                        else "badly said"
                    )
            return 0

        MAIN["fuzz"] = batch
        seed, bad = chance.random(), 0
        for k in range(0, most, 50):
            chance.seed(f"{seed} {k}")
            limits = {resource.RLIMIT_AS: 16 << 30} if sys.platform == "linux" else None
            done = fork(folder, "fuzz", [str(min(50, most - k))], limits=limits)
            bad += not expect(
                done.code == 0, f"fuzzed {what}, batch {k}: {done.code} {done.err[-600:]}"
            )
            counts[0] += done.out.count("refused")
            counts[1] += done.out.count("read")
        expect(min(counts) > 0 or most < 100, f"fuzzed {what}: all were refused, or all were read")
        expect(sum(counts) == most, f"fuzzed {what}: only {sum(counts)} were read or refused")
        row(
            f"fuzzed {what}", sum(counts), f"{counts[0]} refused in one line, {counts[1]} read", bad
        )


def some(cases: list, share: float, chance: random.Random) -> list:
    """All of some cases, or a random share of them: at least one, in their order."""
    chosen = set(chance.sample(range(len(cases)), max(1, round(share * len(cases)))))
    return [case for k, case in enumerate(cases) if k in chosen]


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--share", type=float, default=1.0)
    parse.add_argument("--seed", type=int, default=0)
    arguments = parse.parse_args()
    share, chance = arguments.share, random.Random(arguments.seed)
    torch.set_num_threads(1)  # a process with threads of its own cannot be forked
    matplotlib.figure.Figure().savefig(io.BytesIO())  # loads its fonts
    print("| what was tried | how often | what happened | lost or damaged |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base:
        os.chdir(base)
        base = Path(base)
        kills(max(1, round(110 * share)), chance, base)
        stops(max(1, round(10 * share)), chance, base)
        full_disks(share, chance, base)
        if sys.platform == "linux":  # elsewhere there is no such limit
            little_memory(share, base)
        bad_inputs(share, chance, base)
        fuzz(max(1, round(600 * share)), chance, base)
        if share >= 1:  # these take and measure time
            large_pictures(base)
            starts(base)
    print(f"\n{len(failures)} failures")
    for failure in failures[:50]:
        print(f"  {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
