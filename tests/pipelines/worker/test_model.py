"""A worker process has one model, on one GPU, with batches that memory holds."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.formats.work import Work
from pipelines.results import verify_units
from pipelines.run.attempts import UnitReport
from pipelines.run.commits import Commit
from pipelines.run.plan import WorkUnit
from pipelines.run.seals import sealed, unsealed
from pipelines.storage.copies import open_model
from pipelines.worker import model as model_module
from pipelines.worker.model import claim, gpu_name, max_batch_pixels, one_gpu
from pipelines.worker.unit import segment_unit
from segmodel.devices import compute, gpus
from segmodel.errors import ConfigurationError
from segmodel.savedmodel.folder import fingerprint
from segmodel.tiling.windows import AUTO, Layout
from tests.fake_gpus import FakeConfig, FakeDriver, gpu
from tests.fakes import BrightnessModel, contract
from tests.pipelines.corpus import (
    make_work,
    pixels,
    png,
    record,
    run_unit,
    sum_commits,
    tree,
    units_in,
    write,
    write_shard,
)

GIB = 2**30


class Greedy(BrightnessModel):
    """Has memory for so many windows; keeps the sizes of all calls."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.tried: list[int] = []
        self.compute: str | None = None

    def labels(self, images):
        self.tried.append(len(images))
        if len(images) > self.room:
            raise MemoryError
        return super().labels(images)


@pytest.fixture
def loads(monkeypatch) -> list[Greedy]:
    """Models that this process has loaded; each has memory for two windows."""
    found: list[Greedy] = []

    def load(path, trust, kind):
        found.append(Greedy(2))
        found[-1].compute = kind
        return found[-1]

    monkeypatch.setattr(model_module.MODELS, "loaded", {})
    monkeypatch.setattr("segmodel.savedmodel.predictor.Predictor.load", load)
    monkeypatch.setattr(model_module, "check_model_unchanged", lambda work, opened: None)
    monkeypatch.setattr(model_module, "gpu_of_process", lambda: None)
    return found


def with_gpu(monkeypatch, driver: FakeDriver, number: int = 0) -> None:
    """Have this process use a GPU of a fake driver."""
    monkeypatch.setattr(model_module, "gpu_of_process", lambda: number)
    monkeypatch.setattr(gpus, "driver", lambda: driver)
    monkeypatch.setattr(model_module, "free_device_bytes", lambda: gpus.free_bytes(number))


def shards(folder: Path, count: int, images: int = 4) -> Path:
    for number in range(count):
        values = [pixels(64, 64, 100 * number + n) for n in range(images)]
        write_shard(folder / f"{number}.tfrecord", [record(entry) for entry in values])
    return folder


def commits(work: Work) -> list[dict]:
    paths = sorted((Path(work.run.root) / "commits").iterdir())
    return [unsealed(path.read_bytes())[0] for path in paths]


def label_files(work: Work) -> dict[str, bytes]:
    files = tree(work.run.root).items()
    return {name: content for name, content in files if name.startswith("labels/")}


def test_many_threads_that_segment_units_share_one_model(tmp_path, loads):
    work = make_work(tmp_path / "run")
    units = units_in(work, shards(tmp_path / "in", 12, 1))
    begin = threading.Barrier(12)

    def segment(unit: WorkUnit) -> UnitReport:
        begin.wait(30)
        return segment_unit(unit, work)

    with ThreadPoolExecutor(12) as pool:
        reports = list(pool.map(segment, units, timeout=60))
    assert reports == [UnitReport(done=1, computed_pixels=64 * 64)] * 12
    assert len(loads) == 1
    assert len(loads[0].tried) == 12


def test_the_model_of_another_run_is_dropped_before_the_next_is_loaded(tmp_path, loads):
    one = make_work(tmp_path / "one")
    other = make_work(tmp_path / "other", fingerprint="e" * 64)
    (unit,) = units_in(one, shards(tmp_path / "in", 1))
    units_in(other, tmp_path / "in")
    assert segment_unit(unit, one).done == 1
    gone = weakref.ref(loads.pop())
    assert segment_unit(unit, other).done == 1
    gc.collect()
    assert gone() is None
    assert list(model_module.MODELS.loaded) == [("e" * 64, None)]


