"""One fault at a time, at the worst moment: what an S3 store must not get wrong when the network does."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from olmo_core import storage_s3
from olmo_core.errors import TransientStorageError
from olmo_core.storage import Storage
from tests.fault_proxy import Fault, FaultProxy
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3

TOOK_EFFECT = [Fault.LOST_ANSWER, Fault.RESET_IN_ANSWER, Fault.STALL]
BROKEN = [Fault.RESET_IN_ANSWER, Fault.STALL]


@pytest.fixture
def store(bucket: str, faults: FaultProxy) -> Storage:
    return Storage(f"s3://{bucket}/store")


@pytest.mark.parametrize("fault", Fault)
def test_a_winner_learns_that_it_has_won(store: Storage, faults: FaultProxy, fault: Fault) -> None:
    """Whatever happens to the request: also when it took effect, and what is sent again meets its own success."""
    faults.once(fault, "PUT", "/m", times=2)
    assert store.put_if_absent("m", b"mine")
    assert faults.counts == {fault: 2} and store.read("m") == b"mine"
    assert not store.put_if_absent("m", b"mine"), "another call with the same bytes has not won"


@pytest.mark.parametrize("fault", Fault)
def test_a_loser_learns_that_it_has_lost(store: Storage, faults: FaultProxy, fault: Fault) -> None:
    assert store.put_if_absent("m", b"first")
    faults.once(fault, "PUT", "/m", times=2)
    faults.once(Fault.RESET_BEFORE, "HEAD", "/m")
    assert not store.put_if_absent("m", b"second")
    assert faults.counts[fault] >= 2 and faults.counts[Fault.RESET_BEFORE] >= 1 and store.read("m") == b"first"


def test_among_many_whose_answers_are_lost_one_wins(store: Storage, faults: FaultProxy) -> None:
    """Every first answer of eight callers is lost, three times: they ask again, and all have met somebody's success."""
    for round_ in range(3):
        faults.once(Fault.LOST_ANSWER, "PUT", f"/r{round_}", times=8)
        start, won = threading.Barrier(8), list[int]()

        def put(n: int, path: str = f"r{round_}", start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if store.put_if_absent(path, b"%d" % n):
                won.append(n)

        threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and store.read(f"r{round_}") == b"%d" % won[0]
    assert faults.counts[Fault.LOST_ANSWER] == 24


@pytest.mark.parametrize("fault", [f for f in Fault if f not in TOOK_EFFECT])
def test_a_caller_who_gives_up_has_put_nothing(store: Storage, faults: FaultProxy, fault: Fault) -> None:
    """The request never arrived, however often it was sent."""
    faults.once(fault, "PUT", "/m", times=99)
    with pytest.raises(TransientStorageError, match="cannot write .*/m: .*trying again may help"):
        store.put_if_absent("m", b"1")
    assert faults.counts == {fault: storage_s3.attempts()}
    faults.clear()
    assert not store.exists("m") and store.put_if_absent("m", b"2")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_body_goes_on_where_it_was_cut(
    store: Storage, faults: FaultProxy, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times: the range asked for gets shorter each time, and no byte is wrong."""
    # Requests are counted: a busy server's own pauses must not be taken for a stall.
    monkeypatch.setenv("OLMO_S3_READ_TIMEOUT", "2" if fault == Fault.STALL else "60")
    storage_s3.forget()
    data = os.urandom(6_000_000)
    store.put("large", data)
    faults.clear()
    faults.once(fault, "GET", "/large", times=3)
    assert store.read("large") == data
    asked = [request.range for request in faults.last if request.method == "GET"]
    starts = [int(one.removeprefix("bytes=").rstrip("-")) for one in asked[1:]]
    assert asked[0] == "" and len(asked) == 4 and 2_000_000 < starts[0] < starts[1] < starts[2] < 6_000_000
    faults.once(fault, "GET", "/large", times=2)
    assert store.read("large", start=1_000_003, length=4_000_001) == data[1_000_003:5_000_004]
    faults.once(fault, "GET", "/large", times=3)
    with store.open("large") as handle:
        handle.seek(17)
        assert handle.read() == data[17:]


def test_a_body_that_is_always_cut_is_given_up(store: Storage, faults: FaultProxy) -> None:
    store.put("small", b"0123456789")
    faults.clear()
    faults.once(Fault.RESET_IN_ANSWER, "GET", "/small", times=99)
    with pytest.raises(TransientStorageError, match="cannot read .*/small"):
        store.read("small")
    assert faults.requests["GET"] == storage_s3.attempts()


def test_an_object_that_is_replaced_meanwhile_is_read_whole(
    s3: S3Server, store: Storage, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beginning of the old one and the end of the new one would be neither."""
    before, after = os.urandom(4_000_000), os.urandom(5_000_000)
    store.put("x", before)
    bucket = store.uri.removeprefix("s3://").partition("/")[0]
    monkeypatch.setattr(
        storage_s3, "_pause", lambda attempt: s3.client().put_object(Bucket=bucket, Key="store/x", Body=after)
    )
    faults.once(Fault.RESET_IN_ANSWER, "GET", "/x")
    assert store.read("x") == after


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("request_", ["uploads", "partNumber", "last"])
def test_an_upload_in_parts_survives(store: Storage, faults: FaultProxy, fault: Fault, request_: str) -> None:
    """At its beginning, in a part, and at its end, where the request that is sent again may find no upload any more."""
    data = os.urandom(9_000_000)
    method, query = {
        "uploads": ("POST", "uploads"),
        "partNumber": ("PUT", "partNumber=1"),
        "last": ("POST", "uploadId"),
    }[request_]
    faults.once(fault, method, "/large", query)
    written = store.put("large", data)
    assert faults.counts == {fault: 1}
    assert written.size == len(data) and store.read("large") == data


@pytest.mark.parametrize("took_effect", [True, False])
def test_an_upload_whose_end_is_not_known_any_more_is_looked_for(
    store: Storage, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch, took_effect: bool
) -> None:
    """Some servers answer NoSuchUpload when the request that ends an upload comes a second time (Ceph does not)."""
    data, client = os.urandom(9_000_000), storage_s3.client()
    store.put("large", b"older")
    upload, sent = client.upload_fileobj, list[bool]()

    def lose_the_end(raw: IO[bytes], *place: str, **more: object) -> None:
        sent.append(True)
        if took_effect or len(sent) > 1:
            upload(raw, *place, **more)
        if len(sent) == 1:
            raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "CompleteMultipartUpload")

    monkeypatch.setattr(client, "upload_fileobj", lose_the_end)
    store.put("large", data)
    assert store.read("large") == data and len(sent) == 1 + (not took_effect)


OPERATIONS: dict[str, Callable[[Storage], object]] = {
    "read": lambda store: store.read("x/here"),
    "range": lambda store: store.read("x/here", start=1, length=2),
    "open": lambda store: store.open("x/here").read(),
    "size": lambda store: store.size("x/here"),
    "absent": lambda store: store.size("x/nothing"),
    "walk": lambda store: [one.path for one in store.walk("x")],
    "folders": lambda store: store.folders(""),
    "put": lambda store: store.put("y/new", b"1").sha256,
    "delete": lambda store: store.delete("y/new"),
}


@pytest.mark.parametrize("fault", Fault)
def test_every_operation_survives_a_fault(store: Storage, faults: FaultProxy, fault: Fault) -> None:
    store.put("x/here", b"0123456789")
    expected = {name: operation(store) for name, operation in OPERATIONS.items()}
    for name, operation in OPERATIONS.items():
        faults.clear()
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            faults.once(fault, method)
        assert operation(store) == expected[name], name
        assert faults.counts[fault] >= 1, name


def test_after_an_outage_each_request_has_all_its_tries_again(
    store: Storage, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer of botocore's ways to try again share a purse of some 100 retries between all requests of a client: an outage, with many
    workers, empties it, and the requests after it would be sent once.
    """
    monkeypatch.setenv("OLMO_S3_ATTEMPTS", "2")
    storage_s3.forget()
    store.put("m", b"here")
    faults.once(Fault.SLOW_DOWN, "GET", "/m", times=10_000)

    def ask(_: int) -> bool:
        with contextlib.suppress(TransientStorageError):
            store.read("m")
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(120))), "the store is down"
    for _ in range(3):
        faults.clear()
        faults.once(Fault.SLOW_DOWN, "GET", "/m")
        assert store.read("m") == b"here"
        assert faults.counts == {Fault.SLOW_DOWN: 1}


def test_a_restarted_server_is_met_by_the_same_clients(s3: S3Server, store: Storage, faults: FaultProxy) -> None:
    """Four threads write and read while the server is stopped and started; what was said to be there is there."""
    stop, problems, done = threading.Event(), list[str](), list[str]()

    def work(name: int) -> None:
        n = 0
        while not stop.is_set():
            path, n = f"{name}/{n}", n + 1
            try:
                if not store.put_if_absent(path, path.encode()):
                    problems.append(f"{path}: lost without an opponent")
                done.append(path)
                if store.read(path) != path.encode():
                    problems.append(f"{path}: other bytes")
            except TransientStorageError:
                pass
            except Exception as error:
                problems.append(f"{path}: {error!r}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before = len(done)
            while len(done) < before + 40 and not problems:
                stop.wait(0.01)
            s3.stop_gateway()
            s3.start_gateway()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert {one.path for one in store.walk("")} >= set(done) and len(done) > 80
