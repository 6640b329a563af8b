"""Inputs that are not those that were labelled are found, and their units can be done again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from pipelines.cli.values import FailureBudget
from pipelines.commands.main import dispatch
from pipelines.results.verify import INVALIDATED, Verdict, verify
from pipelines.results.verify_inputs import CHANGED, MISSING, UNREAD
from pipelines.results.verify_units import Finding
from pipelines.run import plan
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment.options import SegmentOptions
from tests.end_to_end.containers import write_parquet, write_tar
from tests.pipelines.corpus import (
    begun,
    finish,
    flipped,
    pixels,
    png,
    record,
    run_unit,
    small_blocks,
    tree,
    without_seals,
    write,
    write_scene,
    write_shard,
)
from tests.pipelines.memory_store import MemoryClient

OTHER = "has other content than was labelled"
REPLACED = "was replaced by other content, of another time or version"
INPUTS = (
    "a/0.png",
    "a/1.png",
    "a/s.parquet",
    "a/s.tar",
    "a/s.tfrecord",
    "a/tall.tif",
    "a/wide.tif",
)


@pytest.fixture
def options(tmp_path, model_folder, monkeypatch) -> SegmentOptions:
    """Two images, a shard of each container, a scene of one block and one of four."""
    small_blocks(monkeypatch, 64)
    folder = tmp_path / "a"
    for number in range(2):
        write(folder / f"{number}.png", png(pixels(8, 8 + number, number)))
    samples = {f"{number}.png": png(pixels(8, 8, number)) for number in range(3)}
    write_shard(folder / "s.tfrecord", [record(pixels(8, 8, n), str(n)) for n in range(3)])
    write_tar(folder / "s.tar", samples)
    write_parquet(folder / "s.parquet", samples)
    write_scene(folder / "tall.tif", pixels(100, 128))
    write_scene(folder / "wide.tif", pixels(40, 60))
    fields = {"window": 64, "overlap": "first", "max_failures": FailureBudget.parse("2")}
    return SegmentOptions((str(folder),), str(model_folder), str(tmp_path / "run"), **fields)


@pytest.fixture
def inputs(options) -> Path:
    """The folder above the inputs of a finished run."""
    assert segment(options) == 13 - 4
    return Path(options.output).parent


def segment(options: SegmentOptions) -> int:
    """Do all of a run that is not done; gives the number of units that were computed."""
    work = begun(options)
    reports = [run_unit(unit, work) for unit in plan.read_units(work.run.plan, plan.WorkUnit)]
    for kind, action in ((plan.AssemblyUnit, finish_scene), (plan.CountUnit, count_scene)):
        for unit in plan.read_units(work.run.plan, kind):
            action(unit, work)
    assert finish(work, options.max_failures, {}) == 0
    return sum(report.done - report.skipped for report in reports)


def found(root: str | Path, **options: bool) -> list[Finding]:
    findings: list[Finding] = []
    verdict = verify(str(root), findings.append, inputs=True, **options)
    assert (verdict.unfinished, verdict.faults) == (0, len(findings))
    return findings


def flip(path: Path) -> None:
    """Change one bit of a pixel, or of an encoded image; the time stays."""
    status, content = path.stat(), path.read_bytes()
    place = content.index(b"IDAT") + 8 if b"IDAT" in content else len(content) - 100
    path.write_bytes(flipped(content, place))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_inputs_that_are_as_they_were_are_counted_each_once(options, inputs):
    before = tree(options.output)
    verdict = verify(options.output, [].append, inputs=True, invalidate=True)
    without = verify(options.output, [].append)
    assert verdict == replace(without, inputs=len(INPUTS))
    assert without.is_good
    assert tree(options.output) == before


def test_an_input_that_was_replaced_and_put_back_with_its_time_is_found(options, inputs):
    for name in INPUTS:
        flip(inputs / name)
        assert found(options.output) == [Finding(f"input {name}", OTHER, CHANGED)]
        flip(inputs / name)
    assert found(options.output) == []
    for name in INPUTS:
        flip(inputs / name)
    assert verify(options.output, [].append).is_good
    assert segment(options) == 0


def test_units_of_changed_inputs_are_done_again_once_invalidated(options, inputs, tmp_path):
    names = ("a/0.png", "a/s.tar", "a/tall.tif", "a/wide.tif")
    for name in names:
        flip(inputs / name)

    findings = found(options.output, invalidate=True)

    expected = [Finding(f"input {name}", OTHER, INVALIDATED) for name in names]
    assert sorted(findings, key=lambda finding: finding.path) == expected
    assert not Path(options.output, "_SUCCESS").exists()
    # The group of images, a shard, the block, and all blocks of the scene of several.
    assert segment(options) == 1 + 1 + 1 + 4
    assert found(options.output) == []
    fresh = replace(options, output=str(tmp_path / "fresh"))
    segment(fresh)
    for folder in ("labels", "commits", "areas", "areas.csv", "overlaps.csv"):
        one, other = (tree_of(Path(root) / folder) for root in (options.output, fresh.output))
        assert one == other
        assert one


def tree_of(path: Path) -> dict[str, bytes]:
    return tree(path) if path.is_dir() else {path.name: path.read_bytes()}


def test_of_a_scene_one_block_that_changed_is_enough(options, inputs):
    path = inputs / "a" / "tall.tif"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(flipped(content, len(content) - 100))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    records = set(os.listdir(Path(options.output, "commits")))

    found(options.output, invalidate=True)

    removed = records - set(os.listdir(Path(options.output, "commits")))
    assert sorted(name[:10] for name in removed) == ["scene-tall"] * 2
    segment(options)
    assert found(options.output) == []


def test_a_copy_that_is_put_back_at_another_time_is_the_same_input(options, inputs):
    for name in INPUTS:
        path = inputs / name
        shutil.copyfile(path, inputs / "copy")
        path.unlink()
        (inputs / "copy").rename(path)
        os.utime(path, ns=(1, 1))
    assert found(options.output) == []


def test_an_input_that_is_gone_is_named_and_its_record_stays(options, inputs):
    before = tree(options.output)
    for name in INPUTS:
        (inputs / name).rename(inputs / "elsewhere")
        expected = [Finding(f"input {name}", "is not there", MISSING)]
        assert found(options.output, invalidate=True) == expected
        (inputs / "elsewhere").rename(inputs / name)
    assert tree(options.output) == before


def test_an_input_that_cannot_be_read_is_named_with_the_reason_and_its_record_stays(
    options, inputs
):
    before = tree(options.output)
    for name in ("a/s.tfrecord", "a/s.parquet", "a/tall.tif", "a/wide.tif"):
        path = inputs / name
        content = path.read_bytes()
        path.write_bytes(b"something else of another kind")
        (finding,) = found(options.output, invalidate=True)
        assert (finding.path, finding.remedy) == (f"input {name}", UNREAD)
        assert finding.wrong.startswith("cannot be read (")
        assert str(inputs) not in finding.wrong
        path.write_bytes(content)
    assert tree(options.output) == before


def test_other_content_of_another_time_is_said_to_be_another_version(options, inputs):
    flip(inputs / "a" / "1.png")
    os.utime(inputs / "a" / "1.png")
    assert found(options.output) == [Finding("input a/1.png", REPLACED, CHANGED)]


def test_a_folder_of_files_is_read_although_one_cannot_be(options, inputs, monkeypatch):
    flip(inputs / "a" / "1.png")
    (inputs / "a" / "0.png").unlink()
    (inputs / "a" / "0.png").mkdir()
    first, second = found(options.output)
    assert (first.path, first.wrong) == ("input a/0.png", "cannot be read (Is a directory)")
    assert second == Finding("input a/1.png", OTHER, CHANGED)


def test_a_vrt_is_read_where_the_run_read_it_and_nowhere_else(options, inputs, tmp_path):
    source = write_scene(tmp_path / "apart" / "pixels.tif", pixels(40, 60))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    place = "<SRS>EPSG:32633</SRS><GeoTransform>300000,10,0,6000000,0,-10</GeoTransform>"
    text = f'<VRTDataset rasterXSize="60" rasterYSize="40">{place}{bands}</VRTDataset>'
    vrt = write(tmp_path / "b" / "a.vrt", text.encode())
    for trusts, expected in ((True, OTHER), (False, None)):
        root = tmp_path / f"run-{trusts}"
        asked = replace(
            options, inputs=(str(vrt.parent),), output=str(root), overlap=None, trust_inputs=trusts
        )
        assert segment(asked) == 1
        assert found(root) == []
        flip(source)
        wrong = [finding.wrong for finding in found(root)]
        # Without trust the scene is a failure, which was made from nothing.
        assert wrong == ([] if expected is None else [expected])


def test_a_stack_and_a_member_of_an_archive_are_compared_by_their_pixels(options, tmp_path):
    for number, band in enumerate(("red", "green", "blue")):
        write_scene(tmp_path / "b" / f"s_{band}.tif", pixels(40, 40, number, bands=1))
    archive = tmp_path / "a.zip"
    with ZipFile(archive, "w") as writer:
        writer.write(write_scene(tmp_path / "m.tif", pixels(40, 50)), "m.tif")
    stack, member = str(tmp_path / "b"), f"/vsizip/{archive}/m.tif"
    kinds = [
        ({"inputs": (stack,), "stack": "{scene}_{band}.tif"}, tmp_path / "b" / "s_red.tif", -100),
        ({"inputs": (member,)}, archive, 1000),
    ]
    for changes, path, place in kinds:
        root = tmp_path / f"run-{path.name}"
        assert segment(replace(options, output=str(root), overlap=None, **changes)) == 1
        assert found(root) == []

        content, status = path.read_bytes(), path.stat()
        path.write_bytes(flipped(content, place % len(content)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert [finding.wrong for finding in found(root)] == [OTHER]
        path.unlink()
        assert [finding.remedy for finding in found(root)] == [UNREAD]


def test_results_that_are_kept_of_inputs_that_are_gone_are_not_compared(options, inputs):
    for name in ("a/0.png", "a/tall.tif"):
        (inputs / name).unlink()
    segment(replace(options, gone="keep"))
    flip(inputs / "a" / "1.png")

    findings: list[Finding] = []
    verdict = verify(options.output, findings.append, inputs=True)

    # What is left of the group of images has kept what is known of it.
    assert findings == [Finding("input a/1.png", OTHER, CHANGED)]
    assert (verdict.inputs, verdict.without_inputs) == (len(INPUTS) - 2, 1 + 4)


def test_of_a_run_that_0_1_0_began_no_input_is_known(options, tmp_path):
    asked = replace(options, overlap=None)
    segment(asked)
    root = Path(options.output)
    without_seals(root)
    for path in (root / "commits").iterdir():
        document = json.loads(path.read_bytes())
        document.pop("inputs", None)
        path.write_text(json.dumps(document, indent=1) + "\n")
    assert segment(asked) == 0
    (tmp_path / "a" / "0.png").unlink()
    verdict = verify(options.output, [].append, inputs=True)
    assert verdict == Verdict(9, verdict.files, verdict.size, 0, 0, 0, 9)


def test_an_object_of_a_store_is_told_from_other_content_by_its_version(
    options, client: MemoryClient, tmp_path
):
    client.put_all(tmp_path / "a", "gs://bucket/a")
    asked = replace(options, inputs=("gs://bucket/a",), overlap=None)
    segment(asked)
    assert found(asked.output) == []

    client.version = "v2"
    assert found(asked.output) == []

    for name, place in (("a/0.png", 60), ("a/wide.tif", -100)):
        content = client.objects[f"gs://bucket/{name}"]
        client.objects[f"gs://bucket/{name}"] = flipped(content, place % len(content))
    del client.objects["gs://bucket/a/s.tar"]
    client.fails = lambda method, uri: method == "read" and uri.endswith("tfrecord")

    findings = {finding.path: (finding.wrong, finding.remedy) for finding in found(asked.output)}

    assert findings.pop("input a/s.tfrecord")[1] == UNREAD
    assert findings == {
        "input a/0.png": (REPLACED, CHANGED),
        "input a/wide.tif": (REPLACED, CHANGED),
        "input a/s.tar": ("is not there", MISSING),
    }


def test_the_command_says_what_was_compared(options, inputs, capsys):
    assert dispatch(["verify", options.output, "--inputs"]) == 0
    assert capsys.readouterr().out.endswith(", 7 inputs: all as recorded\n")
    flip(inputs / "a" / "tall.tif")

    status = dispatch(["verify", options.output, "--inputs"])

    lines = capsys.readouterr().out.splitlines()
    assert status == 4
    assert lines[0] == f"input a/tall.tif {OTHER}: {CHANGED}"
    assert lines[1].endswith(", 7 inputs: 0 not finished, 1 not as recorded")
    assert dispatch(["verify", options.output]) == 0
