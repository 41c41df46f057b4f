"""The benchmarks' own promises, on tiny pictures."""

import csv
import math
import re
import sys
from pathlib import Path

import flames
import numpy as np
import on_gpu
import pytest
import quality
import speed
import torch
from PIL import Image, ImageDraw

import ifs_model
from diff_ifs.files.system import load_system
from diff_ifs.setup import Setup, similarity


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A folder of three tiny pictures; fits of few steps."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for k in range(3):
        image = Image.new("L", (32, 32))
        ImageDraw.Draw(image).ellipse([4, 4 + 2 * k, 27, 27 - 2 * k], fill=255)
        image.save(folder / f"ellipse_{k}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality, "Setup", with_few_steps)
    return folder


def with_few_steps(**fields) -> Setup:
    return Setup(**(fields | {"steps": 10, "starts": 2, "rounds": 1, "stroke": 0.0}))


QUICK = {"maps": 4, "size": 32, "starts": 2, "steps": 20, "points": 1000}


def rows(out: Path) -> list[dict]:
    """All rows of a folder, by name, without times."""
    found = [
        row
        for path in out.glob("fits*.csv")
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    return sorted(
        ({k: v for k, v in row.items() if k not in ("seconds", "wall")} for row in found), key=str
    )


@pytest.mark.slow
def test_two_shards_one_of_them_in_two_processes_give_the_rows_of_one_run(shapes, capsys):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        common = [str(shapes), "--size", "16", "--maps", "8"]
        quality.main([*common, "--jobs", "1", "--out", "whole"])
        quality.main([*common, "--jobs", "2", "--out", "shards", "--shard", "0/2"])
        assert capsys.readouterr().out.splitlines()[-5].startswith("2 pictures")
        quality.main([*common, "--jobs", "1", "--out", "shards", "--shard", "1/2"])
    finally:
        torch.set_num_threads(threads)
    assert sorted(path.name for path in Path("shards").glob("*.csv")) == [
        "fits_0_2.csv",
        "fits_1_2.csv",
    ]
    assert len(rows(Path("whole"))) == 3
    assert rows(Path("whole")) == rows(Path("shards"))
    assert Path("shards/sheet.png").read_bytes() == Path("whole/sheet.png").read_bytes()
    assert Path("shards/table.txt").read_text().startswith("3 pictures")


@pytest.mark.slow
def test_a_picture_is_fitted_once_by_whatever_shard(shapes, monkeypatch):
    common = [str(shapes), "--size", "16", "--maps", "8", "--jobs", "1", "--out", "out"]
    quality.main([*common, "--shard", "1/3"])
    quality.main(common)
    monkeypatch.setattr(quality, "fit_picture", lambda *_: pytest.fail("all pictures were there"))
    quality.main(common)
    assert [row["name"] for row in rows(Path("out"))] == ["ellipse_0", "ellipse_1", "ellipse_2"]


def test_rows_belong_to_a_folder_and_its_settings(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quality, "fit_pictures", lambda *_: iter(()))
    monkeypatch.setattr(quality, "fit", lambda *_: iter([None]))
    quality.main([str(shapes), "--maps", "2", "--out", "out"])
    others = tmp_path / "others"
    others.mkdir()
    Image.new("L", (8, 8)).save(others / "ellipse_0.png")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    for arguments in (
        [str(others), "--maps", "2", "--out", "out"],
        [str(shapes), "--maps", "3", "--out", "out"],
        [str(shapes), "--maps", "2", "--seed", "1", "--out", "out"],
        [str(shapes), "--maps", "2", "--out", str(tmp_path / "full")],
    ):
        with pytest.raises(SystemExit) as stop:
            quality.main(arguments)
        assert stop.value.code == 2
        assert "give another --out" in capsys.readouterr().err
    quality.main([str(shapes), "--maps", "2", "--out", "out"])


@pytest.mark.slow
def test_what_a_gpu_does_is_one_table(capsys, monkeypatch):
    """Here on the CPU, and without the steps and the tests of devices, which have their own."""
    monkeypatch.setattr(on_gpu, "TARGETS", ("koch",))
    monkeypatch.setattr(on_gpu, "Setup", with_few_steps)
    monkeypatch.setattr(on_gpu, "load_setup", lambda name, options: (Setup(**QUICK),))
    monkeypatch.setattr(on_gpu.speed, "rates", lambda place: {"place": place})
    monkeypatch.setattr(
        on_gpu.speed, "steps_table", lambda place, rate: print("steps", place, rate)
    )
    monkeypatch.setattr(
        on_gpu.subprocess,
        "run",
        lambda *_, **how: on_gpu.subprocess.CompletedProcess((), 0, "9 passed", ""),
    )
    on_gpu.main(["--device", "cpu", "--size", "32"])
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("| koch | 4 | ")]
    (row,) = rows
    here, there = (float(cell) for cell in row.split("|")[3:5])
    assert here == there > 0.3
    assert row.split("|")[7].strip() == "cpu"
    assert "A fit here takes" in said
    assert said.count("steps cpu {'place': 'cpu'}") == 2
    assert said.endswith("tests/test_devices.py: 9 passed\n")


@pytest.mark.parametrize("text", ["2/2", "1", "-1/2", "0/0", "a/b"])
def test_a_shard_that_is_none_is_refused(shapes, text, capsys):
    with pytest.raises(SystemExit) as stop:
        quality.main([str(shapes), f"--shard={text}"])
    assert stop.value.code == 2
    assert "such as 0/2" in capsys.readouterr().err


@pytest.mark.slow
def test_the_dense_splat_and_its_gradient_agree_with_ours():
    generator = torch.Generator().manual_seed(0)
    points = 8 + 16 * torch.rand(2, 100, generator=generator, dtype=torch.float64)
    shares, upstream = (
        torch.ones(100, dtype=torch.float64),
        torch.zeros(32, 32, dtype=torch.float64),
    )
    upstream[:] = torch.linspace(-1, 1, 32)[:, None] * torch.linspace(0, 2, 32)
    dense, gradient = speed.dense_splat(points, shares, 32, 2.0, upstream)
    leaf, spread = points.clone().requires_grad_(), ifs_model.blur_matrix(32, 2.0, points)
    ours = spread @ ifs_model.splat(leaf[None], shares[None], 32)[0] @ spread
    assert torch.allclose(ours, dense, atol=0.05 * float(dense.max()))
    (by_ours,) = torch.autograd.grad((ours * upstream).sum(), leaf)
    assert torch.allclose(by_ours, gradient, atol=0.05 * float(gradient.abs().max()))


def test_the_distance_field_draws_the_segments_of_all_words():
    maps = torch.tensor([similarity(0.5, at=(x, 0.0)) for x in (-0.5, 0.5)])
    drawn = speed.distance_field(maps, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), 1, 64, 2.0)
    segments = torch.zeros(64, 64, dtype=torch.bool)
    segments[30:34, 16 - 8 : 16 + 8] = segments[30:34, 48 - 8 : 48 + 8] = True
    assert ((drawn > 0.5) & segments).sum() == segments.sum()
    assert ((drawn > 0.5) & ~segments).sum() <= 2 * 16  # round ends


def test_memory_is_measured_and_given_back():
    peak = speed.peak_memory(lambda: torch.ones(8 << 20), "cpu")
    assert math.isnan(peak) or 31 < peak < 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "otherwise"),
    [
        (lambda ours: ours, 0),
        (lambda ours: np.zeros_like(ours), 4),  # all of ours is too much
        (lambda ours: np.ones_like(ours), 4),  # and here too little
    ],
)
def test_flames_that_are_drawn_otherwise_are_counted(monkeypatch, capsys, theirs, otherwise):
    def by_flam3(text, quality, out):
        wide, high = map(int, re.search(r'size="(\d+) (\d+)"', text).groups())
        top, left = (256 - high) // 2, (256 - wide) // 2
        ours = flames.drawn(load_system(str(out.with_suffix(".flame"))))
        return theirs(ours[top : top + high, left : left + wide])

    monkeypatch.setattr(flames, "by_flam3", by_flam3)
    monkeypatch.setattr(sys, "argv", ["flames.py", "4"])
    flames.main()
    assert f"4 of 4 open, {otherwise} of them" in capsys.readouterr().out
