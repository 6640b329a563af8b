"""Models that would do harm are refused, before TensorFlow runs anything of them."""

from __future__ import annotations

import os
import shutil

import pytest

from segmodel.errors import ContractError, ExportError

tf = pytest.importorskip("tensorflow")

from segmodel.safety.check import refuse_unsafe  # noqa: E402
from segmodel.safety.loading import load_savedmodel  # noqa: E402
from tests.segmodel.safety.hostile_models import (  # noqa: E402
    HOSTILE,
    WRITTEN,
    Hostile,
    build,
)


@pytest.fixture
def make(base, base_v1, tmp_path):
    """Returns a function that writes a hostile model, whole, beside which nothing was written."""

    def hostile_model(hostile: Hostile):
        folder = shutil.copytree(base_v1 if hostile.is_v1 else base, tmp_path / "model")
        graphs = folder / "saved_model.pb"
        graphs.write_bytes(build(hostile, graphs.read_bytes()))
        return folder

    return hostile_model


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: ascii(one.name[:60]))
def test_a_model_that_does_harm_is_refused(hostile, make):
    with pytest.raises(ExportError, match=rf"^model .*{hostile.says}.* with --trust_model$"):
        refuse_unsafe(make(hostile))


DONE_ON_LOADING = (
    "writes in creator",
    "writes in initializer",
    "writes in saved_model_main_op",
    "writes in legacy_init_op",
    "writes in __saved_model_init_op",
)


@pytest.mark.parametrize("name", DONE_ON_LOADING)
def test_what_is_refused_is_done_when_the_model_is_trusted(name, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make(next(one for one in HOSTILE if one.name == name))
    with pytest.raises(ExportError):
        load_savedmodel(folder, trust=False)
    assert not (tmp_path / WRITTEN).exists()
    load_savedmodel(folder, trust=True)
    assert (tmp_path / WRITTEN).read_text() == "text"


def test_a_graph_of_too_many_nodes_is_refused(base, monkeypatch):
    monkeypatch.setattr("segmodel.safety.calls.MAX_NODES", 99)
    with pytest.raises(ExportError, match=r"has \d{3} nodes, and more than 99 are not read"):
        refuse_unsafe(base)


def link_out(folder):
    (folder / "variables" / "link").symlink_to("/etc/passwd")


def link_of_folder_out(folder):
    (folder / "link").symlink_to("/etc")


def graph_is_link_out(folder):
    graphs = folder / "saved_model.pb"
    graphs.rename(folder.parent / "elsewhere.pb")
    graphs.symlink_to(folder.parent / "elsewhere.pb")


def link_to_nothing(folder):
    (folder / "link").symlink_to(folder / "nothing")


def pipe(folder):
    os.mkfifo(folder / "variables" / "pipe")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (link_out, "a link that leads out of its folder, variables/link"),
        (link_of_folder_out, "a link that leads out of its folder, link"),
        (graph_is_link_out, "a link that leads out of its folder, saved_model.pb"),
        (link_to_nothing, "something in its folder that is no file, link"),
        (pipe, "something in its folder that is no file, variables/pipe"),
    ],
)
def test_a_folder_that_holds_more_than_files_of_its_own_is_refused(change, says, base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "model")
    change(folder)
    with pytest.raises(ExportError, match=says):
        refuse_unsafe(folder)


def test_links_within_the_folder_and_a_link_to_the_folder_are_no_fault(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "model")
    (folder / "saved_model.pb").rename(folder / "graphs")
    (folder / "saved_model.pb").symlink_to("graphs")
    (tmp_path / "link").symlink_to(folder)
    refuse_unsafe(tmp_path / "link")


def test_a_graph_as_text_is_never_read(base, tmp_path):
    (tmp_path / "saved_model.pbtxt").write_text("")
    with pytest.raises(ContractError, match=r"is not a SavedModel, a folder with saved_model\.pb"):
        load_savedmodel(tmp_path, trust=False)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("content", [b"\xff" * 99, b"", b"\x0a\x00"])
def test_a_damaged_file_of_graphs_is_an_error_of_one_line(content, trust, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ContractError, match=r"is damaged|cannot be loaded|no graph") as raised:
        load_savedmodel(tmp_path, trust)
    assert "\n" not in str(raised.value)
