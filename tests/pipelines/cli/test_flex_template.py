"""The Flex Template: its parameters are our options, and what it sends, we take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import dataflow
from google.protobuf import json_format

from pipelines.cli.options import options_of
from pipelines.cli.parser import parse
from pipelines.cli.process import ProcessOptions
from pipelines.commands.segment import parser
from pipelines.layers.options import LayersOptions
from pipelines.runners.execute import pipeline_options
from pipelines.segment.graph import SegmentPipelineOptions
from pipelines.segment.options import SegmentOptions, segment_options
from segmodel.errors import ConfigurationError
from tools.flex_template import PATH, metadata

REQUIRED = ("input", "model", "output")
CONTAINERS = Path(__file__).parents[3] / "containers"
PARAMETERS = {parameter["name"]: parameter for parameter in metadata()["parameters"]}
FLAGS = [option.name for option in options_of(SegmentOptions).values() if option.is_flag]
# A value of every parameter that is no flag.
VALUES = {
    "input": '["gs://maps/scenes/*.tif", "gs://maps/a, b.tar"]',
    "exclude": '["*.jpg", "**/quicklook/*"]',
    "model": "gs://maps/models/land",
    "output": "gs://maps/runs/may",
    "window": "1024",
    "halo": "0",
    "batch": "auto",
    "memory": "12G",
    "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver",
    "max_pixels": "100000000",
    "resize": "768x512",
    "image_field": "image/encoded",
    "name_field": "image/filename",
    "stack": "{scene}_{band}.tif",
    "bands": "4,3,2",
    "resample_to": "0.5",
    "aoi": "gs://maps/aoi.gpkg",
    "zones": "gs://maps/zones.gpkg",
    "zone_field": "name",
    "overlap": "newest",
    "crs": "EPSG:32633",
    "pixel_size": "0.25",
    "copy_web": "500M",
    "call_timeout": "600",
    "compute": "bfloat16",
    "max_failures": "0.5%",
    "max_out_of_range": "12.5%",
    "gone": "keep",
    "limit": "10",
}
CHOSEN = {"confidence": "true", "check_seams": "true", "overwrite": "false"}


def matches(name: str, value: str) -> bool:
    return all(re.search(pattern, value) for pattern in PARAMETERS[name].get("regexes", []))


def test_the_file_has_not_drifted_from_our_options():
    written = json.loads(PATH.read_text("utf-8"))

    assert written == metadata(), "run python -m tools.flex_template"


def test_every_option_of_segment_is_a_parameter_but_those_of_layers():
    """The launcher of a template does not wait for the run, of which layers are made."""
    others = {"help", *options_of(ProcessOptions), *options_of(LayersOptions)} - {"max_failures"}
    own = [action.dest for action in parser()._actions if action.dest not in others]

    assert list(PARAMETERS) == own


def test_dataflow_knows_every_field_and_every_type():
    message = json_format.ParseDict(metadata(), dataflow.TemplateMetadata()._pb)

    actual = [(entry.name, entry.is_optional) for entry in message.parameters]
    assert actual == [(name, name not in REQUIRED) for name in PARAMETERS]


def test_every_parameter_says_what_it_is():
    for name, parameter in PARAMETERS.items():
        assert parameter["label"], name
        assert len(parameter["helpText"]) > 20, name
        assert "%%" not in parameter["helpText"], name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("input", "TEXT"),
        ("model", "GCS_READ_FOLDER"),
        ("output", "GCS_WRITE_FOLDER"),
        ("zones", "GCS_READ_FILE"),
        ("window", "TEXT"),
        *((flag, "BOOLEAN") for flag in FLAGS),
    ],
)
def test_forms_offer_what_fits_a_parameter(name, kind):
    assert PARAMETERS[name]["paramType"] == kind


def test_only_what_has_a_default_is_filled_in():
    filled = {n: p["defaultValue"] for n, p in PARAMETERS.items() if "defaultValue" in p}

    limits = {"memory": "4G", "max_failures": "0", "max_out_of_range": "25%"}
    named = {"gone": "stop", "compute": "float32"}
    assert filled == {**limits, **named, **dict.fromkeys(FLAGS, "false")}


def test_values_of_this_test_are_of_every_parameter():
    assert {*VALUES, *FLAGS} == set(PARAMETERS)


@pytest.mark.parametrize("name", VALUES)
def test_patterns_take_what_we_take(name):
    assert matches(name, VALUES[name])


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_true_or_false(name):
    assert matches(name, "true")
    assert matches(name, "false")
    assert not matches(name, "yes")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", "scenes/*.tif"),
        ("model", "models/land"),
        ("output", "/tmp/run"),
        ("window", "0"),
        ("window", "-1"),
        ("window", "12.5"),
        ("halo", "-1"),
        ("batch", "0"),
        ("batch", "many"),
        ("limit", "all"),
        ("memory", "much"),
        ("memory", "4 apples"),
        ("resize", "768x"),
        ("resize", "0x5"),
        ("resample_to", "ten"),
        ("max_failures", "-1"),
        ("max_failures", "few"),
        ("max_out_of_range", "101%"),
        ("max_out_of_range", "2"),
        ("overlap", "oldest"),
        ("gone", "delete"),
        ("copy_web", "some"),
        ("accelerator", "nvidia-l4"),
        ("confidence", "yes"),
        ("confidence", "True"),
    ],
)
def test_patterns_refuse_what_no_launcher_needs_to_be_started_for(name, value):
    assert not matches(name, value)


@pytest.mark.parametrize("value", ["1", "0.5", "1%", "12.5%", "0"])
def test_budgets_that_match_are_budgets(value):
    assert matches("max_failures", value)
    assert launched({"max_failures": value}).max_failures.allows(failed=0, images=1)


@pytest.mark.parametrize("value", ["4G", "2500M", "1.5GiB", "4 gb", "800000000"])
def test_sizes_that_match_are_sizes(value):
    assert matches("memory", value)
    assert launched({"memory": value}).memory > 0


def launched(parameters: dict[str, str]):
    """Our options as the launcher passes parameters, behind what it gives by itself."""
    needed = {name: VALUES[name] for name in REQUIRED}
    words = [
        "--runner=DataflowRunner",
        "--project=project-1",
        "--region=europe-west4",
        "--job_name=may",
        '--labels={\n   "goog-dataflow-provided-template-type" : "flex"\n}\n',
        "--staging_location=gs://bucket/staging",
        "--temp_location=gs://bucket/tmp",
        "--template_location=gs://bucket/staging/template_launches/1/job_object",
        "--sdk_container_image=registry/worker:1",
        *(f"--{name}={value}" for name, value in (needed | parameters).items()),
    ]
    return segment_options(parse(parser(), words, with_beam=True)[0])


def test_all_parameters_at_once_are_options():
    options = launched(VALUES | CHOSEN)

    assert options.inputs == ("gs://maps/scenes/*.tif", "gs://maps/a, b.tar")
    assert (options.window, options.resample_to, options.memory) == (1024, 0.5, 12 << 30)
    assert (options.confidence, options.check_seams) == (True, True)
    assert (options.overwrite, options.trust_model) == (False, False)


def test_beam_takes_the_words_of_a_launcher_too():
    words = [f"--{name}={value}" for name, value in (VALUES | CHOSEN).items()]
    _, spelled = parse(parser(), words, with_beam=True)

    options = pipeline_options(spelled).view_as(SegmentPipelineOptions)
    assert (options.confidence, options.overwrite) == (True, False)
    assert (options.input, options.window) == ([VALUES["input"]], 1024)


def test_a_flag_of_a_template_is_true_or_false():
    with pytest.raises(ConfigurationError, match="--confidence is a flag"):
        launched({"confidence": "maybe"})


def test_the_launcher_runs_segment():
    program = [sys.executable, str(CONTAINERS / "flex_template.py"), "--confidence=maybe"]
    environment = os.environ | {"PYTHONPATH": str(CONTAINERS.parent), "WORKER_IMAGE": "worker:1"}

    done = subprocess.run(program, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (
        2,
        "beamseg: --confidence is a flag: write --confidence, --confidence=true or "
        "--confidence=false, got 'maybe'\n",
    )
