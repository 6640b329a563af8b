"""TIFFs of which GDAL would make much more than they are."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from segmodel.errors import FailureCode, InputError
from segmodel.rasters import directories
from segmodel.rasters.directories import check_directories, check_file
from segmodel.rasters.opening import Opener
from tests.segmodel.pairs.test_pairs import geotiff

Tag = tuple[int, int, int, int]
OVERVIEW = (254, 4, 1, 1)
# Order of bytes, version, and how a directory writes its count, its tags and places.
FORMS = {
    "TIFF": ("<", 42, "H", "HHII", "I"),
    "big-endian TIFF": (">", 42, "H", "HHII", "I"),
    "BigTIFF": ("<", 43, "Q", "HHQQ", "Q"),
    "big-endian BigTIFF": (">", 43, "Q", "HHQQ", "Q"),
}


def tiff(pages: list[list[Tag]], form: str = "TIFF", behind: bytes = b"") -> bytes:
    """A file of directories, each behind the one before it, and some bytes behind them all.

    Args:
        pages: Tags of each: number, type, count, and value or place.
        form: Key of `FORMS`.
        behind: The bytes.
    """
    order, version, count, tag, place = FORMS[form]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", version)
    head += struct.pack(f"{order}HHQ", 8, 0, 16) if version == 43 else struct.pack(f"{order}I", 8)
    content = head
    for number, tags in enumerate(pages, 1):
        content += struct.pack(order + count, len(tags))
        for entry in tags:
            # A single number stands at the beginning of its room.
            room = struct.calcsize(f"={place}") - {3: 2, 4: 4}.get(entry[1], 8)
            is_inside = order == ">" and entry[2] == 1
            value = entry[3] << 8 * room if is_inside else entry[3]
            content += struct.pack(order + tag, *entry[:3], value)
        following = len(content) + struct.calcsize(f"={place}")
        content += struct.pack(order + place, following if number < len(pages) else 0)
    return content + behind


def refusal(content: bytes) -> str:
    with pytest.raises(InputError) as caught:
        check_directories(io.BytesIO(content))
    assert caught.value.code == FailureCode.UNSUPPORTED
    return caught.value.text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [1, 2, 4, 12, 16, 17, 18])
def test_tags_that_name_more_bytes_than_the_file_has_are_refused(form, kind):
    width = {1: 1, 2: 1, 4: 4}.get(kind, 8)
    once = [[(40000, kind, 4096 // width, 8)]]
    twice = [[*once[0], (40001, kind, 4096 // width, 8)]]
    check_directories(io.BytesIO(tiff(once, form, bytes(4096))))
    text = (
        "tags of the TIFF share their bytes, as no program writes: write it anew (gdal_translate)"
    )
    assert refusal(tiff(twice, form, bytes(4096))) == text
    # Values behind the end are not read.
    check_directories(io.BytesIO(tiff(twice, form, bytes(3000))))


def test_tags_of_all_pages_count_together():
    page = [(40000, 2, 3000, 1)]
    check_directories(io.BytesIO(tiff([page], behind=bytes(5000))))
    assert "share their bytes" in refusal(tiff([page] * 5, behind=bytes(5000)))


@pytest.mark.parametrize("form", FORMS)
def test_pages_and_overviews_have_limits_of_their_own(form, monkeypatch):
    monkeypatch.setattr(directories, "MAX_PAGES", 7)
    monkeypatch.setattr(directories, "MAX_OVERVIEWS", 4)
    # The first directory counts as one that GDAL opens.
    reduced, mask = [OVERVIEW], [(254, 3, 1, 4)]
    check_directories(io.BytesIO(tiff([[], reduced, mask, reduced, [], [], []], form)))
    assert refusal(tiff([[]] * 8, form)).startswith("the TIFF has more than 7 pages, as no program")
    assert "more than 4 overviews and masks" in refusal(tiff([[], *[mask, reduced] * 2], form))


def test_overviews_that_the_first_directory_names_are_counted(monkeypatch):
    monkeypatch.setattr(directories, "MAX_OVERVIEWS", 4)
    named = tiff([[(330, 4, 3, 26)]], behind=struct.pack("<3I", 1 << 31, 0, 7))
    check_directories(io.BytesIO(named))
    named = tiff([[(330, 4, 4, 26)]], behind=struct.pack("<4I", 1 << 31, 0, 7, 9))
    assert "more than 4 overviews" in refusal(named)
    # GDAL looks for none in other pages.
    check_directories(io.BytesIO(tiff([[], [(330, 4, 4, 32)]], behind=bytes(30))))


def test_metadata_have_a_limit(monkeypatch):
    monkeypatch.setattr(directories, "MAX_ELEMENTS", 3)
    text = b"<GDALMetadata><Item>a</Item><Item/></GDALMetadata>"
    check_directories(io.BytesIO(tiff([[(42112, 2, len(text), 26)]], behind=text)))
    text = b"<GDALMetadata><Item>a</Item><Item/><Item/></GDALMetadata>"
    assert refusal(tiff([[(42112, 2, len(text), 26)]], behind=text)) == (
        "the TIFF has more than 3 items of metadata, as no program writes: remove them "
        "(gdal_edit.py -unsetmd)"
    )
    monkeypatch.setattr(directories, "MAX_METADATA_BYTES", len(text) - 1)
    assert "bytes of metadata" in refusal(tiff([[(42112, 2, len(text), 26)]], behind=text))


def test_a_directory_that_leads_back_to_itself_ends_the_walk():
    check_directories(io.BytesIO(b"II*\0" + struct.pack("<IHI", 8, 0, 8)))


@given(st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]), st.binary(max_size=200))
def test_whatever_follows_the_mark_of_a_tiff_is_checked_or_refused(mark, content):
    with suppress(InputError):
        check_directories(io.BytesIO(mark + content))


def test_what_is_no_tiff_passes():
    hostile = tiff([[(40000, 2, 4096, 100)] * 9], behind=bytes(4096))
    check_directories(io.BytesIO(b"II\x2c" + hostile[3:]))
    check_directories(io.BytesIO(b""))


def test_real_files_with_overviews_and_masks_pass(tmp_path: Path):
    path = tmp_path / "a.tif"
    profile = {"driver": "COG", "width": 1024, "height": 1024, "count": 3, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5600000)}
    values = np.random.default_rng(1).integers(0, 256, (3, 1024, 1024), np.uint8)
    with rasterio.open(path, "w", blocksize=128, **profile) as target:
        target.write(values)
        target.write_mask(values[0] > 9)
        target.update_tags(1, note="x")
    check_file(str(path))
    with rasterio.open(path) as source:
        assert source.overviews(1) == [2, 4, 8]


@pytest.mark.parametrize("suffix", ["", ".msk", ".ovr", ".OVR"])
def test_a_raster_is_not_opened_before_it_and_what_is_beside_it_are_checked(
    tmp_path, monkeypatch, suffix
):
    path = tmp_path / "a.tif"
    geotiff(path, np.zeros((1, 4, 4), np.uint8))
    hostile = tiff([[(40000, 2, 4096, 100)] * 9], behind=bytes(4096))
    Path(f"{path}{suffix}").write_bytes(hostile)
    monkeypatch.setattr(rasterio, "open", pytest.fail)
    what = f"the {suffix} file beside it" if suffix else "the TIFF"
    for name in (str(path), f"GTIFF_DIR:1:{path}", f"GTIFF_RAW:{path}"):
        with pytest.raises(InputError, match=f"tags of {what} share their bytes"):
            Opener().open(name)


def test_a_directory_that_is_named_by_its_place_is_checked(tmp_path):
    path = tmp_path / "a.tif"
    hidden = struct.pack("<H", 9) + struct.pack("<HHII", 40000, 2, 4096, 50) * 9 + bytes(4100)
    path.write_bytes(tiff([[]], behind=hidden))
    check_file(str(path))
    with pytest.raises(InputError, match="share their bytes"):
        check_file(f"GTIFF_DIR:off:14:{path}")


@pytest.mark.parametrize(("size", "is_refused"), [(1 << 24, False), ((1 << 24) + 1, True)])
def test_an_auxiliary_file_has_at_most_16_mebibytes(tmp_path, size, is_refused):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with open(f"{path}.aux.xml", "wb") as stream:
        stream.truncate(size)
    if not is_refused:
        check_file(str(path))
        return
    with pytest.raises(InputError, match=r"the \.aux\.xml file beside it has 16,777,217 bytes"):
        check_file(str(path))
