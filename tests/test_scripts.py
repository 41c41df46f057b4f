"""The scripts as a user runs them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

import compress_ifs
import render_ifs
import train_ifs
from diff_ifs.files.system import load_system
from diff_ifs.files.target import load_target
from diff_ifs.fit.judge import evaluate
from diff_ifs.metrics import iou
from diff_ifs.setup import Setup
from train_ifs import fit

ROOT = Path(__file__).parent.parent
TINY = ["--steps", "30", "--starts", "2", "--size", "32", "--points", "2000", "--quiet"]


posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, shells and forks")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder in which the Koch curve has been fitted, a little."""
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train_ifs.main(["koch", *TINY]) == 0
    return folder


@pytest.mark.slow
def test_a_fit_leaves_everything_it_promises(fitted):
    results = fitted / "results" / "koch"
    assert (fitted / "koch.pt").is_file()
    steps = [int(row.split(",")[0]) for row in (results / "trace.csv").read_text().splitlines()[1:]]
    assert steps[0] == 0
    assert steps[-1] == 30
    assert len(steps) > 5
    assert sorted(path.name for path in results.iterdir()) == [
        *[f"frame_{step:06d}.png" for step in steps],
        "koch.gif",
        "koch_difference.png",
        "koch_plot.png",
        "koch_target.png",
        "trace.csv",
    ]
    assert (results / "koch.gif").stat().st_size < 2e6
    assert (results / "trace.csv").read_text().splitlines()[0] == "step,size,loss,iou"
    with Image.open(results / "koch.gif") as film:
        assert film.n_frames >= 5


@pytest.mark.slow
def test_a_picture_without_a_setup_is_fitted_from_random_starts(capsys):
    disc = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.6
    Image.fromarray(disc).save("gold coin.png")
    assert train_ifs.main(["gold coin", "--maps", "4", "--stroke", "0", *TINY]) == 0
    said = capsys.readouterr()
    assert "no gold coin_setup.py: 2 random starts of 4 maps" in said.err
    assert said.out.startswith("gold coin: IoU 0.")
    assert "4 maps, 24 numbers" in said.out
    assert torch.load("gold coin.pt", weights_only=True)["maps"].shape == (4, 2, 3)


def test_a_setup_from_beside_the_scripts_for_a_picture_that_is_elsewhere_is_named(capsys):
    Image.new("L", (64, 64)).save("flower.png")
    with Image.open("flower.png") as picture:
        picture.paste(255, (20, 20, 44, 44))
        picture.save("flower.png")
    small = ["--steps", "0", "--starts", "1", "--size", "64"]
    assert train_ifs.main(["flower", *small]) == 0
    assert f"the setup is {Path(train_ifs.__file__).parent / 'flower_setup.py'}" in (
        capsys.readouterr().err
    )
    Path("flower_setup.py").write_text(
        "from diff_ifs import Setup, similarity\nSETUP = Setup(maps=[similarity(0.5)] * 2)\n"
    )
    assert train_ifs.main(["flower", *small]) == 0
    assert "the setup is" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_fit_can_be_resumed(fitted, monkeypatch, capsys):
    shutil.copytree(fitted, "copy")
    monkeypatch.chdir("copy")
    before = torch.load("koch.pt", weights_only=True)
    assert train_ifs.main(["koch", *TINY, "--resume"]) == 0
    after = torch.load("koch.pt", weights_only=True)
    assert after["step"] > before["step"]
    assert after["iou"] >= before["iou"]


