"""Pages of the documentation, run as a reader runs them: from an empty folder, top to bottom."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests import forked
from tests.end_to_end.conftest import ROOT, command, environment

# Two steps on small crops: pages show what takes minutes, tests see that it starts and ends.
SHORT = ("steps=2", "batch=2", "crop=64", "warmup_steps=1")


def blocks(page: str, *languages: str) -> Iterator[tuple[str, str]]:
    """Language and text of the code blocks of a page, in order."""
    fence = re.compile(rf"^```({'|'.join(languages)})\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for found in fence.finditer(page):
        yield found[1], found[2]


def command_lines(page: str) -> list[str]:
    """Lines of all `sh` blocks; a line that ends with a backslash goes on."""
    text = "".join(block for _, block in blocks(page, "sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def run_page(name: str, folder: Path, only: str = "") -> str:
    """Run every `sh` and `python` block of a page in a folder; gives all that was printed.

    A `toml` block that begins with the name of a file, such as `# land.toml`, becomes that file.

    Args:
        name: File name of the page, from the root of the repository.
        folder: What the reader has when the page begins; empty for most pages.
        only: Run only the command lines with this word in them.
    """
    printed = []
    for language, block in blocks((ROOT / name).read_text("utf-8"), "sh", "python", "toml"):
        if language == "toml":
            if name_of_file := re.match(r"# (\w+\.toml)\n", block):
                (folder / name_of_file[1]).write_text(block, "utf-8")
            continue
        if language == "python":
            printed.append(_run([sys.executable, "-c", block], folder, f"{name}: python"))
            continue
        for line in command_lines(f"```sh\n{block}```"):
            printed += [_run_line(line, folder, name)] if only in line else []
    return "".join(printed)


def _run_line(line: str, folder: Path, page: str) -> str:
    words = shlex.split(line)
    if words[:2] == ["beamseg", "view"]:
        page_served_by(words[1:], folder)
        return ""
    if words[0] == "beamseg":
        return _run(command(*_shortened(words[1:])), folder, f"{page}: {line}")
    if words[0] == "make":
        return _run(["make", "--dry-run", *words[1:]], ROOT, f"{page}: {line}")
    if words[:2] == ["pip", "install"]:
        check_extras(words)
        return ""
    if words[0] in ("cp", "head"):
        return _run(["bash", "-c", line], folder, f"{page}: {line}")
    assert words == ["source", ".venv/bin/activate"], f"{page}: {line}"
    return ""


def page_served_by(words: list[str], folder: Path, number: int = signal.SIGINT) -> bytes:
    """The page that `beamseg view` serves, ended by a signal as it must end."""
    # A shell without job control has its children ignore SIGINT.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            command(*words),
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(number, before)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            addresses = re.findall(r"http://127\.0\.0\.1:\d+/", line)
            assert addresses, process.communicate(timeout=60)
            with urllib.request.urlopen(addresses[0], timeout=20) as answer:
                page: bytes = answer.read()
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (0, b"")
        finally:
            process.kill()
    return page


def check_extras(words: list[str]) -> None:
    """Hold the extras of a `pip install` to those that the project has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), words


def _shortened(words: list[str]) -> list[str]:
    extra = [f"--set=training.{setting}" for setting in SHORT]
    return [*words, *extra] if words[0] == "train" else words


def _run(words: list[str], folder: Path, what: str) -> str:
    done = forked.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{what}\n{done.stderr}"
    return done.stdout + done.stderr
