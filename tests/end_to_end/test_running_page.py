"""What docs/running.md shows is parsed; engines and orchestrators have tests that start them."""

from __future__ import annotations

import re
import shlex

import pytest

from pipelines.cli.parser import beam_options, parse
from pipelines.commands import verify
from pipelines.commands.segment import parser
from pipelines.runners.runner_options import check_paths, runner_of, with_runner
from pipelines.segment.options import segment_options
from tests.end_to_end.conftest import ROOT

PAGE = (ROOT / "docs" / "running.md").read_text("utf-8")
LINES = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)).replace("\\\n", " ")
RUNS = [shlex.split(line)[2:] for line in LINES.splitlines() if line.startswith("beamseg segment")]


def test_the_page_shows_a_run_on_every_engine_that_it_names():
    engines = [runner_of(words) for words in RUNS]
    named = set(re.findall(r"`--runner=(\w+)`", PAGE))
    assert named - {"DataflowRunner"} == {engine for engine in engines if engine}


@pytest.mark.parametrize("words", RUNS, ids=lambda words: runner_of(words) or words[1])
def test_every_run_of_the_page_is_one_that_we_take(words):
    parsed, spelled = parse(parser(), words, with_beam=True)
    options = segment_options(parsed)
    check_paths(spelled, [*options.inputs, options.model, options.output])
    assert runner_of(with_runner(spelled, "FnApiRunner"))


def test_options_in_the_text_are_ours_or_beams_but_two():
    named = set(re.findall(r"`(--\w+)", PAGE))
    parsers = (parser(), verify.parser())
    own = {name for made in parsers for action in made._actions for name in action.option_strings}
    # Of Java, and of Flink's job server.
    assert named - own - set(beam_options()) == {"--add", "--number_of_execution_retries"}


def test_the_arithmetic_of_the_page_is_right():
    sums = re.findall(r"(\d[\d.]*(?: [/*] \d[\d.]*)+) = (\d[\d.]*)", PAGE)
    assert len(sums) == 2
    for terms, result in sums:
        value, *steps = re.split(r" ([/*]) ", terms)
        actual = float(value)
        for sign, term in zip(steps[::2], steps[1::2], strict=True):
            actual *= float(term) if sign == "*" else 1 / float(term)
        assert f"{actual:.2g}" == f"{float(result):.2g}", terms


def test_files_and_targets_that_the_page_points_to_exist():
    for name in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        assert (ROOT / "docs" / name).exists(), name
    for name in re.findall(r"`((?:tests|benchmarks)/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M))
    known = {name for line in targets for name in line.split()}
    assert set(re.findall(r"make (test[\w-]*)", PAGE)) <= known


def test_the_configuration_of_flink_is_that_of_the_tested_cluster():
    cluster = (ROOT / "tests" / "engines" / "flink_cluster.py").read_text()
    for name in re.findall(r"^([a-z-]+\.[\w.-]+): ", PAGE, re.M):
        assert f'"{name}"' in cluster, name
