"""The storage contract, the same for every kind of store; what only S3 can do wrong is in tests/test_storage_s3.py."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from olmo_core.errors import StorageError
from olmo_core.storage import Storage


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        return Storage(f"s3://{request.getfixturevalue('bucket')}/some/store")
    return Storage(str(tmp_path / "store") if request.param == "file" else f"memory://{uuid4()}")


def test_what_is_put_is_read_back(storage: Storage) -> None:
    written = storage.put("a/b.bin", b"0123456789")
    assert (written.size, storage.size("a/b.bin")) == (10, 10)
    assert storage.read("a/b.bin") == b"0123456789"
    assert storage.read("a/b.bin", start=3, length=4) == b"3456"
    storage.put("a/b.bin", b"new")
    assert storage.read("a/b.bin") == b"new"


def test_listing_is_sorted_and_relative(storage: Storage) -> None:
    for name in ("x/2", "x/1", "x/deep/3", "y/4"):
        storage.put(name, b"1")
    assert [one.path for one in storage.walk("x")] == ["x/1", "x/2", "x/deep/3"]
    assert storage.folders("") == ["x", "y"]
    assert list(storage.walk("nothing")) == [] and storage.folders("nothing") == []
    storage.delete("x/1")
    storage.delete("x/1")
    assert not storage.exists("x/1")


def test_one_of_many_writers_wins(storage: Storage) -> None:
    """Eight threads put different bytes at one path, twenty times: exactly one is told that it won, and it is its bytes."""
    for round_ in range(20):
        start, won = threading.Barrier(8), []

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


def test_a_failed_writer_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(RuntimeError, match="stop"), storage.writer("half") as (handle, _):
        handle.write(b"some")
        raise RuntimeError("stop")
    assert not storage.exists("half")
    assert list(storage.walk("")) == []


def test_a_missing_object_is_a_clear_error(storage: Storage) -> None:
    with pytest.raises(StorageError, match="not there"):
        storage.read("no/such")


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
