"""The plan: units with safe names that change only with their own input."""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.formats.images import ImageFormat
from pipelines.inputs.catalogue import group_of
from pipelines.inputs.find import list_inputs, root_folders
from pipelines.run import plan
from pipelines.run.plan import AssemblyUnit, CountUnit, InputFile, WorkUnit
from segmodel.errors import ConfigurationError, DamagedError
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import files_in, flipped, make_work, write

FILE = InputFile("/data/a.jpg", "data", "a.jpg", 10, "1")
UNIT = WorkUnit("scene-a-0", "scene", (FILE,), Window(0, 0, 64, 64))
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))


def file(name: str, folder: str = "data") -> InputFile:
    return InputFile(f"/{folder}/{name}", folder, name, 10, "1")


@given(name=NAMES, groups=st.sampled_from([1, 2, 16, 1024]))
def test_the_group_of_an_image_depends_on_its_path_alone(name, groups):
    first = InputFile("/here/x", "data", name, 1, "1")
    second = InputFile("/elsewhere/y", "data", name, 999, "2")
    group = group_of(first.key, groups)
    assert group == group_of(second.key, groups)
    assert 0 <= group < groups


def test_the_group_of_an_image_is_the_same_on_every_machine_and_version():
    expected = [11, 3, 0]
    actual = [group_of(file(name).key, 16) for name in ("a.jpg", "b.jpg", "sub/a.jpg")]
    assert actual == expected


@pytest.mark.parametrize(
    ("files", "groups"), [(0, 1), (1, 1), (64, 1), (65, 2), (128, 2), (129, 4), (10**7, 262144)]
)
def test_the_number_of_groups_is_a_power_of_two_with_64_images_each_at_most_on_average(
    files, groups
):
    assert plan.image_groups(files) == groups


def test_one_new_file_changes_one_unit():
    work = make_work(Path("run"), groups=16)
    before = [file(f"{number}.jpg") for number in range(300)]
    old = {unit.id: unit for unit in ImageFormat().units(before, work, None)}
    new = {unit.id: unit for unit in ImageFormat().units([*before, file("new.jpg")], work, None)}
    changed = [name for name in new if old.get(name) != new[name]]
    assert set(old) == set(new)
    assert len(changed) == 1
    assert file("new.jpg") in new[changed[0]].files


def test_units_of_images_hold_every_file_once_whatever_the_order():
    work = make_work(Path("run"), groups=8)
    files = [file(f"{number}.jpg") for number in range(100)]
    forward = list(ImageFormat().units(files, work, None))
    backward = list(ImageFormat().units(files[::-1], work, None))
    assert forward == backward
    assert sorted(f.key for unit in forward for f in unit.files) == sorted(f.key for f in files)


@given(name=NAMES)
def test_ids_are_safe_names_of_files(name):
    actual = plan.unit_id("tfrecord", file(name), "b00001")
    assert re.fullmatch(r"[A-Za-z0-9-]{1,80}", actual)


@pytest.mark.parametrize(
    "names",
    [
        ["a b.tif", "a_b.tif", "a-b.tif", "a.b.tif"],
        ["x/a.tif", "y/a.tif", "a.tif"],
        ["../../etc/passwd", "etc/passwd"],
        ["é.tif", "è.tif", "日本.tif", "中国.tif"],
        ["A.tif", "a.tif"],
        ["x" * 50 + "1.tif", "x" * 50 + "2.tif"],
    ],
)
def test_ids_of_names_alike_differ_even_where_case_does_not_count(names):
    ids = {plan.unit_id("scene", file(name)).lower() for name in names}
    assert len(ids) == len(names)


def test_ids_of_all_shards_of_a_large_data_set_differ():
    count = 200_000
    shards = [file(f"train.tfrecord-{number:06d}-of-200000") for number in range(count)]
    assert len({plan.unit_id("tfrecord", shard) for shard in shards}) == count


@pytest.mark.parametrize(
    "other",
    [
        replace(UNIT, files=(replace(FILE, size=11),)),
        replace(UNIT, files=(replace(FILE, version="2"),)),
        replace(UNIT, files=(replace(FILE, name="b.jpg"),)),
        replace(UNIT, files=(replace(FILE, folder="other"),)),
        replace(UNIT, files=(FILE, FILE)),
        replace(UNIT, window=Window(0, 0, 64, 32)),
        replace(UNIT, window=None),
        AssemblyUnit(UNIT.id, UNIT.format, (FILE,), ("a", "b")),
        replace(UNIT, records=3),
    ],
)
def test_the_digest_changes_with_whatever_shapes_the_outputs(other):
    assert other.digest("options") != UNIT.digest("options")


def test_the_digest_changes_with_the_options_and_not_with_the_place_of_the_input():
    moved = replace(UNIT, files=(replace(FILE, uri="/elsewhere/a.jpg"),))
    assert moved.digest("options") == UNIT.digest("options")
    assert UNIT.digest("other") != UNIT.digest("options")
    assert re.fullmatch("[0-9a-f]{16}", UNIT.digest("options"))


