"""A proxy that stands between an S3 client and its server, and does to the requests what networks and servers do.

Our own, on loopback, a thread for each connection. It understands as much of HTTP/1.1 as it takes to know where a request
and an answer end. The Host header goes on unchanged, so that the signature holds. What happens to the n-th request is
decided by the seed and n; tests ask afterwards how often each fault has happened.
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

PIECE = 1 << 16
_UNSENT = 0x894B
"""Linux's SIOCOUTQNSD: how many bytes have not been sent yet."""
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message><RequestId>fault-proxy</RequestId></Error>"
)
WRITES = ("PUT", "POST", "DELETE")


class Fault(StrEnum):
    """What can happen to a request."""

    RESET_BEFORE = "reset before the request"
    RESET_IN_REQUEST = "reset in the request"
    """The server gets half of it, and no more."""
    RESET_IN_ANSWER = "reset in the answer"
    """The client gets half of it, and no more."""
    SLOW_DOWN = "503 SlowDown"
    STALL = "stall"
    """The client gets half of the answer, then nothing for longer than it waits."""
    LOST_ANSWER = "answer lost"
    """The server has done what was asked; the client is not told. Writes only."""


OFTEN = {**dict.fromkeys(Fault, 0.02), Fault.STALL: 0.003}
"""About one request in ten goes wrong; stalls are rarer, as each costs a client the time it waits."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a rule can look at."""

    method: str
    target: str
    """Path and query as sent."""
    range: str = ""
    """The Range header, where there is one."""


@dataclass(kw_only=True)
class _Rule:
    fault: Fault
    times: int
    wanted: Callable[[Request], bool]


