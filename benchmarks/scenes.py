"""What do size, windows and overlap of scenes cost? Ratios, each measured in one run.

    python benchmarks/scenes.py --model MODEL network
    python benchmarks/scenes.py growth --sides 10000,60000 --stored tiles
    python benchmarks/scenes.py rate --run RUN --side 8192

growth   a model that costs nothing on scenes of two sizes: time of a megapixel, and peak memory of
         a process above that of its imports
cog      a label map as a Cloud Optimized GeoTIFF, from blocks of 4,096 pixels: time of processors
         and of a clock, against a tiled GeoTIFF that the COG driver of GDAL copies
network  a SavedModel: megapixels a second of a scene through the whole command's units, against
         the same network on the whole array in one piece, and against a plain loop over windows of
         512 pixels that overlap by half; computed pixels for each one kept; share of labels that
         equal untiled ones

rate     the network of a training run, exported anew: megapixels a second of a scene through all
         units, with reading, areas and the label map, against the plain Keras function of a quarter
         of the scene, untiled and in memory

The scene of `network` and `rate` is made of the images in a folder, or made up. Its side is a
multiple of 64; for `network` it fits in memory untiled.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import comparison
import numpy as np
import rasterio
import rasterio.shutil
from comparison import in_process, medians, pictures, print_report, timed, use_model
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipelines.rasters.cog import write_label_cog
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.worker import unit as work
from pipelines.worker.model import MODELS
from segmodel.rasters.grid import Grid
from segmodel.rasters.opening import gdal_window
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.folder import fingerprint
from segmodel.savedmodel.memory import peak_bytes
from segmodel.tiling.seams import border_tiles
from segmodel.tiling.windows import Window as Area

REPEATS = 3
ROWS = 2048
CONTRACT = replace(comparison.CONTRACT, halo=MeasuredHalo(64, 512, None), bytes_per_pixel=100)


class FreeModel:
    """Labels by comparing one band with a number, as fast as numpy can."""

    classes = CONTRACT.classes
    fill = CONTRACT.fill

    def labels(self, images: np.ndarray) -> np.ndarray:
        return (images[..., 0] > 127).astype(np.uint8)


def write_scene(path: Path, side: int, stored: str, rows_of: Callable[[int, int], np.ndarray]):
    """Write a square scene, some rows at a time."""
    form = (
        {"tiled": True, "blockxsize": 512, "blockysize": 512}
        if stored == "tiles"
        else {"blockysize": 16}
    )
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000 - side / 2, 5_000_000, 1, 1)}
    size = {"height": side, "width": side, "count": 3, "dtype": "uint8"}
    packed = {"compress": "deflate", "zlevel": 1, "bigtiff": "IF_SAFER", "interleave": "pixel"}
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **packed, **form) as target:
        for row in range(0, side, ROWS):
            values = rows_of(row, min(ROWS, side - row))
            target.write(np.moveaxis(values, -1, 0), window=Window(0, row, side, len(values)))
    return path


def patches(side: int) -> Callable[[int, int], np.ndarray]:
    """Rows of a scene of flat patches, which packs well."""

    def rows_of(row: int, count: int) -> np.ndarray:
        y, x = np.ogrid[row : row + count, :side]
        band = ((x // 64) % 16 * 12 + (y // 64) % 8 * 8).astype(np.uint8)
        return np.dstack([band, band // 2, 255 - band])

    return rows_of


def growth(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    sides = [int(side) for side in parsed.sides.split(",")]
    found = {}
    for side in sides:
        scene = write_scene(folder / f"{side}.tif", side, parsed.stored, patches(side))
        found[side] = in_process(__file__, scene, folder / f"run-{side}")
        seconds, above, peak = found[side]
        yield (
            f"growth: {side} x {side} in {parsed.stored}: {seconds:.1f} s, "
            f"{side * side / 1e6 / seconds:.1f} Mpx/s, {above / 2**20:.0f} MiB above the imports, "
            f"{peak / 2**20:.0f} MiB in all"
        )
    small, large = found[sides[0]], found[sides[-1]]
    times = (large[0] / sides[-1] ** 2) / (small[0] / sides[0] ** 2)
    yield f"growth: time of a pixel, ratio {times:.3f} (at most 1.05)"
    yield f"growth: memory above the imports, ratio {large[1] / small[1]:.3f} (at most 1.1)"


def print_peak(scene: str, run: str) -> None:
    """Seconds of a whole run, memory above that of the imports, and in all; as JSON."""
    # What the command imports in any case.
    for name in (
        "apache_beam",
        "tensorflow",
        "pipelines.runners.execute",
        "segmodel.savedmodel.predictor",
    ):
        importlib.import_module(name)
    from pipelines.runners.execute import pipeline_options
    from pipelines.segment.graph import run_segment

    model = Path(run).with_name(f"{Path(run).name}-model")
    comparison.write_model(model, CONTRACT)
    MODELS.safe.add(fingerprint(str(model)))
    before = peak_bytes()
    options = SegmentOptions((scene,), str(model), run)
    started = time.perf_counter()
    prepared = prepare_run(check_run(options))
    use_model(prepared.work, FreeModel())
    run_segment(prepared, options, pipeline_options([]))
    seconds = time.perf_counter() - started
    assert json.loads(Path(run, "summary.json").read_text())["exit_status"] == 0
    print(json.dumps([seconds, peak_bytes() - before, peak_bytes()]))


def network(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(parsed.model)
    values = pictures(parsed.images, parsed.side)
    scene = write_scene(
        folder / "scene.tif", parsed.side, "tiles", lambda row, rows: values[row : row + rows]
    )
    runs = iter(range(10**6))
    labels = {}

    def untiled() -> float:
        started = time.perf_counter()
        labels["untiled"] = predictor.labels(values[None])[0]
        return time.perf_counter() - started

    def tiled() -> float:
        run = folder / f"run-{next(runs)}"
        options = SegmentOptions((str(scene),), parsed.model, str(run), memory=parsed.memory << 20)
        launch = prepare_run(check_run(options))
        use_model(launch.work, predictor)
        started = time.perf_counter()
        labels["layout"], labels["estimate"] = launch.work.layout, launch.estimate
        finish(launch.work)
        taken = time.perf_counter() - started
        with rasterio.open(run / "labels" / folder.name / "scene.tif") as source:
            labels["tiled"] = source.read(1)
        return taken

    def plain_loop() -> float:
        started = time.perf_counter()
        for row in range(0, parsed.side - 256, 256):
            for column in range(0, parsed.side - 256, 256):
                predictor.labels(values[None, row : row + 512, column : column + 512])
        return time.perf_counter() - started

    found = medians({"untiled": untiled, "tiled": tiled, "plain loop": plain_loop}, REPEATS)
    for name, seconds in found.items():
        yield f"network: {name}: {parsed.side**2 / 1e6 / seconds:.3f} Mpx/s"
    yield f"network: tiled against untiled {found['untiled'] / found['tiled']:.3f}"
    yield f"network: tiled against the plain loop {found['plain loop'] / found['tiled']:.3f}"
    yield from equal_labels(labels)


def rate(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    from segmodel.networks.network import NetworkConfig, build_network
    from segmodel.savedmodel.export import export_savedmodel
    from segmodel.savedmodel.folder import read_contract
    from segmodel.savedmodel.predictor import Predictor

    run, model = Path(parsed.run), str(folder / "model")
    trained = json.loads((run / "configuration.json").read_text())["model"]
    contract = read_contract(run / "model")
    kind = {"variant": trained["variant"], "backbone": trained["backbone"]}
    network = build_network(NetworkConfig(len(contract.classes.ids), **kind))
    network.load_weights(run / "best.weights.h5")
    export_savedmodel(network, contract, model)
    predictor, plain = Predictor.load(model), comparison.plain_function(network)
    values = pictures(parsed.images, parsed.side)
    scene = write_scene(
        folder / "scene.tif", parsed.side, "tiles", lambda row, rows: values[row : row + rows]
    )
    part = np.ascontiguousarray(values[None, : parsed.side // 2, : parsed.side // 2])

    def segment() -> None:
        options = SegmentOptions((str(scene),), model, str(folder / "run"), overwrite=True)
        launch = prepare_run(check_run(options))
        use_model(launch.work, predictor)
        finish(launch.work)

    pixels = {"Keras": part.size // 3, "segment": values.size // 3}
    sides = {"Keras": lambda: plain(part), "segment": segment}
    for call in sides.values():
        # What is compiled once is no part of it.
        call()
    for what, clock in (("time", time.perf_counter), ("processors", time.process_time)):
        taken = medians({name: timed(call, clock) for name, call in sides.items()}, 5)
        rates = {name: pixels[name] / 1e6 / seconds for name, seconds in taken.items()}
        yield (
            f"rate: {parsed.side} x {parsed.side}, Mpx a second of {what}: Keras "
            f"{rates['Keras']:.2f}, segment {rates['segment']:.2f}, ratio "
            f"{rates['segment'] / rates['Keras']:.3f} (at least 1.15)"
        )


def finish(whole: object) -> None:
    """Do all units of a plan, and put the scene together."""
    from pipelines.run import plan

    for unit in plan.read_units(whole.run.plan, plan.WorkUnit):
        work.segment_unit(unit, whole)
    for unit in plan.read_units(whole.run.plan, plan.AssemblyUnit):
        finish_scene(unit, whole)


def cog(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Both sides write the same bytes where overviews are by GDAL's rule."""
    side, classes = parsed.side, CONTRACT.classes
    labels = pictures(parsed.images, side)[..., 0] // 52
    place = from_origin(500_000, 5_000_000, 1, 1)
    grid = Grid(side, side, place, rasterio.crs.CRS.from_epsg(32633))
    ours, gdal, draft = (str(folder / f"{name}.tif") for name in ("ours", "gdal", "draft"))

    def blocks() -> Iterator[tuple[Area, np.ndarray]]:
        for block in Area(0, 0, side, side).subdivide(4096, 4096):
            yield block, labels[block.slices]

    def copied() -> None:
        packed = {"compress": "deflate", "tiled": True, "blockxsize": 512, "blockysize": 512}
        size = {"height": side, "width": side, "count": 1, "dtype": "uint8"}
        where = {"crs": grid.crs, "transform": place, "nodata": classes.nodata}
        with rasterio.open(draft, "w", "GTiff", **size, **packed, **where, zlevel=1) as target:
            for block, values in blocks():
                target.write(values, 1, window=gdal_window(block))
        with rasterio.open(draft) as source:
            options = {"compress": "deflate", "level": 6, "overview_resampling": "mode"}
            rasterio.shutil.copy(source, gdal, driver="COG", **options)

    sides = {"ours": lambda: write_label_cog(ours, grid, blocks(), classes, {}), "gdal": copied}
    for name, clock in (("processors", time.process_time), ("a clock", time.perf_counter)):
        found = medians({key: timed(write, clock) for key, write in sides.items()}, 5)
        yield (
            f"cog: {side} x {side}, seconds of {name}: ours {found['ours']:.2f}, "
            f"GDAL {found['gdal']:.2f}, ratio {found['ours'] / found['gdal']:.3f}"
        )


