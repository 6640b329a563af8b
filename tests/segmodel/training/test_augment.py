"""Augmentation moves image and truth alike."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.labels.confusion import IGNORED
from segmodel.training.configuration import AugmentationConfig

tf = pytest.importorskip("tensorflow")

STILL = AugmentationConfig(flips=False, brightness=0.0, contrast=0.0)
FULL = AugmentationConfig(True, True, (0.5, 2.0), 0.1, 0.2, 0.2, 1.5, 0.05)
TRUTH = np.arange(64, dtype=np.int16).reshape(8, 8)
IMAGE = np.repeat(TRUTH[..., None], 3, -1).astype(np.uint8)
GREY = np.full((8, 8, 3), 100, np.uint8)
RANGE = (0.0, 255.0)


def still_but(**changes) -> AugmentationConfig:
    return AugmentationConfig(**{"flips": False, "brightness": 0.0, "contrast": 0.0} | changes)


@pytest.fixture(scope="module")
def augmented():
    from segmodel.training.augment import augment

    traced = {}

    def run(config, number, image=IMAGE, truth=TRUTH, crop=8, value_range=RANGE):
        key = (config, crop, value_range, image.dtype, image.shape[-1])
        if key not in traced:
            traced[key] = tf.function(
                lambda i, t, s: augment(i, t, s, crop, config, value_range),
                input_signature=[
                    tf.TensorSpec((None, None, image.shape[-1]), image.dtype),
                    tf.TensorSpec((None, None), tf.int16),
                    tf.TensorSpec((2,), tf.int32),
                ],
            )
        changed = traced[key](image, truth, tf.constant([3, number]))
        return [part.numpy() for part in changed]

    return run


def operations(config: AugmentationConfig) -> set[str]:
    """Operations of the graph, after those that no result needs are dropped."""
    from segmodel.training.augment import augment

    function = tf.function(lambda i, t, s: augment(i, t, s, 8, config, RANGE))
    graph = function.get_concrete_function(
        tf.TensorSpec((None, None, 3), tf.uint8),
        tf.TensorSpec((None, None), tf.int16),
        tf.TensorSpec((2,), tf.int32),
    ).graph
    waiting, found = [output.op for output in graph.outputs], {}
    while waiting:
        if (operation := waiting.pop()).name not in found:
            found[operation.name] = operation.type
            waiting += [source.op for source in operation.inputs]
    return set(found.values())


def test_nothing_allowed_changes_nothing(augmented):
    image, truth = augmented(STILL, 0)
    np.testing.assert_array_equal(image, IMAGE.astype(np.float32))
    np.testing.assert_array_equal(truth, TRUTH)
    assert (image.dtype, truth.dtype) == (np.float32, np.int16)


def test_nothing_allowed_is_a_cast_and_a_limit_in_the_graph():
    plumbing = {"Placeholder", "Const", "Identity", "StridedSlice", "ExpandDims", "EnsureShape"}
    actual = operations(STILL) - plumbing
    assert actual == {"Cast", "Maximum", "Minimum"}


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        ({"flips": True}, "StatelessIf"),
        ({"scale": (0.5, 1.0)}, "StatelessIf"),
        ({"blur": 1.0}, "DepthwiseConv2dNative"),
        ({"noise": 0.1}, "StatelessRandomNormalV2"),
        ({"brightness": 0.1}, "AddV2"),
        ({"contrast": 0.1}, "Mul"),
        ({"color": 0.1}, "Mul"),
    ],
)
def test_each_change_brings_its_own_operation(change, operation):
    assert operation not in operations(STILL)
    assert operation in operations(still_but(**change))


def test_image_and_truth_are_moved_alike_in_all_eight_ways(augmented):
    ways = set()
    for number in range(80):
        image, truth = augmented(still_but(flips=True, quarter_turns=True), number)
        np.testing.assert_array_equal(image[..., 0], truth)
        np.testing.assert_array_equal(image[..., 2], truth)
        ways.add(truth.tobytes())
    turned = {np.rot90(m, k).tobytes() for m in (TRUTH, TRUTH[:, ::-1]) for k in range(4)}
    assert ways == turned


def test_flips_alone_mirror_left_and_right_only(augmented):
    ways = {augmented(still_but(flips=True), number)[1].tobytes() for number in range(20)}
    assert ways == {TRUTH.tobytes(), TRUTH[:, ::-1].tobytes()}


def test_the_same_seed_gives_the_same_crop_and_another_another(augmented):
    images = []
    for number in range(5):
        first, second = augmented(FULL, number), augmented(FULL, number)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
        images.append(first[0].tobytes())
    assert len(set(images)) == 5


def test_a_change_leaves_the_moves_of_the_others_as_they_are(augmented):
    for number in range(8):
        moved = augmented(still_but(flips=True, quarter_turns=True), number)[1]
        changed = augmented(still_but(flips=True, quarter_turns=True, noise=0.1, blur=1.0), number)
        np.testing.assert_array_equal(changed[1], moved)


def test_a_side_that_is_the_crop_leaves_pixels_exactly_as_they_are(augmented):
    image, truth = augmented(still_but(scale=(0.5, 2.0)), 0)
    np.testing.assert_array_equal(image, IMAGE.astype(np.float32))
    np.testing.assert_array_equal(truth, TRUTH)


@pytest.mark.parametrize("side", [16, 17, 21, 31, 32, 33, 45, 63, 64])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_edge_stays_where_the_truth_has_it_to_half_a_pixel(augmented, side, axis):
    crop, edge = 32, side * 3 // 8
    truth = np.zeros((side, side), np.int16)
    truth[:, edge:] = 1
    truth = truth if axis else truth.T
    image = np.repeat(truth[..., None] * 255, 3, -1).astype(np.uint8)
    image, truth = augmented(still_but(scale=(0.5, 2.0)), 0, image, truth, crop)
    if not axis:
        image, truth = image.transpose(1, 0, 2), truth.T
    assert image.shape == (crop, crop, 3)
    in_image = crop - image[5, :, 0].sum() / 255
    in_truth = crop - truth[5].sum()
    assert in_image == pytest.approx(edge * crop / side, abs=0.1)
    assert abs(in_image - in_truth) <= 0.6
    assert set(np.unique(truth)) == {0, 1}


@pytest.mark.parametrize("side", [8, 16, 32])
def test_truth_outside_stays_ignored_and_no_class_is_invented(augmented, side):
    truth = np.full((side, side), IGNORED, np.int16)
    truth[: side // 2] = 7
    image = np.zeros((side, side, 3), np.uint8)
    _, changed = augmented(still_but(scale=(0.5, 2.0)), 0, image, truth, 16)
    np.testing.assert_array_equal(changed[:8], 7)
    np.testing.assert_array_equal(changed[8:], IGNORED)


def test_shrinking_averages_what_it_leaves_out(augmented):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    image, _ = augmented(still_but(scale=(0.5, 1.0)), 0, stripes, np.zeros((32, 32), np.int16), 16)
    np.testing.assert_allclose(image[:, 2:-2], 100, atol=1)


def test_values_are_clipped_to_the_value_range(augmented):
    extremes = np.zeros((8, 8, 3), np.uint8)
    extremes[:4] = 255
    lit = still_but(brightness=0.5, contrast=0.9, color=0.9, noise=0.5)
    images = np.stack([augmented(lit, number, extremes)[0] for number in range(40)])
    assert images.min() == 0.0
    assert images.max() == 255.0


def test_brightness_shifts_by_no_more_than_its_share_of_the_range(augmented):
    config = still_but(brightness=0.1)
    shifts = np.array([augmented(config, n, GREY)[0] - 100 for n in range(60)])
    assert np.abs(shifts).max() <= 25.5 + 1e-4
    assert shifts.min() < -15
    assert shifts.max() > 15
    assert len(np.unique(shifts)) == 60


def test_contrast_turns_about_the_middle_of_the_range(augmented):
    image = np.stack([np.full((8, 8), value, np.float32) for value in (0.0, 50.0, 90.0)], -1)
    for number in range(20):
        changed = augmented(still_but(contrast=0.5), number, image, value_range=(-50.0, 150.0))[0]
        low, middle, high = changed[0, 0]
        assert middle == pytest.approx(50.0, abs=1e-4)
        assert (50 - low) / 50 == pytest.approx((high - 50) / 40, rel=1e-4)
        assert 0.5 <= (50 - low) / 50 <= 1.5


def test_color_changes_each_band_by_itself_and_not_the_lowest_value(augmented):
    gains = []
    for number in range(20):
        changed = augmented(still_but(color=0.2), number, GREY)[0]
        assert len(np.unique(changed)) == 3
        gains.append(changed[0, 0] / 100)
    assert np.min(gains) >= 0.8 - 1e-6
    assert np.max(gains) <= 1.2 + 1e-6
    black = augmented(still_but(color=0.2), 0, np.zeros_like(GREY))[0]
    np.testing.assert_array_equal(black, 0)


def test_blur_is_the_gaussian_of_numpy_and_never_wider_than_allowed(augmented):
    point = np.zeros((15, 15, 1), np.float32)
    point[7, 7] = 200.0
    widths = []
    for number in range(20):
        image = augmented(still_but(blur=1.5), number, point, np.zeros((15, 15), np.int16), 15)[0]
        profile = image[..., 0].sum(0) / 200
        assert profile.sum() == pytest.approx(1, abs=1e-4)
        distances = np.arange(15) - 7
        sigma = np.sqrt(0.5 / np.log(profile[7] / max(profile[8], 1e-30)))
        expected = np.exp(-((distances / sigma) ** 2) / 2) * (abs(distances) <= 5)
        np.testing.assert_allclose(profile, expected / expected.sum(), atol=1e-4)
        widths.append(sigma)
    assert 0 < min(widths) < 0.5
    assert 1.0 < max(widths) <= 1.5


def test_blur_keeps_even_images_to_the_border_and_fits_crops_smaller_than_its_reach(augmented):
    image, truth = augmented(still_but(blur=50.0), 1, GREY)
    np.testing.assert_allclose(image, 100, rtol=1e-5)
    np.testing.assert_array_equal(truth, TRUTH)


def test_noise_has_a_spread_of_its_own_in_each_crop_up_to_the_share_of_the_range(augmented):
    grey, truth = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), np.int16)
    config = still_but(noise=0.1)
    images = [augmented(config, number, grey, truth, 64)[0] for number in range(30)]
    spreads = [image.std() for image in images]
    assert max(spreads) <= 25.5 * 1.05
    assert max(spreads) > 20
    assert min(spreads) < 5
    assert all(abs(image.mean() - 100) < 1.5 for image in images)
    assert abs(np.corrcoef(images[0][..., 0].ravel(), images[0][..., 1].ravel())[0, 1]) < 0.05


def test_light_blur_and_noise_do_not_touch_the_truth(augmented):
    config = still_but(brightness=0.5, contrast=0.9, color=0.5, blur=2.0, noise=0.2)
    np.testing.assert_array_equal(augmented(config, 7)[1], TRUTH)


@pytest.mark.parametrize("bands", [1, 3, 4, 10])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_number_of_bands_and_sample_type_is_augmented(augmented, bands, dtype):
    image = np.random.default_rng(0).integers(0, 255, (11, 11, bands)).astype(dtype)
    truth = np.zeros((11, 11), np.int16)
    changed, _ = augmented(FULL, 3, image, truth, 16)
    assert (changed.shape, changed.dtype) == ((16, 16, bands), np.float32)
    assert changed.min() >= 0.0
    assert changed.max() <= 255.0


def test_in_a_dataset_it_gives_the_same_bytes_as_called_alone():
    from segmodel.training.augment import augment

    pairs = tf.data.Dataset.from_tensors((IMAGE, TRUTH)).repeat(4).enumerate()
    changed = pairs.map(
        lambda n, pair: augment(*pair, tf.stack([5, tf.cast(n, tf.int32)]), 8, FULL, RANGE),
        num_parallel_calls=2,
    )
    assert changed.element_spec[0].shape == (8, 8, 3)
    for number, (image, truth) in enumerate(changed.as_numpy_iterator()):
        expected = augment(IMAGE, tf.constant(TRUTH), tf.constant([5, number]), 8, FULL, RANGE)
        np.testing.assert_allclose(image, expected[0], atol=1e-3)
        np.testing.assert_array_equal(truth, expected[1])
