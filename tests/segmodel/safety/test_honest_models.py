"""Models that only compute are loaded, and give what they gave before they were saved."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from segmodel.safety.check import refuse_unsafe  # noqa: E402
from segmodel.safety.loading import load_savedmodel  # noqa: E402
from tests.segmodel.safety.honest_models import (  # noqa: E402
    FUNCTIONS,
    IMAGES,
    MODELS,
    RANDOM,
    save_plain,
)

HONEST = {
    **{function.__name__: partial(save_plain, function) for function in (*FUNCTIONS, *RANDOM)},
    **{save.__name__: save for save in MODELS},
}


@pytest.mark.parametrize("name", HONEST)
def test_a_model_that_only_computes_is_loaded_and_gives_what_it_gave(name, tmp_path):
    saved = HONEST[name](tmp_path / "model")
    loaded = load_savedmodel(tmp_path / "model", trust=False, tags=saved.tags)
    signatures = loaded.signatures
    signature = signatures["labels"] if "labels" in signatures else signatures["serving_default"]
    _, named = signature.structured_input_signature
    ((argument, spec),) = named.items()
    (given,) = signature(**{argument: tf.cast(IMAGES, spec.dtype)}).values()
    if saved.outputs is None:
        assert given.shape == IMAGES.shape
    else:
        np.testing.assert_allclose(given, saved.outputs, rtol=1e-5, atol=1e-5)


def test_models_of_beamseg_itself_are_not_refused(
    brightness_savedmodel, neighbourhood_savedmodel, foreign_savedmodel
):
    for path in (brightness_savedmodel, neighbourhood_savedmodel, foreign_savedmodel.path):
        refuse_unsafe(path)


def test_what_hostile_models_are_made_of_is_not_refused(base, base_v1):
    refuse_unsafe(base)
    refuse_unsafe(base_v1)
