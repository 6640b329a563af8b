"""A model that could do more than compute is refused before anything of a run is written."""

from __future__ import annotations

import shutil

from segmodel.safety.graph_file import GRAPH_FILE, read_graphs
from tests.end_to_end.conftest import write_images


def test_an_unsafe_model_leaves_no_run_directory(tmp_path, beamseg, brightness_savedmodel):
    model = shutil.copytree(brightness_savedmodel, tmp_path / "land")
    graphs = read_graphs(model)
    spy = graphs.meta_graphs[0].graph_def.node.add()
    spy.name, spy.op = "spy", "ReadFile"
    (model / GRAPH_FILE).write_bytes(graphs.SerializeToString())
    write_images(tmp_path / "photos", 2)
    words = ["segment", "--input=photos", f"--model={model}", "--output=run"]

    done = beamseg(*words)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "beamseg: land has operations that are not allowed: ReadFile reads or writes files: load "
        "it only if you trust whoever made it, with --trust_model\n"
    )
    assert not (tmp_path / "run").exists()
    assert beamseg(*words, "--trust_model").returncode == 0
