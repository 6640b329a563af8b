"""Processes of a machine take different GPUs, and a GPU whose process ends is free at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipelines.worker.model import MAX_SHARING, claim, lock_name

GPUS = ["GPU-a", "GPU-b", "GPU-c"]


def work_with_a_gpu(gpus: list[str], folder: str, begin, told: Connection) -> None:
    """A worker process: claims, tells what it got, and works until it is killed or told to end."""
    begin.wait(60)
    got = claim(gpus, folder)
    told.send(None if got is None else (got.place, got.others))
    told.recv()


@contextmanager
def workers(count: int, folder: Path, gpus: list[str]):
    """So many processes that claim at the same time; with what each of them got."""
    # Not forked, as workers of engines are not either; and this process has threads.
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(count)
    pipes = [spawn.Pipe() for _ in range(count)]
    processes = [
        spawn.Process(target=work_with_a_gpu, args=(gpus, str(folder), begin, theirs), daemon=True)
        for _, theirs in pipes
    ]
    for process in processes:
        process.start()
    try:
        got = []
        for ours, _ in pipes:
            assert ours.poll(60), "a worker said nothing"
            got.append(ours.recv())
        yield processes, got
    finally:
        for (ours, _), process in zip(pipes, processes, strict=True):
            ours.send("end")
            process.join(30)


def test_processes_that_start_together_take_different_gpus(tmp_path):
    with workers(3, tmp_path, GPUS) as (_, got):
        assert sorted(got) == [(0, 0), (1, 0), (2, 0)]


def test_more_processes_than_gpus_are_spread_evenly(tmp_path):
    with workers(4, tmp_path, GPUS[:2]) as (_, got):
        assert Counter(place for place, _ in got) == {0: 2, 1: 2}
        assert sorted(others for _, others in got) == [0, 0, 1, 1]


def test_the_gpu_of_a_killed_process_is_free_at_once(tmp_path):
    with workers(2, tmp_path, GPUS[:2]) as (processes, got):
        dead = got.index((1, 0))
        os.kill(processes[dead].pid, signal.SIGKILL)
        processes[dead].join(30)
        assert processes[dead].exitcode == -signal.SIGKILL
        again = claim(GPUS[:2], str(tmp_path))
        assert (again.place, again.others) == (1, 0)
        again.give_up()


def test_a_gpu_that_is_given_up_is_free_and_its_file_stays(tmp_path):
    first = claim(GPUS, str(tmp_path))
    assert (first.place, first.others) == (0, 0)
    assert claim(GPUS, str(tmp_path)).place == 1
    first.give_up()
    assert claim(GPUS, str(tmp_path)).place == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [lock_name("GPU-a", 0), lock_name("GPU-b", 0)]


def test_processes_that_see_other_gpus_do_not_meet(tmp_path):
    assert claim(["GPU-a"], str(tmp_path)).others == 0
    assert claim(["GPU-b"], str(tmp_path)).others == 0
    assert claim(["GPU-b", "GPU-a"], str(tmp_path)).others == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_a_lock_that_another_user_keeps_is_taken(tmp_path):
    (tmp_path / lock_name("GPU-a", 0)).touch(0o000)
    assert claim(["GPU-a", "GPU-b"], str(tmp_path)).place == 1


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / lock_name("GPU-a", 0)).symlink_to(target)
    assert claim(["GPU-a", "GPU-b"], str(tmp_path)).place == 1
    assert target.read_text() == "data"


def test_where_nothing_can_be_locked_nothing_is_claimed(tmp_path):
    assert claim(GPUS, str(tmp_path / "missing")) is None
    assert claim([], str(tmp_path)) is None
    held = [claim(["GPU-a"], str(tmp_path)) for _ in range(MAX_SHARING)]
    assert [entry.others for entry in held] == list(range(MAX_SHARING))
    assert claim(["GPU-a"], str(tmp_path)) is None
    for entry in held:
        entry.give_up()
    assert claim(["GPU-a"], str(tmp_path)).others == 0
