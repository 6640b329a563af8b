"""What a bad file may cost: itself, and never the run or the truth of what lies on disk."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from pipelines.run.attempts import UnitReport
from pipelines.run.commits import CommitLog
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    failure_rows,
    pixels,
    png,
    read_png,
    record,
    run_unit,
    units_in,
    write,
    write_shard,
)


def only_unit(work, folder: Path):
    (unit,) = units_in(work, folder)
    return unit


@pytest.mark.parametrize(
    "name",
    ["a b.png", "é.png", "日本.png", "a'\"$;.png", "-x.png", "a\nb.png", "[1]*?.png", "a..png"],
)
def test_names_with_any_characters_give_a_label_map_of_that_name(tmp_path, work, name):
    values = pixels(20, 30)
    write(tmp_path / "photos" / name, png(values))
    assert run_unit(only_unit(work, tmp_path / "photos"), work).done == 1
    actual = read_png(Path(work.run.root) / "labels" / "photos" / f"{name}.png")
    assert (actual == brightness_labels(values)).all()


def test_images_of_one_name_but_another_suffix_stay_two(tmp_path, work):
    dark, bright = pixels(20, 30) // 8, pixels(20, 30) // 8 + 200
    write(tmp_path / "photos" / "a.png", png(dark))
    write(tmp_path / "photos" / "a.webp", _lossless_webp(bright))
    run_unit(only_unit(work, tmp_path / "photos"), work)
    labels = Path(work.run.root) / "labels" / "photos"
    assert (read_png(labels / "a.png.png") == 0).all()
    assert (read_png(labels / "a.webp.png") == 7).all()


def _lossless_webp(values) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_a_name_too_long_for_its_label_map_costs_itself_only(tmp_path, work):
    write(tmp_path / "photos" / ("x" * 250 + ".png"), png(pixels(8, 8)))
    write(tmp_path / "photos" / "a.png", png(pixels(8, 8)))
    assert run_unit(only_unit(work, tmp_path / "photos"), work).done == 1
    assert len(failure_rows(work)) == 1


def test_a_name_that_is_not_utf8_does_not_end_the_run(tmp_path, work):
    folder = tmp_path / "photos"
    write(folder / "a.png", png(pixels(8, 8)))
    write(folder / os.fsdecode(b"b\xff.png"), png(pixels(8, 8)))
    for unit in units_in(work, folder):
        assert run_unit(unit, work).done == 1


def test_memory_that_runs_out_in_a_decoder_may_pass(tmp_path, work, monkeypatch):
    write(tmp_path / "photos" / "a.png", png(pixels(8, 8)))
    unit = only_unit(work, tmp_path / "photos")

    def broken(image):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    assert run_unit(unit, work) == UnitReport(incomplete=1)


def test_an_error_of_ours_while_an_image_is_opened_is_raised(tmp_path, work, monkeypatch):
    write(tmp_path / "photos" / "a.png", png(pixels(8, 8)))
    unit = only_unit(work, tmp_path / "photos")

    def broken(*arguments):
        raise TypeError("ours")

    monkeypatch.setattr("pipelines.formats.images.EncodedImage", broken)
    with pytest.raises(TypeError, match="ours"):
        run_unit(unit, work)


def test_a_shard_that_vanished_after_the_plan_is_a_failure(tmp_path, work):
    shard = write_shard(tmp_path / "in" / "s.tfrecord", [record(pixels(8, 8))])
    unit = only_unit(work, tmp_path / "in")
    shard.unlink()
    assert run_unit(unit, work).done == 1
    assert len(failure_rows(work)) == 1


def mended(tmp_path: Path, work) -> None:
    """A file that failed is mended and done again."""
    path = write(tmp_path / "photos" / "a.png", b"")
    write(tmp_path / "photos" / "b.png", png(pixels(8, 8)))
    run_unit(only_unit(work, tmp_path / "photos"), work)
    assert len(failure_rows(work)) == 1
    write(path, png(pixels(8, 8)))
    assert run_unit(only_unit(work, tmp_path / "photos"), work).skipped == 0


def test_a_mended_file_is_done_again_by_itself(tmp_path, work):
    mended(tmp_path, work)
    unit = only_unit(work, tmp_path / "photos")
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    assert (tally.images, tally.failed_images) == (2, 0)


def test_a_mended_file_is_no_failure_any_more(tmp_path, work):
    mended(tmp_path, work)
    assert failure_rows(work) == []


def test_a_file_that_was_good_and_is_broken_now_has_no_label_map(tmp_path, work):
    path = write(tmp_path / "photos" / "a.png", png(pixels(8, 8)))
    run_unit(only_unit(work, tmp_path / "photos"), work)
    write(path, b"broken now")
    run_unit(only_unit(work, tmp_path / "photos"), work)
    assert len(failure_rows(work)) == 1
    assert not (Path(work.run.root) / "labels" / "photos" / "a.png.png").exists()
    assert not list((Path(work.run.root) / "areas").glob("*.parquet"))
