"""A Chromium that a test can talk to: it logs in to the Prefect dashboard and tells what a page shows."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.report.chromium import WORDS


class Page:
    """One page of the browser, by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._number = connection, 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events in between are not read."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def value(self, script: str) -> Any:
        """What a script evaluates to."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def log_in(self, root: str, password: str) -> None:
        """Keep the password where the dashboard keeps it after its form was sent."""
        kept = base64.b64encode(password.encode()).decode()
        self.ask("Page.navigate", url=root)
        self.value(f"localStorage.setItem('prefect-password', '{kept}')")

    def shows(self, address: str, *words: str, seconds: float = 90.0) -> None:
        """Load a page; it must come to show all the words."""
        self.ask("Page.navigate", url=address)
        until, text = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            text = self.value("document.body ? document.body.innerText : ''") or ""
            if all(word in text for word in words):
                return
            time.sleep(0.5)  # the page asks the server, and tells nobody when it is done
        raise AssertionError(f"{address} does not show {[word for word in words if word not in text]}:\n{text}")


@contextlib.contextmanager
def opened(browser: str, folder: Path) -> Iterator[Page]:
    """A browser with an empty page; its profile lies in the folder."""
    words = [browser, *WORDS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", "about:blank"]
    with open(folder / "browser.log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        until, found = time.monotonic() + 60, None
        while found is None:
            assert process.poll() is None and time.monotonic() < until, (folder / "browser.log").read_text()
            found = re.search(r"listening on ws://([^/]+)/", (folder / "browser.log").read_text(errors="replace"))
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://{found.group(1)}/json", timeout=30) as answer:
            page = next(one for one in json.load(answer) if one["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(30)
