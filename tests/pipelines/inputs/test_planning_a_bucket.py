"""A bucket of a million objects is listed in pages and planned in the memory of a few."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.segment import launch
from tests.services.fixtures import ENVIRONMENTS, need_packages
from tests.services.million import Million, million_server

MIB = 1 << 20
MORE_BYTES = 60 * MIB
# Peak memory of a launch, and how many units and files are planned.
CHILD = """
import json, resource, sys
from pipelines.run import progress
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions

progress._PLAN_SECONDS = 0.5
launched = prepare_run(check_run(SegmentOptions((sys.argv[1],), "model", "run", window=64)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "units": launched.units, "images": launched.estimate.images}))
"""


def plan_in_child(
    folder: Path, model: Path, pattern: str, environment: dict[str, str]
) -> tuple[dict[str, int], str]:
    """What the launch took, and what it told."""
    folder.mkdir()
    (folder / "model").symlink_to(model)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, pattern],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(Path(launch.__file__).parents[2]), **kept, **environment},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(params=[("s3", 1_000_000), ("gs", 100_000)], ids=["s3", "gs"])
def bucket_of_many(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, Million]]:
    """Kind of a store, and a bucket of so many objects; a million once, as it takes long."""
    kind, objects = request.param
    need_packages(kind)
    with million_server(objects) as server:
        yield kind, objects, server


def test_many_objects_are_planned_in_pages_in_bounded_memory_and_with_progress(
    tmp_path, bucket_of_many, model_folder
):
    kind, objects, million = bucket_of_many
    environment = ENVIRONMENTS[kind](million.url)
    few, _ = plan_in_child(
        tmp_path / "few", model_folder, f"{kind}://million/photos/0007", environment
    )
    assert (few["images"], million.pages()) == (1000, 1)

    many, told = plan_in_child(
        tmp_path / "many", model_folder, f"{kind}://million/photos", environment
    )

    assert (many["images"], million.pages()) == (objects, objects // 1000)
    assert many["peak"] - few["peak"] < MORE_BYTES, (few, many)
    assert re.search(r"listed [\d,]+ files", told)
    assert re.search(r"planned [\d,]+ units", told)
