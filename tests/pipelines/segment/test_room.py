"""What a run takes on disk is told before it starts, and refused only where it cannot fit."""

from __future__ import annotations

import shutil

import pytest

from pipelines.segment import room
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from pipelines.segment.room import LABEL_BYTES, MAP_OVERHEAD_BYTES, RUN_BYTES, UNIT_OVERHEAD_BYTES
from segmodel.errors import DiskError
from tests.pipelines.corpus import photos, pixels, run_unit, units_in, write_scene

# Of two scenes of one block: label map, names of the classes, and a unit each.
PIXELS = 2 * 1000 * 1000
OUTPUTS = round(PIXELS * LABEL_BYTES) + 4 * MAP_OVERHEAD_BYTES + 2 * UNIT_OVERHEAD_BYTES + RUN_BYTES
SCRATCH = round(2 * PIXELS / 2 * LABEL_BYTES)
LEAST = round(PIXELS / 1032 + 2 * room.MIN_RECORD_BYTES)


@pytest.fixture
def options(tmp_path, model_folder) -> SegmentOptions:
    for name in "ab":
        write_scene(tmp_path / "in" / f"{name}.tif", pixels(1000, 1000))
    return SegmentOptions((str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"))


def leave(monkeypatch, free: int) -> None:
    monkeypatch.setattr(room, "free_bytes_of", lambda folder: free)


def test_a_plan_says_what_a_run_takes_and_what_is_left(tmp_path, options, monkeypatch):
    leave(monkeypatch, 5 << 20)
    (line,) = (line for line in report(options) if line.startswith("room"))
    assert line == (
        f"room      about {OUTPUTS / 2**20:.1f} MiB for outputs and {SCRATCH / 2**20:.1f} MiB for "
        f"temporary files in {tmp_path}/run, where 5.0 MiB are left"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("free", "is_short"), [(OUTPUTS + SCRATCH, False), (OUTPUTS + SCRATCH - 1, True), (LEAST, True)]
)
def test_a_run_that_may_not_fit_is_told_so_and_begins(options, monkeypatch, free, is_short):
    leave(monkeypatch, free)
    shortage = prepare_run(check_run(options)).shortage
    assert (shortage is not None) == is_short


def test_a_run_that_cannot_fit_ends_before_any_work(tmp_path, options, monkeypatch):
    leave(monkeypatch, LEAST - 1)
    with pytest.raises(DiskError, match=rf"^{tmp_path}/run: the run takes .* at the least .* left"):
        prepare_run(check_run(options))


def test_what_is_finished_takes_no_more_room(tmp_path, model_folder, monkeypatch):
    photos(tmp_path / "in")
    options = SegmentOptions((str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"))
    work = prepare_run(check_run(options)).work
    for unit in units_in(work, tmp_path / "in"):
        run_unit(unit, work)
    leave(monkeypatch, 0)
    assert prepare_run(check_run(options)).shortage is None


def test_a_run_in_a_store_needs_room_for_temporary_files_here(client, options, monkeypatch):
    leave(monkeypatch, SCRATCH - 1)
    shutil.rmtree(options.output, ignore_errors=True)
    stored = SegmentOptions(options.inputs, options.model, "gs://bucket/run")
    shortage = prepare_run(check_run(stored)).shortage
    assert shortage is not None
    assert "for outputs in gs://bucket/run, and 0.1 MiB for temporary files in /" in shortage
