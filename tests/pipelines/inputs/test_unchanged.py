"""A unit counts only if the files that it reads stay what was planned until it is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipelines.inputs.unchanged import unchanged
from segmodel.errors import TransientError
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import (
    files_in,
    pixels,
    png,
    record,
    run_unit,
    tree,
    units_in,
    write,
    write_scene,
    write_shard,
)


def replace_and_put_back(path: Path) -> None:
    """Another file has the place of one for a while, which comes back as it was."""
    path.rename(path.with_suffix(".kept"))
    path.write_bytes(b"other")
    path.with_suffix(".kept").replace(path)


def copy_with_its_time(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


CHANGES = {
    "replaced and put back": replace_and_put_back,
    "a copy with its time": copy_with_its_time,
    "another time": lambda path: os.utime(path, ns=(1, 1)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "gone": Path.unlink,
    "a mask beside it": lambda path: Path(f"{path}.msk").write_bytes(b"mask"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_a_transient_error(tmp_path, kind):
    path = write(tmp_path / "in" / "a.png", b"content")
    (file,) = files_in(path)
    with pytest.raises(TransientError, match=r"in/a\.png was replaced after"), unchanged([file]):
        CHANGES[kind](path)


def test_a_file_that_is_another_one_than_was_planned_is_not_read(tmp_path):
    path = write(tmp_path / "in" / "a.png", b"content")
    (file,) = files_in(path)
    write(path, b"new content")
    with (
        pytest.raises(TransientError, match="was replaced after it was listed"),
        unchanged([file]),
    ):
        raise AssertionError("read")


@pytest.mark.parametrize("name", ["a.png", "a.tfrecord", "a.tif"])
def test_a_unit_whose_input_was_replaced_meanwhile_has_no_record_and_is_done_again(
    tmp_path, work, name
):
    path = tmp_path / "in" / name
    make = {
        "a.png": lambda: write(path, png(pixels(40, 50))),
        "a.tfrecord": lambda: write_shard(path, [record(pixels(40, 50))]),
        "a.tif": lambda: write_scene(path, pixels(40, 50)),
    }
    (unit,) = units_in(work, make[name]())

    class Meanwhile(BrightnessModel):
        """While it labels, somebody replaces the input."""

        def labels(self, images):
            replace_and_put_back(path)
            return super().labels(images)

    assert run_unit(unit, work, Meanwhile()) == (0, 0, 1, 0)
    assert not any(name.startswith("commits") for name in tree(work.run.root))
    assert run_unit(unit, work).done == 1
