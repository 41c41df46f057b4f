"""The page in a real browser: it draws what the renderer draws, and does what its user does."""

import base64
import json
import math
import re

import numpy as np
import pytest
import torch
from browser import Tab, start
from PIL import Image
from systems import DUST, FERN, KOCH
from test_page import HOSTILE, WINDOW

from diff_ifs import iou, occupancy
from diff_ifs.files.setup_file import load_setup
from diff_ifs.formats.code import unpack
from diff_ifs.page import page
from diff_ifs.setup import affine, similarity

pytestmark = pytest.mark.slow

RING = [similarity(0.3, 30 * k, (0.6 * math.cos(k), 0.6 * math.sin(k))) for k in range(6)]
SLOW = torch.tensor(
    [similarity(0.9, 12), similarity(0.3, at=(0.6, 0.1)), similarity(0.35, at=(0.2, -0.5))]
)
CORNERS = [(-0.4, -0.4), (0.4, -0.35), (0.35, 0.4), (-0.4, 0.4)]
SOLID = torch.tensor([similarity(0.6, 10 * k, at) for k, at in enumerate(CORNERS)])
SYSTEMS = {
    "koch": (KOCH, 0.02),
    "fern": (FERN, 0.008),
    "ring": (torch.tensor([*RING, similarity(0.5, at=(0.0, 0.1), mirror=True)]), 0.006),
    "slow": (SLOW, 0.0),
    "solid": (SOLID, 0.0),
}


def write(tmp_path, name: str, maps: torch.Tensor, stroke: float = 0.0, **more):
    path = tmp_path / "page.html"
    path.write_text(page(name, maps.numpy(), WINDOW, stroke, 256, **more), encoding="utf-8")
    return path


def saved(tab) -> dict:
    """The system that the page saves as JSON."""
    tab.click("[data-tab=save]")
    return json.loads(tab.download("#save-json", "drawn.json").read_text(encoding="utf-8"))


def bare(tab) -> None:
    """Show the fractal in one colour, on a dark ground."""
    tab.click("#colour button[value=none]")
    if tab.run("return document.documentElement.dataset.theme") == "light":
        tab.click("#light")


ENCODE = """
HTMLCanvasElement.prototype.toBlob = function (done) {
  const text = atob(this.toDataURL().split(",")[1]);
  done(new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))]));
};
document.getElementById("png-side").value = arguments[0];
"""


def photograph(tab, side: int) -> torch.Tensor:
    """The picture that the page saves, as coverage. It is encoded at once: a browser puts that off
    until nothing else happens, often by a second."""
    tab.click("[data-tab=save]")
    tab.run(ENCODE, side)
    path = tab.download("#save-png", "drawn.png")
    tab.until(lambda: path.stat().st_size > 0)
    picture = np.asarray(Image.open(path).convert("L"), np.float32)
    ground, ink = 12, 244  # the grey of both
    return torch.from_numpy((picture >= (ground + ink) / 2 - 1).astype(np.float32))


@pytest.mark.parametrize("largest", [0.04, 0.3, 0.8])
def test_of_very_many_maps_no_cell_is_missed(largest, tab, tmp_path):
    """On a chart of 1000 maps each small one maps only some of the points."""
    spots = [(0.027 * math.sqrt(k), 137.5 * k) for k in range(999)]
    dots = [similarity(0.04, a, (r * math.cos(a), r * math.sin(a))) for r, a in spots]
    maps = torch.tensor([similarity(largest, 25, (0.1, 0)), *dots]).double()
    tab.open(write(tmp_path, "drawn", KOCH))
    script = """
      const [maps] = arguments, box = [-1.5, 1.5, -1.5, 1.5];
      const [early, whole] = [0, 1].map(() => new Chart(maps, box, 0.01));
      finish(early.grown());
      whole.grow();
      return [early.wanting.length, early.count, whole.count];
    """
    wanting, count, whole = tab.run(script, maps.reshape(-1, 6).tolist())
    assert whole > 10000
    assert count >= 0.985 * whole  # the rest are cells that it hardly touches
    assert wanting <= 1  # the one that is large


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_page_draws_what_the_renderer_draws(name, tab, tmp_path):
    maps, stroke = SYSTEMS[name]
    tab.open(write(tmp_path, "drawn", maps, stroke))
    bare(tab)
    tab.wait()
    seen = photograph(tab, 512)
    # as finely as the page
    drawn = occupancy(maps.double(), WINDOW, 512, stroke=stroke, supersample=2)
    assert float(iou(seen, drawn)) >= 0.98


