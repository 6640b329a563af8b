"""How much of the machine do shards get? Ratios, each measured in one run.

    python benchmarks/records.py              # all questions, about half an hour on two cores
    python benchmarks/records.py --images FOLDER codecs
    python benchmarks/records.py network

codecs   a model that costs nothing: images a second through a work unit, against decoding and
         encoding the same images with the same functions in a thread pool of as many threads
network  a ResNet50 FCN-8s: images a second through a work unit, against the bare SavedModel on
         decoded arrays in batches of the same shape
soft     the same network: processor time of a work unit with soft areas, against one without
sizes    a MobileNetV2 FCN-8s: processor time of a megapixel of images of 160 to 351 pixels a side
         through a work unit, against that of images of 256 x 256
growth   time for each further image, and peak memory of the whole command above that of its
         imports, for 100 times the input

Rates are marginal: of the difference between a long and a short shard, so that starting costs
nothing. Medians of five, the two sides of a ratio by turns.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from comparison import CLASSES, CONTRACT, in_process, medians
from PIL import Image

from pipelines.formats.shards import ShardEntry
from pipelines.formats.tfrecord import TFRecordFormat
from pipelines.formats.work import ReadOptions, Work
from pipelines.inputs.find import list_inputs
from pipelines.run.attempts import THREADS
from pipelines.run.directory import RunDirectory
from pipelines.worker.unit import segment_unit
from segmodel.engine.engine import MemoryLimits
from segmodel.images.encoded import decode_image
from segmodel.labels.label_images import encode_labels
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.memory import peak_bytes

SIDE, REPEATS = 512, 5
# Images of a shard where the whole command is measured.
SHARD = 40


class FreeModel:
    """Gives the same label maps to every batch, and takes no time."""

    classes = CLASSES
    fill = CONTRACT.fill

    def __init__(self) -> None:
        self._labels = smooth_labels()[None]

    def labels(self, images: np.ndarray) -> np.ndarray:
        return self._labels


def smooth_labels() -> np.ndarray:
    """A label map of patches with ragged edges, as networks give them."""
    random = np.random.default_rng(3)
    coarse = Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8))
    values = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    return ((values + random.integers(-6, 7, values.shape)).clip(0, 255) // 52).astype(np.uint8)


def read_jpegs(folder: str | None) -> list[bytes]:
    """Sixteen JPEG files of 512 x 512 pixels: crops of the images in a folder, or made up."""
    paths = sorted(Path(folder).rglob("*.jpg"))[:16] if folder else []
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pictures = [p.crop((0, 0, SIDE, SIDE)) for p in pictures if min(p.size) >= SIDE]
    random = np.random.default_rng(0)
    while len(pictures) < 16:
        coarse = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        values = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
        noisy = (values + random.normal(0, 6, values.shape)).clip(0, 255).astype(np.uint8)
        pictures.append(Image.fromarray(noisy))
    encoded = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return encoded


def write_shard(path: Path, jpegs: Sequence[bytes], count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TFRecordFormat().writer(str(path), False, ("image",)) as shard:
        for number in range(count):
            jpeg = jpegs[number % len(jpegs)]
            width, height = Image.open(io.BytesIO(jpeg)).size
            shard.add(ShardEntry(number, f"{number:06d}.jpg", height, width, (jpeg, "jpg")))
    return path


class Units:
    """Shards as work units, each done from nothing every time."""

    def __init__(self, folder: Path, contract: Contract = CONTRACT) -> None:
        self._folder, self._runs = folder, 0
        self._work = Work(
            run=RunDirectory(""),
            model="",
            fingerprint="0" * 64,
            contract=contract,
            layout=contract.layout(SIDE),
            options="0" * 16,
            confidence=False,
            pixel_size_m=None,
            reading=ReadOptions(),
            limits=MemoryLimits(),
            groups=1,
            trust_model=False,
            provenance=(("BEAMSEG_VERSION", "benchmark"),),
        )

    def seconds(
        self,
        shard: Path,
        model: object,
        clock: Callable[[], float] = time.perf_counter,
        **changes: bool,
    ) -> float:
        """Time of one unit, of work that has some changes."""
        self._runs += 1
        root = self._folder / f"run-{self._runs}"
        root.mkdir()
        work = replace(self._work, run=RunDirectory(str(root)), **changes)
        (file,) = list_inputs([str(shard)], str(root))
        (unit,) = TFRecordFormat().units([file], work, None)
        started = clock()
        report = segment_unit(unit, work, model=lambda work: model)
        taken = clock() - started
        assert report.done == 1
        return taken

    def marginal(self, short: Path, long: Path, images: int, model: object) -> float:
        """Seconds for each of so many further images."""
        before = self.seconds(short, model)
        return (self.seconds(long, model) - before) / images


def codecs(folder: Path, jpegs: Sequence[bytes]) -> Iterator[str]:
    short, long = (write_shard(folder / f"codecs-{n}.tfrecord", jpegs, n) for n in (200, 1200))
    units, labels = Units(folder), smooth_labels()
    text = {"BEAMSEG_VERSION": "benchmark"}

    def one(number: int) -> int:
        decode_image(jpegs[number % len(jpegs)], 3)
        return len(encode_labels(labels, CLASSES, text))

    def pool() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(one, range(1000)))
        return (time.perf_counter() - started) / 1000

    model = FreeModel()
    found = medians(
        {"pool": pool, "unit": lambda: units.marginal(short, long, 1000, model)}, REPEATS
    )
    yield f"codecs: decode and encode alone {1 / found['pool']:.0f} images/s"
    yield f"codecs: through a work unit {1 / found['unit']:.0f} images/s"
    yield f"codecs: ratio {found['pool'] / found['unit']:.3f} (at least 0.8)"


def network(folder: Path, jpegs: Sequence[bytes]) -> Iterator[str]:
    model = export_network(folder / "resnet", "resnet50")
    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(model)
    short, long = (write_shard(folder / f"network-{n}.tfrecord", jpegs, n) for n in (4, 36))
    units = Units(folder, read_contract(model))
    batch = units._work.layout.batch_size(SIDE, SIDE)
    arrays = [np.stack([decode_image(jpeg, 3)] * batch) for jpeg in jpegs]
    predictor.labels(arrays[0])

    def bare() -> float:
        started = time.perf_counter()
        for number in range(32 // batch):
            predictor.labels(arrays[number % len(arrays)])
        return (time.perf_counter() - started) / 32

    found = medians(
        {"bare": bare, "unit": lambda: units.marginal(short, long, 32, predictor)}, REPEATS
    )
    yield f"network: bare model {1 / found['bare']:.2f} images/s in batches of {batch}"
    yield f"network: through a work unit {1 / found['unit']:.2f} images/s"
    yield f"network: ratio {found['bare'] / found['unit']:.3f} (at least 0.95)"


def soft(folder: Path, jpegs: Sequence[bytes]) -> Iterator[str]:
    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(export_network(folder / "resnet", "resnet50"))
    shard = write_shard(folder / "soft.tfrecord", jpegs, 16)
    units = Units(folder, predictor.contract)

    def seconds(is_soft: bool) -> float:
        return units.seconds(shard, predictor, time.process_time, soft_areas=is_soft)

    for is_soft in (False, True):
        seconds(is_soft)
    found = medians({"without": lambda: seconds(False), "soft": lambda: seconds(True)}, REPEATS)
    yield f"soft: {found['without'] / 16:.3f} s of processors for an image without soft areas"
    yield f"soft: {found['soft'] / 16:.3f} s with them"
    yield f"soft: ratio {found['soft'] / found['without']:.3f} (at most 1.05)"


def sizes(folder: Path, jpegs: Sequence[bytes]) -> Iterator[str]:
    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(export_network(folder / "mobilenet", "mobilenet_v2"))
    units, random, images = Units(folder, predictor.contract), np.random.default_rng(0), 128
    sides: dict[str, Callable[[], float]] = {}
    for name, shapes in {
        "one size": np.full((images, 2), 256),
        "many sizes": random.integers(160, 352, (images, 2)),
    }.items():
        crops = [crop(jpegs[n % len(jpegs)], *map(int, s)) for n, s in enumerate(shapes)]
        shard = write_shard(folder / f"{name}.tfrecord", crops, images)
        seconds = partial(units.seconds, shard, predictor, time.process_time)
        # What is compiled for each shape is compiled once in a process.
        seconds()
        megapixels = shapes.prod(axis=1).sum() / 1e6
        sides[name] = lambda seconds=seconds, megapixels=megapixels: seconds() / megapixels
    found = medians(sides, REPEATS)
    for name, taken in found.items():
        yield f"sizes: {name}: {taken:.3f} s of processors for a megapixel"
    yield f"sizes: ratio {found['one size'] / found['many sizes']:.3f} (at least 0.9)"


def crop(jpeg: bytes, height: int, width: int) -> bytes:
    """The upper left part of a JPEG file, as another."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).crop((0, 0, width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def export_network(path: Path, backbone: str) -> Path:
    """An FCN-8s with random weights."""
    from segmodel.networks.network import NetworkConfig, build_network
    from segmodel.savedmodel.export import export_savedmodel

    network = build_network(NetworkConfig(len(CLASSES.ids), "fcn-8s", backbone))
    export_savedmodel(network, CONTRACT, path, measure_memory=False)
    return path


