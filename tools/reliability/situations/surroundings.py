"""The process and its machine: variables, streams, limits, folders for temporary files."""

from __future__ import annotations

from tools.reliability.situations.changes import closed, copied, link, put
from tools.reliability.situations.files import PLAIN_USER
from tools.reliability.situations.table import (
    ENSEMBLE,
    GIVEN,
    INCOMPLETE,
    MASKED,
    OVER,
    PACK,
    PHOTOS,
    PLAN,
    SCENES,
    TRAIN,
    WRAP,
    Situation,
)

FULL = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
NO_STREAMS = "import os; os.close(0); os.close(1)"
TMP = {"TMPDIR": "tmp"}


def limited(what: str, amount: int) -> str:
    """A limit of the process, as ulimit sets it."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_{what}, ({amount}, {amount}))"


SITUATIONS = (
    # Folders for temporary files.
    Situation(
        "a folder for temporary files that is gone",
        SCENES,
        "TMPDIR",
        "make it, or set TMPDIR to another",
        INCOMPLETE,
        variables=TMP,
    ),
    Situation(
        "a folder for temporary files that is a file",
        SCENES,
        "TMPDIR",
        "make it, or set TMPDIR to another",
        INCOMPLETE,
        make=put("tmp", ""),
        variables=TMP,
    ),
    Situation(
        "a folder for temporary files that is a link to nothing",
        PLAN,
        "TMPDIR",
        "make it, or set TMPDIR to another",
        INCOMPLETE,
        make=link("tmp", "nowhere"),
        variables=TMP,
    ),
    Situation(
        "a folder for temporary files that is gone, to pack",
        PACK,
        "TMPDIR",
        "make it, or set TMPDIR to another",
        INCOMPLETE,
        variables=TMP,
    ),
    Situation(
        "a folder for temporary files that is gone, to train on shards",
        f"{TRAIN} --set=data.shards=shards/part.tfrecord",
        "TMPDIR",
        "make it, or set TMPDIR to another",
        INCOMPLETE,
        variables=TMP,
    ),
    # Streams.
    Situation(
        "a full disk behind standard output",
        PLAN,
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind the help",
        "segment --help",
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind the version",
        "--version",
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind the text of inspect",
        "inspect model",
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind the schema of train",
        "train --schema",
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind a finished run",
        PHOTOS,
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "a full disk behind the line of JSON",
        f"{PHOTOS} --json",
        "standard output",
        "run the same command again",
        INCOMPLETE,
        hook=FULL,
    ),
    Situation(
        "no input and no output",
        "segment --input=fotos --model=model --output=run",
        "fotos",
        "check the path, and quote patterns with *",
        hook=NO_STREAMS,
    ),
    Situation(
        "an output whose reader is gone",
        "plan --input=fotos --model=model",
        "fotos",
        "check the path, and quote patterns with *",
        hook="import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1)",
    ),
    # Limits of the process.
    Situation(
        "files of no size",
        PHOTOS,
        "TMPDIR",
        "make room, or set TMPDIR to a folder with room",
        INCOMPLETE,
        hook=limited("FSIZE", 0),
    ),
    Situation(
        "files of a kilobyte",
        SCENES,
        "ulimit -f",
        "raise the limit, or use another disk, then run the same command",
        INCOMPLETE,
        hook=limited("FSIZE", 1024),
    ),
    Situation(
        "files of no size, to pack",
        PACK,
        "TMPDIR",
        "make room, or set TMPDIR to a folder with room",
        INCOMPLETE,
        hook=limited("FSIZE", 0),
    ),
    Situation(
        "files of no size, to train",
        TRAIN,
        "TMPDIR",
        "make room, or set TMPDIR to a folder with room",
        INCOMPLETE,
        hook=limited("FSIZE", 0),
    ),
    Situation(
        "files of no size, for samples",
        "demo --samples=demo",
        "ulimit -f",
        "raise the limit, or use another disk, then run the same command",
        INCOMPLETE,
        hook=limited("FSIZE", 0),
    ),
    Situation(
        "eight open files",
        PHOTOS,
        "ulimit -n",
        "raise the limit of open files (ulimit -n), then run the same",
        INCOMPLETE,
        hook=limited("NOFILE", 8) + "; import time; time.sleep = abs",
    ),
    Situation(
        "three open files, to inspect",
        "inspect model",
        "ulimit -n",
        "raise the limit of open files (ulimit -n), then run the same",
        INCOMPLETE,
        hook=limited("NOFILE", 3),
    ),
    Situation(
        "four open files, to verify",
        "verify run",
        "ulimit -n",
        "raise the limit of open files (ulimit -n), then run the same",
        INCOMPLETE,
        before=(PHOTOS,),
        hook=limited("NOFILE", 4),
    ),
    Situation(
        "no thread more",
        PHOTOS,
        "ulimit -u",
        "raise the limit of processes (ulimit -u), then run the same",
        INCOMPLETE,
        hook="""
import threading
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
""",
    ),
    Situation(
        "no memory more",
        PHOTOS,
        "memory",
        "free some, or lower --memory, then run the same command again",
        INCOMPLETE,
        hook="""
from pipelines.segment import graph
def late(*words):
    raise MemoryError
graph.run_segment = late
""",
    ),
    # Variables.
    Situation(
        "a width of no columns",
        "segment --windw=3",
        "--windw",
        "did you mean --window?",
        variables={"COLUMNS": "0"},
    ),
    Situation(
        "a language that is none, and a name that is not ASCII",
        f"segment --input=fötos {GIVEN}",
        "tos",
        "check the path, and quote patterns with *",
        variables={"LC_ALL": "nowhere"},
    ),
    Situation(
        "plain ASCII, and a name that is not",
        f"segment --input=fötos {GIVEN}",
        "tos",
        "check the path, and quote patterns with *",
        variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ),
    Situation(
        "plain ASCII, and an image that cannot be used",
        f"segment --input=names {GIVEN}",
        "names",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=put("names/fö.png", "x"),
        variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ),
    Situation(
        "an encoding of streams that has no umlauts",
        f"segment --input=fötos {GIVEN}",
        "tos",
        "check the path, and quote patterns with *",
        variables={"PYTHONIOENCODING": "ascii"},
    ),
    Situation(
        "data of GDAL that are not there",
        f"{SCENES} --crs=nonsense",
        "--crs",
        "write one such as EPSG:",
        variables={"GDAL_DATA": "/nowhere"},
    ),
    # Folders of the user.
    Situation(
        "a working directory that may not be entered",
        "segment --input=fotos --model=model --output=run",
        "run",
        "ask for the right to it, or name another place",
        make=closed(".", 0),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to",
        PHOTOS,
        "run",
        "ask for the right to it, or name another place",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to, to pack",
        MASKED,
        "packed",
        "ask for the right to it, or name another place",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to, to train",
        TRAIN,
        "trained",
        "ask for the right to it, or name another place",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to, to wrap",
        WRAP,
        "wrapped",
        "name another folder",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to, for an ensemble",
        ENSEMBLE,
        "both",
        "name another folder",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a working directory that may not be written to, for samples",
        "demo --samples=demo",
        "demo",
        "ask for the right to it, or name another place",
        make=closed(".", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a finished run that is read again without room for streams",
        "compare photos masks",
        "photos",
        "it has no configuration.json; give the --output of train",
        make=copied("photos", "more"),
        hook=NO_STREAMS,
    ),
)
