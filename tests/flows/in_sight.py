"""Secrets that are planted in tests of flows, and where they can be seen: files of all kinds, and the command lines of processes."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from types import TracebackType

from olmo_core import processes

KEY, SECRET = "RECOGNISABLE-KEY-4711", "recognisable-secret/0815+x"
WRONG = "recognisable-wrong-secret-1234"
IN_THE_ENVIRONMENT = {"WANDB_API_KEY": "recognisable-planted-5678", "HF_TOKEN": "hf_recognisable-planted-9012"}
"""What the session's services were started with: variables of others that trainers need."""
SESSION = {"TEST_SESSION": str(os.getpid())}
"""By which the services of this session, and all that they start, are told from those of another suite on this machine."""
SEEN = re.compile(rb"RECOGNISABLE-KEY|recognisable-(wrong-)?secret|recognisable-planted", re.IGNORECASE)


def places_that_show_it(*folders: Path) -> list[str]:
    """The files below some folders in which one of them stands; fails where there is nothing to search."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 3
    return [str(file) for file in files if SEEN.search(content(file))]


def content(file: Path) -> bytes:
    """The bytes of a file; none of one that has gone since it was listed: what runs there has files for a moment only."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


class CommandLines:
    """While it is open, looks again and again at the command lines of this session's services and of all that they have started.

    Others' are left out: a second suite beside this one plants the same words.
    """

    def __init__(self) -> None:
        self.showing: set[bytes] = set()
        self.seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for process in processes.carrying(**SESSION):
                try:
                    line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                except OSError:
                    continue
                self.seen.add(line)
                if SEEN.search(line):
                    self.showing.add(line)