@pytest.mark.slow
@posix
def test_an_interrupted_fit_writes_what_it_has_and_can_go_on():
    command = [sys.executable, ROOT / "train_ifs.py", "koch", *TINY, "--steps", "4000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as fitting:
        for _ in range(600):
            if Path("koch.pt").exists():
                break
            time.sleep(0.1)
        assert Path("koch.pt").exists(), "the first checkpoint comes with the first step"
        fitting.send_signal(signal.SIGINT)
        out, err = fitting.communicate(timeout=60)
    assert fitting.returncode == 130
    assert out.startswith("koch: IoU 0.")
    assert "go on with: python train_ifs.py koch --quiet --resume" in err
    assert Path("results/koch/koch.gif").stat().st_size > 0
    assert torch.load("koch.pt", weights_only=True)["step"] < 4000


def test_the_scripts_run_without_their_docstrings():
    for script in ("train_ifs.py", "render_ifs.py", "compress_ifs.py"):
        command = [sys.executable, "-OO", ROOT / script, "--help"]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_progress_bar_shows_loss_iou_and_time_left(capsys):
    assert train_ifs.main(["sierpinski", *TINY[:-1]]) == 0
    said = capsys.readouterr().err
    for word in ("loss=", "IoU=", "30/30", "<00:"):
        assert word in said
    assert re.search(r" 0/30 .*IoU=", said), "the first report is shown however soon it comes"


@pytest.mark.parametrize("kind", ["occupancy", "density", "distance"])
def test_a_render_needs_the_checkpoint_alone(fitted, kind):
    shutil.copy(fitted / "koch.pt", "elsewhere.pt")
    assert render_ifs.main(["elsewhere", "50", "96", "--kind", kind, "--quiet"]) == 0
    picture = pixels("results/elsewhere/elsewhere_render_50_96.png")
    assert picture.shape == (96, 96)
    assert picture.min() == 0
    assert picture.max() >= (150 if kind == "occupancy" else 255)  # its pen is thinner than a pixel
    assert len(np.unique(picture)) > 3, "smooth edges, or a scale of greys"


def test_render_options(fitted):
    shutil.copy(fitted / "koch.pt", "koch.pt")
    assert (
        render_ifs.main(["koch", "9", "64", "--out", "deep/er/a.png", "--stroke", "0", "--quiet"])
        == 0
    )
    assert (
        render_ifs.main(
            [
                "koch",
                "9",
                "64",
                "--out",
                "b.png",
                "--stroke",
                "0.05",
                "--supersample",
                "2",
                "--quiet",
            ]
        )
        == 0
    )
    assert pixels("deep/er/a.png").mean() < pixels("b.png").mean()
    assert (
        render_ifs.main(
            ["koch", "9", "64", "--window", "-1", "0", "-1", "0", "--out", "c.png", "--quiet"]
        )
        == 0
    )
    assert pixels("c.png").shape == (64, 64)


BAD = [
    (
        "train_ifs.py",
        ["nowhere"],
        "there is no nowhere.png here; the pictures that exist: apple, black",
    ),
    ("train_ifs.py", ["koch.gif"], "there is no koch.gif here; did you mean koch?"),
    ("render_ifs.py", ["koch.png", "9", "64"], "give the name alone, without its ending: koch"),
    ("train_ifs.py", ["../koch"], "is not a plain name"),
    ("train_ifs.py", [""], "is not a plain name"),
    ("train_ifs.py", ["koch", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
    (
        "train_ifs.py",
        ["koch", "--steps", "1"],
        "--steps must be a whole number from 10 to 1000000, not 1",
    ),
    ("train_ifs.py", ["koch", "--steps", "0", "--resume"], "leave it out, or --resume"),
    (
        "train_ifs.py",
        ["koch", "--threshold", "256"],
        "--threshold must be a whole number from 0 to 255, not 256",
    ),
    (
        "train_ifs.py",
        ["koch", "--device", "tpu"],
        "there is no device 'tpu'; --device takes cuda, mps or cpu",
    ),
    (
        "train_ifs.py",
        ["koch", "--resume"],
        "there is no koch.pt yet; make it with: python train_ifs.py koch",
    ),
    ("train_ifs.py", ["black"], "has one colour alone"),
    ("train_ifs.py", ["white"], "has one colour alone"),
    ("train_ifs.py", ["noise"], "cannot be read as a picture"),
    ("train_ifs.py", ["empty"], "cannot be read as a picture"),
    (
        "render_ifs.py",
        ["koch", "9", "64"],
        "there is no koch.pt yet; make it with: python train_ifs.py koch",
    ),
    (
        "render_ifs.py",
        ["nowhere", "9", "64"],
        "there is no nowhere.pt here, nor a nowhere.png to fit; the checkpoints",
    ),
    ("render_ifs.py", ["broken", "1.0", "64"], "RECURSION must be a whole number from 0 to"),
    ("render_ifs.py", ["broken", "-3", "64"], "RECURSION must be a whole number"),
    ("render_ifs.py", ["broken", "9", "1.5"], "RESOLUTION must be a whole number from 1 to"),
    ("render_ifs.py", ["broken", "9", "99999999999999999999"], "RESOLUTION must be a whole number"),
    ("render_ifs.py", ["broken", "9"], "the following arguments are required: RESOLUTION"),
    (
        "render_ifs.py",
        ["broken", "9", "64"],
        "is not a checkpoint of train_ifs.py, or it is damaged",
    ),
    ("render_ifs.py", ["broken", "9", "64", "--supersample", "0"], "--supersample must be from 1"),
]


@pytest.mark.parametrize(("script", "arguments", "message"), BAD)
def test_bad_input_is_one_clear_line_and_loses_nothing(script, arguments, message, capsys):
    Image.new("L", (32, 32), 0).save("black.png")
    Image.new("1", (32, 32), 1).save("white.png")
    Path("noise.png").write_bytes(bytes(range(256)))
    Path("empty.png").touch()
    Path("broken.pt").write_bytes(b"not a checkpoint")
    before = {path: path.read_bytes() for path in Path().rglob("*")}
    main = {"train_ifs.py": train_ifs.main, "render_ifs.py": render_ifs.main}[script]
    assert message in refusal(main, arguments, capsys).replace("[Errno 2] ", "")
    assert {path: path.read_bytes() for path in Path().rglob("*")} == before


REFUSED = [
    *(
        ["nowhere"],
        ["../koch"],
        ["torch"],
        ["noise"],
        ["field"],
        ["syntax"],
        ["fails"],
        ["stretches"],
        ["other"],
        ["koch", "--resume"],
        ["koch", "--steps", "3"],
    ),
    *(
        ["koch", "--steps", "x"],
        ["koch", "--device", "tpu"],
        ["koch", "--device", "cuda:x"],
        ["--help"],
        ["noise", "--invert"],
    ),
]


def test_help_and_refusals_do_not_wait_for_torch():
    Path("noise.png").write_bytes(bytes(range(256)))
    Path("koch.pt").write_bytes(b"not a checkpoint")
    setups = {
        "field": "SETUP = Setup(stepps=3)",
        "syntax": "SETUP = (",
        "fails": "from diff_ifs import Setup\nSETUP = Setup(steps=3 * 1)",
        "stretches": "from diff_ifs import Setup, similarity\nSETUP = Setup(maps=[similarity(2)])",
        "other": "import diff_ifs\nSETUP = diff_ifs.similarity(0.5)",
    }
    for name, text in setups.items():
        shutil.copy(ROOT / "koch.png", f"{name}.png")
        Path(f"{name}_setup.py").write_text(text)
    code = f"import contextlib, sys\nsys.path.insert(0, {str(ROOT)!r})\nimport train_ifs\n"
    code += f"for argv in {REFUSED}:\n    with contextlib.suppress(SystemExit):\n"
    code += "        assert train_ifs.main(argv) == 2\n"
    code += "    assert not {'torch', 'scipy', 'matplotlib', 'tqdm'} & set(sys.modules), argv\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(REFUSED) - 1


@pytest.mark.slow
def test_refusals_of_what_a_checkpoint_holds_do_not_wait_for_torch(fitted):
    for name, picture in (("koch", "koch"), ("star", "koch"), ("other", "sierpinski")):
        shutil.copy(fitted / "koch.pt", f"{name}.pt")
        shutil.copy(ROOT / f"{picture}.png", f"{name}.png")
        shutil.copy(ROOT / "koch_setup.py", f"{name}_setup.py")
    whole = torch.load("koch.pt", weights_only=True)
    torch.save({**whole, "name": "other"}, "other.pt")
    torch.save({**whole, "path": None}, "pathless.pt")
    kept = Path("koch.pt").read_bytes()
    refused = [
        ("train_ifs", ["koch", *TINY, "--resume", "--seed", "9"], "made with another --seed"),
        ("train_ifs", ["other", *TINY, "--resume"], "another other.png; restore that"),
        ("train_ifs", ["star", *TINY, "--resume"], "a fit of 'koch', not of 'star'"),
        ("render_ifs", ["koch", "9", "64", "--kind", "grey"], "not the fit of a grey picture"),
        ("render_ifs", ["koch", "9", "64", "--stroke", "3"], "does not fit the window"),
        ("render_ifs", ["koch", "9", "64", "--window", "1", "-1", "1", "-1"], "must be a square"),
        (
            "render_ifs",
            ["koch", "9", "64", "--zoom-at", "1", "1", "1e20"],
            "beyond double precision",
        ),
        ("render_ifs", ["koch", "9", "30000", "--sweep", "fit"], "too much for one film"),
        (
            "render_ifs",
            ["pathless", "9", "64", "--sweep", "fit"],
            "does not hold the way of its fit",
        ),
    ]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(ROOT)!r})
for script, argv, _ in {refused}:
    assert importlib.import_module(script).main(argv) == 2
    assert not {{'torch', 'matplotlib', 'tqdm'}} & set(sys.modules), argv
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line, (_, _, words) in zip(done.stderr.splitlines(), refused, strict=True):
        assert words in line
    assert Path("koch.pt").read_bytes() == kept
    assert not Path("results").exists()


def test_a_damaged_run_is_refused_in_one_line_and_changes_nothing(fitted, capsys):
    whole = torch.load(fitted / "koch.pt", weights_only=True)
    torch.save({**whole, "resume": {**whole["resume"], "stage": "second"}}, "koch.pt")
    before = Path("koch.pt").read_bytes()
    said = refusal(train_ifs.main, ["koch", *TINY, "--resume"], capsys)
    assert "does not hold what --resume needs (stage is no whole number" in said
    assert Path("koch.pt").read_bytes() == before
    assert not Path("results").exists()


@posix
@pytest.mark.parametrize(
    "output", ["| head -c 0", "> /dev/full", ">&-", ">&- 2>&- <&-", "2>&-", "| cat"]
)
def test_standard_output_may_be_anything(output):
    if "/dev/full" in output and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    command = (
        f"'{sys.executable}' '{ROOT / 'train_ifs.py'}' --help {output}; echo ${{PIPESTATUS[0]}} >&3"
    )
    bare = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}  # which has no ×
    with open("code", "w") as code:
        shell = ["bash", "-c", f"exec 3>&{code.fileno()}; {command}"]
        done = subprocess.run(
            shell, env=bare, capture_output=True, text=True, check=False, pass_fds=[code.fileno()]
        )
    assert Path("code").read_text() == "0\n", done.stderr
    assert done.stderr == ""
    assert output != "| cat" or "fit at S \\xd7 S pixels" in done.stdout


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_wherever_it_runs_and_whoever_listens(fitted):
    place = Path("Bilder & Äpfel")
    place.mkdir()
    bare = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "TERM": "dumb",
    }
    command = [sys.executable, ROOT / "train_ifs.py", "koch", *TINY[:-1]]
    with subprocess.Popen(
        command, cwd=place, env=bare, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as fit:
        fit.stdout.close()  # as `| head` does when it has seen enough
        fit.stderr.close()
    assert fit.returncode == 0
    ours, theirs = (
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()}
        for top in (place, fitted)
    )
    assert ours.keys() == theirs.keys()
    for path, content in ours.items():
        assert content == theirs[path], path


