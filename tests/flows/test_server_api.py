"""The small client of the Prefect server, against a real HTTP server on loopback that answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.command import server_api
from flows.command.server_api import BusyError, NotFoundError, ServerApi, ServerError


class Answering(ThreadingHTTPServer):
    """A server that answers each request with the next of its statuses and 200 when there are none left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.seen: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
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
        server.shutdown()
        thread.join()


def test_busy_server_is_asked_again(server: Answering) -> None:
    server.statuses = [503, 503]
    assert ServerApi(server.server_port).request("PATCH", "/work_pools/cpu", {"a": 1}) == {"status": 200}
    assert server.seen == [("PATCH", "/api/work_pools/cpu")] * 3


def test_server_that_stays_busy_is_an_error(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_api, "_BUSY_SECONDS", 0.5)
    server.statuses = [503] * 100
    with pytest.raises(BusyError, match="503"):
        ServerApi(server.server_port).request("GET", "/flows")
    assert len(server.seen) == 2


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (500, ServerError), (409, ServerError)])
def test_other_errors_are_not_asked_again(server: Answering, status: int, error: type[ServerError]) -> None:
    server.statuses = [status]
    with pytest.raises(error, match=str(status)):
        ServerApi(server.server_port).request("POST", "/flows/filter", {})
    assert len(server.seen) == 1
