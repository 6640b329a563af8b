"""The list of Beam's options is that of the installed Beam, and shares no name with ours."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, beam_options, parse
from pipelines.commands.segment import parser
from pipelines.runners.execute import LOCAL_RUNNER, pipeline_options
from pipelines.segment import graph
from pipelines.segment.options import SegmentOptions
from tools.beam_options import installed_options


def own_names() -> set[str]:
    command = Parser(add_help=False)
    add_options(command, SegmentOptions)
    return {name for action in command._actions for name in action.option_strings}


def test_the_list_has_not_drifted_from_the_installed_beam():
    assert beam_options() == installed_options(), "run python -m tools.beam_options"


@pytest.mark.parametrize(
    ("name", "values"),
    [("--runner", 1), ("--streaming", 0), ("--labels", 1), ("--no_auth", 0)],
)
def test_the_list_knows_how_many_values_an_option_takes(name, values):
    assert beam_options()[name] == values


def test_no_option_of_ours_has_a_name_of_beams():
    assert own_names() & set(beam_options()) == set()


def test_an_option_of_ours_that_begins_one_of_beams_is_not_taken_for_it():
    assert "--output_executable_path".startswith("--output")
    options = PipelineOptions(["--output", "RUN", "--model", "m"])
    assert options.view_as(PortableOptions).output_executable_path is None
    assert options.view_as(graph.SegmentPipelineOptions).output == "RUN"


def test_values_reach_both_views_in_every_spelling():
    words = ["--input=a", "--input", "b", "--max-failures=2%", "--direct_num_workers", "3"]
    _, spelled = parse(parser(), [*words, "--runner", "PrismRunner"], with_beam=True)
    options = pipeline_options(spelled)
    ours = options.view_as(graph.SegmentPipelineOptions)
    assert (ours.input, ours.max_failures) == (["a", "b"], "2%")
    assert options.view_as(DirectOptions).direct_num_workers == 3
    assert options.view_as(StandardOptions).runner == "PrismRunner"


@pytest.mark.parametrize("words", [[], ["--direct_num_workers=2"]])
def test_the_local_runner_is_named_where_the_user_names_none(words):
    assert pipeline_options(words).view_as(StandardOptions).runner == LOCAL_RUNNER


@pytest.mark.parametrize("words", [["--runner=PrismRunner"], ["--runner", "PrismRunner"]])
def test_the_runner_that_the_user_names_is_kept(words):
    assert pipeline_options(words).view_as(StandardOptions).runner == "PrismRunner"
