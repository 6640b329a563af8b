"""Workflows and hooks hold targets, tools and versions that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def steps(document: dict) -> list[dict]:
    return [step for job in document["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_triggers_jobs_and_steps(path):
    document = yaml.safe_load(path.read_text("utf-8"))

    # YAML 1.1 reads the key `on` as true.
    assert document[True]
    assert all(job["runs-on"] and job["timeout-minutes"] > 0 for job in document["jobs"].values())
    assert all(("uses" in step) != ("run" in step) for step in steps(document))


def test_tests_run_on_every_python_that_the_project_names():
    document = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    expected = [
        name.rpartition(" ")[2]
        for name in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
    ]

    assert document["jobs"]["test"]["strategy"]["matrix"]["python"] == expected


def test_make_targets_of_workflows_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = {
        word
        for path in WORKFLOWS
        for step in steps(yaml.safe_load(path.read_text("utf-8")))
        for word in re.findall(r"make ([a-z-]+)", step.get("run", ""))
    }

    assert used
    assert used <= targets


def test_hooks_are_local_and_run_tools_of_the_environment():
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))

    assert [repo["repo"] for repo in document["repos"]] == ["local"]
    for hook in document["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
