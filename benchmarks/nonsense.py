"""Bad input for survive.py: what a user may type or leave lying about, what a stranger may send,
and random bytes."""

import io
import random
import resource
import shutil
import string
import subprocess
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import torch
from forked import MAIN, ROOT, TINY, contents, expect, fork, row, some
from PIL import Image

from diff_ifs.errors import InputError
from diff_ifs.files.checkpoint import check_target, load_origin, resume_of
from diff_ifs.files.names import check_name
from diff_ifs.files.setup_file import load_setup
from diff_ifs.files.target import load_target
from diff_ifs.formats.code import checksum

SETUP = "from diff_ifs import Setup, similarity\nSETUP = Setup"
SETUPS = {
    "syntax": "SETUP = (\n",
    "encoding": "# caf\udce9\n",
    "nul": "x = 1\0\n",
    "field": SETUP + "(stepps=3)\n",
    "range": SETUP + "(steps=3)\n",
    "kind": SETUP + "(size='large')\n",
    "stretch": SETUP + "(maps=[similarity(2)])\n",
    "shape": SETUP + "(maps=[1, 2, 3])\n",
    "infinite": SETUP + "(maps=[((float('nan'), 0, 0), (0, 0.5, 0))])\n",
    "nothing": "x = 3\n",
    "number": "SETUP = 3\n",
    "unknown": "print(foo)\n",
    "missing": "import not_there\n",
    "leaves": "import sys\nsys.exit(0)\n",
    "loop": "def f():\n    return f()\nf()\n",
    "words": "raise ValueError('two\\nlines')\n",
    "deep": f"x = {'(' * 500}{')' * 500}\n",
    "depth": SETUP + "(maps=30, depth=20)\n",
    "odd": "class Odd(BaseException):\n    pass\nraise Odd('no')\n",
    "outside": "x = 1\nreturn x\n",
}
NAMES = ["../koch", "/etc/koch", "koch.gif", "koch/", ".", "..", "", " koch", "-", "--", "a\nb"]
NAMES += ["a\0b", "C:koch", "~", "os", "torch", "numpy", "ifs_model", "train_ifs", "sys", "x" * 300]
NAMES += ["nowhere", "*", "$(ls)", "a;b", "\x1b[31m"]
OPTIONS = {
    "steps": ["-1", "9", "1e3", "2.5", "many", "9" * 30, ""],
    "maps": ["0", "1001", "-3", "x"],
    "size": ["7", "4097", "1000000000"],
    "starts": ["0", "100001"],
    "points": ["99", "16000001"],
    "depth": ["0", "65", "60"],
    "stroke": ["-0.1", "1.1", "nan", "inf", "x"],
    "seed": ["-1", "9" * 20, "9" * 5000],
    "device": ["tpu", "cuda:99", "cuda:x", "mps:3", "", "cpu:1", "\x1b"],
}
RENDERS = ["-- koch 9 0", "-- koch -1 64", "-- koch 9 1e9", "-- koch 9 999999999", "-- koch x y"]
RENDERS += ["-- koch 9", "-- koch ² 64", "koch 9 64 --stroke nan", "koch 9 64 --supersample 99"]
RENDERS += [f"koch 9 64 --window {w}" for w in ("1 -1 -1 1", "nan 1 -1 1", "0 0 0 0", "-1 1 -2 2")]


def bad_pictures(folder: Path) -> list[str]:
    """Write pictures that cannot be fitted; their names."""
    blanks = {
        "black": Image.new("L", (32, 32), 0),
        "white": Image.new("1", (32, 32), 1),
        "one": Image.new("1", (1, 1), 1),
        "ghost": Image.new("RGBA", (32, 32), (0, 0, 0, 0)),
        "long": Image.new("1", (20001, 1), 1),
        "speck": Image.new("L", (2000, 2000), 0),
    }
    blanks["speck"].putpixel((0, 0), 255)
    for name, picture in blanks.items():
        picture.save(folder / f"{name}.png")
    files = {
        "empty": b"",
        "noise": bytes(range(256)) * 4,
        "cut": (ROOT / "apple.png").read_bytes()[:400],
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    }
    for name, content in files.items():
        (folder / f"{name}.png").write_bytes(content)
    (folder / "folder.png").mkdir()
    return [*blanks, *files, "folder"]