def export_cheap(path: Path) -> Path:
    """A model that compares brightness, and nothing else."""
    import tensorflow as tf

    from segmodel.savedmodel.export import export_savedmodel

    def logits(images: tf.Tensor) -> tf.Tensor:
        return -tf.abs(images[..., :1] - tf.constant([20.0, 70.0, 130.0, 180.0, 230.0]))

    export_savedmodel(logits, CONTRACT, path, measure_memory=False)
    return path


def growth(folder: Path, jpegs: Sequence[bytes]) -> Iterator[str]:
    few, many = 100, 10_000
    sizes = (few, 3 * few, many)
    shards = {n: write_shard(folder / f"growth-{n}.tfrecord", jpegs, n) for n in sizes}
    units, model = Units(folder), FreeModel()
    found = medians(
        {
            "few": lambda: units.marginal(shards[few], shards[3 * few], 2 * few, model),
            "many": lambda: units.marginal(shards[few], shards[many], many - few, model),
        },
        REPEATS,
    )
    yield f"growth: {1e3 * found['few']:.2f} ms for each of {2 * few} further images"
    yield f"growth: {1e3 * found['many']:.2f} ms for each of {many - few} further images"
    yield f"growth: ratio {found['many'] / found['few']:.3f} (0.9 to 1.1)"
    cheap = export_cheap(folder / "cheap")
    for number in range(100):
        write_shard(folder / "many" / f"{number:03d}.tfrecord", jpegs, SHARD)
    write_shard(folder / "few" / "000.tfrecord", jpegs, SHARD)
    peaks = medians(
        {
            name: lambda name=name: peak_above_imports(folder / name, cheap)
            for name in ("few", "many")
        },
        REPEATS,
    )
    yield f"growth: {peaks['few'] / 2**20:.0f} MiB above the imports' for one shard of {SHARD}"
    yield f"growth: {peaks['many'] / 2**20:.0f} MiB above the imports' for 100 shards of {SHARD}"
    yield f"growth: ratio {peaks['many'] / peaks['few']:.3f} (0.9 to 1.1)"