class FaultProxy:
    """Listens from `start` to `stop`; without rates and rules it only passes on."""

    def __init__(self, upstream: str, *, seed: int = 0, stall_seconds: float = 2.0) -> None:
        """Stand before `upstream` (http://host:port). A stall lasts `stall_seconds`: more than the client waits."""
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.rates: Mapping[Fault, float] = {}
        """Probability of each fault for a request; the sum is at most 1. May be changed at any time."""
        self.seed, self.stall_seconds = seed, stall_seconds
        self.counts: Counter[Fault] = Counter()
        """How often each fault has happened."""
        self.requests: Counter[str] = Counter()
        """Requests seen, by method."""
        self.last: deque[Request] = deque(maxlen=100)
        """The last requests seen."""
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._number = 0
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take connections from now on."""
        threading.Thread(target=self._listen, name="fault-proxy", daemon=True).start()

    def stop(self) -> None:
        """Take no more connections, and end those that there are."""
        self._ended.set()
        with self._lock:
            left = [self._listener, *self._open]
        for one in left:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # unlike close, it wakes the thread that waits there
        self._listener.close()

    def once(
        self, fault: Fault, method: str | None = None, path: str = "", query: str | None = None, times: int = 1
    ) -> None:
        """Let a fault happen to the next request, or the next `times`, that has this method and part of its path or query."""

        def wanted(request: Request) -> bool:
            place, _, asked = request.target.partition("?")
            right = method in (None, request.method) and path in place
            return right and (query is None or query in asked)

        with self._lock:
            self._rules.append(_Rule(fault=fault, times=times, wanted=wanted))

    def clear(self) -> None:
        """Let nothing happen any more, and begin to count anew."""
        with self._lock:
            self._rules, self.rates = [], {}
            self.last.clear()
            self.counts, self.requests = Counter(), Counter()

    def _choose(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests[request.method] += 1
            self.last.append(request)
            self._number += 1
            fault = self._by_rule(request) or self._by_chance(request)
            if fault is not None:
                self.counts[fault] += 1
            return fault

    def _by_rule(self, request: Request) -> Fault | None:
        for rule in self._rules:
            if rule.times and rule.wanted(request):
                rule.times -= 1
                return rule.fault
        return None

    def _by_chance(self, request: Request) -> Fault | None:
        drawn = random.Random(f"{self.seed} {self._number}").random()
        for fault, rate in self.rates.items():
            if drawn < rate:
                return None if fault == Fault.LOST_ANSWER and request.method not in WRITES else fault
            drawn -= rate
        return None

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="fault-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        server: socket.socket | None = None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = _Reader(client)
            while head := reader.head():
                if server is None:
                    server = socket.create_connection(self._upstream, timeout=120)
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._exchange(head, reader, client, server)
        except (OSError, EOFError, _Broken):
            _reset(client)
        finally:
            with self._lock:
                self._open.discard(client)
            for one in (client, server):
                if one is not None:
                    one.close()

    def _exchange(self, head: bytes, reader: _Reader, client: socket.socket, server: socket.socket) -> None:
        """Handle one request; raises to end the connection by a reset."""
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        fields = _fields(head)
        fault = self._choose(Request(method=method, target=target, range=fields.get("range", "")))
        if fault == Fault.RESET_BEFORE:
            raise _Broken
        if fields.get("expect", "").lower() == "100-continue":
            # Answered here: the signature does not cover this header, and the server is not asked twice.
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        body = b"".join(reader.body(fields))
        if fault == Fault.RESET_IN_REQUEST:
            server.sendall(head + body[: len(body) // 2] if body else head[: len(head) // 2])
            _reset(server)
            raise _Broken
        if fault == Fault.SLOW_DOWN:
            client.sendall(
                b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
                % len(SLOW_DOWN)
                + (b"" if method == "HEAD" else SLOW_DOWN)
            )
            return
        server.sendall(head + body)
        if fault is None:
            self._answer(method, _Reader(server), client.sendall)
            return
        gathered: list[bytes] = []
        self._answer(method, _Reader(server), gathered.append)
        answer = b"".join(gathered)
        if fault in (Fault.RESET_IN_ANSWER, Fault.STALL):
            client.sendall(answer[: self._half(answer)])
        if fault == Fault.STALL:
            self._ended.wait(self.stall_seconds)
        elif fault == Fault.RESET_IN_ANSWER:
            _await_arrival(client)  # a reset overtakes what is still on its way
        raise _Broken

    @staticmethod
    def _half(answer: bytes) -> int:
        """Return a place in the middle: of the body where there is one, else of the head."""
        body = answer.find(b"\r\n\r\n") + 4
        return (body + len(answer)) // 2 if len(answer) > body else body // 2

    @staticmethod
    def _answer(method: str, reader: _Reader, send: Callable[[bytes], object]) -> None:
        while True:
            head = reader.head()
            if not head:
                raise _Broken
            send(head)
            status = int(head.split(b" ", 2)[1])
            if status >= 200:
                break
        if method != "HEAD" and status not in (204, 304):
            for piece in reader.body(_fields(head)):
                send(piece)


class _Broken(Exception):
    """The connection ends here."""


class _Reader:
    """Heads and bodies from a connection, byte for byte as they came."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left = connection, b""

    def _more(self) -> bytes:
        data = self._connection.recv(PIECE)
        if not data:
            raise EOFError
        return data

    def head(self) -> bytes:
        """Return what comes before the body; nothing when the other side has ended the connection."""
        while b"\r\n\r\n" not in self._left:
            data = self._connection.recv(PIECE)
            if not data:
                return b""
            self._left += data
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def body(self, fields: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the body in pieces."""
        if "chunked" in fields.get("transfer-encoding", "").lower():
            while True:
                line = self._line()
                size = int(line.split(b";")[0], 16)
                yield line
                yield from self._exactly(size)
                yield self._line()
                if not size:
                    return
        yield from self._exactly(int(fields.get("content-length", "0")))

    def _line(self) -> bytes:
        while b"\r\n" not in self._left:
            self._left += self._more()
        line, _, self._left = self._left.partition(b"\r\n")
        return line + b"\r\n"

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            data, self._left = (self._left or self._more()), b""
            data, self._left = data[:size], data[size:]
            size -= len(data)
            yield data


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = [line.partition(":") for line in lines if ":" in line]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _await_arrival(connection: socket.socket, seconds: float = 30) -> None:
    """Wait until the other side's system has all bytes (this is loopback): from there its program reads them also after a reset."""
    deadline = time.monotonic() + seconds
    while int.from_bytes(fcntl.ioctl(connection, _UNSENT, bytes(4)), sys.byteorder):
        if time.monotonic() > deadline:
            return
        time.sleep(0.001)


def _reset(connection: socket.socket) -> None:
    """End a connection by RST: what has not arrived never will."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
