"""How many points each stratum of a sample gets, by the options of `sample`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.accuracy.sample_options import SampleOptions
from pipelines.accuracy.strata import StratumKey
from segmodel.errors import ConfigurationError
from segmodel.evaluation.sample_size import Allocation, needed_points


def sizes_of(
    options: SampleOptions, areas_m2: Mapping[StratumKey, float], classes: Mapping[int, str]
) -> dict[StratumKey, int]:
    """Points of each stratum.

    Args:
        options: Options with `total` or `standard_error`.
        areas_m2: Ground area of each stratum.
        classes: Names of classes by id.

    Raises:
        ConfigurationError: If names are not those of strata, or points do not suffice.
    """
    keys = list(areas_m2)
    areas = np.array(list(areas_m2.values()))
    expected: np.ndarray | float | None = None
    if isinstance(options.expected_accuracy, float):
        expected = options.expected_accuracy
    elif options.expected_accuracy is not None:
        values = dict(options.expected_accuracy)
        found = _by_stratum("--expected_accuracy", values, keys, classes)
        if missing := [key.name(classes) for n, key in enumerate(keys) if n not in found]:
            raise ConfigurationError(
                f"--expected_accuracy lacks {', '.join(missing[:5])}: give each stratum one"
            )
        expected = np.array([found[place] for place in range(len(keys))])
    method, fixed = options.allocation, {}
    if not isinstance(method, str):
        numbers = _by_stratum("--allocation", dict(method), keys, classes)
        method, fixed = "proportional", {place: int(n) for place, n in numbers.items()}
    rule = Allocation(method, expected, fixed, options.minimum_per_stratum)
    total = options.total
    if total is None:
        assert options.standard_error is not None
        assert expected is not None
        total = math.ceil(needed_points(areas, expected, options.standard_error))
    return dict(zip(keys, rule.whole(total, areas).tolist(), strict=True))


def _by_stratum(
    option: str,
    values: Mapping[str, float],
    keys: Sequence[StratumKey],
    classes: Mapping[int, str],
) -> dict[int, float]:
    """Values by the index of the stratum that has the name, or the class of that name."""
    found: dict[int, float] = {}
    unused = {*values}
    for place, key in enumerate(keys):
        for name in (key.name(classes), classes.get(key.class_id, "")):
            if name in values:
                found.setdefault(place, values[name])
                unused.discard(name)
    if unused:
        known = ", ".join(key.name(classes) for key in keys[:20])
        raise ConfigurationError(
            f"{option} names {sorted(unused)[0]!r}, which is no stratum of the map: {known}"
        )
    return found


def added_sizes(add: int, points: Mapping[StratumKey, int]) -> dict[StratumKey, int]:
    """How points that are added are shared out: as those that strata have, by largest remainder.

    Args:
        add: Number of points that are added.
        points: Points that strata have.
    """
    shares = {key: add * number / sum(points.values()) for key, number in points.items()}
    sizes = {key: math.floor(share) for key, share in shares.items()}
    ranked = sorted(shares, key=lambda key: sizes[key] - shares[key])
    for key in ranked[: add - sum(sizes.values())]:
        sizes[key] += 1
    return {key: size for key, size in sizes.items() if size}
