"""A stand-in for an S3 server on loopback, as far as sources read from one: listing, reading, and failing on demand."""

from __future__ import annotations

import hashlib
import http.server
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import escape


class Bucket:
    """The objects of the one bucket `bucket`, and what should go wrong with which key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        """HTTP status to answer a GET of a key with."""
        self.cut: dict[str, int] = {}
        """How often to close the connection half way through the body of a key."""
        self.asked: Counter[str] = Counter()


def _listing(bucket: Bucket, query: dict[str, list[str]]) -> str:
    prefix = query.get("prefix", [""])[0]
    delimiter = query.get("delimiter", [""])[0]
    contents, folders = "", []
    for key, body in sorted(bucket.objects.items()):
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            folders.append(prefix + rest.split(delimiter)[0] + delimiter)
            continue
        contents += (
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(body).hexdigest()}&quot;</ETag><Size>{len(body)}</Size></Contents>"
        )
    shared = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in dict.fromkeys(folders))
    return (
        f"<ListBucketResult><Name>bucket</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        f"{contents}{shared}</ListBucketResult>"
    )


@contextmanager
def serve(bucket: Bucket) -> Iterator[str]:
    """Serve the bucket for the length of a block; yields the endpoint's URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, status: int, body: bytes, sent: int | None = None, start: int = 0) -> None:
            self.send_response(status)
            if status == 206:
                end = start + len(body)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            self.send_header("Content-Length", str(len(body)))
            if status in (200, 206):
                self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
            self.end_headers()
            self.wfile.write(body[:sent])
            if sent is not None:
                self.close_connection = True

        def _error(self, status: int, code: str) -> None:
            self._answer(
                status,
                f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(),
            )

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            name, _, key = urllib.parse.unquote(path).strip("/").partition("/")
            if name != "bucket":
                self._error(404, "NoSuchBucket")
            elif not key:
                self._answer(200, _listing(bucket, urllib.parse.parse_qs(query)).encode())
            elif key in bucket.status:
                self._error(
                    bucket.status[key],
                    {403: "AccessDenied", 503: "SlowDown"}[bucket.status[key]],
                )
            elif key not in bucket.objects:
                self._error(404, "NoSuchKey")
            else:
                self._object(key)

        def _object(self, key: str) -> None:
            bucket.asked[key] += 1
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            body = bucket.objects[key][start:]
            sent = None
            if bucket.cut.get(key, 0):
                bucket.cut[key] -= 1
                sent = len(body) // 2
            self._answer(206 if start else 200, body, sent, start)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