def test_a_model_is_loaded_anew_for_another_compute_type(tmp_path, loads):
    one, other = make_work(tmp_path / "one"), make_work(tmp_path / "other", compute="tf32")
    (unit,) = units_in(one, shards(tmp_path / "in", 1))
    units_in(other, tmp_path / "in")
    for work in (one, other, other):
        segment_unit(unit, work)
    assert [model.compute for model in loads] == [None, "tf32"]


def test_a_worker_without_the_compute_type_fails_and_commits_nothing(
    tmp_path, monkeypatch, brightness_savedmodel
):
    monkeypatch.setattr(compute, "cpu_flags", frozenset)
    monkeypatch.setattr(model_module.MODELS, "loaded", {})
    found = fingerprint(brightness_savedmodel)
    fields = {"model": str(brightness_savedmodel), "fingerprint": found, "compute": "bfloat16"}
    work = make_work(tmp_path / "run", **fields)
    (unit,) = units_in(work, shards(tmp_path / "in", 1))
    with pytest.raises(ConfigurationError, match="--compute bfloat16: the CPU needs"):
        segment_unit(unit, work)
    assert not (tmp_path / "run/commits").exists()


def test_a_smaller_batch_is_remembered_by_the_process_and_stands_in_each_record(tmp_path, loads):
    work = make_work(tmp_path / "run", layout=Layout(64, 0, 32, batch=8))
    for unit in units_in(work, shards(tmp_path / "in", 3)):
        assert segment_unit(unit, work).done == 1
    assert loads[0].tried == [8, 4, 2, 2, 2, 2, 2, 2]
    assert [commit["smaller_batches"] for commit in commits(work)] == [{"64x64": 2}] * 3
    assert sum_commits(work).smaller_batches == 3


@pytest.mark.parametrize("by_launcher", [True, False])
def test_a_process_looks_at_a_model_once(by_launcher, tmp_path, brightness_savedmodel, monkeypatch):
    looked: list[str] = []
    for name in ("check", "loading"):
        monkeypatch.setattr(f"segmodel.safety.{name}.refuse_unsafe", looked.append)
    models = model_module.LoadedModels()
    monkeypatch.setattr(model_module, "MODELS", models)
    monkeypatch.setattr(model_module, "gpu_of_process", lambda: None)
    opened = open_model(str(brightness_savedmodel))
    if by_launcher:
        models.check(opened)
    models.load(make_work(tmp_path, model=opened.uri, fingerprint=opened.fingerprint))
    models.check(opened)
    assert looked == [opened.folder]


# TensorFlow waits ten seconds for memory before it gives up.
def test_memory_that_runs_out_in_tensorflow_ends_in_a_record_that_says_so(
    tmp_path, greedy_savedmodel, monkeypatch
):
    monkeypatch.setattr(model_module.MODELS, "loaded", {})
    work = make_work(
        tmp_path / "run",
        model=str(greedy_savedmodel),
        fingerprint=fingerprint(greedy_savedmodel),
        layout=Layout(64, 0, 32, batch=4),
    )
    for unit in units_in(work, shards(tmp_path / "in", 2)):
        assert segment_unit(unit, work).done == 1
    assert [commit["smaller_batches"] for commit in commits(work)] == [{"64x64": 2}] * 2
    enough = make_work(tmp_path / "enough")
    for unit in units_in(enough, tmp_path / "in"):
        run_unit(unit, enough)
    assert label_files(work) == label_files(enough)


def test_labels_and_tables_are_those_of_a_run_that_had_the_memory(tmp_path):
    folder = shards(tmp_path / "in", 2)
    write(folder / "a.png", png(pixels(100, 70, 9)))
    works = [make_work(tmp_path / name) for name in ("short", "enough")]
    for work, room in zip(works, (1, 2), strict=True):
        for unit in units_in(work, folder):
            assert run_unit(unit, work, Greedy(room)).done == 1
    short, enough = works
    assert label_files(short) == label_files(enough)
    assert sum_commits(short).tally == sum_commits(enough).tally
    assert (sum_commits(short).smaller_batches, sum_commits(enough).smaller_batches) == (3, 0)
    for record_short, record_enough in zip(commits(short), commits(enough), strict=True):
        assert set(record_short.pop("smaller_batches").values()) == {1}
        assert record_short == record_enough


