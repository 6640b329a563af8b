"""Running on Beam: its refusals and our workers' errors, said in a sentence."""

from __future__ import annotations

import pytest

from pipelines.runners.execute import error_of_worker, pipeline_options
from segmodel.errors import ConfigurationError, ContractError


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--direct_num_workers=two"], "invalid int value: 'two'"),
        (["--runner=FooRunner"], "Unexpected pipeline runner: FooRunner"),
    ],
)
def test_what_beam_refuses_is_one_sentence(words, reason):
    with pytest.raises(ConfigurationError, match=f"^Beam refuses an option: .*{reason}") as caught:
        pipeline_options(words)
    assert "\n" not in str(caught.value)


def test_an_error_of_ours_loses_what_beam_adds():
    error = error_of_worker(ContractError("bands: 3 [while running 'SegmentUnit']"))
    assert type(error) is ContractError
    assert str(error) == "bands: 3"


def test_an_error_of_ours_is_found_in_the_text_that_a_runner_passes_on():
    text = (
        "Traceback (most recent call last):\n"
        "segmodel.errors.ContractError: dtype: uint8 [while running 'SegmentUnit']\n"
    )
    error = error_of_worker(RuntimeError(text))
    assert type(error) is ContractError
    assert str(error) == "dtype: uint8"


def test_any_other_error_stays_as_it_is():
    error = RuntimeError("IndexError: list index out of range")
    assert error_of_worker(error) is error