def double(tab, times: int) -> None:
    """Zoom closer by so many clicks at once."""
    tab.run("for (let k = 0; k < arguments[0]; k++) find('closer').click();", times)


def test_a_zoom_of_a_million_is_as_sharp_as_one_of_eight(tab, tmp_path):
    """About the fixed point of a map that halves the world the fractal looks the same after each
    doubling."""
    maps = torch.tensor(
        [similarity(0.5), similarity(0.42, 0, (-0.55, 0.5)), similarity(0.45, 15, (0.55, -0.4))]
    )
    tab.open(write(tmp_path, "drawn", maps, 0.012))
    bare(tab)
    tab.click("#closer")
    double(tab, 2)
    near = photograph(tab, 300)
    double(tab, 17)
    tab.wait()
    assert tab.find("#factor").text == "1.0·10^6×"
    assert 0.02 < float(near.mean()) < 0.98
    assert float(iou(photograph(tab, 300), near)) >= 0.99
    double(tab, 10)
    assert tab.find("#factor").text == "1.1·10^9×"
    assert float(iou(photograph(tab, 300), near)) >= 0.99


HALF = similarity(0.5, 20)  # about the middle of the window, where a zoom goes
ZOOMED = {
    # holes of all sizes, in what a coarse look finds solid:
    "lace": ([HALF, *RING], 0.0),
    "stem": ([affine(0, 0, 0, 0.3), affine(0.8, 0.1, -0.1, 0.8, 0, 0.12), HALF], 0.02),
}


@pytest.mark.parametrize(("name", "doublings"), [("lace", 10), ("stem", 5)])
def test_a_zoom_is_what_the_renderer_draws(name, doublings, tab, tmp_path):
    maps, stroke = torch.tensor(ZOOMED[name][0]), ZOOMED[name][1]
    tab.open(write(tmp_path, "drawn", maps, stroke))
    bare(tab)
    double(tab, doublings)
    seen, edge = photograph(tab, 300), 0.5**doublings
    window = (-edge, edge, -edge, edge)
    drawn = occupancy(maps.double(), window, 300, stroke=stroke * edge, supersample=2)
    assert 0.01 < float(drawn.mean()) < 0.9
    assert float(iou(seen, drawn)) >= 0.96


def colours(tab, spots: list[tuple[float, float]], side: int = 300) -> np.ndarray:
    """The colours of the saved picture at parts of its width and height."""
    photograph(tab, side)
    picture = np.asarray(Image.open(tab.folder / "drawn.png").convert("RGB"), int)
    return np.array([picture[int(y * side), int(x * side)] for x, y in spots])


QUARTERS = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
DARK, PALE, WHITE = (10, 12, 20), (250, 249, 245), (244, 244, 240)
BLUE, ORANGE = (56, 132, 255), (255, 122, 26)


def test_the_difference_from_the_target_is_white_blue_and_orange(tab, tmp_path):
    top = [affine(0.5, 0, 0, 0.5, x, y) for x in (-0.5, 0.5) for y in (0, 0.5)]
    left = np.zeros((64, 64), np.float32)
    left[:, :32] = 1
    tab.open(write(tmp_path, "drawn", torch.tensor(top), target=left))
    bare(tab)
    tab.click("#kind button[value=difference]")
    tab.wait()
    assert (colours(tab, QUARTERS) == [WHITE, ORANGE, BLUE, DARK]).all()
    tab.click("[data-tab=look]")
    tab.click("#light")
    assert (colours(tab, QUARTERS)[3] == PALE).all()
    tab.click("[data-tab=look]")
    tab.click("#light")
    tab.click("#kind button[value=occupancy]")
    tab.click("#colour button[value=map]")
    by_map = colours(tab, [(0.25, 0.1), (0.25, 0.4), (0.75, 0.1), (0.75, 0.4)])
    assert len({tuple(colour) for colour in by_map}) == 4
    tab.click("[data-tab=look]")
    tab.run("const menu = arguments[0]; menu.value = 'Ten';", tab.find("#palette"))
    tab.run("arguments[0].dispatchEvent(new Event('change'))", tab.find("#palette"))
    first_four = [(255, 127, 14), (31, 119, 180), (214, 39, 40), (44, 160, 44)]  # up the left, then
    assert (colours(tab, [(0.25, 0.1), (0.25, 0.4), (0.75, 0.1), (0.75, 0.4)]) == first_four).all()


