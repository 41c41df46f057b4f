"""The scripts as a user runs them."""

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

import render_ifs
import train_ifs

ROOT = Path(__file__).parent.parent
TINY = ["--steps", "30", "--starts", "2", "--size", "64", "--points", "2000", "--quiet"]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / script, *arguments], capture_output=True, text=True, check=False)


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


def test_a_fit_leaves_everything_it_promises(fitted):
    results = fitted / "results" / "koch"
    assert (fitted / "koch.pt").is_file()
    assert sorted(path.name for path in results.iterdir()) == [
        *[f"frame_{step:06d}.png" for step in (0, 8, 11, 15, 18, 23, 30)],
        "koch.gif",
        "koch_difference.png",
        "koch_plot.png",
        "trace.csv",
    ]
    assert (results / "koch.gif").stat().st_size < 2e6
    assert (results / "trace.csv").read_text().splitlines()[0] == "step,size,loss,iou"
    with Image.open(results / "koch.gif") as film:
        assert film.n_frames >= 5


def test_a_picture_without_a_setup_is_fitted_from_random_starts():
    disc = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.6
    Image.fromarray(disc).save("coin.png")
    done = run("train_ifs.py", "coin", "--maps", "4", "--stroke", "0", *TINY)
    assert done.returncode == 0
    assert "no coin_setup.py: 2 random starts of 4 maps" in done.stderr
    assert done.stdout.startswith("coin: IoU 0.")
    assert "4 maps, 24 numbers" in done.stdout
    assert torch.load("coin.pt", weights_only=True)["maps"].shape == (4, 2, 3)


def test_a_fit_can_be_resumed(fitted, monkeypatch, capsys):
    shutil.copytree(fitted, "copy")
    monkeypatch.chdir("copy")
    before = torch.load("koch.pt", weights_only=True)
    assert train_ifs.main(["koch", *TINY, "--resume"]) == 0
    after = torch.load("koch.pt", weights_only=True)
    assert after["step"] > before["step"]
    assert after["iou"] >= before["iou"]


def test_an_interrupted_fit_writes_what_it_has_and_can_go_on():
    command = [sys.executable, ROOT / "train_ifs.py", "koch", *TINY, "--steps", "4000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as fitting:
        for _ in range(600):
            if Path("koch.pt").exists():
                break
            time.sleep(0.1)
        fitting.send_signal(signal.SIGINT)
        out, err = fitting.communicate(timeout=60)
    assert fitting.returncode == 130
    assert out.startswith("koch: IoU 0.")
    assert "go on with: python train_ifs.py koch --resume" in err
    assert Path("results/koch/koch.gif").stat().st_size > 0
    assert torch.load("koch.pt", weights_only=True)["step"] < 4000


def test_the_progress_bar_shows_loss_iou_and_time_left():
    done = run("train_ifs.py", "sierpinski", *TINY[:-1])
    assert done.returncode == 0
    for word in ("loss=", "IoU=", "30/30", "<00:"):
        assert word in done.stderr


@pytest.mark.parametrize("kind", ["occupancy", "density", "distance"])
def test_a_render_needs_the_checkpoint_alone(fitted, kind):
    shutil.copy(fitted / "koch.pt", "elsewhere.pt")
    assert render_ifs.main(["elsewhere", "50", "96", "--kind", kind, "--quiet"]) == 0
    picture = pixels("results/elsewhere/elsewhere_render_50_96.png")
    assert picture.shape == (96, 96)
    assert picture.min() == 0
    assert picture.max() == 255
    assert len(np.unique(picture)) > 3, "smooth edges, or a scale of greys"


def test_render_options(fitted):
    shutil.copy(fitted / "koch.pt", "koch.pt")
    assert render_ifs.main(["koch", "9", "64", "--out", "deep/er/a.png", "--stroke", "0", "--quiet"]) == 0
    assert (
        render_ifs.main(["koch", "9", "64", "--out", "b.png", "--stroke", "0.05", "--supersample", "2", "--quiet"]) == 0
    )
    assert pixels("deep/er/a.png").mean() < pixels("b.png").mean()
    assert render_ifs.main(["koch", "9", "64", "--window", "-1", "0", "-1", "0", "--out", "c.png", "--quiet"]) == 0
    assert pixels("c.png").shape == (64, 64)


BAD = [
    (
        "train_ifs.py",
        ["nowhere"],
        "there is no nowhere.png here; the pictures that exist: apple, black",
    ),
    ("train_ifs.py", ["koch.png"], "give the name alone, without its ending: koch"),
    ("train_ifs.py", ["../koch"], "is not a plain name"),
    ("train_ifs.py", [""], "is not a plain name"),
    ("train_ifs.py", ["koch", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
    ("train_ifs.py", ["koch", "--steps", "0"], "Setup.steps must be a whole number from 1"),
    ("train_ifs.py", ["koch", "--device", "tpu"], "there is no device 'tpu' here; --device takes"),
    ("train_ifs.py", ["koch", "--resume"], "there is no koch.pt yet; make it with: python train_ifs.py koch"),
    ("train_ifs.py", ["black"], "is all black"),
    ("train_ifs.py", ["white"], "is all white"),
    ("train_ifs.py", ["noise"], "cannot be read as a picture"),
    ("train_ifs.py", ["empty"], "cannot be read as a picture"),
    ("render_ifs.py", ["koch", "9", "64"], "there is no koch.pt yet; make it with: python train_ifs.py koch"),
    ("render_ifs.py", ["nowhere", "9", "64"], "there is no nowhere.pt here, nor a nowhere.png to fit; the checkpoints"),
    ("render_ifs.py", ["broken", "1.0", "64"], "RECURSION must be a whole number from 0 to"),
    ("render_ifs.py", ["broken", "-3", "64"], "RECURSION must be a whole number"),
    ("render_ifs.py", ["broken", "9", "1.5"], "RESOLUTION must be a whole number from 1 to"),
    ("render_ifs.py", ["broken", "9", "99999999999999999999"], "RESOLUTION must be a whole number"),
    ("render_ifs.py", ["broken", "9"], "the following arguments are required: RESOLUTION"),
    ("render_ifs.py", ["broken", "9", "64"], "is not a checkpoint of train_ifs.py, or it is damaged"),
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
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse's own way out
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err.replace("[Errno 2] ", "")
    assert {path: path.read_bytes() for path in Path().rglob("*")} == before


def test_a_refusal_does_not_load_torch():
    code = "import sys, train_ifs; train_ifs.main(['nowhere']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "there is no nowhere.png" in done.stderr


def test_the_koch_curve_comes_out_as_readme_says():
    assert train_ifs.main(["koch", "--quiet"]) == 0
    assert torch.load("koch.pt", weights_only=True)["iou"] >= 0.95
