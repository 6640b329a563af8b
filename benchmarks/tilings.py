"""What do windows that other tools blend cost, and how near do they come to untiled labels?

    python benchmarks/tilings.py mobilenet_v2 --weights RUN/best.weights.h5 --images FOLDER

All sides have one network with the weights of a training run, and go from a GeoTIFF on disk to a
Cloud Optimized GeoTIFF of labels. One side is the whole command's units, by default options. The
others do what MONAI's `SlidingWindowInferer` and nnU-Net do: windows of one size that overlap,
scores added up by weights, divided by the sum of these, argmax. Windows, steps and weights are
theirs; the code is not. They run the SavedModel that plain Keras exports, and, as `frozen`, the
function that beamseg makes of the network. Processes are started and models are loaded on all
sides. Time of processors is told beside time, as it depends less on what else a machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, product
from pathlib import Path
from statistics import median

import comparison
import numpy as np
import rasterio
import tensorflow as tf
from comparison import pictures, print_report, use_model
from scenes import finish, write_scene

from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from segmodel.devices.startup import reuse_memory
from segmodel.networks.folding import served_function
from segmodel.networks.freezing import freeze
from segmodel.networks.network import (
    NetworkConfig,
    build_network,
    nodata_fill,
    receptive_field,
)
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.halo import HaloSample
from segmodel.savedmodel.predictor import Predictor

# Function of `(1, height, width, 3)` raw values: scores of classes.
Scores = Callable[[tf.Tensor], tf.Tensor]
CLASSES, SAMPLE_PX = len(comparison.CLASSES.ids), 1536


@dataclass(frozen=True)
class Tiling:
    """Square windows that overlap, and how their scores are blended.

    Args:
        side_px: Side of a window.
        overlap: Share of a side that two neighbours share.
        is_gaussian: Whether scores weigh by a Gaussian of an eighth of the side, and at least a
            thousandth, or all alike.
        is_even: Whether steps are about equal, as in nnU-Net; else the last window is moved back
            into the scene, as in MONAI.
    """

    side_px: int
    overlap: float
    is_gaussian: bool
    is_even: bool = False

    def starts(self, length: int) -> list[int]:
        """First pixels of the windows along an axis.

        >>> Tiling(512, 0.25, False).starts(1024)
        [0, 384, 512]
        >>> Tiling(512, 0.25, False, is_even=True).starts(1024)
        [0, 256, 512]
        """
        step, rest = int(self.side_px * (1 - self.overlap)), length - self.side_px
        number = -(-rest // step)
        if self.is_even:
            return [round(index * rest / max(number, 1)) for index in range(number + 1)]
        return [min(index * step, rest) for index in range(number + 1)]

    def weights(self) -> np.ndarray:
        """Weight of each pixel of a window, `(side, side, 1)` float32."""
        if not self.is_gaussian:
            return np.ones((self.side_px, self.side_px, 1), np.float32)
        away = np.arange(self.side_px) - (self.side_px - 1) / 2
        axis = np.exp(-0.5 * (away / (self.side_px / 8)) ** 2)
        return np.maximum(np.outer(axis, axis), 1e-3).astype(np.float32)[..., None]

    def labels(self, values: np.ndarray, scores: Scores, classes: int) -> np.ndarray:
        """Labels `(height, width)` of raw values `(height, width, bands)`."""
        total = np.zeros((*values.shape[:2], classes), np.float32)
        weighed, weights = np.zeros((*values.shape[:2], 1), np.float32), self.weights()
        for row, column in product(*map(self.starts, values.shape[:2])):
            part = np.s_[row : row + self.side_px, column : column + self.side_px]
            total[part] += weights * scores(tf.constant(values[None, *part])).numpy()[0]
            weighed[part] += weights
        total /= weighed
        return tf.argmax(total, axis=-1, output_type=tf.int32).numpy().astype(np.uint8)


TILINGS = {
    "MONAI, 512 px, default": Tiling(512, 0.25, is_gaussian=False),
    "MONAI, 512 px, Gaussian": Tiling(512, 0.25, is_gaussian=True),
    "MONAI, 1024 px": Tiling(1024, 0.25, is_gaussian=False),
    "MONAI, 1024 px, Gaussian": Tiling(1024, 0.25, is_gaussian=True),
    "MONAI, 2048 px, Gaussian": Tiling(2048, 0.25, is_gaussian=True),
    "nnU-Net, 512 px": Tiling(512, 0.5, is_gaussian=True, is_even=True),
    "nnU-Net, 1024 px": Tiling(1024, 0.5, is_gaussian=True, is_even=True),
}


@dataclass(frozen=True)
class Side:
    """What a side took, in seconds of a clock and of processors, and its labels."""

    seconds: float
    processors: float
    labels: np.ndarray


@dataclass(frozen=True)
class Models:
    """One network in the forms that sides run.

    Args:
        folder: SavedModel of beamseg.
        predictor: The same, loaded.
        scores: Functions by their names: as Keras exports it, and frozen as beamseg does.
    """

    folder: str
    predictor: Predictor
    scores: dict[str, Scores]


def export(parsed: argparse.Namespace, folder: Path, values: np.ndarray) -> Models:
    """Export a network by Keras and by beamseg, with a halo that is measured on the scene."""
    config = NetworkConfig(CLASSES, backbone=parsed.backbone, backbone_weights="none")
    network = build_network(config)
    network.load_weights(parsed.weights)
    seen, fill = receptive_field(network), nodata_fill(config, "uint8")
    field = seen.size_px if seen else None
    contract = replace(
        comparison.CONTRACT, stride=config.stride, receptive_field=field, nodata_fill=fill
    )
    samples = [
        HaloSample(values[row : row + SAMPLE_PX, column : column + SAMPLE_PX])
        for row, column in product(range(0, parsed.side - SAMPLE_PX + 1, SAMPLE_PX), repeat=2)
    ]
    export_savedmodel(network, contract, f"{folder}/model", samples)
    network.export(f"{folder}/plain", verbose=False)
    plain = tf.saved_model.load(f"{folder}/plain")
    folded = served_function(network, "uint8", config.stride)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")])
    def scored(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": folded(tf.cast(images, tf.float32))}

    frozen = freeze(scored.get_concrete_function())
    scores = {
        "plain": lambda images: plain.serve(tf.cast(images, tf.float32)),
        "frozen": lambda images: frozen(images=images)["scores"],
    }
    return Models(f"{folder}/model", Predictor.load(f"{folder}/model"), scores)


def tiled(models: Models, scene: Path, run: Path) -> np.ndarray:
    """Labels of a scene by all units of the command, from the plan to the label map."""
    launch = prepare_run(check_run(SegmentOptions((str(scene),), models.folder, str(run))))
    use_model(launch.work, models.predictor)
    finish(launch.work)
    return read_labels(run / "labels" / scene.parent.name / scene.name)


def blended(tiling: Tiling, scores: Scores, scene: Path, target: Path) -> np.ndarray:
    """Labels of a scene by a tiling, read as a whole and written by the COG driver of GDAL."""
    with rasterio.open(scene) as source:
        values = np.ascontiguousarray(np.moveaxis(source.read(), 0, -1))
        place = {"crs": source.crs, "transform": source.transform}
    found = tiling.labels(values, scores, CLASSES)
    size = {"height": found.shape[0], "width": found.shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(target, "w", "COG", **size, **place, compress="deflate") as label_map:
        label_map.write(found, 1)
    return found


def read_labels(path: Path) -> np.ndarray:
    """The label map in a file."""
    with rasterio.open(path) as source:
        return source.read(1)


def measured(sides: dict[str, Callable[[], np.ndarray]], repeats: int) -> dict[str, Side]:
    """Each side by turns, medians."""
    found: dict[str, list[Side]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, label in sides.items():
            started, used = time.perf_counter(), time.process_time()
            labels = label()
            taken = time.perf_counter() - started, time.process_time() - used
            found[name].append(Side(*taken, labels))
    return {
        name: Side(
            median(side.seconds for side in each),
            median(side.processors for side in each),
            each[-1].labels,
        )
        for name, each in found.items()
    }


def report(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    """One line a side: rates, how many times that of the side beamseg's is, and agreement."""
    values = pictures(parsed.images, parsed.side)
    scene = write_scene(
        folder / "scene.tif", parsed.side, "tiles", lambda row, rows: values[row : row + rows]
    )
    models = export(parsed, folder, values)
    untiled = models.predictor.labels(values[None])[0]
    runs = (folder / f"run-{number}" for number in count())
    sides = {"beamseg": lambda: tiled(models, scene, next(runs))}
    for (name, tiling), form in product(TILINGS.items(), models.scores):
        sides[f"{name}, {form}"] = partial(
            blended, tiling, models.scores[form], scene, folder / "blended.tif"
        )
    found = measured(sides, parsed.repeats)
    ours, megapixels = found["beamseg"], parsed.side**2 / 1e6
    for name, side in found.items():
        yield (
            f"{name}: {megapixels / side.seconds:.2f} Mpx/s, {megapixels / side.processors:.2f} "
            f"of processors; ratio {side.seconds / ours.seconds:.2f}, of processors "
            f"{side.processors / ours.processors:.2f}; labels equal to untiled ones "
            f"{np.mean(side.labels == untiled):.5f}"
        )


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone")
    parser.add_argument("--weights", required=True, help="of the whole network, as trained")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files; default: made up")
    parser.add_argument("--side", type=int, default=4096, help="of the scene, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parsed = parser.parse_args()
    reuse_memory()
    print_report(partial(report, parsed))


if __name__ == "__main__":
    main()
