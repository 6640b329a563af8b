"""The plan of a corpus of all formats: byte for byte what it was when lists were in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.formats.work import Counting
from pipelines.inputs.catalogue import group_of
from pipelines.run import plan
from pipelines.segment.inputs import Inputs, estimate, find_inputs, units_of
from pipelines.segment.options import SegmentOptions
from tests.fakes import contract
from tests.pipelines.corpus import make_work, plan_context
from tests.pipelines.planned_corpus import digests, planned_corpus

NOTHING = (0, "e3b0c44298fc1c14")
SCENES = {"scenes": (1, "82af5cc51910df0a"), "counts": (5, "1a4e4bc6ed55b40d")}
NO_SCENES = {"scenes": NOTHING, "counts": NOTHING}


@pytest.fixture
def patterns(tmp_path, monkeypatch) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    return planned_corpus(tmp_path)


def inputs_of(patterns: tuple[str, ...], limit: int | None) -> Inputs:
    options = SegmentOptions(patterns, "model", "run", limit=limit)
    return find_inputs(options, plan_context(contract()))


@pytest.mark.parametrize(
    ("limit", "groups", "part", "others"),
    [
        (None, 1, (57, "17679316dc3c4df0"), SCENES),
        (None, 3, (59, "df7f049a90a1041a"), SCENES),
        (None, 16, (72, "122759fef72d4f3a"), SCENES),
        (5, 1, (6, "9ae7b1d11cb4b4e7"), NO_SCENES),
        (5, 16, (6, "9ae7b1d11cb4b4e7"), NO_SCENES),
        (70, 1, (57, "7041dc05b998912c"), SCENES),
        (70, 3, (59, "b5ce488ed415c583"), SCENES),
        (70, 16, (66, "ffa623e0ef7f1ff6"), SCENES),
    ],
)
def test_a_plan_is_byte_for_byte_the_recorded_one(patterns, limit, groups, part, others):
    work = make_work(Path("run"), groups=groups, counting=Counting(None, "first"))
    units = units_of(inputs_of(patterns, limit), work)
    plan.write_plan(units, "run/plan", "run/tmp", is_sealed=False)
    assert digests("run/plan") == {"part": part} | others


@pytest.mark.parametrize(
    ("limit", "files", "images", "pixels", "windows"),
    [
        (None, (24, 12, 12, 5, 622), 675, 21_790_000, 6_085),
        (5, (6, 0, 0, 0, 0), 6, 0, 6),
        (70, (24, 12, 12, 5, 18), 71, 21_790_000, 5_481),
    ],
)
def test_files_by_format_and_what_is_estimated_of_them_are_as_recorded(
    patterns, limit, files, images, pixels, windows
):
    found = inputs_of(patterns, limit)
    assert tuple(len(of_format) for _, of_format in found.files) == files
    assert (len(found.left_aside), found.grouped_files) == (24, 622)
    guess = estimate(found, plan_context(contract()))
    assert (guess.images, guess.pixels, guess.windows) == (images, pixels, windows)


def test_groups_hold_what_sorting_in_memory_gives(patterns):
    images = inputs_of(patterns, None).of_format("images")
    for groups in (1, 3, 16):
        expected: dict[int, list] = {}
        for file in sorted(images, key=lambda file: file.key):
            expected.setdefault(group_of(file.key, groups), []).append(file)
        actual = {group: list(members) for group, members in images.in_groups(groups)}
        assert list(actual.items()) == sorted(expected.items())
