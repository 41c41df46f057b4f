"""The page of explore_ifs.py as a file: what is in it, and what is refused."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal
from systems import FERN, KOCH

import train_ifs
from diff_ifs.files.target import load_target
from diff_ifs.page import page
from diff_ifs.page.live import LivePage
from explore_ifs import main

WINDOW = (-1.0, 1.0, -1.0, 1.0)
HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=1>{{data}}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def embedded(text: str) -> dict:
    """The data of a page, found as a browser finds it: up to the first end of the element."""
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])


def write_json(name: str, maps: torch.Tensor, **more) -> None:
    Path(name).write_text(json.dumps({"maps": maps.tolist(), **more}), encoding="utf-8")


def test_a_page_holds_the_system_and_no_address_but_namespaces():
    text = page("koch", KOCH.numpy(), WINDOW, 0.01, 256)
    data = embedded(text)
    assert np.allclose(np.array(data["maps"]).reshape(-1, 2, 3), KOCH)
    assert (data["name"], data["window"], data["stroke"], data["size"]) == (
        "koch",
        [-1, 1, -1, 1],
        0.01,
        256,
    )
    assert set(re.findall(r"https?://[^\"' )]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert "{{" not in text
    assert data["weights"] is None


def test_the_picture_that_was_fitted_is_in_the_page_the_right_way_up():
    target = np.outer(np.linspace(0, 1, 16), np.linspace(0.2, 1, 16))
    kind, _, coded = embedded(page("slope", KOCH.numpy(), WINDOW, 0.0, 16, target))[
        "target"
    ].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
        assert np.abs(np.asarray(picture) / 255 - target).max() < 0.002


def test_nothing_in_a_name_is_markup():
    text = page(HOSTILE, KOCH.numpy(), WINDOW, 0.0, 256)
    plain = page("plain", KOCH.numpy(), WINDOW, 0.0, 256)
    for mark in ("<script", "</script", "<img"):
        assert text.count(mark) == plain.count(mark)
    assert embedded(text)["name"] == HOSTILE


def test_a_page_runs_its_own_script_alone():
    text = page("koch", KOCH.numpy(), WINDOW, 0.0, 256)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for rule, opening, closing in (
        ("script-src", '<script id="script">', "</script>"),
        ("style-src", "<style>", "</style>"),
    ):
        content = text.partition(opening)[2].partition(closing)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r" (on\w+|style)=", text.partition("<body>")[2].partition("<script")[0])


def test_a_page_of_a_thousand_maps_and_a_long_fit_is_small():
    random = np.random.default_rng(0)
    many = random.uniform(-0.1, 0.1, (1000, 2, 3))
    assert len(page("many", many, WINDOW, 0.0, 256)) < 300_000
    for maps, fewest in ((1000, 0), (500, 3), (100, 18), (30, 51)):
        systems, pens = random.uniform(-0.1, 0.1, (51, maps, 2, 3)), np.linspace(0, 0.1, 51)
        way = (list(range(51)), systems, pens.tolist())
        text = page("way", way[1][-1], WINDOW, 0.0, 256, way=way)
        assert len(text) < 300_000
        kept = embedded(text)["way"]
        if not fewest:
            assert kept is None
            continue
        assert len(kept["steps"]) >= fewest
        assert kept["steps"][0] == 0
        assert kept["steps"][-1] == 50
        shape = (-1, maps, 2, 3)
        assert np.allclose(np.reshape(kept["maps"], shape), systems[kept["steps"]], atol=1e-5)
        assert np.allclose(kept["strokes"], pens[kept["steps"]])


def test_the_weights_of_a_file_are_those_of_its_page():
    write_json("curve.json", KOCH, weights=[0.1, 0.2, 0.3, 0.4])
    assert main(["curve.json"]) == 0
    assert embedded(Path("results/curve/curve.html").read_text(encoding="utf-8"))[
        "weights"
    ] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_explore_says_where_the_page_is(capsys):
    write_json("curve.json", KOCH, stroke=0.01)
    assert main(["curve.json"]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"curve: 4 maps, \d+ kB -> file:///.*/results/curve/curve.html\n", said)
    assert main(["curve.json", "--out", "other.html"]) == 0
    assert Path("other.html").read_bytes() == Path("results/curve/curve.html").read_bytes()


@pytest.mark.parametrize("inverted", [False, True])
def test_the_target_of_a_fit_is_found_whichever_part_was_fitted(inverted):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, 10:50] = 255
    Image.fromarray(255 - pixels if inverted else pixels).save("box.png")
    target = load_target(Path("box.png"), 32, inverted)
    steps = torch.stack([KOCH * part for part in (0.5, 0.9)])
    fields = {
        "format": "diff_ifs",
        "version": 1,
        "name": "box",
        "maps": KOCH,
        "window": WINDOW,
        "stroke": 0.0,
        "size": 32,
        "setup": {"invert": inverted},
        "step": 20,
        "iou": 0.5,
        "target": hashlib.sha256(target.numpy().tobytes()).hexdigest(),
        "path": {"steps": [0, 20], "maps": steps, "strokes": [0.0, 0.1]},
    }
    torch.save(fields, "box.pt")
    assert main(["box"]) == 0
    data = embedded(Path("results/box/box.html").read_text(encoding="utf-8"))
    content = base64.b64decode(data["target"].partition("base64,")[2])
    Path("seen.png").write_bytes(content)
    assert np.array_equal(np.asarray(Image.open("seen.png")), np.rint(target.numpy() * 255))
    assert (data["way"]["steps"], data["way"]["strokes"]) == ([0, 20], [0.0, 0.1])
    assert np.allclose(np.array(data["way"]["maps"]).reshape(2, -1, 2, 3), steps, atol=1e-5)
    pixels[:] = 0
    pixels[5:9] = 255
    Image.fromarray(pixels).save("box.png")  # another picture is not its target
    assert main(["box"]) == 0
    assert embedded(Path("results/box/box.html").read_text(encoding="utf-8"))["target"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "there is no nothing.pt here"),
        (["cut.json"], "cut.json is not a fractal that can be drawn"),
        (["many.json"], "many.json is not a fractal that can be drawn"),
        (["curve.json", "--out", "curve.png"], "--out must end in .html"),
        (["../curve"], "is not a plain name"),
    ],
)
def test_what_explore_refuses(arguments, words, capsys):
    write_json("curve.json", KOCH)
    write_json("many.json", KOCH[:1].expand(1001, 2, 3))
    Path("cut.json").write_text('{"maps": [[[0.5, 0,', encoding="utf-8")
    assert words in refusal(main, arguments, capsys)
    assert not any(path.suffix == ".html" for path in Path().rglob("*"))


def test_a_live_page_takes_a_twentieth_of_the_time(monkeypatch):
    clock, written = [100.0], []

    def write(path, *system):
        clock[0] += 0.5
        written.append((clock[0], system[-1]))

    monkeypatch.setattr("diff_ifs.page.live.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("diff_ifs.page.live.write_page", write)
    state = SimpleNamespace(path=[(0, FERN, 0.0)], best_maps=FERN, best_stroke=0.0)
    live = LivePage(None, "fern", torch.zeros(8, 8))
    while clock[0] < 200:
        live.show(state)
        clock[0] += 0.01
    live.show(state, last=True)
    assert 9 <= len(written) <= 12
    assert [reload for _, reload in written] == [True] * (len(written) - 1) + [False]


@pytest.mark.slow
def test_a_fit_that_is_watched_leaves_a_page_that_reloads_no_more(capsys):
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:24, 5:25] = 255
    Image.fromarray(pixels).save("box.png")
    tiny = ["--maps=2", "--steps=20", "--starts=2", "--size=32", "--points=500", "--quiet"]
    assert train_ifs.main(["box", "--watch", *tiny]) == 0
    assert (
        f"watch it at {Path('results/box/box.html').resolve().as_uri()}" in capsys.readouterr().err
    )
    data = embedded(Path("results/box/box.html").read_text(encoding="utf-8"))
    assert not data["reload"]
    assert data["target"]
    assert data["way"]["steps"][0] == 0
