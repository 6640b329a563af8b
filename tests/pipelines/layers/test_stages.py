"""Stages of layers: their order, what is done once, and what becomes of what cannot be done."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely

from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import DoStageUnit, Layer
from pipelines.run import plan
from pipelines.run.plan import WorkUnit
from pipelines.run.seals import json_file
from segmodel.errors import ConfigurationError, InputError, TransientError
from tests.fakes import BRIGHT
from tests.pipelines.corpus import read_band, spoil_strip, tree, write_model_folder
from tests.pipelines.counted_scenes import parts_of
from tests.pipelines.layers import made_layers
from tests.pipelines.layers.made_layers import layer, make
from tests.pipelines.scene_runs import run_scenes


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over two scenes of 128 x 128 and 128 x 118 pixels; not to be changed."""
    folder = tmp_path_factory.mktemp("layered")
    inputs, _ = parts_of(folder, [(0, 0), (40, 30)])
    return run_scenes(folder / "run", write_model_folder(folder / "model"), inputs).root


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def done() -> list[str]:
    """Ids of units that are done, in order; grows."""
    made_layers.DONE.clear()
    return made_layers.DONE


def kinds(ids: list[str]) -> list[str]:
    return [unit_id.partition("-")[0] for unit_id in ids]


def bright(run: Path) -> dict[str, int]:
    """Pixels by scene, by its label map."""
    labels = {path.name: read_band(path) for path in (run / "labels" / "in").glob("*.tif")}
    return {name: int(np.count_nonzero(found == BRIGHT)) for name, found in labels.items()}


def written(run: Path) -> dict[str, int]:
    paths = (run / "layers" / "bright" / "in").glob("*.txt")
    return {path.stem: int(path.read_text()) for path in paths}


def results(run: Path) -> dict[str, bytes]:
    """All files of the layers but the summary, which has times, and plans, which have places."""
    found = tree(run / "layers")
    return {n: c for n, c in found.items() if n != "summary.json" and "/plan/part-" not in n}


def test_a_stage_begins_when_all_units_before_it_are_done(run, done):
    summary = make(run, layer())
    assert kinds(done) == ["count"] * 8 + ["sum"] * 2
    assert written(run) == bright(run)
    assert summary["exit_status"] == 0
    assert (summary["units"], summary["images"]) == (10, 2)
    assert (run / "layers" / "_SUCCESS").read_bytes() == b""


def test_the_same_command_does_nothing_again(run, done):
    make(run, layer())
    before = results(run)
    done.clear()
    summary = make(run, layer())
    assert done == []
    assert summary["this_attempt"]["units_skipped"] == 10
    assert results(run) == before


@pytest.mark.parametrize("units", [3, 9])
def test_an_interrupted_command_goes_on_to_the_same_bytes(run, finished, tmp_path, done, units):
    whole = Path(shutil.copytree(finished, tmp_path / "whole"))
    make(whole, layer())
    done.clear()
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [layer()]))
    for stage, found in prepared.stages:
        for unit in plan.read_units(found.work.run.plan, WorkUnit):
            if len(done) < units:
                DoStageUnit(stage.action)(unit, found.work)
    make(run, layer())
    assert len(done) == 10
    assert results(run) == results(whole)


def test_any_number_of_workers_gives_the_same_bytes(run, finished, tmp_path):
    plain = Path(shutil.copytree(finished, tmp_path / "plain"))
    make(plain, layer())
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]
    make(run, layer(), words=threads)
    assert results(run) == results(plain)


def test_other_options_repeat_the_stages_that_they_shape(run, done):
    make(run, layer())
    done.clear()
    make(run, layer(factor=3))
    assert kinds(done) == ["sum"] * 2
    assert written(run) == {name: 3 * count for name, count in bright(run).items()}
    done.clear()
    make(run, layer(side=128, factor=3))
    assert kinds(done) == ["count"] * 2 + ["sum"] * 2


