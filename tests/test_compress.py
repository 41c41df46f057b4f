"""What compress_ifs.py writes and says, counted by hand and judged once more from the file
alone."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import dots
from PIL import Image

import compress_ifs
from diff_ifs.compress import search
from diff_ifs.draw.coverage import occupancy
from diff_ifs.files.system import load_system
from diff_ifs.files.target import load_target
from diff_ifs.setup import WINDOW, affine, similarity

BLOB = torch.tensor(  # overlapping pieces that fill a shape that is not symmetric; no similarities
    [
        affine(0.55, 0.1, -0.12, 0.5, 0.3, 0.2),
        affine(0.4, -0.2, 0.15, 0.52, -0.33, 0.3),
        affine(-0.48, 0.1, 0.2, 0.55, 0.2, -0.35),
        affine(0.5, 0.2, 0.1, -0.4, -0.3, -0.3),
    ],
    dtype=torch.float64,
)
TURNS = torch.tensor([similarity(0.5, 30, (0.4, 0.2)), similarity(0.45, -70, (-0.4, -0.3)),
                      similarity(0.4, 10, (-0.1, 0.5), mirror=True)]).double()  # fmt: skip


def overlap(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    ours, wanted = ours >= 0.5, wanted >= 0.5
    return float((ours & wanted).sum() / (ours | wanted).sum())


@pytest.fixture(autouse=True)
def _in_a_folder_of_fits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, maps, stroke in (("blob", BLOB, 0.0), ("turns", TURNS, 0.03)):
        system = {
            "maps": maps,
            "window": WINDOW,
            "stroke": stroke,
            "size": 32,
            "step": 9,
            "iou": 0.9,
        }
        torch.save({"format": "diff_ifs", "version": 1, "name": name, **system}, f"{name}.pt")
        drawing = occupancy(maps, WINDOW, 32, stroke=stroke, supersample=6)
        Image.fromarray(np.uint8(255 * drawing.numpy())).save(f"{name}.png")


def compressed(name: str, *options: object, out: str | None = None) -> bytes:
    """The bytes of the file."""
    given = [name, "--effort", "4", "--quiet", *map(str, options), *(["--out", out] if out else [])]
    assert compress_ifs.main(given) == 0
    return Path(out or f"{name}.ifs").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bits", "length"),
    [("blob", 5.2, 21), ("blob", 7.125, 26), pytest.param("turns", 9, 19, marks=pytest.mark.slow)],
)
def test_bits_for_each_number_make_so_many_bytes(name, bits, length):
    """Header and checksum of up to 8 maps take 32 bits, of similarities 28, of an unusual box 5
    more, a stroke 8 more."""
    assert len(compressed(name, "--bits", bits)) == length


@pytest.mark.slow
@pytest.mark.parametrize("length", [18, pytest.param(23, marks=pytest.mark.slow)])
def test_bytes_are_a_limit_that_is_used(length):
    assert length - 2 <= len(compressed("blob", "--bytes", length)) <= length


@pytest.mark.slow
def test_what_is_said_is_true_of_the_file(capsys):
    """IoUs of the fit and of the file are those of their own drawings with the picture."""
    data = compressed("blob", "--bytes", 17, out="deep/er.ifs")
    said = capsys.readouterr().out
    found = re.fullmatch(
        r"blob: (\d+) bytes, IoU (\S+) -> (\S+), (\d+) maps of (\S+) bits, (\S+) times smaller "
        r"than blob.png "
        r"\((\d+) bytes\), \S+ s -> deep/er.ifs\n",
        said,
    )
    size, before, after, n, bits, times, whole = (float(number) for number in found.groups())
    assert 15 <= size == len(data) <= 17
    assert n == 4
    assert whole == Path("blob.png").stat().st_size
    assert times == pytest.approx(whole / size, abs=0.051)
    unusual = data[0] >> 2 & 1
    assert bits == pytest.approx((size * 8 - 32 - 5 * unusual) / 4, abs=0.051)
    target = load_target(Path("blob.png"), 32)
    back = load_system("deep/er.ifs")
    assert before == pytest.approx(overlap(occupancy(BLOB, WINDOW, 32), target), abs=2e-3)
    ours = occupancy(torch.from_numpy(back.maps), WINDOW, 32)
    assert after == pytest.approx(overlap(ours, target), abs=6e-5)
    assert 0.85 < after < before <= 1
    assert (back.size, back.window, back.stroke) == (32, WINDOW, 0)


@pytest.mark.slow
def test_without_options_half_a_hundredth_of_the_iou_is_given(capsys):
    compressed("blob", "--loss", 0.005, out="a.ifs")
    compressed("blob", out="b.ifs")
    compressed("blob", "--loss", 0.05, out="c.ifs")
    assert Path("a.ifs").read_bytes() == Path("b.ifs").read_bytes() != Path("c.ifs").read_bytes()
    target = load_target(Path("blob.png"), 32)
    before = overlap(occupancy(BLOB, WINDOW, 32), target)
    for name, loss in (("a", 0.005), ("c", 0.05)):
        maps = torch.from_numpy(load_system(f"{name}.ifs").maps)
        assert overlap(occupancy(maps, WINDOW, 32), target) >= before - loss - 0.004


@pytest.mark.slow
def test_the_pen_is_kept_in_the_file_to_a_few_percent():
    compressed("turns", "--bits", 9)
    back = load_system("turns.ifs")
    assert back.stroke == pytest.approx(0.03, rel=0.1)
    values = np.linalg.svd(back.maps[:, :, :2], compute_uv=False)
    assert np.allclose(values[:, 0], values[:, 1]), "similarities stay similarities"


@pytest.mark.slow
def test_a_refit_takes_whole_steps_in_many_numbers_at_once(monkeypatch):
    """From numbers that are off by one here and there it gets back most of what that costs, without
    a single step."""
    target = occupancy(BLOB, WINDOW, 32, supersample=6).round()
    system = {"maps": BLOB, "window": WINDOW, "stroke": 0.0, "size": 32}
    code = dataclasses.replace(search.encodings(system)[0], length=22)
    good = search.best_box(code, BLOB, target)
    off = torch.zeros(24, dtype=torch.long)
    off[1::3], off[2::6] = 1, -1
    numbers = good.numbers + off.view(4, 6)
    bad = dataclasses.replace(good, numbers=numbers, iou=search.score(good.code, numbers, target))
    assert bad.iou < search.score(good.code, good.numbers, target) - 0.02
    monkeypatch.setattr(search, "rounded", lambda *_: bad)
    monkeypatch.setattr(search, "best_box", lambda *_: bad)
    found = search.refit(code, BLOB, target, judgements=0)
    assert found.iou > bad.iou + 0.015
    assert found.iou == pytest.approx(search.score(found.code, found.numbers, target))
    assert int((found.numbers != numbers).sum()) > 2


def test_the_effort_is_the_number_of_single_steps(monkeypatch):
    given = []

    def fit_into(system, target, length, judgements, progress):
        given.append((length, judgements))
        raise KeyboardInterrupt

    monkeypatch.setattr("diff_ifs.compress.goals.fit_into", fit_into)
    assert compress_ifs.main(["blob", "--bytes", "30", "--effort", "7", "--quiet"]) == 130
    assert compress_ifs.main(["blob", "--bytes", "30", "--quiet"]) == 130
    assert given == [(30, 7), (30, 200)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "1.01"], "--loss must be from 0 to 1"),
        (["--loss", "-0.01"], "--loss must be from 0 to 1"),
        (["--bytes", "65537"], "--bytes must be from 5 to 65536"),
        (["--bits", "2.9"], "--bits must be from 3 to 16"),
        (["--bits", "16.1"], "--bits must be from 3 to 16"),
        (["--effort", "-1"], "--effort must be from 0 to 1000000"),
        (["--out", "blob.png/x.ifs"], "cannot write blob.png/x.ifs"),
    ],
)
def test_numbers_out_of_their_ranges_are_refused(options, message, capsys):
    assert compress_ifs.main(["blob", "--quiet", *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("blob.ifs").exists()


def test_a_fit_of_another_window_is_no_fit_of_the_picture(capsys):
    whole = torch.load("blob.pt", weights_only=True)
    torch.save({**whole, "window": (0.0, 1.0, 0.0, 1.0)}, "blob.pt")
    assert compress_ifs.main(["blob", "--quiet"]) == 2
    assert "was not fitted to a picture in the window -1 1 -1 1" in capsys.readouterr().err


@pytest.mark.slow
def test_of_a_grey_fit_black_and_white_is_kept_and_that_is_said(capsys):
    whole = torch.load("blob.pt", weights_only=True)
    torch.save({**whole, "exposure": 3.0}, "blob.pt")
    compressed("blob", "--bits", 5)
    assert (
        "blob was fitted to a grey picture; its file keeps black and white"
        in capsys.readouterr().err
    )


def test_exports_are_named_after_what_they_are_made_of():
    torch.save({**torch.load("blob.pt", weights_only=True), "maps": dots()}, "blob.pt")
    for given, kind, out in (("blob", "json", "blob.json"), ("blob.json", "flame", "blob.flame")):
        assert compress_ifs.main([given, "--export", kind]) == 0
        assert np.array_equal(load_system(out).maps, dots().numpy())
    assert compress_ifs.main(["blob", "--export", "json", "--out", "other.json"]) == 0
    assert Path("other.json").read_text() == Path("blob.json").read_text()
