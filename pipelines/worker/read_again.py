"""The inputs of a work unit as a worker reads them, for their checksums, without the model."""

from pipelines.formats.work import Work
from pipelines.run.failures import Failure, reason_of, reraise_transient
from pipelines.run.plan import WorkUnit
from pipelines.worker import formats
from segmodel.engine.read_ahead import Job
from segmodel.errors import BeamsegError


def read_again(unit: WorkUnit, work: Work) -> tuple[tuple[str | None, ...], dict[str, str]]:
    """Read what the checksums of a unit are of.

    Encoded images are not decoded. Of scenes, the same windows are read as by the worker, one after
    the other.

    Args:
        unit: Unit with its files as they are now.
        work: What all units have in common.

    Returns:
        The checksum of each file, as in a commit record; and by key, what was wrong with files.

    Raises:
        OSError, TransientError: If a shard or a scene cannot be read to its end now.
    """
    form = formats.find_format(unit.format)
    faults: dict[str, str] = {}
    with form.open(unit, work) as task:
        for job in task.jobs():
            if isinstance(job, Failure):
                faults[job.uri] = job.reason
                continue
            try:
                if form.decodes:
                    job.open()
                else:
                    _read_windows(job, work)
            except (BeamsegError, OSError) as error:
                if not form.decodes:
                    reraise_transient(error)
                faults[task.source(job.key)[0].key] = reason_of(error)
            task.skip(job.key)
        return tuple(map(task.checksum, unit.files)), faults


def _read_windows(job: Job, work: Work) -> None:
    """Read all windows of a job that can be read.

    Raises:
        BeamsegError, OSError: The error of the last that cannot.
    """
    raster, fault = job.open(), None
    for tile in job.windows(raster, work.layout)[1]:
        if raster.wants(tile.core):
            try:
                raster.read(tile.read)
            except (BeamsegError, OSError) as error:
                reraise_transient(error)
                fault = error
    if fault is not None:
        raise fault
