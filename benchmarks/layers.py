"""What do polygons of large label maps cost, beside GDAL's of the whole?

    python benchmarks/layers.py --sides 10000,60000

Label maps are traced by the units of `beamseg layers --polygons`: `rows` are those of the scene, as
Parquet for the next units, and `parquet`, `gpkg` and `fgb` end with a file of that kind for people.
`gdal` is `rasterio.features.shapes`, the C function of gdal_polygonize, on the whole. Each in a
process of its own: time, that of processors by megapixel, and peak memory above its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path

import comparison
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from pipelines.formats.work import Work
from pipelines.layers.maps import LabelMap, LabelMaps
from pipelines.layers.stages import DoStageUnit, StageWork, has_failures, prepare_stage
from pipelines.layers.tracing.file_stages import PolygonFiles, first_of_systems
from pipelines.layers.tracing.stages import Tracing
from pipelines.run import plan
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import InputFile, WorkUnit
from segmodel.errors import counted
from segmodel.rasters.grid import Grid
from segmodel.savedmodel.memory import peak_bytes

PATTERN_PX, SMOOTH_PX, CLASSES = 2000, 20, 5


def write_labels(path: Path, side: int) -> None:
    """A square label map: patches of classes, the same pattern over and over."""
    random = np.random.default_rng(0)
    fields = [
        gaussian_filter(random.standard_normal((PATTERN_PX, PATTERN_PX)), SMOOTH_PX, mode="wrap")
        for _ in range(CLASSES)
    ]
    pattern = np.argmax(fields, axis=0).astype(np.uint8)
    speckles = random.random(pattern.shape) < 1.3e-4
    pattern[speckles] = (pattern[speckles] + 1) % CLASSES
    across = np.tile(pattern, (1, -(-side // PATTERN_PX)))[:, :side]
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_000_000, 1, 1)}
    with rasterio.open(path, "w", nodata=255, zlevel=1, bigtiff="IF_SAFER", **profile) as target:
        for row in range(0, side, 512):
            rows = (row + np.arange(min(512, side - row))) % PATTERN_PX
            target.write(across[rows], 1, window=Window(0, row, side, len(rows)))


class OneMap(LabelMaps):
    """What stages ask for of the label maps of a run, of which there is one."""

    def __init__(self, work: Work, found: LabelMap) -> None:
        self.work, self.digest, self._maps = work, "", [found]


def trace(path: str, processes: int, kinds: Sequence[str] = ()) -> None:
    """Do all units of the stages that trace a label map, and of those that write files of it."""
    root = tempfile.mkdtemp(dir=Path(path).parent)
    labels = {"window_px": 1024, "halo_px": 0, "batch": 1}
    document = {"model": comparison.CONTRACT.to_json(), "labels": labels, "sealed": True}
    with rasterio.open(path) as source:
        grid = Grid(source.height, source.width, source.transform, source.crs)
    file = InputFile(path, "in", "scene.tif", os.path.getsize(path), "0" * 64)
    found = LabelMap(file, None, grid, comparison.CONTRACT.classes)
    maps, tracing = OneMap(Work.of_run(RunDirectory(root), document), found), Tracing()
    files = PolygonFiles("polygons", tracing)
    stages = [*tracing.stages(maps), *files.stages(kinds, maps, first_of_systems(maps))]
    shapes = {stage.name: "" for stage in stages}
    with ProcessPoolExecutor(processes) if processes > 1 else nullcontext() as pool:
        for stage in stages:
            work = StageWork(f"{root}/layers", stage.name, maps.work, None, "", shapes)
            prepare_stage(stage, work)
            units = plan.read_units(work.run.plan, WorkUnit)
            do_unit = partial(DoStageUnit(stage.action), work=work)
            for report in (pool.map if pool else map)(do_unit, units):
                assert report.done
            assert not has_failures(work)


def whole(path: str, processes: int) -> None:
    """Trace a label map with GDAL."""
    from rasterio import features

    with rasterio.open(path) as source:
        count = sum(1 for _ in features.shapes(rasterio.band(source, 1)))
    assert count


FILES = ("parquet", "gpkg", "fgb")
QUESTIONS: dict[str, Callable[[str, int], None]] = {
    "rows": trace,
    **{kind: partial(trace, kinds=(kind,)) for kind in FILES},
    "gdal": whole,
}


def measure(question: str, path: Path, processes: int) -> list[float]:
    """Seconds, those of processors, and bytes above the imports, in a process of its own."""
    found: list[float] = comparison.in_process(__file__, question, path, processes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="10000,60000", help="of the label maps, in pixels")
    parser.add_argument("--workers", default="1,2", help="processes for units")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peak:
        question, path, processes = parsed.peak
        # What is imported late is imported by then.
        QUESTIONS[question](str(Path(path).with_name("small.tif")), 1)
        before, started, began = peak_bytes(), time.perf_counter(), os.times()
        QUESTIONS[question](path, int(processes))
        used = sum(now - then for now, then in zip(os.times()[:4], began[:4], strict=True))
        print(json.dumps([time.perf_counter() - started, used, peak_bytes() - before]))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        write_labels(Path(folder) / "small.tif", 256)
        for side in map(int, parsed.sides.split(",")):
            path = Path(folder) / f"{side}.tif"
            write_labels(path, side)
            workers = [int(number) for number in parsed.workers.split(",")]
            for question, processes in [*product(("rows", *FILES), workers), ("gdal", 1)]:
                seconds, used, above = measure(question, path, processes)
                print(
                    f"{side} x {side}, {question}, {counted(processes, 'worker')}: "
                    f"{seconds:.1f} s, of processors {used / side**2 * 1e9:.1f} ms/Mpx, "
                    f"{above / 2**20:.0f} MiB above the imports",
                    flush=True,
                )


if __name__ == "__main__":
    main()
