"""What do halos cost on a large scene, and how many of its labels equal untiled ones?

    python benchmarks/windows.py MODEL MODEL --images FOLDER --side 8192 --memory 4096

Each SavedModel labels a scene twice by `beamseg segment`, in processes of their own: with the
windows and the halo that follow from its contract and `--memory`, and, for labels that do not
depend on windows, with a halo of half its receptive field. Told are the pixels computed for each
one kept, the share of equal labels, and the peak memory of the process beside `--memory`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from comparison import pictures, print_report
from scenes import write_scene

from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import read_contract
from segmodel.tiling.windows import Layout, Window, computed_pixels

# Parameters of a layout by their names in `run.json`.
SIZES = "window_px", "halo_px", "batch", "rectangular"
COMMAND = "import sys; from pipelines.commands.main import main; sys.exit(main())"


def segment(scene: Path, model: str, run: Path, *options: str) -> float:
    """Run the command, and return the peak memory of its process in MiB."""
    words = "--input", scene, "--model", model, "--output", run, *options
    command = [sys.executable, "-c", COMMAND, "segment", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as started:
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"{model}: the command ended with status {started.returncode}")
    return usage.ru_maxrss / 1024


def labels_of(scene: Path, run: Path) -> np.ndarray:
    """The label map of a run of one scene."""
    with rasterio.open(run / "labels" / scene.parent.name / scene.name) as source:
        return source.read(1)


def layout_of(run: Path, contract: Contract) -> Layout:
    """The sizes of windows that a run was made with."""
    sizes = json.loads((run / "run.json").read_text())["labels"]
    return Layout(stride_px=contract.stride, **{name: sizes[name] for name in SIZES})


def report(parsed: argparse.Namespace, folder: Path) -> Iterator[str]:
    """One line a model."""
    values = pictures(parsed.images, parsed.side)
    scene = write_scene(
        folder / "scene.tif", parsed.side, "tiles", lambda row, rows: values[row : row + rows]
    )
    whole = Window(0, 0, parsed.side, parsed.side)
    for number, model in enumerate(parsed.models):
        contract = read_contract(model)
        runs = folder / f"run-{number}", folder / f"whole-{number}"
        peak = segment(scene, model, runs[0], "--memory", f"{parsed.memory}M")
        halo = str(-(-contract.receptive_field // 2))
        segment(scene, model, runs[1], "--halo", halo, "--memory", f"{parsed.whole_memory}M")
        layout = layout_of(runs[0], contract)
        equal = np.mean(labels_of(scene, runs[0]) == labels_of(scene, runs[1]))
        yield (
            f"{model}: windows of up to {layout.window_px} px, halo {layout.halo_px} px, "
            f"{computed_pixels(whole, whole, layout) / whole.pixels:.3f} pixels computed per pixel "
            f"kept, {equal:.5f} of labels equal, peak {peak:,.0f} MiB of {parsed.memory:,}"
        )


def main() -> None:
    """Measure models one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="SavedModels of known receptive field")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files; default: made up")
    parser.add_argument("--side", type=int, default=8192, help="of the scene, in pixels")
    parser.add_argument("--memory", type=int, default=4096, help="--memory in MiB")
    parser.add_argument(
        "--whole_memory", type=int, default=8192, help="--memory of the wider halo in MiB"
    )
    parsed = parser.parse_args()
    print_report(partial(report, parsed))


if __name__ == "__main__":
    main()
