"""What all tests need before they load torch, and the browser that they share."""

import gc
import os

import pytest
from browser import Tab, start

# As `files.command.run_script` does: what PyTorch consists of is not searched for garbage again and
# again, and on a busy machine idle threads that spin make some tests take 20 times as long.
gc.set_threshold(100_000)
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores among themselves
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Files with the longest tests come first, so that all processes end at the same time."""
    first = {"test_quality.py", "test_scripts.py", "test_install.py", "test_docs.py"}
    items.sort(key=lambda item: item.path.name not in first)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    browser = start(folder)
    yield browser, folder
    browser.quit()


@pytest.fixture
def tab(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tab = Tab(*browser)
    yield tab
    assert tab.complaints() == []
