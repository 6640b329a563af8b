"""`python -m pipelines.pack`, as workflow orchestrators call it."""

import sys

from pipelines.commands.main import guarded
from pipelines.commands.pack import run

if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