def test_a_record_says_nothing_of_batches_that_were_as_the_run_has_them(tmp_path):
    work = make_work(tmp_path / "run")
    (unit,) = units_in(work, shards(tmp_path / "in", 1))
    run_unit(unit, work)
    content = Path(work.log.path(unit)).read_bytes()
    assert b"smaller_batches" not in content
    commit = Commit.from_bytes(content)
    assert (commit.smaller_batches, commit.to_bytes()) == ({}, content)


def test_a_record_with_smaller_batches_is_read_as_it_was_written(tmp_path):
    work = make_work(tmp_path / "run")
    (unit,) = units_in(work, shards(tmp_path / "in", 1))
    run_unit(unit, work, Greedy(1))
    content = Path(work.log.path(unit)).read_bytes()
    assert Commit.from_bytes(content).smaller_batches == {"64x64": 1}
    assert Commit.from_bytes(content).to_bytes() == content
    record, _ = unsealed(content)
    for broken in ("many", None):
        record["smaller_batches"]["64x64"] = broken
        with pytest.raises(ValueError, match=r"invalid literal|not a commit record"):
            Commit.from_bytes(sealed(json.dumps(record)))


def test_a_unit_for_which_one_window_is_too_much_has_no_record(tmp_path, work, loads):
    (unit,) = units_in(work, shards(tmp_path / "in", 1))
    assert run_unit(unit, work, Greedy(0)) == UnitReport(incomplete=1)
    assert not work.log.is_done(unit)
    assert run_unit(unit, work, Greedy(2)).done == 1


AUTOMATIC = Layout(window_px=64, halo_px=0, stride_px=32, batch=AUTO)


def test_automatic_batches_follow_from_free_memory_of_the_gpu(tmp_path, monkeypatch):
    work = make_work(
        tmp_path / "run", layout=AUTOMATIC, contract=replace(contract(), bytes_per_pixel=1000)
    )
    with_gpu(monkeypatch, FakeDriver([bytes(16)] * 2, [GIB, 25 * 64**2 * 1000]), number=1)
    assert max_batch_pixels(work) == 20 * 64**2
    (unit,) = units_in(work, shards(tmp_path / "in", 1, images=20))
    model = Greedy(99)
    assert run_unit(unit, work, model).done == 1
    # As many as have four megapixels would be 64.
    assert model.tried == [16, 16]
    (commit,) = commits(work)
    assert commit["smaller_batches"] == {"64x64": 16}


def test_automatic_batches_that_are_still_too_large_are_halved(tmp_path, monkeypatch):
    work = make_work(tmp_path / "run", layout=AUTOMATIC)
    with_gpu(monkeypatch, FakeDriver([bytes(16)], [80 * GIB]))
    (unit,) = units_in(work, shards(tmp_path / "in", 1, images=20))
    model = Greedy(20)
    assert run_unit(unit, work, model).done == 1
    assert model.tried == [64, 32, 16, 16]


def test_automatic_batches_are_tried_where_the_driver_does_not_tell(tmp_path, monkeypatch):
    work = make_work(tmp_path / "run", layout=AUTOMATIC)
    with_gpu(monkeypatch, FakeDriver([bytes(16)], [GIB], failing="cuMemGetInfo"))
    assert max_batch_pixels(work) is None


def test_automatic_batches_without_gpu_have_the_pixels_that_memory_was_planned_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(model_module, "gpu_of_process", lambda: None)
    work = make_work(tmp_path / "run", layout=AUTOMATIC)
    assert max_batch_pixels(work) == 512**2


