"""`beamseg view` as a user runs it."""

from __future__ import annotations

import signal

import pytest

from pipelines.commands import view
from pipelines.commands.main import guarded
from tests.end_to_end.pages import page_served_by
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.scene_runs import run_scenes


@pytest.fixture
def run(tmp_path, model_folder):
    """A finished run of one small scene."""
    scene = write_scene(tmp_path / "in" / "a.tif", pixels(1, 40, 50))
    return run_scenes(tmp_path / "run", model_folder, scene).root


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_a_signal(run, tmp_path, number):
    page = page_served_by(["view", str(run)], tmp_path, number)
    assert page.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_is_none_is_refused(port, capsys):
    assert guarded(view.run, ["run", "--port", port]) == 2
    assert "--port" in capsys.readouterr().err
