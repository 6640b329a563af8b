"""What crosses a shuffle for a unit, encoded with the coders of the graph itself."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import Coder, WindowedValueCoder
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from pipelines.cli.values import FailureBudget
from pipelines.results.contact_sheet import UnitSample
from pipelines.results.part_sums import PartSum
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.attempts import UnitReport
from pipelines.run.plan import AssemblyUnit, InputFile, Unit, UnitReference, WorkUnit
from pipelines.segment.graph import SegmentImages
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import make_work

MAX_BYTES = 1000
GROUP_BY_KEY = "beam:transform:group_by_key:v1"
# Of Beam's Reshuffle: random, below this.
KEYS = 2**32
FINISHING = ("SpreadParts", "SpreadUnits", "SumReports")
SHUFFLES = [
    *("SpreadUnits", "SumUnits"),
    *(f"{step}/{name}" for step in ("FinishScenes", "CountScenes") for name in FINISHING),
    *("FinishRun/SpreadParts", "FinishRun/SumParts"),
]


def shuffles(graph: beam.PTransform) -> dict[str, Coder]:
    """The coder of what crosses each shuffle, by the name of the step that shuffles."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    pipeline | beam.Create(["part-00000.jsonl"], reshuffle=False) | "SegmentImages" >> graph
    window = GlobalWindows().get_window_coder()
    proto, context = pipeline.to_runner_api(return_context=True)
    found = {}
    for transform in proto.components.transforms.values():
        if transform.spec.urn == GROUP_BY_KEY:
            (source,) = transform.inputs.values()
            coder = context.coders.get_by_id(proto.components.pcollections[source].coder_id)
            _, *names = transform.unique_name.split("/")
            name = next(n for n in (names[0], "/".join(names[:2])) if n in SHUFFLES)
            found[name] = WindowedValueCoder(coder, window)
    return found


def encoded(coder: Coder, element: object) -> int:
    """Bytes of an element, which must come back as it was."""
    value = WindowedValue(element, MIN_TIMESTAMP, (GlobalWindow(),))
    data = coder.encode(value)
    assert coder.decode(data).value == element
    return len(data)


def spread(value: object) -> tuple:
    """A value as Beam's Reshuffle sends it."""
    return KEYS - 1, (value, MIN_TIMESTAMP, PANE_INFO_UNKNOWN)


@pytest.fixture
def graph(tmp_path: Path) -> SegmentImages:
    return SegmentImages(make_work(tmp_path / "run"), FailureBudget(0, None))


def long_units() -> list[Unit]:
    """A shard and blocks of a scene, all with the longest names that files have."""
    name = "/".join(["f" * 255] * 15)
    file = InputFile(f"/data/{name}", "data", name, 2**62, "v" * 64)
    window = Window(2**31, 2**31, 4096, 4096)
    ids = tuple(f"scene-{'x' * 40}-{number:016x}" for number in range(1000))
    return [
        WorkUnit("tfrecord-" + "x" * 200, "tfrecord", (file,)),
        *(WorkUnit(i, "scene", (file,), window, scene="x") for i in ids),
        AssemblyUnit("scene-all", "scene", (file,), ids),
    ]


def test_only_these_steps_shuffle(graph):
    assert sorted(shuffles(graph)) == sorted(SHUFFLES)


def test_a_unit_is_less_than_a_kilobyte_in_every_shuffle(graph, tmp_path, capsys):
    folder = str(tmp_path / "plan")
    Path(folder).mkdir()
    parts = plan.write_plan(long_units(), folder, str(tmp_path))
    references = [r for part in parts for r in plan.references(folder, part)]
    scenes = [
        r for part in plan.part_names(folder, AssemblyUnit) for r in plan.references(folder, part)
    ]
    report = UnitReport(2**62, 2**62, 2**62, 2**62)
    coders = shuffles(graph)

    most = {
        "SpreadUnits": max(encoded(coders["SpreadUnits"], spread(r)) for r in references),
        "FinishScenes/SpreadUnits": max(
            encoded(coders["FinishScenes/SpreadUnits"], spread(entry))
            for entry in [report, *scenes]
        ),
        # Without combining before the shuffle, which every engine does: one of each unit.
        "SumUnits": encoded(coders["SumUnits"], (None, report)),
    }

    with capsys.disabled():
        print(f"\nbytes that cross the shuffle for a unit, at most: {most}", end=" ")
    assert len(references) == 1001
    assert len(scenes) == 1
    # The line of the plan itself may be far larger: the scene has a thousand blocks.
    assert scenes[0].length > 50_000
    assert all(size < MAX_BYTES for size in most.values())
    assert sum(most.values()) < MAX_BYTES


def test_the_sum_of_a_part_is_a_few_bytes_for_each_of_its_thousand_units(graph):
    places = [UnitReference("part-gone-00000.jsonl", 2**31 + number, 2**16) for number in range(10)]
    pixels = {str(number): 2**62 for number in range(256)}
    areas = {key: Fraction(2**62 + 1, 2**60) for key in pixels}
    found = PartSum(
        units=Counter(part=1000),
        tally=Tally(pixels=pixels, ground_pixels=pixels, area_m2=areas),
        sample=UnitSample.merged(UnitSample.of(place.part, place, True) for place in places),
        worst=tuple((Fraction(1, 3), place) for place in places),
        with_rows=frozenset([("failures", places[0].part)]),
    )
    coder = shuffles(graph)["FinishRun/SumParts"]
    assert encoded(coder, (None, (UnitReport(), found))) < 40 * 1000