@pytest.mark.slow
def test_another_number_of_threads_gives_nearly_the_same_fit():
    """Without a setup, so that there are many systems for the threads to share."""
    target, threads, fits = load_target(ROOT / "apple.png", 32), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            *_, last = fit(target, Setup(maps=6, size=32, starts=8, steps=30, points=2000))
            fits.append(last)
    finally:
        torch.set_num_threads(threads)
    one, two = (evaluate(state.best_maps, target, state.best_stroke) for state in fits)
    assert iou(one.picture, two.picture) > 0.99, "they draw the same picture"
    assert one.iou == pytest.approx(two.iou, abs=0.002)


@posix
def test_the_first_signal_waits_for_the_next_state_and_the_second_ends_the_program():
    before = signal.getsignal(signal.SIGTERM)
    with train_ifs.Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.code == 143
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@posix
def test_a_stopped_fit_that_is_resumed_ends_as_if_it_had_not_been(fitted):
    shutil.copytree(fitted / "results", "results")
    honest, states = fit, 0

    def stopped(*arguments, **options):
        nonlocal states
        for state in honest(*arguments, **options):
            states += 1
            if states == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_ifs, "fit", stopped)
        assert train_ifs.main(["koch", *TINY]) == 143
    half = torch.load("koch.pt", weights_only=True)
    assert half["step"] < 30
    assert (Path("results/koch/koch.gif")).read_bytes() != (
        fitted / "results/koch/koch.gif"
    ).read_bytes()
    assert train_ifs.main(["koch", *TINY, "--resume"]) == 0
    ours, theirs = (
        torch.load(folder / "koch.pt", weights_only=True) for folder in (Path(), fitted)
    )
    assert ours["maps"].numpy().tobytes() == theirs["maps"].numpy().tobytes()
    assert ours["resume"]["trace"] == theirs["resume"]["trace"]
    names = [path.name for path in (fitted / "results/koch").iterdir()]
    for name in names:
        assert (
            Path("results/koch", name).read_bytes() == (fitted / "results/koch" / name).read_bytes()
        ), name


