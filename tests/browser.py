"""A real browser for tests: Chromium without a window, driven by selenium."""

import shutil
import time
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # which is small in containers
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def start(folder: Path):
    """A browser with a profile and downloads of its own in a folder; the test is skipped where
    there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("there is no chromium with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1000,760"):
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

    def complaints(self) -> list[str]:
        """What the console says since it was asked last."""
        return [entry["message"] for entry in self.browser.get_log("browser")]
