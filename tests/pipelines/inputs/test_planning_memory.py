"""A million input files are planned in the memory that ten thousand take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.segment import launch

MIB = 1 << 20
MORE_BYTES = 50 * MIB
# Peak memory of a launch whose listing is made up, and how many units and files are planned.
CHILD = """
import json, resource, sys
from pipelines.inputs import listing
from pipelines.run import progress
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions

def listed(pattern, **_):
    for number in range(int(sys.argv[1])):
        name = f"{number // 100_000:03d}/{number // 1000:06d}/image-{number:08d}.jpg"
        version = str(1_700_000_000_000_000_000 + number)
        yield listing.FoundFile(f"photos/{name}", name, 100_000 + number, version)

listing.find_files, progress._PLAN_SECONDS = listed, 0.5
launched = prepare_run(check_run(SegmentOptions(("photos",), "model", "run", window=64)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "units": launched.units, "images": launched.estimate.images}))
"""


def plan_in_child(folder: Path, model: Path, files: int) -> tuple[dict[str, int], str]:
    """What the launch of so many files took, and what it told."""
    folder.mkdir()
    (folder / "photos").mkdir()
    (folder / "model").symlink_to(model)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(files)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PYTHONPATH": str(Path(launch.__file__).parents[2])},
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_a_million_files_are_planned_in_bounded_memory_and_with_progress(tmp_path, model_folder):
    few, _ = plan_in_child(tmp_path / "few", model_folder, 10_000)
    many, told = plan_in_child(tmp_path / "many", model_folder, 1_000_000)

    assert (few["units"], few["images"]) == (256, 10_000)
    assert (many["units"], many["images"]) == (16_384, 1_000_000)
    assert many["peak"] - few["peak"] < MORE_BYTES
    parts = list((tmp_path / "many" / "run" / "plan").iterdir())
    assert sum(part.read_bytes().count(b'"uri"') for part in parts) == 1_000_000
    lines = told.splitlines()
    for pattern in ("listed N files", "looked at N files", "planned N units"):
        assert any(re.fullmatch(pattern.replace("N", r"[\d,]+"), line) for line in lines), lines
