"""Text out of web pages, in a process of its own that can be ended: no page hangs, crashes or bloats the stage.

Pages go over in batches and answers come back one by one, so that it is known which page the process died of. While it
works on one batch the next is gathered here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, TypeVar

from olmo_core.errors import WorkerError

T = TypeVar("T")

OUT_OF_MEMORY = 3
"""Exit code of the process when a page wants more memory than there is."""
_BATCH_PAGES = 64
_BATCH_BYTES = 4 << 20
_BATCH_ITEMS = 1024
_PAGES_PER_PROCESS = 5_000
"""A new process after so many: what a library does not free would count against the memory limit of later pages."""
_START_SECONDS = 120
_END_SECONDS = 10
_WALL_FACTOR = 10
_WALL_SECONDS = 300
"""A process that uses no CPU time is ended after this and ten times its limit: it waits for something."""

Outcome = Literal["text", "no_text", "undecodable", "failed", "timeout"]


class Page(NamedTuple):
    """What is sent."""

    html: bool
    """False: plain text, which is decoded only."""
    charset: str | None
    """The label of its HTTP header."""
    body: bytes


class Extracted(NamedTuple):
    """What comes back."""

    outcome: Outcome
    text: str = ""
    charset: str = ""
    found_by: str = ""
    declared: str | None = None
    errors: int = 0
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """What the process does and how far it may go."""

    function: str
    """`module:name` of a function that takes the options and returns one from HTML to text."""
    options: Mapping[str, Any]
    page_seconds: float
    """CPU seconds for a page."""
    memory_bytes: int
    """Address space of the process."""
    wall_seconds: float | None = None
    """Seconds by the clock for a page; None for ten times `page_seconds` and five minutes."""


class Extraction:
    """Owns the process; starts it when it is first needed, and again after it died."""

    def __init__(self, settings: ExtractionSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._pages: deque[Page] = deque()
        self._done = 0
        self._stalled: float | None = None

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        self._end()

    def send(self, pages: Sequence[Page]) -> None:
        """Hand over a batch; `answers` must have been read to the end since the last one."""
        self._pages = deque(pages)
        if self._done + len(pages) > _PAGES_PER_PROCESS:
            self._end()
        self._done += len(pages)
        self._write()

    def answers(self) -> Iterator[Extracted]:
        """Yield what became of each page of the batch, in order.

        A page on which the process died otherwise than by its time limit is tried once more in a new process, so that what
        becomes of it does not depend on the pages before it. Raises WorkerError when the process cannot be started.
        """
        while self._pages:
            answer = self._read()
            if answer is None:
                died = self._end()
                page = self._pages[0]
                answer = died if died.outcome == "timeout" else self._alone(page)
                self._pages.popleft()
                self._write()
            else:
                self._pages.popleft()
            yield answer

    def _alone(self, page: Page) -> Extracted:
        rest, self._pages = self._pages, deque([page])
        self._write()
        answer = self._read() or self._end()
        self._pages = rest
        return answer

    def _write(self) -> None:
        """Send the pages that have no answer yet; if the process dies over it, `_read` will notice."""
        if not self._pages:
            return
        if self._process is None:
            self._start()
        with contextlib.suppress(BrokenPipeError):
            self._to.send_bytes(str(len(self._pages)).encode())
            for page in self._pages:
                head = json.dumps({"html": page.html, "charset": page.charset}).encode()
                self._to.send_bytes(head + b"\n" + page.body)

    def _read(self) -> Extracted | None:
        """Return the next answer, None when the process died or had to be ended."""
        settings = self._settings
        wall = settings.wall_seconds or _WALL_FACTOR * settings.page_seconds + _WALL_SECONDS
        try:
            if not self._from.poll(wall):
                self._stalled = wall
                return None
            head, _, text = self._from.recv_bytes().partition(b"\n")
        except (EOFError, ConnectionResetError):
            return None
        return Extracted(**json.loads(head))._replace(text=text.decode())

    def _start(self) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        settings = {
            "owner": os.getpid(),
            "function": self._settings.function,
            "options": dict(self._settings.options),
            "page_seconds": self._settings.page_seconds,
            "memory_bytes": self._settings.memory_bytes,
        }
        command = [sys.executable, "-m", "olmo_core.documents.extraction_process", str(theirs_in), str(theirs_out)]
        # The same modules as here, and sets of strings in the same order every time.
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "PYTHONHASHSEED": "0"}
        try:
            self._process = subprocess.Popen(
                [*command, json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(theirs_in, theirs_out),
                env=surroundings,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
            self._from = Connection(ours_in, writable=False)
            self._to = Connection(ours_out, readable=False)
        self._done = len(self._pages)
        ready = b""
        with contextlib.suppress(EOFError, ConnectionResetError):
            ready = self._from.recv_bytes() if self._from.poll(_START_SECONDS) else b""
        if ready != b"ready":
            self._errors.seek(0)
            said = self._errors.read()[-2000:].decode(errors="replace").strip()
            self._process.kill()
            self._end()
            raise WorkerError(
                f"the process that takes text out of pages does not start: {said or f'no answer in {_START_SECONDS} s'}. "
                f"Are the packages of olmo-flows[curation] installed, and is page_memory_bytes large enough for Python itself?"
            )

    def _end(self) -> Extracted:
        """End the process, and return what that makes of the page it was at."""
        process, self._process = self._process, None
        stalled, self._stalled = self._stalled, None
        if process is None:
            return Extracted("failed", detail="there is no process")
        if stalled is not None:
            process.kill()
        self._to.close()
        self._from.close()
        try:
            # Between its closed pipe, which we saw, and its end is no more than a moment.
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self._errors.close()
        if stalled is not None:
            return Extracted("timeout", detail=f"no answer for {stalled:g} s by the clock")
        if code == -signal.SIGPROF:
            return Extracted("timeout", detail=f"more than {self._settings.page_seconds:g} s of CPU time")
        return Extracted("failed", detail=self._death(code))

    def _death(self, code: int) -> str:
        if code in (OUT_OF_MEMORY, -signal.SIGKILL):
            return f"the extractor ran out of memory (at most {self._settings.memory_bytes} bytes)"
        if code < 0:
            return f"the extractor's process died of {signal.Signals(-code).name}"
        return f"the extractor's process ended with code {code}"


def in_batches(
    items: Iterator[tuple[T, Page | None]], extraction: Extraction, finish: Callable[[T, Extracted | None], T]
) -> Iterator[T]:
    """Yield every item in order; those that come with a page after it has been extracted, as `finish` makes them."""
    sent: list[tuple[T, Page | None]] = []
    gathered: list[tuple[T, Page | None]] = []
    pages = size = 0
    for item in items:
        gathered.append(item)
        if item[1] is not None:
            pages += 1
            size += len(item[1].body)
        if pages >= _BATCH_PAGES or size >= _BATCH_BYTES or len(gathered) >= _BATCH_ITEMS:
            yield from _received(sent, extraction, finish)
            extraction.send([page for _, page in gathered if page is not None])
            sent, gathered, pages, size = gathered, [], 0, 0
    yield from _received(sent, extraction, finish)
    extraction.send([page for _, page in gathered if page is not None])
    yield from _received(gathered, extraction, finish)


def _received(
    items: Sequence[tuple[T, Page | None]], extraction: Extraction, finish: Callable[[T, Extracted | None], T]
) -> Iterator[T]:
    answers = extraction.answers()
    for item, page in items:
        yield item if page is None else finish(item, next(answers))
