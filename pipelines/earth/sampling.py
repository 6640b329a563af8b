"""A sample of the demo's map that GSHHG labels in the place of people."""

import csv
import shutil
from pathlib import Path

from pipelines.accuracy.assess_run import assess_run, write_assessment
from pipelines.accuracy.assessment import Assessment
from pipelines.accuracy.sample import sample_run
from pipelines.accuracy.sample_options import SampleOptions
from pipelines.earth import imagery
from segmodel.evaluation.intervals import WILSON

# Enough points where the rare class may be missed, and where the map has it.
POINTS = {"ocean": 600, "land": 1000, "lake": 200}


def assess_map(run: Path, folder: Path) -> Assessment:
    """Draw a sample, have it labelled, and estimate the areas; an earlier sample is replaced.

    Args:
        run: Run directory of the demo.
        folder: Folder of the sample.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sample_run(
        str(run),
        SampleOptions(
            output=str(folder),
            total=sum(POINTS.values()),
            allocation=tuple(POINTS.items()),
            # Nobody looks at chips here.
            chip_px=0,
        ),
    )
    table, design = folder / "sample.csv", str(folder / "design.json")
    fill_in(table)
    assessment = assess_run(str(run), str(table), design, WILSON, drop_missing=False)
    write_assessment(str(folder), assessment, {"design": design, "labelled": str(table)})
    return assessment


def fill_in(table: Path) -> None:
    """Write the class that GSHHG has at each point into the table of a sample.

    Args:
        table: `sample.csv`, which is replaced.
    """
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with table.open("w", encoding="utf-8", newline="") as stream:
        filled = csv.DictWriter(stream, rows[0], lineterminator="\n")
        filled.writeheader()
        for row in rows:
            seen = imagery.class_at(float(row["lon"]), float(row["lat"]))
            filled.writerow(row | {"class": seen})