@pytest.mark.parametrize(("figure", "share"), [("square", 1), ("picture", 0.5), ("segment", 0)])
def test_levels_begin_with_the_figure(figure, share, tab, tmp_path):
    left = np.zeros((64, 64), np.float32)
    left[:, :32] = 1
    tab.open(write(tmp_path, "drawn", DUST, target=left))
    bare(tab)
    tab.click("#kind button[value=levels]")
    tab.find(f"#figure option[value={figure}]").click()
    for level in (2, 1, 0):  # from the third, down
        tab.click("[data-tab=look]")
        tab.find("#level").send_keys("\ue012")
        drawn = float(photograph(tab, 360).mean())
        if share:
            assert drawn == pytest.approx(share * (4 / 9) ** level, abs=0.02)
        else:  # 4^level thin lines of a third of the length each
            assert 0.001 < drawn < 0.02 * (4 / 3) ** level


SPLATS = """
const [maps, pen, zoom, [x, y], colour, side] = arguments, pixel = 2 / zoom / side;
const view = new View(x - 1 / zoom, y + 1 / zoom, pixel, side, side), splats = new Splats();
const palette = colour === "none" ? [[244, 244, 240]] : coloursOf("Sunset", maps.length);
const job = { kind: "occupancy", pen: pen / zoom, colour, palette }, system = new System(maps);
const canvas = new OffscreenCanvas(side, side), context = canvas.getContext("2d");
splats.most = Infinity;
const { bitmap } = finish(splats.picture(system, view, job));
context.drawImage(bitmap, 0, 0);
const splatted = context.getImageData(0, 0, side, side).data;
const painted = finish(occupancyPicture(system, view, job, 1)).pixels;
let both = 0, either = 0, off = 0;
for (let k = 0; k < 4 * side * side; k += 4) {
  const [here, there] = [splatted[k + 3] > 127, painted[k + 3] > 127];
  both += here && there;
  either += here || there;
  off += here && there && [0, 1, 2].some((j) => Math.abs(splatted[k + j] - painted[k + j]) > 16);
}
splats.gl.getExtension("WEBGL_lose_context").loseContext();
return [both / either, either / side ** 2, off / both, finish(splats.picture(system, view, job))];
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """A browser with a graphics card, and its folder."""
    folder = tmp_path_factory.mktemp("card")
    browser = start(folder, webgl=True)
    yield browser, folder
    browser.quit()


@pytest.mark.parametrize("zoom", [1, 1e6])
@pytest.mark.parametrize(
    ("name", "colour"), [("koch", "none"), ("solid", "map"), ("ring", "address")]
)
def test_the_graphics_card_draws_what_the_painter_draws(name, colour, zoom, card, tmp_path):
    """Played by the processor here, where the page would not use it, and which the console says."""
    tab, (maps, pen) = Tab(*card), SYSTEMS[name]
    tab.open(write(tmp_path, "drawn", maps, pen))
    if not tab.run("return new Splats().gl !== null"):
        pytest.skip("this browser has no WebGL2")
    maps = maps.double()
    fixed = torch.linalg.solve(torch.eye(2).double() - maps[1, :, :2], maps[1, :, 2])
    at = fixed.tolist() if zoom > 1 else [0, 0]
    numbers = maps.reshape(-1, 6).tolist()
    agreement, share, off, lost = tab.run(SPLATS, numbers, pen, zoom, at, colour, 400)
    assert 0.01 < share < 0.98
    assert agreement >= 0.9
    assert off < 0.05
    assert lost is None


def test_handles_numbers_and_undo(tab, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    tab.open(write(tmp_path, "drawn", SYSTEMS["ring"][0]))
    tab.click("[data-tab=draw]")
    tab.click("#maps button:nth-child(7)")

    def numbers():
        return [float(tab.find(f"#numbers [name='{k}']").get_attribute("value")) for k in range(6)]

    before = numbers()
    assert before == [0.5, 0.0, 0.0, 0.0, -0.5, 0.1]
    ActionChains(tab.browser, duration=0).drag_and_drop_by_offset(
        tab.find(".handle[data-handle=corner2]"), -40, -40
    ).perform()
    after = numbers()
    ratio = after[0] / before[0]
    assert 0.3 < ratio < 0.95
    assert after == pytest.approx([0.5 * ratio, 0, 0, 0, -0.5 * ratio, 0.1], abs=1e-4)
    tab.wait()
    tab.click("#undo")
    assert numbers() == before
    tab.click("#redo")
    assert numbers() == after
    field = tab.find("#numbers [name='0']")
    # all of it is chosen and replaced by what would stretch the world
    field.send_keys("\ue009a\ue000", "1.5\n")
    assert numbers() == after
    assert "shrink" in tab.message
    ActionChains(tab.browser, duration=0).drag_and_drop_by_offset(
        tab.find(".handle[data-handle=corner2]"), 200, 200
    ).perform()
    assert math.hypot(*numbers()[:1]) <= 0.99
    tab.click("#duplicate")
    assert tab.find("#facts").text.startswith("8 maps")
    tab.click("#delete")
    assert tab.find("#facts").text.startswith("7 maps")
    for _ in range(2):
        tab.find("#stage").send_keys("\ue009z\ue000")  # Ctrl+Z
    assert tab.find("#redo").is_enabled()
    tab.click("#add")
    assert not tab.find("#redo").is_enabled()  # what was undone is gone
    assert tab.find("#facts").text.startswith("8 maps")
    tab.wait()


def corners(tab, k: int = 0) -> np.ndarray:
    """Where the corners (4, 2) of a map's frame are on the screen."""
    tab.click("[data-tab=draw]")
    frame = tab.find(f"polygon[data-map='{k}']")
    return np.array(
        [[float(x) for x in at.split(",")] for at in frame.get_attribute("points").split()]
    )


