"""A Chromium held by its DevTools protocol: pages over HTTP, on a screen of a given width, with every request that they make.

Pages that forbid scripts can be asked too, as what DevTools evaluates is not the page's own.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_PORT = "DevToolsActivePort"
"""File in which Chromium tells its port."""


class Tab:
    """One page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        """Listen to what the page requests and logs."""
        self._connection, self._number = connection, 0
        self.requests: list[str] = []
        """Addresses, since the tab was opened."""
        self.told: list[str] = []
        """Errors and warnings of the console, since the tab was opened."""
        self._loaded = False
        found = self._say("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = ""
        self._session = self._say("Target.attachToTarget", {"targetId": found, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._say(f"{domain}.enable")

    def show(self, address: str, width: int, height: int = 900) -> None:
        """Load a page on a screen of so many CSS pixels; a phone's below 600."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._say("Emulation.setDeviceMetricsOverride", screen)
        answer = self._say("Page.navigate", {"url": address})
        assert "errorText" not in answer, answer
        self.loaded()

    def loaded(self) -> None:
        """Wait until a page is there, after the one that was waited for before."""
        while not self._loaded:
            self._hear()
        self._loaded = False

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._say("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, file: Path, *, most: int = 4000) -> None:
        """Write the page as a PNG, down to `most` pixels."""
        width, height = self.ask("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most), "scale": 1}
        found = self._say("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(found["data"]))

    def _say(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters or {}}
        self._connection.send(json.dumps({**message, **self._to()}))
        while (heard := self._hear()).get("id") != self._number:
            pass
        assert "error" not in heard, heard
        result: dict[str, Any] = heard["result"]
        return result

    def _to(self) -> dict[str, str]:
        session = getattr(self, "_session", "")
        return {"sessionId": session} if session else {}

    def _hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self._connection.recv(timeout=300))
        what = heard.get("method")
        if what == "Network.requestWillBeSent":
            self.requests.append(heard["params"]["request"]["url"])
        elif what == "Page.loadEventFired":
            self._loaded = True
        elif what in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.told.append(json.dumps(heard["params"]))
        return heard


@contextmanager
def tab(browser: str, profile: Path) -> Iterator[Tab]:
    """Start the browser with a profile of its own; it ends with the block."""
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    words += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen([browser, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        told = profile / _PORT
        while not (told.exists() and len(told.read_text().split()) == 2):
            assert process.poll() is None and time.monotonic() < deadline, "the browser did not come up"
            time.sleep(0.05)
        port, path = told.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, open_timeout=300) as connection:
            yield Tab(connection)
    finally:
        process.kill()
        process.wait(120)
