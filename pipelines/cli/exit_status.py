"""Exit statuses of commands, and what they mean."""

import signal
from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended."""

    COMPLETE = 0
    INTERNAL_ERROR = 1
    USAGE = 2
    OVER_BUDGET = 3
    INCOMPLETE = 4
    HUNG_UP = 128 + signal.SIGHUP
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM

    @property
    def reason(self) -> str:
        """The word for it in `summary.json` and in the line of `--json`."""
        return _WORDS[self][0]


# The word for it, and what it means, for the help.
_WORDS = {
    ExitStatus.COMPLETE: ("complete", "complete"),
    ExitStatus.INTERNAL_ERROR: ("fault", "internal error (please report it)"),
    ExitStatus.USAGE: ("usage", "usage error: change the command line, an input or the model"),
    ExitStatus.OVER_BUDGET: ("over_budget", "more images failed than --max_failures allows"),
    ExitStatus.INCOMPLETE: ("incomplete", "incomplete: run the same command again to continue"),
    ExitStatus.HUNG_UP: ("interrupted", "hung up: run the same command again to continue"),
    ExitStatus.INTERRUPTED: ("interrupted", "interrupted: run the same command again to continue"),
    ExitStatus.TERMINATED: ("interrupted", "terminated: run the same command again to continue"),
}

# The end of the help of commands that run a pipeline.
PIPELINE_HELP = "\n".join(
    [
        "Options of Beam pass through, such as --runner or --direct_num_workers. Programs that",
        "start this command give --json and --stop_with_parent.",
        "",
        "exit status:",
        *(f"  {status.value:>3}  {meaning}" for status, (_, meaning) in _WORDS.items()),
        "",
    ]
)
