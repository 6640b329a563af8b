"""The documentation builds as a site, without warnings, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.commands.main import COMMANDS
from tests.end_to_end.conftest import ROOT
from tools.docs_site import relink

pytest.importorskip("mkdocs", reason="the site needs the extra docs")
# Attributes that a browser follows by itself; of links, `rel` says whether it does.
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Loads(HTMLParser):
    """Addresses that a browser loads with a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_loaded = tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect")
        self.found.append(given.get("href" if is_loaded else _LOADED.get(tag, "")) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_other_hosts(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20

    strange = {
        (page.name, address)
        for page in pages
        for address in Loads(page).found
        if re.match(r"(https?:)?//", address)
    }
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))

    assert strange == set()
    assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)]*", styles) == []


def test_the_page_of_commands_has_every_option(site):
    page = (site / "reference" / "commands.html").read_text("utf-8")

    for name, (module, _) in COMMANDS.items():
        assert f'id="{name}"' in page
        for action in import_module(module).parser()._actions:
            for option in action.option_strings[-1:]:
                assert option in page, (name, option)


def test_the_page_of_the_api_has_the_public_face(site):
    import segmodel

    page = (site / "reference" / "api.html").read_text("utf-8")

    for name in segmodel.__all__:
        assert re.search(rf'id="segmodel\.[\w.]+\.{name}"', page), name


def test_links_between_files_become_links_between_pages():
    known = {"index.md", "scenes.md", "earth.png", "decisions/index.md", "examples/argo.md"}
    text = "[a](docs/scenes.md#areas) [b](docs/decisions) [c](Makefile) ![d](docs/earth.png)"

    assert relink(text, "index.md", known) == (
        "[a](scenes.md#areas) [b](decisions/index.md) c ![d](earth.png)"
    )
    back = "[a](../README.md#install) [b](../examples/argo/README.md) [c](https://example.org)"
    assert relink(back, "scenes.md", known) == (
        "[a](index.md#install) [b](examples/argo.md) [c](https://example.org)"
    )
