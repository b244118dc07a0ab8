"""A pool of worker processes that survives the death of a worker and dies with its parent.

Forkserver processes: no inherited locks, threads or descriptors. When a worker dies (out of memory, a crash in a
library), the unfinished jobs run one at a time in a fresh process, so that the culprit can be named.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from olmo_core.errors import WorkerError

T = TypeVar("T")
log = logging.getLogger(__name__)

_INTERRUPTED = "the run was interrupted; finished shards are kept, run it again to go on"
_LOOK = 1.0
"""Seconds between two looks whether the pool was closed."""
_PRELOAD = ["numpy", "pyarrow", "pyarrow.parquet", "numba"]


class Executes(Protocol):
    """Runs jobs: worker processes, or this one."""

    def map(
        self,
        function: Callable[[Any], T],
        jobs: Sequence[Any],
        name: Callable[[Any], str],
        *,
        first_alone: bool = False,
    ) -> Iterator[tuple[Any, T]]:
        """Yield `(job, function(job))` as jobs end."""


class Here:
    """Runs jobs one after the other in this process: where all of them share what is costly to load, such as a model."""

    def map(
        self,
        function: Callable[[Any], T],
        jobs: Sequence[Any],
        name: Callable[[Any], str],
        *,
        first_alone: bool = False,
    ) -> Iterator[tuple[Any, T]]:
        """Yield `(job, function(job))` in the order of the jobs; nothing needs to be picklable."""
        for job in jobs:
            yield job, function(job)


class Workers:
    """At most `count` worker processes, shared by all stages that run at the same time."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"workers: {count}; at least 1 is needed")
        self.count = count
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        # An interruption does not wait for shards that are under way: the next run makes them again.
        self.close(now=kind is not None and not issubclass(kind, Exception))

    def close(self, *, now: bool = False) -> None:
        """End the processes; jobs that have not begun are cancelled, and with `now` those under way are given up."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is None:
            return
        processes = list((pool._processes or {}).values()) if now else []
        for process in processes:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        with self._lock:
            if self._closed:
                raise WorkerError(_INTERRUPTED)
            if self._pool is None:
                self._pool = _process_pool(self.count)
            pool = self._pool
            try:
                return pool.submit(function, *args)
            except BrokenProcessPool:
                # Another stage's job broke the shared pool: this one goes to a new pool.
                self._pool = _process_pool(self.count)
                return self._pool.submit(function, *args)

    def map(
        self,
        function: Callable[[Any], T],
        jobs: Sequence[Any],
        name: Callable[[Any], str],
        *,
        first_alone: bool = False,
    ) -> Iterator[tuple[Any, T]]:
        """Yield `(job, function(job))` as jobs end, in any order; `function` and jobs are picklable.

        With `first_alone` the others start when the first job is done: what it compiles is in the cache then, and not
        compiled by every worker at once. The first exception of a job stops the rest and is raised. Raises WorkerError
        naming the job when a worker process dies of it twice: once among others, once alone.
        """
        most = 1 if first_alone else 2 * self.count
        waiting = list(reversed(jobs))
        running: dict[Future[T], Any] = {}
        suspects: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    job = waiting.pop()
                    running[self._submit(function, job)] = job
                ended = self._ended(running)
                most = 2 * self.count
                for future in ended:
                    job = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        suspects.append(job)
                        continue
                    yield job, result
        finally:
            for future in running:
                future.cancel()
            while wait(running, timeout=_LOOK).not_done and not self._closed:
                pass
        if suspects and self._closed:
            raise WorkerError(_INTERRUPTED)
        if suspects:
            log.warning(
                "a worker process died; running %d unfinished shards one at a time to find the culprit", len(suspects)
            )
        for job in suspects:
            yield job, self._alone(function, job, name(job))

    def _ended(self, running: Iterable[Future[T]]) -> set[Future[T]]:
        """Wait until a job has ended; raise WorkerError when the pool is closed: jobs of killed workers may never end."""
        while not (ended := wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED).done):
            if self._closed:
                raise WorkerError(_INTERRUPTED)
        return ended

    def _alone(self, function: Callable[[Any], T], job: Any, name: str) -> T:
        with contextlib.closing(Workers(1)) as single:
            try:
                return single._submit(function, job).result()
            except BrokenProcessPool:
                raise WorkerError(
                    f"the worker process died while working on shard {name}, alone in its process: killed by the system "
                    f"(out of memory?) or crashed in a library. Look at the kernel log, give it more memory, or take the "
                    f"shard's input out"
                ) from None


def _process_pool(count: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    # Those of the fork server are of the moment it was started: before the credentials of a block were read, perhaps.
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(credentials,))


def _begin(credentials: dict[str, str]) -> None:
    """Take over the owner's AWS variables, and nothing that he has not."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(credentials)
    _die_with_parent()


def _die_with_parent() -> None:
    """End this worker when the process that owns the pool is gone, even by SIGKILL: it would wait for ever.

    Ctrl-C reaches all processes of a terminal: the owner decides what becomes of the workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
