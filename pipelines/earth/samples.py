"""Small inputs of every kind, cut from Blue Marble, to try commands on."""

import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from pipelines.earth import imagery
from pipelines.formats import example, tfrecord

PIXELS_PER_DEGREE = imagery.WIDTH // 360
# West and north in degrees, width and height in pixels; they share six degrees of longitude.
SCENES = {"india-west": (66, 28, 270, 360), "india-east": (78, 28, 270, 360)}
# The same of photos.
PHOTOS = {
    "baltic.jpg": (9, 68, 320, 240),
    "black-sea.jpg": (23, 51, 320, 240),
    "caribbean.png": (-86, 27, 320, 240),
    "great-lakes.jpg": (-96, 53, 320, 240),
    "iberia.png": (-15, 48, 320, 240),
    "japan.jpg": (129, 47, 240, 320),
    "madagascar.jpg": (39, -8, 240, 320),
    "patagonia.jpg": (-78, -37, 240, 320),
    "red-sea.jpg": (30, 30, 256, 256),
    "new-zealand.png": (163, -31, 240, 320),
    "sri-lanka.png": (71, 17, 256, 256),
    "lake-victoria.jpg": (24, 8, 256, 256),
}


def write_samples(folder: Path, package: Path) -> None:
    """Write a model and small inputs of every kind that `beamseg segment` reads.

    Args:
        folder: Folder to write: `model/`, `scenes/`, `photos/`, `masks/`, `shards/`,
            `area.geojson`, `districts.geojson` and `train.toml`. Files that are there already
            are replaced.
        package: Folder that holds the demo's `model/` and `inputs/`.
    """
    for name in ("scenes", "photos", "masks", "shards"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(package / "inputs", folder, dirs_exist_ok=True)
    shutil.copytree(package / "model", folder / "model", dirs_exist_ok=True)
    image, colors = imagery.read_image(), imagery.CLASSES.palette()[imagery.reference_labels()]
    for name, place in SCENES.items():
        pixels = image[_slices(*place)]
        imagery.write_raster(folder / "scenes" / f"{name}.tif", pixels, *place[:2])
    for name, place in PHOTOS.items():
        Image.fromarray(image[_slices(*place)]).save(folder / "photos" / name)
        mask = folder / "masks" / Path(name).with_suffix(".png")
        Image.fromarray(colors[_slices(*place)]).save(mask)
    photos = {name: (folder / "photos" / name).read_bytes() for name in PHOTOS}
    _write_shards(folder / "shards", photos)


def _slices(west: int, north: int, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the whole globe."""
    top, left = (90 - north) * PIXELS_PER_DEGREE, (west + 180) * PIXELS_PER_DEGREE
    return np.s_[top : top + height, left : left + width]


def _write_shards(folder: Path, photos: Mapping[str, bytes]) -> None:
    """Three photos in each of two TFRecord shards, a tar archive and a Parquet file."""
    names = list(photos)
    for number in range(2):
        records = [
            example.serialize_example({tfrecord.IMAGE: photos[name], tfrecord.NAME: name.encode()})
            for name in names[3 * number : 3 * number + 3]
        ]
        shard = folder / f"photos-{number:05d}-of-00002.tfrecord"
        shard.write_bytes(b"".join(map(tfrecord.frame, records)))
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for name in names[6:9]:
            member = tarfile.TarInfo(name)
            member.size = len(photos[name])
            archive.addfile(member, io.BytesIO(photos[name]))
    rows = {"image": [photos[name] for name in names[9:]], "filename": names[9:]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "photos.parquet")
