"""The storage contract, the same for every kind of store; what only S3 can do wrong is in tests/test_storage_s3.py."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.errors import StorageError
from olmo_core.storage import Storage
from tests.fault_proxy import OFTEN

KINDS = ["file", "memory", *(pytest.param(kind, marks=pytest.mark.s3) for kind in ("s3", "s3-faults"))]


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A store of each kind; of S3 also one where about one request in ten goes wrong."""
    if request.param == "s3-faults":
        request.getfixturevalue("faults").rates = OFTEN
    if request.param.startswith("s3"):
        return Storage(f"s3://{request.getfixturevalue('bucket')}/some/store")
    return Storage(str(tmp_path / "store") if request.param == "file" else f"memory://{uuid4()}")


def test_what_is_put_is_read_back(storage: Storage) -> None:
    written = storage.put("a/b.bin", b"0123456789")
    assert (written.size, storage.size("a/b.bin")) == (10, 10)
    assert storage.read("a/b.bin") == b"0123456789"
    assert storage.read("a/b.bin", start=3, length=4) == b"3456"
    storage.put("a/b.bin", b"new")
    assert storage.read("a/b.bin") == b"new"


def test_a_range_is_what_a_slice_would_be(storage: Storage) -> None:
    storage.put("digits", b"0123456789")
    storage.put("empty", b"")
    for start, length in [(0, 3), (3, None), (8, 5), (9, 1), (10, 1), (10, None), (12, 3), (4, 0), (0, 0)]:
        end = None if length is None else start + length
        assert storage.read("digits", start=start, length=length) == b"0123456789"[start:end], (start, length)
        assert storage.read("empty", start=start, length=length) == b""
    assert (storage.read("empty"), storage.size("empty")) == (b"", 0)


