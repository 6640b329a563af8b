"""A run directory is as recorded, or every difference is named with its remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cli.values import FailureBudget
from pipelines.results.failure_table import COLUMNS, FailureTable
from pipelines.results.verify import INVALIDATED, REMOVE, Verdict, verify
from pipelines.results.verify_units import AGAIN, INVALIDATE, Finding
from pipelines.run import plan
from pipelines.run.commits import CommitLog
from pipelines.run.directory import OUTPUTS
from pipelines.run.seals import sealed, unsealed
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit
from tests.end_to_end.containers import write_parquet
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import (
    begun,
    finish,
    flipped,
    photos,
    pixels,
    png,
    small_blocks,
    spoil_strip,
    tree,
    write,
    write_scene,
)

MAP, SCENE = "labels/photos/1.png.png", "labels/scenes/scene.tif"
NO_RECORD = "is an unknown file: no commit record names it"
OTHER_BYTES = "has the recorded size, but not the recorded SHA-256"
REMOVED = f"{AGAIN}, which removes it"
BLOCKS = 4


@pytest.fixture
def options(tmp_path, model_folder, monkeypatch) -> SegmentOptions:
    """Three images, and a scene of four blocks, of which the lower two cannot be read."""
    small_blocks(monkeypatch, 32)
    scene = tmp_path / "scenes" / "scene.tif"
    write_scene(scene, pixels(64, 64), compress="deflate", blockysize=16)
    spoil_strip(scene, 3)
    return SegmentOptions(
        inputs=(str(photos(tmp_path)), str(scene.parent)),
        model=str(model_folder),
        output=str(tmp_path / "run"),
        window=32,
        max_failures=FailureBudget.parse("1"),
    )


@pytest.fixture
def run(options) -> Path:
    """A complete run."""
    assert segment(options) == 0
    return Path(options.output)


def segment(options: SegmentOptions) -> int:
    """Do all of a run that is not done; gives its exit status."""
    work = begun(options)
    for unit in plan.read_units(work.run.plan, plan.WorkUnit):
        segment_unit(unit, work, model=lambda work: BrightnessModel())
    for scene in plan.read_units(work.run.plan, plan.AssemblyUnit):
        assert finish_scene(scene, work)
    return finish(work, options.max_failures, {})


def found(run: Path, invalidate: bool = False) -> list[Finding]:
    findings: list[Finding] = []
    verdict = verify(str(run), findings.append, invalidate)
    assert verdict.unfinished + verdict.faults == len(findings)
    assert verdict.is_good == (not findings)
    return findings


def record(run: Path, kind: str) -> str:
    """Path of the record of the group of images, of the last block or of the scene."""
    units = [
        u
        for kind in (plan.WorkUnit, plan.AssemblyUnit)
        for u in plan.read_units(str(run / "plan"), kind)
    ]
    scene = units.pop()
    (images,) = (unit for unit in units if unit.scene is None)
    chosen = {"images": images.id, "block": scene.blocks[-1], "scene": scene.id}[kind]
    (path,) = (run / "commits").glob(f"{chosen}-{'[0-9a-f]' * 16}.json")
    return path.relative_to(run).as_posix()


def flip(path: Path) -> None:
    """Change one bit, in the middle."""
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) // 2))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def test_a_complete_run_is_as_recorded(run):
    outputs = {n: c for n, c in tree(run).items() if n.split("/")[0] in OUTPUTS}
    before = tree(run)

    findings: list[Finding] = []
    actual = verify(str(run), findings.append, invalidate=True)

    # Three maps and their rows; the scene with class names and rows; two blocks that failed.
    assert len(outputs) == 4 + 3 + 2
    assert actual == Verdict(1 + BLOCKS, len(outputs), sum(map(len, outputs.values())), 0, 0)
    assert findings == []
    assert tree(run) == before


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [(truncate, "has 10 bytes, {size} are recorded"), (flip, OTHER_BYTES)],
)
@pytest.mark.parametrize("path", [MAP, SCENE, "labels/scenes/scene.tif.aux.xml"])
def test_a_damaged_file_is_named(run, path, damage, wrong):
    size = (run / path).stat().st_size
    damage(run / path)
    assert found(run) == [Finding(path, wrong.format(size=size), INVALIDATE)]


@pytest.mark.parametrize("path", [MAP, SCENE])
def test_a_missing_file_is_named(run, path):
    (run / path).unlink()
    assert found(run) == [Finding(path, "is not there", INVALIDATE)]


def test_rows_of_images_and_of_failures_are_checked_too(run):
    paths = [p for folder in ("areas", "failures") for p in sorted((run / folder).iterdir())]
    assert len(paths) == 2 + 2
    for path in paths:
        flip(path)
    names = {path.relative_to(run).as_posix() for path in paths}
    assert {(f.path, f.wrong) for f in found(run)} == {(name, OTHER_BYTES) for name in names}


@pytest.mark.parametrize("folder", OUTPUTS)
def test_a_file_that_no_record_names_is_unknown(run, folder):
    write(run / folder / "deep" / "extra.png", b"")
    assert found(run) == [Finding(f"{folder}/deep/extra.png", NO_RECORD, REMOVE)]


def test_a_link_to_a_folder_is_an_unknown_file_and_is_not_followed(run, tmp_path):
    (run / "labels" / "link").symlink_to(tmp_path)
    assert found(run) == [Finding("labels/link", NO_RECORD, REMOVE)]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [(None, f"{AGAIN}, which removes it and its outputs"), (b"", REMOVED), (b"[]", REMOVED)],
)
def test_a_record_that_is_not_in_the_plan_is_unknown(options, run, content, remedy):
    before = tree(run)
    old = sealed(json.dumps(unsealed(before[record(run, "images")])[0] | {"digest": "0" * 16}))
    name = f"{unsealed(old)[0]['unit']}-{'0' * 16}.json"
    write(run / "commits" / name, old if content is None else content)
    wrong = "is an unknown file: the plan has no such unit"
    assert found(run) == [Finding(f"commits/{name}", wrong, remedy)]
    assert segment(options) == 0
    assert tree(run) == before


def test_what_a_block_of_a_finished_scene_should_have_lost_is_unknown(run):
    commit = json.loads((run / record(run, "block")).read_bytes())
    block = commit["unit"].replace("b00003", "b00000")
    write(run / "blocks" / f"{block}-labels.tif", b"")
    assert found(run) == [Finding(f"blocks/{block}-labels.tif", NO_RECORD, REMOVE)]


def test_a_unit_without_a_record_is_not_finished(run):
    path = record(run, "images")
    outputs = [entry["path"] for entry in json.loads((run / path).read_bytes())["outputs"]]
    (run / path).unlink()

    first, *others = found(run)

    assert first == Finding(path, "is not there, the unit is not finished", AGAIN)
    assert others[:2] == [
        Finding("areas.csv", "is not what the commit records add up to", AGAIN),
        Finding("_SUCCESS", "is there although units are not finished", AGAIN),
    ]
    unknown = {Finding(name, NO_RECORD, f"{AGAIN}, then verify again") for name in outputs}
    assert set(others[2:]) == unknown
    assert len(others) == 2 + len(unknown)


def test_a_scene_without_a_record_is_not_finished(run):
    path = record(run, "scene")
    (run / path).unlink()
    actual = found(run)
    assert actual[0] == Finding(path, "is not there, the scene is not finished", AGAIN)
    # The label maps and rows of its two good blocks are gone.
    assert sum(f.wrong == "is not there" for f in actual) == 4


def test_a_run_that_was_killed_is_not_finished_and_nothing_else(options):
    work = prepare_run(check_run(options)).work
    units = list(plan.read_units(work.run.plan, plan.WorkUnit))
    segment_unit(units[0], work, model=lambda work: BrightnessModel())
    write(Path(work.run.scratch) / "half", b"")
    missing = [*plan.read_units(work.run.plan, plan.AssemblyUnit), *units[1:]]
    log = CommitLog(work.run.root, work.options)

    actual = found(Path(options.output))

    assert [f.path for f in actual] == [f"commits/{log.name(unit)}" for unit in missing]
    assert {f.remedy for f in actual} == {AGAIN}


@pytest.mark.parametrize("kind", ["images", "block", "scene"])
def test_a_record_that_cannot_be_read_is_named(run, kind):
    path = record(run, kind)
    truncate(run / path)
    first, *others = found(run)
    assert (first.path, first.remedy) == (path, INVALIDATE)
    assert first.wrong.startswith("is no commit record of ")
    assert {(f.wrong, f.remedy) for f in others} <= {(NO_RECORD, f"{AGAIN}, then verify again")}


@pytest.mark.parametrize("kind", ["images", "block", "scene"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_unit_with_a_damaged_file_is_invalidated_and_done_again(options, run, kind, damage):
    before, path = tree(run), record(run, kind)
    output = json.loads(before[path])["outputs"][0]["path"]
    damage(run / output)

    findings = found(run, invalidate=True)

    assert [(f.path, f.remedy) for f in findings] == [(output, INVALIDATED)]
    assert set(before) - set(tree(run)) - {output} == {path, "_SUCCESS"}
    assert segment(options) == 0
    assert tree(run) == before
    assert found(run) == []


@pytest.mark.parametrize("kind", ["images", "block", "scene"])
def test_a_unit_whose_record_cannot_be_read_is_invalidated_and_done_again(options, run, kind):
    before, path = tree(run), record(run, kind)
    truncate(run / path)

    first = found(run, invalidate=True)[0]

    assert (first.path, first.remedy) == (path, INVALIDATED)
    assert set(before) - set(tree(run)) == {path, "_SUCCESS"}
    assert segment(options) == 0
    assert tree(run) == before


def test_without_forget_nothing_is_written_or_removed(run):
    for path in (MAP, SCENE, record(run, "block")):
        truncate(run / path)
    before = tree(run)
    assert len(found(run)) > 3
    assert tree(run) == before


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("areas.csv", b"class_id\n", "is not what the commit records add up to"),
        ("areas.csv", None, "is not there"),
        ("summary.json", None, "is not there"),
        ("summary.json", b"{", "is not what the end of a run writes"),
        ("summary.json", b"[0]", "is not what the end of a run writes"),
        ("summary.json", b'{"exit_status": 4}', "is not what the end of a run writes"),
        ("summary.json", sealed('{"exit_status": 4}'), "says that units are unfinished, and all"),
        ("failures.csv", None, "is not there"),
        ("failures.csv", b"uri\n", "is not what the commit records add up to"),
        ("preview.png", None, "is not there"),
        ("preview.png", b"", "is not what the end of the run wrote"),
        ("labels.vrt", None, "is not there"),
        ("labels.vrt", b"", "is not what the end of the run wrote"),
        ("labels.json", b"{}", "is not what the end of the run wrote"),
        ("run.json", None, "is not there"),
        ("run.json", b"", "is damaged"),
        ("plan/run.json", None, "is not there"),
        ("plan/run.json", b"", "is damaged"),
        ("_SUCCESS", b"x", "is not empty"),
        ("_SUCCESS", None, "is not there although the run is complete"),
    ],
)
def test_what_the_end_of_a_run_writes_is_checked(options, run, name, content, wrong):
    before = tree(run)
    (run / name).unlink()
    if content is not None:
        write(run / name, content)
    first = found(run)[0]
    assert (first.path, first.remedy) == (name, AGAIN)
    assert first.wrong.startswith(wrong)
    assert segment(options) == 0
    assert tree(run) == before


def unlisted(run: Path, **fields: object) -> None:
    """Have `summary.json` say no more of the other files than that of earlier versions."""
    summary, _ = unsealed((run / "summary.json").read_bytes())
    del summary["files"]
    (run / "summary.json").write_bytes(sealed(json.dumps(summary | fields)))


def test_a_list_of_label_maps_of_another_run_is_found(run):
    unlisted(run)
    listed = json.loads((run / "labels.json").read_text())
    assert listed["systems"][0]["maps"][0]["path"] == SCENE

    (run / "labels.vrt").unlink()
    assert found(run) == [Finding("labels.vrt", "is not there", AGAIN)]

    write(run / "labels.json", (run / "labels.json").read_bytes().replace(b"/scene.", b"/other."))
    wrong = f"lists {SCENE.replace('/scene.', '/other.')}, which no commit record names"
    assert found(run)[0] == Finding("labels.json", wrong, AGAIN)

    listed["systems"][0]["maps"] = []
    (run / "labels.json").write_text(json.dumps(listed))
    assert found(run)[0] == Finding("labels.json", "lacks 1 of 1 label maps", AGAIN)

    (run / "labels.json").write_text("[]")
    wrong = "is not what the end of a run writes"
    assert found(run) == [Finding("labels.json", wrong, AGAIN)]


def test_one_pixel_more_in_areas_csv_is_found(run):
    table = (run / "areas.csv").read_text()
    pixels_of_dark = table.splitlines()[1].split(",")[2]
    more = str(int(pixels_of_dark) + 1)
    (run / "areas.csv").write_text(table.replace(f",{pixels_of_dark},", f",{more},", 1))
    assert [f.path for f in found(run)] == ["areas.csv"]


def test_a_run_with_too_many_failures_is_as_recorded_without_success(options):
    assert segment(replace(options, max_failures=FailureBudget.parse("0"))) == 3
    assert not (Path(options.output) / "_SUCCESS").exists()
    assert found(Path(options.output)) == []


def test_label_maps_in_parquet_shards_are_no_tables_of_areas(options, tmp_path):
    shard = tmp_path / "shards" / "a.parquet"
    write_parquet(shard, {"a.png": png(pixels(40, 50))})
    assert segment(replace(options, inputs=(str(shard.parent),))) == 0

    assert found(Path(options.output)) == []


@pytest.mark.parametrize("as_written_by", ["0.1.0", "now"])
def test_failures_with_controls_in_names_are_verified_in_both_writings(
    tmp_path, options, monkeypatch, as_written_by
):
    write(tmp_path / "more" / "a\x1b.png", b"\x89PNG\r\n\x1a\n")
    with monkeypatch.context() as patched:
        if as_written_by == "0.1.0":
            plain = (COLUMNS, lambda cell: cell)
            patched.setattr(FailureTable.__init__, "__defaults__", plain)
        segment(replace(options, inputs=(str(tmp_path / "more"), *options.inputs)))
    run = Path(options.output)
    name = "a\x1b.png" if as_written_by == "0.1.0" else "a\\x1b.png"
    assert name in (run / "failures.csv").read_text("utf-8")
    assert found(run) == []
