"""A Flink of this test's own: a session cluster with two slots, and Beam's job server for it.

Everything runs as processes of its own on the loopback interface and is gone afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT

MAVEN_SECONDS, START_SECONDS = 300, 60
SLOTS = 2
# Beam and Flink of this time look into these packages, which Java 17 opens to nobody by itself.
OPENED = ("lang", "lang.invoke", "lang.reflect", "io", "math", "net", "nio", "text", "time")
OPENED += ("util", "util.concurrent", "util.concurrent.atomic")
OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in OPENED]
OPENS += ["--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]
MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "64m",
    "task.heap.size": "256m",
    "task.off-heap.size": "0m",
    "network.min": "64m",
    "network.max": "64m",
    "managed.size": "128m",
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "128m",
    "jvm-overhead.max": "128m",
}


def class_path() -> list[Path]:
    """Flink and Beam's job server: the jar that FLINK_JOB_SERVER_JAR names, or Maven's copies."""
    if not shutil.which("java"):
        pytest.skip("Flink needs Java 17, and there is no java on the path")
    named = os.environ.get("FLINK_JOB_SERVER_JAR")
    if named:
        return [Path(named).resolve(strict=True)]
    if not shutil.which("mvn"):
        pytest.skip("Flink's jars come through Maven, and there is no mvn on the path")
    folder = ROOT / "build" / "flink"
    stamp = folder / "pom.xml"
    pom = Path(__file__).parent / "flink" / "pom.xml"
    if not stamp.exists() or stamp.read_bytes() != pom.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        words = ["mvn", "-B", "-ntp", "-q", "-f", str(pom), "dependency:copy-dependencies"]
        words += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=MAVEN_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"Maven has not brought Flink's jars within {MAVEN_SECONDS} s")
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
            pytest.skip(f"Maven cannot bring Flink's jars: {lines[0] if lines else done.stderr}")
        shutil.copy(pom, stamp)
    return sorted(folder.glob("*.jar"))


def write_job_server(path: Path, jars: list[Path]) -> None:
    """A jar that says nothing but where the others are, as `java -jar` takes only one."""
    line = "Class-Path: " + " ".join(jar.as_uri() for jar in jars)
    # A line of a manifest has at most 72 bytes; a space goes on with the one before.
    lines = [line[:72]] + [" " + line[i : i + 71] for i in range(72, len(line), 71)]
    main = "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver"
    with zipfile.ZipFile(path, "w") as jar:
        text = "\r\n".join(["Manifest-Version: 1.0", main, *lines, "", ""])
        jar.writestr("META-INF/MANIFEST.MF", text)


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass
class Cluster:
    """A running Flink.

    Args:
        folder: With logs and all that it writes.
        rest: Port of its web interface.
        job_server: Jar to start Beam's job server from.
        task_manager: Process id.
    """

    folder: Path
    rest: int
    job_server: Path
    task_manager: int

    def ask(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/{path}", timeout=10) as answer:
            return json.load(answer)

    def options(self) -> list[str]:
        """What `beamseg segment` is told: these stand in docs/running.md, too."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master=127.0.0.1:{self.rest}",
            f"--flink_job_server_jar={self.job_server}",
            *(f"--job_server_jvm_property={word}" for word in [*OPENS, "-Xmx400m"]),
            "--environment_type=PROCESS",
            f"--environment_option=process_command={self.folder / 'beamseg-worker'}",
            f"--parallelism={SLOTS}",
            f"--sdk_worker_parallelism={SLOTS}",
        ]

    def workers(self) -> list[int]:
        """Process ids of the Python workers that the task manager has started."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.task_manager and b"pipelines.runners.worker" in words:
                found.append(int(entry.name))
        return sorted(found)

    def logs(self) -> str:
        """The ends of all logs."""
        tails = (
            "\n".join([f"--- {path.name}", *path.read_text("utf-8", "replace").splitlines()[-40:]])
            for path in sorted(self.folder.glob("*.log"))
        )
        return "\n".join(tails)


def write_configuration(folder: Path, rest: int, rpc: int) -> None:
    settings = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.memory.heap.size": "300m",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": rest,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": SLOTS,
        "taskmanager.cpu.cores": SLOTS,
        **{f"taskmanager.memory.{name}": size for name, size in MEMORY.items()},
        # The cluster has Beam's jars already; those of a job would be other classes of equal names.
        "classloader.resolve-order": "parent-first",
        "io.tmp.dirs": folder / "tmp",
        # Flink does not begin a failed batch job again unless it is told so.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2,
        "restart-strategy.fixed-delay.delay": "1 s",
    }
    lines = [f"{name}: {value}" for name, value in settings.items()]
    (folder / "tmp").mkdir()
    (folder / "flink-conf.yaml").write_text("\n".join([*lines, ""]))


def write_worker(path: Path, log: Path) -> None:
    """What the installed `beamseg-worker` is, from the source tree."""
    path.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\n'
        f'exec "{sys.executable}" -m pipelines.runners.worker "$@" 2>>"{log}"\n'
    )
    path.chmod(0o755)


@contextmanager
def flink(folder: Path) -> Iterator[Cluster]:
    """A session cluster from nothing, gone with all its processes when the block ends."""
    jars = class_path()
    rest, rpc = free_ports(2)
    write_configuration(folder, rest, rpc)
    write_worker(folder / "beamseg-worker", folder / "worker.log")
    write_job_server(folder / "job-server.jar", jars)
    start = "org.apache.flink.runtime"
    processes = [
        _java(folder, jars, f"{start}.entrypoint.StandaloneSessionClusterEntrypoint"),
        _java(folder, jars, f"{start}.taskexecutor.TaskManagerRunner"),
    ]
    cluster = Cluster(folder, rest, folder / "job-server.jar", processes[1].pid)
    try:
        _await(cluster, processes)
        yield cluster
    finally:
        workers = cluster.workers()
        for process in processes:
            process.kill()
            process.wait()
        # They end by themselves when their engine is gone; see the test that holds them to it.
        until = time.monotonic() + 20
        while (left := [pid for pid in workers if _is_alive(pid)]) and time.monotonic() < until:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"workers {left} outlived their engine"


def _java(folder: Path, jars: list[Path], main: str) -> subprocess.Popen[bytes]:
    classes = os.pathsep.join(map(str, jars))
    words = ["java", *OPENS, "-Xmx500m", "-cp", classes, main, "--configDir", str(folder)]
    with (folder / f"{main.rpartition('.')[2]}.log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)


def _await(cluster: Cluster, processes: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and all(process.poll() is None for process in processes):
        try:
            if cluster.ask("overview")["slots-available"] == SLOTS:
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"Flink has not started within {START_SECONDS} s:\n{cluster.logs()}")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
