"""What only an object store can do wrong: credentials, buckets, a server that is gone or hangs, large uploads.

What it has in common with every other kind of store is in tests/test_storage.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from olmo_core import storage_s3 as module
from olmo_core.errors import StorageError, TransientStorageError
from olmo_core.storage import Storage
from tests.documents.s3_standin import Bucket, serve
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

pytestmark = pytest.mark.s3

OPERATIONS: dict[str, Callable[[Storage], object]] = {
    "read": lambda store: store.read("x/here"),
    "range": lambda store: store.read("x/here", start=1, length=2),
    "open": lambda store: store.open("x/here").read(),
    "size": lambda store: store.size("x/here"),
    "walk": lambda store: list(store.walk("x")),
    "folders": lambda store: store.folders(""),
    "put": lambda store: store.put("x/new", b"1"),
    "put_if_absent": lambda store: store.put_if_absent("x/newer", b"1"),
    "delete": lambda store: store.delete("x/here"),
}


@pytest.fixture
def store(bucket: str) -> Storage:
    store = Storage(f"s3://{bucket}/store")
    store.put("x/here", b"0123456789")
    return store


@pytest.fixture
def new_clients() -> Iterator[Callable[[], None]]:
    """Clients keep the credentials and options of their first use: make them forget, now and after the test."""

    def forget() -> None:
        module.forget()

    yield forget
    forget()


@pytest.fixture
def impatient(new_clients: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up sooner than is good in earnest."""
    for name, value in (("CONNECT_TIMEOUT", 3), ("READ_TIMEOUT", 3), ("ATTEMPTS", 2)):
        monkeypatch.setenv(f"OLMO_S3_{name}", str(value))
    new_clients()


def failures(store: Storage) -> dict[str, str]:
    """Do everything that can be done with a store, all at once; return what kind of error came of each, and its words."""

    def fail(operation: Callable[[Storage], object]) -> str:
        try:
            return f"no error, but {operation(store)!r}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(OPERATIONS)) as pool:
        return dict(zip(OPERATIONS, pool.map(fail, OPERATIONS.values()), strict=True))


@pytest.mark.parametrize(("times", "error"), [(1, None), (1000, TransientStorageError)])
def test_a_body_cut_half_way_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, new_clients: Callable[[], None], times: int, error: type[Exception] | None
) -> None:
    """A few times only: a stand-in server closes the connection after half of the body."""
    monkeypatch.setenv("OLMO_S3_ATTEMPTS", "3")
    data = os.urandom(100_000)
    stand_in = Bucket()
    stand_in.objects["x"], stand_in.cut["x"] = data, times
    with serve(stand_in) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        new_clients()
        with pytest.raises(error, match="cannot read s3://bucket/x") if error else contextlib.nullcontext():
            assert Storage("s3://bucket").read("x", start=10) == data[10:]
    assert stand_in.asked["x"] == (3 if error else 2)