@pytest.mark.slow
def test_an_earlier_checkpoint_is_kept_when_a_fit_starts_afresh(fitted, capsys):
    shutil.copy(fitted / "koch.pt", "koch.pt")
    before = Path("koch.pt").read_bytes()
    assert train_ifs.main(["koch", *TINY, "--seed", "5"]) == 0
    assert Path("results/koch/koch_previous.pt").read_bytes() == before
    assert (
        "the checkpoint of an earlier fit is kept as results/koch/koch_previous.pt"
        in capsys.readouterr().err
    )
    assert torch.load("koch.pt", weights_only=True)["setup"]["seed"] == 5
    second = Path("koch.pt").read_bytes()
    for _ in range(2):  # the same fit twice is kept once
        assert train_ifs.main(["koch", *TINY]) == 0
    kept = Path("results/koch")
    assert {path.name for path in kept.glob("*_previous*")} == {
        "koch_previous.pt",
        "koch_previous_2.pt",
    }
    assert [path.name for path in Path().glob("*.pt")] == ["koch.pt"]
    assert (kept / "koch_previous.pt").read_bytes() == before
    assert (kept / "koch_previous_2.pt").read_bytes() == second


@pytest.mark.slow
def test_greys_are_told_of_and_can_be_refused(capsys):
    Image.linear_gradient("L").save("slope.png")
    for options, grey, told in (
        ((), True, True),
        (("--no-grey",), False, False),
        (("--grey",), True, False),
    ):
        assert train_ifs.main(["slope", "--maps", "2", *TINY, "--steps", "10", *options]) == 0
        assert torch.load("slope.pt", weights_only=True)["setup"]["grey"] is grey
        assert ("--no-grey fits black and white" in capsys.readouterr().err) == told


