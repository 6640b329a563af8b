"""What engines need is asked for before any work, and how they fail is told in a sentence."""

from __future__ import annotations

import argparse

import pytest

from pipelines.run import plan
from pipelines.runners.execute import error_of_worker
from pipelines.runners.runner_options import check_paths, runner_of, with_runner
from pipelines.runners.worker import harness_variables, parse_arguments
from segmodel.errors import ConfigurationError, TransientError


@pytest.mark.parametrize(
    "runner", ["FlinkRunner", "flinkrunner", "PrismRunner", "PortableRunner", "a.b.DaskRunner"]
)
def test_relative_paths_are_refused_where_workers_are_elsewhere(runner):
    with pytest.raises(ConfigurationError, match=f"^photos is a relative .* of {runner} "):
        check_paths([f"--runner={runner}"], ["/model", "gs://bucket/run", "photos"])


@pytest.mark.parametrize("words", [[], ["--runner=FnApiRunner"], ["--runner", "DirectRunner"]])
def test_relative_paths_are_fine_in_this_process(words):
    check_paths(words, ["photos"])


def test_the_last_runner_counts():
    assert runner_of(["--runner=FlinkRunner", "--runner", "PrismRunner"]) == "PrismRunner"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["--dask_npartitions=8"], "--dask_client_address or --dask_scheduler_file"),
        (["--dask_client_address=a"], "--dask_npartitions or --dask_partition_size"),
    ],
)
def test_dask_is_refused_without_the_options_that_it_was_tested_with(given, missing):
    with pytest.raises(ConfigurationError, match=f"^DaskRunner needs {missing}: "):
        with_runner(["--runner=DaskRunner", *given], "FnApiRunner")


def test_dask_gets_the_name_that_beam_knows():
    words = ["--runner=DaskRunner", "--dask_client_address=a", "--dask_partition_size", "1"]
    assert runner_of(with_runner(words, "FnApiRunner")).startswith("apache_beam.runners.dask.")


def test_shares_of_a_part_are_the_part(tmp_path):
    lines = [f'{{"unit":{number}}}\n' for number in range(7)]
    (tmp_path / "part-00000.jsonl").write_text("".join(lines))
    whole = list(plan.references(str(tmp_path), "part-00000.jsonl"))
    shares = plan.shard_parts(["part-00000.jsonl"], 3)
    found = [list(plan.references(str(tmp_path), share)) for share in shares]
    assert [len(references) for references in found] == [3, 2, 2]
    assert sorted((r for share in found for r in share), key=lambda r: r.offset) == whole


def test_a_job_that_an_engine_gave_up_is_worth_another_attempt():
    text = (
        "Pipeline BeamApp-1 failed in state FAILED: org.apache.beam.vendor.grpc.v1p60p1.io.grpc."
        "StatusRuntimeException: CANCELLED: client cancelled"
    )
    error = error_of_worker(RuntimeError(text))
    assert type(error) is TransientError
    assert str(error) == (
        "the runner ended the job as FAILED: CANCELLED: client cancelled; run the same command "
        "again to do the rest"
    )


def test_a_fault_of_ours_on_an_engine_stays_one():
    text = "Pipeline a failed in state FAILED: Traceback (most recent call last):\nIndexError: 3"
    error = RuntimeError(text)
    assert error_of_worker(error) is error


def test_a_worker_is_told_as_the_boot_program_of_a_container():
    from apache_beam.portability.api import beam_provision_api_pb2

    parsed = parse_arguments(
        ["--id='job_1'", "--provision_endpoint=a:1", "--control_endpoint=a:2", "--more=1"]
    )
    info = beam_provision_api_pb2.ProvisionInfo()
    info.logging_endpoint.url = "a:3"
    assert isinstance(parsed, argparse.Namespace)
    assert harness_variables(parsed, info) == {
        "WORKER_ID": "job_1",
        "PIPELINE_OPTIONS": "{}",
        "LOGGING_API_SERVICE_DESCRIPTOR": 'url: "a:3"\n',
        "CONTROL_API_SERVICE_DESCRIPTOR": 'url: "a:2"\n',
        "RUNNER_CAPABILITIES": "",
    }