class Cut:
    """A client whose bodies come whole and then break; from the second request on it answers with an error."""

    def __init__(self, data: bytes, sent: int) -> None:
        self.data, self.sent, self.asked = data, sent, list[str]()

    def get_object(self, *, Range: str = "", **_: str) -> dict[str, object]:
        self.asked.append(Range)
        if Range:
            raise ClientError({"Error": {"Code": "InvalidRange"}}, "GetObject")
        return {"ETag": "x", "ContentLength": len(self.data), "Body": self.body()}

    def body(self) -> io.BytesIO:
        class Body(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if piece := super().read(size):
                    return piece
                raise ConnectionResetError

        return Body(self.data[: self.sent])


def test_a_cut_behind_the_last_byte_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Cut(os.urandom(3_000_000), 3_000_000)
    monkeypatch.setattr(module, "client", lambda: client)
    assert Storage("s3://bucket").read("x") == client.data and client.asked == [""]


def test_an_object_that_is_always_another_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 1 MiB comes each time, so that the count of cuts begins anew."""
    client = Cut(os.urandom(3_000_000), 2_500_000)
    monkeypatch.setattr(module, "client", lambda: client)
    monkeypatch.setattr(module, "_pause", lambda cuts: None)
    with pytest.raises(StorageError, match="cannot read s3://bucket/x.*InvalidRange"):
        Storage("s3://bucket").read("x")
    assert len(client.asked) == 2 * module.attempts()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "not-the-secret-at-all"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-the-secret-at-all"}, "InvalidAccessKeyId"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "NoCredentials"),
    ],
)
def test_wrong_credentials_are_a_clear_error(
    store: Storage,
    new_clients: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    reason: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    new_clients()
    seen = failures(store)
    for name, words in seen.items():
        assert words.startswith("StorageError: cannot "), (name, words)
        assert "refuses the credentials" in words and "AWS_ACCESS_KEY_ID" in words, (name, words)
        assert "not-the-secret-at-all" not in words
    assert any(reason in words for words in seen.values()), seen


def test_the_command_line_says_that_credentials_are_wrong_and_shows_no_secret(store: Storage) -> None:
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": "not-the-secret-at-all"}
    command = [sys.executable, "-m", "flows.command.main", "artifacts", "ls", "--store", store.uri]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "refuses the credentials" in said, said
    assert "not-the-secret-at-all" not in said and "Traceback" not in said


def test_a_store_that_may_only_be_read_says_so(
    s3: S3Server, bucket: str, new_clients: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials are right, so there is more to check than these."""
    store = Storage(f"s3://{bucket}/some/store")
    store.put("x/here", b"1")
    s3.add_user("reader", "reader-of-tests", "a-secret-of-the-reader")
    reader = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/reader"]}}
    allowed = {
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}{e}" for e in ("", "/*")],
    }
    policy = {"Version": "2012-10-17", "Statement": [reader | allowed]}
    s3.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader-of-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-reader")
    new_clients()
    assert store.read("x/here") == b"1"
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match="refuses writing .*AccessDenied.*choose a store you may write to"):
            write("x/new", b"2")
    assert [one.path for one in store.walk("")] == ["x/here"]


def test_a_store_whose_quota_is_used_up_says_so(s3: S3Server, bucket: str) -> None:
    """Ceph answers 403, as it does to wrong credentials."""
    store = Storage(f"s3://{bucket}/some/store")
    s3.admin("quota", "set", "--quota-scope=bucket", f"--bucket={bucket}", "--max-objects=2")
    s3.admin("quota", "enable", "--quota-scope=bucket", f"--bucket={bucket}")
    for name in ("a", "b"):
        store.put(name, b"1")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match="quota is used up; free some room"):
            write("c", b"1")
    assert [one.path for one in store.walk("")] == ["a", "b"]


def test_a_missing_bucket_is_a_clear_error(s3: S3Server) -> None:
    seen = failures(Storage("s3://no-such-bucket/store"))
    for name, words in seen.items():
        if name != "delete":  # an object that is not there is as good as deleted
            assert words.startswith("StorageError: ") and "the bucket does not exist" in words, (name, words)


def test_a_store_that_is_down_is_worth_another_try(s3: S3Server, store: Storage, impatient: None) -> None:
    store.put("x/large", os.urandom(20_000_000))
    handle = store.open("x/large")
    assert len(handle.read(1 << 20)) == 1 << 20
    s3.stop_gateway()
    try:
        seen = failures(store)
        with pytest.raises(TransientStorageError, match="x/large.*did not answer"):
            handle.read()
    finally:
        s3.start_gateway()
    assert all(words.startswith("TransientStorageError: ") and store.uri in words for words in seen.values()), seen
    assert store.read("x/here") == b"0123456789", "the same clients work again when the store is back"
    assert not store.exists("x/new")
    handle.seek(1 << 20)
    assert len(handle.read()) == 20_000_000 - (1 << 20)


def test_a_store_that_hangs_is_given_up(s3: S3Server, store: Storage, impatient: None) -> None:
    s3.freeze_gateway()
    began = time.monotonic()
    try:
        seen = failures(store)
    finally:
        s3.thaw_gateway()
    assert all(words.startswith("TransientStorageError: ") for words in seen.values()), seen
    assert time.monotonic() - began < 200


def test_options_of_earnest_runs(new_clients: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is said about limits that are none."""
    new_clients()
    config = module.client().meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (10, 60, 5)
    for wrong in ("0", "-1", "soon", "1.5", ""):
        monkeypatch.setenv("OLMO_S3_READ_TIMEOUT", wrong)
        new_clients()
        with pytest.raises(StorageError, match="OLMO_S3_READ_TIMEOUT is .*give a whole number above 0"):
            Storage("s3://bucket").read("x")


def test_an_object_is_read_by_few_requests(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(3_000_000)
    store.put("x/large", data)
    asked: list[str] = []
    ask = module.client()._make_api_call

    def counted(operation: str, *words: object) -> object:
        asked.append(operation)
        return ask(operation, *words)

    monkeypatch.setattr(module.client(), "_make_api_call", counted)
    assert store.read("x/large") == data
    assert asked == ["GetObject"]
    with store.open("x/large") as handle:
        assert handle.read() == data
    assert asked[1:] == ["HeadObject", "GetObject"]
    with store.open("x/large") as handle:
        assert b"".join(iter(lambda: handle.read(1000), b"")) == data
    assert asked[3:] == ["HeadObject", "GetObject", "GetObject", "GetObject"], "a buffer of 1 MiB"


def test_large_objects_are_sent_in_parts(s3: S3Server, store: Storage) -> None:
    data = os.urandom(20_000_000)
    written = store.put("x/large", data)
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    head = s3.client().head_object(Bucket=bucket, Key=f"{prefix}/x/large")
    assert head["ETag"].strip('"').endswith("-3"), "three parts of 8 MiB at most"
    assert written.size == head["ContentLength"] == len(data)


def test_nothing_of_a_failed_upload_is_left(s3: S3Server, store: Storage, impatient: None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.writer("x/half") as (handle, _):
        handle.write(bytes(20_000_000))
        raise RuntimeError("stop")
    bucket = store.uri.removeprefix("s3://").partition("/")[0]
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=bucket)
    assert [one.path for one in store.walk("")] == ["x/here"]


def test_a_store_is_in_its_prefix_only(s3: S3Server, bucket: str) -> None:
    """Two stores in one bucket, one's prefix the beginning of the other's; and one without a prefix, which holds both."""
    one, other, whole = (Storage(f"s3://{bucket}{prefix}") for prefix in ("/a", "/ab", ""))
    one.put("f/1", b"1")
    other.put("f/2", b"22")
    assert [x.path for x in one.walk("")] == ["f/1"] and [x.path for x in other.walk("f")] == ["f/2"]
    assert [x.path for x in whole.walk("")] == ["a/f/1", "ab/f/2"] and whole.folders("") == ["a", "ab"]
    assert abs(next(one.walk("")).modified - time.time()) < 300


def test_many_objects_are_listed_in_pages(s3: S3Server, bucket: str) -> None:
    """A server gives 1000 names at a time."""
    store = Storage(f"s3://{bucket}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put_if_absent(f"x/{n:04}/o", b""), range(1010)))
    assert [x.path for x in store.walk("x")] == [f"x/{n:04}/o" for n in range(1010)]
    assert store.folders("x") == [f"{n:04}" for n in range(1010)]


def test_the_servers_key_is_not_in_any_address(store: Storage) -> None:
    assert ACCESS_KEY not in store.url("x") + repr(store) and SECRET_KEY not in store.url("x") + repr(store)
