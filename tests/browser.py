"""Chromium without a window, driven over WebDriver, with every name but loopback unknown to it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
needs_chromium = pytest.mark.skipif(
    bool(MISSING),
    reason=f"needs {' and '.join(MISSING)} of Debian: apt-get install chromium-driver",
)
WAIT_SECONDS = 30


class Browser:
    """A session of a browser.

    Args:
        address: Address of the session.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        _ask(f"{self._address}/url", {"url": url})

    def run(self, script: str, *words: Any) -> Any:
        """What the body of a function returns in the page; it may be a promise."""
        return _ask(f"{self._address}/execute/sync", {"script": script, "args": list(words)})

    def wait_for(self, script: str, *words: Any) -> Any:
        """The first value of an expression that is true in JavaScript."""
        end = time.monotonic() + WAIT_SECONDS
        while not (found := self.run(f"return {script}", *words)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return found

    def keys(self, text: str) -> None:
        """Press keys where the focus is; those without a letter are those of WebDriver."""
        presses = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": presses})

    def click(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        press = [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        self._act({"type": "pointer", "id": "mouse", "actions": [move, *press]})

    def _act(self, *actions: dict[str, Any]) -> None:
        _ask(f"{self._address}/actions", {"actions": list(actions)})

    def command(self, name: str, **values: Any) -> Any:
        """A command of Chromium's DevTools."""
        return _ask(f"{self._address}/goog/cdp/execute", {"cmd": name, "params": values})

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(_ask(f"{self._address}/screenshot")))

    def messages(self) -> list[str]:
        """What pages have written to the console since the last call, such as refused requests."""
        return [entry["message"] for entry in _ask(f"{self._address}/se/log", {"type": "browser"})]

    def addresses(self) -> list[str]:
        """Addresses that pages have asked for since the last call, also those that failed."""
        log = _ask(f"{self._address}/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in log]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


def _ask(address: str, values: dict[str, Any] | None = None, method: str = "") -> Any:
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(address, data, method=method or None)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from error


@contextmanager
def browser(folder: Path, width: int = 1200, height: int = 800) -> Iterator[Browser]:
    """A browser for the time of a block.

    Args:
        folder: Where it may write.
        width: Of its window, in pixels.
        height: Of its window.
    """
    log = folder / "chromedriver.log"
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=log.open("w"), stderr=subprocess.STDOUT
    )
    try:
        root = f"http://127.0.0.1:{_port(log)}"
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        words += [
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},{height}",
        ]
        words += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": words, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = _ask(f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{root}/session/{made['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _ask(session, method="DELETE")
    finally:
        driver.terminate()
        driver.wait()


def _port(log: Path) -> int:
    """The port that a chromedriver has taken, which it says in its log."""
    end = time.monotonic() + WAIT_SECONDS
    while " on port " not in (text := log.read_text()) or "successfully" not in text:
        assert time.monotonic() < end, text
        time.sleep(0.02)
    return int(text.rpartition(" on port ")[2].split(".")[0].split()[0])
