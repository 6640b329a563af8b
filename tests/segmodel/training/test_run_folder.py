"""The folder of a training run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.savedmodel.folder import write_contract
from tests.fakes import contract

pytest.importorskip("tensorflow")

from segmodel.training.run_folder import RunFolder, model_folder


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def finish(folder: RunFolder, identity: str) -> None:
    folder.begin(identity, {"model": {"name": "a"}})
    folder.model.mkdir()
    (folder.model / "saved_model.pb").touch()
    write_contract(contract(), folder.model)
    folder.finish()


def test_a_folder_that_is_not_there_is_to_be_done(folder):
    assert folder.finished("a", overwrite=False) is None


def test_a_run_that_began_is_to_be_done_and_keeps_its_checkpoint(folder):
    folder.begin("a", {"model": {"name": "x"}})
    folder.checkpoint.mkdir()
    assert folder.finished("a", overwrite=False) is None
    assert folder.checkpoint.is_dir()
    assert json.loads((folder.path / "configuration.json").read_text()) == {
        "run": "a",
        "model": {"name": "x"},
    }


def test_a_finished_run_gives_its_contract_and_has_no_checkpoint(folder):
    folder.checkpoint.mkdir(parents=True)
    finish(folder, "a")
    assert folder.finished("a", overwrite=False) == contract()
    assert not folder.checkpoint.exists()


def test_another_run_is_refused_or_replaced_where_that_is_asked_for(folder):
    finish(folder, "a")
    mine = folder.path / "validation" / "images" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.touch()
    (folder.path / "pictures").mkdir()
    (folder.path / "pictures" / "best-1.png").touch()
    with pytest.raises(ConfigurationError, match=r"run holds a run with other .* --overwrite"):
        folder.finished("b", overwrite=False)
    assert folder.finished("b", overwrite=True) is None
    left = [path for path in folder.path.rglob("*") if path.is_file()]
    assert left == [mine]


def test_overwriting_a_finished_run_of_the_same_settings_starts_it_anew(folder):
    finish(folder, "a")
    assert folder.finished("a", overwrite=True) is None
    assert not folder.model.exists()


def test_a_run_that_is_under_way_goes_on_although_it_may_be_overwritten(folder):
    folder.begin("a", {})
    folder.checkpoint.mkdir()
    (folder.checkpoint / "state.npz").touch()
    assert folder.finished("a", overwrite=True) is None
    assert (folder.checkpoint / "state.npz").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_no_run_are_never_replaced(folder, overwrite):
    folder.model.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"run holds model and no configuration\.json"):
        folder.finished("a", overwrite)


def test_other_files_in_the_folder_do_not_matter(folder):
    folder.path.mkdir()
    (folder.path / "train.toml").touch()
    assert folder.finished("a", overwrite=False) is None


def test_a_damaged_configuration_names_the_file(folder):
    folder.path.mkdir()
    (folder.path / "configuration.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"configuration\.json is of no run"):
        folder.finished("a", overwrite=False)


def test_the_batch_of_a_failed_step_is_kept(folder):
    folder.path.mkdir()
    images, truth = np.ones((2, 4, 4, 3), np.float32), np.zeros((2, 4, 4), np.int16)
    name = folder.keep_batch(12, images, truth)
    with np.load(folder.path / name) as kept:
        assert int(kept["step"]) == 12
        np.testing.assert_array_equal(kept["images"], images)
        np.testing.assert_array_equal(kept["truth"], truth)


def test_a_model_is_named_by_itself_or_by_its_run(folder):
    finish(folder, "a")
    assert model_folder(folder.path) == folder.model
    assert model_folder(folder.model) == folder.model
