"""SIGTERM and SIGINT ask a run to save and end; the trainer looks at the request between two steps.

Needs no torch: it is put in place before anything slow is imported.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from olmo_core.train.launch import told_by

_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun gives its ranks."""


class Preemption:
    """Whether and when this process was asked to end."""

    def __init__(self) -> None:
        self.signal: str | None = None
        """Name of the signal that came, None for none."""
        self.since = 0.0
        """When it came (time.monotonic)."""
        self._interrupted = 0

    def listen(self) -> Preemption:
        """Take SIGTERM and SIGINT, and what an earlier one of this process or the launcher has heard.

        A second SIGINT interrupts at once, except under torchrun, which answers Ctrl-C with another one to each rank. Only the
        main thread may call this.
        """
        before = signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)
        earlier = getattr(before, "__self__", None)
        if isinstance(earlier, Preemption) and earlier.signal is not None:
            self.signal, self.since, self._interrupted = earlier.signal, earlier.since, earlier._interrupted
        elif told_by():
            self._note(signal.SIGTERM, None)
        return self

    def seconds_left(self, limit: float) -> float:
        """Return what is left of `limit` seconds since the signal; all of it where none came here."""
        return max(1.0, limit - (time.monotonic() - self.since)) if self.signal else limit

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupted += number == signal.SIGINT
        if self._interrupted > 1 and _TORCHRUN not in os.environ:
            raise KeyboardInterrupt
        if self.signal is None:
            # The launcher tells its ranks by SIGTERM whatever it was told by.
            self.signal, self.since = told_by() or signal.Signals(number).name, time.monotonic()
