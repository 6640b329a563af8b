"""A launcher and Dataflow: what is refused, what is submitted, and who waits for the end.

The service is one of our own on the loopback device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

from pipelines.commands import main
from pipelines.runners.dataflow import check_options, is_detached
from pipelines.runners.execute import error_of_worker, pipeline_options
from segmodel.errors import ConfigurationError, ContractError, TransientError
from tests.pipelines.corpus import pixels, png, write
from tests.pipelines.dataflow_service import (
    CLOUD,
    DRY,
    HINT,
    JOB,
    L4,
    Service,
    dataflow_service,
    hints_of,
)

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "word", ["--no_wait_until_finish", "--template_location=gs://b/t", "--dry_run=1"]
)
def test_only_a_service_goes_on_without_its_launcher(word):
    name = word.partition("=")[0]
    for runner in ([], ["--runner=PrismRunner"]):
        with pytest.raises(ConfigurationError, match=f"^{name} is for a job that continues"):
            check_options(None, pipeline_options([*runner, word]))
    check_options(None, pipeline_options([*DRY, word]))


def test_a_launcher_waits_unless_it_is_told_not_to():
    assert is_detached(pipeline_options([])) is False
    assert is_detached(pipeline_options(["--direct_num_workers=2"])) is False
    assert is_detached(pipeline_options(DRY)) is True


def test_workers_need_an_image_with_this_package_or_another_way_to_it():
    bare = [word for word in DRY if "image" not in word]
    with pytest.raises(ConfigurationError, match=r"^workers .* give --sdk_container_image"):
        check_options(None, pipeline_options(bare))
    for way in ("--setup_file=./setup.py", "--sdk_container_image=registry/worker:1"):
        check_options(None, pipeline_options([*bare, way]))


def test_an_accelerator_needs_a_runner_that_starts_machines():
    with pytest.raises(ConfigurationError, match=r"^--accelerator .* give --runner=DataflowRunner"):
        check_options(L4, pipeline_options([]))
    check_options(L4, pipeline_options(DRY))


@pytest.mark.parametrize(
    "word",
    [
        "--flexrs_goal=COST_OPTIMIZED",
        "--dataflow_service_options=worker_accelerator=type:x;count:1",
    ],
)
def test_an_accelerator_for_one_step_excludes_what_is_for_all_workers(word):
    with pytest.raises(ConfigurationError, match=r"^--accelerator .* leave one out$"):
        check_options(L4, pipeline_options([*DRY, word]))
    check_options(None, pipeline_options([*DRY, word]))


def test_what_dataflow_misses_is_named_in_one_sentence():
    with pytest.raises(ConfigurationError) as missing:
        pipeline_options(
            ["--runner=DataflowRunner", "--temp_location=gs://bucket/tmp", "--dry_run=1"]
        )

    assert str(missing.value) == (
        "Beam refuses an option: Missing required option: project. Missing required option: region."
    )


@pytest.fixture
def run(tmp_path: Path, model_folder: Path) -> Path:
    write(tmp_path / "in" / "a.png", png(pixels(50, 60, 1)))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "run"


def segment(run: Path, service: Service, *words: str) -> int:
    root = run.parent
    folders = ["--input", str(root / "in"), "--model", str(root / "model"), "--output", str(run)]
    place = [f"--temp_location={root / 'tmp'}", f"--dataflow_endpoint={service.endpoint}"]
    return main.dispatch(["segment", *folders, *CLOUD, *place, "--no_auth", *words])


def test_a_launcher_submits_the_job_and_leaves(run, capsys):
    with dataflow_service("JOB_STATE_RUNNING") as service:
        status = segment(run, service, "--no_wait_until_finish", f"--accelerator={L4}")

    assert (status, capsys.readouterr().out) == (
        0,
        f"submitted: job {JOB} of project project-1 in europe-west4; its result will be in "
        f"{run}/summary.json\n",
    )
    assert service.requests == ["POST /v1b3/projects/project-1/locations/europe-west4/jobs"]
    assert json.loads((run / "run.json").read_bytes())["format"] == "beamseg run"
    planned = sorted(path.name for path in (run / "plan").iterdir())
    assert planned == ["part-00000.jsonl", "parts.json", "run.json"]
    assert not (run / "summary.json").exists()
    staged = beam_runner_api_pb2.Pipeline.FromString((run.parent / "tmp/pipeline.pb").read_bytes())
    assert hints_of(staged)["SegmentImages/SegmentUnit"][HINT.format("accelerator")] == L4.encode()


def test_the_command_of_the_page_asks_for_these_workers(run):
    words = (
        "--experiments=no_use_multiple_sdk_containers",
        "--number_of_worker_harness_threads=1",
        "--sdk_container_image=registry/worker-gpu:1",
        "--machine_type=g2-standard-8",
        "--disk_size_gb=100",
        "--max_num_workers=20",
    )
    with dataflow_service() as service:
        segment(run, service, "--no_wait_until_finish", *words)

    (sent,) = service.jobs
    (pool,) = sent["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"]) == ("g2-standard-8", 100)
    assert pool["numThreadsPerWorker"] == 1
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    images = {image["containerImage"] for image in pool["sdkHarnessContainerImages"]}
    assert images == {"registry/worker-gpu:1"}
    experiments = sent["environment"]["experiments"]
    assert "no_use_multiple_sdk_containers" in experiments
    assert "use_multiple_sdk_containers" not in experiments


def test_the_launcher_of_a_template_finds_the_job_and_submits_it_itself(run, capsys):
    place = run.parent / "job_object"
    with dataflow_service() as service:
        status = segment(run, service, f"--template_location={place}", "--confidence=true")

    assert (status, service.requests) == (0, [])
    assert capsys.readouterr().out == (
        f"described: {place} has the job for the launcher of the template\n"
    )
    written = json.loads(place.read_bytes())
    options = written["environment"]["sdkPipelineOptions"]["options"]
    assert (options["confidence"], options["overwrite"]) == (True, False)


@pytest.mark.parametrize("storage_service", ["gs"], indirect=True)
def test_a_run_whose_files_are_all_in_a_bucket_is_submitted(bucket, model_folder, capsys):
    """Input, model, run directory and what Beam stages; the plan is there before the job is."""
    bucket.put("in/a.png", png(pixels(50, 60, 1)))
    for path in (path for path in model_folder.rglob("*") if path.is_file()):
        bucket.put(f"model/{path.relative_to(model_folder).as_posix()}", path.read_bytes())
    root = f"gs://{bucket.name}"
    words = [f"--input={root}/in/*.png", f"--model={root}/model", f"--output={root}/run"]

    with dataflow_service() as service:
        place = [f"--temp_location={root}/tmp", f"--dataflow_endpoint={service.endpoint}"]
        words += [*CLOUD, *place, "--no_auth", "--no_wait_until_finish"]
        status = main.dispatch(["segment", *words])

    assert (status, len(service.jobs)) == (0, 1)
    assert capsys.readouterr().out.endswith(f"its result will be in {root}/run/summary.json\n")
    names = set(bucket.names())
    assert {"run/run.json", "run/plan/part-00000.jsonl"} <= names
    (staged,) = (name for name in names if name.endswith("/pipeline.pb"))
    pipeline = beam_runner_api_pb2.Pipeline.FromString(bucket.get(staged))
    assert "SegmentImages/SegmentUnit" in hints_of(pipeline)


@pytest.mark.parametrize("image", ["registry/template:2", "registry/worker:1"])
def test_the_program_of_the_template_describes_the_job_in_a_process_of_its_own(run, image):
    """Workers have the image of the template, or the one that is named."""
    root, place = run.parent, run.parent / "job_object"
    words = [
        *(word for word in CLOUD if image in CLOUD[-1] or word != CLOUD[-1]),
        f"--temp_location={root / 'tmp'}",
        f"--template_location={place}",
        '--labels={\n   "goog-dataflow-provided-template-type" : "flex"\n}\n',
        f"--input={json.dumps([str(root / 'in')])}",
        f"--model={root / 'model'}",
        f"--output={run}",
        f"--accelerator={L4}",
        "--confidence=true",
        "--overwrite=false",
    ]
    program = [sys.executable, str(ROOT / "containers" / "flex_template.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WORKER_IMAGE": "registry/template:2"}

    with dataflow_service() as service:
        program += [f"--dataflow_endpoint={service.endpoint}", "--no_auth"]
        done = subprocess.run(program, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert service.requests == []
    written = json.loads(place.read_bytes())
    assert written["labels"] == {"goog-dataflow-provided-template-type": "flex"}
    (pool,) = written["environment"]["workerPools"]
    assert {entry["containerImage"] for entry in pool["sdkHarnessContainerImages"]} == {image}
    assert json.loads((run / "run.json").read_bytes())["labels"]["confidence"] is True


def test_a_dry_run_submits_nothing(run, capsys):
    with dataflow_service() as service:
        status = segment(run, service, "--dry_run=true")

    assert (status, service.requests) == (0, [])
    assert capsys.readouterr().out.startswith("translated: ")


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam looks at a job every five seconds."""
    monkeypatch.setattr("apache_beam.runners.dataflow.dataflow_runner.time.sleep", lambda s: None)


