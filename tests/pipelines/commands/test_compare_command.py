"""`beamseg compare` as a user runs it."""

from __future__ import annotations

import pytest

from pipelines.commands import compare
from pipelines.commands.main import guarded
from segmodel.errors import ConfigurationError
from tests.segmodel.scored_runs import made_run


def test_runs_are_printed_side_by_side(tmp_path, capsys):
    runs = [made_run(tmp_path / n, more, steps=more) for n, more in (("plain", 1), ("more", 40))]
    assert compare.run([str(run) for run in runs]) == 0
    text = capsys.readouterr().out
    assert "training.steps      1    40" in text
    assert "mean IoU" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more", "plain"]


def test_an_output_is_written(tmp_path, capsys):
    runs = [str(made_run(tmp_path / name)) for name in ("one", "two")]
    assert compare.run([*runs, "--output", str(tmp_path / "out")]) == 0
    assert "see compare.md" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"compare.md", "compare.json", "curves.png", "pictures"}


def test_usage_errors_end_with_status_2(tmp_path, capsys):
    assert guarded(compare.run, [str(tmp_path), str(tmp_path / "x")]) == 2
    assert "is no training run" in capsys.readouterr().err
    assert guarded(compare.run, [str(tmp_path)]) == 2
    assert "two or more runs, got 1" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="RUN"):
        compare.run([])
