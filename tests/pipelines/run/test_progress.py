"""Progress: what is done of a run, as the launcher sees it."""

from __future__ import annotations

import threading

from pipelines.run import progress
from pipelines.run.progress import Watch
from tests.pipelines.corpus import write


def watch(folder, total_pixels: int = 1000, units: int = 4) -> Watch:
    return Watch(total_pixels, units, str(folder), progress._pixels)


def commit(folder, count: int) -> None:
    for number in range(count):
        write(folder / f"{number}.json", b"{}")


def test_pixels_of_this_process_count_from_the_beginning_of_the_run(tmp_path):
    progress.add_pixels(77)
    watched = watch(tmp_path)
    assert watched.pixels_done() == 0
    progress.add_pixels(5)
    progress.add_pixels(6)
    assert watched.pixels_done() == 11


def test_pixels_of_workers_elsewhere_are_estimated_from_commit_records(tmp_path):
    commit(tmp_path, 3)
    assert watch(tmp_path).pixels_done() == 750


def test_units_done_are_never_more_than_units_of_the_plan(tmp_path):
    commit(tmp_path, 6)
    assert watch(tmp_path).units_done() == 4
    assert watch(tmp_path).pixels_done() == 1000


def test_nothing_is_done_before_the_folder_of_commits_is_there(tmp_path):
    assert watch(tmp_path / "missing").units_done() == 0
    assert watch(tmp_path / "missing", units=0).pixels_done() == 0


def test_pixels_are_counted_from_any_thread():
    before = progress._pixels
    threads = [
        threading.Thread(target=lambda: [progress.add_pixels(1) for _ in range(1000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress._pixels - before == 8000


def test_a_line_tells_pixels_rate_time_left_and_units(tmp_path):
    commit(tmp_path, 1)
    watched = watch(tmp_path, total_pixels=400_000_000)
    actual = progress.line(watched, seconds=10.0)
    expected = "segment: 100.0 Mpx of about 400.0 Mpx, 10.00 Mpx/s, about 0 min left, 1 of 4 units"
    assert actual == expected


def test_a_line_at_the_start_promises_nothing(tmp_path):
    expected = "segment: 0 pixels of about 1,000 pixels, 0.00 Mpx/s, 0 of 4 units"
    assert progress.line(watch(tmp_path), seconds=0.0) == expected


def test_a_log_gets_lines_and_the_thread_ends_with_the_block(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.01)
    before = threading.active_count()
    with progress.progress_bar(2_000_000, 2, str(tmp_path)):
        progress.add_pixels(1_000_000)
        threading.Event().wait(0.2)
    assert threading.active_count() == before
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("segment: ") for line in lines)
    assert "1.0 Mpx of about 2.0 Mpx" in lines[-1]


def test_the_thread_ends_after_an_exception_too(tmp_path):
    before = threading.active_count()
    try:
        with progress.progress_bar(1, 1, str(tmp_path)):
            raise KeyError("stop")
    except KeyError:
        pass
    assert threading.active_count() == before


def test_a_terminal_gets_a_bar_that_ends_at_what_was_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress_bar(10_000_000, 1, str(tmp_path)):
        progress.add_pixels(2_000_000)
    text = capsys.readouterr().err
    assert "segment: 100%" in text
    assert "2.00M/2.00M" in text


class Clock:
    """Stands for `time`: each look at it is so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._now = seconds, 100.0

    def monotonic(self) -> float:
        self._now += self._seconds
        return self._now


def test_what_takes_long_before_the_work_is_told_every_few_seconds(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(seconds=0.5))
    lines = progress.ProgressLines("listed {:,} files")
    for _ in range(25):
        lines.add(250)
    with_progress = capsys.readouterr().err.splitlines()
    assert with_progress == ["listed 2,500 files", "listed 5,000 files"]


def test_what_is_told_of_goes_on_as_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(seconds=1))
    assert list(progress.with_progress("abcdefg", "planned {:,} units")) == list("abcdefg")
    assert capsys.readouterr().err == "planned 5 units\n"


def test_nothing_is_told_of_what_is_quick(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(seconds=0.0001))
    lines = progress.ProgressLines("listed {:,} files")
    for _ in range(10):
        lines.add(1000)
    assert capsys.readouterr().err == ""
