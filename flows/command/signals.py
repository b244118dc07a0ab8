"""How `olmo run` and `olmo evaluate` end by SIGTERM and SIGHUP: as by Ctrl-C, all that was begun ended and told, then by it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals whose default is to end a process at once: of what it has started, some would stay, and its run "Running"."""


@contextlib.contextmanager
def resumable(command: str, words: Sequence[str], kept: str) -> Iterator[None]:
    """Make an interruption, by Ctrl-C or a signal of ENDING, tell what is kept and the command that goes on.

    `words`: the command line after `olmo`. `kept`: what is said where the interruption says nothing of its own.
    """
    with unwound_by_signals(command):
        try:
            yield
        except KeyboardInterrupt as interrupt:
            again = shlex.join(["olmo", *words])
            raise KeyboardInterrupt(f"{str(interrupt) or kept}. It goes on with: {again}") from None


@contextlib.contextmanager
def unwound_by_signals(command: str) -> Iterator[None]:
    """Make a signal of ENDING a KeyboardInterrupt in the main thread; at its end print what that says, and die of the signal.

    One that is ignored (`nohup`) stays so. Amid a flow Prefect takes SIGTERM first, calls the run Crashed and hands it on.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def as_terminated(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in ((signal.SIGTERM, interrupt), (signal.SIGHUP, as_terminated)):
        if before[number] is signal.SIG_DFL:
            signal.signal(number, handler)
    try:
        yield
    except KeyboardInterrupt as interruption:
        if not received:
            raise
        print(f"{command}: ended by {signal.Signals(received[0]).name}: {interruption}", file=sys.stderr)
    finally:
        for number in ENDING:
            signal.signal(number, before[number])
        if received:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # whoever read it is gone, as a closed terminal is
                    stream.flush()
            os.kill(os.getpid(), received[0])
            raise SystemExit(128 + received[0])  # the first process of a container does not die of its own signals