def test_fingers_move_zoom_and_draw(tab, tmp_path):
    tab.open(write(tmp_path, "drawn", SYSTEMS["ring"][0]))
    before = corners(tab)
    tab.click("[data-tab=look]")
    tab.touch([(240, 300), (260, 290), (275, 270)])
    assert np.allclose(corners(tab), before + np.array((35, -30)), atol=0.01)
    before, middle = corners(tab), np.array((225, 400))
    tab.click("[data-tab=look]")
    tab.touch([(200, 400), (180, 400), (150, 400)], [(250, 400), (270, 400), (300, 400)])
    assert np.allclose(corners(tab), middle + 3 * (before - middle), atol=0.01)
    assert tab.find("#factor").text == "3×"
    tab.click("#home")
    tab.click("#maps button:nth-child(7)")
    before, middle = corners(tab, 6), corners(tab, 6).mean(0)
    tab.touch([tuple(before[2] + part * (middle - before[2])) for part in (0, 0.1, 0.3, 0.5)])
    assert np.allclose(corners(tab, 6), (before + middle) / 2, atol=0.5)
    tab.wait()


def test_a_saved_setup_is_one_to_fit_on_from(tab, tmp_path, browser, monkeypatch):
    maps = torch.cat([SYSTEMS["ring"][0], FERN[2:3]])
    tab.open(write(tmp_path, "drawn", maps, 0.0125))
    tab.click("[data-tab=save]")
    path = tab.download("#save-setup", "drawn_setup.py")
    text = path.read_text(encoding="utf-8")
    assert text.count("similarity(") == 7
    assert text.count(" affine(") == 1
    monkeypatch.chdir(browser[1])
    setup, _ = load_setup("drawn", {})
    assert np.allclose(setup.maps, maps, atol=1e-5)
    assert setup.stroke == 0.0125


def test_the_density_has_the_weights_that_it_is_given(tab, tmp_path):
    """Nine tenths of the mass of a segment lie in its right half."""
    halves = torch.tensor([similarity(0.5, at=(-0.5, 0)), similarity(0.5, at=(0.5, 0))])
    path = write(tmp_path, "drawn", halves, weights=np.array([0.1, 0.9]))
    tab.open(path)
    bare(tab)
    tab.click("#kind button[value=density]")
    tab.wait()
    assert saved(tab)["weights"] == [0.1, 0.9]
    tab.click("[data-tab=save]")
    picture = (
        np.asarray(Image.open(tab.download("#save-png", "drawn.png")).convert("L"), float) - 12
    )
    half = picture.shape[1] // 2
    assert picture[:, half:].sum() > 1.5 * picture[:, :half].sum()


@pytest.mark.parametrize("stroke", [0.0, 0.02])
def test_a_saved_svg_shows_the_fractal(stroke, tab, tmp_path):
    maps = KOCH if stroke else SOLID
    tab.open(write(tmp_path, "drawn", maps, stroke))
    bare(tab)
    tab.click("[data-tab=save]")
    path = tab.download("#save-svg", "drawn.svg")
    frame = "<!doctype html><style>body { margin: 0 }</style>"
    frame += f"<img width=400 height=400 src='{path.as_uri()}'>"
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    tab.browser.get((tmp_path / "frame.html").as_uri())
    (tmp_path / "seen.png").write_bytes(tab.find("img").screenshot_as_png)
    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("L").resize((400, 400)), np.float32)
    drawn = occupancy(maps.double(), WINDOW, 400, stroke=stroke)
    assert float(iou(torch.from_numpy((seen > 128).astype(np.float32)), drawn)) >= 0.9


