"""An S3 prefix as the place where a `Storage` keeps its objects, over connections that break and servers that restart.

What is repeated, and where:

- a request that got no answer, or 500, 502, 503 (SlowDown), 504: by botocore, with growing pauses drawn at random;
- a body that is cut or stalls half way: here, from the byte where it stopped (a large shard need not come in one piece);
- a write that met its own success. The answer may be lost after the write took effect, and the request that is sent
  again then finds the object there (412), or its upload gone (NoSuchUpload). Every write carries a random mark in the
  object's metadata; whoever finds his own mark has won. Contents cannot tell that: two callers may put equal bytes.

Limits come from the environment: OLMO_S3_CONNECT_TIMEOUT and OLMO_S3_READ_TIMEOUT (seconds), OLMO_S3_ATTEMPTS (in all).
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from collections.abc import Iterator
from functools import cache
from typing import IO, Any

from olmo_core.errors import StorageError
from olmo_core.storage_errors import CUT, check_endpoint, signs_of
from olmo_core.storage_folder import Found

_DEFAULTS = {"OLMO_S3_CONNECT_TIMEOUT": 10, "OLMO_S3_READ_TIMEOUT": 60, "OLMO_S3_ATTEMPTS": 5}
"""A store that is down is given up after some seconds, one that hangs after some minutes; then tasks try again."""
_MARK = "olmo-write"
_PIECE = 1 << 20
"""Bytes of one read from a connection, and what has to come between two cuts to begin counting anew."""
_CONNECTIONS = 32


class Bucket:
    """Objects are those of a bucket whose keys begin with a prefix."""

    def __init__(self, root: str) -> None:
        self.name, _, self._prefix = root.partition("/")

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _below(self, path: str) -> str:
        key = self._key(path).strip("/")
        return f"{key}/" if key else ""

    def open(self, path: str) -> None:
        """Say that there are no files here: reading is by ranges."""

    def read(self, path: str, start: int, length: int | None) -> bytes:
        """Return a part of the object, asking again for the rest whenever the connection breaks or stalls."""
        pieces: list[bytes] = []
        done = cuts = since = restarts = 0
        etag: dict[str, str] = {}
        while True:
            end = "" if length is None else start + length - 1
            range_ = {"Range": f"bytes={start + done}-{end}"} if start + done or length is not None else {}
            try:
                answer = client().get_object(Bucket=self.name, Key=self._key(path), **range_, **etag)
            except Exception as error:
                signs = signs_of(error)
                if "InvalidRange" in signs and not etag:  # S3 refuses a range that begins at the end or behind it
                    return b""
                restarts += 1
                if not etag or not signs & {"412", "InvalidRange"} or restarts >= attempts():
                    raise
                pieces, done, etag = [], 0, {}  # the object was replaced meanwhile: half of each is neither
                continue
            etag = {"IfMatch": answer["ETag"]}
            whole = done + int(answer["ContentLength"])
            try:
                with contextlib.closing(answer["Body"]) as body:
                    while piece := body.read(_PIECE):
                        pieces.append(piece)
                        done += len(piece)
                        since += len(piece)
                return b"".join(pieces)
            except Exception as error:
                if done == whole and signs_of(error) & CUT:
                    return b"".join(pieces)  # cut behind the last byte: there is no rest to ask for
                cuts, since = (1, 0) if since >= _PIECE else (cuts + 1, since)
                if not signs_of(error) & CUT or cuts >= attempts():
                    raise
            _pause(cuts)

    def size(self, path: str) -> int | None:
        """Return the object's size; asks again when that cannot be told from a missing bucket."""
        try:
            return int(client().head_object(Bucket=self.name, Key=self._key(path))["ContentLength"])
        except Exception as error:
            if "404" not in signs_of(error):
                raise
        _see_bucket(self.name)
        return None

    def walk(self, prefix: str) -> Iterator[Found]:
        """Yield the objects, page by page."""
        cut = len(self._below(""))
        for page in _pages(Bucket=self.name, Prefix=self._below(prefix)):
            for one in page.get("Contents", ()):
                yield one["Key"][cut:], int(one["Size"]), one["LastModified"].timestamp()

    def contents(self, prefix: str) -> tuple[list[str], list[Found]]:
        """Return the common prefixes, and the objects beside them."""
        below, cut = self._below(prefix), len(self._below(""))
        folders: list[str] = []
        found: list[Found] = []
        for page in _pages(Bucket=self.name, Prefix=below, Delimiter="/"):
            folders += [one["Prefix"][len(below) :].rstrip("/") for one in page.get("CommonPrefixes", ())]
            found += [
                (one["Key"][cut:], int(one["Size"]), one["LastModified"].timestamp())
                for one in page.get("Contents", ())
            ]
        return folders, found

    def staging(self, path: str) -> str | None:
        """Any folder will do."""
        return None

    def publish(self, raw: IO[bytes], name: str, path: str) -> None:
        """Upload the file, in parts where it is large; it appears whole."""
        mark = secrets.token_hex(8)
        for attempt in range(1, attempts() + 1):
            raw.seek(0)
            try:
                client().upload_fileobj(
                    raw, self.name, self._key(path), ExtraArgs={"Metadata": {_MARK: mark}, **_content_type(path)}
                )
                return
            except Exception as error:
                # The last request of an upload in parts, sent again after it took effect, finds no upload any more.
                if "NoSuchUpload" not in signs_of(error):
                    raise
                if self._mark(path) == mark:
                    return
                if attempt == attempts():
                    raise
            _pause(attempt)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Put on the condition that there is nothing; True when it is this call's object that is there."""
        mark = secrets.token_hex(8)
        for attempt in range(1, attempts() + 1):
            try:
                client().put_object(
                    Bucket=self.name, Key=self._key(path), Body=data, IfNoneMatch="*", Metadata={_MARK: mark}
                )
                return True
            except Exception as error:
                # 409: another request for this key was under way; it may have been our own, or one that put nothing.
                if not signs_of(error) & {"412", "409"}:
                    raise
                found = self._mark(path)
                if found is not None:
                    return found == mark
                if attempt == attempts():
                    raise
            _pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _mark(self, path: str) -> str | None:
        """Return the mark of the write that made the object, "" where it has none, None where there is no object."""
        try:
            answer = client().head_object(Bucket=self.name, Key=self._key(path))
        except Exception as error:
            if "404" in signs_of(error):
                return None
            raise
        return str(answer.get("Metadata", {}).get(_MARK, ""))

    def delete(self, path: str) -> None:
        """Remove the object."""
        client().delete_object(Bucket=self.name, Key=self._key(path))