def test_files_that_other_options_leave_behind_are_removed(run):
    make(run, layer())
    blocks = {name for name in results(run) if "/count/" in name and name.endswith(".txt")}
    make(run, layer(side=128))
    left = {name for name in results(run) if "/count/" in name and name.endswith(".txt")}
    assert (len(blocks), len(left)) == (8, 2)
    assert left < blocks


def test_of_a_run_that_grows_the_new_scenes_are_done(tmp_path, done):
    model = write_model_folder(tmp_path / "model")
    inputs, _ = parts_of(tmp_path, [(0, 0), (40, 30)])
    last = Path(shutil.move(inputs / "1.tif", tmp_path / "1.tif"))
    run = run_scenes(tmp_path / "run", model, inputs).root
    make(run, layer())
    shutil.move(last, inputs / "1.tif")
    run_scenes(tmp_path / "run", model, inputs)
    done.clear()
    make(run, layer())
    assert kinds(done) == ["count"] * 4 + ["sum"]
    assert written(run) == bright(run)


def test_a_label_map_that_cannot_be_read_is_told_and_tried_again(run, done):
    path = run / "labels" / "in" / "0.tif"
    content = path.read_bytes()
    spoil_strip(path, 0)
    summary = make(run, layer())
    assert (summary["exit_status"], summary["failed_images"], summary["images"]) == (3, 1, 1)
    first = summary["first_failures"][0]
    assert (first["uri"], first["stage"]) == ("in/0.tif", "layer")
    assert first["reason"].endswith(
        "run `beamseg verify` with --invalidate, then the same `beamseg segment` again"
    )
    assert not (run / "layers" / "_SUCCESS").exists()
    assert set(written(run)) == {"1.tif"}

    path.write_bytes(content)
    failed = {row["key"] for row in summary["first_failures"]} - {None}
    done.clear()
    assert make(run, layer())["exit_status"] == 0
    # What reads a stage of which units had failed is done again too.
    assert kinds(done) == ["count"] * len(failed) + ["sum"] * 2
    assert written(run) == bright(run)


@pytest.mark.parametrize(
    ("error", "library"),
    [
        (shapely.GEOSException("TopologyException: side location conflict"), "shapely"),
        (pyproj.exceptions.ProjError("no operation found"), "pyproj"),
        (rasterio.errors.WarpOperationError("Too many points failed"), "rasterio"),
    ],
    ids=["shapely", "pyproj", "rasterio"],
)
def test_what_a_library_refuses_is_a_failure_of_its_scene_and_costs_no_other(
    run, monkeypatch, error, library
):
    count = made_layers.count_action

    def refuse(unit, work):
        if unit.files[0].key == "in/0.tif":
            raise error
        return count(unit, work)

    monkeypatch.setattr(made_layers, "count_action", refuse)
    summary = make(run, layer())
    assert (summary["exit_status"], summary["failed_images"], summary["images"]) == (3, 1, 1)
    first = summary["first_failures"][0]
    assert (first["uri"], first["stage"], first["code"]) == ("in/0.tif", "layer", "other")
    assert first["reason"] == (
        f"{library} refuses what is made of it ({type(error).__name__}: {error}): make the layer "
        f"without it by --max_failures, or by other options"
    )
    assert set(written(run)) == {"1.tif"}


def test_an_error_in_the_program_ends_the_command(run, monkeypatch):
    def fail(unit, work):
        raise AssertionError("no such thing")

    monkeypatch.setattr(made_layers, "count_action", fail)
    with pytest.raises(Exception, match="no such thing"):
        make(run, layer())


def test_failures_within_the_budget_are_no_failure_of_the_command(run):
    spoil_strip(run / "labels" / "in" / "0.tif", 0)
    summary = make(run, layer(), budget=1)
    assert (summary["exit_status"], summary["failed_images"]) == (0, 1)
    assert (run / "layers" / "_SUCCESS").exists()