@pytest.mark.slow
def test_a_poor_fit_says_so(capsys):
    """Two maps cannot be the koch curve."""
    assert train_ifs.main(["koch", *TINY, "--maps", "2"]) == 0
    assert "a poor fit: --maps 6 or another --seed" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["maps", "best_maps", "loss"])
def test_numbers_that_are_not_finite_never_reach_a_checkpoint(where, monkeypatch, capsys):
    honest = fit

    def astray(*arguments, **options):
        for state in honest(*arguments, **options):
            if state.step >= 15:
                if where == "loss":
                    state.resume["trace"][-1]["loss"] = float("inf")
                else:
                    state.resume[where][..., 0, 0] = float("nan")
            yield state

    monkeypatch.setattr(train_ifs, "fit", astray)
    assert train_ifs.main(["koch", *TINY]) == 2
    said = re.search(r"the fit went astray at step (\d+)", capsys.readouterr().err)
    assert int(said[1]) >= 15
    left = torch.load("koch.pt", weights_only=True)
    assert 0 < left["step"] < 15
    assert left["maps"].isfinite().all()
    assert Path("results/koch/koch.gif").is_file(), "the best until then is drawn"


def test_a_full_disk_is_said_in_one_line_and_what_was_there_is_whole(fitted, monkeypatch, capsys):
    shutil.copytree(fitted, "copy")
    monkeypatch.chdir("copy")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    honest = os.fsync

    def full(descriptor):
        if os.fstat(descriptor).st_size > 8000:  # the GIF and the plot are larger
            raise OSError(28, os.strerror(28))
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert train_ifs.main(["koch", *TINY, "--resume"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 2, "what was read, and what is wrong"
    assert "No space left on device); make room, and run again" in said
    assert Path("koch.pt").read_bytes() == before[Path("koch.pt")]
    assert Path("results/koch/koch.gif").read_bytes() == before[Path("results/koch/koch.gif")]
    assert not list(Path().rglob("*.part"))


@posix
def test_a_second_run_of_the_same_name_is_refused(capsys):
    from diff_ifs.files.disk import lock_results

    with lock_results("koch", Path("results/koch")):
        assert train_ifs.main(["koch", *TINY]) == 2
        assert "another run of koch is at work in this folder" in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.slow
@posix
def test_nothing_is_lost_when_fits_are_killed_starved_and_fed_nonsense():
    command = [sys.executable, ROOT / "benchmarks" / "survive.py", "--share", "0.012"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0 failures\n" in done.stdout


@pytest.mark.slow
def test_the_koch_curve_comes_out_as_readme_says_and_goes_into_28_bytes():
    assert train_ifs.main(["koch", "--quiet"]) == 0
    fit = torch.load("koch.pt", weights_only=True)
    assert fit["iou"] >= 1 - 1.25 * (1 - 0.9740)
    assert compress_ifs.main(["koch", "--quiet"]) == 0
    coded, target = load_system("koch.ifs"), load_target(ROOT / "koch.png", fit["size"])
    assert Path("koch.ifs").stat().st_size <= 28
    assert evaluate(torch.from_numpy(coded.maps), target, coded.stroke)[0] >= fit["iou"] - 0.005


@pytest.mark.slow
def test_a_price_that_no_map_is_worth_leaves_as_few_as_there_may_be(capsys):
    Image.fromarray(np.uint8(255 * np.tri(64))).rotate(20).save("sail.png")
    tiny = [*TINY, "--size", "64"]
    for price, least, most in (("0.9", 12, 12), ("0.0001", 13, 48)):
        assert train_ifs.main(["sail", *tiny, "--price", price]) == 0
        n = len(torch.load("sail.pt", weights_only=True)["maps"])
        assert least <= n <= most
        assert f", {n} maps, " in capsys.readouterr().out
        assert train_ifs.main(["sail", *tiny, "--price", price, "--resume"]) == 0
        assert len(torch.load("sail.pt", weights_only=True)["maps"]) == n


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--maps", "many"], "argument --maps: it must be a number or auto, not 'many'"),
        (["--maps", "auto", "--resume"], "--resume goes on with the maps that are there"),
        (
            ["--maps", "auto", "--price", "0"],
            "--price must be a number from 0.0001 to 1.0, not 0.0",
        ),
        (["--maps", "5", "--price", "0.01"], "--price is for --maps auto"),
        (["--price", "0.01"], "--price is for --maps auto"),
    ],
)
def test_numbers_of_maps_that_make_no_sense_are_refused(options, message, capsys):
    try:
        code = train_ifs.main(["koch", *TINY, *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_fit_is_kept_where_its_frames_cannot_be_removed(fitted, capsys):
    shutil.copy(fitted / "koch.pt", "koch.pt")
    frame = Path("results/koch/frame_000000.png")
    frame.mkdir(parents=True)
    before = Path("koch.pt").read_bytes()
    for _ in range(2):
        assert train_ifs.main(["koch", *TINY]) == 2
        assert f"cannot remove {frame}" in capsys.readouterr().err
        assert Path("koch.pt").read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_fit(monkeypatch, capsys):
    def fails(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    assert train_ifs.main(["koch", *TINY]) == 2
    assert "cannot write to the folder results/koch (Permission denied)" in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.slow
@posix
def test_an_interrupt_when_all_is_done_says_so(monkeypatch, capsys):
    write = train_ifs.write_results

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGINT)
        return write(*given)

    monkeypatch.setattr(train_ifs, "write_results", interrupted)
    assert train_ifs.main(["koch", *TINY]) == 130
    assert capsys.readouterr().err.endswith("the fit had come to its end: nothing is missing\n")
    assert torch.load("koch.pt", weights_only=True)["step"] == 30


@pytest.mark.slow
@posix
def test_a_render_that_is_terminated_leaves_nothing(fitted):
    command = [sys.executable, ROOT / "render_ifs.py", "koch", "30", "100000"]
    with subprocess.Popen(command, cwd=fitted, stderr=subprocess.PIPE) as render:
        while not list((fitted / "results" / "koch").glob(".*.part")):
            assert render.poll() is None
            time.sleep(0.05)
        render.terminate()
        render.communicate()
    assert render.returncode == 128 + signal.SIGTERM
    assert not list((fitted / "results" / "koch").glob("*100000*"))
    assert not list((fitted / "results" / "koch").glob(".*.part"))
