"""Base models, saved once in a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.once import made_once


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harmless SavedModel of TensorFlow 2."""
    from tests.segmodel.safety.base_models import save_base

    return made_once(tmp_path_factory, "base", save_base)


@pytest.fixture(scope="session")
def base_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harmless SavedModel of TensorFlow 1."""
    from tests.segmodel.safety.base_models import save_base_v1

    return made_once(tmp_path_factory, "base-v1", save_base_v1)
