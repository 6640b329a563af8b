"""Small inputs of every kind, cut from Blue Marble, to try commands on."""

import io
import json
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

# West, south, east and north in degrees; east and west overlap by six degrees of longitude.
SCENES = {"india-west": (66, 4, 84, 28), "india-east": (78, 4, 96, 28)}
AREA = {"area": (70, 8, 90, 24)}
DISTRICTS = {"west": (66, 4, 81, 28), "east": (81, 4, 96, 28)}

# Longitude and latitude of the centre in degrees, width and height in pixels, suffix.
PHOTOS = {
    "baltic": (20, 60, 320, 240, "jpg"),
    "black-sea": (34, 43, 320, 240, "jpg"),
    "caribbean": (-75, 19, 320, 240, "png"),
    "great-lakes": (-85, 45, 320, 240, "jpg"),
    "iberia": (-4, 40, 320, 240, "png"),
    "japan": (137, 36, 240, 320, "jpg"),
    "madagascar": (47, -19, 240, 320, "jpg"),
    "patagonia": (-70, -48, 240, 320, "jpg"),
    "red-sea": (39, 21, 256, 256, "jpg"),
    "new-zealand": (171, -41, 240, 320, "png"),
    "sri-lanka": (80, 8, 256, 256, "png"),
    "lake-victoria": (33, -1, 256, 256, "jpg"),
}
# What is packed into the shards; each container holds three other photos.
_SHARDS = ("photos-00000-of-00002.tfrecord", "photos-00001-of-00002.tfrecord")
_ARCHIVE, _TABLE = "photos.tar", "photos.parquet"

Box = tuple[float, float, float, float]


def write_samples(folder: Path, earth: Path) -> None:
    """Write a model and small inputs of every kind that `beamseg segment` reads.

    Args:
        folder: Folder to write: `model/`, `scenes/`, `photos/`, `masks/`, `shards/`,
            `area.geojson`, `districts.geojson` and `train.toml`. Files that are there already
            are replaced.
        earth: Folder of the package, with `model/` and `samples.toml`.
    """
    for name in ("scenes", "photos", "masks", "shards"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(earth / "model", folder / "model", dirs_exist_ok=True)
    shutil.copyfile(earth / "samples.toml", folder / "train.toml")
    image, colors = imagery.read_image(), imagery.CLASSES.palette()[imagery.reference_labels()]
    for name, box in SCENES.items():
        window = _window(box)
        imagery.write_raster(folder / "scenes" / f"{name}.tif", image[window], box[0], box[3])
    photos = {}
    for name, (longitude, latitude, width, height, suffix) in PHOTOS.items():
        window = _around(longitude, latitude, width, height)
        photos[f"{name}.{suffix}"] = _encoded(image[window], suffix)
        (folder / "photos" / f"{name}.{suffix}").write_bytes(photos[f"{name}.{suffix}"])
        (folder / "masks" / f"{name}.png").write_bytes(_encoded(colors[window], "png"))
    _write_shards(folder / "shards", photos)
    write_polygons(folder / "area.geojson", AREA)
    write_polygons(folder / "districts.geojson", DISTRICTS)


def write_polygons(path: Path, boxes: Mapping[str, Box]) -> None:
    """Write boxes of longitude and latitude as GeoJSON, with the field `name`.

    Args:
        path: File to write.
        boxes: West, south, east and north in degrees by name.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[(w, s), (e, s), (e, n), (w, n), (w, s)]],
            },
        }
        for name, (w, s, e, n) in boxes.items()
    ]
    document = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _window(box: Box) -> tuple[slice, slice]:
    """Rows and columns of the scene of the globe that a box of degrees covers."""
    per_degree = imagery.WIDTH // 360
    west, south, east, north = box
    return (
        slice(round((90 - north) * per_degree), round((90 - south) * per_degree)),
        slice(round((west + 180) * per_degree), round((east + 180) * per_degree)),
    )


def _around(longitude: float, latitude: float, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of a photo by its centre, moved so that it ends inside of the globe."""
    per_degree = imagery.WIDTH // 360
    top = round((90 - latitude) * per_degree) - height // 2
    left = min(round((longitude + 180) * per_degree) - width // 2, imagery.WIDTH - width)
    return slice(top, top + height), slice(left, left + width)


def _encoded(pixels: np.ndarray, suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG", "png": "PNG"}[suffix])
    return buffer.getvalue()


def _write_shards(folder: Path, photos: Mapping[str, bytes]) -> None:
    """Three photos in each of two TFRecord shards, a tar archive and a Parquet file."""
    names = list(photos)
    for number, shard in enumerate(_SHARDS):
        records = [
            example.serialize_example(
                {tfrecord.IMAGE: photos[name], tfrecord.NAME: name.encode()},
            )
            for name in names[3 * number : 3 * number + 3]
        ]
        (folder / shard).write_bytes(b"".join(map(tfrecord.frame, records)))
    with tarfile.open(folder / _ARCHIVE, "w") as archive:
        for name in names[6:9]:
            member = tarfile.TarInfo(name)
            member.size = len(photos[name])
            archive.addfile(member, io.BytesIO(photos[name]))
    rows = {"image": [photos[name] for name in names[9:]], "filename": names[9:]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / _TABLE)