def peak_above_imports(shards: Path, model: Path) -> float:
    """Growth of a process that runs `beamseg segment`, from its imports to its peak."""
    run = shards.parent / f"run-{time.time_ns()}"
    return in_process(__file__, shards, model, run)


def print_peak(shards: str, model: str, run: str) -> None:
    from pipelines.commands import segment

    # What the command imports in any case.
    for name in (
        "apache_beam",
        "tensorflow",
        "pipelines.runners.execute",
        "segmodel.savedmodel.predictor",
    ):
        importlib.import_module(name)
    before = peak_bytes()
    words = [f"--input={shards}", f"--model={model}", f"--output={run}"]
    assert segment.run(words) == 0
    print(peak_bytes() - before)


QUESTIONS = {"codecs": codecs, "network": network, "soft": soft, "sizes": sizes, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="default: all")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files to crop; default: made up")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peak:
        print_peak(*parsed.peak)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    jpegs = read_jpegs(parsed.images)
    print(f"JPEG files of {SIDE} x {SIDE}, {sum(map(len, jpegs)) // len(jpegs)} bytes on average")
    for name in parsed.questions or QUESTIONS:
        with tempfile.TemporaryDirectory() as folder:
            for line in QUESTIONS[name](Path(folder), jpegs):
                print(line, flush=True)


if __name__ == "__main__":
    main()
