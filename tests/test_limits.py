"""Options of render_ifs.py and train_ifs.py to their limits: what is just taken, and what is just
refused."""

from pathlib import Path

import pytest
from drawings import dots, render, save
from PIL import Image
from refusals import refusal

import train_ifs


@pytest.fixture(autouse=True)
def _in_a_folder_with_specks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("specks", dots())
    Image.linear_gradient("L").save("slope.png")


@pytest.mark.parametrize(
    "arguments",
    [
        "specks 0 1",
        "specks 1000000 4",
        "specks 3 4 --gamma 0.05",
        "specks 3 4 --gamma 20",
        "specks 3 4 --supersample 16",
        "specks 3 4 --stroke 2",
        "specks 3 4 --window -1 1e5 -1 1e5 --stroke 0",
        "specks 3 4 --window 0 1.0000005 0 1",
        "specks 3 4 --zoom-at 0.3043 0.6541 1",
        "specks 3 4 --kind distance --stroke 0.1 --cmap magma",
        "specks 3 4 --kind density --color address --transparent --bits 16",
        "specks 3 4 --memory 1048576",
    ],
)
def test_what_is_just_allowed_is_drawn(arguments):
    assert render(*arguments.split(), "--out", "a.png") == 0
    with Image.open("a.png") as picture:
        assert picture.size == 2 * (int(arguments.split()[2]),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("specks 1000001 4", "RECURSION must be a whole number from 0 to 1000000"),
        ("specks 3 2147483648", "RESOLUTION must be a whole number from 1 to 2147483647"),
        ("specks ٣ 4", "RECURSION must be a whole number"),
        ("specks 3 4 --gamma 0.049", "--gamma must be from 0.05 to 20"),
        ("specks 3 4 --gamma 20.1", "--gamma must be from 0.05 to 20"),
        ("specks 3 4 --supersample 17", "--supersample must be from 1 to 16"),
        ("specks 3 4 --stroke 2.01", "does not fit the window"),
        ("specks 3 4 --stroke 0.6 --window 0 0.5 0 0.5", "does not fit the window"),
        ("specks 3 4 --stroke nan", "does not fit the window"),
        ("specks 3 4 --window 0 1e6 0 1e6", "must be a square"),
        ("specks 3 4 --window 0 1.00001 0 1", "must be a square"),
        ("specks 3 4 --window 1 0 1 0", "must be a square"),
        ("specks 3 4 --zoom-at 0 0 0.99", "needs a FACTOR of 1 or more"),
        ("specks 3 4 --memory 1048577", "--memory must be a positive number"),
        ("specks 3 4 --kind grey", "not the fit of a grey picture"),
        ("specks 3 4 --kind grey --color map", "--kind grey has no colours of maps"),
        ("specks 3 4 --kind grey --figure hull", "--figure is for --kind occupancy and distance"),
        ("specks 3 4 --kind grey --stroke 0", "--stroke is for --kind occupancy and distance"),
        ("specks 3 4 --kind grey --supersample 1", "which only --kind occupancy has"),
        (
            "specks 3 4 --kind distance --transparent",
            "--kind distance has no points to colour and no background",
        ),
        (
            "specks 3 4 --frames 3 --zoom-at 0 0 2 --sweep levels",
            "it needs --zoom-at X Y FACTOR or --morph B, and no",
        ),
        ("specks 3 4 --frames 3 --zoom-at 0 0 2 --bits 16", "films have 8 bits a channel"),
        ("specks 3 4 --sweep levels --out a.jpg", "--out must end in .gif, .mp4 or .png here"),
        ("specks 3 4 --out a.gif", "--out must end in .png or .npy here"),
        ("specks 3 4 --bits 12", "invalid choice: 12"),
        ("specks 3 4 --color none --cmap nosuch", "matplotlib has no colour map 'nosuch'"),
    ],
)
def test_what_is_just_beyond_is_refused(arguments, message, capsys):
    before = sorted(Path().rglob("*"))
    assert message in refusal(lambda given: render(*given), arguments.split(), capsys)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--maps 0", "--maps must be a whole number from 1 to 1000, not 0"),
        ("--maps 1001", "--maps must be a whole number from 1 to 1000, not 1001"),
        ("--depth 0", "--depth must be a whole number from 1 to 64"),
        ("--points 99", "--points must be a whole number from 100 to 16000000"),
        ("--steps 9", "--steps must be a whole number from 10 to 1000000"),
        ("--starts 100001", "--starts must be a whole number from 1 to 100000"),
        ("--size 7", "--size must be a whole number from 8 to 4096"),
        ("--size 4097", "--size must be a whole number from 8 to 4096"),
        ("--stroke 1.01", "--stroke must be a number from 0.0 to 1.0"),
        ("--stroke -0.01", "--stroke must be a number from 0.0 to 1.0"),
        ("--seed -1", "--seed must be a whole number from 0 to 9223372036854775807"),
        ("--maps 3 --depth 16", "Setup.depth 16 would draw 3^16 points; at most 16000000"),
        ("--maps 4 --price 0.01", "--price is for"),
    ],
)
def test_fits_out_of_range_are_refused_before_they_begin(arguments, message, capsys):
    before = sorted(Path().rglob("*"))
    assert message in refusal(train_ifs.main, ["slope", "--quiet", *arguments.split()], capsys)
    assert sorted(Path().rglob("*")) == before
