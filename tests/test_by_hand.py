"""The page under a user's hand: handles, keys, typed numbers and sliders."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from systems import KOCH
from test_browser import DARK, PALE, WHITE, bare, colours, corners, photograph, saved, write

from diff_ifs.draw.coverage import occupancy
from diff_ifs.files.setup_file import load_setup
from diff_ifs.metrics import iou
from diff_ifs.page import page
from diff_ifs.setup import WINDOW, affine, similarity

pytestmark = pytest.mark.slow

END, LEFT, UP, RIGHT, DOWN = "\ue010\ue012\ue013\ue014\ue015"
SHIFT, DELETE, ESCAPE, BACKSPACE = "\ue008\ue017\ue00c\ue003"
OTHERS = [similarity(0.2, 0, (x, -0.6)) for x in (-0.5, 0.5)]


def chosen(tab) -> list[float] | None:
    """The numbers [a, b, x, c, d, y] of the chosen map, as the panel shows them."""
    found = [tab.find(f"#numbers [name='{k}']").get_attribute("value") for k in range(6)]
    return [float(text) for text in found] if all(found) else None


def draw(tab, tmp_path, degrees: float = 0.0) -> None:
    """Open a page with three maps, and choose the first, a similarity of 0.4 at (0.1, 0.2)."""
    maps = torch.tensor([similarity(0.4, degrees, (0.1, 0.2)), *OTHERS])
    tab.open(write(tmp_path, "drawn", maps))
    tab.click("[data-tab=draw]")
    tab.click("#maps button:nth-child(1)")


def pull(tab, handle: str, right: float, down: float, shift: bool = False) -> None:
    """Drag a handle by so many pixels."""
    from selenium.webdriver.common.action_chains import ActionChains

    hand = ActionChains(tab.browser, duration=0)
    if shift:
        hand.key_down(SHIFT)
    hand.drag_and_drop_by_offset(
        tab.find(f".handle[data-handle={handle}]"), round(right), round(down)
    )
    if shift:
        hand.key_up(SHIFT)
    hand.perform()


def test_the_knob_turns_a_map_about_its_middle(tab, tmp_path):
    draw(tab, tmp_path)
    before = corners(tab)
    knob = tab.find(".handle[data-handle=knob]")
    away = before[:, 1].mean() - float(knob.get_attribute("cy"))  # above the middle
    assert away == pytest.approx(np.ptp(before[:, 1]) / 2 + 30)
    pull(tab, "knob", -away, away)  # a quarter of a turn to the left
    assert chosen(tab) == pytest.approx([0, -0.4, 0.1, 0.4, 0, 0.2], abs=0.005)
    assert np.allclose(corners(tab).mean(0), before.mean(0), atol=0.01)
    shown = float(tab.find("#numbers [name=degrees]").get_attribute("value"))
    assert shown == pytest.approx(90, abs=1)


def test_a_side_shears_a_map_and_with_shift_stretches_it_alone(tab, tmp_path):
    draw(tab, tmp_path)
    unit = np.ptp(corners(tab)[:, 0]) / 0.8  # pixels of 1 in the world
    x, y = 20 / unit, 40 / unit
    for handle, shift, wanted in (
        ("right", False, [0.4 + x, 0, 0.1, y, 0.4, 0.2]),
        ("right", True, [0.4 + x, 0, 0.1, 0, 0.4, 0.2]),
        ("top", False, [0.4, x, 0.1, 0, 0.4 + y, 0.2]),
        ("top", True, [0.4, 0, 0.1, 0, 0.4 + y, 0.2]),
    ):
        pull(tab, handle, 20, -40, shift)
        assert chosen(tab) == pytest.approx(wanted, abs=0.005)
        tab.click("#undo")
        assert chosen(tab) == [0.4, 0, 0.1, 0, 0.4, 0.2]


def test_mirror_reflects_a_map_and_leaves_its_frame(tab, tmp_path):
    """What was on its left is on its right; twice, it is as it was."""
    draw(tab, tmp_path, 30)
    a, b, x, c, d, y = before = chosen(tab)
    frame = sorted(corners(tab).tolist())
    tab.click("#mirror")
    assert chosen(tab) == pytest.approx([-a, b, x, -c, d, y], abs=1e-5)
    assert np.allclose(sorted(corners(tab).tolist()), frame, atol=0.01)
    tab.find("#stage").send_keys("m")
    assert chosen(tab) == before


def test_keys_move_copy_leave_and_delete_a_map(tab, tmp_path):
    draw(tab, tmp_path)
    stage, before = tab.find("#stage"), corners(tab)
    for keys, (right, down) in (
        (RIGHT, (2, 0)),
        (LEFT * 2, (-4, 0)),
        (UP, (0, -2)),
        (DOWN * 2, (0, 4)),
        (SHIFT + RIGHT * 5, (1, 0)),
    ):
        start = corners(tab)
        stage.send_keys(keys)
        assert np.allclose(corners(tab) - start, (right, down), atol=0.01)
    stage.send_keys("\ue009" + "z" * 9)  # Ctrl+Z, as often as a key was pressed
    assert np.allclose(corners(tab), before, atol=0.01)
    stage.send_keys("d")
    assert tab.find("#facts").text.startswith("4 maps")
    # the copy is chosen, a twentieth of the window to the right and below
    assert chosen(tab) == pytest.approx([0.4, 0, 0.2, 0, 0.4, 0.1])
    stage.send_keys(DELETE)
    assert tab.find("#facts").text.startswith("3 maps")
    assert chosen(tab) is None
    stage.send_keys(DELETE)  # none is chosen
    assert tab.find("#facts").text.startswith("3 maps")
    for rest in (2, 1, 1):  # the last one stays
        tab.click("#maps button:nth-child(1)")
        stage.send_keys(BACKSPACE)
        assert tab.find("#facts").text.startswith(f"{rest} map")
    tab.click("#maps button:nth-child(1)")
    assert not tab.find("#delete").is_enabled()
    assert chosen(tab) == pytest.approx([0.2, 0, 0.5, 0, 0.2, -0.6])
    stage.send_keys(ESCAPE)
    assert chosen(tab) is None
    assert not tab.find("#mirror").is_enabled()


def test_without_a_chosen_map_arrows_move_the_picture_and_others_zoom(tab, tmp_path):
    draw(tab, tmp_path)
    stage = tab.find("#stage")
    stage.send_keys(ESCAPE)
    for keys, (right, down) in (
        (LEFT, (64, 0)),
        (RIGHT * 2, (-128, 0)),
        (UP, (0, 64)),
        (DOWN * 2, (0, -128)),
        (SHIFT + LEFT, (8, 0)),
    ):
        start = corners(tab)
        stage.send_keys(keys)
        assert np.allclose(corners(tab) - start, (right, down), atol=0.01)
    for key, factor in (("+", "1.5×"), ("+", "2.25×"), ("-", "1.5×"), ("0", "1×")):
        stage.send_keys(key)
        assert tab.find("#factor").text == factor


def test_degrees_and_scale_can_be_typed(tab, tmp_path):
    draw(tab, tmp_path, 30)

    def typed(name: str, text: str) -> None:
        tab.find(f"#numbers [name={name}]").send_keys("\ue009a\ue000", f"{text}\n")

    shown = [tab.find(f"#numbers [name={k}]").get_attribute("value") for k in ("scale", "degrees")]
    assert shown == ["0.4", "30"]
    typed("degrees", "-90")
    assert chosen(tab) == pytest.approx([0, 0.4, 0.1, -0.4, 0, 0.2], abs=1e-5)
    typed("scale", "0,3")  # with a comma, as many type it
    assert chosen(tab) == pytest.approx([0, 0.3, 0.1, -0.3, 0, 0.2], abs=1e-5)
    before = chosen(tab)
    typed("scale", "wide")
    assert chosen(tab) == before
    assert "not a number" in tab.message


def alphas(tab, side: int = 300) -> np.ndarray:
    """How much of the ink the saved picture has, from 0 to 1."""
    photograph(tab, side)
    with Image.open(tab.folder / "drawn.png") as picture:
        red = np.asarray(picture.convert("RGB"), float)[..., 0]
    tab.click("[data-tab=look]")
    return (red - 10) / (244 - 10)


def test_the_tone_of_a_density_is_the_power_that_it_is_shown_to(tab, tmp_path):
    """Two specks, in the middles of pixels, have 0.9 and 0.1 of the mass. Their mean is 0.5, so
    that the tone of the fainter one is log 1.2 / log 2.8."""
    spots = [(225, 150), (75, 75)]  # columns and rows
    places = [((u + 0.5) / 150 - 1, 1 - (v + 0.5) / 150) for u, v in spots]
    specks = torch.tensor([similarity(1e-4, at=at) for at in places])
    tab.open(write(tmp_path, "drawn", specks, weights=np.array([0.9, 0.1])))
    bare(tab)
    tab.click("#kind button[value=density]")
    tab.find("#palette option[value=Ink]").click()
    for key, gamma in (("", 1), (END, 4)):
        tab.find("#gamma").send_keys(key)
        picture = alphas(tab)
        assert picture[150, 225] == pytest.approx(1, abs=0.01)
        light = (math.log(1.2) / math.log(2.8)) ** (1 / gamma)
        assert picture[75, 75] == pytest.approx(light, abs=0.01)
        assert (picture > 0.005).sum() == 2
    tab.find("#palette option[value=Sunset]").click()
    photograph(tab, 300)
    with Image.open(tab.folder / "drawn.png") as picture:
        assert picture.convert("RGB").getpixel((225, 150)) == (255, 214, 94)  # its last colour


def test_the_curve_has_the_iou_of_each_step_and_a_click_on_it_shows_that_step(tab, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    maps, pens = torch.stack([KOCH * part for part in (0.5, 0.8, 1.0)]), [0.03, 0.02, 0.04]
    target = (occupancy(KOCH.double(), WINDOW, 64, stroke=0.04) >= 0.5).float().numpy()
    way = ([0, 10, 20], maps.numpy(), pens)
    tab.open(write(tmp_path, "drawn", KOCH, 0.04, way=way, target=target))
    tab.click("[data-tab=watch]")
    points = "return (document.querySelector('#curve polyline')?.getAttribute('points') ?? '')"
    tab.until(lambda: tab.run(points).count(",") == 3)
    curve = tab.find("#curve")
    for k, (point, pen) in enumerate(zip(tab.run(points).split(), pens, strict=True)):
        x, y = map(float, point.split(","))
        aside = round((k / 2 - 0.5) * 0.98 * curve.size["width"])
        ActionChains(tab.browser, duration=0).move_to_element_with_offset(
            curve, aside, 0
        ).click().perform()
        step, iou = tab.find("#step-shown").text.removeprefix("step ").split(", IoU ")
        assert (int(step), x) == (10 * k, 150 * k)
        assert y == pytest.approx(105 - 100 * float(iou), abs=0.1)  # the higher, the better
        assert tab.find("#pen-shown").get_attribute("textContent") == str(pen)
        tab.wait()
    assert float(iou) > 0.95
    tab.run("""
      const said = document.getElementById("step-shown");
      window.seen = [];
      new MutationObserver(() => seen.push(parseInt(said.textContent.slice(5))))
        .observe(said, { childList: true });
    """)
    tab.click("#play")  # once more from the first step to the last, then it stops
    assert tab.find("#play").text == "❚❚"
    tab.until(lambda: tab.find("#play").text == "▶")
    assert list(dict.fromkeys(tab.run("return seen"))) == [0, 10, 20]


def test_the_pen_slider_widens_the_pen_and_is_undone_at_once(tab, tmp_path):
    tab.open(write(tmp_path, "drawn", KOCH, 0.01))
    tab.find("#pen").send_keys(END)
    assert tab.find("#pen-shown").text == "0.2"  # a tenth of the window
    assert saved(tab)["stroke"] == pytest.approx(0.2)
    tab.click("[data-tab=draw]")
    tab.click("#undo")
    assert saved(tab)["stroke"] == 0.01


def test_wheel_and_double_click_zoom_about_where_they_are(tab, tmp_path):
    draw(tab, tmp_path)
    tab.click("[data-tab=look]")
    spot = np.array((200, 260))
    wheel = """
      const [x, y, deltaY] = arguments, at = { clientX: x, clientY: y, bubbles: true };
      document.getElementById("stage").dispatchEvent(deltaY
        ? new WheelEvent("wheel", { ...at, deltaY, cancelable: true })
        : new MouseEvent("dblclick", at));
    """
    for turn, factor in ((-400, math.exp(0.72)), (400, math.exp(-0.72)), (0, 2)):  # up is closer
        before = corners(tab)
        tab.run(wheel, *map(int, spot), turn)
        assert np.allclose(corners(tab), spot + factor * (before - spot), atol=0.01)
    assert tab.find("#factor").text == "2×"


def test_on_a_light_ground_the_ink_is_dark(tab, tmp_path):
    halves = [affine(0.5, 0, 0, 0.5, x, y) for x in (-0.5, 0.5) for y in (0, 0.5)]
    tab.open(write(tmp_path, "drawn", torch.tensor(halves)))  # which fill the upper half
    bare(tab)
    for light, ink, ground in ((False, WHITE, DARK), (True, (24, 26, 36), PALE)):
        if light:
            tab.click("[data-tab=look]")
            tab.click("#light")
        assert colours(tab, [(0.5, 0.3), (0.5, 0.8)]).tolist() == [list(ink), list(ground)]


@pytest.mark.parametrize("kind", ["occupancy", "density"])
def test_an_address_is_a_place_on_the_palette(kind, tab, tmp_path):
    """On a segment that is its own two halves, the address grows evenly from left to right."""
    halves = torch.tensor([similarity(0.5, at=(x, -0.003)) for x in (-0.5, 0.5)])
    tab.open(write(tmp_path, "drawn", halves, 0.02))
    tab.click(f"#kind button[value={kind}]")
    tab.click("#colour button[value=address]")
    row = colours(tab, [(x, 0.503) for x in (0.252, 0.502, 0.752)])
    assert np.abs(row - [(176, 92, 255), (255, 74, 130), (255, 138, 66)]).max() < 16  # Sunset's


def test_a_pen_has_its_width_at_every_level(tab, tmp_path):
    """The first is the segment from (-1, 0) to (1, 0), of whose pen 0.1 × 2 are seen."""
    tab.open(write(tmp_path, "drawn", KOCH, 0.05))
    bare(tab)
    tab.click("#kind button[value=levels]")
    for level, share in ((0, 0.05), (1, 0.05 * 4 / 3)):
        tab.click("[data-tab=look]")
        tab.find("#level").send_keys("\ue011" + RIGHT * level)  # from the left end
        assert float(photograph(tab, 400).mean()) == pytest.approx(share, rel=0.06)


def test_what_is_drawn_is_there_again_after_watching_and_is_not_loaded_anew(tab, tmp_path):
    """A page that follows a fit loads itself again every three seconds, or here when it is told
    to, and keeps what is seen; but not once something was drawn."""
    told = """
      const every = setInterval;
      window.setInterval = (work, time) => (
        time === 3000 ? (window.again = work, 0) : every(work, time));
    """
    script = tab.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": told})
    try:
        way = ([0, 10], torch.stack([KOCH * 0.8, KOCH]).numpy(), [0.0, 0.0])
        tab.open(write(tmp_path, "drawn", KOCH, way=way, reload=True))
        tab.click("#kind button[value=density]")
        tab.click("#closer")
        tab.click("[data-tab=draw]")
        tab.run("window.before = 1; again();")
        tab.until(lambda: tab.run("return window.before") is None)
        tab.until(lambda: tab.run("return document.body?.dataset.drawn") == "last")
        assert tab.find("#factor").text == "2×"
        kind = tab.find("#kind button[value=density]")
        assert kind.get_attribute("aria-checked") == "true"
        for maps in (5, 6):
            tab.click("#add")
            tab.click("[data-tab=watch]")
            assert tab.find("#facts").text.startswith("4 maps")
            tab.click("[data-tab=draw]")
            assert tab.find("#facts").text.startswith(f"{maps} maps")
        tab.run("window.before = 1; again();")
        tab.wait()
        assert tab.run("return window.before") == 1
    finally:
        tab.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_system_in_another_window_is_seen_and_saved_as_it_is(tab, tmp_path, monkeypatch):
    """The Koch curve, half as large again and moved, in a window that is so, too."""
    window, maps = (1.0, 4.0, -2.0, 1.0), KOCH.double().clone()
    at = torch.tensor([2.5, -0.5]).double()
    maps[:, :, 2] = 1.5 * maps[:, :, 2] + at - maps[:, :, :2] @ at
    path = tmp_path / "page.html"
    path.write_text(page("drawn", maps.numpy(), window, 0.06, 256), encoding="utf-8")
    tab.open(path)
    bare(tab)
    drawn = occupancy(maps, window, 300, stroke=0.06, supersample=2)
    assert float(iou(photograph(tab, 300), drawn)) >= 0.98
    left = saved(tab)
    assert (left["window"], left["stroke"]) == (list(window), 0.06)
    tab.download("#save-setup", "drawn_setup.py")
    tab.click("#make-link")
    link = tab.find("#link").get_attribute("value").partition("#")[2]
    tab.open(write(tmp_path, "drawn", torch.tensor(OTHERS)), f"#{link}")
    left = saved(tab)
    assert left["window"] == list(window)
    assert left["stroke"] == pytest.approx(0.06, rel=0.04)
    found = sorted(np.reshape(left["maps"], (4, 6)).tolist())
    assert np.allclose(found, sorted(maps.reshape(4, 6).tolist()), atol=1e-3)
    monkeypatch.chdir(tab.folder)
    setup, _ = load_setup("drawn", {})  # always in the usual window
    assert np.allclose(setup.maps, KOCH, atol=1e-5)
    assert setup.stroke == pytest.approx(0.04)
