"""The sample of a run, and what it says of the accuracy of the map."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipelines.layers.maps import LabelMaps
from pipelines.run.directory import SAMPLE_DIR


class Accuracy(NamedTuple):
    """What was estimated from a sample, as a page shows it.

    Attributes:
        level: Confidence level of the intervals.
        overall: Overall accuracy.
        classes: Name, user's accuracy and producer's accuracy of each class.
    """

    level: str
    overall: str
    classes: list[tuple[str, str, str]]


def of_sample(maps: LabelMaps, name: str) -> dict[str, Any]:
    """A file of the sample of a run; empty if it is not there, damaged or of another map.

    Args:
        maps: Label maps of the run.
        name: Its name.
    """
    try:
        found = maps.work.run.read_json(f"{SAMPLE_DIR}/{name}", is_sealed=True) or {}
    except ValueError:
        return {}
    return found if found.get("run_digest") == maps.digest else {}


def accuracy_of(maps: LabelMaps) -> Accuracy | None:
    """What `assess` has estimated of a map; None if it has not.

    Args:
        maps: Label maps of the run.
    """
    found = of_sample(maps, "accuracy.json")
    if not found:
        return None
    whole = found["whole"]
    classes = [
        (entry["name"], _share(entry["users_accuracy"]), _share(entry["producers_accuracy"]))
        for entry in whole["classes"]
    ]
    return Accuracy(f"{found['level']:.0%}", _share(whole["overall_accuracy"]), classes)


def _share(estimated: Mapping[str, float | None]) -> str:
    """An estimate, with its interval on another line; or that the sample tells none."""
    value, low, high = (estimated[name] for name in ("value", "low", "high"))
    if value is None:
        return "unknown"
    return f"{value:.1%}" + ("" if low is None else f"\n{100 * low:.1f} to {high:.1%}")
