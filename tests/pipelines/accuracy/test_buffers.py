"""The pass that counts a buffer: in units, which are done once, by any number of workers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipelines.accuracy import buffers
from pipelines.accuracy.buffers import Buffer, BufferWork, count_block, prepare_pass
from pipelines.commands import sample as command
from pipelines.results.verify import open_run
from pipelines.run import plan
from pipelines.run.plan import Prepared, WorkUnit
from pipelines.scenes.finished import run_digest_of
from segmodel.errors import ConfigurationError, InputError, TransientError
from tests.end_to_end.conftest import files_of
from tests.fakes import BRIGHT
from tests.pipelines.corpus import pixels, small_blocks, write_model_folder, write_scene
from tests.pipelines.counted_scenes import parts_of
from tests.pipelines.scene_runs import run_scenes

WORDS = ["--buffer_px", "2", "--buffer_class", "bright", "--total", "60", "--chip_px", "0"]
BUFFER = Buffer(BRIGHT, 2)
RECORDS = "sample/.beamseg/commits"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over two scenes that share ground, of four blocks each; not to be changed."""
    folder = tmp_path_factory.mktemp("buffered")
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, 64)
        inputs, _ = parts_of(folder, [(0, 0), (40, 30)])
        model = write_model_folder(folder / "model")
        return run_scenes(folder / "run", model, inputs, overlap="first").root


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the run."""
    small_blocks(monkeypatch, 64)
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """Keys of the scenes of which a block is counted, a block each; grows."""
    keys: list[str] = []
    inner = buffers.named_label_map

    def named(file):
        keys.append(file.key)
        return inner(file)

    monkeypatch.setattr(buffers, "named_label_map", named)
    return keys


def prepared(run: Path) -> Prepared[BufferWork]:
    work = open_run(str(run))
    digest = run_digest_of(work.run.read_run() or {}, work.log)
    return prepare_pass(work, str(run / "sample"), BUFFER, digest, by_zone=False)


def units_of(found: Prepared[BufferWork]) -> list[WorkUnit]:
    return list(plan.read_units(found.work.run.plan, WorkUnit))


def test_an_interrupted_pass_continues_to_the_same_bytes_and_reads_no_block_again(
    run, tmp_path, counted
):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert command.run([str(whole), *WORDS]) == 0
    blocks = len(counted)
    assert blocks == 8
    counted.clear()

    begun = prepared(run)
    for unit in units_of(begun)[1:3]:
        count_block(unit, begun.work)
    assert len(counted) == 2
    assert command.run([str(run), *WORDS]) == 0
    assert len(counted) == blocks
    assert files_of(run) == files_of(whole)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_number_of_workers_gives_the_same_bytes(run, finished, tmp_path, workers):
    plain = Path(shutil.copytree(finished, tmp_path / "plain"))
    command.run([str(plain), *WORDS])
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers", workers]
    command.run([str(run), *WORDS, *threads])
    assert files_of(run) == files_of(plain)


def test_added_points_and_the_same_command_again_count_nothing(run, counted):
    command.run([str(run), *WORDS])
    records = files_of(run / RECORDS)
    counted.clear()
    command.run([str(run), *WORDS])
    command.run([str(run), "--add", "30", "--chip_px", "0"])
    assert counted == []
    assert files_of(run / RECORDS) == records


def test_records_that_are_gone_or_damaged_are_counted_again(run, counted):
    command.run([str(run), *WORDS])
    before = files_of(run)
    first, second, *_ = sorted((run / RECORDS).iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes().replace(b"picked", b"packed"))
    counted.clear()
    command.run([str(run), *WORDS])
    assert len(counted) == 2
    assert files_of(run) == before


def test_records_of_another_map_are_not_believed(run, tmp_path, counted):
    begun = prepared(run)
    for unit in units_of(begun)[:2]:
        count_block(unit, begun.work)
    old = files_of(run / RECORDS)
    counted.clear()
    inputs, model = tmp_path / "in", write_model_folder(tmp_path / "model")
    write_scene(inputs / "a.tif", pixels(64, 64, seed=9))
    other = run_scenes(tmp_path / "other", model, inputs).root
    shutil.copytree(run / "sample", other / "sample")
    command.run([str(other), *WORDS])
    assert counted == ["in/a.tif"]
    assert not {*old} & {*files_of(other / RECORDS)}


def test_another_buffer_begins_anew_but_never_in_the_folder_of_a_sample(run, counted):
    begun = prepared(run)
    count_block(units_of(begun)[0], begun.work)
    wider = ["--buffer_px", "3", *WORDS[2:]]
    command.run([str(run), *wider])
    assert len(counted) == 1 + len(units_of(begun))
    before = files_of(run)
    for words in (WORDS, ["--total", "60"]):
        with pytest.raises(ConfigurationError, match="holds another sample"):
            command.run([str(run), *words])
    assert files_of(run) == before


def test_a_block_that_a_pass_could_not_finish_asks_for_the_same_command(run, monkeypatch):
    def fail(*_):
        raise TransientError("the store is down")

    monkeypatch.setattr("pipelines.run.attempts.RETRY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Buffer, "read", fail)
        with pytest.raises(TransientError, match="not be counted: run the same command again"):
            command.run([str(run), *WORDS])
    assert command.run([str(run), *WORDS]) == 0


@pytest.mark.parametrize(
    ("name", "rest"),
    [("0.tif", ".*: run `beamseg verify` with --invalidate"), ("1.tif", "the scene")],
)
def test_a_label_map_that_is_gone_is_named(run, name, rest):
    gone = run / "labels" / "in" / name
    gone.unlink()
    with pytest.raises(InputError, match=rf"^labels/in/{re.escape(name)}: {rest}"):
        command.run([str(run), *WORDS])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--total", "60", "--runner=FnApiRunner"], "--runner=FnApiRunner is for the pass over"),
        ([*WORDS, "--no_wait_until_finish"], "sample waits for its end"),
        ([*WORDS, "--runner=FasterRunner"], "FasterRunner"),
    ],
)
def test_options_of_beam_that_do_not_fit_are_refused(run, words, message):
    with pytest.raises(ConfigurationError, match=message):
        command.run([str(run), *words])


def test_a_pass_over_a_run_in_a_store_keeps_its_records_there(run, client):
    command.run([str(run), *WORDS])
    client.put_all(run, "gs://bucket/run")
    for _ in range(2):
        command.run(["gs://bucket/run", *WORDS, "--output", "gs://bucket/sample"])
    for name, content in files_of(run / RECORDS).items():
        assert client.objects[f"gs://bucket/sample/.beamseg/commits/{name}"] == content
