"""A mask or an `.aux.xml` that cannot be read fails its scene, as GDAL goes on without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from segmodel.errors import InputError
from segmodel.images.encoded import decode_pixels
from tests.pipelines.corpus import UTM, failure_rows, make_work, pixels, run_all, write_scene

PLACES = {"a scene": UTM, "an image": (None, None)}
# A link to memory that nobody can read gives an I/O error.
UNREADABLE = "/proc/self/mem"
BROKEN = {
    ".msk": {"empty": lambda whole: b"", "cut": lambda whole: whole[: len(whole) // 2]},
    ".aux.xml": {"empty": lambda whole: b"", "cut": lambda whole: b"<PAMDataset>"},
}
KINDS = [(suffix, kind) for suffix, kinds in BROKEN.items() for kind in kinds]


def masked(folder: Path, place: tuple) -> Path:
    path = write_scene(folder / "a.tif", pixels(40, 50), place=place)
    valid = np.ones((40, 50), bool)
    valid[:10] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(valid)
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("suffix", "kind"), KINDS)
def test_a_damaged_file_beside_a_raster_fails_it(tmp_path, work, place, suffix, kind):
    path = masked(tmp_path / "in", PLACES[place])
    beside = Path(f"{path}{suffix}")
    beside.write_bytes(BROKEN[suffix][kind](beside.read_bytes() if beside.exists() else b""))
    totals = run_all(work, tmp_path / "in")
    (row,) = failure_rows(work)
    assert row["reason"].startswith(f"a.tif{suffix}, which may say where ")
    assert row["code"] == {".msk": "cannot_read", ".aux.xml": "bad_georeference"}[suffix]
    assert (totals.tally.images, totals.tally.failed_images, totals.missing) == (0, 1, 0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("suffix", BROKEN)
def test_one_that_a_disk_does_not_give_now_leaves_the_unit_unfinished(
    tmp_path, work, place, suffix
):
    beside = Path(f"{masked(tmp_path / 'in', PLACES[place])}{suffix}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(UNREADABLE)
    assert run_all(work, tmp_path / "in").missing == 1
    assert failure_rows(work) == []


@pytest.mark.parametrize("place", PLACES)
def test_overviews_beside_a_raster_have_no_part_in_its_labels(tmp_path, work, place):
    path = masked(tmp_path / "in", PLACES[place])
    whole = run_all(work, tmp_path / "in").tally.pixels
    Path(f"{path}.ovr").write_bytes(b"no overview")
    again = make_work(tmp_path / "again")
    assert run_all(again, tmp_path / "in").tally.pixels == whole
    assert whole["nodata"] == 500


def test_an_encoded_tiff_with_a_mask_that_is_none_is_refused(tmp_path):
    path = masked(tmp_path, (None, None))
    with pytest.raises(InputError, match=r"the \.msk file beside it is no mask"):
        decode_pixels(path.read_bytes(), 3, beside=b"no mask")


def test_of_a_world_file_of_any_size_a_beginning_is_read(tmp_path, work):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50), place=(None, None))
    with (tmp_path / "in" / "a.tfw").open("wb") as world:
        world.truncate(1 << 40)
    run_all(work, tmp_path / "in")
    (row,) = failure_rows(work)
    assert row["code"] == "bad_georeference"
    assert "it has more than 16,777,216 bytes" in row["reason"]
