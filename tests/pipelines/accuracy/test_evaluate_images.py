"""Image files and shards against masks: counts, what is missing, failures, and resuming."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import shapely

from pipelines.cli.values import FailureBudget
from pipelines.formats import SHARDS
from pipelines.formats.shards import ShardEntry
from segmodel.errors import ConfigurationError
from tests.fakes import WIDE_CLASSES, WideModel, brightness_labels
from tests.pipelines.accuracy.evaluated import (
    counted_by_hand,
    evaluated,
    random_ids,
    write_masks,
)
from tests.pipelines.corpus import (
    photos,
    pixels,
    png,
    read_png,
    tree,
    write,
    write_model_folder,
)
from tests.pipelines.scene_runs import run_scenes, write_polygons

CLASS_FILE = """\
[data]
ignore_colors = ["#000000"]
[[classes]]
id = 1
name = "bright"
color = "#FFFFFF"
[[classes]]
id = 2
name = "dark"
color = "#0000FF"
"""


@pytest.fixture
def run(tmp_path, model_folder):
    """A finished run over three images of 40 to 42 rows and 50 columns, with confidence."""
    return run_scenes(
        tmp_path / "run", model_folder, photos(tmp_path), confidence=True, pixel_size=2.0
    ).root


@pytest.fixture
def masks(tmp_path):
    ids = {f"{n}.png": random_ids(40 + n, 50, n, 255) for n in range(3)}
    return write_masks(tmp_path / "masks", ids)


def labels_of(run, number):
    return read_png(run / "labels" / "photos" / f"{number}.png.png")


def test_the_matrix_of_all_is_that_of_every_pixel_and_one_sum(run, masks):
    found = evaluated(run, masks)

    expected = sum(
        np.array(counted_by_hand(read_png(masks / f"{n}.png"), labels_of(run, n))) for n in range(3)
    )
    assert found.status == 0
    assert found.matrix == expected.tolist()
    whole = found.scores["all"]
    assert whole["scores"]["pixel_accuracy"] == np.trace(expected) / expected.sum()
    # Pixels have a side of 2 m.
    assert whole["matrix_m2"] == (4.0 * expected).tolist()
    assert whole["unlabelled_pixels"] == 0
    assert sum(row["pixels"] for row in whole["reliability"]["bins"]) == expected.sum()


def test_each_image_has_a_row_and_a_matrix(run, masks):
    found = evaluated(run, masks)

    rows = found.rows("images.csv")
    assert [row["image"] for row in rows] == [f"photos/{n}.png" for n in range(3)]
    hits = np.trace(counted_by_hand(read_png(masks / "1.png"), labels_of(run, 1)))
    pixels = np.count_nonzero(read_png(masks / "1.png") != 255)
    assert float(rows[1]["pixel_accuracy"]) == hits / pixels
    assert (rows[1]["reference"], rows[1]["area_m2"]) == (
        "masks of the same grid",
        str(4.0 * pixels),
    )
    of_first = [cell for cell in found.cells("image") if cell[0] == "photos/0.png"]
    assert sum(cell[3] for cell in of_first) == np.count_nonzero(read_png(masks / "0.png") != 255)


def test_colours_of_a_class_file_stand_for_the_classes_of_these_names(run, masks, tmp_path):
    colors = np.zeros((40, 50, 3), np.uint8)
    colors[:20], colors[20:30] = (255, 255, 255), (0, 0, 255)
    folder = tmp_path / "colors"
    write(folder / "0.png", png(colors))
    classes = write(tmp_path / "classes.toml", CLASS_FILE.encode())

    found = evaluated(run, folder, classes=str(classes))

    truth = np.full((40, 50), 255)
    truth[:20], truth[20:30] = 7, 0
    assert found.matrix == counted_by_hand(truth, labels_of(run, 0))
    assert (found.scores["without_reference"], found.scores["images"]) == (2, 1)


def test_a_class_that_the_run_has_not_is_refused_by_name(run, masks, tmp_path):
    text = CLASS_FILE.replace('"bright"', '"shiny"').encode()
    classes = write(tmp_path / "classes.toml", text)

    with pytest.raises(ConfigurationError, match="'shiny' is no class of the run, which has dark"):
        evaluated(run, masks, classes=str(classes))


def test_a_class_that_nobody_has_is_null_and_one_that_only_the_reference_has_is_zero(run, masks):
    bright = labels_of(run, 0) == 7
    ids = np.where(bright, 255, np.where(labels_of(run, 0) == 0, 0, 7)).astype(np.uint8)
    write_masks(masks, {"0.png": ids})
    for name in ("1.png", "2.png"):
        (masks / name).unlink()

    found = evaluated(run, masks).scores["all"]["scores"]

    assert found["iou"] == {"dark": 1.0, "middle": 0.0, "bright": 0.0}
    assert found["precision"] == {"dark": 1.0, "middle": 0.0, "bright": None}


def test_a_bad_mask_fails_alone_and_names_the_value(run, masks):
    write_masks(masks, {"1.png": random_ids(41, 50, 1, 9), "2.png": random_ids(9, 9, 1)})

    over = evaluated(run, masks)
    within = evaluated(run, masks, max_failures=FailureBudget(2, None))

    assert (over.status, within.status) == (3, 0)
    # What failed is not tried again until somebody asks for it.
    retried = evaluated(run, masks, max_failures=FailureBudget(2, None), retry_failures=True)
    assert (within.done, len(retried.done)) == ((), 1)
    reasons = {(row["uri"], row["code"]): row["reason"] for row in within.rows("failures.csv")}
    assert reasons == {
        ("photos/1.png", "unknown_class"): "mask has id 9, which is neither a class nor ignored",
        ("photos/2.png", "mask_size"): "the mask is 9x9, its image 50x42",
    }
    assert within.scores["images"] == 1
    assert within.matrix == counted_by_hand(read_png(masks / "0.png"), labels_of(run, 0))


def test_without_a_complete_evaluation_there_are_no_scores(run, masks):
    first = evaluated(run, masks)
    assert (first.root / "scores.json").exists()
    write_masks(masks, {"1.png": random_ids(41, 50, 1, 9)})

    again = evaluated(run, masks)

    assert again.status == 3
    assert not {"scores.json", "scores.csv", "confusion.png"} & {
        p.name for p in again.root.iterdir()
    }


def test_a_mask_that_has_changed_is_compared_again_and_nothing_else(run, masks):
    before = evaluated(run, masks).matrix
    write_masks(masks, {"1.png": random_ids(41, 50, 8)})

    again, twice = evaluated(run, masks), evaluated(run, masks)

    assert (len(again.done), len(twice.done)) == (1, 0)
    assert again.matrix != before


def test_groups_add_up_to_all(run, masks):
    found = evaluated(run, masks, group_by=r"^(\d)")

    groups = found.scores["groups"]
    assert sorted(groups) == ["0", "1", "2"]
    assert sum(entry["pixels"] for entry in groups.values()) == found.scores["all"]["pixels"]
    rows = [row for row in found.rows("scores.csv") if row["scope"] == "group"]
    assert [(row["name"], row["class"]) for row in rows[:4]] == [
        ("0", ""),
        ("0", "dark"),
        ("0", "middle"),
        ("0", "bright"),
    ]


def test_labels_of_16_bits_are_compared_as_they_are(tmp_path):
    model = write_model_folder(tmp_path / "wide", classes=WIDE_CLASSES)
    run = run_scenes(tmp_path / "run", model, photos(tmp_path, 1), model=WideModel()).root
    labels = read_png(run / "labels/photos/0.png.png")
    write(tmp_path / "masks/0.png", png(np.full((40, 50), 300, np.uint16)))

    found = evaluated(run, tmp_path / "masks")

    assert set(np.unique(labels)) == {5, 300}
    right = int(np.count_nonzero(labels == 300))
    assert found.matrix == [[right, labels.size - right], [0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "run/scores"}, "lies in the run"),
        ({"class_field": "kind"}, "--class_field is for vector files"),
        ({"group_by": "tile_(x)"}, "finds no group in 0.png"),
        ({"reference": "nowhere"}, "matches no mask, raster or shard"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(run, masks, options, message):
    places = {n: str(run.parent / options[n]) for n in ("output", "reference") if n in options}
    given = {"reference": str(masks)} | options | places

    with pytest.raises(ConfigurationError, match=message):
        evaluated(run, **given)
    assert not (run.parent / "scores").exists()


def test_polygons_for_images_without_a_place_are_refused(run, tmp_path):
    named = [("dark", shapely.box(0, 0, 1, 1))]
    file = write_polygons(tmp_path / "plots.geojson", "EPSG:4326", named)
    with pytest.raises(ConfigurationError, match="no label map of the run has a reference"):
        evaluated(run, file)


def test_other_options_do_not_continue_an_evaluation(run, masks):
    evaluated(run, masks)

    with pytest.raises(ConfigurationError, match="boundary_px was None and is 2"):
        evaluated(run, masks, boundary_px=2)
    assert evaluated(run, masks, boundary_px=2, overwrite=True).scores["boundary_px"] == 2


def test_an_unfinished_run_is_refused(run, masks):
    for path in (run / "commits").iterdir():
        path.unlink()

    with pytest.raises(ConfigurationError, match="is not finished, 1 unit are missing"):
        evaluated(run, masks)


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tar", "a.parquet"])
def test_a_shard_is_compared_with_the_masks_in_a_shard_of_the_same_name(
    tmp_path, model_folder, name
):
    shards = next(entry for entry in SHARDS if entry.matches(name))
    path, truths = tmp_path / "packed" / name, []
    path.parent.mkdir()
    with shards.writer(str(path), False, ("image", "labels")) as writer:
        for number in range(5):
            truths.append(random_ids(20, 30 + number, number))
            image = b"broken" if number == 2 else png(pixels(20, 30 + number, number))
            sized = number, f"{number}.png", 20, 30 + number
            writer.add(ShardEntry(*sized, (image, "png"), png(truths[-1])))
    finished = run_scenes(
        tmp_path / "run",
        model_folder,
        path.parent,
        confidence=True,
        max_failures=FailureBudget(1, None),
    )

    found = evaluated(finished.root, path.parent, group_by=r"(\d)\.png")

    assert sorted(found.scores["groups"]) == ["0", "1", "3", "4"]
    expected = sum(
        np.array(counted_by_hand(truths[n], brightness_labels(pixels(20, 30 + n, n))))
        for n in (0, 1, 3, 4)
    )
    assert found.rows("failures.csv") == []
    assert (found.status, found.scores["images"]) == (0, 4)
    assert found.matrix == expected.tolist()
    assert found.rows("images.csv")[2]["image"] == f"packed/{name} #3 3.png"
    assert sum(r["pixels"] for r in found.scores["all"]["reliability"]["bins"]) == expected.sum()


def shard_run(tmp_path, model_folder, name: str, names: list[str], broken: int = -1):
    """A run over a shard of images with these names, 20 rows high, with confidence."""
    shards = next(entry for entry in SHARDS if entry.matches(name))
    path = tmp_path / "packed" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with shards.writer(str(path), False, ("image",)) as writer:
        for number, image in enumerate(names):
            content = b"broken" if number == broken else png(pixels(20, 30 + number, number))
            writer.add(ShardEntry(number, image, 20, 30 + number, (content, "png")))
    budget = FailureBudget(1, None)
    options = {"confidence": True, "max_failures": budget}
    return run_scenes(tmp_path / "run", model_folder, path.parent, **options).root


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tar", "a.parquet"])
def test_images_of_a_shard_have_the_mask_files_of_their_names(tmp_path, model_folder, name):
    names = [f"sub/{number}.png" for number in range(5)]
    run = shard_run(tmp_path, model_folder, name, names, broken=2)
    truths = {n: random_ids(20, 30 + n, n) for n in (0, 2, 4)}
    masks = write_masks(tmp_path / "masks", {f"sub/{n}.png": truths[n] for n in truths})
    (masks / "sub" / "4.png").rename(masks / "sub" / "4.webp")
    write_masks(masks, {"other.png": random_ids(20, 30, 9)})

    found = evaluated(run, masks, max_failures=FailureBudget(1, None))
    again = evaluated(run, masks)
    write_masks(masks, {"sub/0.png": truths[0]})
    os.utime(masks / "sub" / "0.png", (1, 1))
    changed = evaluated(run, masks)

    expected = sum(
        np.array(counted_by_hand(truths[n], brightness_labels(pixels(20, 30 + n, n))))
        for n in (0, 4)
    )
    assert found.matrix == expected.tolist()
    assert [row["image"] for row in found.rows("images.csv")] == [
        f"packed/{name} #{n} sub/{n}.png" for n in (0, 4)
    ]
    # Images 1 and 3 have no mask, and that of 2 has no label map; neither has another mask.
    compared = {key: found.scores[key] for key in ("without_reference", "unused_references")}
    assert compared == {"without_reference": 2, "unused_references": 2}
    assert (found.status, found.scores["images"], len(found.done)) == (0, 2, 1)
    assert (again.done, len(changed.done)) == ((), 1)
    assert sum(r["pixels"] for r in found.scores["all"]["reliability"]["bins"]) == expected.sum()


def test_a_bad_mask_file_of_an_image_in_a_shard_fails_alone(tmp_path, model_folder):
    run = shard_run(tmp_path, model_folder, "a.parquet", ["0.png", "1.png"])
    masks = write_masks(tmp_path / "masks", {"0.png": random_ids(20, 30, 0)})
    write_masks(masks, {"1.png": random_ids(20, 30, 1)})

    found = evaluated(run, masks)

    (row,) = found.rows("failures.csv")
    assert (found.status, row["uri"], row["key"]) == (3, "packed/a.parquet", "#1 1.png")


def test_images_in_shards_without_names_or_of_one_name_have_no_mask_files(tmp_path, model_folder):
    masks = write_masks(tmp_path / "masks", {"0.png": random_ids(20, 30, 0)})
    nameless = shard_run(tmp_path / "a", model_folder, "a.tfrecord", [""])
    with pytest.raises(ConfigurationError, match="and are shards where images have none"):
        evaluated(nameless, masks)

    shard_run(tmp_path / "b", model_folder, "a.tfrecord", ["0.png"])
    doubled = shard_run(tmp_path / "b", model_folder, "b.tfrecord", ["0.jpg"])
    with pytest.raises(
        ConfigurationError, match=r"packed/b.tfrecord and packed/a.tfrecord have images called 0,"
    ):
        evaluated(doubled, masks)

    named = shard_run(tmp_path / "c", model_folder, "a.tfrecord", ["0.png"])
    write_masks(masks, {"0.webp": random_ids(20, 30, 0)})
    with pytest.raises(ConfigurationError, match=r"0.png and 0.webp are masks of one image"):
        evaluated(named, masks)


def test_a_resumed_evaluation_gives_the_same_bytes(tmp_path, model_folder):
    folder = photos(tmp_path, 130)
    ids = {f"{n}.png": random_ids(40 + n, 50, n) for n in range(130)}
    masks = write_masks(tmp_path / "masks", ids)
    run = run_scenes(tmp_path / "run", model_folder, folder).root

    whole = evaluated(run, masks, output=str(tmp_path / "whole"), boundary_px=1)
    cut = evaluated(run, masks, units=1, output=str(tmp_path / "cut"), boundary_px=1)
    rest = evaluated(run, masks, output=str(tmp_path / "cut"), boundary_px=1)

    assert (cut.status, rest.status) == (4, 0)
    assert len(rest.done) == len(whole.done) - 1 > 0
    assert tree(rest.root) == tree(whole.root)


def test_a_shard_of_other_images_is_no_reference(tmp_path, model_folder):
    for folder, name in (("packed", "a.png"), ("others", "b.png")):
        path = tmp_path / folder / "a.parquet"
        path.parent.mkdir()
        shards = next(entry for entry in SHARDS if entry.name == "parquet")
        with shards.writer(str(path), False, ("image", "labels")) as writer:
            content = png(pixels(20, 30)), "png"
            writer.add(ShardEntry(0, name, 20, 30, content, png(random_ids(20, 30, 1))))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "packed").root

    found = evaluated(run, tmp_path / "others")

    (row,) = found.rows("failures.csv")
    assert (found.status, row["code"]) == (3, "not_found")
    assert row["reason"].startswith("the shard of references has b.png in this place: give the")


def test_names_that_a_spreadsheet_would_compute_or_that_are_no_utf8_are_harmless(
    tmp_path, model_folder
):
    names = ("=1+1.png", os.fsdecode(b"caf\xe9.png"))
    for number, name in enumerate(names):
        write(tmp_path / "in" / name, png(pixels(20, 30, number)))
        write(tmp_path / "masks" / name, png(random_ids(20, 30, number)))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in").root

    found = evaluated(run, tmp_path / "masks", group_by=r"^(.)")

    rows = found.rows("images.csv")
    assert [(row["image"], row["group"]) for row in rows] == [
        ("in/=1+1.png", "'="),
        ("in/caf\\udce9.png", "c"),
    ]
    assert sum(map(sum, found.matrix)) == 1200


def test_two_masks_of_one_image_are_refused(run, masks):
    write(masks / "1.jpg", b"another")

    with pytest.raises(ConfigurationError, match=r"photos/1.png needs one mask, found .*1.jpg and"):
        evaluated(run, masks)


def test_a_folder_of_results_is_no_input_of_another_run(run, masks, tmp_path, model_folder):
    found = evaluated(run, masks)

    with pytest.raises(ConfigurationError, match="matches no"):
        run_scenes(tmp_path / "second", model_folder, found.root)


def test_run_masks_and_results_may_be_in_a_store(run, masks, client, tmp_path):
    client.put_all(run, "gs://bucket/run")
    client.put_all(masks, "gs://bucket/masks")

    found = evaluated("gs://bucket/run", "gs://bucket/masks")
    again = evaluated("gs://bucket/run", "gs://bucket/masks")

    assert (found.status, len(found.done), again.done) == (0, 1, ())
    scores = json.loads(client.objects["gs://bucket/scores/scores.json"])
    here = evaluated(run, masks, output=str(tmp_path / "here"))
    assert scores == here.scores
    assert (
        client.objects["gs://bucket/scores/images.csv"] == (here.root / "images.csv").read_bytes()
    )