def equal_labels(labels: dict) -> Iterator[str]:
    """Share of equal labels, everywhere and near borders of windows."""
    layout, estimate = labels["layout"], labels["estimate"]
    yield (
        f"network: windows of up to {layout.window_px} px, halo {layout.aligned_halo_px} px, "
        f"{estimate.computed / estimate.pixels:.3f} pixels computed per pixel kept"
    )
    equal = labels["tiled"] == labels["untiled"]
    whole = Area(0, 0, *equal.shape)
    near = np.zeros(equal.shape, bool)
    for tile in border_tiles(whole, whole, layout):
        near[tile.core.slices] = True
    yield f"network: labels equal to untiled ones: {equal.mean():.5f}"
    if near.any():
        yield f"network: the same within a halo of borders: {equal[near].mean():.5f}"


QUESTIONS = {"growth": growth, "cog": cog, "network": network, "rate": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", choices=QUESTIONS)
    parser.add_argument("--sides", default="10000,60000", help="of the scenes of growth, in pixels")
    parser.add_argument("--stored", default="tiles", choices=("tiles", "strips"))
    parser.add_argument("--model", help="SavedModel folder with a contract, for network")
    parser.add_argument("--run", help="folder of a training run, for rate")
    parser.add_argument(
        "--side",
        type=int,
        default=2560,
        help="of scenes of network and rate, and the map of cog",
    )
    parser.add_argument("--memory", type=int, default=4096, help="--memory of network in MiB")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files; default: made up")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peak:
        print_peak(*parsed.peak)
        return
    needed = {"network": parsed.model, "rate": parsed.run}.get(parsed.question, parsed.question)
    if not needed:
        parser.error("name a question; for network a --model, for rate a --run")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print_report(partial(QUESTIONS[parsed.question], parsed))


if __name__ == "__main__":
    main()
