"""SIGTERM and SIGINT ask a run to save and end; the trainer looks at the request between two steps.

Needs no torch: it is put in place before anything slow is imported.
"""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType

log = logging.getLogger(__name__)


class Preemption:
    """Whether and when this process was asked to end."""

    def __init__(self) -> None:
        self.signal: str | None = None
        """Name of the signal that came, None for none."""
        self.since = 0.0
        """When it came (time.monotonic)."""

    def listen(self) -> Preemption:
        """Take SIGTERM and SIGINT; a second SIGINT interrupts at once. Only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)
        return self

    def seconds_left(self, limit: float) -> float:
        """Return what is left of `limit` seconds since the signal; all of it where none came here."""
        return max(1.0, limit - (time.monotonic() - self.since)) if self.signal else limit

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self.since = signal.Signals(number).name, time.monotonic()
