"""What docs/dataflow.md shows is parsed: commands, options, and the request of the template.

Nothing is started, as all of it takes an account. Google's own commands are held to flags that
their reference has.
"""

from __future__ import annotations

import json
import re
import shlex

import pytest
from apache_beam.options.pipeline_options import StandardOptions, WorkerOptions
from google.cloud import dataflow
from google.protobuf import json_format

from pipelines.cli.parser import beam_options, parse
from pipelines.commands.segment import parser
from pipelines.runners.dataflow import check_options, unit_hints
from pipelines.runners.execute import pipeline_options
from pipelines.segment.options import segment_options
from tests.end_to_end.conftest import ROOT
from tools.flex_template import metadata

PAGE = (ROOT / "docs" / "dataflow.md").read_text("utf-8")
GIB = 1 << 30
# What the reference of gcloud lists for these.
GCLOUD = {
    "artifacts repositories create": {"--repository-format", "--location", "--project"},
    "auth configure-docker": set(),
    "dataflow flex-template build": {"--image", "--sdk-language", "--metadata-file", "--project"},
    "dataflow jobs list": {"--status", "--region", "--project"},
    "dataflow jobs cancel": {"--region", "--project", "--force"},
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Words of all commands, with the variables of the page filled in."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    values: dict[str, str] = {}
    found = []
    for line in lines:
        for name, value in re.findall(r"(\w+)=(\S+)", line) if line.startswith("export") else ():
            values[name] = filled(value, values)
        found += [] if line.startswith("export") else [shlex.split(filled(line, values))]
    return found


def filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$([A-Z]+)", lambda match: values[match[1]], text)


def of(program: str) -> list[list[str]]:
    return [words for words in commands() if words[0] == program]


RUNS = [words[2:] for words in of("beamseg")]


def test_the_page_shows_these_programs():
    assert {words[0] for words in commands()} == {"beamseg", "curl", "docker", "gcloud"}
    assert [words[1] for words in of("beamseg")] == ["segment"] * 4


@pytest.mark.parametrize("words", RUNS)
def test_every_run_of_the_page_is_one_that_beam_and_we_take(words):
    parsed, spelled = parse(parser(), words, with_beam=True)
    options = segment_options(parsed)
    # A dry run, as the other one asks the bucket.
    of_beam = pipeline_options([*spelled, "--dry_run=1"])

    check_options(options.accelerator, of_beam)

    workers = of_beam.view_as(WorkerOptions)
    assert of_beam.view_as(StandardOptions).runner == "DataflowRunner"
    assert workers.sdk_container_image.startswith("europe-west4-docker.pkg.dev/my-project/beamseg/")
    assert all(place.startswith("gs://my-bucket/") for place in (options.model, options.output))


def test_options_in_the_text_are_ours_or_beams():
    named = set(re.findall(r"`(--\w+)", PAGE))
    own = {name for action in parser()._actions for name in action.option_strings}

    assert named - own - set(beam_options()) == set()
    assert {"--accelerator", "--flexrs_goal", "--no_wait_until_finish"} <= named


def test_runs_of_the_page_ask_for_these_workers():
    asked = []
    for words in RUNS:
        parsed, spelled = parse(parser(), words, with_beam=True)
        options = segment_options(parsed)
        hints = unit_hints(
            options.memory, options.accelerator, pipeline_options([*spelled, "--dry_run=1"])
        )
        asked.append((hints.get("min_ram"), hints.get("accelerator")))

    l4 = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
    assert asked == [(f"{13 * GIB}B", None), (f"{21 * GIB}B", l4), (None, None), (None, None)]


def test_images_are_built_from_files_that_are_there_and_pushed():
    builds = [words for words in of("docker") if words[1] == "build"]
    pushed = {words[2] for words in of("docker") if words[1] == "push"}
    tags = set()
    for words in builds:
        given = dict(word[2:].split("=", 1) for word in words[2:-1])
        assert (ROOT / given["file"]).exists()
        assert words[-1] == "."
        tags.add(given["tag"])

    assert len(builds) == 3
    assert pushed == tags
    used = {word.partition("=")[2] for run in RUNS for word in run if "sdk_container_image" in word}
    assert used < tags


@pytest.mark.parametrize("words", of("gcloud"))
def test_commands_of_gcloud_have_flags_that_it_knows(words):
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    line = " ".join(words[1:])
    (known,) = (known for name, known in GCLOUD.items() if line.startswith(f"{name} "))

    assert flags <= known


def test_the_template_is_built_with_the_generated_metadata():
    (build,) = (words for words in of("gcloud") if "flex-template" in words)

    assert "--metadata-file=containers/metadata.json" in build
    assert (ROOT / "containers" / "metadata.json").exists()


def test_the_request_of_the_page_is_one_that_dataflow_and_the_template_take():
    (document,) = (json.loads(block) for block in blocks("json"))
    request = json_format.ParseDict(document, dataflow.LaunchFlexTemplateRequest()._pb)
    given = dict(request.launch_parameter.parameters)

    known = {parameter["name"]: parameter for parameter in metadata()["parameters"]}
    assert {"input", "model", "output"} <= set(given) <= set(known)
    for name, value in given.items():
        assert all(re.search(pattern, value) for pattern in known[name].get("regexes", [])), name
    words = [f"--{name}={value}" for name, value in given.items()]
    options = segment_options(parse(parser(), words, with_beam=True)[0])
    assert options.inputs == ("gs://my-bucket/scenes/**/*.tif", "gs://my-bucket/more/a, b.tif")
    assert options.confidence is True
    environment = request.launch_parameter.environment
    assert list(environment.additional_experiments) == ["no_use_multiple_sdk_containers"]
    assert environment.sdk_container_image in {words[2] for words in of("docker")}


def test_the_machine_of_the_launcher_is_an_option_of_the_environment():
    (text,) = re.findall(r"`(\"launcherMachineType\": .*?)`", PAGE)
    environment = dataflow.FlexTemplateRuntimeEnvironment()._pb

    json_format.ParseDict(json.loads("{" + text + "}"), environment)

    assert environment.launcher_machine_type == "n2-standard-4"
