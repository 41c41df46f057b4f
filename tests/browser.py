"""Real browsers for tests, without a window: Chromium, driven by selenium, and Firefox, which
speaks WebDriver BiDi itself."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # which is small in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def start(folder: Path, webgl: bool = False):
    """A browser with a profile and downloads of its own in a folder; the test is skipped where
    there is none. WebGL is played by the processor, which takes as long as all else together."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("there is no chromium with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    card = "--enable-unsafe-swiftshader" if webgl else "--disable-software-rasterizer"
    for flag in (*FLAGS, card, f"--user-data-dir={folder / 'profile'}", "--window-size=1000,760"):
        options.add_argument(flag)
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(folder),
            "safebrowsing.enabled": True,
            "safebrowsing.disable_download_protection": True,
        },
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


class Firefox:
    """A Firefox with a profile of its own in a folder; the test is skipped where there is none."""

    def __init__(self, folder: Path):
        websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
        program = shutil.which("firefox-esr") or shutil.which("firefox")
        if not program:
            pytest.skip("there is no firefox")
        profile = folder / "firefox"
        profile.mkdir()
        command = [program, "--headless", "--no-remote", "--profile", str(profile)]
        log = folder / "firefox.log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--remote-debugging-port", "0"], stdout=out, stderr=out
            )
        self.asked, self.errors = 0, []
        try:
            Tab.until(lambda: re.search(r"BiDi listening on (ws://\S+)", log.read_text()))
            address = re.search(r"BiDi listening on (ws://\S+)", log.read_text())[1]
            self.socket = websocket.create_connection(f"{address}/session", suppress_origin=True)
            self._call("session.new", capabilities={})
            self._call("session.subscribe", events=["log.entryAdded"])
            self.context = self._call("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.process.kill()
            raise

    def _call(self, method: str, **parameters) -> dict:
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("method") == "log.entryAdded":
                self.errors += [answer["params"]["text"]] * (answer["params"]["level"] != "info")
            elif answer.get("id") == self.asked:
                assert answer["type"] == "success", answer
                return answer["result"]

    def get(self, address: str) -> None:
        self._call("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def execute_script(self, script: str, *arguments):
        call = f"JSON.stringify((function () {{ {script} }})(...{json.dumps(arguments)}) ?? null)"
        target = {"context": self.context}
        answer = self._call("script.evaluate", expression=call, target=target, awaitPromise=True)
        return json.loads(answer["result"]["value"])

    def drag(self, selector: str, *moves: tuple[int, int], touch: bool = False) -> None:
        """Press on the middle of an element, and let go after some moves."""
        place = "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        x, y = self.execute_script(
            f"{place} return [r.x + r.width / 2, r.y + r.height / 2]", selector
        )
        spots = [(x, y)]
        for right, down in moves:
            spots.append((spots[-1][0] + right, spots[-1][1] + down))
        steps = [{"type": "pointerMove", "x": round(u), "y": round(v)} for u, v in spots]
        press = {"type": "pointerDown", "button": 0}
        actions = [steps[0], press, *steps[1:], {"type": "pointerUp", "button": 0}]
        pointer = {
            "type": "pointer",
            "id": "finger" if touch else "mouse",
            "parameters": {"pointerType": "touch" if touch else "mouse"},
            "actions": actions,
        }
        self._call("input.performActions", context=self.context, actions=[pointer])

    def quit(self) -> None:
        try:
            self._call("browser.close")
            self.socket.close()
            self.process.wait(30)
        finally:
            self.process.kill()


class Tab:
    """A page in a browser, and what a user does there."""

    def __init__(self, browser, folder: Path):
        self.browser, self.folder = browser, folder

    def open(self, path: Path, link: str = "") -> None:
        self.browser.get("about:blank")
        self.browser.get(path.resolve().as_uri() + link)
        self.wait()

    def wait(self, state: str = "last") -> None:
        """Wait until the picture is drawn to the end."""
        self.until(lambda: self.run("return document.body.dataset.drawn") == state)

    @staticmethod
    def until(holds, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.02)

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector: str):
        return self.browser.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    @property
    def message(self) -> str:
        """What the page said last, however far it has faded in or out."""
        return self.run("return document.getElementById('message').textContent")

    def download(self, button: str, filename: str) -> Path:
        """The file that a click on a button saves."""
        path = self.folder / filename
        path.unlink(missing_ok=True)
        self.click(button)
        self.until(lambda: path.exists() and not list(self.folder.glob("*.crdownload")))
        return path

    def touch(self, *fingers: list[tuple[float, float]]) -> None:
        """Put fingers on Chromium's screen, move each from place to place, and lift them."""
        for k, spots in enumerate(zip(*fingers, strict=True)):
            points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(spots)]
            kind = "touchMove" if k else "touchStart"
            self.browser.execute_cdp_cmd(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
            )
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
        )

    def complaints(self) -> list[str]:
        """What the console says since it was asked last."""
        return [entry["message"] for entry in self.browser.get_log("browser")]