def test_a_large_object_is_written_and_read_in_pieces(storage: Storage) -> None:
    """20 MB is more than one part of an upload."""
    data = os.urandom(20_000_003)
    with storage.writer("deep/large") as (handle, written):
        for start in range(0, len(data), 3_000_000):
            handle.write(data[start : start + 3_000_000])
        assert not storage.exists("deep/large"), "nothing is visible before the end"
    assert (written.size, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with storage.open("deep/large") as reading:
        assert reading.read(5) == data[:5]
        assert reading.seek(-10, os.SEEK_END) == len(data) - 10
        assert reading.read() == data[-10:]
        assert reading.read(1) == b""
        reading.seek(7_000_000)
        assert reading.read(9_000_000) == data[7_000_000:16_000_000]
        assert reading.tell() == 16_000_000
        reading.seek(0)
        pieces = iter(lambda: reading.read(1 << 22), b"")
        assert hashlib.sha256(b"".join(pieces)).hexdigest() == written.sha256


def test_parquet_is_read_by_columns(storage: Storage) -> None:
    """Arrow jumps about in a file, from several threads."""
    table = pa.table({"n": np.arange(50_000), "text": [f"row {n}" for n in range(50_000)]})
    with storage.writer("a.parquet") as (handle, _):
        pq.write_table(table, handle, row_group_size=4096)
    with storage.open("a.parquet") as reading:
        assert pq.read_table(reading, columns=["text"]).equals(table.select(["text"]))


def test_names_may_have_any_characters(storage: Storage) -> None:
    names = ["n/a b.txt", "n/100%+1&x=y#z", "n/naïve-日本", "n/what?", "n/star*[x]"]
    for name in names:
        storage.put(name, name.encode())
        assert storage.read(name) == name.encode() and storage.size(name) == len(name.encode())
        assert not storage.put_if_absent(name, b"")
    assert [one.path for one in storage.walk("n")] == sorted(names)
    for name in names:
        storage.delete(name)
    assert list(storage.walk("n")) == []


def test_a_folder_is_no_object(storage: Storage) -> None:
    storage.put("a/b/c", b"1")
    assert storage.size("a/b") is None and not storage.exists("a")
    assert storage.size("a/b/c/d") is None
    assert list(storage.walk("a/b/c/d")) == [] and storage.folders("a/b") == []
    with pytest.raises(StorageError):
        storage.read("a/b")


def test_listing_is_sorted_and_relative(storage: Storage) -> None:
    for name in ("x/2", "x/1", "x/deep/3", "y/4"):
        storage.put(name, b"1")
    assert [one.path for one in storage.walk("x")] == ["x/1", "x/2", "x/deep/3"]
    assert storage.folders("") == ["x", "y"]
    assert list(storage.walk("nothing")) == [] and storage.folders("nothing") == []
    storage.delete("x/1")
    storage.delete("x/1")
    assert not storage.exists("x/1")


def test_a_listing_sees_what_another_has_just_done(storage: Storage) -> None:
    """No cache of listings: many processes write to a store, and one of them decides by what it sees."""
    other = Storage(storage.uri)
    for n in range(5):
        assert not storage.exists(f"x/{n}") and len(list(storage.walk("x"))) == n and len(storage.folders("y")) == n
        other.put(f"x/{n}", b"1")
        other.put(f"y/{n}/z", b"1")
        assert storage.exists(f"x/{n}") and len(list(storage.walk("x"))) == n + 1 and len(storage.folders("y")) == n + 1
    other.put("x/0", b"longer")
    assert storage.size("x/0") == 6 and storage.read("x/0") == b"longer"


def test_one_of_many_writers_wins(storage: Storage) -> None:
    """Eight threads put different bytes at one path, eight times: exactly one is told that it won, and it is its bytes."""
    for round_ in range(8):
        start, won = threading.Barrier(8), list[int]()

        def put(n: int, path: str = f"r/{round_}", start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            if storage.put_if_absent(path, b"%d" % n):
                won.append(n)

        threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(f"r/{round_}") == b"%d" % won[0]


def put_many(uri: str, rounds: int, start: threading.Barrier, name: str) -> dict[int, bool]:
    """In a process of its own: put one's name at every path at the same time as the others; return what was said."""
    storage, said = Storage(uri), {}
    for n in range(rounds):
        start.wait(500)
        said[n] = storage.put_if_absent(f"r/{n}", name.encode())
        assert storage.exists(f"r/{n}"), "whoever has an answer sees the object"
    return said


@pytest.mark.parametrize(
    "storage", [kind for kind in KINDS if kind != "memory"], indirect=True
)  # that is in one process
def test_one_of_many_processes_wins(storage: Storage) -> None:
    """Four processes, spawned so that they have no connections in common, at 8 paths: one is told so, and its bytes stand."""
    rounds, names = 8, ["a", "b", "c", "d"]
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(4, mp_context=spawn) as pool:
        start = manager.Barrier(len(names))
        asked = [pool.submit(put_many, storage.uri, rounds, start, name) for name in names]
        said = {name: future.result(600) for name, future in zip(names, asked, strict=True)}
    for n in range(rounds):
        winners = [name for name in names if said[name][n]]
        assert len(winners) == 1 and storage.read(f"r/{n}") == winners[0].encode(), n


def test_a_listing_holds_what_stays_while_other_things_come_and_go(storage: Storage) -> None:
    for n in range(8):
        storage.put(f"x/{n:02}/stays", b"1")
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for n in range(8):
                storage.put(f"x/{n:02}/goes", b"1")
                storage.put_if_absent(f"x/{n:02}/goes too", b"1")
            for n in range(8):
                storage.delete(f"x/{n:02}/goes")
                storage.delete(f"x/{n:02}/goes too")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(5):
            assert len([one for one in storage.walk("x") if one.path.endswith("stays")]) == 8
            assert len(storage.folders("x")) == 8
    finally:
        stop.set()
        thread.join()


def test_a_failed_writer_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(RuntimeError, match="stop"), storage.writer("half") as (handle, _):
        handle.write(b"some")
        raise RuntimeError("stop")
    assert not storage.exists("half")
    assert list(storage.walk("")) == []


def test_a_missing_object_is_a_clear_error(storage: Storage) -> None:
    for look in (storage.read, storage.open):
        with pytest.raises(StorageError, match="no/such: it is not there"):
            look("no/such")


def test_a_readonly_store_is_a_clear_error(tmp_path: Path) -> None:
    """A folder that is a file stands in for one we may not write to: root may write anywhere."""
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        Storage(str(tmp_path / "store")).put("a", b"1")


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """/dev/full gives ENOSPC on every write; a store's temporary file is put there by a link."""
    store = Storage(str(tmp_path))
    with pytest.raises(StorageError, match="no space left"), store.writer("a"):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("uri", ["gopher://x/y", "s3://", ""])
def test_unusable_addresses_are_refused(uri: str) -> None:
    with pytest.raises(StorageError):
        Storage(uri)
