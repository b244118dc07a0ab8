"""The small client of the Prefect server, against a real HTTP server on loopback that answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.command import server_api
from flows.command.server_api import BusyError, NoAnswerError, NotFoundError, ServerApi, ServerError
from tests.ports import free_port

LATE, CUT = -1, -2


class Answering(ThreadingHTTPServer):
    """A server that answers each request with the next of its statuses and 200 when there are none left.

    LATE: not before `over`; CUT: it hangs up.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.over = threading.Event()
        self.seen: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == LATE:
            self.server.over.wait()
        if status in (LATE, CUT):
            self.close_connection = True
            return
        content = json.dumps({"status": status}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = answer

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def test_busy_server_is_asked_again(server: Answering) -> None:
    server.statuses = [503, 503]
    assert ServerApi(server.server_port).request("PATCH", "/work_pools/cpu", {"a": 1}) == {"status": 200}
    assert server.seen == [("PATCH", "/api/work_pools/cpu")] * 3


def test_server_that_stays_busy_is_an_error(server: Answering) -> None:
    server.statuses = [503] * 100
    with pytest.raises(BusyError, match=r"503.*asked \d+ times") as busy:
        ServerApi(server.server_port, patience=3).request("GET", "/flows")
    assert len(server.seen) >= 2 and f"asked {len(server.seen)} times" in str(busy.value)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/flows"), ("POST", "/flows/filter"), ("PATCH", "/work_pools/cpu")]
)
def test_what_may_be_done_twice_is_asked_again(
    server: Answering, method: str, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too late, then cut off, then busy; whoever waits is told so, once."""
    monkeypatch.setattr(server_api, "_TELL_AFTER", 0.0)
    server.statuses = [LATE, CUT, 503]
    api = ServerApi(server.server_port, timeout=2)
    assert api.request(method, path, {}) == {"status": 200}
    server.statuses = [CUT]
    assert api.request(method, path, {}) == {"status": 200}
    assert server.seen == [(method, f"/api{path}")] * 6
    assert capsys.readouterr().err == "the server is slow; still waiting, up to 60 s\n"


@pytest.mark.parametrize("status", [LATE, CUT])
def test_what_may_not_be_done_twice_is_asked_once(server: Answering, status: int) -> None:
    server.statuses = [status]
    api = ServerApi(server.server_port, timeout=2)
    with pytest.raises(NoAnswerError, match="it may have been done all the same"):
        api.request("POST", "/work_pools/", {})
    assert len(server.seen) == 1
    server.statuses = [status]
    assert api.request("POST", "/work_pools/", {}, repeatable=True) == {"status": 200}


def test_patience_ends_and_comes_back_with_an_answer(server: Answering) -> None:
    """A command that asks ten questions of a server that hangs does not wait ten times as long."""
    server.statuses = [LATE] * 3
    api = ServerApi(server.server_port, timeout=1, patience=3.3)
    with pytest.raises(NoAnswerError, match="no answer within .* the server hangs .*asked 2 times"):
        api.request("GET", "/flows")
    assert not api.is_healthy() and len(server.seen) == 3
    assert api.request("GET", "/flows") == {"status": 200}
    server.statuses = [CUT]
    assert api.request("GET", "/flows") == {"status": 200}


def test_no_server_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_api.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(ServerError, match="refused; is the server up") as refused:
        ServerApi(free_port()).request("GET", "/flows")
    assert not isinstance(refused.value, NoAnswerError)


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (500, ServerError), (409, ServerError)])
def test_other_errors_are_not_asked_again(server: Answering, status: int, error: type[ServerError]) -> None:
    server.statuses = [status]
    with pytest.raises(error, match=str(status)):
        ServerApi(server.server_port).request("POST", "/flows/filter", {})
    assert len(server.seen) == 1
