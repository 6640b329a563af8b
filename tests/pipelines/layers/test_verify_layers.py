"""`beamseg verify` finds what is wrong with layers, and `beamseg layers` mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.commands import layers, verify
from tests.pipelines.corpus import pixels, tree, write_model_folder, write_scene
from tests.pipelines.scene_runs import run_scenes


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with a mosaic of four files; not to be changed."""
    folder = tmp_path_factory.mktemp("verified")
    write_scene(folder / "in" / "a.tif", pixels(90, 80))
    run = run_scenes(folder / "run", write_model_folder(folder / "model"), folder / "in").root
    layers.run([str(run), "--mosaic", "--cell=500"])
    return run


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_layers_count_among_what_is_as_recorded(run, capsys):
    assert verify.run([str(run)]) == 0
    # A unit and three files of the run; four cells, of two files each.
    assert capsys.readouterr().out.startswith("5 units, 11 files, ")
    shutil.rmtree(run / "layers")
    assert verify.run([str(run)]) == 0
    assert capsys.readouterr().out.startswith("1 unit, 3 files, ")


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [
        (Path.unlink, "is not there"),
        (damaged, "has the recorded size, but not the recorded SHA-256"),
    ],
)
def test_a_file_of_a_layer_that_is_damaged_is_named_and_made_again(run, capsys, harm, wrong):
    before = tree(run / "layers" / "mosaic")
    name = "layers/mosaic/EPSG-32633/300000_5999500.tif"
    harm(run / name)
    assert verify.run([str(run)]) == 4
    printed = capsys.readouterr()
    assert (
        f"{name} {wrong}: run `beamseg verify` with --invalidate, then the same `beamseg layers`"
        in (printed.out)
    )
    assert "give the same `beamseg layers` again" in printed.err

    assert verify.run([str(run), "--invalidate"]) == 4
    assert "its commit record was removed: run the same `beamseg layers` again" in (
        capsys.readouterr().out
    )
    assert not (run / "layers" / "_SUCCESS").exists()
    assert layers.run([str(run), "--mosaic", "--cell=500"]) == 0
    assert tree(run / "layers" / "mosaic") == before
    assert verify.run([str(run)]) == 0


def test_units_of_layers_that_are_not_finished_and_damaged_plans_are_told(run, capsys):
    stage = run / "layers" / ".beamseg" / "mosaic" / "EPSG-32633"
    next((stage / "commits").iterdir()).unlink()
    assert verify.run([str(run)]) == 4
    assert ": 1 not finished, 0 not as recorded" in capsys.readouterr().out
    damaged(stage / "plan" / "part-00000.jsonl")
    assert verify.run([str(run)]) == 4
    assert (
        "layers/.beamseg/mosaic/EPSG-32633/plan/part-00000.jsonl is damaged: run the same "
        "`beamseg layers` again"
    ) in capsys.readouterr().out
    for name in ("run.json", "plan/run.json"):
        (stage / name).write_bytes(b"")
    assert verify.run([str(run)]) == 4
    assert "EPSG-32633/run.json is damaged" in capsys.readouterr().out