@given(
    names=st.lists(NAMES, min_size=1, max_size=3),
    window=st.none() | st.builds(Window, *[st.integers(0, 10**6)] * 4),
    blocks=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    records=st.none() | st.integers(0, 10**9),
)
def test_units_survive_the_way_to_json_and_back(names, window, blocks, records):
    files = tuple(map(file, names))
    for unit in (
        WorkUnit("id", "images", files, window, records, scene="whole"),
        AssemblyUnit("id", "scene", files, blocks),
        CountUnit("id", "scene", files, len(files) - 1),
    ):
        line = unit.to_json()
        assert "\n" not in line
        assert plan.unit_from_json(line) == unit
        assert plan.unit_from_json(line).digest("o") == unit.digest("o")


def test_lines_and_digests_are_those_of_runs_that_were_begun_before():
    """Written by the version that had one type for all units."""
    block = '"window":[0,64,64,32],"blocks":[],"records":null,"scene":"whole","place":null}'
    scene = '"window":null,"blocks":["b0","b1"],"records":null,"scene":null,"place":null}'
    count = '"window":null,"blocks":[],"records":null,"scene":null,"place":1}'
    shard = '"window":null,"blocks":[],"records":7,"scene":null,"place":null}'
    files = '"files":[{"uri":"/x/a.jpg","folder":"x","name":"a.jpg","size":10,"version":"1"}],'
    digests = ["2ebbccc37e34c8e1", "846e00c4d4c63af7", "ca972cebf79f1d01", "eb04169af1a9e1ea"]
    actual = []
    for fields in (block, scene, count, shard):
        line = '{"id":"u","format":"scene",' + files + fields
        unit = plan.unit_from_json(line)
        assert unit.to_json() == line
        actual.append(unit.digest("options"))
    assert actual == digests


def test_references_lead_to_every_unit_of_the_plan(tmp_path):
    units = [replace(UNIT, id=f"unit-{n}", files=(file("é" * (n % 7)),)) for n in range(2500)]
    folder, scratch = str(tmp_path / "plan"), str(tmp_path / "tmp")
    parts = plan.write_plan(units, folder, scratch)
    found = [ref for part in parts for ref in plan.references(folder, part)]
    assert parts == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    assert plan.part_names(folder, WorkUnit) == parts
    assert [plan.read_unit(folder, ref, WorkUnit) for ref in found] == units
    assert list(plan.read_units(folder, WorkUnit)) == units
    assert max(len(pickle.dumps(ref)) for ref in found) < 1000


@pytest.mark.parametrize(("count", "parts"), [(0, 0), (1, 1), (1000, 1), (1001, 2)])
def test_a_part_holds_a_thousand_units_and_none_is_empty(tmp_path, count, parts):
    units = [replace(UNIT, id=str(number)) for number in range(count)]
    names = plan.write_plan(units, str(tmp_path / "plan"), str(tmp_path / "tmp"))
    assert len(names) == parts
    assert sum(1 for _ in plan.read_units(str(tmp_path / "plan"), WorkUnit)) == count


def test_scenes_of_blocks_stand_in_parts_of_their_own_that_are_no_work(tmp_path):
    scene = AssemblyUnit("whole", "scene", (FILE,), ("b0", "b1"))
    folder = str(tmp_path / "plan")
    parts = plan.write_plan([UNIT, scene], folder, str(tmp_path / "tmp"))
    assert parts == ["part-00000.jsonl"]
    assert plan.part_names(folder, AssemblyUnit) == ["scenes-00000.jsonl"]
    assert list(plan.read_units(folder, AssemblyUnit)) == [scene]


def test_a_plan_replaces_the_one_before_it(tmp_path):
    folder, scratch = str(tmp_path / "plan"), str(tmp_path / "tmp")
    plan.write_plan([replace(UNIT, id=str(number)) for number in range(1500)], folder, scratch)
    plan.write_plan([UNIT], folder, scratch)
    assert sorted(os.listdir(folder)) == ["part-00000.jsonl", "parts.json"]
    assert list(plan.read_units(folder, WorkUnit)) == [UNIT]


def test_a_part_that_a_listing_leaves_out_is_read_and_one_that_is_lost_is_missed(client, tmp_path):
    units = [replace(UNIT, id=str(number)) for number in range(1500)]
    plan.write_plan(units, "gs://b/plan", str(tmp_path))
    page = client.page
    client.page = lambda *asked: (page(*asked)[0][:1], None)
    assert list(plan.read_units("gs://b/plan", WorkUnit)) == units
    del client.objects["gs://b/plan/part-00001.jsonl"]
    with pytest.raises(DamagedError, match=r"part-00001\.jsonl is damaged"):
        list(plan.read_units("gs://b/plan", WorkUnit))


@pytest.mark.parametrize(
    "content", [b"", b'["part-1.jsonl"', b"[1]", b'{"parts": ["part-1.jsonl"]}']
)
def test_a_damaged_list_of_parts_is_told_and_parts_are_as_found(tmp_path, content):
    folder, damaged = str(tmp_path / "plan"), []
    plan.write_plan([UNIT], folder, str(tmp_path / "tmp"))
    write(tmp_path / "plan" / "parts.json", content)
    assert list(plan.read_units(folder, WorkUnit, damaged.append)) == [UNIT]
    assert damaged == ["parts.json"]


