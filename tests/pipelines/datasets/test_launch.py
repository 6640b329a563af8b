"""Packs that are begun, continued, refused and removed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.datasets.launch import check_pack, clear_pack, prepare_pack
from pipelines.datasets.options import PackOptions, parse_shares
from pipelines.segment.launch import check_run
from pipelines.segment.options import SegmentOptions
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import encoded, tree, write
from tests.pipelines.pack_corpus import COUNT, HALVES, image, pack, shards, write_pairs


def test_images_of_one_name_and_two_suffixes_stay_two_in_an_archive(tmp_path):
    for suffix in ("png", "tif"):
        write(
            tmp_path / "in" / f"1.{suffix}", encoded(image(1), {"tif": "tiff"}.get(suffix, suffix))
        )
    options = PackOptions((str(tmp_path / "in"),), str(tmp_path / "packed"), container="tar")
    assert pack(options)[0] == 0
    (content,) = (shard for name, shard in shards(options).items() if name.endswith(".tar"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getnames()
        about = [json.load(archive.extractfile(m)) for m in members if m.endswith(".json")]
    stems = {name.partition(".")[0] for name in members}
    assert len(stems) == 2
    assert {entry["filename"] for entry in about} == {"1.png", "1.tif"}


def test_pixels_are_guessed_from_headers_that_can_be_read(options):
    launch = prepare_pack(check_pack(options))
    exact = sum(image(number).shape[0] * image(number).shape[1] for number in range(COUNT))
    assert launch.pixels == exact
    os.truncate(f"{options.images[0]}/00.png", 1 << 40)
    assert prepare_pack(check_pack(replace(options, overwrite=True))).pixels > 0


@pytest.fixture
def options(tmp_path: Path) -> PackOptions:
    return write_pairs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"container": "tar"}, "format was tfrecord and is tar"),
        ({"shares": parse_shares("train=0.4,test=0.6")}, "split was train=1/2,test=1/2 and is"),
        ({"group_by": "folder", "shares": HALVES}, "group_by was None and is folder"),
        ({"images_per_shard": 4}, "images_per_shard was 3 and is 4"),
        ({"max_pixels": 100}, "max_pixels was .* and is 100"),
        ({"mask_encoding": "palette"}, "mask_encoding was id and is palette"),
        ({"masks": (), "classes": None}, "classes was .* and is None"),
    ],
)
def test_a_pack_is_not_continued_with_other_options(options, changes, reason):
    pack(options)
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match=f"begun with other options: .*{reason}"):
        check_pack(replace(options, **changes))
    assert tree(options.output) == before


def test_more_memory_does_not_change_a_pack(options):
    small = replace(options, memory=512 << 20)
    pack(small)
    assert pack(options) == (0, [])


def test_overwrite_begins_anew_and_leaves_what_is_not_ours(options):
    pack(options)
    write(Path(options.output) / "train" / "notes.txt", b"mine")

    status, done = pack(replace(options, container="tar.gz", overwrite=True))

    assert status == 0
    names = set(shards(options))
    expected = {f"{name.rsplit('-', 3)[0]}/{name}.tar.gz" for name in done}
    assert names == expected | {"train/notes.txt", "pack.json"}


def test_clearing_removes_all_that_a_pack_wrote(options):
    pack(options)
    clear_pack(options.output)
    assert tree(options.output) == {}


def test_folders_that_hold_other_things_are_refused(options, tmp_path):
    write(tmp_path / "full" / "x.txt", b"mine")
    with pytest.raises(ConfigurationError, match=r"full holds files but no \.beamseg of a pack"):
        check_pack(replace(options, output=str(tmp_path / "full")))
    write(tmp_path / "file", b"mine")
    with pytest.raises(ConfigurationError, match="file is a file: name a folder"):
        check_pack(replace(options, output=str(tmp_path / "file")))
    write(tmp_path / "strange" / ".beamseg" / "run.json", b'{"format": "beamseg run"}')
    with pytest.raises(ConfigurationError, match="was not written by this beamseg"):
        check_pack(replace(options, output=str(tmp_path / "strange")))


def test_segment_does_not_write_into_a_pack_nor_take_its_books_for_input(options, model_folder):
    pack(options)
    into = SegmentOptions((options.images[0],), str(model_folder), options.output)
    with pytest.raises(ConfigurationError, match=r"holds files but no run\.json"):
        check_run(into)
    run = str(model_folder.parent / "run")
    inputs = check_run(SegmentOptions((options.output,), str(model_folder), run)).inputs
    assert {file.name for file in inputs.every} == set(shards(options)) - {"pack.json"}


def test_a_split_that_gets_no_group_is_refused(options):
    with pytest.raises(ConfigurationError, match="train gets none of the 1 groups"):
        check_pack(replace(options, group_by="folder"))
    assert not Path(options.output).exists()


def test_a_pack_says_the_same_wherever_and_whenever_it_is_made(options, tmp_path):
    pack(options)
    moved = tmp_path / "elsewhere"
    for name in ("images", "masks"):
        for path in sorted((tmp_path / name).iterdir(), reverse=True):
            os.utime(write(moved / name / path.name, path.read_bytes()), (1, 1))
    other = replace(
        options,
        images=(str(moved / "images"),),
        masks=(str(moved / "masks"),),
        output=str(moved / "packed"),
    )
    pack(other)
    assert shards(other) == shards(options)


@pytest.mark.parametrize("change", ["remove", "empty", "other folder"])
def test_a_pack_stops_before_anything_is_changed_where_images_are_gone(options, change):
    pack(options)
    image_path, mask_path = (
        Path(folder[0], "00.png") for folder in (options.images, options.masks)
    )
    asked = options
    if change == "empty":
        image_path.write_bytes(b"")
    elif change == "remove":
        image_path.unlink()
        mask_path.unlink()
    else:
        asked = replace(options, images=(f"{options.images[0]}/*[1-9].png",))
    before = tree(options.output)

    with pytest.raises(ConfigurationError, match=r"packed was begun with .* not found.*--images"):
        prepare_pack(check_pack(asked))

    assert tree(options.output) == before
    assert pack(replace(asked, gone="prune"))[1]


def test_a_shard_is_there_until_the_new_one_takes_its_place(options):
    pack(options)
    before = shards(options)
    write(Path(options.images[0], "new.png"), encoded(image(3), "png"))
    write(Path(options.masks[0], "new.png"), Path(options.masks[0], "03.png").read_bytes())

    prepare_pack(check_pack(options))

    assert shards(options) == {name: before[name] for name in before if name != "pack.json"}


def test_a_link_in_place_of_the_folder_of_a_split_is_refused(options, tmp_path):
    assert pack(options)[0] == 0
    link = Path(options.output) / "train"
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=f"^{link}: is a link in a folder"):
        check_pack(options)
