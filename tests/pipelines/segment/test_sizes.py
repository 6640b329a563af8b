"""Windows and images by the memory that a worker may take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.geodesy.polygons import Polygons
from pipelines.segment.options import SegmentOptions
from pipelines.segment.sizes import MIB, RUNTIME_BYTES, resolve_sizes
from segmodel.errors import ConfigurationError
from segmodel.images.limits import MAX_PIXELS
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.tiling.borders import BorderCurve
from tests.fakes import contract

OPTIONS = SegmentOptions(("in",), "model", "run", memory=RUNTIME_BYTES + 4000 * MIB)
# What prediction may take of 4,000 MiB beside Beam and TensorFlow.
MODEL_MIB = 2400


def made(per_pixel: int | None = 1, halo: int = 0, **fields):
    return contract(bytes_per_pixel=per_pixel, halo=MeasuredHalo(halo, 512, 1.0), **fields)


@pytest.mark.parametrize(
    ("per_pixel", "window"),
    [(1, 2048), (600, 2048), (601, 2016), (2400, 1024), (2401, 992), (9600, 512), (9601, 256)],
)
def test_windows_are_as_large_as_memory_allows(per_pixel, window):
    layout = resolve_sizes(OPTIONS, made(per_pixel)).layout
    assert (layout.window_px, layout.halo_px, layout.batch) == (window, 0, 1)


def test_memory_counts_the_halo_and_the_batch():
    assert resolve_sizes(replace(OPTIONS, halo=32), made(600)).layout.window_px == 1984
    assert resolve_sizes(replace(OPTIONS, batch=4), made(600)).layout.window_px == 1024
    unknown = resolve_sizes(OPTIONS, made(None))
    assert unknown.layout.window_px == 1536
    assert unknown.memory.model == 1536**2 << 10


def test_less_memory_gives_smaller_windows_and_a_smaller_limit_of_images():
    sizes = [
        resolve_sizes(replace(OPTIONS, memory=RUNTIME_BYTES + mib * MIB), made(600))
        for mib in (4000, 2000, 500)
    ]
    assert [entry.layout.window_px for entry in sizes] == [2048, 1440, 704]
    pixels = [entry.reading.max_pixels for entry in sizes]
    assert pixels == sorted(pixels, reverse=True)
    assert len(set(pixels)) == 3


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mib", [300, 1000, 4000])
def test_all_parts_together_stay_within_the_option(mib, wide, confidence):
    classes = ClassTable((LabelClass(300 if wide else 3, "a", (1, 2, 3)),))
    options = replace(OPTIONS, memory=RUNTIME_BYTES + mib * MIB, confidence=confidence)
    sizes = resolve_sizes(options, made(100, classes=classes))
    limits = sizes.limits
    total = sizes.memory.needed + limits.read_ahead_bytes + limits.finishing_bytes
    assert total <= options.memory
    assert limits.read_ahead_bytes >= 18 * sizes.reading.max_pixels


def test_without_an_option_images_have_at_most_the_pixels_that_pillow_takes():
    plenty = replace(OPTIONS, memory=64 << 30)
    assert resolve_sizes(plenty, made()).reading.max_pixels == MAX_PIXELS
    assert resolve_sizes(replace(plenty, max_pixels=5), made()).reading.max_pixels == 5


@pytest.mark.parametrize(
    "change",
    [
        {"memory": 700 * MIB},
        {"window": 8192},
        {"batch": 500, "window": 512},
        {"max_pixels": 900_000_000},
    ],
)
def test_what_memory_does_not_allow_is_refused_with_what_would(change):
    options = replace(OPTIONS, **change)
    with pytest.raises(ConfigurationError, match=r"^--memory \d+M is not enough") as caught:
        resolve_sizes(options, made(600))
    enough = int(str(caught.value).split("give ")[1].split("M")[0])
    resolve_sizes(replace(options, memory=enough * MIB), made(600))
    with pytest.raises(ConfigurationError):
        resolve_sizes(replace(options, memory=(enough - 2) * MIB), made(600))


def test_the_memory_that_is_named_for_scenes_suffices_for_them():
    options = replace(OPTIONS, memory=1 * MIB, window=256)
    with pytest.raises(ConfigurationError, match=r"give \d+M \(\d+M for scenes\)") as caught:
        resolve_sizes(options, made(600))
    enough = int(str(caught.value).split(" (")[1].split("M")[0])
    resolve_sizes(replace(options, memory=enough * MIB), made(600)).check_scenes(enough * MIB)
    short = (enough - 2) * MIB
    with pytest.raises(ConfigurationError, match="is not enough for scenes"):
        resolve_sizes(replace(options, memory=short), made(600)).check_scenes(short)


def test_automatic_batches_take_memory_of_the_device_and_not_of_the_process():
    options = replace(OPTIONS, window=256)
    usual, automatic = (
        resolve_sizes(replace(options, batch=batch), made(1000)) for batch in (None, "auto")
    )
    assert automatic.memory.model == usual.memory.model == 512**2 * 1000
    # Six calls of windows, each pixel with its label, are held all the same.
    assert automatic.memory.windows == 6 * 2048**2 * 4
    assert resolve_sizes(options, made(), {"batch": "auto"}).layout.batch == "auto"


def test_a_run_of_an_earlier_release_keeps_its_batches_and_a_new_one_has_single_windows():
    frozen = {"window_px": 512, "halo_px": 32, "batch": None, "max_pixels": 12345}
    assert resolve_sizes(OPTIONS, made(), frozen).layout.batch is None
    assert resolve_sizes(OPTIONS, made(), {}).layout.batch == 1
    assert resolve_sizes(OPTIONS, made()).layout.batch == 1


def test_a_run_that_was_begun_keeps_its_sizes_with_other_memory():
    frozen = {"window_px": 512, "halo_px": 32, "batch": 3, "max_pixels": 12345}
    sizes = resolve_sizes(OPTIONS, made(), frozen)
    assert (sizes.layout.window_px, sizes.layout.halo_px, sizes.layout.batch) == (512, 32, 3)
    assert sizes.reading.max_pixels == 12345
    asked = replace(OPTIONS, window=256, halo=0, batch=1, max_pixels=99)
    changed = resolve_sizes(asked, made(), frozen)
    assert (changed.layout.window_px, changed.layout.halo_px, changed.layout.batch) == (256, 0, 1)
    assert changed.reading.max_pixels == 99


def test_a_fixed_window_is_kept():
    layout = resolve_sizes(OPTIONS, made(halo=32, fixed_window=256)).layout
    assert (layout.window_px, layout.halo_px, layout.fixed_px) == (192, 32, 256)


def test_a_window_other_than_the_fixed_one_is_refused():
    with pytest.raises(ConfigurationError, match="window is fixed at 256"):
        resolve_sizes(replace(OPTIONS, window=1024), made(fixed_window=256))


def test_scaled_images_count():
    plain = resolve_sizes(OPTIONS, made())
    scaled = resolve_sizes(replace(OPTIONS, resize=(4096, 4096)), made())
    assert scaled.memory.windows - plain.memory.windows == 2 * 4096**2 * 4
    assert scaled.reading.resize == (4096, 4096)


@pytest.mark.parametrize(
    ("halo", "expected"),
    [(0, 2048), (32, 2048), (33, 3264), (64, 3264), (65, 4096), (256, 4096)],
)
def test_a_large_halo_gives_windows_in_which_it_costs_a_twelfth_at_most(halo, expected):
    plenty = replace(OPTIONS, memory=64 << 30)
    layout = resolve_sizes(plenty, made(halo=halo)).layout
    assert layout.window_px == expected
    if expected < 4096:
        assert (layout.read_px / layout.window_px) ** 2 <= 1.08


@pytest.mark.parametrize(("stride", "step"), [(1, 32), (8, 32), (32, 32), (48, 48), (40, 40)])
def test_windows_go_in_steps_that_are_multiples_of_the_stride(stride, step):
    found = {
        resolve_sizes(
            replace(OPTIONS, memory=RUNTIME_BYTES + mib * MIB), made(600, stride=stride)
        ).layout.window_px
        for mib in range(400, 4000, 100)
    }
    assert len(found) > 10
    assert all(window % step == 0 for window in found)


def test_the_next_step_would_take_more_than_the_share_of_the_model():
    for mib in (400, 1000, 2500):
        options = replace(OPTIONS, memory=RUNTIME_BYTES + mib * MIB)
        layout = resolve_sizes(options, made(600, halo=40)).layout
        share = 0.6 * mib * MIB
        assert (layout.window_px + 2 * 64) ** 2 * 600 <= share
        assert (layout.window_px + 32 + 2 * 64) ** 2 * 600 > share


def test_how_scenes_are_read_is_handed_on():
    options = replace(OPTIONS, bands=("4", "3", "2"), resample_to=10.0)
    sizes = resolve_sizes(options, made())
    assert (sizes.reading.bands, sizes.reading.resample_to) == (("4", "3", "2"), 10.0)
    assert sizes.reading.aoi is None
    assert sizes.with_aoi(None) is sizes
    area = Polygons("WKT", ("a",), (b"wkb",))
    assert sizes.with_aoi(area).reading == replace(sizes.reading, aoi=area.digest)


def test_windows_leave_room_for_the_least_images_before_memory_is_said_to_be_too_little():
    options = replace(OPTIONS, memory=RUNTIME_BYTES + 300 * MIB, confidence=True)
    model = made(100, classes=ClassTable((LabelClass(300, "a", (1, 2, 3)),)))
    layout = resolve_sizes(options, model).layout
    assert 256 < layout.window_px < 1344
    resolve_sizes(replace(options, window=layout.window_px), model)
    with pytest.raises(ConfigurationError, match="is not enough"):
        resolve_sizes(replace(options, window=layout.window_px + 32), model)


# Halos of 0, 32, 64 and 96 pixels lose 3.35, 0.154, 0.026 and no labels a pixel of border.
CURVE = BorderCurve(32, (0.1, 0.004, 0.0008, 0.0))


@pytest.mark.parametrize(("mib", "expected"), [(4000, (1984, 32)), (700, (704, 64))])
def test_the_halo_is_the_least_that_is_enough_for_the_windows_that_memory_allows(mib, expected):
    model = contract(bytes_per_pixel=600, halo=MeasuredHalo(64, 512, 1.0, CURVE))
    options = replace(OPTIONS, memory=RUNTIME_BYTES + mib * MIB)
    layout = resolve_sizes(options, model).layout
    assert (layout.window_px, layout.halo_px) == expected


def test_a_window_that_is_asked_for_gets_the_halo_that_it_needs():
    model = contract(bytes_per_pixel=1, halo=MeasuredHalo(64, 512, 1.0, CURVE))
    asked = [replace(OPTIONS, window=side) for side in (64, 512, 2048)]
    assert [resolve_sizes(options, model).layout.halo_px for options in asked] == [96, 64, 32]
    assert resolve_sizes(replace(OPTIONS, halo=8), model).layout.halo_px == 8


def test_where_no_halo_is_enough_the_one_that_comes_nearest_is_taken():
    far = BorderCurve(32, (0.5, 0.1, 0.01))
    model = contract(bytes_per_pixel=600, halo=MeasuredHalo(64, 512, 0.9, far))
    assert resolve_sizes(OPTIONS, model).layout.halo_px == 64


def test_windows_may_be_rectangular_unless_they_were_asked_for_or_begun_otherwise():
    begun = {"window_px": 512, "halo_px": 0, "batch": None, "max_pixels": 12345}
    asked, fixed = replace(OPTIONS, window=512), made(fixed_window=256)
    assert resolve_sizes(OPTIONS, made()).layout.rectangular
    assert resolve_sizes(OPTIONS, made(), begun | {"rectangular": True}).layout.rectangular
    assert resolve_sizes(asked, made(), begun | {"rectangular": True}).layout.rectangular
    assert not resolve_sizes(OPTIONS, made(), begun).layout.rectangular
    assert not resolve_sizes(asked, made()).layout.rectangular
    assert not resolve_sizes(OPTIONS, fixed).layout.rectangular


def test_a_run_that_was_begun_keeps_its_halo_when_the_model_has_a_curve():
    model = contract(bytes_per_pixel=1, halo=MeasuredHalo(64, 512, 1.0, CURVE))
    frozen = {"window_px": 512, "halo_px": 96, "batch": None, "max_pixels": 12345}
    layout = resolve_sizes(OPTIONS, model, frozen).layout
    assert (layout.window_px, layout.halo_px) == (512, 96)
