"""The example for Dagster, materialized by Dagster itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import write_images
from tests.orchestrators.conftest import EXAMPLES, program, run_outside, shown

FILE = EXAMPLES / "dagster" / "beamseg_assets.py"

PROGRAM = """
import importlib.util, json, sys
import dagster as dg
spec = importlib.util.spec_from_file_location("beamseg_assets", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["beamseg_assets"] = module
spec.loader.exec_module(module)
for config in json.loads(sys.argv[2]):
    context = dg.build_asset_context()
    try:
        result = module.label_maps(context, module.Segmentation(**config))
        areas = result.metadata["areas"].value
        said = {"done": {k: v for k, v in result.metadata.items() if k != "areas"}, "areas": areas}
    except dg.Failure as failure:
        said = {"failed": failure.description, "again": failure.allow_retries}
    print("SAID " + json.dumps(said))
"""


@pytest.fixture(scope="module")
def dagster() -> Path:
    """The command of Dagster, asked for first, so that a skipped test costs nothing."""
    return program("dagster")


@pytest.fixture
def config(tmp_path: Path, brightness_savedmodel: Path) -> dict[str, Any]:
    write_images(tmp_path / "photos", 3)
    return {
        "inputs": [str(tmp_path / "photos")],
        "model": str(brightness_savedmodel),
        "output": str(tmp_path / "run"),
    }


def test_the_asset_is_materialized_by_the_command_of_the_readme(dagster, tmp_path, config):
    name, *words = shown("dagster")
    assert name == dagster.name
    document = {"ops": {"label_maps": {"config": config}}}
    command = [dagster, *words, "--config-json", json.dumps(document)]

    done = run_outside(command, cwd=FILE.parent, DAGSTER_HOME=str(tmp_path))

    assert done.returncode == 0, done.stdout
    assert "ASSET_MATERIALIZATION" in done.stdout
    assert "3 images labelled, 0 failed" in done.stdout
    assert (tmp_path / "run" / "_SUCCESS").exists()


def test_only_what_may_pass_is_tried_again(dagster, tmp_path, config):
    python = dagster.parent / "python"
    (tmp_path / "photos" / "broken.png").write_text("this is no image")
    gone = config | {"inputs": ["http://127.0.0.1:9/scene.tif"], "output": str(tmp_path / "other")}
    wrong = config | {"max_failures": "many"}

    done = run_outside(
        [python, "-c", PROGRAM, FILE, json.dumps([gone, wrong, config])],
        DAGSTER_HOME=str(tmp_path),
    )

    said = [json.loads(line[5:]) for line in done.stdout.splitlines() if line[:5] == "SAID "]
    incomplete, usage, over = said
    assert incomplete["failed"].startswith("incomplete: http://127.0.0.1:9/scene.tif cannot be")
    assert incomplete["again"] is True
    assert usage["failed"].startswith("usage: --max_failures must be")
    assert usage["again"] is False
    assert over == {"failed": f"over_budget: {tmp_path}/run/failures.csv", "again": False}
