"""README.md and docs/ keep to what the program does and to what was measured."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diff_ifs
from diff_ifs.setup import Setup

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, RESULTS, OPTIONS = (
    (ROOT / page).read_text(encoding="utf-8")
    for page in ("README.md", "docs/RESULTS.md", "docs/OPTIONS.md")
)


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(heading: str) -> str:
    """What docs/OPTIONS.md says under a heading of its second level."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", OPTIONS, re.M | re.S)[1]


def test_readme_is_short():
    assert len(README.encode()) <= 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    for link in (markdown or html for markdown, html in links):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), link
            assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize(
    "script", ["train_ifs.py", "render_ifs.py", "explore_ifs.py", "compress_ifs.py"]
)
def test_every_option_is_documented_and_every_documented_option_is_there(script):
    command = [sys.executable, str(ROOT / script), "--help"]
    wide = os.environ | {"COLUMNS": "400"}  # narrower, help texts break at hyphens
    said = subprocess.run(command, env=wide, capture_output=True, text=True, check=True).stdout
    options = re.compile(r"--[a-z]+(?:-[a-z]+)*")
    there = set(options.findall(said.partition("positional arguments:")[2])) - {"--help"}
    assert set(options.findall(section(script))) == there


def test_every_field_of_a_setup_is_documented():
    documented = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", section("train_ifs.py"), re.M)
    defaults = {field.name: str(field.default) for field in fields(Setup)}
    assert {name: default.strip("`") for name, default in documented} == defaults


@pytest.mark.parametrize(
    "output",
    [
        "four_targets",
        "quality_8",
        "quality_16",
        "quality_32",
        "quality_mnist",
        "quality_joined",
        "recover",
    ],
)
def test_results_quote_the_committed_output(output):
    assert (ROOT / "benchmarks" / f"{output}.txt").read_text(encoding="utf-8") in RESULTS


def test_the_table_of_readme_rounds_what_was_measured():
    rows = re.findall(r"^\|(.*)\| \[table\]\((.*)\) \|$", README, re.M)
    assert len(rows) >= 5
    for row, output in rows:
        measured = re.findall(r"\d+\.\d+", (ROOT / output).read_text(encoding="utf-8"))
        for said in re.findall(r"\d+\.\d+", row):
            places = len(said.partition(".")[2])
            assert said in {f"{float(number):.{places}f}" for number in measured}, row


def test_readme_shows_the_setup_of_koch():
    assert (ROOT / "koch_setup.py").read_text(encoding="utf-8").split('"""\n\n', 1)[1] in README


@pytest.mark.slow
def test_the_python_page_goes_from_an_array_to_a_picture(tmp_path, monkeypatch):
    page = (ROOT / "docs/PYTHON.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], names)
    with Image.open("moon_1024.png") as picture:
        drawn = np.asarray(picture.resize((128, 128), Image.Resampling.BOX)) >= 128
    moon = names["moon"]
    assert (drawn & moon).sum() / (drawn | moon).sum() > 0.95
    assert names["state"].step == names["state"].steps


def test_the_python_page_names_what_the_package_has():
    page = (ROOT / "docs/PYTHON.md").read_text(encoding="utf-8")
    named = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", page, re.M)
        for name in re.findall(r"`(\w+)", cell)
    }
    assert named | {"Setup"} == set(diff_ifs.__all__)
