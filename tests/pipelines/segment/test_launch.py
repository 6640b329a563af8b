"""From options to a run ready to start: refused in time, resumed in truth, limited as asked."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cli.values import FailureBudget
from pipelines.run import plan
from pipelines.run.commits import CommitLog
from pipelines.segment import launch, reconcile
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from pipelines.worker import formats
from segmodel.errors import ConfigurationError, ContractError
from segmodel.savedmodel.contract import MeasuredCompute
from tests.pipelines.corpus import (
    find_unfinished,
    pixels,
    png,
    record,
    run_unit,
    sum_commits,
    tree,
    write,
    write_model_folder,
    write_scene,
    write_shard,
)


@pytest.fixture
def options(tmp_path, model_folder) -> SegmentOptions:
    """Two shards of two images, a scene and three image files; windows of 64 pixels."""
    folder = tmp_path / "in"
    for name in ("s0", "s1"):
        write_shard(folder / f"{name}.tfrecord", [record(pixels(8, 8))] * 2)
    write_scene(folder / "scene.tif", pixels(40, 40))
    for number in range(3):
        write(folder / f"{number}.png", png(pixels(8, 8, number)))
    write(folder / "notes.txt", b"left aside")
    return SegmentOptions((str(folder),), str(model_folder), str(tmp_path / "run"), window=64)


def run_everything(launched: launch.PreparedRun):
    """Do all units; their totals."""
    find_unfinished(launched)
    for unit in plan.read_units(launched.work.run.plan, plan.WorkUnit):
        run_unit(unit, launched.work)
    return sum_commits(launched.work)


def test_a_launch_plans_every_input_by_its_format(options):
    resolved = check_run(options)
    launched = prepare_run(resolved)
    units = list(plan.read_units(launched.work.run.plan, plan.WorkUnit))
    assert [unit.format for unit in units] == ["tfrecord", "tfrecord", "scene", "images"]
    assert (launched.units, len(resolved.inputs.left_aside)) == (4, 1)
    assert launched.parts == ("part-00000.jsonl",)
    assert (launched.estimate.images, launched.estimate.exact) == (9, False)
    assert launched.estimate.pixels == 5 * 64 + 1600 + 3 * 64  # shards by bytes


def test_a_plan_that_is_repeated_is_neither_compared_unit_by_unit_nor_written(options):
    first = prepare_run(check_run(options))
    assert not check_run(options).is_planned
    run_everything(first)
    before = {path: path.stat() for path in Path(first.work.run.plan).iterdir()}
    resolved = check_run(options)
    assert (resolved.is_planned, len(resolved.gone), resolved.kept) == (True, 0, None)
    again = prepare_run(resolved)
    assert (again.parts, again.units, again.is_resumed) == (first.parts, first.units, True)
    after = {path: path.stat() for path in Path(first.work.run.plan).iterdir()}
    assert {p.name for p in before if after[p].st_ino != before[p].st_ino} == {"run.json"}
    assert before.keys() == after.keys()


def _touch_input(folder: Path) -> None:
    os.utime(folder / "in" / "s1.tfrecord", ns=(1, 1))


def _add_input(folder: Path) -> None:
    write(folder / "in" / "9.png", png(pixels(8, 8, 9)))


def _add_record(folder: Path) -> None:
    write(folder / "run" / "commits" / "tfrecord-x-0123456789abcdef.json", b"{}")


def _harm_part(folder: Path) -> None:
    part = folder / "run" / "plan" / "part-00000.jsonl"
    part.write_bytes(part.read_bytes().replace(b"s1", b"s2", 1))


def _harm_list(folder: Path) -> None:
    (folder / "run" / "plan" / "parts.json").write_bytes(b"")


def _add_part(folder: Path) -> None:
    write(folder / "run" / "plan" / "part-00001.jsonl", b"")


@pytest.mark.parametrize(
    "change", [_touch_input, _add_input, _add_record, _harm_part, _harm_list, _add_part]
)
def test_a_plan_of_which_anything_has_changed_is_compared_and_written(options, tmp_path, change):
    work = prepare_run(check_run(options)).work
    # One record is enough.
    run_unit(next(plan.read_units(work.run.plan, plan.WorkUnit)), work)
    assert check_run(options).is_planned
    assert not check_run(replace(options, retry_failures=True)).is_planned
    change(tmp_path)
    resolved = check_run(options)
    assert not resolved.is_planned
    prepare_run(resolved)
    assert check_run(options).is_planned
    assert not (tmp_path / "run" / "commits" / "tfrecord-x-0123456789abcdef.json").exists()


def test_run_json_says_what_the_run_is(options):
    work = prepare_run(check_run(options)).work
    document = work.run.read_json("run.json")
    assert document["options"]["input"] == list(options.inputs)
    assert document["labels"] == {
        "model_fingerprint": work.fingerprint,
        "window_px": 64,
        "halo_px": 0,
        "batch": 1,
        "confidence": False,
        "image_field": None,
        "name_field": None,
        "max_pixels": work.reading.max_pixels,
        "resize": None,
        "bands": None,
        "resample_to": None,
        "aoi": None,
    }
    assert document["policy"] == {"max_failures": "0"}
    assert set(document["digests"]) == {"labels", "statistics", "policy"}
    assert document["model"] == work.contract.to_json()
    assert document["versions"]["beamseg"]
    assert dict(work.provenance)["BEAMSEG_LABEL_DIGEST"] == document["digests"]["labels"]


def test_run_json_is_written_before_the_plan(options, monkeypatch):
    def die(*arguments):
        assert (Path(options.output) / "run.json").exists()
        raise KeyError("died")

    monkeypatch.setattr(plan, "write_plan", die)
    with pytest.raises(KeyError, match="died"):
        prepare_run(check_run(options))


def test_success_of_an_earlier_run_is_gone_before_the_work_begins(options):
    prepare_run(check_run(options))
    write(Path(options.output) / "_SUCCESS", b"")
    prepare_run(check_run(options))
    assert not (Path(options.output) / "_SUCCESS").exists()


def test_the_same_options_resume(options):
    run_everything(prepare_run(check_run(options)))
    before = tree(options.output)
    launched = prepare_run(check_run(options))
    for unit in plan.read_units(launched.work.run.plan, plan.WorkUnit):
        assert run_unit(unit, launched.work).skipped == 1
    assert tree(options.output) == before


def changed_options(begun: SegmentOptions, change: dict[str, object]) -> str:
    """What the refusal of a change names; nothing of the run changes."""
    prepare_run(check_run(begun))
    before = tree(begun.output)
    with pytest.raises(ConfigurationError) as refused:
        prepare_run(check_run(replace(begun, **change)))
    assert tree(begun.output) == before
    return refused.value.text.partition("was begun with other options: ")[2].partition(". Give")[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window": 32}, "window_px was 64 and is 32"),
        ({"halo": 32}, "halo_px was 0 and is 32"),
        ({"batch": 2}, "batch was 1 and is 2"),
        ({"max_pixels": 5000}, "max_pixels was 9000 and is 5000"),
        ({"confidence": True}, "confidence was False and is True"),
    ],
)
def test_a_changed_label_option_is_refused_by_name(options, change, named):
    assert changed_options(replace(options, max_pixels=9000), change) == named


@pytest.mark.parametrize("name", ["confidence", "soft_areas", "probabilities"])
def test_a_refusal_names_no_size_that_only_follows_from_memory(options, name):
    begun = replace(options, window=None, memory=2 << 30)
    assert changed_options(begun, {name: True}) == f"{name} was False and is True"


MEASURED = MeasuredCompute("bfloat16", 1000, 0.995, {"dark": 0.0, "grey": 0.0, "bright": None})


def test_a_compute_type_shapes_labels_where_it_is_not_the_default(options):
    before = prepare_run(check_run(options)).work
    document = before.run.read_json("run.json")
    assert (before.compute, document["compute"]) == ("float32", "float32")
    write_model_folder(Path(options.model), computing=(MEASURED,))
    asked = replace(options, compute="bfloat16", overwrite=True)
    work = prepare_run(check_run(asked)).work
    document = work.run.read_json("run.json")
    assert document["labels"]["compute"] == document["compute"] == work.compute == "bfloat16"
    assert work.options != before.options
    assert prepare_run(check_run(replace(asked, overwrite=False))).is_resumed is False
    named = "compute was bfloat16 and is left out"
    with pytest.raises(ConfigurationError, match=named):
        check_run(options)


def test_another_compute_type_for_a_run_that_was_begun_is_refused(options):
    assert changed_options(options, {"compute": "tf32"}) == "compute was left out and is tf32"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ((), "nobody has measured what it changes in labels of this model: export or wrap it"),
        (
            (replace(MEASURED, equal_labels=0.98999),),
            "at least 99 % of labels must be as by float32",
        ),
    ],
)
def test_a_compute_type_that_is_not_known_to_keep_labels_is_refused(options, found, says):
    write_model_folder(Path(options.model), computing=found)
    with pytest.raises(ContractError, match=f"--compute bfloat16: {says}"):
        check_run(replace(options, compute="bfloat16"))
    assert not Path(options.output).exists()


def test_a_run_that_left_arithmetic_to_tensorflow_goes_on_so(options):
    work = prepare_run(check_run(options)).work
    earlier = work.run.read_run()
    del earlier["compute"]
    work.run.write_run(earlier)
    resumed = prepare_run(check_run(options)).work
    assert (resumed.compute, resumed.options) == (None, work.options)
    assert "compute" not in work.run.read_json("run.json")


@pytest.mark.parametrize(
    "change",
    [
        {"resize": (64, 96)},
        {"image_field": "image/encoded"},
        {"name_field": "image/filename"},
        {"max_pixels": 5000},
        {"batch": 2, "halo": 32},
        {"batch": "auto"},
    ],
)
def test_other_options_than_the_defaults_resume(options, change):
    (Path(options.inputs[0]) / "scene.tif").unlink()
    asked = replace(options, **change)
    run_everything(prepare_run(check_run(asked)))
    before = tree(options.output)

    launched = prepare_run(check_run(asked))

    for unit in plan.read_units(launched.work.run.plan, plan.WorkUnit):
        assert run_unit(unit, launched.work).skipped == 1
    assert tree(options.output) == before


def test_a_changed_model_is_refused_by_name(options):
    prepare_run(check_run(options))
    write(Path(options.model) / "variables" / "variables.data", b"other weights")
    named = r"other options: model_fingerprint was \w+ and is \w+\. Give"
    with pytest.raises(ConfigurationError, match=named):
        prepare_run(check_run(options))


def test_overwrite_begins_anew_with_other_options(options):
    run_everything(prepare_run(check_run(options)))
    write(Path(options.output) / "notes.txt", b"mine")
    launched = prepare_run(check_run(replace(options, window=32, overwrite=True)))
    assert launched.work.layout.window_px == 32
    names = {name.split("/")[0] for name in tree(options.output)}
    assert names == {"run.json", "plan", "notes.txt"}


def test_a_quick_look_into_a_whole_run_is_refused(options):
    prepare_run(check_run(options))
    with pytest.raises(ConfigurationError, match="holds a whole run"):
        check_run(replace(options, limit=100))


@pytest.mark.parametrize(
    "change", [{"max_failures": FailureBudget(3, None)}, {"trust_model": True}]
)
def test_a_changed_policy_resumes_what_is_done(options, change):
    run_everything(prepare_run(check_run(options)))
    launched = prepare_run(check_run(replace(options, **change)))
    images = [
        u for u in plan.read_units(launched.work.run.plan, plan.WorkUnit) if u.format != "tfrecord"
    ]
    log = CommitLog(launched.work.run.root, launched.work.options)
    assert all(log.is_done(unit) for unit in images)


def test_another_pixel_size_counts_the_ground_again(options):
    run_everything(prepare_run(check_run(options)))
    totals = run_everything(prepare_run(check_run(replace(options, pixel_size=2.0))))
    assert totals.tally.ground_pixels == totals.tally.pixels
    assert totals.tally.footprint_m2 == pytest.approx(7 * 64 * 4 + 1600 * 100, rel=2e-3)


def test_the_size_of_pixels_is_compared_with_the_range_of_the_model_unless_images_are_scaled(
    tmp_path,
):
    model = write_model_folder(tmp_path / "model", gsd_range_m=(0.5, 1.0))
    write(tmp_path / "in" / "a.png", png(pixels(8, 8)))
    options = SegmentOptions((str(tmp_path / "in"),), str(model), str(tmp_path / "run"))

    message = r"^--pixel_size: gsd_range_m: .* has 2 x 2 m .*; scale images with --resize, or use "
    with pytest.raises(ContractError, match=message):
        check_run(replace(options, pixel_size=2.0))
    check_run(replace(options, pixel_size=1.0))
    # Of 2 m, scaled from 8 to 16 pixels, the model sees 1 m.
    check_run(replace(options, pixel_size=2.0, resize=(16, 16)))


@pytest.mark.parametrize("name", ["thesis.doc", "labels/truth.png"])
def test_a_folder_of_someone_else_is_refused(options, name):
    path = write(Path(options.output) / name, b"mine")
    with pytest.raises(ConfigurationError, match=r"holds files but no run.json"):
        prepare_run(check_run(options))
    assert tree(options.output) == {name: b"mine"}
    assert path.exists()


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_a_limit_takes_so_many_images_across_formats(options, limit):
    totals = run_everything(prepare_run(check_run(replace(options, limit=limit))))
    assert totals.tally.images == min(limit, 8)
    assert totals.missing == 0


def test_a_quick_look_does_not_decide_the_units_of_the_whole_run(options, tmp_path):
    for number in range(300):
        write(tmp_path / "many" / f"{number}.png", png(pixels(1, 1)))
    many = replace(options, inputs=(str(tmp_path / "many"),))
    prepare_run(check_run(replace(many, limit=3)))
    assert prepare_run(check_run(many)).work.groups == plan.image_groups(300)


def test_the_number_of_groups_stays_when_files_are_added(options, tmp_path):
    assert prepare_run(check_run(options)).work.groups == 1
    for number in range(300):
        write(tmp_path / "in" / f"new-{number}.png", png(pixels(1, 1)))
    assert prepare_run(check_run(options)).work.groups == 1


def refused(options: SegmentOptions, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        prepare_run(check_run(options))
    assert not Path(options.output).exists()


def test_bands_that_do_not_fit_are_refused_before_anything_is_written(options, tmp_path):
    write_model_folder(tmp_path / "two", bands=("a", "b"), nodata_fill=(0.0, 0.0))
    refused(
        replace(options, model=str(tmp_path / "two")), ContractError, "bands: the model takes 2"
    )


def test_a_dtype_that_does_not_fit_is_refused_before_anything_is_written(options, tmp_path):
    write_model_folder(tmp_path / "wide", dtype="uint16", value_range=(0.0, 10_000.0))
    (tmp_path / "in" / "scene.tif").unlink()  # samples of scenes are converted
    wide = replace(options, model=str(tmp_path / "wide"))
    refused(wide, ContractError, "dtype: the model takes uint16")


def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(options, tmp_path):
    write(tmp_path / "texts" / "a.txt", b"")
    for change, error, match in (
        (
            {"window": 50},
            ConfigurationError,
            "--window must be a multiple of the model's stride 32",
        ),
        ({"inputs": (str(tmp_path / "none"),)}, ConfigurationError, "matches no file"),
        ({"inputs": (str(tmp_path / "texts"),)}, ConfigurationError, "matches 1 file, none of"),
        ({"model": str(tmp_path / "none")}, ContractError, "is not a SavedModel"),
        ({"model": "swift://bucket/model"}, ConfigurationError, "^swift:// locations"),
    ):
        refused(replace(options, **change), error, match)


def test_a_run_directory_in_an_unknown_store_is_refused(options):
    with pytest.raises(ConfigurationError, match=r"^swift:// locations cannot be read or written"):
        prepare_run(check_run(replace(options, output="swift://bucket/run")))


def test_a_report_writes_nothing_and_counts_the_units(options):
    before = tree(Path(options.output).parent)
    lines = list(report(options))
    assert tree(Path(options.output).parent) == before
    assert "units     4" in lines
    windows = (
        "windows   about 9, cores of up to 64 px with a halo of 0 px: 1.000 pixels computed per "
        "pixel kept"
    )
    assert windows in lines
    assert "overlap   none of 1 scene" in lines
    assert json.dumps(lines)


@pytest.mark.parametrize("begin", [check_run, lambda options: list(report(options))])
def test_a_report_refuses_the_options_of_scenes_that_a_launch_refuses(options, begin):
    with pytest.raises(ConfigurationError, match=r"^--zones zones.gpkg is not there"):
        begin(replace(options, zones="zones.gpkg"))
    Path(options.inputs[0], "scene.tif").unlink()
    with pytest.raises(ConfigurationError, match=r"^--check_seams is for scenes, and no --input"):
        begin(replace(options, check_seams=True))


def test_an_image_whose_label_map_would_be_a_folder_is_refused_with_both_names(options):
    folder = Path(options.inputs[0])
    write(folder / "0.png.png" / "b.png", png(pixels(8, 8)))
    with pytest.raises(ConfigurationError, match=r"of in/0.png and those of the folder in/0.png"):
        check_run(options)


def test_every_format_has_a_name_of_its_own_and_is_found_by_it():
    names = [entry.name for entry in formats.FORMATS]
    assert len(set(names)) == len(names)
    assert [formats.find_format(name).name for name in names] == names


def test_names_that_are_one_on_the_disk_of_a_run_are_refused_before_anything_is_written(
    options, tmp_path, monkeypatch
):
    write(tmp_path / "in" / "B.png", png(pixels(8, 8, 8)))
    write(tmp_path / "in" / "b.png", png(pixels(8, 8, 9)))
    monkeypatch.setattr(reconcile, "fold_of", lambda folder: str.casefold)
    with pytest.raises(
        ConfigurationError,
        match=r"run: labels/in/B\.png\.png and labels/in/b\.png\.png would be one file, as its",
    ):
        prepare_run(check_run(options))
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["tmp"]

    monkeypatch.setattr(reconcile, "fold_of", lambda folder: None)
    run_everything(prepare_run(check_run(options)))
    assert {"B.png.png", "b.png.png"} < set(os.listdir(tmp_path / "run" / "labels" / "in"))

    before = tree(tmp_path / "run")
    monkeypatch.setattr(reconcile, "fold_of", lambda folder: str.casefold)
    with pytest.raises(ConfigurationError, match="would be one file"):
        prepare_run(check_run(replace(options, overwrite=True)))
    assert tree(tmp_path / "run") == before
