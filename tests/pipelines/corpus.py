"""Small images, shards and scenes with known pixels, and runs over them without an engine."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from pipelines.cli.values import FailureBudget
from pipelines.formats import example
from pipelines.formats.interface import Format
from pipelines.formats.tfrecord import frame, read_records
from pipelines.formats.work import PlanContext, ReadOptions, Work
from pipelines.inputs.find import list_inputs
from pipelines.results.part_sums import sum_plan
from pipelines.results.totals import Totals, finish_run
from pipelines.run import plan
from pipelines.run.attempts import UnitReport
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.run.seals import unsealed
from pipelines.scenes import blocks
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.inputs import sorted_inputs, units_of
from pipelines.segment.launch import PreparedRun, check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.unfinished import forget_counts, unfinished_units
from pipelines.worker.unit import segment_unit
from segmodel.engine.engine import MemoryLimits
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import write_contract
from segmodel.tiling.windows import Layout
from tests.fakes import BrightnessModel, contract

UTM = ("EPSG:32633", Affine(10, 0, 300000, 0, -10, 6_000_000))
DEGREES = ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 50))


def pixels(height: int, width: int, seed: int = 0, bands: int = 3) -> np.ndarray:
    """`(height, width, bands)` uint8 in which all three classes occur in patches and pixels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 226, (-(-height // 16), -(-width // 16), 1))
    smooth = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]
    return (smooth + random.integers(0, 30, (height, width, bands))).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    return encoded(values, "PNG")


def encoded(values: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    grey = values.ndim == 3 and values.shape[2] == 1
    Image.fromarray(values[..., 0] if grey else values).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    """Content with one bit changed."""
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def without_seals(root: Path, *marks: str) -> None:
    """Make a run or a pack one of 0.1.0: without seals, and without marks in its `run.json`."""
    documents = {
        name: unsealed((root / name).read_bytes())[0] for name in ("run.json", "summary.json")
    }
    for mark in ("sealed", *marks):
        del documents["run.json"][mark]
    documents["summary.json"].pop("files", None)
    for name, document in documents.items():
        (root / name).write_text(json.dumps(document, indent=2) + "\n")
    for path in (root / "commits").iterdir():
        path.write_text(json.dumps(unsealed(path.read_bytes())[0], indent=1) + "\n")
    for path in (root / "plan").glob("*.jsonl"):
        lines = [unsealed(line)[0] for line in path.read_bytes().splitlines(keepends=True)]
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    for name in ("run.json", "parts.json"):
        (root / "plan" / name).unlink()


def make_files(folder: Path, *files: str) -> Path:
    """Files below a folder with their names as content."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def record(values: np.ndarray, name: str | None = None) -> bytes:
    """A serialized example with one image."""
    named = {} if name is None else {"image/filename": name.encode()}
    return example.serialize_example({"image/encoded": png(values), **named})


def write_shard(path: Path, records: Iterable[bytes]) -> Path:
    content = b"".join(frame(data) for data in records)
    return write(path, gzip.compress(content) if path.suffix.lower() == ".gz" else content)


def read_shard(path: Path) -> list[dict[str, list]]:
    """Features of each record; fails on a broken shard."""
    content = path.read_bytes()
    plain = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    records = list(read_records(io.BytesIO(plain), 1 << 30))
    assert all(isinstance(entry, bytes) for entry in records), records
    return [example.parse_example(entry) for entry in records]


def write_scene(path: Path, values: np.ndarray, place=UTM, mask=None, **profile) -> Path:
    """A GeoTIFF of `(height, width, bands)` values, in strips unless the profile says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    crs, transform = place
    height, width, bands = values.shape
    fields = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": bands,
        "dtype": values.dtype.name,
        "crs": crs,
        "transform": transform,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **(fields | profile)) as target,
    ):
        target.write(np.moveaxis(values, -1, 0))
        if mask is not None:
            target.write_mask(mask)
    return path