def test_a_link_holds_the_system(tab, tmp_path):
    many = torch.tensor(
        [similarity(0.2, 11 * k, (0.7 * math.cos(k), 0.7 * math.sin(k))) for k in range(32)]
    )
    tab.open(write(tmp_path, "drawn", many, 0.0125))
    tab.click("[data-tab=save]")
    tab.click("#make-link")
    link = tab.find("#link").get_attribute("value").partition("#")[2]
    assert len(link) < 2000
    code, numbers = unpack(base64.urlsafe_b64decode(link + "=" * (-len(link) % 4)))
    order = lambda maps: sorted(np.array(maps).reshape(-1, 6).tolist())  # noqa: E731
    assert np.allclose(order(code.maps(numbers)), order(many.tolist()), atol=1e-4)
    tab.open(write(tmp_path, "drawn", KOCH), f"#{link}")
    assert tab.find("#facts").text.startswith("32 maps")
    assert np.allclose(order(saved(tab)["maps"]), order(many.tolist()), atol=1e-4)


@pytest.fixture(scope="module")
def link(browser, tmp_path_factory) -> str:
    """To the Koch curve, as its page makes it."""
    tab = Tab(*browser)
    tab.open(write(tmp_path_factory.mktemp("link"), "drawn", KOCH, 0.01))
    tab.click("[data-tab=save]")
    tab.click("#make-link")
    return tab.find("#link").get_attribute("value").partition("#")[2]


@pytest.mark.parametrize("forged", ["cut", "flipped", "other", "markup"])
def test_a_forged_link_is_told_of_and_the_page_stays(forged, link, tab, tmp_path):
    links = {
        "cut": link[:-4],
        "flipped": link[:9] + ("A" if link[9] != "A" else "B") + link[10:],
        "other": "top",
        "markup": "<img src=x onerror=alert(1)>",
    }
    tab.open(write(tmp_path, "drawn", KOCH, 0.01), f"#{links[forged]}")
    assert tab.message.startswith("The link cannot be read")
    assert tab.find("#facts").text.startswith("4 maps")
    assert np.allclose(saved(tab)["maps"], KOCH)


def test_a_hostile_name_is_text(tab, tmp_path):
    tab.open(write(tmp_path, HOSTILE, KOCH, 0.01))
    assert tab.find("#name").text == HOSTILE
    assert HOSTILE in tab.browser.title
    assert tab.run("return window.stolen") is None
    tab.click("[data-tab=save]")
    text = tab.find("#command").text
    assert "<" not in text


def test_the_iou_with_the_target_is_that_of_the_renderer(tab, tmp_path):
    drawn = occupancy(KOCH.double(), WINDOW, 128, stroke=0.03, supersample=6)
    target = (occupancy(KOCH.double(), WINDOW, 128, stroke=0.05) >= 0.5).float()
    tab.open(write(tmp_path, "drawn", KOCH, 0.03, target=target.numpy()))
    # three digits while it is drawn
    tab.until(lambda: re.search(r"IoU 0\.\d{4}$", tab.find("#facts").text))
    assert float(tab.find("#facts").text.split()[-1]) == pytest.approx(
        float(iou(drawn, target)), abs=0.003
    )
    for kind in ("density", "levels", "difference"):
        tab.click(f"#kind button[value={kind}]")
        tab.wait()


def test_the_way_of_a_fit_can_be_watched(tab, tmp_path):
    maps = torch.stack([KOCH * part for part in (0.7, 0.85, 1.0)])
    way = ([0, 100, 200], maps.numpy(), [0.01, 0.01, 0.01])
    target = (occupancy(KOCH.double(), WINDOW, 64, stroke=0.03) >= 0.5).float().numpy()
    tab.open(write(tmp_path, "drawn", KOCH, 0.03, way=way, target=target))
    tab.click("[data-tab=watch]")
    tab.until(lambda: "IoU" in tab.find("#step-shown").text)
    assert tab.find("#step-shown").text.startswith("step 200")
    tab.find("#step").send_keys("\ue012")  # the left arrow
    assert tab.find("#step-shown").text.startswith("step 100")
    assert np.allclose(saved(tab)["maps"], KOCH)  # what was watched is not what is saved
