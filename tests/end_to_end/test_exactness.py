"""Labels and tables do not depend on how images are packed, nor on the number of workers.

All bits are compared, also those of a model in which rounding decides most labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.commands import segment
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.savedmodel.predictor import Predictor
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout
from tests.end_to_end.conftest import SIZES, encoded_images, noise
from tests.end_to_end.containers import Images, label_maps, write_files, write_shards
from tests.fakes import contract

IMAGES = 200
# Folder: suffix of its shards and their number; image files where there are none.
PACKINGS = {
    "one": ("tfrecord", 1),
    "hundred": ("tfrecord", 100),
    "archives": ("tar", 10),
    "tables": ("parquet", 10),
    "files": None,
}
THREADS = "--direct_running_mode=multi_threading"
PROCESSES = "--direct_running_mode=multi_processing"


@pytest.fixture(scope="session")
def doubtful_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights whose classes differ by about the rounding of float32."""
    import keras

    from segmodel.savedmodel.export import export_savedmodel

    images = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(24, 3, padding="same", activation="relu")(images)
    features = keras.layers.Conv2D(24, 3, strides=4, padding="same", activation="relu")(features)
    network = keras.Model(
        images, keras.layers.Conv2DTranspose(3, 8, strides=4, padding="same")(features)
    )
    draw = np.random.default_rng(11)
    weights = [draw.normal(0, 0.2, w.shape) for w in network.get_weights()]
    of_classes = weights[-2]
    of_classes[:] = of_classes[:, :, :1] * (1 + draw.normal(0, 1e-7, of_classes.shape))
    weights[-1][:] = 0
    network.set_weights(weights)
    path = tmp_path_factory.mktemp("models") / "doubtful"
    given = contract(stride=4, receptive_field=32)
    export_savedmodel(network, given, path, measure_memory=False)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in every packing; in each, in another order."""
    folder, encoded = tmp_path_factory.mktemp("exact"), encoded_images(IMAGES)
    names, draw = list(encoded), random.Random(4)
    for packing, shards in PACKINGS.items():
        draw.shuffle(names)
        images: Images = {name: encoded[name] for name in names}
        if shards is None:
            numbered = {f"{n:03d}_{name}": images[name] for n, name in enumerate(names)}
            write_files(folder / packing, numbered)
        else:
            write_shards(folder / packing, shards[0], images, shards[1])
    return folder


class Results(NamedTuple):
    """Label maps by name of the image, rows of all tables without names, and totals."""

    labels: dict[str, np.ndarray]
    rows: list[str]
    totals: bytes


Segment = Callable[..., Results]


@pytest.fixture(scope="module", params=["neighbourhood_savedmodel", "doubtful_savedmodel"])
def segmented(request: pytest.FixtureRequest, corpus: Path) -> Segment:
    """Results of a run over a packing, in this process."""
    model = request.getfixturevalue(request.param)

    def segmented(packing: str, *more: str) -> Results:
        run = corpus / f"{request.param}-{packing}{''.join(more)}"
        words = [f"--input={corpus / packing}", f"--model={model}", f"--output={run}", *more]
        assert segment.run([*words, "--confidence", "--pixel_size=0.3"]) == 0
        return results(run)

    return segmented


@pytest.fixture(scope="module")
def expected(segmented: Segment) -> Results:
    """Of one shard and one worker."""
    return segmented("one")


def results(run: Path) -> Results:
    rows = [
        repr({name: row[name] for name in row if name not in ("source", "key")})
        for path in sorted((run / "areas").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    labels = {
        name.rpartition("_")[2]: labels for name, labels in label_maps(run / "labels").items()
    }
    return Results(labels, sorted(rows), (run / "areas.csv").read_bytes())


def check_same(actual: Results, expected: Results) -> None:
    assert set(actual.labels) == set(expected.labels)
    for name, labels in expected.labels.items():
        np.testing.assert_array_equal(actual.labels[name], labels, err_msg=name)
    assert actual.rows == expected.rows
    assert actual.totals == expected.totals


@pytest.mark.parametrize(
    ("packing", "workers"),
    [("one", 2), ("hundred", 8), ("archives", 1), ("tables", 2), ("files", 8)],
)
def test_labels_and_tables_depend_on_neither_packing_nor_threads(
    segmented, expected, packing, workers
):
    actual = segmented(packing, f"--direct_num_workers={workers}", THREADS)

    assert len(actual.labels) == IMAGES
    check_same(actual, expected)


@pytest.mark.parametrize("segmented", ["doubtful_savedmodel"], indirect=True)
def test_labels_and_tables_do_not_depend_on_processes(segmented, expected):
    actual = segmented("hundred", "--direct_num_workers=2", PROCESSES)

    check_same(actual, expected)


def labelled(model: Predictor, batch: int | None) -> dict[str, Labelled]:
    """What the engine gives for images of one size."""
    jobs = [Job(str(n), partial(ArrayRaster, noise(n, *SIZES[2]))) for n in range(64)]
    layout = Layout(512, 0, model.contract.stride, batch)
    outcomes = Engine(model, layout, confidence=True).run(jobs)
    return {outcome.key: outcome for outcome in outcomes if isinstance(outcome, Labelled)}


def test_the_same_images_in_batches_of_another_size_get_other_labels(doubtful_savedmodel):
    model = Predictor.load(doubtful_savedmodel)
    expected = labelled(model, None)

    for batch in (1, 2, 3, 5, 7):
        found = labelled(model, batch)
        bits, labels = (
            sum(
                np.count_nonzero(getattr(found[n], part) != getattr(expected[n], part))
                for n in found
            )
            for part in ("confidence", "labels")
        )
        if bits:
            assert labels > 0
            return
    pytest.skip("on this machine the size of a batch does not change the last bits")
