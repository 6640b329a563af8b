"""Runs the emulator of Google Cloud Storage without its journal: `python -m ... PORT`.

After each write it puts the metadata of all objects into a file of its storage, which is memory
here and never read again: 2,000 uploads took 79 seconds of that.
"""

from __future__ import annotations

import sys

from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.storage import Storage


def _keep_no_journal(storage: Storage) -> None:
    """What is in memory needs none."""


if __name__ == "__main__":
    Storage._write_config_to_file = _keep_no_journal
    main(["start", "--host", "127.0.0.1", "--port", sys.argv[1], "--quiet", "--in-memory"])
