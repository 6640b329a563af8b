"""What the launcher of the Flex Template runs, as it takes a file: `python -m pipelines.segment`.

Workers have the image that the template was built from, unless another is named: forms of the
console have no field for it.
"""

import os
import sys

from pipelines.commands.main import guarded
from pipelines.commands.segment import run

IMAGE = "--sdk_container_image"


def words() -> list[str]:
    """The command line, with an image for the workers."""
    given = sys.argv[1:]
    named = any(word.partition("=")[0] == IMAGE for word in given)
    return given if named else [*given, f"{IMAGE}={os.environ['WORKER_IMAGE']}"]


if __name__ == "__main__":
    sys.exit(guarded(run, words()))
