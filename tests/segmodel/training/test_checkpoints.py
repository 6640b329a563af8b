"""The state of a training run on disk."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segmodel.errors import TrainingError
from segmodel.training.run_folder import (
    STATE,
    Progress,
    read_progress,
    restore_checkpoint,
    save_checkpoint,
)


def variables(value: float) -> list:
    return [
        tf.Variable([value, 1 / 3], dtype=tf.float32),
        tf.Variable(int(value), dtype=tf.int64),
        tf.Variable([[value]], dtype=tf.bfloat16),
    ]


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    progress = Progress("run", step=7, best_iou=0.5, best_step=5, losses=[0.1, 1 / 3])
    saved, restored = variables(2.5), variables(0.0)
    save_checkpoint(tmp_path, progress, saved)

    assert read_progress(tmp_path) == progress
    restore_checkpoint(tmp_path, restored)

    for one, other in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_no_checkpoint_is_no_progress(tmp_path):
    assert read_progress(tmp_path / "absent") is None


def test_a_draft_that_a_kill_left_is_not_read(tmp_path):
    save_checkpoint(tmp_path, Progress("run", step=1), variables(1.0))
    (tmp_path / f"{STATE}.part").write_bytes(b"cut")
    assert read_progress(tmp_path).step == 1


def test_a_damaged_checkpoint_says_so(tmp_path):
    (tmp_path / STATE).write_bytes(b"PK nothing")
    with pytest.raises(TrainingError, match=r"state\.npz cannot be read .* remove it"):
        read_progress(tmp_path)


def test_a_checkpoint_of_other_variables_is_refused(tmp_path):
    save_checkpoint(tmp_path, Progress("run"), variables(1.0))
    with pytest.raises(TrainingError, match="has 3 variables, the run 2"):
        restore_checkpoint(tmp_path, variables(1.0)[:2])
