"""The example for Argo Workflows: there is no server here, so its file is read as Argo reads it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.parser import parse
from pipelines.commands.segment import parser
from pipelines.segment.options import segment_options
from tests.orchestrators.conftest import EXAMPLES

FILE = EXAMPLES / "argo" / "segment.yaml"


@pytest.fixture
def workflow() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text("utf-8"))


@pytest.fixture
def template(workflow) -> dict[str, Any]:
    (template,) = workflow["spec"]["workflowSpec"]["templates"]
    return template


def filled(text: str, workflow: dict[str, Any]) -> str:
    """A text with the default values of the parameters."""
    entries = workflow["spec"]["workflowSpec"]["arguments"]["parameters"]
    values = {entry["name"]: entry["value"] for entry in entries}
    assert {type(value) for value in values.values()} == {str}
    return re.sub(r"\{\{workflow\.parameters\.([\w-]+)\}\}", lambda m: values[m[1]], text)


def test_it_is_a_cron_workflow_with_one_entry(workflow, template):
    assert workflow["apiVersion"] == "argoproj.io/v1alpha1"
    assert workflow["kind"] == "CronWorkflow"
    assert workflow["spec"]["concurrencyPolicy"] == "Forbid"
    assert workflow["spec"]["workflowSpec"]["entrypoint"] == template["name"]
    volumes = {entry["name"] for entry in workflow["spec"]["workflowSpec"]["volumes"]}
    assert {mount["name"] for mount in template["container"]["volumeMounts"]} <= volumes


def test_the_command_line_is_one_of_ours(workflow, template):
    container = template["container"]
    assert container["command"] == ["python", "-m", "pipelines.segment"]

    words = [filled(word, workflow) for word in container["args"]]
    parsed, _ = parse(parser(), words, with_beam=True)
    options = segment_options(parsed)

    assert options.inputs == ("/data/scenes",)
    assert (options.model, options.output) == ("/data/models/land", "/data/runs/land")
    assert str(options.max_failures) == "0"
    assert parsed.json


def test_memory_is_below_the_limit_of_the_container(workflow, template):
    words = [filled(word, workflow) for word in template["container"]["args"]]
    memory = segment_options(parse(parser(), words, with_beam=True)[0]).memory
    limits = template["container"]["resources"]["limits"]
    assert memory == 6 << 30
    assert limits == {"memory": "8Gi", "nvidia.com/gpu": "1"}


def test_what_may_pass_is_tried_again_and_nothing_else(template):
    strategy = template["retryStrategy"]
    assert (strategy["limit"], strategy["retryPolicy"]) == ("3", "Always")
    # Argo gives the exit code as a text; -1 where the node was lost.
    found = re.fullmatch(r"asInt\(lastRetry\.exitCode\) not in (\[.*\])", strategy["expression"])
    assert found
    ends = set(json.loads(found[1]))
    assert {ExitStatus(status).reason for status in ends} == {"usage", "over_budget"}
    assert not ends & {-1, 1, 4, 137, 143}


def test_the_summary_is_an_output(workflow, template):
    (output,) = template["outputs"]["parameters"]
    assert filled(output["valueFrom"]["path"], workflow) == "/data/runs/land/summary.json"
    assert json.loads(output["valueFrom"]["default"]) == {}


def test_a_pod_is_given_time_to_end(template):
    assert json.loads(template["podSpecPatch"]) == {"terminationGracePeriodSeconds": 10}