def test_a_batch_that_was_asked_for_is_tried_whatever_is_free(tmp_path, monkeypatch):
    with_gpu(monkeypatch, FakeDriver([bytes(16)], [1]))
    for batch in (None, 16):
        layout = replace(AUTOMATIC, batch=batch)
        assert max_batch_pixels(make_work(tmp_path / "run", layout=layout)) is None


def test_a_process_claims_a_gpu_and_tensorflow_sees_no_other(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(gpus, "driver", lambda: FakeDriver([bytes(16), b"\1" * 16], [1, 1]))
    configs = [FakeConfig([gpu(0), gpu(1)]) for _ in range(2)]
    assert [one_gpu(config, str(tmp_path)) for config in configs] == [0, 1]
    assert [config.visible for config in configs] == [[gpu(0)], [gpu(1)]]
    assert caplog.messages == []
    third = FakeConfig([gpu(0), gpu(1)])
    assert one_gpu(third, str(tmp_path)) == 0
    (message,) = caplog.messages
    assert message.startswith(
        "this process shares a GPU with 1 other worker processes: all 2 GPUs are taken"
    )
    assert "--sdk_worker_parallelism" in message


def test_a_process_without_gpus_uses_the_cpu(tmp_path, caplog):
    assert one_gpu(FakeConfig([]), str(tmp_path)) is None
    assert (list(tmp_path.iterdir()), caplog.messages) == ([], [])


def test_what_the_user_has_put_out_of_sight_is_not_claimed(tmp_path):
    config = FakeConfig([gpu(0), gpu(1)])
    config.set_visible_devices([gpu(1)], "GPU")
    assert one_gpu(config, str(tmp_path)) == 1


def test_tensorflow_that_was_started_before_keeps_its_gpus_and_claims_none(tmp_path, caplog):
    config = FakeConfig([gpu(0), gpu(1)], started=True)
    assert one_gpu(config, str(tmp_path)) == 0
    assert config.visible == [gpu(0), gpu(1)]
    (message,) = caplog.messages
    assert message.startswith("TensorFlow was started before the first work unit")
    assert claim([gpu_name(0, None)], str(tmp_path)).others == 0


def test_a_gpu_that_cannot_be_locked_is_used_all_the_same(tmp_path, caplog):
    config = FakeConfig([gpu(0), gpu(1)])
    assert one_gpu(config, str(tmp_path / "missing")) == 0
    assert config.visible == [gpu(0)]
    assert "shares a GPU with other processes" in caplog.text


def test_processes_that_number_gpus_in_other_ways_mean_the_same_ones(tmp_path, monkeypatch):
    uuids = [bytes([n] * 16) for n in range(2)]
    monkeypatch.setattr(gpus, "driver", lambda: FakeDriver(uuids, [1, 1]))
    assert one_gpu(FakeConfig([gpu(0), gpu(1)]), str(tmp_path)) == 0
    # A process that sees the second one alone, as its first.
    monkeypatch.setattr(gpus, "driver", lambda: FakeDriver(uuids[1:], [1]))
    alone = FakeConfig([gpu(0)])
    assert one_gpu(alone, str(tmp_path), visible="1") == 0
    assert claim([uuids[1].hex()], str(tmp_path)).others == 1


def test_without_a_driver_gpus_are_called_as_the_environment_calls_them(monkeypatch):
    monkeypatch.setattr(gpus, "driver", lambda: None)
    assert [gpu_name(n, None) for n in (0, 3)] == ["0", "3"]
    assert [gpu_name(n, "3, MIG-7") for n in (0, 1)] == ["3", "MIG-7"]
    assert gpu_name(0, "") == "0"


def test_this_machine_is_asked_without_a_fault():
    number = model_module.gpu_of_process()
    free = model_module.free_device_bytes()
    assert (number is None) == (free is None)


def test_verify_believes_records_with_smaller_batches(tmp_path):
    work = make_work(tmp_path / "run")
    (unit,) = units_in(work, shards(tmp_path / "in", 1))
    run_unit(unit, work, Greedy(1))
    checked = verify_units.check_unit(unit, work.log, is_assembled=False)
    assert (checked.findings, checked.commit.smaller_batches) == ((), {"64x64": 1})
