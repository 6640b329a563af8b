"""`beamseg layers`, and `segment` with its options, as a user runs them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.end_to_end.conftest import files_of, noise, write_scene
from tests.pipelines.corpus import read_band


@pytest.fixture
def words(tmp_path, brightness_savedmodel) -> list[str]:
    """Of a run over two scenes."""
    for number, width in enumerate((90, 130)):
        write_scene(tmp_path / "scenes" / f"{number}.tif", noise(number, 120, width))
    return [
        "segment",
        "--input",
        str(tmp_path / "scenes"),
        f"--model={brightness_savedmodel}",
        f"--output={tmp_path / 'run'}",
    ]


def test_segment_makes_layers_when_the_run_is_complete(tmp_path, beamseg, words):
    done = beamseg(*words, "--mosaic", "--cell", "700", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["images"], report["units"], report["reason"]) == (2, 2, "complete")
    layers = tmp_path / "run" / "layers"
    shown = read_band(layers / "mosaic.vrt")
    assert set(np.unique(shown)) <= {0, 3, 7, 255}

    before = files_of(layers / "mosaic")
    done = beamseg("layers", str(tmp_path / "run"), "--mosaic", "--cell=700")
    assert done.returncode == 0
    assert "0 done before" not in done.stdout
    assert files_of(layers / "mosaic") == before


def test_a_run_that_is_over_its_budget_has_no_layers(tmp_path, beamseg, words):
    (tmp_path / "scenes" / "2.tif").write_bytes(b"II*\0")
    done = beamseg(*words, "--mosaic")
    assert done.returncode == 3
    assert not (tmp_path / "run" / "layers").exists()


def test_options_of_layers_are_checked_before_the_run(tmp_path, beamseg, words):
    for more, message in (
        (["--cell=5"], "--cell is the side of the files of --mosaic: give both"),
        (["--mosaic", "--no_wait_until_finish"], "layers are made when the run has ended"),
    ):
        done = beamseg(*words, *more)
        assert (done.returncode, message in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
