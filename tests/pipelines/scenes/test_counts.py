"""What becomes of a scene that cannot be counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.run.plan import CountUnit, InputFile
from pipelines.scenes import counts
from segmodel.errors import DiskError, GroundError

UNIT = CountUnit("counts-0", "scene", (InputFile("a.tif", "root", "a.tif", 1, "1"),), place=0)


class Unfinished:
    """A log without records."""

    def is_done(self, unit: CountUnit) -> bool:
        return False


WORK = SimpleNamespace(log=Unfinished())


def counted(monkeypatch, error: Exception) -> bool:
    """Whether a scene is counted while every count ends with an error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(counts, "_count", fail)
    return counts.count_scene(UNIT, WORK)


def test_a_scene_without_ground_is_told_and_the_others_go_on(monkeypatch, caplog):
    assert not counted(monkeypatch, GroundError("the outline crosses itself"))
    assert caplog.messages == ["counts-0 cannot be counted: the outline crosses itself"]


def test_a_full_disk_ends_the_run_and_is_told_once_not_by_scene(monkeypatch, caplog):
    with pytest.raises(DiskError, match="no space is left"):
        counted(monkeypatch, DiskError("no space is left on the disk"))
    assert caplog.messages == []
