"""A SavedModel as a function from raw pixels to labels."""

from __future__ import annotations

import gc
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from segmodel.errors import ConfigurationError, ContractError
from segmodel.savedmodel.folder import CONTRACT_FILE, fingerprint
from segmodel.savedmodel.predictor import Predictor
from tests.fakes import CLASSES, brightness_labels, contract


@pytest.fixture(scope="module")
def predictor(brightness_savedmodel):
    return Predictor.load(brightness_savedmodel)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (31, 33), (64, 64)])
def test_labels_are_those_of_the_function(predictor, shape):
    image = noise(*shape, 3)
    actual = predictor.segment(image)
    np.testing.assert_array_equal(actual, brightness_labels(image))
    assert actual.dtype == np.uint8


def test_it_has_the_classes_and_the_fill_of_its_contract(predictor):
    assert predictor.classes == CLASSES
    assert predictor.fill.tolist() == [0, 0, 0]
    assert predictor.fill.dtype == np.uint8


def test_nodata_stands_where_the_image_is_not_valid(predictor):
    image, valid = noise(40, 50, 3), noise(40, 50) > 90
    expected = np.where(valid, brightness_labels(image), 255)
    np.testing.assert_array_equal(predictor.segment(image, valid), expected)
    np.testing.assert_array_equal(predictor.segment(image, valid, window=32), expected)


def test_confidence_is_the_probability_of_the_label(predictor):
    images = noise(2, 8, 9, 3)
    labels, confidence = predictor.labels_and_confidence(images)
    probabilities = predictor.probabilities(images)
    np.testing.assert_array_equal(labels, predictor.labels(images))
    np.testing.assert_array_equal(confidence, probabilities.max(axis=-1))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=0, atol=1e-6)
    assert confidence.dtype == probabilities.dtype == np.float32
    assert confidence.min() > 0
    assert confidence.max() <= 1


def test_an_image_of_other_bands_or_dtype_is_refused(predictor):
    with pytest.raises(ContractError, match=r"image: bands: .*takes 3 .*input has 4"):
        predictor.segment(noise(8, 8, 4))
    with pytest.raises(ContractError, match=r"image: must be \(height, width, bands\)"):
        predictor.segment(noise(8, 8))
    with pytest.raises(ContractError, match=r"image: dtype: .*takes uint8, the input is float64"):
        predictor.segment(noise(8, 8, 3) / 255)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_an_image_of_a_type_that_holds_the_range_of_the_model_is_converted(dtype):
    model, dtypes = contract(dtype="float32", stride=1), []
    table = np.array([entry.id for entry in CLASSES.classes], np.uint8)

    def labels(images):
        dtypes.append(images.dtype.name)
        bright = images.numpy().mean(axis=-1)
        return {"labels": tf.constant(table[np.digitize(bright, [85, 170])])}

    predictor = Predictor(model, {"labels": labels}, None, "")
    image = noise(8, 9, 3)
    actual = predictor.segment(image.astype(dtype))
    np.testing.assert_array_equal(actual, predictor.segment(image.astype(np.float32)))
    assert set(dtypes) == {"float32"}


def test_an_image_without_band_axis_is_refused_or_labelled_by_a_model_of_one_band():
    model = contract(bands=("grey",), nodata_fill=(0.0,))

    def labels(images):
        return {"labels": images[..., 0] // 128}

    predictor = Predictor(model, {"labels": labels}, None, "")
    try:
        actual = predictor.segment(noise(8, 8))
    except ContractError:
        return
    assert actual.shape == (8, 8)


def test_a_window_beside_the_stride_is_refused(predictor):
    with pytest.raises(ConfigurationError, match="multiple of the model's stride 32, got 40"):
        predictor.segment(noise(64, 64, 3), window=40)


def test_the_fingerprint_is_that_of_the_folder(predictor, brightness_savedmodel, tmp_path):
    assert predictor.fingerprint == fingerprint(brightness_savedmodel)
    copy = shutil.copytree(brightness_savedmodel, tmp_path / "copy")
    assert Predictor.load(copy).fingerprint == predictor.fingerprint


def test_weights_stay_alive_with_the_predictor(neighbourhood_savedmodel):
    segment = Predictor.load(neighbourhood_savedmodel).segment
    gc.collect()
    assert set(np.unique(segment(noise(16, 16, 3)))) <= {0, 3, 7}


def test_all_signatures_of_a_model_that_was_loaded_run_with_weights_computed_once(
    neighbourhood_savedmodel,
):
    for _ in range(2):
        model = Predictor.load(neighbourhood_savedmodel)
        assert {model.served(name).why_loaded for name in model.signatures} == {None}


def test_a_predictor_may_be_called_from_several_threads(predictor):
    images = [np.full((8 + n, 9, 3), 15 * n, np.uint8) for n in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for image, actual in zip(images, pool.map(predictor.segment, images), strict=True):
            np.testing.assert_array_equal(actual, brightness_labels(image))


def test_a_folder_without_contract_is_refused(brightness_savedmodel, tmp_path):
    copy = shutil.copytree(brightness_savedmodel, tmp_path / "copy")
    (copy / CONTRACT_FILE).unlink()
    with pytest.raises(ContractError, match="make a model of it with beamseg wrap"):
        Predictor.load(copy)
