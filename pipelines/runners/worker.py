"""A process that does the work of one worker of Flink, Prism or another portable runner.

Runners start it as they start the boot program of Beam's containers: as the command of
`--environment_type=PROCESS`, or from the worker pool of `--environment_type=EXTERNAL`. Unlike the
pool's default, which is whatever `python` comes first on the path, it is the Python that beamseg is
installed for. It ends with the runner: when the runner is gone, it ends at once, and frees the
memory of its GPU.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

PROVISION_SECONDS = 60


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """What runners tell the boot program of a container.

    Args:
        words: Words of the command line.
    """
    parser = argparse.ArgumentParser(prog="beamseg-worker", description=__doc__)
    parser.add_argument("--id", required=True, help="name of this worker")
    parser.add_argument("--provision_endpoint", required=True, help="address of the rest")
    for name in ("logging", "artifact", "control"):
        parser.add_argument(f"--{name}_endpoint", help="if the former does not provide it")
    parsed = parser.parse_known_args(words)[0]
    # Prism quotes it as for a shell, and there is none.
    parsed.id = parsed.id.strip("'")
    return parsed


def provision_info(endpoint: str, worker_id: str) -> beam_provision_api_pb2.ProvisionInfo:
    """What the runner knows of a worker that it has started.

    Args:
        endpoint: Address of its provision service.
        worker_id: Name of the worker.
    """
    import grpc

    with grpc.insecure_channel(endpoint) as channel:
        answer = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel).GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=[("worker_id", worker_id)],
            timeout=PROVISION_SECONDS,
            wait_for_ready=True,
        )
    info: beam_provision_api_pb2.ProvisionInfo = answer.info
    return info


def harness_variables(
    parsed: argparse.Namespace, info: beam_provision_api_pb2.ProvisionInfo
) -> dict[str, str]:
    """Environment variables that Beam's harness reads.

    Args:
        parsed: Command line of the worker.
        info: What the runner knows of the worker.
    """

    def service(name: str) -> str:
        url = getattr(info, f"{name}_endpoint").url or getattr(parsed, f"{name}_endpoint", "")
        return str(text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url)))

    return {
        "WORKER_ID": parsed.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": service("logging"),
        "CONTROL_API_SERVICE_DESCRIPTOR": service("control"),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def main() -> None:
    """Entry point of `beamseg-worker`: work until the runner ends this process, or is gone."""
    parsed = parse_arguments(sys.argv[1:])
    status = 1
    try:
        variables = harness_variables(parsed, provision_info(parsed.provision_endpoint, parsed.id))
        # Beam's interceptors of channels read the name of the worker from there.
        os.environ["WORKER_ID"] = parsed.id
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        _, harness, _ = sdk_worker_main.create_harness(variables)
        harness.run()
        status = 0
    except Exception:
        logging.getLogger("beamseg").exception("worker %s", parsed.id)
    finally:
        # Threads that still label or write would keep the process, and nobody wants their results.
        os._exit(status)


if __name__ == "__main__":
    main()
