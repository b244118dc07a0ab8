"""`olmo browse`: the store as web pages, written into a folder or served on this machine."""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from flows.command import choices, tables
from flows.command.usage import whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.report.browse.catalog import Limits
from olmo_core.report.browse.site import write
from olmo_core.storage import Storage

DESCRIPTION = """\
Show the store as web pages: artifacts with versions and tags, ledgers, reports with waterfall, plots and samples, runs
with loss curves, the documents of some steps, evaluations beside each other, and the lineage of everything. The pages
are files without scripts: with --to they are written into a folder, to be opened there or put on any web server, or straight
into a bucket; what did not change since the last time is not written again. Without it they are written to a temporary
folder and served on 127.0.0.1 until Ctrl-C.
"""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    usual = Limits()
    parser.add_argument(
        "--to", metavar="PLACE", help="write the pages into this folder or s3://bucket/prefix, in place of earlier ones"
    )
    parser.add_argument("--port", type=whole(1), metavar="N", help="port of the server (default: a free one)")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument(
        "--artifacts", type=whole(1), metavar="N", help=f"artifacts with a page of their own ({usual.artifacts:,})"
    )
    parser.add_argument(
        "--steps", type=whole(1), metavar="N", help=f"steps of each run with their documents ({usual.steps})"
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    limits = Limits()
    for name in ("artifacts", "steps"):
        if getattr(arguments, name) is not None:
            limits = replace(limits, **{name: getattr(arguments, name)})
    if arguments.to is not None:
        place = Storage(arguments.to)
        _written(store, place, limits, arguments)
        address = place.web_address("index.html") or Path(place.url("index.html")).as_uri()
        if not arguments.json:
            print(address, flush=True)
        _show(arguments, address)
        return 0
    with tempfile.TemporaryDirectory(prefix="olmo-browse-") as temporary, _ended_by_signal():
        _written(store, Storage(temporary), limits, arguments)
        with _server(Path(temporary), arguments.port) as address:
            print(f"{address}/ (Ctrl-C ends it)", flush=True)
            _show(arguments, f"{address}/")
            threading.Event().wait()
    return 0


def _written(store: ArtifactStore, place: Storage, limits: Limits, arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    progress = _tell if sys.stderr.isatty() and not arguments.json else None
    done = write(store, place, limits, progress)
    if progress is not None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if arguments.json:
        tables.show_json({"store": store.uri, "place": place.uri, **asdict(done)})
    else:
        same = done.files - done.written
        told = [f"{done.files:,} files in {place.uri}"]
        told += [f"{same:,} of them as they were"] if same else []
        told += [f"{done.removed:,} removed"] if done.removed else []
        print(f"{', '.join(told)}, {time.monotonic() - began:.1f} s", flush=True)


def _tell(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _show(arguments: argparse.Namespace, address: str) -> None:
    if arguments.open and not webbrowser.open(address):
        raise OlmoError(f"there is no browser to open {address} with; open it where there is one")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, so that the temporary folder goes."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the folder, to this machine's own names only: a page elsewhere that points its name here gets nothing."""

    def do_GET(self) -> None:
        if self._is_local():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._is_local():
            super().do_HEAD()

    def _is_local(self) -> bool:
        if self.headers.get("Host", "").rpartition(":")[0] in _LOCAL:
            return True
        self.send_error(421, "ask for 127.0.0.1")
        return False

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        self.send_error(404, "no such page")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are no news."""


@contextmanager
def _server(folder: Path, port: int | None) -> Iterator[str]:
    """Serve a folder on the loopback address; yields where."""
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port or 0), partial(_Pages, directory=str(folder)))
    except OSError as error:
        raise OlmoError(f"port {port}: {error.strerror}; give another --port, or none for a free one") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
