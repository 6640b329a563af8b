"""Dataflow: the workers that run the model, and jobs that go on without the launcher."""

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

# By another name, as pytest takes classes called Test... for tests.
from apache_beam.options.pipeline_options import TestOptions as DryRunOptions
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRunner,
    DataflowRuntimeException,
)
from apache_beam.runners.runner import PipelineResult, create_runner

from segmodel.errors import ConfigurationError, TransientError

# Memory of a worker for what runs beside the process that --memory limits.
OVERHEAD_BYTES = 1 << 30


def check_options(accelerator: str | None, beam_options: PipelineOptions) -> None:
    """Refuse what the runner cannot do, before anything is written.

    Args:
        accelerator: Value of `--accelerator`.
        beam_options: Options of Beam.

    Raises:
        ConfigurationError: Names the option and the remedy.
    """
    given = _detaching_options(beam_options)
    if given and not is_dataflow(beam_options):
        raise ConfigurationError(
            f"{given[0]} is for a job that continues without this process: give "
            f"--runner=DataflowRunner, or leave {given[0]} out"
        )
    if is_dataflow(beam_options) and not _brings_package(beam_options):
        raise ConfigurationError(
            "workers of Dataflow need this package: give --sdk_container_image, an image that has "
            "it, or --setup_file"
        )
    if accelerator is None:
        return
    if not is_dataflow(beam_options):
        raise ConfigurationError(
            "--accelerator is for runners that start machines: give --runner=DataflowRunner, or "
            "leave it out, as TensorFlow takes the GPU that it finds"
        )
    if not _has_right_fitting(beam_options):
        raise ConfigurationError(
            "--accelerator is for the workers of one step, which Dataflow has neither with "
            "--flexrs_goal nor with worker_accelerator in --dataflow_service_options: leave one out"
        )


def is_dataflow(beam_options: PipelineOptions) -> bool:
    """Whether the runner is Dataflow's."""
    name = beam_options.view_as(StandardOptions).runner
    return name is not None and isinstance(create_runner(name), DataflowRunner)


def unit_hints(
    memory_bytes: int, accelerator: str | None, beam_options: PipelineOptions
) -> dict[str, str]:
    """Resource hints of the step that runs the model, as `with_resource_hints` takes them.

    Dataflow starts workers of its own for such a step ("right fitting"), so that an accelerator is
    paid for while the model runs. One bundle a worker, as a process does one unit at a time and
    what waits for it would be missing elsewhere.

    Other runners get none: for them a step with hints is one of another environment, with
    processes of its own.

    Args:
        memory_bytes: Memory that one worker process may take, in bytes.
        accelerator: Value of `--accelerator`.
        beam_options: Options of Beam.

    Returns:
        Hints by name; empty for other runners.
    """
    if not is_dataflow(beam_options) or not _has_right_fitting(beam_options):
        return {}
    hints = {"min_ram": f"{memory_bytes + OVERHEAD_BYTES}B", "max_active_bundles_per_worker": "1"}
    return hints if accelerator is None else hints | {"accelerator": accelerator}


def is_detached(beam_options: PipelineOptions) -> bool:
    """Whether the launcher ends once Dataflow has the job; totals are in the graph."""
    return bool(_detaching_options(beam_options))


def submission(result: PipelineResult, beam_options: PipelineOptions, run: str) -> str:
    """A sentence about a job that continues without this process.

    Args:
        result: Result of the run, from the runner.
        beam_options: Options of Beam.
        run: Run directory.
    """
    cloud = beam_options.view_as(GoogleCloudOptions)
    if isinstance(result, DataflowPipelineResult) and result.has_job:
        return (
            f"submitted: job {result.job_id()} of project {cloud.project} in {cloud.region}; its "
            f"result will be in {run}/summary.json"
        )
    if cloud.template_location:
        return f"described: {cloud.template_location} has the job for the launcher of the template"
    return "translated: Dataflow takes this pipeline; --dry_run does not submit it"


def job_error(error: DataflowRuntimeException) -> TransientError:
    """A job that failed or was cancelled, as an error that says what to do."""
    reason = " ".join(str(error).split())
    return TransientError(
        f"{reason[:1000]} (job {error.result.job_id()}): run the same command again to continue"
    )


def _detaching_options(beam_options: PipelineOptions) -> list[str]:
    """Given options that detach the job from this process, so that there is no end to wait for.

    The launcher of a Flex Template gives `--template_location`, reads the job from there when we
    are done, and submits it itself.
    """
    ways = {
        "--no_wait_until_finish": beam_options.view_as(StandardOptions).no_wait_until_finish,
        "--template_location": beam_options.view_as(GoogleCloudOptions).template_location,
        "--dry_run": beam_options.view_as(DryRunOptions).dry_run,
    }
    return [name for name, given in ways.items() if given]


def _brings_package(beam_options: PipelineOptions) -> bool:
    setup = beam_options.view_as(SetupOptions)
    image = beam_options.view_as(WorkerOptions).sdk_container_image
    return bool(image or setup.setup_file or setup.extra_packages)


def _has_right_fitting(beam_options: PipelineOptions) -> bool:
    cloud = beam_options.view_as(GoogleCloudOptions)
    services = cloud.dataflow_service_options or []
    everywhere = any(option.startswith("worker_accelerator=") for option in services)
    return cloud.flexrs_goal != "COST_OPTIMIZED" and not everywhere
