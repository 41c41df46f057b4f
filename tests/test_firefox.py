"""The page in Firefox, from a file: it draws, is drawn with, and opens links."""

import re

import pytest
import torch
from browser import Firefox, Tab
from systems import KOCH
from test_page import WINDOW

from diff_ifs import iou, occupancy
from diff_ifs.page import page
from diff_ifs.setup import similarity

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    firefox = Firefox(tmp_path_factory.mktemp("firefox"))
    yield firefox
    firefox.quit()


@pytest.fixture
def tab(firefox, tmp_path):
    firefox.errors.clear()
    yield Tab(firefox, tmp_path)
    assert firefox.errors == []


def facts(tab) -> str:
    return tab.run("return document.getElementById('facts').textContent")


def numbers(tab) -> list[float]:
    return tab.run("return [...document.querySelectorAll('#numbers input')].map((i) => +i.value)")


def test_firefox_draws_what_the_renderer_draws(tab, tmp_path):
    target = (occupancy(KOCH.double(), WINDOW, 128, stroke=0.05) >= 0.5).float()
    drawn = occupancy(KOCH.double(), WINDOW, 128, stroke=0.03, supersample=6)
    path = tmp_path / "page.html"
    text = page("koch", KOCH.numpy(), WINDOW, 0.03, 256, target=target.numpy())
    path.write_text(text, encoding="utf-8")
    tab.open(path)
    tab.until(lambda: re.search(r"IoU 0\.\d{4}$", facts(tab)))
    assert float(facts(tab).split()[-1]) == pytest.approx(float(iou(drawn, target)), abs=0.003)
    share = tab.run("""
      const canvas = document.getElementById("picture"), { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      return data.filter((value, k) => k % 4 === 3 && value > 127).length / (width * height);
    """)
    assert 0.005 < share < 0.2


@pytest.mark.parametrize("touch", [False, True])
def test_firefox_draws_with_mouse_and_finger_and_opens_a_link(touch, firefox, tab, tmp_path):
    path = tmp_path / "page.html"
    halves = torch.tensor([similarity(0.5, at=at) for at in ((-0.5, -0.4), (0.5, -0.4), (0, 0.4))])
    path.write_text(page("three", halves.numpy(), WINDOW, 0.0, 256), encoding="utf-8")
    tab.open(path)
    firefox.drag("[data-tab=draw]", touch=touch)
    firefox.drag("#maps button:nth-child(3)", touch=touch)
    before = numbers(tab)
    assert before[:6] == [0.5, 0, 0, 0, 0.5, 0.4]
    firefox.drag(".handle[data-handle=corner2]", (-20, 20), (-20, 20), touch=touch)
    tab.wait()
    after = numbers(tab)
    ratio = after[0] / before[0]
    assert 0.3 < ratio < 0.9
    assert after[:6] == pytest.approx([0.5 * ratio, 0, 0, 0, 0.5 * ratio, 0.4], abs=1e-4)
    firefox.drag("[data-tab=save]", touch=touch)
    firefox.drag("#make-link", touch=touch)
    link = tab.run("return document.getElementById('link').value").partition("#")[2]
    path.write_text(page("koch", KOCH.numpy(), WINDOW, 0.0, 256), encoding="utf-8")
    tab.open(path, f"#{link}")
    assert facts(tab) == "3 maps"
    tab.open(path, f"#{link[:-3]}")
    assert tab.message.startswith("The link cannot be read")
    assert facts(tab) == "4 maps"
