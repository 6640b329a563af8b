"""From a design and labels to estimates: which points count where, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.accuracy.accuracy_tables import accuracy_text
from pipelines.accuracy.assessment import OLOFSSON, STEHMAN, assess_sample
from pipelines.accuracy.design import Stratum
from segmodel.errors import ConfigurationError
from segmodel.evaluation.intervals import WILSON, Intervals
from segmodel.evaluation.stratified import Strata, general_strata
from tests.pipelines.accuracy.made_samples import class_sample, made_sample, olofsson_sample

TWO = ((0, "lake"), (3, "land"))
HA = 1e4


def rounded(values: np.ndarray, digits: int) -> list[float]:
    return np.round(values, digits).tolist()


def test_the_published_example_is_reproduced_from_a_design_and_labels():
    design, labels = olofsson_sample()

    ground = assess_sample(design, labels, {}, WILSON).whole

    areas, found = ground.estimates.areas, ground.estimates
    assert rounded(areas.value / HA, 4) == [21157.7622, 11686.1538, 285769.9301, 581386.1538]
    assert rounded(areas.low / HA, 1) == [17757.7, 9599.5, 269447.6, 563846.2]
    assert rounded(areas.high / HA, 1) == [33417.5, 22292.3, 302412.8, 598227.9]
    assert rounded(areas.standard_error / HA, 3) == [3141.650, 1916.238, 7913.182, 8306.968]
    assert round(found.overall_accuracy.item().value, 10) == 0.9465118881
    assert rounded(found.producers_accuracy.value, 7) == [0.7486614, 0.8471564, 0.9345089, 0.961609]
    assert ground.map_areas_m2 == (18000 * HA, 13500 * HA, 288000 * HA, 580500 * HA)
    assert ground.source == OLOFSSON
    assert ground.area_m2 == 900_000 * HA


@pytest.mark.parametrize(("method", "low"), [("jeffreys", 17564.9), ("clopper-pearson", 17194.1)])
def test_other_intervals_of_the_published_example_are_reproduced(method, low):
    pytest.importorskip("scipy", reason="these intervals need scipy")
    design, labels = olofsson_sample()

    ground = assess_sample(design, labels, {}, Intervals(0.95, method)).whole

    assert round(ground.estimates.areas[0].low / HA, 1) == low


def test_points_without_a_class_are_refused_by_name_and_dropped_if_asked():
    design, labels = class_sample(np.array([[8, 2], [1, 9]]), [10.0, 90.0], TWO)
    lost = [point.id for point in design.points if point.map_class == 0][:2]
    some = {name: seen for name, seen in labels.items() if name not in lost}

    with pytest.raises(
        ConfigurationError,
        match=r"2 points of 20 without a class \(p00000, p00001\): .* --missing drop",
    ):
        assess_sample(design, some, {}, WILSON)
    assessment = assess_sample(design, some, {}, WILSON, drop_missing=True)

    assert assessment.unlabelled == 2
    pairs = [pair[:3] for pair in assessment.whole.pairs]
    assert pairs == [(0, 0, 6), (0, 1, 2), (1, 0, 1), (1, 1, 9)]
    assert assessment.whole.estimates.users_accuracy.value.tolist() == [0.75, 0.9]


def test_a_stratum_without_a_labelled_point_is_refused_by_its_name():
    design, labels = class_sample(np.array([[1, 0], [1, 9]]), [10.0, 90.0], TWO)
    some = {name: seen for name, seen in labels.items() if name != "p00000"}

    with pytest.raises(ConfigurationError, match="stratum 'lake' has no labelled point"):
        assess_sample(design, some, {}, WILSON, drop_missing=True)


def test_a_stratum_with_one_point_gives_an_estimate_without_limits():
    design, labels = class_sample(np.array([[1, 0], [1, 9]]), [10.0, 90.0], TWO)

    area = assess_sample(design, labels, {}, WILSON).whole.estimates.areas[0]

    assert area.value == pytest.approx(10 + 9)
    assert (area.standard_error, area.low, area.high, area.wald_low) == (None, None, None, None)


def test_a_sample_without_an_error_has_intervals_with_a_width_and_no_usual_ones():
    design, labels = class_sample(np.array([[10, 0], [0, 10]]), [10.0, 90.0], TWO)

    found = assess_sample(design, labels, {}, WILSON).whole.estimates

    for estimated in (
        *found.areas,
        *found.users_accuracy,
        *found.producers_accuracy,
        found.overall_accuracy.item(),
    ):
        assert estimated.high - estimated.low > 0
        assert (estimated.standard_error, estimated.wald_low, estimated.wald_high) == (None,) * 3


def test_a_class_that_only_the_reference_has_gets_an_area():
    classes = (*TWO, (7, "reef"))
    counts = np.array([[8, 1, 1], [0, 10, 0], [0, 0, 0]])
    design, labels = class_sample(counts, [10.0, 90.0, 0.0], classes)

    ground = assess_sample(design, labels, {}, WILSON).whole

    reef = ground.estimates.areas[2]
    assert reef.value == pytest.approx(1.0)
    assert reef.low < 1.0 < reef.high
    assert ground.map_areas_m2 == (10.0, 90.0, 0)
    assert ground.estimates.users_accuracy[2].value is None
    assert ground.estimates.producers_accuracy[2].value == 0.0
    assert ground.source == OLOFSSON


def zone_sample():
    cubes = np.array([[[4, 1], [0, 5]], [[8, 0], [2, 10]]])
    strata = [Stratum("north", None, "north", False, 40.0, 0)]
    strata.append(Stratum("south", None, "south", False, 60.0, 0))
    return made_sample(cubes, strata, TWO, "zone"), cubes


def test_zones_are_estimated_each_by_its_own_points_and_together_by_stehman():
    (design, labels), cubes = zone_sample()

    assessment = assess_sample(
        design, labels, {None: {0: 50.5, 3: 49.5}, "north": {0: 15.5, 3: 24.5}}, WILSON
    )

    north, south = assessment.zones
    assert (north.zone, south.zone) == ("north", "south")
    assert north.estimates.areas.value.tolist() == pytest.approx([16, 24])
    assert south.estimates.areas.value.tolist() == pytest.approx([30, 30])
    assert south.estimates.users_accuracy.value.tolist() == pytest.approx([1.0, 10 / 12])
    assert assessment.whole.estimates.areas.value.tolist() == pytest.approx([46, 54])
    expected = general_strata(cubes, Strata(np.array([40.0, 60.0])))
    assert list(assessment.whole.estimates.areas) == list(expected.areas)
    assert assessment.whole.source == north.source == STEHMAN
    # What the map has of each class, the design does not know.
    assert assessment.whole.map_areas_m2 == (50.5, 49.5)
    assert north.map_areas_m2 == (15.5, 24.5)
    assert south.map_areas_m2 == (None, None)


def test_areas_of_a_map_that_are_of_more_ground_than_was_sampled_are_not_held_against_estimates():
    (design, labels), _ = zone_sample()

    assessment = assess_sample(design, labels, {None: {0: 50.5, 3: 59.5}}, WILSON)

    assert assessment.whole.map_areas_m2 == (None, None)


def test_classes_by_zone_are_strata_of_one_class_within_each_zone():
    cubes = np.zeros((4, 2, 2), int)
    cubes[0, 0], cubes[1, 1], cubes[2, 0], cubes[3, 1] = (9, 1), (2, 8), (5, 5), (0, 10)
    strata = [
        Stratum(f"{name} {zone}", class_id, zone, False, area, 0)
        for zone, class_id, name, area in [
            ("east", 0, "lake", 10.0),
            ("east", 3, "land", 30.0),
            ("west", 0, "lake", 20.0),
            ("west", 3, "land", 40.0),
        ]
    ]
    design, labels = made_sample(cubes, strata, TWO, "class*zone")

    assessment = assess_sample(design, labels, {}, WILSON)

    east, west = assessment.zones
    assert east.estimates.areas.value.tolist() == pytest.approx([9 + 6, 1 + 24])
    assert west.estimates.areas.value.tolist() == pytest.approx([10, 50])
    assert east.source == OLOFSSON
    assert assessment.whole.source == STEHMAN
    assert assessment.whole.map_areas_m2 == (30.0, 70.0)
    assert east.map_areas_m2 == (10.0, 30.0)
    users = assessment.whole.estimates.users_accuracy[0]
    assert users.value == pytest.approx((10 * 0.9 + 20 * 0.5) / 30)


def test_probabilities_of_all_ground_are_corrected_by_those_of_the_points():
    pytest.importorskip("scipy", reason="its interval needs scipy")
    design, labels = class_sample(np.array([[10, 0], [1, 9]]), [10.0, 90.0], TWO)
    # A lake has a probability of 0.8 where there is one, and else of 0.2.
    points = tuple(
        replace(point, probabilities=(204, 51) if labels[point.id] == 0 else (51, 204))
        for point in design.points
    )
    design = replace(design, points=points)

    corrected = assess_sample(
        design, labels, {}, WILSON, mean_probability=np.array([[0.7, 0.25], [0.3, 0.75]])
    ).whole.corrected

    lake = corrected[0]
    # In lakes 0.7 + 0.2, on land 0.25 + (0.2 - 9 * 0.2) / 10.
    assert lake.value == pytest.approx(10 * 0.9 + 90 * 0.09)
    assert lake.standard_error == pytest.approx(90 * (0.016 / 10) ** 0.5)
    # Student's t with the 9 degrees of freedom of the land, as lakes do not vary.
    assert lake.value - lake.low == pytest.approx(2.262157 * 3.6, rel=1e-6)
    # Wilson: of 10 points without a lake where 0.2 was said, up to 27.8 % may have one elsewhere;
    # and all of the 10 may be lake, of which 9 are expected.
    assert lake.high - lake.value == pytest.approx(np.hypot(90 * 0.2775327998, 1), rel=1e-6)
    assert lake.wald_high - lake.value == pytest.approx(1.959964 * 3.6, rel=1e-6)
    assert corrected[1].value == pytest.approx(100 - lake.value)


def test_a_buffer_around_a_class_is_a_stratum_of_several_classes():
    cubes = np.zeros((3, 2, 2), int)
    cubes[0, 0], cubes[1, 1], cubes[2, 1] = (9, 1), (0, 20), (3, 7)
    strata = [
        Stratum("lake", 0, None, False, 10.0, 0),
        Stratum("land", 3, None, False, 80.0, 0),
        Stratum("around lake", None, None, True, 10.0, 0),
    ]
    design, labels = made_sample(cubes, strata, TWO)
    design = replace(design, buffer=(0, 2))

    ground = assess_sample(design, labels, {None: {0: 10.0, 3: 90.0}}, WILSON).whole

    assert ground.source == STEHMAN
    assert ground.estimates.areas.value.tolist() == pytest.approx([9 + 3, 1 + 80 + 7])
    assert ground.map_areas_m2 == (10.0, 90.0)
    # The map has no lake around lakes: user's accuracy of lakes is a share of their own stratum.
    users = ground.estimates.users_accuracy[0]
    limits = [float(limit) for limit in WILSON.of_shares(np.array(9), np.array(10))]
    assert [users.low, users.high] == pytest.approx(limits, rel=1e-12)


def test_areas_of_each_zone_are_printed_below_those_of_all():
    (design, labels), _ = zone_sample()

    lines = list(accuracy_text(assess_sample(design, labels, {}, WILSON)))

    first = lines.index("\nnorth, by its own points\n")
    assert [line.split()[:3] for line in lines[first + 1 : first + 4]] == [
        ["class", "map", "m²"],
        ["lake", "-", "16.0"],
        ["land", "-", "24.0"],
    ]
    assert lines[first + 4] == "\nsouth, by its own points\n"
