"""`subprocess` for programs that import Beam or TensorFlow: the same, but 3 s faster.

`run` and `Popen` take what those of `subprocess` take. A Python program (`[sys.executable, "-c",
...]` or `-m`) is not started anew but forked from a process that has imported all that programs
need, see `tests.fork_server`; it is a child of this process like any other. What cannot be forked
(another program, other variables that are read at import) is started by `subprocess`.

Not for tests of what is imported, of messages while TensorFlow is imported, of memory, nor for
worker processes of Beam: use `subprocess` there. All forked processes have the same hash seed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tests.fork_server import Request

ROOT = Path(__file__).parents[1]
# Variables that are read when something is imported begin so.
AT_IMPORT = ("GDAL_", "GRPC_", "KERAS_", "LANG", "LC_", "MPL", "OMP_", "PROJ_", "PYTHON")
AT_IMPORT += ("TF_", "XLA_")
# `PYTHONPATH` leads to the same modules.
NO_MATTER = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
_SET_CHILD_SUBREAPER = 36


class Server:
    """The process that forks, started when the first one is asked for."""

    def __init__(self) -> None:
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        if self.control.recv(100) != b"ready":
            raise RuntimeError(f"the fork server ended with {self.process.wait()}")
        atexit.register(self.end)

    def end(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()

    def fork(self, request: Request, descriptors: list[int]) -> int:
        """Start a process; returns its id."""
        with self.lock:
            _adopt_orphans(True)
            try:
                socket.send_fds(self.control, [request.encoded()], descriptors)
                pid = self.control.recv(100)
            finally:
                _adopt_orphans(False)
        if not pid:
            raise RuntimeError(f"the fork server ended with {self.process.wait()}")
        return int(pid)

    def suits(self, environment: dict[str, str]) -> bool:
        """Whether modules would be imported the same in another environment."""
        return all(
            environment.get(name) == self.environment.get(name)
            for name in {*environment, *self.environment}
            if name.startswith(AT_IMPORT) and name not in NO_MATTER
        )


# Not to be inherited by a fork of this process.
server = cache(Server)


def _adopt_orphans(on: bool) -> None:
    """Whether processes whose parent ends become children of this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Popen(subprocess.Popen):
    """As that of `subprocess`."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more):  # type: ignore[override]
        *_, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = more[:9]
        new_session = more[14]
        environment = dict(os.environ if env is None else env)
        is_python = args[0] == sys.executable and args[1] in ("-c", "-m")
        is_plain = executable is preexec_fn is None and not pass_fds
        can_fork = sys.platform == "linux" and is_python and is_plain
        if not can_fork or not server().suits(environment):
            super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more
            )
            return
        option, program, *words = map(os.fspath, args[1:])
        request = Request(
            option, program, words, str(cwd or os.getcwd()), environment, bool(new_session)
        )
        streams = (p2cread, c2pwrite, errwrite)
        theirs = [own if given == -1 else given for own, given in enumerate(streams)]
        self.pid = server().fork(request, theirs)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(
    words: list[str],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """As that of `subprocess`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(words, **options) as process:
        try:
            printed, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, printed, errors)
    return subprocess.CompletedProcess(words, process.returncode, printed, errors)
