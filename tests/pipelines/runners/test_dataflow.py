"""Dataflow without the service: the job that Beam's own runner makes of a run.

It translates the pipeline in a dry run that needs neither network nor credentials.
"""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders.coders import Coder
from apache_beam.pipeline import PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.typehints import typehints
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN

from pipelines.cli.values import FailureBudget
from pipelines.run.attempts import UnitReport
from pipelines.run.plan import UnitReference
from pipelines.runners.dataflow import unit_hints
from pipelines.runners.execute import pipeline_options
from pipelines.segment.graph import SegmentImages
from tests.pipelines.corpus import make_work
from tests.pipelines.dataflow_service import DRY, HINT, L4, hints_of, options

GIB = 1 << 30


def job(parts: list[str], *words: str, **changes) -> beam_runner_api_pb2.Pipeline:
    """The pipeline as Beam's runner would send it to Dataflow."""
    beam_options = pipeline_options([*DRY, *words])
    asked = options(**changes)
    hints = unit_hints(asked.memory, asked.accelerator, beam_options)
    pipeline = beam.Pipeline(options=beam_options)
    graph = "SegmentImages" >> SegmentImages(
        make_work(Path("nowhere")), FailureBudget(0, None), hints=hints
    )
    _ = pipeline | "PlanParts" >> beam.Create(parts, reshuffle=False) | graph
    return pipeline.run().job.proto_pipeline


@pytest.fixture(scope="module")
def proto() -> beam_runner_api_pb2.Pipeline:
    return job(["part-00000.jsonl"], memory=4 * GIB, accelerator=L4)


def leaves_in_order(proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Names of the transforms that do something, from the root to the end of the chain."""
    todo = {
        next(iter(t.inputs.values()), ""): t
        for t in proto.components.transforms.values()
        if not t.subtransforms and set(t.inputs.values()) != set(t.outputs.values())
    }
    names, at = [], ""
    while at in todo:
        transform = todo.pop(at)
        names.append(transform.unique_name)
        (at,) = transform.outputs.values()
    assert not todo, "more than one chain"
    return names


def test_the_model_gets_its_accelerator_its_memory_and_one_bundle_at_a_time(proto):
    assert hints_of(proto) == {
        "SegmentImages/SegmentUnit": {
            HINT.format("accelerator"): L4.encode(),
            HINT.format("min_ram_bytes"): str(5 * GIB).encode(),
            HINT.format("max_active_bundles_per_worker"): b"1",
        }
    }


def test_without_an_accelerator_there_is_none():
    (hints,) = hints_of(job(["part-00000.jsonl"], memory=12 * GIB)).values()

    assert hints == {
        HINT.format("min_ram_bytes"): str(13 * GIB).encode(),
        HINT.format("max_active_bundles_per_worker"): b"1",
    }


@pytest.mark.parametrize(
    "word",
    ["--flexrs_goal=COST_OPTIMIZED", f"--dataflow_service_options=worker_accelerator={L4}"],
)
def test_there_are_no_hints_where_dataflow_has_no_workers_for_one_step(word):
    assert hints_of(job(["part-00000.jsonl"], word)) == {}


def test_other_runners_get_no_hints():
    assert unit_hints(4 << 30, None, pipeline_options([])) == {}
    assert unit_hints(4 << 30, None, pipeline_options(["--runner=PrismRunner"])) == {}


def test_beams_own_hints_are_for_every_step():
    proto = job(["part-00000.jsonl"], f"--resource_hints=accelerator={L4}")

    accelerators = {hints[HINT.format("accelerator")] for hints in hints_of(proto).values()}
    assert accelerators == {L4.encode()}
    assert {"SegmentImages/SegmentUnit", "SegmentImages/FinishRun/WriteResults"} <= set(
        hints_of(proto)
    )


def test_the_job_is_one_chain_from_the_plan_to_the_end_of_the_run(proto):
    steps: list[str] = []
    for name in leaves_in_order(proto):
        step = name.split("/")[1] if name.startswith("SegmentImages/") else name.split("/")[0]
        steps += [] if step in steps[-1:] else [step]

    assert steps == [
        *("PlanParts", "ReadPlan", "SpreadUnits", "SegmentUnit", "SumUnits"),
        *("FinishScenes", "CountScenes", "FinishRun"),
    ]


def test_totals_and_success_are_the_last_step_of_the_job(proto):
    assert leaves_in_order(proto)[-1] == "SegmentImages/FinishRun/WriteResults"


def test_one_reshuffle_is_between_the_plan_and_the_units(proto):
    names = leaves_in_order(proto)
    between = names[
        names.index("SegmentImages/ReadPlan") : names.index("SegmentImages/SegmentUnit")
    ]
    kinds = {t.unique_name: t.spec.urn for t in proto.components.transforms.values()}

    grouped = [name for name in between if kinds[name] == "beam:transform:group_by_key:v1"]
    assert grouped == ["SegmentImages/SpreadUnits/ReshufflePerKey/GroupByKey"]
    reshuffles = [name for name, kind in kinds.items() if kind == "beam:transform:reshuffle:v1"]
    assert sorted(reshuffles) == [
        "SegmentImages/CountScenes/SpreadParts",
        "SegmentImages/CountScenes/SpreadUnits",
        "SegmentImages/FinishRun/SpreadParts",
        "SegmentImages/FinishScenes/SpreadParts",
        "SegmentImages/FinishScenes/SpreadUnits",
        "SegmentImages/SpreadUnits",
    ]


def shuffled(proto: beam_runner_api_pb2.Pipeline, step: str) -> Coder:
    """The coder of what goes into the GroupByKey of a step."""
    (transform,) = (
        t
        for t in proto.components.transforms.values()
        if t.unique_name.startswith(f"SegmentImages/{step}/") and "group_by_key" in t.spec.urn
    )
    (source,) = transform.inputs.values()
    coder = proto.components.pcollections[source].coder_id
    return PipelineContext(proto.components).coders.get_by_id(coder)


def test_a_reference_takes_less_than_two_hundred_bytes_on_its_way(proto):
    """With the key and the window that a Reshuffle adds; ten million of them are 2 GB."""
    reference = UnitReference("part-09999.jsonl", 400_000, 600)
    coder = shuffled(proto, "SpreadUnits")

    element = (1, (reference, None, PANE_INFO_UNKNOWN))
    encoded = coder.encode(element)

    assert coder.decode(encoded) == element
    assert len(encoded) < 200


def test_what_crosses_the_shuffle_is_declared_as_references_and_reports():
    pipeline = beam.Pipeline(options=pipeline_options(DRY))
    graph = SegmentImages(make_work(Path("nowhere")), FailureBudget(0, None))
    _ = pipeline | beam.Create(["part"], reshuffle=False) | graph
    types = {}

    class Types(PipelineVisitor):
        def visit_transform(self, node):
            types[node.full_label] = [output.element_type for output in node.outputs.values()]

    pipeline.visit(Types())

    either = [typehints.Union[UnitReference, UnitReport]]
    assert types["SegmentImages/ReadPlan"] == either
    assert types["SegmentImages/SpreadUnits/RemoveRandomKeys"] == either


def test_the_job_of_ten_million_units_stays_far_below_the_limit_of_a_request():
    """They are 10,000 parts of 1,000; Dataflow takes requests of up to 10 MB."""
    one = job(["part-00000.jsonl"]).ByteSize()
    many = job([f"part-{number:05d}.jsonl" for number in range(10_000)]).ByteSize()

    assert many - one < 40_000
    assert many < 200_000
