"""What do planning and ending take, of how many units, by how many workers?

    python benchmarks/scale.py launch --units 10000,100000
    python benchmarks/scale.py ending --units 10000,100000,1000000 --workers 1,2,4 --folder FOLDER

launch   of a run that is finished: inputs are listed, checked and planned again, and compared with
         the plan and the commit records that are there; in one process, whatever workers there are
ending   of the same run: workers find out that nothing is left to do, and add up all records

Units are TFRecord shards of one image of 16 x 16 pixels. One is labelled; records and outputs of
the others are forged after it. Each measurement is a process of its own: seconds of a clock and of
processors, those of its workers among them, and the peak of its memory without theirs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from comparison import in_process
from PIL import Image
from records import export_cheap, write_shard

from pipelines.commands import segment
from pipelines.run import plan
from pipelines.run.commits import Output
from pipelines.run.plan import WorkUnit
from pipelines.runners.execute import pipeline_options
from pipelines.segment.graph import run_segment
from pipelines.segment.launch import PreparedRun, check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from segmodel.savedmodel.memory import peak_bytes

QUESTIONS = ("launch", "ending")
# Of a folder of inputs; of a file system that counts the links of a file.
FILES_OF_FOLDER, LINKS = 1000, 50_000


def options_of(folder: Path, units: int) -> SegmentOptions:
    """Options of the run of so many units below a folder."""
    return SegmentOptions(
        (str(folder / f"in-{units}"),), str(folder / "model"), str(folder / f"run-{units}")
    )


def prepared(options: SegmentOptions) -> PreparedRun:
    return prepare_run(check_run(options))


def forge(folder: Path, units: int) -> None:
    """Make a finished run of so many units, unless it is there."""
    forged_already = folder / f"forged-{units}"
    if forged_already.exists():
        return
    for number in (1, units):
        shutil.rmtree(folder / f"in-{number}", ignore_errors=True)
        shutil.rmtree(options_of(folder, number).output, ignore_errors=True)
        write_inputs(folder, number)
    one = options_of(folder, 1)
    words = ("--input", *one.inputs, "--model", one.model, "--output", one.output)
    assert segment.run(words) == 0
    work = prepared(one).work
    (unit,) = plan.read_units(work.run.plan, WorkUnit)
    commit = work.log.read(unit)
    assert commit is not None
    new = prepared(options_of(folder, units)).work
    for number, forged in enumerate(plan.read_units(new.run.plan, WorkUnit)):
        outputs = [
            output_like(output, unit, forged, Path(one.output), Path(new.run.root), number)
            for output in commit.outputs
        ]
        record = replace(
            commit, unit=forged.id, digest=new.log.digest(forged), outputs=tuple(outputs)
        )
        Path(new.log.path(forged)).parent.mkdir(exist_ok=True)
        Path(new.log.path(forged)).write_bytes(record.to_bytes())
    forged_already.touch()


def write_inputs(folder: Path, units: int) -> None:
    """Write shards, which are links to a few."""
    image = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(image, "JPEG")
    for number in range(units):
        where = folder / f"in-{units}" / f"{number // FILES_OF_FOLDER:04d}"
        where.mkdir(parents=True, exist_ok=True)
        shard = where / f"{number % FILES_OF_FOLDER:03d}.tfrecord"
        if number % LINKS == 0:
            first = shard
            write_shard(first, [image.getvalue()], 1)
        else:
            os.link(first, shard)


def output_like(
    output: Output, unit: WorkUnit, forged: WorkUnit, source: Path, run: Path, number: int
) -> Output:
    """An output of a unit, as one of another unit."""
    path = output.path.replace(unit.id, forged.id)
    if output.path.startswith("labels/"):
        path = output.path.replace(unit.files[0].key, forged.files[0].key)
    target = run / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shared = source / "shared" / f"{number // LINKS}" / output.path
    if not shared.exists():
        shared.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / output.path, shared)
    os.link(shared, target)
    return replace(output, path=path)


def measure(question: str, folder: Path, units: int, workers: int) -> dict[str, float]:
    """Seconds of a clock and of processors, and bytes at the peak; in a process of its own."""
    options = options_of(folder, units)
    words = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    beam_options = pipeline_options(words if workers > 1 else [])
    run = prepared(options) if question == "ending" else None
    started, before = time.perf_counter(), os.times()
    if run is None:
        prepared(options)
    else:
        run_segment(run, options, beam_options)
    used = sum(os.times()[:4]) - sum(before[:4])
    return {"s": time.perf_counter() - started, "cpu_s": used, "peak": peak_bytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", default=QUESTIONS, metavar="question")
    parser.add_argument("--units", default="10000,100000,1000000", help="how many, fewest first")
    parser.add_argument("--workers", default="1,2,4", help="how many, fewest first")
    parser.add_argument("--folder", help="folder of the forged runs, which are kept")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peak:
        question, folder, units, workers = parsed.peak
        print(json.dumps(measure(question, Path(folder), int(units), int(workers))))
        return
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(parsed.folder or made)
        if not (folder / "model").exists():
            export_cheap(folder / "model")
        for units in map(int, parsed.units.split(",")):
            forge(folder, units)
            for question in parsed.questions:
                first = None
                counts = parsed.workers if question == "ending" else "1"
                for workers in map(int, counts.split(",")):
                    found = in_process(__file__, question, folder, units, workers)
                    first = first or found["s"]
                    print(
                        f"{question}: {units:,} units, {workers} workers: {found['s']:.1f} s, "
                        f"{found['cpu_s']:.1f} s of processors, {found['peak'] / 2**20:.0f} MiB; "
                        f"{first / found['s']:.2f} times as fast as with the fewest workers"
                    )


if __name__ == "__main__":
    main()
