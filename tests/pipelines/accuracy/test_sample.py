"""`beamseg sample`: its files, what they show, and what they keep of what people have labelled."""

from __future__ import annotations

import csv
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from pyproj import Transformer

from pipelines.accuracy import sample, sample_files
from pipelines.accuracy.chips import draw_cross
from pipelines.accuracy.design import SampleDesign, SamplePoint, read_design
from pipelines.accuracy.sample_files import completed_csv, style_of
from pipelines.commands import assess
from pipelines.commands import sample as command
from segmodel.errors import ConfigurationError, InputError
from segmodel.rasters.reader import RasterHandle
from tests.end_to_end.conftest import files_of
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import UTM, read_band, read_png, write_model_folder
from tests.pipelines.counted_scenes import box, one_scene
from tests.pipelines.scene_runs import run_scenes, write_polygons

NAMES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright"}
CHIPLESS = ("--chip_px", "0")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run over a scene in two zones, with its input; not to be changed."""
    folder = tmp_path_factory.mktemp("sampled")
    path, _ = one_scene(folder)
    zones = write_polygons(folder / "zones.geojson", UTM[0], [("west", box(0, 0, 40, 150))])
    run_scenes(folder / "run", write_model_folder(folder / "model"), path, zones=zones)
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def design_in(folder: Path) -> SampleDesign:
    return read_design(str(folder / "design.json"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sample_has_a_table_a_layer_chips_and_a_design_of_the_same_points(run, capsys):
    before = files_of(run)
    assert command.run([str(run), "--total", "30"]) == 0
    printed = capsys.readouterr().out
    folder = run / "sample"
    design = design_in(folder)
    rows = rows_of(folder / "sample.csv")
    _, _, geometry, fields = pyogrio.raw.read(folder / "sample.gpkg", layer="sample")

    assert [row["id"] for row in rows] == [point.id for point in design.points]
    assert [int(row["order"]) for row in rows] == list(range(1, 31))
    assert {row["class"] for row in rows} == {""}
    assert fields[0].tolist() == [row["id"] for row in rows]
    assert fields[3].tolist() == list(range(1, 31))
    assert fields[4].tolist() == [None] * 30
    places = [(point.lon, point.lat) for point in design.points]
    assert shapely.get_coordinates(shapely.from_wkb(geometry)).tolist() == [*map(list, places)]
    assert sorted(path.name for path in (folder / "chips").iterdir()) == sorted(
        f"{point.id}.png" for point in design.points
    )
    assert {path.name for path in folder.iterdir()} == {
        *("sample.csv", "sample.gpkg", "design.json", "chips")
    }
    assert {name: found for name, found in files_of(run).items() if name in before} == before
    assert printed.splitlines()[-1] == f"30 points in {folder}: label sample.gpkg or sample.csv"


def test_points_are_the_centres_of_pixels_that_have_the_class_of_their_stratum(run, finished):
    command.run([str(run), "--total", "60", *CHIPLESS])
    design = design_in(run / "sample")
    labels = read_band(finished / "run" / "labels" / "in" / "a.tif")
    to_utm = Transformer.from_crs("EPSG:4326", UTM[0], always_xy=True)
    for point in design.points:
        assert labels[point.row, point.column] == point.map_class
        assert NAMES[point.map_class] == point.stratum
        column, row = ~UTM[1] @ to_utm.transform(point.lon, point.lat)
        assert (column, row) == pytest.approx((point.column + 0.5, point.row + 0.5), abs=1e-4)
    order = [point.stratum for point in design.points]
    assert order != sorted(order)
    assert design.classes == ((DARK, "dark"), (MIDDLE, "middle"), (BRIGHT, "bright"))
    assert design.seed == 0


def test_nothing_that_labellers_get_depends_on_the_class_of_the_map(run):
    command.run([str(run), "--total", "30", *CHIPLESS])
    folder = run / "sample"
    words = [*NAMES.values()]
    table = (folder / "sample.csv").read_text()
    assert not any(word in table for word in words)
    with closing(sqlite3.connect(folder / "sample.gpkg")) as database:
        rows = database.execute('SELECT id, lon, lat, "order", class FROM sample').fetchall()
        (style,) = database.execute("SELECT styleQML FROM layer_styles").fetchone()
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
    assert check == "ok"
    assert len(rows) == 30
    assert {row[4] for row in rows} == {None}
    choices = ET.fromstring(style).iterfind(".//Option[@name='map']/Option/Option")
    assert [(c.get("name"), c.get("value")) for c in choices] == [(w, w) for w in words]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(run):
    root = run.parent
    for name, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        command.run([str(run), "--total", "20", "--seed", seed, "--output", str(root / name)])
    one, two, three = (files_of(root / name) for name in ("one", "two", "three"))
    assert one == two
    assert {name for name in one if one[name] != three.get(name)} == {*one}


def test_the_same_command_again_keeps_labels_and_completes_what_is_missing(run):
    command.run([str(run), "--total", "20"])
    folder = run / "sample"
    table = folder / "sample.csv"
    labelled = table.read_text().replace(",\n", ",dark\n")
    table.write_text(labelled)
    (folder / "sample.gpkg").unlink()
    (folder / "chips" / "p00001.png").unlink()
    command.run([str(run), "--total", "20"])
    assert table.read_text() == labelled
    assert (folder / "sample.gpkg").exists()
    assert (folder / "chips" / "p00001.png").exists()


def test_another_sample_does_not_replace_one(run):
    command.run([str(run), "--total", "20", *CHIPLESS])
    before = files_of(run)
    with pytest.raises(ConfigurationError, match="holds another sample: enlarge it with --add"):
        command.run([str(run), "--total", "21", *CHIPLESS])
    (run / "sample" / "design.json").unlink()
    with pytest.raises(ConfigurationError, match=r"holds sample\.(csv|gpkg) and no design\.json"):
        command.run([str(run), "--total", "20", *CHIPLESS])
    del before["sample/design.json"]
    assert files_of(run) == before


def test_added_points_come_behind_labelled_ones_which_stay(run):
    command.run([str(run), "--total", "20", *CHIPLESS])
    folder = run / "sample"
    first = design_in(folder)
    table = (folder / "sample.csv").read_text().replace(",\n", ",dark\n")
    (folder / "sample.csv").write_text(table)
    with closing(sqlite3.connect(folder / "sample.gpkg")) as database, database:
        # What keeps its index of places calls functions that SQLite alone does not have.
        triggers = "SELECT name FROM sqlite_master WHERE name LIKE 'rtree_sample%update%'"
        for (name,) in database.execute(triggers).fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("UPDATE sample SET class = 'bright'")
    (folder / "accuracy.csv").write_text("of beamseg assess")
    command.run([str(run), "--add", "13", *CHIPLESS])

    design = design_in(folder)
    assert design.points[:20] == first.points
    assert [point.id for point in design.points[20:]] == [f"p{n:05d}" for n in range(21, 34)]
    assert [s.points for s in design.strata] == added_by_hand(first)
    assert (folder / "sample.csv").read_text().startswith(table)
    assert [row["class"] for row in rows_of(folder / "sample.csv")] == ["dark"] * 20 + [""] * 13
    *_, fields = pyogrio.raw.read(folder / "sample.gpkg", layer="sample")
    assert fields[0].tolist() == [point.id for point in design.points]
    assert fields[4].tolist() == ["bright"] * 20 + [None] * 13
    places = {(point.row, point.column) for point in design.points}
    assert len(places) > 30


def test_the_layer_may_lie_in_a_folder_with_marks_of_addresses(run, monkeypatch):
    for folder in (run / "plain", run / "marks!;?"):
        command.run([str(run), "--total", "20", *CHIPLESS, "--output", str(folder)])
        command.run([str(run), "--add", "3", *CHIPLESS, "--output", str(folder)])

    assert files_of(run / "marks!;?") == files_of(run / "plain")


def test_points_are_added_once_also_where_the_command_is_interrupted(run, monkeypatch):
    first = ["--total", "40", *CHIPLESS]
    command.run([str(run), *first, "--output", str(run / "whole")])
    command.run([str(run), "--output", str(run / "whole"), "--add", "13", *CHIPLESS])
    command.run([str(run), *first])

    def interrupted(folder, design):
        sample_files.complete_tables(folder, design)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sample, "complete_tables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.run([str(run), "--add", "13", *CHIPLESS])
    command.run([str(run), "--add", "13", *CHIPLESS])

    assert files_of(run / "sample") == files_of(run / "whole")


def added_by_hand(first: SampleDesign) -> list[int]:
    shares = [13 * stratum.points / 20 for stratum in first.strata]
    sizes = [int(share) for share in shares]
    rest = sorted(range(3), key=lambda place: sizes[place] - shares[place])
    for place in rest[: 13 - sum(sizes)]:
        sizes[place] += 1
    return [s.points + size for s, size in zip(first.strata, sizes, strict=True)]


def test_only_a_sample_of_the_same_map_is_enlarged(run, tmp_path):
    with pytest.raises(ConfigurationError, match=r"--add: .* holds no design\.json"):
        command.run([str(run), "--add", "5"])
    command.run([str(run), "--total", "20", *CHIPLESS])
    path = run / "sample" / "design.json"
    other = SampleDesign.from_bytes(path.read_bytes())
    path.write_bytes(replace(other, run_digest="0" * 64).to_bytes())
    with pytest.raises(ConfigurationError, match="the sample of another map"):
        command.run([str(run), "--add", "5"])


@pytest.mark.parametrize(
    ("words", "points"),
    [
        (["--total", "90", "--allocation", "equal"], [30, 30, 30]),
        (["--total", "90", "--allocation", "dark=50,bright=30"], [50, 10, 30]),
        (
            ["--total", "90", "--allocation", "neyman", "--expected_accuracy", "0.9"],
            [25, 37, 28],
        ),
        (["--standard_error", "0.05", "--expected_accuracy", "0.9"], [10, 15, 11]),
        (["--total", "90", "--minimum_per_stratum", "28"], [28, 34, 28]),
    ],
)
def test_points_are_shared_out_as_asked(run, words, points):
    command.run([str(run), *words, *CHIPLESS])
    assert [stratum.points for stratum in design_in(run / "sample").strata] == points


def test_strata_by_class_and_zone_are_named_and_can_have_their_own_numbers(run):
    words = ["--strata", "class*zone", "--total", "60", "--allocation", "dark in west=20"]
    command.run([str(run), *words, *CHIPLESS])
    found = {s.name: (s.class_id, s.zone) for s in design_in(run / "sample").strata}
    outside = "(outside all zones)"
    assert found == {
        f"{name} in {zone}": (class_id, zone)
        for class_id, name in NAMES.items()
        for zone in (outside, "west")
    }
    points = {s.name: s.points for s in design_in(run / "sample").strata}
    assert points["dark in west"] == 20
    assert sum(points.values()) == 60


def test_a_buffer_is_a_stratum_that_added_points_know(run):
    words = ["--buffer_px", "1", "--buffer_class", "bright", "--total", "60"]
    command.run([str(run), *words, "--allocation", "around bright=20", *CHIPLESS])
    first = design_in(run / "sample")
    assert [(s.name, s.class_id, s.is_buffer) for s in first.strata] == [
        ("dark", DARK, False),
        ("middle", MIDDLE, False),
        ("bright", BRIGHT, False),
        ("around bright", None, True),
    ]
    assert first.buffer == (BRIGHT, 1)
    assert first.strata[3].points == 20
    command.run([str(run), "--add", "30", *CHIPLESS])
    assert design_in(run / "sample").strata[3].points == 30


def test_each_zone_has_a_buffer_that_added_points_and_estimates_know(run, capsys):
    words = ["--buffer_px", "1", "--buffer_class", "bright", "--total", "90"]
    command.run([str(run), *words, "--strata", "class*zone", *CHIPLESS])
    command.run([str(run), "--add", "30", *CHIPLESS])
    folder = run / "sample"
    design = design_in(folder)
    outside = "(outside all zones)"
    assert [(s.name, s.zone) for s in design.strata if s.is_buffer] == [
        (f"around bright in {outside}", outside),
        ("around bright in west", "west"),
    ]
    assert len(design.points) == 120

    table = folder / "sample.csv"
    header, *rows = table.read_text().splitlines()
    labels = {point.id: NAMES[point.map_class] for point in design.points}
    filled = [row + labels[row.partition(",")[0]] for row in rows]
    table.write_text("\n".join([header, *filled, ""]))
    capsys.readouterr()
    assert assess.run([str(run), str(table)]) == 0
    assert "\nwest, by its own points\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --total or --standard_error"),
        (["--total", "5", "--standard_error", "0.1"], "give --total or --standard_error"),
        (["--standard_error", "0.01"], "need --expected_accuracy"),
        (["--total", "90", "--allocation", "neyman"], "need --expected_accuracy"),
        (["--total", "90", "--expected_accuracy", "0.9"], "--expected_accuracy is for"),
        (["--total", "90", "--allocation", "sea=5"], "names 'sea', which is no stratum"),
        (["--total", "90", "--allocation", "dark=0"], "--allocation must be"),
        (["--total", "90", "--allocation", "dark=2,dark=3"], "must have each name once"),
        (["--total", "5"], "5 points cannot be shared out"),
        (["--total", "90", "--minimum_per_stratum", "1"], "must be at least 2"),
        (["--total", "90", "--buffer_px", "3"], "--buffer_px and --buffer_class go together"),
        (
            ["--total", "90", "--buffer_px", "3", "--buffer_class", "sea"],
            "--buffer_class names 'sea', which is no class of the map: dark, middle, bright",
        ),
        (
            ["--total", "9", "--buffer_px", "3", "--buffer_class", "dark", "--strata", "zone"],
            "--buffer_px is for strata by class",
        ),
        (["--total", "90", "--buffer_px", "600", "--buffer_class", "dark"], "from 1 to 512"),
        (["--add", "5", "--seed", "3"], "--seed follows from the sample that --add enlarges"),
        (
            ["--standard_error", "0.1", "--expected_accuracy", "dark=0.9"],
            "--expected_accuracy lacks middle, bright",
        ),
        (["--standard_error", "0.1", "--expected_accuracy", "1.5"], "must be between 0 and 1"),
    ],
)
def test_options_that_cannot_be_carried_out_are_named(run, words, message):
    with pytest.raises(ConfigurationError, match=message):
        command.run([str(run), *words])
    assert not (run / "sample").exists()


@pytest.mark.parametrize("summary", [None, b"", b"[", b'{"complete": true}'])
def test_a_run_that_is_not_complete_is_not_sampled(run, summary):
    (run / "summary.json").unlink()
    if summary is not None:
        (run / "summary.json").write_bytes(summary)
    with pytest.raises(ConfigurationError, match="is not complete: run the same"):
        command.run([str(run), "--total", "20"])


def test_a_label_map_that_is_gone_is_named(run):
    (run / "labels" / "in" / "a.tif").unlink()
    with pytest.raises(InputError, match=r"labels/in/a\.tif"):
        command.run([str(run), "--total", "20", *CHIPLESS])


def test_a_folder_with_other_things_is_not_taken(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigurationError, match=r"holds notes\.txt, which is no part"):
        command.run([str(run), "--total", "20", "--output", str(tmp_path / "mine")])


def test_a_layer_that_another_program_is_writing_is_left_alone(run):
    command.run([str(run), "--total", "20", *CHIPLESS])
    (run / "sample" / "sample.gpkg-wal").write_bytes(b"labels")
    before = files_of(run)
    with pytest.raises(ConfigurationError, match=r"sample\.gpkg is open in another program"):
        command.run([str(run), "--add", "5", *CHIPLESS])
    assert files_of(run) == before


def test_points_have_the_probabilities_of_their_pixel_where_the_run_has_them(tmp_path, finished):
    options = {"probabilities": True, "soft_areas": True}
    path, model = finished / "in" / "a.tif", finished / "model"
    run = run_scenes(tmp_path / "run", model, path, **options)
    command.run([str(run.root), "--total", "20", *CHIPLESS])
    with rasterio.open(run.root / "probabilities" / "in" / "a.tif") as source:
        levels = source.read()
    for point in design_in(run.root / "sample").points:
        assert point.probabilities == tuple(levels[:, point.row, point.column].tolist())
        assert np.argmax(point.probabilities) == [*NAMES].index(point.map_class)


@pytest.mark.parametrize(("points", "times"), [(64, 1), (65, 2)])
def test_a_scene_is_opened_once_for_the_probabilities_and_chips_of_64_points(
    tmp_path, finished, monkeypatch, points, times
):
    options = {"probabilities": True, "soft_areas": True}
    path, model = finished / "in" / "a.tif", finished / "model"
    run = str(run_scenes(tmp_path / "run", model, path, **options).root)
    opened: list[str] = []

    class Noted(RasterHandle):
        def __init__(self, uri: str, *rest: object) -> None:
            opened.append(uri)
            super().__init__(uri, *rest)

    monkeypatch.setattr("pipelines.rasters.cog.RasterHandle", Noted)
    monkeypatch.setattr("pipelines.rasters.reader.RasterHandle", Noted)
    command.run([run, "--total", str(points), "--chip_px", "8"])
    assert opened.count(f"{run}/probabilities/in/a.tif") == times
    assert opened.count(str(path)) == times


def test_a_run_in_a_store_is_sampled_into_the_store(run, client):
    command.run([str(run), "--total", "20", *CHIPLESS])
    client.put_all(run, "gs://bucket/run")
    words = ["gs://bucket/run", "--total", "20", *CHIPLESS]
    command.run([*words, "--output", "gs://bucket/sample"])
    command.run([*words, "--output", "gs://bucket/sample"])
    for path in (run / "sample").iterdir():
        assert client.objects[f"gs://bucket/sample/{path.name}"] == path.read_bytes()


def test_a_sample_without_a_buffer_does_not_import_beam(run):
    script = (
        "import sys; from pipelines.commands.sample import run; "
        f"run([{str(run)!r}, '--total', '30', '--chip_px', '0']); "
        "assert 'apache_beam' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Chips


def test_chips_show_the_scene_around_the_pixel_with_a_cross_at_it(run, finished):
    command.run([str(run), "--total", "20", "--chip_px", "32"])
    with rasterio.open(finished / "in" / "a.tif") as source:
        scene = np.pad(np.moveaxis(source.read(), 0, -1), ((16, 16), (16, 16), (0, 0)))
        seen = np.pad(source.dataset_mask() > 0, 16)
    for point in design_in(run / "sample").points:
        chip = read_png(run / "sample" / "chips" / f"{point.id}.png")
        assert chip.shape == (512, 512, 3)
        at = np.s_[point.row : point.row + 32, point.column : point.column + 32]
        expected = np.where(seen[at][..., None], scene[at], 228)
        corner = np.s_[:8, :8]
        np.testing.assert_array_equal(chip[8::16, 8::16][corner], expected[corner])
        np.testing.assert_array_equal(chip[264, 264], scene[point.row + 16, point.column + 16])


def test_the_cross_frames_its_pixel_and_leaves_it_visible():
    picture = np.full((64, 64, 3), 200, np.uint8)
    picture[32, 32] = (1, 2, 3)
    drawn = np.asarray(draw_cross(picture, 32))
    assert drawn.shape == (512, 512, 3)
    inner = drawn[258:262, 258:262].reshape(-1, 3)
    assert {*map(tuple, inner.tolist())} == {(1, 2, 3)}
    assert (drawn[258, 180:236] == (255, 0, 255)).all()
    assert (drawn[:100] == 200).all()


def test_a_scene_that_cannot_be_read_any_more_is_named_with_the_remedy(finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "moved"))
    path, _ = one_scene(folder)
    run_scenes(folder / "other", folder / "model", path)
    path.unlink()
    with pytest.raises(InputError, match=r"in/a\.tif: no chip can be made .* --chip_px 0"):
        command.run([str(folder / "other"), "--total", "20"])
    assert command.run([str(folder / "other"), "--total", "20", *CHIPLESS]) == 0


# Tables


def point(name: str) -> SamplePoint:
    return SamplePoint(name, 1.5, -2.25, "a", 0, "in/a.tif", 0, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"id,lon,lat,order,class\nq,1.5,-2.25,1,\np,1.5,-2.25,2,\n"),
        (b"id,lon,lat,order,class\nq,1,2,1,sea", b"\np,1.5,-2.25,2,\n"),
        (b"id;lon;lat;order;class\r\nq;1;2;1;sea\r\n", b"p;1.5;-2.25;2;\r\n"),
        (b"\xef\xbb\xbfclass,id,lat,lon,order\n\xe4,q,2,1,1\n", b",p,-2.25,1.5,2\n"),
        (b"id,lon,lat,order,class\np,1,2,2,sea\nq,1,2,1,sea\n", b""),
        (b"sep=|\r\nID|lon|lat|order|class\r\nq|1|2|1|sea\r\n", b"p|1.5|-2.25|2|\r\n"),
        (b"id\tlon\tlat\torder\tclass\nq\t1,5\t2\t1\tsea\n", b"p\t1,5\t-2,25\t2\t\n"),
        (
            "\ufeffid;lon;lat;order;class\nq;1;2;1;sea\n".encode("utf-16-le"),
            "p;1.5;-2.25;2;\n".encode("utf-16-le"),
        ),
    ],
)
def test_a_table_gets_the_rows_that_it_lacks_and_keeps_its_bytes(before, after):
    assert completed_csv(before, [point("q"), point("p")]) == before + after


def test_a_table_with_other_columns_is_refused():
    with pytest.raises(ConfigurationError, match=r"sample\.csv has not the columns id, lon"):
        completed_csv(b"name,class\nq,sea\n", [point("q")])


def test_names_of_classes_cannot_break_the_style():
    style = ET.fromstring(style_of(['a "b" <c> & \x00d']))
    (choice,) = style.iterfind(".//Option[@name='map']/Option/Option")
    assert choice.get("name").startswith('a "b" <c> & ')