def test_a_file_that_two_patterns_match_counts_once(tmp_path):
    write(tmp_path / "photos" / "a.jpg", b"x")
    write(tmp_path / "photos" / "sub" / "b.jpg", b"y")
    files = files_in(
        tmp_path / "photos", tmp_path / "photos" / "*.jpg", tmp_path / "photos" / "sub"
    )
    assert [f.name for f in files] == ["a.jpg", "sub/b.jpg"]
    assert [f.key for f in files] == ["photos/a.jpg", "photos/sub/b.jpg"]


def test_a_link_to_an_input_counts_once_with_it(tmp_path):
    write(tmp_path / "a" / "x.jpg", b"x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert [f.key for f in files_in(tmp_path / "a", tmp_path / "b")] == ["a/x.jpg"]


def test_roots_of_one_name_get_folders_of_their_own(tmp_path):
    for place in ("north", "south"):
        write(tmp_path / place / "photos" / "a.jpg", place.encode())
    files = files_in(tmp_path / "north" / "photos", tmp_path / "south" / "photos" / "*.jpg")
    first, second = (f.key for f in files)
    assert first == "photos/a.jpg"
    assert re.fullmatch(r"photos-[0-9a-f]{8}/a\.jpg", second)


def test_a_root_keeps_its_folder_when_others_are_added_or_it_is_spelled_otherwise(
    tmp_path, monkeypatch
):
    for place in ("north", "south"):
        write(tmp_path / place / "photos" / "a.jpg", place.encode())
    north, south = (str(tmp_path / place / "photos") for place in ("north", "south"))
    known = root_folders([south])
    monkeypatch.chdir(tmp_path)

    folders = root_folders([north, "south/photos/*.jpg"], known)

    files = list(list_inputs([north, "south/photos/*.jpg"], "no-run", folders))
    assert re.fullmatch(r"photos-[0-9a-f]{8}/a\.jpg", files[0].key)
    assert files[1].key == "photos/a.jpg"


def test_roots_of_different_names_keep_them(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / name / "a.jpg", b"")
    assert [f.key for f in files_in(tmp_path / "x", tmp_path / "y")] == ["x/a.jpg", "y/a.jpg"]


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    write(tmp_path / "a.jpg", b"")
    with pytest.raises(ConfigurationError, match=r"^--input .*\*\.png matches no file"):
        files_in(tmp_path / "a.jpg", tmp_path / "*.png")


def test_what_a_run_wrote_is_no_input_of_it(tmp_path):
    for name in ("a.jpg", "run/labels/x/a.jpg.png", "run2/b.jpg"):
        write(tmp_path / "photos" / name, b"")
    (tmp_path / "link").symlink_to(tmp_path / "photos" / "run")
    for output in (tmp_path / "photos" / "run", tmp_path / "link"):
        files = list_inputs([str(tmp_path / "photos")], str(output))
        assert [f.name for f in files] == ["a.jpg", "run2/b.jpg"]
    with pytest.raises(ConfigurationError, match="matches no file"):
        list_inputs([str(tmp_path / "link" / "**")], str(tmp_path / "photos" / "run"))


def test_inputs_in_an_unknown_store_are_refused():
    with pytest.raises(ConfigurationError, match=r"^swift:// locations cannot be read"):
        files_in("swift://bucket/scenes")


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_damaged_line_is_told_and_the_others_are_of_use(tmp_path, is_sealed):
    units = [replace(UNIT, id=f"unit-{n}") for n in range(3)]
    folder = str(tmp_path / "plan")
    plan.write_plan(units, folder, str(tmp_path / "tmp"), is_sealed=is_sealed)
    part = tmp_path / "plan" / "part-00000.jsonl"
    whole = part.read_bytes()
    places = list(plan.references(folder, part.name))
    # Without a seal, an entry that no line has shows the damage.
    at = whole.index(b"unit-1") if is_sealed else whole.index(b'"records"', whole.index(b"unit-1"))
    part.write_bytes(flipped(whole, at + 5))
    damaged = []

    found = list(plan.read_units(folder, WorkUnit, damaged.append))

    assert found == [units[0], units[2]]
    assert damaged == ["part-00000.jsonl"]
    for read in (
        lambda: list(plan.read_units(folder, WorkUnit)),
        lambda: plan.read_unit(folder, places[1], WorkUnit),
    ):
        with pytest.raises(DamagedError, match=r"plan/part-00000.jsonl .*: run the same command"):
            read()


def test_a_changed_bit_anywhere_in_a_sealed_line_is_found(tmp_path):
    folder, scratch = str(tmp_path / "plan"), str(tmp_path / "tmp")
    plan.write_plan([UNIT], folder, scratch)
    part = tmp_path / "plan" / "part-00000.jsonl"
    whole, found = part.read_bytes(), []
    for place in range(len(whole) - 1):
        part.write_bytes(flipped(whole, place, place % 8))
        found += plan.read_units(folder, WorkUnit, plan.pass_over)
    assert found == []