def _content_type(path: str) -> dict[str, str]:
    """Return what makes a browser show a page instead of saving it."""
    known = {".html": "text/html; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml"}
    found = known.get(f".{path.rpartition('.')[2]}")
    return {"ContentType": found} if found else {}


def _pages(**what: Any) -> Iterator[dict[str, Any]]:
    yield from client().get_paginator("list_objects_v2").paginate(**what)


def _pause(attempt: int) -> None:
    """Wait before another try: at random, so that many workers do not come back at once; 0.5 s at most, then 1, 2, 4."""
    time.sleep(random.uniform(0, min(0.25 * 2**attempt, 10)))


def _limit(name: str) -> int:
    given = os.environ.get(name, str(_DEFAULTS[name]))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise StorageError(f"{name} is {given!r}; give a whole number above 0, or unset it for {_DEFAULTS[name]}")
    return int(given)


def attempts() -> int:
    """Return how often a request is sent at most."""
    return _limit("OLMO_S3_ATTEMPTS")


@cache
def client() -> Any:
    """Return this process's S3 client; it keeps the credentials, address and limits of its first use."""
    import boto3  # here: the local store needs no AWS package
    from botocore.config import Config  # type: ignore[import-untyped]

    check_endpoint()
    # `legacy`: the newer modes share a purse of some 100 retries between all requests of a client. An outage empties it, and what a
    # worker asks for after that is sent once.
    config = Config(
        connect_timeout=_limit("OLMO_S3_CONNECT_TIMEOUT"),
        read_timeout=_limit("OLMO_S3_READ_TIMEOUT"),
        retries={"total_max_attempts": attempts(), "mode": "legacy"},
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.session.Session().client("s3", config=config)


@cache
def _see_bucket(name: str) -> None:
    """Raise what the store says about a bucket that is not there; asked once, as answers "not found" are everyday."""
    try:
        client().head_bucket(Bucket=name)
    except Exception as error:
        if "404" in signs_of(error):
            client().list_objects_v2(Bucket=name, MaxKeys=1)  # unlike HEAD, it says in words what is not there
        raise


def forget() -> None:
    """Make the next use begin with new credentials, address and limits: for tests, and after a change of credentials."""
    client.cache_clear()
    _see_bucket.cache_clear()
