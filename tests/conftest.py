"""What several tests share: SavedModels, each exported once in a session, and storage services."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import models
from tests.not_tested import (
    pytest_collectreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
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
    "pytest_collectreport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "s3_faults",
    "s3_service",
    "service_account",
    "storage_service",
]

# Two workers share two cores. TensorFlow reads these when it starts, here and in processes that
# tests start; nothing above imports it.
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def brightness_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that labels as `tests.fakes.brightness_labels`."""
    return made_once(tmp_path_factory, "brightness", models.export_brightness)


@pytest.fixture(scope="session")
def neighbourhood_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with stride 4 and a receptive field above 1, exact in float32."""
    return made_once(tmp_path_factory, "neighbourhood", models.export_neighbourhood)


@pytest.fixture(scope="session")
def greedy_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels by brightness; asks for 256 TiB where a batch has more than two windows."""
    return made_once(tmp_path_factory, "greedy", models.export_greedy)
