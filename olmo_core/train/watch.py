"""Which rank died or hangs: each process tells what it is doing through a small store, in a thread of its own.

When one rank stands still, the others wait for it in a collective, and all look alike. What tells them apart is how far
each has come: every rank counts the marks (`at`) that it passes, the same ones everywhere, and the one that is behind is
the one; of those that are equally far, the one whose main thread is in no collective. Rank 0 looks at all, rank 1 at rank 0. A verdict is put into the store, so that every process ends with it.

The limit, `resources.hang_seconds`, is for one stretch between two marks: a step, a checkpoint's copy, a compilation. Waiting
for the store, which has a limit of its own (`resources.commit_seconds`), is no stretch: it says `alive` all the while.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from olmo_core.errors import OlmoError, WorkerError

log = logging.getLogger(__name__)

_VERDICT = "verdict"
_FRAMES = 4
"""Innermost calls among which a collective is looked for."""
_COLLECTIVES = ("torch/distributed/distributed_c10d.py", "torch/distributed/_functional_collectives.py")
_SETTLE = 2.5
"""Intervals in which a living rank is sure to be heard of."""


@dataclass(kw_only=True)
class _Heard:
    """What is known of a rank, and since when (this process's clock)."""

    beat: int = -1
    beat_at: float = 0.0
    mark: tuple[int, int] = (-1, 0)
    """Marks passed, which are compared between ranks, and signs given amid the last."""
    mark_at: float = 0.0
    doing: str = "starting"
    where: str = "unknown"
    waits: bool = False

    def hear(self, told: dict[str, Any], now: float) -> None:
        if told["beat"] != self.beat:
            self.beat, self.beat_at = told["beat"], now
        if (mark := (told["mark"], told["alive"])) != self.mark:
            self.mark, self.mark_at = mark, now
        self.doing, self.where, self.waits = f"{told['doing']} ({told['frame']})", told["where"], told["waits"]


class Watch:
    """Tells the others how far this rank is, and finds who has stopped."""

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        limit: float,
        end: Callable[[str], None],
        *,
        interval: float | None = None,
    ) -> None:
        """`limit` in seconds; `end` is called, in the watch's thread, with the verdict: it should end the process."""
        self._store, self._rank, self._size, self._limit, self._end = store, rank, size, limit, end
        self._interval = interval or min(2.0, limit / 8)
        self._mark, self._alive, self._doing, self._beat = 0, 0, "starting", 0
        self._where = f"host {socket.gethostname()}, process {os.getpid()}"
        self._heard = {one: _Heard() for one in self._watched()}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._tell()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def at(self, doing: str) -> None:
        """Note that this rank has come as far as this; every rank calls it at the same places."""
        self._mark, self._doing = self._mark + 1, doing

    def alive(self) -> None:
        """Note that this rank waits for something that has a limit of its own: it does not hang. Any rank may, at any time."""
        self._alive += 1

    def stop(self) -> None:
        """Stop watching: the run has ended."""
        self._over.set()
        self._thread.join()

    def blame(self, error: BaseException) -> str:
        """Say, after an error on this rank, who is to blame: this rank itself, another that failed, or one that is gone.

        Waits a few seconds where the error is that another does not answer. Returns a message for people.
        """
        own = not _of_communication(error)
        message = f"{error}" if isinstance(error, OlmoError) else f"{type(error).__name__}: {error}"
        with self._lock:
            self._store.set(f"failed/{self._rank}", json.dumps({"own": own, "message": message}))
        if self._size == 1:
            return message
        if own:
            message = f"rank {self._rank} failed while {self._doing}: {message}"
            with self._lock:  # the others may be waiting for this rank, in a collective without end
                self._store.set(_VERDICT, json.dumps({"message": message}))
            return message
        return self._find_culprit() or f"rank {self._rank}: {message}; all ranks give signs of life, see their logs"

    def _find_culprit(self) -> str:
        """Return who has gone or failed first, "" when nobody has."""
        before = {one: told["beat"] for one in range(self._size) if (told := self._told(one))}
        deadline = time.monotonic() + _SETTLE * self._interval
        silent: list[int] = []
        while time.monotonic() < deadline:
            for rank in range(self._size):
                failed = self._failure(rank)
                if failed and failed["own"]:
                    return f"rank {rank} failed: {failed['message']}"
            silent = [one for one in range(self._size) if (told := self._told(one)) and told["beat"] == before.get(one)]
            if not silent:
                return ""
            time.sleep(self._interval / 4)
        if not silent:
            return ""
        told = self._told(silent[0]) or {"where": "unknown", "doing": "starting"}
        return (
            f"rank {', '.join(map(str, silent))} died ({told['where']}), last heard {told['doing']}: no sign of life for "
            f"{_SETTLE * self._interval:.0f} s. Its own log, or the system's (out of memory?), says why; start the run again "
            f"and it goes on from its last checkpoint, if there is one"
        )

    def _watched(self) -> list[int]:
        if self._rank == 0:
            return list(range(self._size))
        return [0] if self._rank == 1 else []

    def _work(self) -> None:
        while not self._over.wait(self._interval):
            try:
                self._tell()
                verdict = self._verdict()
                if not verdict and (verdict := self._judge()):
                    self._over.wait(2 * self._interval)  # this process may hold the store: let the others read it first
            except Exception as error:
                if self._over.is_set():
                    return
                verdict = f"rank {self._rank}: the store of the run is gone ({error}): the process that started the ranks has ended"
            if verdict:
                self._end(verdict)
                return

    def _tell(self) -> None:
        self._beat += 1
        frame, waits = _main_thread()
        told = {
            "beat": self._beat,
            "mark": self._mark,
            "alive": self._alive,
            "doing": self._doing,
            "where": self._where,
        }
        told |= {"frame": frame, "waits": waits}
        with self._lock:
            self._store.set(f"rank/{self._rank}", json.dumps(told))

    def _told(self, rank: int) -> dict[str, Any] | None:
        return self._get(f"rank/{rank}")

    def _failure(self, rank: int) -> dict[str, Any] | None:
        return self._get(f"failed/{rank}")

    def _get(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            found: dict[str, Any] | None = json.loads(self._store.get(key)) if self._store.check([key]) else None
        return found

    def _verdict(self) -> str:
        found = self._get(_VERDICT)
        return found["message"] if found else ""

    def _judge(self) -> str:
        """Return a verdict, "" for none yet."""
        now = time.monotonic()
        for rank, heard in self._heard.items():
            if (told := self._told(rank)) is not None:
                heard.hear(told, now)
            elif not heard.beat_at:
                heard.beat_at = heard.mark_at = now
        silent = [one for one, heard in self._heard.items() if now - heard.beat_at > self._limit]
        if silent:
            what = "gives no sign of life: its process died, is stopped, or its machine is gone"
            return self._pass(silent, what)
        still = {one for one, heard in self._heard.items() if now - heard.mark_at > self._limit}
        if still and self._rank == 0:  # rank 1 sees rank 0 only, and cannot say who is behind
            least = min(heard.mark[0] for heard in self._heard.values())
            behind = [one for one, heard in self._heard.items() if heard.mark[0] == least]
            if not still.issuperset(behind):
                return ""  # whoever the others wait for goes on, if slowly
            if 0 < len(idle := [one for one in behind if not self._heard[one].waits]) < len(behind):
                behind = idle  # the others stand in a collective
            all_alike = len(behind) == self._size and self._size > 1
            what = (
                "hang together: the network, or the store, may be to blame"
                if all_alike
                else "hangs, and the others wait for it"
            )
            return self._pass(behind, what)
        return ""

    def _pass(self, ranks: list[int], what: str) -> str:
        heard = self._heard[ranks[0]]
        message = (
            f"rank {', '.join(map(str, ranks))} ({heard.where}) {what}; last seen {heard.doing}, more than "
            f"{self._limit:g} s ago (resources.hang_seconds). The run ends; start it again and it goes on "
            f"from its last checkpoint, if there is one"
        )
        with self._lock:
            self._store.set(_VERDICT, json.dumps({"message": message}))
        return message


def _main_thread() -> tuple[str, bool]:
    """Return where the main thread is, and whether it waits there for other ranks (in a collective)."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "ended", False
    stack = traceback.extract_stack(frame, limit=None)[-_FRAMES:]
    waits = any(one.filename.endswith(_COLLECTIVES) for one in stack)
    return f"{os.path.basename(stack[-1].filename)}:{stack[-1].lineno} {stack[-1].name}", waits


def _of_communication(error: BaseException) -> bool:
    """Whether an error only says that another process does not answer."""
    if isinstance(error, WorkerError | dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("gloo", "NCCL", "onnection", "Socket", "peer")
    )
