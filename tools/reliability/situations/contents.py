"""Images, shards and scenes that cannot be used."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable

import numpy as np
from affine import Affine

from tests.broken_images import BROKEN
from tests.pipelines.corpus import encoded, pixels, write_scene
from tests.shard_kinds import shard
from tools.reliability.situations.changes import (
    Change,
    all_of,
    cut,
    empty,
    gone,
    only,
    put,
    spoiled,
)
from tools.reliability.situations.table import GIVEN, OVER, PHOTOS, SCENES, SHARDS, Situation


def broken(kind: str) -> Change:
    """Photos are one broken image of a kind."""
    made = BROKEN[kind]
    return only(f"photos/bad{made.suffix}", made.encoded)


def shards(kind: str, change: Callable[[bytes], bytes]) -> Change:
    """Shards are one of a kind that is damaged."""
    made = shard(kind, 0)
    return only(f"shards/bad{made.suffix}", change(made.encoded))


def scene(values: np.ndarray, place: tuple[str | None, Affine | None], **profile: object) -> Change:
    """Scenes are one GeoTIFF."""
    return all_of(
        empty("scenes"),
        lambda folder: write_scene(folder / "scenes/bad.tif", values, place, **profile),
    )


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped_middle(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes(64) + content[place + 64 :]


PLACE = "<SRS>EPSG:32633</SRS><GeoTransform>3e5,10,0,6e6,0,-10</GeoTransform>"


def virtual(band: str, more: str = "") -> Change:
    """Scenes are a virtual raster of three bands."""
    bands = "".join(
        f"<VRTRasterBand dataType='Byte' band='{number}'{more}>{band}</VRTRasterBand>"
        for number in (1, 2, 3)
    )
    size = "rasterXSize='9' rasterYSize='9'"
    return only("scenes/bad.vrt", f"<VRTDataset {size}>{PLACE}{bands}</VRTDataset>")


def source(path: str, is_relative: int = 1) -> str:
    """A source of a band."""
    return (
        f"<SimpleSource><SourceFilename relativeToVRT='{is_relative}'>{path}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource>"
    )


UTM = Affine(10, 0, 300000, 0, -10, 6_000_000)
IMAGES = tuple(
    Situation(
        f"an image alone: {kind}", PHOTOS, f"bad{made.suffix}", made.reason, OVER, make=broken(kind)
    )
    for kind, made in BROKEN.items()
)
SITUATIONS = (
    *IMAGES,
    # Images.
    Situation(
        "images whose budget is used up",
        f"{PHOTOS} --max_failures=1",
        "--max_failures",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=all_of(put("photos/b.png", b"x"), put("photos/c.png", b"x")),
    ),
    Situation(
        "images of which a share fails",
        f"{PHOTOS} --max_failures=10%",
        "--max_failures",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=put("photos/b.png", b"x"),
    ),
    Situation(
        "images with more pixels than are allowed",
        f"{PHOTOS} --max_pixels=100",
        "max_pixels",
        "56x40 pixels exceed the limit of 100: raise --max_pixels (and",
        OVER,
    ),
    Situation(
        "an image under the name of another kind of file",
        f"segment --input=photos/a.tfrecord {GIVEN}",
        "a.tfrecord",
        "the length of a record is corrupt; the rest of the shard from",
        OVER,
        make=only("photos/a.tfrecord", BROKEN["text"].encoded),
    ),
    Situation(
        "an image of its mark alone, to resize",
        f"{PHOTOS} --resize=64",
        "photos",
        "truncated or corrupt PNG: it cannot be decoded",
        OVER,
        make=only("photos/a.png", b"\x89PNG\r\n\x1a\n"),
    ),
    Situation(
        "a PDF under the name of an image",
        PHOTOS,
        "a.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=only("photos/a.png", b"%PDF-1.7\n" + b"x" * 999),
    ),
    Situation(
        "an SVG under the name of an image",
        PHOTOS,
        "a.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=only("photos/a.png", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ),
    Situation(
        "an image from a repository without its large files",
        PHOTOS,
        "a.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=only(
            "photos/a.png", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        ),
    ),
    Situation(
        "a HEIC image under the name of a JPEG",
        PHOTOS,
        "a.jpg",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=only("photos/a.jpg", b"\0\0\0\x18ftypheic" + bytes(99)),
    ),
    Situation(
        "a world file of words beside an image",
        PHOTOS,
        "a.png",
        "a.pgw, which may say where the image is, cannot be read (a",
        OVER,
        make=all_of(
            only("photos/a.png", encoded(pixels(40, 50), "PNG")),
            put("photos/a.pgw", "left\nright\n"),
        ),
    ),
    # Shards.
    Situation(
        "a TFRecord of text",
        SHARDS,
        "bad.tfrecord",
        "the length of a record is corrupt; the rest of the shard from",
        OVER,
        make=only("shards/bad.tfrecord", "hello " * 99),
    ),
    Situation(
        "a TFRecord that is cut",
        SHARDS,
        "bad.tfrecord",
        "the shard ends in the middle of a record; the rest of the shard",
        OVER,
        make=shards("tfrecord", half),
    ),
    Situation(
        "a TFRecord with zeros in it",
        SHARDS,
        "bad.tfrecord",
        "the checksum of the record at byte 5150 is not that of its data",
        OVER,
        make=shards("tfrecord", flipped_middle),
    ),
    Situation(
        "a TFRecord that states a record of exabytes",
        SHARDS,
        "bad.tfrecord",
        "the length of a record is corrupt; the rest of the shard from",
        OVER,
        make=only("shards/bad.tfrecord", struct.pack("<Q", 1 << 60) + bytes(60)),
    ),
    Situation(
        "a TFRecord that is zipped twice",
        SHARDS,
        "bad.tfrecord.gz",
        "the length of a record is corrupt; the rest of the shard from",
        OVER,
        make=shards("tfrecord-zipped", gzip.compress),
    ),
    Situation(
        "a TFRecord whose zip is cut",
        SHARDS,
        "bad.tfrecord.gz",
        "Compressed file ended before the end-of-stream marker was",
        OVER,
        make=shards("tfrecord-zipped", half),
    ),
    Situation(
        "a field of images that no TFRecord has",
        f"segment --input=shards/part.tfrecord {GIVEN} --image_field=rgb",
        "rgb",
        "the record has no feature rgb with one value of bytes; its",
        OVER,
    ),
    Situation(
        "a tar of text",
        SHARDS,
        "bad.tar",
        "a header is corrupt (invalid header); the rest of the shard",
        OVER,
        make=only("shards/bad.tar", "hello " * 999),
    ),
    Situation(
        "a tar that is cut",
        SHARDS,
        "bad.tar",
        "the archive ends in the middle of a member; the rest of the",
        OVER,
        make=shards("tar", half),
    ),
    Situation(
        "a tar with zeros in a header",
        SHARDS,
        "bad.tar",
        "a header is corrupt (bad checksum); the rest of the shard from",
        OVER,
        make=shards("tar", lambda content: bytes(200) + content[200:]),
    ),
    Situation(
        "a tar whose zip is damaged",
        SHARDS,
        "bad.tar.gz",
        "Error -3 while decompressing data: invalid distance too far",
        OVER,
        make=shards("tar-zipped", flipped_middle),
    ),
    Situation(
        "a tar whose zip is none",
        SHARDS,
        "bad.tar.gz",
        "Not a gzipped file (b'he'); the rest of the shard from byte 0",
        OVER,
        make=only("shards/bad.tar.gz", "hello " * 999),
    ),
    Situation(
        "a field of images that no tar has",
        f"segment --input=shards/part.tar {GIVEN} --image_field=rgb.png",
        "rgb.png",
        "the sample has 0 members with extension rgb.png (png, cls):",
        OVER,
    ),
    Situation(
        "a Parquet of text",
        SHARDS,
        "bad.parquet",
        "the file cannot be read: Parquet magic bytes not found in",
        OVER,
        make=only("shards/bad.parquet", "hello " * 99),
    ),
    Situation(
        "a Parquet that is cut",
        SHARDS,
        "bad.parquet",
        "the file cannot be read: Parquet magic bytes not found in",
        OVER,
        make=shards("parquet", half),
    ),
    Situation(
        "a Parquet with a spoiled foot",
        SHARDS,
        "bad.parquet",
        "the file cannot be read: Couldn't deserialize thrift: don't",
        OVER,
        make=shards("parquet", lambda content: content[:-40] + b"\xff" * 30 + content[-10:]),
    ),
    Situation(
        "a Parquet with spoiled pages",
        SHARDS,
        "bad.parquet",
        "rows 4 to 5 are lost: the group is corrupt: could not verify",
        OVER,
        make=shards("parquet", flipped_middle),
    ),
    Situation(
        "a Parquet of its marks alone",
        SHARDS,
        "bad.parquet",
        "the file cannot be read: Parquet file size is 8 bytes, smaller",
        OVER,
        make=only("shards/bad.parquet", b"PAR1PAR1"),
    ),
    Situation(
        "a field of images that no Parquet has",
        f"segment --input=shards/part.parquet {GIVEN} --image_field=rgb",
        "rgb",
        "name the right one with --image_field, or leave the file out",
    ),
    Situation(
        "a field of names that no Parquet has",
        f"segment --input=shards/part.parquet {GIVEN} --name_field=title",
        "title",
        "name the right one with --name_field",
    ),
    Situation(
        "a field of images that is one of labels",
        f"segment --input=shards/part.tar {GIVEN} --image_field=cls",
        "cls",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
    ),
    # Scenes.
    Situation(
        "a scene of text",
        SCENES,
        "scene.tif",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=put("scenes/scene.tif", "hello " * 99),
    ),
    Situation(
        "a scene that is cut",
        SCENES,
        "scene.tif",
        "pixels of Window(row=0, column=0, height=150, width=200) cannot",
        OVER,
        make=cut("scenes/scene.tif", 0.5),
    ),
    Situation(
        "a scene without its header",
        SCENES,
        "scene.tif",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=spoiled("scenes/scene.tif", 0.0, 8),
    ),
    Situation(
        "a scene of zero bytes",
        SCENES,
        "scene.tif",
        "empty file",
        OVER,
        make=put("scenes/scene.tif", b""),
    ),
    Situation(
        "a scene without transform",
        SCENES,
        "bad.tif",
        "give it the coordinates of its upper left and lower right",
        make=scene(pixels(40, 50), ("EPSG:32633", None)),
    ),
    Situation(
        "a scene beyond the Earth",
        SCENES,
        "bad.tif",
        "none has a longitude and latitude in its CRS; repair the",
        make=scene(pixels(40, 50), ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 500))),
    ),
    Situation(
        "a scene whose pixels have no size",
        SCENES,
        "bad.tif",
        "the transform must be invertible, but (0.0, 0.0,",
        make=scene(pixels(40, 50), ("EPSG:32633", Affine(0, 0, 300000, 0, 0, 6e6))),
    ),
    Situation(
        "a scene whose pixels are on a line",
        SCENES,
        "bad.tif",
        "the transform must be invertible, but (10.0, 10.0,",
        make=scene(pixels(40, 50), ("EPSG:32633", Affine(10, 10, 300000, 10, 10, 6e6))),
    ),
    Situation(
        "a scene of a place of NaN",
        SCENES,
        "bad.tif",
        "the transform must be invertible, but (10.0, 0.0, nan, 0.0,",
        make=scene(pixels(40, 50), ("EPSG:32633", Affine(10, 0, float("nan"), 0, -10, 6e6))),
    ),
    Situation(
        "a scene of too few bands",
        SCENES,
        "bands",
        "the scene has 1 (gray), 2",
        make=scene(pixels(40, 50, bands=2), ("EPSG:32633", UTM)),
    ),
    Situation(
        "a scene of too many bands",
        SCENES,
        "bands",
        "the scene has 1 (gray), 2, 3, 4, 5",
        make=scene(pixels(40, 50, bands=5), ("EPSG:32633", UTM)),
    ),
    Situation(
        "a scene of another type",
        SCENES,
        "dtype",
        "the model takes uint8, the input is float32; convert it with",
        make=scene(pixels(40, 50).astype(np.float32), ("EPSG:32633", UTM)),
    ),
    Situation(
        "a scene of complex numbers",
        SCENES,
        "dtype",
        "the model takes uint8, the input is complex64; give it real",
        make=scene(pixels(40, 50).astype(np.complex64), ("EPSG:32633", UTM)),
    ),
    Situation(
        "scenes of which one has another type",
        SCENES,
        "bad.tif",
        "dtype: the model takes uint8, the input is uint16; convert it",
        OVER,
        make=lambda folder: write_scene(
            folder / "scenes/bad.tif", pixels(40, 50).astype(np.uint16), ("EPSG:32633", UTM)
        ),
    ),
    Situation(
        "a virtual raster that is cut",
        SCENES,
        "bad.vrt",
        "as VRT whose XML is not plain it may name any file and address,",
        OVER,
        make=only("scenes/bad.vrt", "<VRTDataset rasterXSize='9'"),
    ),
    Situation(
        "a virtual raster of what is not there",
        SCENES,
        "bad.vrt",
        "gone.tif: there is no such file",
        OVER,
        make=virtual(source("gone.tif")),
    ),
    Situation(
        "a virtual raster of itself",
        SCENES,
        "bad.vrt",
        "pixels of Window(row=0, column=0, height=9, width=9) cannot be",
        OVER,
        make=virtual(source("bad.vrt")),
    ),
    Situation(
        "a virtual raster of another folder",
        SCENES,
        "bad.vrt",
        "it is read from a.tif, which lies below no --input: name that",
        OVER,
        make=virtual(source("/etc/a.tif", 0)),
    ),
    Situation(
        "a virtual raster that runs Python",
        SCENES,
        "bad.vrt",
        "pixels of Window(row=0, column=0, height=9, width=9) cannot be",
        OVER,
        make=virtual(
            "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>",
            " subClass='VRTDerivedRasterBand'",
        ),
    ),
    Situation(
        "a JPEG 2000 of text",
        SCENES,
        "bad.jp2",
        "the scene cannot be opened: not recognized as being in a",
        OVER,
        make=only("scenes/bad.jp2", "hello " * 99),
    ),
    Situation(
        "a NetCDF that is none",
        SCENES,
        "bad.nc",
        "the scene cannot be opened: not recognized as being in a",
        OVER,
        make=only("scenes/bad.nc", b"CDF\x01" + bytes(40)),
    ),
    Situation(
        "a GeoPackage without rasters",
        SCENES,
        "bad.gpkg",
        "the scene cannot be opened: sqlite3_prepare_v2(SELECT COUNT(*)",
        OVER,
        make=only("scenes/bad.gpkg", b"SQLite format 3\0" + bytes(84)),
    ),
    Situation(
        "an archive of scenes that is none",
        "segment --input=/vsizip/scenes/bad.zip/a.tif --model=model --output=run",
        "bad.zip",
        "File is not a zip file",
        make=only("scenes/bad.zip", b"PK\3\4nothing"),
    ),
    Situation(
        "a subdataset that is not there",
        "segment --input=NETCDF:scenes/bad.nc:ndvi --model=model --output=run",
        "bad.nc",
        "check the address; rasters within files are read of files on",
    ),
    Situation(
        "a mask beside a scene that is none",
        SCENES,
        "scene.tif",
        "scene.tif.msk, which may say where nodata is, cannot be read",
        OVER,
        make=put("scenes/scene.tif.msk", "hello"),
    ),
    Situation(
        "facts beside a scene that are no XML",
        SCENES,
        "scene.tif",
        "scene.tif.aux.xml, which may say where the image is, cannot be",
        OVER,
        make=put("scenes/scene.tif.aux.xml", "<PAMDataset"),
    ),
    Situation(
        "a folder under the name of a scene",
        SCENES,
        "scenes",
        "check the path, and quote patterns with *",
        make=all_of(gone("scenes"), empty("scenes/bad.tif")),
    ),
)