def bad_inputs(share: float, chance: random.Random, base: Path) -> None:
    """What a user may type or leave lying about: each is refused in one line, and nothing changes
    on disk."""
    folder = base / "bad"
    folder.mkdir()
    shutil.copy(ROOT / "koch.png", folder / "koch.png")
    expect(fork(folder, "train", ["koch", *TINY]).code == 0, "a fit to be spoilt")
    checkpoints = crafted(torch.load(folder / "koch.pt", weights_only=True))
    pictures = bad_pictures(folder)
    for name in (*SETUPS, *checkpoints):
        shutil.copy(ROOT / "koch.png", folder / f"{name}.png")
        text = SETUPS.get(name) or (ROOT / "koch_setup.py").read_text()
        (folder / f"{name}_setup.py").write_bytes(text.encode(errors="surrogateescape"))
    for name, content in checkpoints.items():
        (folder / f"{name}.pt").write_bytes(content)

    cases = [("name", "train", ["--", name]) for name in NAMES]
    cases += [("name", "render", ["--", name, "9", "64"]) for name in NAMES]
    cases += [("option", "train", argv) for argv in (["koch", "--unknown"], [], ["koch", "apple"])]
    cases += [("option", "train", ["koch", f"--{o}", v]) for o, vs in OPTIONS.items() for v in vs]
    cases += [("option", "render", ["--quiet", *line.split()]) for line in RENDERS]
    cases += [("picture", "train", [name, "--quiet"]) for name in pictures]
    cases += [("setup", "train", [name, "--quiet"]) for name in SETUPS]
    cases += [("checkpoint", "train", [name, *TINY, "--resume"]) for name in checkpoints]
    renders = [name for name in checkpoints if not name.startswith("resume_")]
    cases += [("checkpoint", "render", [name, "9", "64", "--quiet"]) for name in renders]

    tried, refused, lost = {}, {}, {}
    after = contents(folder)
    for kind, script, argv in some(cases, share, chance):
        before = after
        limits = {resource.RLIMIT_AS: 8 << 30} if sys.platform == "linux" else None
        done = fork(folder, script, argv, limits=limits)
        one_line = done.err.count("\n") == 1 and done.err.rstrip("\n").isprintable()
        said = done.code == 2 and done.out == "" and one_line
        words = f"{script} {argv!r}: {done.code} {done.out} {done.err[-400:]}"
        tried[kind] = tried.get(kind, 0) + 1
        refused[kind] = refused.get(kind, 0) + expect(said, words)
        after = contents(folder)
        same = expect(after == before, f"{script} {argv!r} changed what is on disk")
        lost[kind] = lost.get(kind, 0) + (not same)
    for kind, count in tried.items():
        row(f"bad {kind}", count, f"{refused[kind]} refused in one line", lost[kind])


