"""`python -m pipelines.segment` as a file, which is what the launcher of a Flex Template takes."""

import sys

from pipelines.cli import guarded
from pipelines.segment import run

if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
