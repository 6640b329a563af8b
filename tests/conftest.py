"""What several tests share: SavedModels, each exported once in a session, and storage services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segmodel.savedmodel import memory
from tests import examples, forked, marks, models, not_tested
from tests.once import made_once
from tests.services.fixtures import (
    bucket,
    faulty_bucket,
    gcs_faults,
    gcs_service,
    million,
    s3_faults,
    s3_service,
    service_account,
    storage_service,
)

# Of other modules, but at work in all tests.
__all__ = [
    "bucket",
    "faulty_bucket",
    "gcs_faults",
    "gcs_service",
    "million",
    "examples",
    "s3_faults",
    "s3_service",
    "service_account",
    "storage_service",
]

# Two workers share two cores. TensorFlow reads these when it starts, here and in processes that
# tests start; nothing above imports it.
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(marks)
    pluginmanager.register(not_tested)
    marks.add_options(parser)


@pytest.fixture(autouse=True, scope="session")
def _measured_in_a_fork() -> Iterator[None]:
    """The process that measures the memory of a model is forked, which takes 3 s less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "subprocess", forked)
        yield


@pytest.fixture(scope="session")
def brightness_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that labels as `tests.fakes.brightness_labels`."""
    return made_once(tmp_path_factory, "brightness", models.export_brightness)


@pytest.fixture(scope="session")
def hanging_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that never returns."""
    return made_once(tmp_path_factory, "hanging", models.export_hanging)


@pytest.fixture(scope="session")
def neighbourhood_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with stride 4 and a receptive field above 1, exact in float32."""
    return made_once(tmp_path_factory, "neighbourhood", models.export_neighbourhood)


@pytest.fixture(scope="session")
def greedy_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels by brightness; asks for 256 TiB where a batch has more than two windows."""
    return made_once(tmp_path_factory, "greedy", models.export_greedy)