def crafted(good: dict) -> dict[str, bytes]:
    """Checkpoints that a stranger might send: wrong types, shapes and numbers, and claims of
    enormous sizes."""
    maps, resume = good["maps"], good["resume"]
    laughs: list = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    nan, inf = float("nan"), float("inf")
    changes = {
        "format": {"format": "other"},
        "list_format": {"format": ["diff_ifs"]},
        "version": {"version": 2},
        "tensor_version": {"version": torch.ones(2)},
        "million": {"maps": maps[:1].expand(1_000_000, 2, 3)},
        "flat": {"maps": torch.zeros(4, 6)},
        "none": {"maps": maps[:0]},
        "no_maps": {"maps": None},
        "nan": {"maps": maps * nan},
        "far": {"maps": maps + 1e9},
        "wide": {"maps": maps * 10},
        "whole": {"maps": torch.zeros(4, 2, 3, dtype=torch.long)},
        "complex": {"maps": maps.to(torch.complex64)},
        "graph": {"maps": maps.clone().requires_grad_()},
        "half": {"maps": maps.half()},
        "windows": {"window": (1.0, -1.0, -1.0, 1.0)},
        "window_nan": {"window": (nan, 1.0, -1.0, 1.0)},
        "window_inf": {"window": (-inf, inf, -1.0, 1.0)},
        "window_text": {"window": "-1 1 "},
        "window_oblong": {"window": (-1.0, 1.0, -1.0, 2.0)},
        "strokes": {"stroke": -1.0},
        "stroke_nan": {"stroke": nan},
        "stroke_tensor": {"stroke": torch.zeros(2)},
        "gigapixel": {"size": 1_000_000_000},
        "step_text": {"step": "many"},
        "iou_nan": {"iou": nan},
        "nameless": {"name": "../x"},
        "laughs": {"name": laughs},
        "foreign_type": {"maps": bytearray(3)},
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
        rest = {k: v for k, v in resume.items() if k != field}
        changes[f"resume_without_{field}"] = {"resume": rest}
        spoilt = {"text": "text", "huge": torch.zeros(1).expand(10**6, 4, 2, 3)}
        if isinstance(value, torch.Tensor):
            spoilt["nan"] = value * nan
        if isinstance(value, int | float):
            spoilt["large"] = type(value)(10**12)
        for how, other in spoilt.items():
            changes[f"resume_{how}_{field}"] = {"resume": {**resume, field: other}}

    def saved(name: str, change: dict | None = None, **how) -> bytes:
        content = io.BytesIO()
        torch.save({**good, "name": name, **(change or {})}, content, **how)
        return content.getvalue()

    files = {name: saved(name, change) for name, change in changes.items()}
    files["old_format"] = saved("old_format", _use_new_zipfile_serialization=False)
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
    """Mutated pictures, checkpoints, setups and random names: each is read, or refused in one
    line."""
    folder = base / "fuzz"
    folder.mkdir()
    fork(folder, "train", ["koch", *TINY])
    options = {"size": 32, "steps": 20, "starts": 2, "points": 500, "grey": False}
    setup, _ = load_setup("koch", options)
    target = load_target(ROOT / "koch.png", 32)
    checkpoint = (folder / "koch.pt").read_bytes()
    apple = Image.open(ROOT / "apple.png").convert("L").resize((48, 40))
    kinds = "PNG L, PNG 1, PNG RGBA, PNG P, PNG I;16, JPEG L, GIF P, TIFF L, BMP RGB, WEBP RGB"
    pictures = []
    for kind, mode in (words.split() for words in f"{kinds}, PPM L".split(", ")):
        content = io.BytesIO()
        apple.convert(mode).save(content, kind)
        pictures.append(content.getvalue())
    setups = [path.read_bytes() for path in sorted(ROOT.glob("*_setup.py"))]

    def picture() -> None:
        path = folder / "fuzzed.png"
        path.write_bytes(mutated(chance.choice(pictures), chance))
        assert load_target(path, 32).isfinite().all()

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

    cases = {"picture": picture, "checkpoint": damaged_checkpoint}
    for what, case in (cases | {"setup": setup_file, "name": name}).items():

        def batch(argv: list[str], case=case) -> int:
            for _ in range(int(argv[0])):
                try:
                    case()
                    print("read")
                except InputError as error:
                    well_said = str(error).isprintable() and len(str(error)) < 1000
                    print("refused" if well_said else "badly said")
            return 0

        MAIN["fuzz"] = batch
        seed, bad, refused, read = chance.random(), 0, 0, 0
        for k in range(0, most, 50):
            chance.seed(f"{seed} {k}")
            limits = {resource.RLIMIT_AS: 16 << 30} if sys.platform == "linux" else None
            done = fork(folder, "fuzz", [str(min(50, most - k))], limits=limits)
            words = f"fuzzed {what}, batch {k}: {done.code} {done.err[-600:]}"
            bad += not expect(done.code == 0, words)
            refused += done.out.count("refused")
            read += done.out.count("read")
        together = refused and read
        expect(together or most < 100, f"fuzzed {what}: all were refused, or all were read")
        expect(refused + read == most, f"fuzzed {what}: only {refused + read} read or refused")
        row(f"fuzzed {what}", refused + read, f"{refused} refused in one line, {read} read", bad)


def refusal_times(base: Path) -> None:
    """Whole commands in new processes: how soon `--help` and refusals come. benchmarks/startup.py
    measures how soon a fit begins."""
    folder = base / "refusals"
    folder.mkdir()
    ifs_file, maps = bytearray(b"\x20" + bytes(30)), "[[0.5, 0, 0], [0, 0.5, 0]]"
    ifs_file[-1] = checksum(bytes(ifs_file[:-1]))
    coded = {
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
    others = {"noise.png": bytes(range(256)), "koch.pt": b"not a checkpoint"}
    for name, content in (coded | others).items():
        (folder / name).write_bytes(content)
    for name in ("field", "syntax", "stretch", "number"):
        shutil.copy(ROOT / "koch.png", folder / f"{name}.png")
        (folder / f"{name}_setup.py").write_text(SETUPS[name])
    shutil.copy(ROOT / "koch.png", folder)
    words = "../koch, torch, nowhere, noise, field, syntax, stretch, number, koch --steps 3, "
    words += "koch --resume, koch --depth x, koch --device tpu"
    looks = "--window 0 1 0 2, --cmap nosuch, --stroke -1, --out a.jpg"
    commands = {
        "`--help`": ["train_ifs.py --help", "render_ifs.py --help", "compress_ifs.py --help"],
        "refusals of a fit": [f"train_ifs.py {line}" for line in words.split(", ")],
        "bad coded files": [f"render_ifs.py {name} 9 64" for name in coded]
        + [f"compress_ifs.py {name} --export json" for name in coded],
        "bad arguments for a checkpoint": [
            f"render_ifs.py koch 9 64 {o}" for o in looks.split(", ")
        ]
        + [f"compress_ifs.py koch {option}" for option in ("--bytes 2", "--bits 99")],
    }
    for what, lines in commands.items():
        seconds, well = {}, 0
        for line in lines:
            script, *argv = line.split()
            began = time.perf_counter()
            command = [sys.executable, ROOT / script, *argv]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            seconds[line] = time.perf_counter() - began
            said = done.returncode == 2 and done.stderr.count("\n") == 1
            said |= "--help" in argv and done.returncode == 0
            well += expect(said, f"{line} ended with {done.returncode}: {done.stderr[-300:]}")
        slowest = max(seconds, key=seconds.__getitem__)
        words = f"{well} as promised, in at most {seconds[slowest]:.2f} s ({slowest})"
        row(f"{what}, whole command", len(lines), words, 0)