@pytest.mark.usefixtures("_at_once")
def test_a_job_that_is_waited_for_tells_its_result(run, capsys):
    def finish() -> None:
        attempt = {"units_skipped": 0, "seconds": 1}
        summary = {"exit_status": 3, "failed_images": 1, "images": 1, "pixels": 0, "units": 1}
        summary |= {"unfinished_units": 0, "this_attempt": attempt, "first_failures": []}
        text = json.dumps(summary)
        (run / "summary.json").write_text(text)

    with dataflow_service("JOB_STATE_DONE", finish) as service:
        assert segment(run, service) == 3

    assert [request.split()[0] for request in service.requests][:2] == ["POST", "GET"]
    assert "1 of 2 images failed" in capsys.readouterr().err


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
def test_a_job_that_does_not_reach_its_end_is_worth_another_run(run, end):
    with (
        dataflow_service(f"JOB_STATE_{end}") as service,
        pytest.raises(TransientError, match=f"State: {end}.*{JOB}.*run the same command again"),
    ):
        segment(run, service)


def test_an_error_of_ours_in_what_dataflow_says_is_that_error():
    text = "Traceback:\nsegmodel.errors.ContractError: bands: 3 [while running 'SegmentUnit']"

    error = error_of_worker(DataflowRuntimeException(text, None))

    assert (type(error), str(error)) == (ContractError, "bands: 3")


@pytest.mark.parametrize("word", ["--no_wait_until_finish", "--dry_run=true"])
def test_pack_waits_for_its_end(tmp_path, word):
    write(tmp_path / "in" / "a.png", png(pixels(50, 60, 1)))
    words = ["--images", str(tmp_path / "in"), "--output", str(tmp_path / "out"), word]

    with pytest.raises(ConfigurationError, match=r"^pack waits for its end: leave --no_wait"):
        main.dispatch(["pack", *words])
