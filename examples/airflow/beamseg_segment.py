"""Label what is new in some folders, every night, with beamseg; README.md says how and why so."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime
from typing import Any

import psutil
from airflow.providers.apache.beam.hooks.beam import BeamHook
from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# The environment that beamseg is installed in; Airflow's own needs neither it nor TensorFlow.
PYTHON = os.environ.get("BEAMSEG_PYTHON", "/opt/beamseg/bin/python")
# In these cases somebody has to change something before a retry can help.
LASTING = ("usage", "over_budget")


class SegmentOperator(BaseOperator):
    """`beamseg segment` on any Beam runner.

    Args:
        options: Of beamseg and of Beam, without the hyphens. A list is an option given several
            times, and True one without a value.
        runner: Of Beam. Its `DirectRunner` looks for another engine on the internet first.
    """

    template_fields = ("options", "runner")

    def __init__(self, *, options: dict[str, Any], runner: str = "FnApiRunner", **kwargs) -> None:
        super().__init__(**kwargs)
        self.options, self.runner = options, runner

    def execute(self, context: Any) -> dict[str, Any]:
        """Run to the end; returns what `--json` says of it, which downstream tasks may read."""
        said: dict[str, Any] = {}

        def listen(line: str) -> None:
            if line.startswith('{"beamseg":'):
                said.update(json.loads(line))

        try:
            BeamHook(self.runner).start_python_pipeline(
                variables=self.options | {"json": True, "stop_with_parent": True},
                py_file="pipelines.segment",
                py_options=["-m"],
                py_interpreter=PYTHON,
                process_line_callback=listen,
            )
        except AirflowException as error:
            kind = AirflowFailException if said.get("reason") in LASTING else AirflowException
            raise kind(f"{error}: {said or 'it was killed'}") from error
        return said

    def on_kill(self) -> None:
        """Interrupt the pipeline, which the hook has started as a child of this process."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.terminate()


with DAG(
    dag_id="beamseg_segment",
    description="Label images, shards and scenes, and report the area of every class.",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    render_template_as_native_obj=True,
    params={
        "input": Param(["/data/scenes"], type="array", items={"type": "string"}, minItems=1),
        "model": Param("/data/models/land", type="string"),
        "output": Param("/data/runs/land", type="string", description="Run directory."),
        "max_failures": Param("0", type="string", description="A number, or a share such as 1%."),
        "retry_failures": Param(False, type="boolean", description="Do failed images again."),
    },
):
    SegmentOperator(
        task_id="segment",
        options={
            "input": "{{ params.input }}",
            "model": "{{ params.model }}",
            "output": "{{ params.output }}",
            "max_failures": "{{ params.max_failures }}",
            "retry_failures": "{{ params.retry_failures }}",
            "labels": {"dag": "{{ dag.dag_id }}"},
        },
        # Each goes on where the last one stopped.
        retries=3,
    )
