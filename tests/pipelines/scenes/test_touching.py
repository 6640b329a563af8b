"""Areas of interest and zones that lie on no scene, and overlaps: what a person is told."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import shapely
from affine import Affine

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.touching import first_touched, with_axes_swapped
from pipelines.scenes.results import OUTSIDE, result_lines
from pipelines.segment import launch
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import UTM, pixels, without_seals, write_scene
from tests.pipelines.counted_scenes import box, lines, one_scene, to_ground
from tests.pipelines.scene_runs import run_scenes, write_polygons

PIXELS, FAR = (20, 30, 60, 70), (5000, 5000, 5100, 5100)
INSIDE, AWAY = box(*PIXELS), box(*FAR)


def aoi(tmp_path, part, crs=UTM[0], swapped=False):
    ground = to_ground(shapely.box(*part), crs)
    if swapped:
        ground = shapely.transform(ground, lambda points: points[:, ::-1])
    return write_polygons(tmp_path / "area.geojson", crs, [("area", ground)])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_area_of_interest_that_no_scene_touches_is_refused_before_any_work(
    tmp_path, model_folder, crs
):
    path, _ = one_scene(tmp_path)

    with pytest.raises(
        ConfigurationError,
        match=r"--aoi area.geojson covers no pixel of the scene in/a.tif: 'area' is at longitude "
        r"\d+\.\d+ .* check the file",
    ):
        run_scenes(tmp_path / "run", model_folder, path, aoi=aoi(tmp_path, FAR, crs))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_swapped_axes_of_an_area_of_interest_are_told(tmp_path, model_folder, crs):
    path, _ = one_scene(tmp_path)
    area = aoi(tmp_path, PIXELS, crs, swapped=True)

    with pytest.raises(ConfigurationError, match=r"with x and y swapped it would cover in/.*tif"):
        run_scenes(tmp_path / "run", model_folder, path, aoi=area)


def test_area_of_interest_that_one_of_two_scenes_touches_is_fine(tmp_path, model_folder):
    near, _ = one_scene(tmp_path)
    place = UTM[0], UTM[1] @ Affine.translation(9000, 0)
    far = write_scene(tmp_path / "in" / "0.tif", pixels(40, 50), place)

    run = run_scenes(tmp_path / "run", model_folder, far, near, aoi=aoi(tmp_path, PIXELS))

    assert run.status == 0
    assert sum(run.pixels[name] for name in ("dark", "middle", "bright")) > 0


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
@pytest.mark.parametrize("small", [(20.6, 30.6, 20.9, 30.9), (20.6, -5, 20.9, 0.4)])
def test_area_of_interest_between_pixel_centres_is_said_to_be_too_small(
    tmp_path, model_folder, small, crs
):
    near, _ = one_scene(tmp_path)
    place = UTM[0], UTM[1] @ Affine.translation(9000, 0)
    far = write_scene(tmp_path / "in" / "0.tif", pixels(40, 50), place)

    with pytest.raises(ConfigurationError) as caught:
        run_scenes(tmp_path / "run", model_folder, far, near, aoi=aoi(tmp_path, small, crs))
    assert str(caught.value) == (
        "--aoi area.geojson covers no pixel of the 2 scenes: it lies on in/a.tif, but the centre "
        "of no pixel is in it, and a pixel belongs to what its centre is in; draw it larger than a "
        "pixel"
    )


def test_area_of_interest_is_looked_for_in_the_scenes_that_a_limit_leaves(tmp_path, model_folder):
    near, _ = one_scene(tmp_path)
    place = UTM[0], UTM[1] @ Affine.translation(9000, 0)
    far = write_scene(tmp_path / "in" / "0.tif", pixels(40, 50), place)
    area = aoi(tmp_path, PIXELS)

    with pytest.raises(ConfigurationError, match=r"the scene in/0.tif: .*--limit"):
        run_scenes(tmp_path / "run", model_folder, far, near, aoi=area, limit=1)


def test_zones_without_a_pixel_keep_rows_of_zeros_and_are_told(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    named = [("a", INSIDE), ("far", AWAY), ("between", box(0.6, 0.6, 0.9, 0.9))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    assert run.status == 0
    assert run.zones()["far"] == run.zones()["between"] == {}
    assert run.zones()["a"] == lines(labels[30:70, 20:60])
    zeros = [row for row in run.rows("zones.csv") if row["zone"] == "far"]
    assert [row["class"] for row in zeros] == ["dark", "middle", "bright", "nodata"]
    assert {(row["pixels"], row["area_m2"], row["area_share"]) for row in zeros} == {
        ("0", "0.0", "")
    }
    assert run.summary["zones"] == {
        "zones": 3,
        "without_pixels": 2,
        "first_without_pixels": ["between", "far"],
    }
    assert list(result_lines(run.summary)) == [
        "zones without a pixel: 2 of 3 ('between', 'far'); their rows in zones.csv are zeros"
    ]
    assert run.verified()[1] == []


def test_zones_of_which_none_touches_a_scene_are_told_at_once(tmp_path, model_folder, caplog):
    path, _ = one_scene(tmp_path)
    ground = shapely.transform(
        to_ground(shapely.box(*PIXELS), "EPSG:4326"), lambda points: points[:, ::-1]
    )
    zones = write_polygons(tmp_path / "zones.geojson", "EPSG:4326", [("a", ground)])

    with caplog.at_level(logging.WARNING, "beamseg"):
        run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    assert run.status == 0
    assert "--zones zones.geojson covers no pixel of the scene in/a.tif" in caplog.text
    assert "with x and y swapped" in caplog.text
    assert run.zones()["a"] == {}
    assert sum(run.zones()[OUTSIDE].values()) == run.pixels["total"]


def test_tables_of_zones_and_overlaps_of_0_1_0_are_what_verify_expects(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    other = write_scene(tmp_path / "in" / "z.tif", pixels(80, 90))
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", INSIDE), ("far", AWAY)])
    run = run_scenes(tmp_path / "run", model_folder, path, other, zones=zones, overlap="first")
    without_seals(run.root)
    first, second = run.rows("overlaps.csv")
    table = run.root / "zones.csv"
    kept = [line for line in table.read_text().splitlines() if not line.startswith("far,")]

    table.write_text("\n".join([*kept, ""]))
    heading = ",".join(list(first)[:4])
    content = [heading, *(",".join(list(row.values())[:4]) for row in (first, second)), ""]
    (run.root / "overlaps.csv").write_text("\n".join(content))

    assert 0 < float(second["area_share"]) <= 1
    assert run.verified()[1] == []
    table.write_text("\n".join([*kept[:-1], ""]))
    assert [finding.path for finding in run.verified()[1]] == ["zones.csv"]


@pytest.mark.parametrize("rule", [None, "first"])
def test_overlap_that_is_counted_twice_is_told_at_the_end(tmp_path, model_folder, rule):
    path, _ = one_scene(tmp_path)
    other = write_scene(tmp_path / "in" / "z.tif", pixels(150, 130))

    run = run_scenes(tmp_path / "run", model_folder, path, other, overlap=rule)

    told = list(result_lines(run.summary))
    if rule is not None:
        assert told == []
        return
    (line,) = told
    assert line.endswith(
        "50.00% of the footprint, is shown by several scenes and counted in each: --overlap first "
        "or --overlap newest counts it once"
    )
    repeated = run.summary["overlap"]["repeated_m2"] / 1e6
    assert line.startswith(f"{repeated:,.2f} km² of ground, ")


def test_overlap_with_an_area_of_interest_is_said_to_be_of_whole_scenes(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    other = write_scene(tmp_path / "in" / "z.tif", pixels(150, 130))
    area = aoi(tmp_path, PIXELS)

    run = run_scenes(tmp_path / "run", model_folder, path, other, aoi=area)

    (line,) = result_lines(run.summary)
    assert line.partition(" of ground, ")[2] == (
        "50.00% of the footprint of whole scenes, is shown by several scenes and where it is in "
        "--aoi counted in each: --overlap first or --overlap newest counts it once"
    )
    paths = (str(path), str(other))
    options = SegmentOptions(paths, str(model_folder), str(tmp_path / "next"), window=64, aoi=area)
    assert any("50.00% of the ground of whole scenes, is counted" in one for one in report(options))


def test_nothing_is_told_where_scenes_share_no_ground(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    place = UTM[0], UTM[1] @ Affine.translation(130, 0)
    other = write_scene(tmp_path / "in" / "z.tif", pixels(150, 130), place)

    run = run_scenes(tmp_path / "run", model_folder, path, other)

    assert list(result_lines(run.summary)) == []


def test_numbered_zones_of_an_earlier_run_go_on_without_their_field(
    tmp_path, model_folder, monkeypatch
):
    path, _ = one_scene(tmp_path)
    text = (tmp_path / "z.geojson").write_text
    document = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", INSIDE)])
    text((tmp_path / "z.geojson").read_text().replace('"name": "a"', '"label": "a"'))
    asked = {"zones": document}
    with pytest.raises(ConfigurationError, match=r"--zone_field \(label\)"):
        run_scenes(tmp_path / "run", model_folder, path, **asked)
    with monkeypatch.context() as patch:  # as 0.1.0 did
        patch.setattr(launch, "read_zones", lambda path, *_: launch.read_polygons(path, "--zones"))
        first = run_scenes(tmp_path / "run", model_folder, path, **asked)

    second = run_scenes(tmp_path / "run", model_folder, path, **asked)

    assert first.zones() == second.zones()
    assert set(second.zones()) == {"0", OUTSIDE}
    assert second.model.batches == []
    options = SegmentOptions((str(path),), str(model_folder), str(tmp_path / "run"), **asked)
    assert launch.check_run(options).zones is not None


def area_at(lon: float, lat: float, size: float = 0.5) -> Polygons:
    shape = shapely.box(lon - size, lat - size, lon + size, lat + size)
    return Polygons(DEGREES.crs_wkt, ("area",), (bytes(shapely.to_wkb(shape)),))


DEGREES = GroundGrid.of(Affine(0.1, 0, 10, 0, -0.1, 50), "EPSG:4326", 100, 100)
MANY = [
    DEGREES,
    GroundGrid.of(Affine(1000, 0, 4e5, 0, -1000, 1e6), "EPSG:32660", 300, 300),
    GroundGrid.of(Affine(10000, 0, -3e6, 0, -10000, 3e6), "EPSG:3031", 600, 600),
    GroundGrid.of(Affine(10, 0, 0, 0, -10, 0), "+proj=eqc +R=1737400 +type=crs", 300, 400),
]


@pytest.mark.parametrize(
    ("lon", "lat", "expected"),
    [
        (15, 45, 0),
        (178, 8, 1),
        (-182, 8, 1),
        (538, 8, 1),
        (100, -89, 2),
        (100, 45, None),
        (0, 0, None),  # only on the Moon
    ],
)
def test_the_first_scene_that_is_touched_is_found_in_every_crs(lon, lat, expected):
    assert first_touched(area_at(lon, lat), MANY) == expected


def test_polygons_that_hold_a_scene_or_the_world_touch_it():
    assert first_touched(area_at(0, 0, 90), MANY[1:]) == 1
    assert first_touched(area_at(15, 45, 20), [*MANY[1:], DEGREES]) == 3


def test_axes_are_swapped_only_where_that_gives_places():
    swapped = with_axes_swapped(area_at(15, 45))

    assert swapped is not None
    assert np.allclose(shapely.from_wkb(swapped.geometries[0]).centroid.xy, [[45], [15]])
    assert with_axes_swapped(area_at(150, 45)) is None
