"""The lines that a person watches: step of steps, loss, tokens per second, time left; at most one in two seconds."""

from __future__ import annotations

import logging
import time
from typing import Any

log = logging.getLogger(__name__)

_EVERY = 2.0
_WEIGHT = 0.1
"""Of the newest steps in the running mean of their time."""


class Progress:
    """How far a run is, for the log; every rank has one, and only rank 0's log shows it."""

    def __init__(self, steps: int) -> None:
        self._steps, self._told = steps, 0.0
        self._seconds: float | None = None
        """Of a step, running mean."""

    def tell(self, step: int, steps: int, seconds: float, line: dict[str, Any]) -> None:
        """Log a line of metrics, the last one and otherwise not too often; `steps` took `seconds`."""
        mean = seconds / steps
        self._seconds = mean if self._seconds is None else self._seconds + _WEIGHT * (mean - self._seconds)
        now = time.monotonic()
        if step != self._steps and "held_out_loss" not in line and now - self._told < _EVERY:
            return
        self._told = now
        left = duration((self._steps - step) * self._seconds)
        loss = "not finite" if line["loss"] is None else f"{line['loss']:.4f}"
        held_out = f", held out {line['held_out_loss']:.4f}" if "held_out_loss" in line else ""
        mfu = "" if line["mfu"] is None else f", MFU {line['mfu']:.1%}"
        log.info(
            "step %d/%d: loss %s%s, %s tokens/s per device%s, %s left",
            step,
            self._steps,
            loss,
            held_out,
            f"{line['tokens_per_second_per_device']:,.0f}",
            mfu,
            left,
            extra={"metrics": line},
        )


def duration(seconds: float) -> str:
    """Return a time for people: 42 s, 3 min 20 s, 5 h 12 min, 12 d 3 h."""
    whole = max(0, round(seconds))
    for unit, small, size in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if whole >= size:
            first, rest = divmod(whole, size)
            return f"{first} {unit} {rest // {'h': 3_600, 'min': 60, 's': 1}[small]} {small}"
    return f"{whole} s"
