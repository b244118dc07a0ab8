"""The lines that a person watches: step of steps, loss, tokens per second, time left; at most one in two seconds."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

_EVERY = 2.0
_SILENT = 5.0
"""Seconds without a line after which an evaluation tells how far it is."""
RECENT = 50
"""Lines of metrics whose steps' time says how long the rest takes."""


class Progress:
    """How far a run is, for the log; every rank has one, and only rank 0's log shows it."""

    def __init__(self, steps: int) -> None:
        self._steps, self._told = steps, 0.0
        self._seconds: deque[float] = deque(maxlen=RECENT)
        """Of a step, by line."""

    def measuring(self, step: int, doing: str) -> None:
        """Log how far an evaluation after a step is, where nothing was heard for some time: at once before the first step."""
        now = time.monotonic()
        if now - self._told >= _SILENT:
            self._told = now
            log.info("step %d: %s", step, doing)

    def tell(self, step: int, steps: int, seconds: float, line: dict[str, Any]) -> None:
        """Log a line of metrics, the last one and otherwise not too often; `steps` took `seconds`."""
        self._seconds.append(seconds / steps)
        now = time.monotonic()
        if step != self._steps and "held_out_loss" not in line and now - self._told < _EVERY:
            return
        self._told = now
        left = about((self._steps - step) * typical(self._seconds))
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


def typical(seconds: Sequence[float]) -> float:
    """Return the time of a step by those of recent lines, at least one: the median, as some hold a pause (saving, another program),
    and without the first, which warms up what the others find warm.
    """
    return statistics.median(list(seconds)[1:] or seconds)


def about(seconds: float) -> str:
    """Return a time that is no more than an estimate, in as few digits as it deserves: about 40 s, about 7 min, about 5 h 12 min."""
    if seconds >= 90:
        return f"about {duration(60 * round(seconds / 60))}".removesuffix(" 0 s")
    return f"about {5 * max(1, round(seconds / 5))} s" if seconds > 0 else "0 s"


def duration(seconds: float) -> str:
    """Return a time for people: 42 s, 3 min 20 s, 5 h 12 min, 12 d 3 h."""
    whole = max(0, round(seconds))
    for unit, small, size in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if whole >= size:
            first, rest = divmod(whole, size)
            return f"{first} {unit} {rest // {'h': 3_600, 'min': 60, 's': 1}[small]} {small}"
    return f"{whole} s"
