"""`python -m pipelines.segment`, as workflow orchestrators call it."""

import sys

from pipelines.commands.main import guarded
from pipelines.commands.segment import run

if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
