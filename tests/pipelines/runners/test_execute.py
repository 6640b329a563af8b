"""Running on Beam: its refusals and our workers' errors, said in a sentence."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pipelines
from pipelines.runners.execute import _kinds, error_of_worker, pipeline_options
from pipelines.storage.clients.interface import WrongAnswerError
from segmodel.errors import BeamsegError, ConfigurationError, ContractError


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


def test_errors_of_all_rooms_are_found_in_such_a_text():
    text = (
        "RuntimeError: pipelines.storage.clients.interface.WrongAnswerError: gs://b/a: a page is "
        "there twice: run the same command again [while running 'SegmentImages/FinishRun']"
    )
    error = error_of_worker(RuntimeError(text))
    assert type(error) is WrongAnswerError
    assert str(error) == "gs://b/a: a page is there twice: run the same command again"


def test_an_error_that_leaves_a_worker_can_be_made_of_its_text_alone():
    for room in pkgutil.walk_packages(pipelines.__path__, "pipelines."):
        if not room.name.endswith("__main__"):
            importlib.import_module(room.name)
    kinds = {kind for kind in _kinds(BeamsegError).values() if not kind.__name__.startswith("_")}
    assert WrongAnswerError in kinds
    assert [kind for kind in kinds if str(kind("a: b")) != "a: b"] == []


def test_any_other_error_stays_as_it_is():
    error = RuntimeError("IndexError: list index out of range")
    assert error_of_worker(error) is error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "PermissionError: [Errno 13] refused: ask: 's3://b/run/plan' [while running 'A']",
            PermissionError(13, "refused: ask", "s3://b/run/plan"),
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 2, in b\n'
            "FileNotFoundError: [Errno 2] no such object: 'gs://b/c' [while running 'A']\n",
            FileNotFoundError(2, "no such object", "gs://b/c"),
        ),
        ("OSError: [Errno 5] Input/output error", OSError(5, "Input/output error")),
    ],
)
def test_an_error_of_a_store_arrives_as_what_it_is(text, expected):
    error = error_of_worker(RuntimeError(text))
    assert type(error) is type(expected)
    assert (error.errno, error.strerror, error.filename) == (
        expected.errno,
        expected.strerror,
        expected.filename,
    )


def test_an_error_while_one_of_a_store_is_handled_stays_one_of_ours():
    text = "FileNotFoundError: [Errno 2] gone: 'a'\nDuring handling ...\nKeyError: 'b'"
    error = RuntimeError(text)
    assert error_of_worker(error) is error
