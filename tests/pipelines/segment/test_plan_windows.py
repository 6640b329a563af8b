"""What the measurement of a model says of windows is told where they are chosen."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from pipelines.commands.inspect import describe_halo
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.folder import read_contract, write_contract
from segmodel.tiling.borders import BorderCurve
from tests.fakes import contract
from tests.pipelines.corpus import pixels, write_scene

# A core of 512 pixels with a halo of 32 loses a tenth of a percent in its outermost ring.
CURVE = BorderCurve(32, (0.1, 0.001 * 512**2 / (512**2 - 448**2), 0.0))
HALO = MeasuredHalo(64, 512, 1.0, CURVE)


@pytest.mark.parametrize(
    ("curve", "ending"),
    [
        (
            CURVE,
            "1.129 pixels computed per pixel kept, 99.90 % of labels as untiled by the samples",
        ),
        (None, "1.129 pixels computed per pixel kept"),
    ],
)
def test_a_plan_says_how_many_labels_its_windows_keep(tmp_path, model_folder, curve, ending):
    model = tmp_path / "curved"
    shutil.copytree(model_folder, model)
    write_contract(replace(read_contract(model), halo=replace(HALO, curve=curve)), model)
    write_scene(tmp_path / "in" / "a.tif", pixels(1024, 1024))
    paths = (str(tmp_path / "in"),), str(model), str(tmp_path / "run")
    (line,) = (
        line
        for line in report(SegmentOptions(*paths, window=512, halo=32))
        if line.startswith("windows")
    )
    assert line.startswith("windows   4, cores of up to 512 px with a halo of 32 px: ")
    assert line.split(": ")[1].removesuffix(" of the model") == ending


def test_the_halo_of_large_windows_is_told_where_it_is_another():
    told = "halo 64 px (measured: 100.00 % of labels as untiled, cores of 512 px)"
    assert describe_halo(contract(halo=HALO)) == f"{told}, 32 px for cores of 2048 px"
    assert describe_halo(contract(halo=replace(HALO, curve=None))) == told