def test_a_transient_error_leaves_its_unit_and_the_stages_behind_it_for_next_time(
    run, done, monkeypatch
):
    def fail(unit, work):
        raise TransientError("the store is down")

    with monkeypatch.context() as patch:
        patch.setattr(made_layers, "count_action", fail)
        summary = make(run, layer())
    assert (summary["exit_status"], summary["unfinished_units"]) == (4, 10)
    assert (done, summary["layers"]) == ([], {})
    assert make(run, layer())["exit_status"] == 0
    assert len(done) == 10


def test_the_summary_has_the_layers_of_earlier_commands_and_tells_those_of_an_earlier_map(
    run, monkeypatch
):
    monkeypatch.setattr("pipelines.layers.graph.LAYER_KINDS", [layer(), layer("old"), layer("no")])
    summary = make(run, layer())
    expected = {"files": ["bright/in/0.tif.txt", "bright/in/1.tif.txt"], "factor": 1}
    assert (summary["layers"], summary["out_of_date"]) == ({"bright": expected}, [])
    for digest, current, old in (
        (summary["map"], ["bright", "old"], []),
        ("0", ["bright"], ["old"]),
    ):
        found = {"map": digest, "summary": {"files": []}, "outputs": [], "by_scene": {}}
        part = json_file(found, is_sealed=True)
        (run / "layers" / ".beamseg" / "old").mkdir(exist_ok=True)
        (run / "layers" / ".beamseg" / "old" / "summary.json").write_bytes(part)
        summary = make(run, layer())
        assert ([*summary["layers"]], summary["out_of_date"]) == (current, old)


def test_a_damaged_folder_of_a_stage_is_begun_anew(run, done):
    make(run, layer())
    before = results(run)
    for name in ("run.json", "plan/run.json"):
        (run / "layers" / ".beamseg" / "bright" / "sum" / name).write_bytes(b"")
    done.clear()
    make(run, layer())
    assert kinds(done) == ["sum"] * 2
    assert results(run) == before


def test_a_run_that_is_not_complete_is_refused(run):
    (run / "summary.json").unlink()
    with pytest.raises(ConfigurationError, match="is not complete: run the same `beamseg segment`"):
        make(run, layer())
    assert not (run / "layers").exists()


@pytest.mark.parametrize(("share", "found"), [(0.5, "it has \\d+ bytes"), (0, "it is not there")])
def test_a_label_map_that_is_not_as_the_run_left_it_is_named_before_any_work(run, share, found):
    path = run / "labels" / "in" / "1.tif"
    content = path.read_bytes()
    path.unlink()
    if share:
        path.write_bytes(content[: int(len(content) * share)])
    remedy = "run `beamseg verify` with --invalidate, then the same `beamseg segment` again"
    with pytest.raises(InputError, match=f"^labels/in/1.tif: {found}, .* are recorded: {remedy}$"):
        make(run, layer())
    assert not (run / "layers").exists()


def test_links_out_of_the_run_are_refused(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / "layers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="is a link in a folder that is written to"):
        make(run, layer())


def test_a_command_that_names_no_layer_is_told_which_there_are(run):
    nothing = Layer("dark", lambda options: None, made_layers.count_stages, dict)
    with pytest.raises(ConfigurationError, match=r"name the layers to make: --dark$"):
        make(run, nothing)


def test_a_run_that_is_overwritten_loses_its_layers(run):
    make(run, layer())
    check_layers(str(run), LayersOptions(), [layer()]).maps.work.run.clear()
    assert not [*(run / "layers").rglob("*.txt")]


def test_layers_of_a_run_in_a_store_lie_in_the_store(run, client):
    make(run, layer())
    expected = written(run)
    shutil.rmtree(run / "layers")
    client.put_all(run, "gs://bucket/run")
    root = "gs://bucket/run/layers/"
    for skipped in (0, 10):
        summary = make("gs://bucket/run", layer())
        assert summary["exit_status"] == 0
        assert summary["this_attempt"]["units_skipped"] == skipped
    for name, count in expected.items():
        assert client.objects[f"{root}bright/in/{name}.txt"] == str(count).encode()
    assert f"{root}.beamseg/bright/sum/run.json" in client.objects
