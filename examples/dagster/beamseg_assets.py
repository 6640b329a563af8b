"""The label maps of a run directory as an asset of Dagster; README.md says how and why so."""

import json
import os
import subprocess
from typing import Any

import dagster as dg
from pydantic import Field

# The environment that beamseg is installed in; Dagster's own needs neither it nor TensorFlow.
PYTHON = os.environ.get("BEAMSEG_PYTHON", "/opt/beamseg/bin/python")
# In these cases somebody has to change something before a retry can help.
LASTING = ("usage", "over_budget")
SHOWN = ("images", "failed_images", "pixels", "units", "unfinished_units", "seconds")


class Segmentation(dg.Config):
    """What to label with which model, and where the run directory is."""

    inputs: list[str] = Field(default=["/data/scenes"])
    model: str = "/data/models/land"
    output: str = "/data/runs/land"
    max_failures: str = "0"
    retry_failures: bool = False

    def command(self) -> list[str]:
        """The command line of `beamseg segment`."""
        return [
            *(PYTHON, "-m", "pipelines.segment", "--json", "--stop_with_parent"),
            *(f"--input={pattern}" for pattern in self.inputs),
            f"--model={self.model}",
            f"--output={self.output}",
            f"--max_failures={self.max_failures}",
            *(["--retry_failures"] if self.retry_failures else []),
        ]


def said_by(command: list[str], log: Any) -> dict[str, Any]:
    """What the last line of a command says of its end; the others go to the log."""
    line = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                log.info(line.rstrip())
        except BaseException:
            # Dagster interrupts a step that is terminated; what is done so far stays done.
            process.terminate()
            raise
    if line.startswith('{"beamseg":'):
        return json.loads(line)
    return {"exit_status": process.returncode, "reason": "killed"}


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=3, delay=300, backoff=dg.Backoff.EXPONENTIAL))
def label_maps(context: dg.AssetExecutionContext, config: Segmentation) -> dg.MaterializeResult:
    """Label maps, areas and failures of a run; each attempt goes on where the last one stopped."""
    said = said_by(config.command(), context.log)
    known = {name: said[name] for name in SHOWN if said.get(name) is not None}
    if said["exit_status"] != 0:
        raise dg.Failure(
            f"{said['reason']}: {said.get('error') or config.output + '/failures.csv'}",
            metadata=known,
            allow_retries=said["reason"] not in LASTING,
        )
    areas = dg.MetadataValue.path(f"{config.output}/areas.csv")
    return dg.MaterializeResult(metadata=known | {"areas": areas})


defs = dg.Definitions(assets=[label_maps])