def spoil_strip(path: Path, strip: int, band: int = 1) -> None:
    """Overwrite the bytes of one strip of a compressed GeoTIFF, so that it cannot be decoded."""
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item(f"BLOCK_OFFSET_0_{strip}", "TIFF", bidx=band))
        size = int(source.get_tag_item(f"BLOCK_SIZE_0_{strip}", "TIFF", bidx=band))
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * size)


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def read_band(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(band)


def make_work(root: Path, **changes) -> Work:
    """What the units of a run under `root` have in common; the model is the brightness fake."""
    fields = {
        "run": RunDirectory(str(root)),
        "model": "no-model",
        "fingerprint": "f" * 64,
        "contract": contract(),
        "layout": Layout(64, 0, 32, batch=2),
        "options": "0123456789abcdef",
        "confidence": False,
        "pixel_size_m": None,
        "reading": ReadOptions(),
        "limits": MemoryLimits(),
        "groups": 1,
        "trust_model": False,
        "provenance": (("BEAMSEG_VERSION", "test"),),
    }
    root.mkdir(parents=True, exist_ok=True)
    return Work(**(fields | changes))


def plan_context(
    made: Contract | None = None,
    reading: ReadOptions = ReadOptions(),  # noqa: B008  # a frozen value
    layout: Layout = Layout(64, 0, 32),  # noqa: B008
) -> PlanContext:
    """What input files are checked and estimated by."""
    return PlanContext(contract=made or contract(), layout=layout, reading=reading)


def small_blocks(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Have scenes cut into square blocks of so many pixels, also those stored in strips."""
    monkeypatch.setattr(blocks, "BLOCK_PX", side)
    monkeypatch.setattr(blocks, "WIDE_BLOCK_PIXELS", 0)


def files_in(*patterns: Path | str) -> list[InputFile]:
    return list(list_inputs([str(pattern) for pattern in patterns], output="no-run"))


def units_in(work: Work, *patterns: Path | str) -> list[Unit]:
    """Units of all input files, and their plan on disk."""
    found = list_inputs([str(pattern) for pattern in patterns], output="no-run")
    units = list(units_of(sorted_inputs(found, work.headers), work))
    plan.write_plan(units, work.run.plan, work.run.scratch)
    return units


def check_inputs(form: Format, files: Sequence[InputFile], context: PlanContext) -> None:
    """Refuse files, as a run does that has no others."""
    form.check(files, context)
    misfit = form.misfit(files, context)
    if misfit is not None:
        raise misfit


def run_unit(unit: Unit, work: Work, model: object | None = None) -> UnitReport:
    chosen = model or BrightnessModel()
    return segment_unit(unit, work, model=lambda work: chosen)


def run_all(work: Work, *patterns: Path | str) -> Totals:
    """Do all units and scenes, as the pipeline does without an engine."""
    units = units_in(work, *patterns)
    for unit in units:
        if isinstance(unit, WorkUnit):
            run_unit(unit, work)
    for unit in units:
        if isinstance(unit, AssemblyUnit):
            finish_scene(unit, work)
    return sum_commits(work)


def begun(options: SegmentOptions) -> Work:
    """A run of which it is known what is left to do, as the pipeline finds out."""
    launched = prepare_run(check_run(options))
    find_unfinished(launched, options.retry_failures)
    return launched.work


def find_unfinished(launched: PreparedRun, retry_failures: bool = False) -> None:
    """Look for what is left to do, as the pipeline does without an engine."""
    for part in launched.parts:
        for _ in unfinished_units(part, launched.work, retry_failures):
            pass
    forget_counts(launched.work)


def sum_commits(work: Work) -> Totals:
    """What all commit records of a plan add up to."""
    return Totals.of(sum_plan(work), work)


def finish(work: Work, budget: FailureBudget, counts: dict[str, Any]) -> int:
    """The end of a run, as the pipeline makes it without an engine."""
    return finish_run(work, budget, counts, sum_plan(work))


def dying(*arguments) -> bytes:
    """Stands for any function in which a process dies."""
    raise KeyError("died")


def failure_rows(work: Work) -> list[dict]:
    """All rows of the failures files, in order of files and lines."""
    return failure_rows_in(work.run.root)


def failure_rows_in(run: Path | str) -> list[dict]:
    """The same of a run directory."""
    paths = sorted((Path(run) / "failures").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def tree(root: Path | str) -> dict[str, bytes]:
    """Content of every file below a folder, by its path."""
    folder = Path(root)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_model_folder(path: Path, **changes) -> Path:
    """What the launcher reads of a SavedModel: a graph file, never loaded, and the contract."""
    write(path / "saved_model.pb", b"not a graph")
    write_contract(replace(contract(), **changes), path)
    return path


def photos(root: Path, count: int = 3) -> Path:
    """A folder of PNG files, each of another height."""
    for number in range(count):
        write(root / "photos" / f"{number}.png", png(pixels(40 + number, 50, number)))
    return root / "photos"
