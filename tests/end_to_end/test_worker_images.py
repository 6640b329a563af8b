"""Images of workers: their steps are carried out here but for a container engine, which is missing.

What a file copies is there, what it installs is locked to what the tests run with, and its steps
with pip work in an empty environment. Base images and Debian's packages are not looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.end_to_end.conftest import ROOT

CONTAINERS = ROOT / "containers"
IMAGES = sorted(path.name for path in CONTAINERS.glob("*.Dockerfile"))
WORKERS = ("cpu", "gpu")
PYTHON = "3.11"
# What Debian cannot do without: of glibc, GCC and zlib, which apt and dpkg are linked with.
IN_SLIM_IMAGES = {
    *("ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0"),
    *("librt.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
}


def steps(image: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments."""
    text = (CONTAINERS / f"{image}.Dockerfile").read_text("utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(instruction, " ".join(argument.split())) for instruction, argument in pairs]


def locked(name: str) -> dict[str, str]:
    """Versions by package of a file of locked requirements, for the Python of the images."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    needs = [
        Requirement(line.strip(" \\")) for line in re.findall(r"^\w.*==.*", text, re.MULTILINE)
    ]
    python = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    chosen = [need for need in needs if need.marker is None or need.marker.evaluate(python)]
    return {need.name: str(need.specifier).removeprefix("==") for need in chosen}


def test_there_is_an_image_for_each_kind_of_worker_and_for_the_template():
    assert IMAGES == ["cpu.Dockerfile", "flex_template.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_copies_is_in_the_repository(image):
    copied = [
        source
        for instruction, argument in steps(image.removesuffix(".Dockerfile"))
        if instruction == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    ]

    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_copies_is_not_ignored(image):
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    roots = {
        source.split("/")[0]
        for instruction, argument in steps(image.removesuffix(".Dockerfile"))
        if instruction == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }

    assert "*" in ignored
    assert {f"!{root}" for root in roots} <= set(ignored)


@pytest.mark.parametrize("worker", WORKERS)
def test_beams_entry_point_is_of_the_beam_that_is_installed(worker):
    beam = locked(f"worker-{worker}")["apache-beam"]

    assert steps(worker)[0] == ("FROM", f"python:{PYTHON}-slim-bookworm")
    image = f"apache/beam_python{PYTHON}_sdk:{beam}"
    assert ("COPY", f"--from={image} /opt/apache/beam /opt/apache/beam") in steps(worker)
    assert steps(worker)[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    assert ("ENV", "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1") in steps(worker)


def test_the_two_kinds_of_worker_differ_in_packages_and_driver_alone():
    with_cpu = [(name, text.replace("worker-cpu", "worker-gpu")) for name, text in steps("cpu")]
    driver = [step for step in steps("gpu") if step not in with_cpu]

    assert [step for step in steps("gpu") if step not in driver] == with_cpu
    assert [(name, text.split("=")[0]) for name, text in driver] == [("ENV", "LD_LIBRARY_PATH")]


def test_the_launcher_is_a_worker_that_describes_jobs():
    names = [name for name, _ in steps("flex_template")]
    own = steps("flex_template")[len(names) - names[::-1].index("FROM") - 1 :]
    words = [word for name, text in own if name == "ENV" for word in text.split()]
    variables = dict(word.split("=") for word in words)

    program = Path(variables["FLEX_TEMPLATE_PYTHON_PY_FILE"])
    assert own[0] == ("FROM", "${WORKER_IMAGE}")
    assert ("COPY", f"containers/{program.name} {program.parent}/") in own
    assert variables["WORKER_IMAGE"] == "${WORKER_IMAGE}"


@pytest.mark.parametrize("worker", WORKERS)
def test_workers_run_with_the_versions_that_the_tests_run_with(worker):
    tested = locked("test")
    versions = locked(f"worker-{worker}")

    other = {name for name, version in versions.items() if tested.get(name) != version}
    assert {name for name in other if not name.startswith("nvidia-")} == set()
    assert bool(other) == (worker == "gpu")


@pytest.mark.parametrize(("worker", "extras"), [("cpu", ("gcp",)), ("gpu", ("gcp", "gpu"))])
def test_locked_versions_are_those_that_the_package_asks_for(worker, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    versions = locked(f"worker-{worker}")

    asked = [Requirement(text) for group in groups for text in group]
    unmet = [str(need) for need in asked if versions.get(need.name, "0") not in need.specifier]
    assert unmet == []
    assert {"tensorflow", "google-cloud-storage"} <= {need.name for need in asked}


def test_what_wheels_need_of_the_system_is_in_the_images():
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed: what wheels need of the system is not known")
    folder = Path(sysconfig.get_path("purelib"))
    libraries = [str(path) for path in folder.rglob("*.so*") if path.is_file()]
    done = subprocess.run(["readelf", "-d", *libraries], capture_output=True, text=True)

    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout))
    elsewhere = needed - {Path(path).name for path in libraries} - IN_SLIM_IMAGES
    assert elsewhere == {"libexpat.so.1"}
    for worker in WORKERS:
        (installed,) = (text for _, text in steps(worker) if text.startswith("apt-get"))
        assert "--no-install-recommends libexpat1 " in installed


@pytest.mark.parametrize("image", IMAGES)
def test_the_linter_of_dockerfiles_finds_nothing(image):
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed: Dockerfiles are not linted")

    done = subprocess.run([linter, CONTAINERS / image], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An environment with pip alone, for the time of a test: packages take 3 GB."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip(f"images have Python {PYTHON}, and so have their locked packages")
    venv.create(tmp_path / "venv", with_pip=True)
    yield tmp_path / "venv"
    shutil.rmtree(tmp_path / "venv")


def test_the_steps_of_an_image_lead_to_a_command_that_works(tmp_path, empty):
    folder = tmp_path / "opt"
    folder.mkdir()
    variables = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables["PATH"] = f"{empty / 'bin'}:{os.environ['PATH']}"
    # Of 149 packages a few are imported below.
    variables["PIP_NO_COMPILE"] = "1"
    carried_out = 0
    for instruction, argument in steps("cpu"):
        if instruction == "COPY" and not argument.startswith("--from="):
            *sources, target = argument.split()
            for source in sources:
                copy(ROOT / source, folder / target)
        elif instruction == "RUN" and argument.startswith("python -m pip"):
            subprocess.run(["sh", "-ec", argument], cwd=folder, env=variables, check=True)
            carried_out += 1
    assert carried_out == 2

    def python(*words: str) -> str:
        command = [str(empty / "bin" / "python"), *words]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        ).stdout

    assert python("-m", "pipelines.segment", "--help").startswith("usage: beamseg segment")
    modules = "pipelines.segment.graph, segmodel.savedmodel.predictor, rasterio"
    program = f"import {modules}, apache_beam.io.gcp.gcsio"
    place = python("-c", f"{program}; print(pipelines.segment.graph.__file__)").splitlines()[-1]
    assert place == str(folder / "pipelines" / "segment" / "graph.py")


def copy(source: Path, target: Path) -> None:
    """As COPY does: a folder's content into a folder, a file into one."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
