"""Tasks on a cluster of Dask that nobody waits for any more, as their launcher is gone.

Dask cancels the tasks of a client that has gone, and lets those that run come to their end, however
long that takes.
"""

import os
import sys
import threading
import time
from functools import cache
from typing import Any

from pipelines.cli.exit_status import ExitStatus
from segmodel.errors import TransientError

POLL_SECONDS = 1.0


def end_with_client() -> None:
    """Where this is a task of Dask, have it end soon after it is cancelled.

    The process is ended, if there is a nanny that starts it anew and if it holds nothing else;
    a call of a model can be ended in no other way. Else the task ends before its next unit.

    Raises:
        TransientError: If the task is cancelled.
    """
    if "distributed" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        # This process is a client.
        return
    _watch(worker)
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise TransientError("the task is cancelled: its launcher is gone")


@cache
def _watch(worker: Any) -> None:
    """Start the thread that ends the process of a worker, once for each worker."""

    def watch() -> None:
        while not is_abandoned(worker):
            time.sleep(POLL_SECONDS)
        os._exit(ExitStatus.TERMINATED)

    if worker.nanny is not None:
        threading.Thread(target=watch, name="beamseg-dask", daemon=True).start()


def is_abandoned(worker: Any) -> bool:
    """Whether a worker does nothing but work that is cancelled, and holds no results of others."""
    tasks = list(worker.state.executing)
    return bool(tasks) and not worker.data and all(task.state == "cancelled" for task in tasks)
