"""How soon the page of explore_ifs.py shows what is dragged: python benchmarks/page.py
results/NAME/NAME.html

In Chromium without a GPU, at 1920 × 1080, the second map's frame is dragged for sixty steps. It
prints how long each first picture took from being asked for to being seen, and how long the last
one, four samples a pixel, took.
"""

import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import Tab, start  # noqa: E402

WATCH = """
window.seen = {milliseconds: [], refined: []};
new MutationObserver((changes) => changes.forEach(({attributeName: name}) => {
  seen[name.slice(5)].push(Number(document.body.getAttribute(name)));
})).observe(document.body, {attributeFilter: ["data-milliseconds", "data-refined"]});
"""


def main(path: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        start(Path(folder)) as browser,
    ):
        tab = Tab(browser, Path(folder))
        inner = browser.execute_script(
            "return [window.outerWidth - innerWidth, window.outerHeight - innerHeight]"
        )
        browser.set_window_size(1920 + inner[0], 1080 + inner[1])
        tab.open(Path(path))
        tab.click("[data-tab=draw]")
        tab.click("#maps button:nth-child(2)")
        tab.wait()
        tab.run(WATCH)
        drag = ActionChains(browser, duration=60)
        drag.move_to_element(tab.find(".handle[data-handle=corner2]")).click_and_hold()
        for step in range(60):
            drag.move_by_offset(4 if step % 20 < 10 else -4, 2 if step % 14 < 7 else -2)
        drag.release().perform()
        tab.wait()
        seen = tab.run("return seen")
        size = tab.run("return `${innerWidth} × ${innerHeight}`")
    first = sorted(seen["milliseconds"])
    print(
        f"{Path(path).name}: {Path(path).stat().st_size / 1000:.0f} kB, {size}, {len(first)} "
        "first pictures"
    )
    print(
        f"first picture: median {statistics.median(first):.0f} ms, nine tenths "
        f"{first[len(first) * 9 // 10]:.0f} ms"
    )
    print(f"last picture: {seen['refined'][-1]:.0f} ms")


if __name__ == "__main__":
    main(sys.argv[1])
