"""What becomes of a scene that cannot be counted."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from pipelines.run.plan import CountUnit, InputFile
from pipelines.scenes import counts
from segmodel.errors import ConfigurationError, DiskError, GroundError

UNIT = CountUnit("counts-0", "scene", (InputFile("a.tif", "root", "a.tif", 1, "1"),), place=0)


class Unfinished:
    """A log without records."""

    def is_done(self, unit: CountUnit) -> bool:
        return False

    def read(self, unit: CountUnit) -> None:
        return None


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


@pytest.mark.parametrize(
    "error",
    [
        DiskError("no space is left on the disk"),
        ConfigurationError("cannot be written: the store refuses access (403)", name="run/counts"),
    ],
)
def test_what_every_scene_would_meet_ends_the_run_and_is_told_once(monkeypatch, caplog, error):
    with pytest.raises(type(error), match=re.escape(str(error))):
        counted(monkeypatch, error)
    assert caplog.messages == []
