"""How much of the Earth is ocean, land and lake?

Builds a scene from NASA's Blue Marble, segments it with the model in the package, and compares
the ground area of each class with GSHHG's. Longitudes 60 W to 0 and 60 E to 120 E were held out
of training; a second table says how the model does there. Then it draws a sample of the map, has
GSHHG label it in the place of people, and prints the areas that the sample gives, with intervals.

Examples:
  beamseg demo
  beamseg demo --samples samples          # a model and small inputs of every kind
  beamseg segment --input samples/scenes --model samples/model --output runs/first
  beamseg demo --training_data earth      # pairs and configuration, to train the model again
  beamseg train --config earth/train.toml --output earth/run
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pipelines.cli.options import Option, add_options, parse_options
from pipelines.cli.parser import Parser, parse
from pipelines.storage import locations

MODEL = "model"


@dataclass(frozen=True)
class DemoOptions:
    """What the user asked for; each field is declared with its option."""

    output: str = Option("DIR", default="demo").field()
    """folder for all that is made"""
    samples: str | None = Option("DIR").field()
    """write the model and small inputs of every kind to try the other commands on: scenes, photos
    with masks, shards, an area of interest and districts; then stop"""
    training_data: str | None = Option("DIR").field()
    """write the pairs that the model was trained on, and its configuration, and stop"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg demo", doc=__doc__)
    add_options(command, DemoOptions)
    return command


def package_folder() -> Path:
    """Where the demo's model and configuration are."""
    with resources.as_file(resources.files("pipelines.earth")) as folder:
        return folder


def run(arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    options = parse_options(DemoOptions, parsed)

    from segmodel.devices.disks import room, writing

    folder = options.samples or options.training_data or options.output
    locations.check_local_output(folder)
    with writing(folder):
        os.makedirs(folder, exist_ok=True)
    with room(folder):
        if options.samples:
            return _write_samples(Path(options.samples))
        if options.training_data:
            return _write_training_data(Path(options.training_data))
        return _measure_earth(Path(options.output))


def _write_samples(folder: Path) -> int:
    from pipelines.earth import samples

    samples.write_samples(folder, package_folder())
    print(
        f"made: {folder}/model, scenes, photos, masks, shards, area.geojson, districts.geojson "
        f"and train.toml: beamseg segment --input {folder}/scenes --model {folder}/model "
        "--output runs/first"
    )
    return 0


def _write_training_data(folder: Path) -> int:
    from pipelines.earth import imagery

    files = list(imagery.write_training_data(folder))
    config = folder / "train.toml"
    config.write_bytes((package_folder() / "train.toml").read_bytes())
    print(f"{len(files)} images and masks and {config}: beamseg train --config {config}")
    return 0


def _measure_earth(folder: Path) -> int:
    from pipelines.commands import segment
    from pipelines.earth import imagery, picture, sampling, tables

    scene, run_folder = folder / "earth.tif", folder / "run"
    print(f"Blue Marble to {scene}", flush=True)
    imagery.write_globe(scene)
    model = str(package_folder() / MODEL)
    words = [f"--input={scene}", f"--model={model}", f"--output={run_folder}", "--overwrite"]
    print(f"beamseg segment {words[0]} --model=(the package's) {words[2]} {words[3]}", flush=True)
    status = segment.run(words)
    if status:
        return status
    label_map = run_folder / "labels" / folder.resolve().name / "earth.tif"
    labels = tables.read_labels(label_map)
    measured = tables.read_totals(run_folder / "areas.csv")
    print("\nThe Earth, by ground area on the WGS 84 ellipsoid:\n")
    print("\n".join(tables.whole_earth(measured)))
    print("\nLongitudes 60 W to 0 and 60 E to 120 E, held out of training:\n")
    print("\n".join(tables.held_out(labels)))
    points = f"{sum(sampling.POINTS.values()):,} points that GSHHG labelled"
    print(f"\nThe Earth, estimated from a sample of the map, {points}:\n", flush=True)
    print("\n".join(tables.estimated(sampling.assess_map(run_folder, folder / "sample"))))
    classes, image = imagery.CLASSES, folder / "earth.png"
    captions = {name: f"{measured[name] / 1e12:.2f} million sq km" for name in classes.names}
    picture.draw_picture(image, imagery.read_image(), labels, classes, captions)
    print(f"\nmade: label map {label_map}, table {run_folder}/areas.csv, picture {image}")
    return 0
