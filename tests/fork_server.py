"""A process that has imported what commands import, and forks one for each that it is asked for.

    python -m tests.fork_server DESCRIPTOR

To import Beam and TensorFlow takes 3 s; a fork takes some milliseconds. The server never runs an
operation of TensorFlow, as that starts threads, which a fork breaks. Each forked process becomes a
child of the one that has asked, which must be a "subreaper" meanwhile (see prctl(2)): it is waited
for, counted and killed as any other child. `tests.forked` is the other side.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NoReturn

from PIL import Image

from segmodel.devices.startup import import_quietly, reuse_memory

# What commands import of others when they are about to use it.
OTHERS = (
    "apache_beam.runners.direct.direct_runner",
    "apache_beam.runners.portability.fn_api_runner",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "apache_beam.typehints.intrinsic_one_ops",
    "keras",
    "pyarrow.compute",
    "pyogrio",
    "rasterio.features",
    "rasterio.warp",
    "tensorflow",
)
# Of them, what comes with an extra.
OF_STORES = ("boto3.s3.transfer", "google.cloud.storage", "google.cloud.storage.retry")
REQUEST_BYTES = 2**20


@dataclass(frozen=True)
class Request:
    """A process to start.

    Args:
        option: `-c` or `-m`.
        program: Python code, or the name of a module.
        words: Its arguments.
        folder: Where it runs.
        environment: All its variables.
        new_session: Whether it leads a session and process group of its own.
    """

    option: str
    program: str
    words: list[str]
    folder: str
    environment: dict[str, str]
    new_session: bool

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def modules() -> Iterator[str]:
    """All modules of the product that can be imported without being run."""
    for package in ("segmodel", "pipelines"):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                yield module.name


def import_all() -> None:
    reuse_memory()
    with import_quietly():
        for name in (*OTHERS, *modules()):
            importlib.import_module(name)
        for name in OF_STORES:
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(name)
        # Its modules of formats, which it else imports at the first image of an odd one.
        Image.init()
    gc.collect()
    # The garbage collector would write to all objects, and so copy the pages they are in.
    gc.freeze()


def serve(control: socket.socket) -> Request:
    """Start what is asked for, until nobody is there to ask; returns in the new process only."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 3)
        if not data:
            os._exit(0)
        reader, writer = os.pipe()
        between = _fork()
        if not between:
            between = os.getpid()
            child = _fork()
            if child:
                os.write(writer, b"%d" % child)
                os._exit(0)
            # Until who has asked is the parent.
            while os.getppid() == between:
                time.sleep(0.0001)
            control.close()
            os.close(reader)
            os.close(writer)
            return _settle(Request(**json.loads(data)), descriptors)
        # The new process has another parent when this returns.
        os.waitpid(between, 0)
        control.send(os.read(reader, 20))
        for descriptor in (reader, writer, *descriptors):
            os.close(descriptor)


def _fork() -> int:
    with warnings.catch_warnings():
        # Of threads: memory allocators and numpy have some, which know what a fork is.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _settle(request: Request, descriptors: list[int]) -> Request:
    """Be a process that has just been started by another one."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    for descriptor in descriptors:
        os.close(descriptor)
    if request.new_session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        io.BufferedReader(io.FileIO(0, closefd=False)), encoding=sys.stdin.encoding
    )
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout, line_buffering=os.isatty(1))
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr, line_buffering=True)
    import numpy as np

    # Python's own generator starts anew by itself.
    np.random.seed()  # noqa: NPY002
    return request


def _stream(descriptor: int, like: io.TextIOWrapper, line_buffering: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        open(descriptor, "wb", closefd=False),
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=line_buffering,
    )


def run(request: Request) -> NoReturn:
    """Run a program and end the process, both as Python does.

    Only the objects that are left are not destroyed one by one: that takes 0.2 s.
    """
    main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    sys.argv = [request.option, *request.words]
    sys.path[0] = os.getcwd() if request.option == "-m" else ""
    status = 0
    try:
        if request.option == "-m":
            if not hasattr(sys.modules.get(request.program), "__path__"):
                # `python -m` warns of a module that is imported already.
                sys.modules.pop(request.program, None)
            runpy._run_module_as_main(request.program)
        else:
            exec(compile(request.program, "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
        status = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    _end(status)


def _end(status: int) -> NoReturn:
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream, at_fault in ((sys.stdout, 120), (sys.stderr, 0)):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or at_fault
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _control = socket.socket(fileno=int(sys.argv[1]))
    import_all()
    _control.send(b"ready")
    _server = sys.modules["__main__"]
    run(serve(_control))
