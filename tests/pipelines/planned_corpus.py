"""Input files of every format whose plan is the same on every machine, and what it was once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.pipelines.corpus import write

# Names in an order that neither folders, nor bytes, nor cases, nor digits alone would give.
NAMES = (
    *("a.jpg", "A.jpg", "a b.png", "é.webp", "日本/é.tif", "😀.png", "\ufb01.png", "-x.png"),
    *("a/b.png", "a-b.png", "a.b/c.png", "10.png", "9.png", "a\nb.png", "[1]*?.png", "%.png"),
    *("'; DROP TABLE files.png", "a/b/c/d.jpeg", "b.jpg.png", "x" * 200 + ".png", "a_b.png"),
)
VRT = """<VRTDataset rasterXSize="{width}" rasterYSize="{height}">
  <SRS>EPSG:32633</SRS>
  <GeoTransform>{left}, 1, 0, 6000000, 0, -1</GeoTransform>
  <VRTRasterBand dataType="Byte" band="1"><ColorInterp>Red</ColorInterp></VRTRasterBand>
  <VRTRasterBand dataType="Byte" band="2"><ColorInterp>Green</ColorInterp></VRTRasterBand>
  <VRTRasterBand dataType="Byte" band="3"><ColorInterp>Blue</ColorInterp></VRTRasterBand>
</VRTDataset>
"""
SCENES = {"one": (600, 500, 300_000), "two": (5000, 4200, 300_100), "far": (700, 700, 400_000)}
PATTERNS = ("photos", "more/*.png", "photos/a/**", "shards", "scenes", "photos-2")


def planned_corpus(folder: Path) -> tuple[str, ...]:
    """Write the files below a folder, which must be the current one; gives the patterns."""
    for number, name in enumerate(NAMES):
        write(folder / "photos" / name, bytes(number + 1))
    for number in range(300):
        write(folder / "photos-2" / f"{number % 7}" / f"{number}.jpg", bytes(number % 5))
        write(folder / "more" / f"{number}.png", bytes(3))
    odd = os.fsencode(folder / "more") + b"/odd-\xff.png"
    with open(odd, "wb") as stream:
        stream.write(b"odd")
    for number, suffix in enumerate(("tfrecord", "tar", "parquet", "tfrecord.gz", "txt", "csv")):
        for shard in range(12):
            write(folder / "shards" / f"s{shard}.{suffix}", bytes(number + 10 * shard))
    for name, (width, height, left) in SCENES.items():
        content = VRT.format(width=width, height=height, left=left)
        write(folder / "scenes" / f"{name}.vrt", content.encode())
    write(folder / "scenes" / "broken.jp2", b"no raster")
    write(folder / "scenes" / "broken.tif", b"II*\0broken")
    paths = [os.fsencode(path) for path in folder.rglob("*")]
    for number, path in enumerate(sorted(paths)):
        os.utime(path, ns=(number, 1_000_000_000 + number))
    return PATTERNS


def digests(folder: str) -> dict[str, tuple[int, str]]:
    """Lines and the beginning of SHA-256 of all parts of a plan, by kind."""
    found: dict[str, tuple[int, str]] = {}
    for kind in ("part", "scenes", "counts"):
        content = b"".join(path.read_bytes() for path in sorted(Path(folder).glob(f"{kind}-*")))
        found[kind] = (content.count(b"\n"), hashlib.sha256(content).hexdigest()[:16])
    return found
