"""Extractors for tests that do what the page says: hang, crash, eat memory. Run in the extraction process only."""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections.abc import Callable
from typing import Any

seen: list[str] = []


def obedient(options: dict[str, Any]) -> Callable[[str], str | None]:
    """Return an extractor that obeys the first word of a page, and else returns the page in capitals."""

    def to_text(page: str) -> str | None:
        seen.append(page)
        word = page.split(" ")[0]
        if word == "spin":
            while True:
                pass
        if word == "regex":  # holds the interpreter's lock all the time
            re.match(r"(a+)+$", "a" * 64 + "b")
        if word == "sleep":
            signal.pause()
        if word == "crash":
            ctypes.string_at(0)
        if word == "exit":
            os._exit(7)
        if word == "memory":
            return "x" * (1 << 40)
        if word == "hoard" and len(seen) > 1:  # fails only behind other pages
            os._exit(3)
        if word == "raise":
            raise ValueError("that page")
        if word == "surrogate":
            return "\ud800"
        if word == "nothing":
            return None
        if word == "pid":
            return str(os.getpid())
        return page.upper()

    return to_text


def absent(options: dict[str, Any]) -> Callable[[str], str | None]:
    """Fail to start."""
    raise ImportError("no such extractor here")
