"""Runs the emulator of Google Cloud Storage without its journal: `python -m ... PORT`.

After each write it puts the metadata of all objects into a file of its storage, which is memory
here and never read again: 2,000 uploads took 79 seconds of that.
"""

from __future__ import annotations

import sys


def run(port: int) -> None:
    """Serve until the process ends."""
    from gcp_storage_emulator.__main__ import main
    from gcp_storage_emulator.storage import Storage

    Storage._write_config_to_file = lambda storage: None
    main(["start", "--host", "127.0.0.1", "--port", str(port), "--quiet", "--in-memory"])


if __name__ == "__main__":
    run(int(sys.argv[1]))
