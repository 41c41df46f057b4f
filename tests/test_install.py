"""What pip makes of the repository: commands and a library that work in another folder, without the
clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent

LIBRARY = """
import numpy as np, diff_ifs, ifs_model, train_ifs
target = np.zeros((32, 32), bool)
target[8:24, 8:24] = True
*_, state = train_ifs.fit(target, diff_ifs.Setup(maps=2, size=32, starts=2, steps=10))
assert state.best_maps.shape == (2, 2, 3)
print(diff_ifs.__file__)
"""


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_fits_a_picture_in_another_folder(tmp_path):
    # of what the wheel is made of, so that nothing is left in the repository
    clone = tmp_path / "clone"
    clone.mkdir()
    for path in [*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"]:
        shutil.copy(path, clone)
    shutil.copytree(
        ROOT / "diff_ifs", clone / "diff_ifs", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels = tmp_path / "wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, clone], check=True
    )
    (wheel,) = wheels.glob("diff_ifs-*.whl")
    env = tmp_path / "env"
    venv.create(env)
    (packages,) = (
        env.glob("lib/python*/site-packages") if os.name == "posix" else [env / "Lib/site-packages"]
    )
    subprocess.run([*pip, "--python", env, "install", "--no-deps", "--no-index", wheel], check=True)
    # torch and its kin, as they are here
    (packages / "requirements.pth").write_text(sysconfig.get_paths()["purelib"])
    for path in (ROOT / "diff_ifs").rglob("*"):  # loops that are compiled here stay so there
        there = packages / path.relative_to(ROOT)
        if path.suffix == ".py":
            shutil.copystat(path, there)
        elif path.suffix in (".nbi", ".nbc"):
            there.parent.mkdir(exist_ok=True)
            shutil.copy2(path, there)
    shutil.rmtree(clone)

    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.zeros((40, 30), np.uint8)
    pixels[5:35, 5:15] = 255
    Image.fromarray(pixels).save(folder / "bar.png")
    commands = env / ("bin" if os.name == "posix" else "Scripts")
    options = ["--maps", "2", "--size", "32", "--starts", "2", "--steps", "10", "--quiet"]
    where = {
        "cwd": folder,
        "check": True,
        "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    }
    subprocess.run([commands / "train-ifs", "bar", *options], **where)
    subprocess.run([commands / "render-ifs", "bar", "30", "64", "--quiet"], **where)
    with Image.open(folder / "results/bar/bar_render_30_64.png") as picture:
        drawn = np.asarray(picture) > 127
    assert drawn[:, :32].mean() > 4 * drawn[:, 32:].mean(), "the bar is on the left"
    python = commands / "python"
    said = subprocess.run([python, "-c", LIBRARY], capture_output=True, text=True, **where).stdout
    assert Path(said.strip()).is_relative_to(env)
