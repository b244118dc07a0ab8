"""Cutting documents into shards, and reading shards that were damaged."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.artifacts.output import write_parquet
from olmo_core.documents.shards import column, cut, read_parquet, read_shard, text_sizes
from olmo_core.errors import IntegrityError, StorageError
from olmo_core.storage import Storage

TEXTS = st.lists(st.text(alphabet="aé\0 ", max_size=12), max_size=40)


def table(texts: list[str]) -> pa.Table:
    return pa.table({"id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.large_string())})


@given(TEXTS, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 40))
def test_cuts_depend_on_rows_only(texts: list[str], breaks: list[int], target: int) -> None:
    whole = table(texts)
    bounds = sorted({0, len(texts), *(b for b in breaks if b < len(texts))})
    pieces = [whole.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)] or [whole]
    parts = list(cut(iter(pieces), target))
    assert [part.to_pylist() for part in parts] == [part.to_pylist() for part in cut([whole], target)]
    assert [row for part in parts for row in part.to_pylist()] == whole.to_pylist()
    sizes = [text_sizes(part).tolist() for part in parts]
    for own, following in zip(sizes, sizes[1:], strict=False):
        assert own and sum(own) + following[0] > target, "no cut comes too early"
    for own in sizes:
        heavy = [size for size in own if size]
        assert sum(own) <= target or len(heavy) == 1, "none comes too late"


def test_no_rows_are_one_empty_table_and_no_tables_are_none() -> None:
    assert [part.num_rows for part in cut([table([]), table([])], 10)] == [0]
    assert list(cut([], 10)) == []


def test_a_column_is_one_array_whatever_the_chunks() -> None:
    chunked = pa.concat_tables([table(["a", "b"]).slice(1), table([]), table(["é"])])
    assert column(chunked, "text").to_pylist() == ["b", "é"] and isinstance(column(chunked, "text"), pa.Array)
    assert column(table([]), "text").to_pylist() == []
    assert text_sizes(chunked).tolist() == [1, 2]


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Storage, bytes]:
    """A store, and the bytes of a shard."""
    sink = io.BytesIO()
    write_parquet(sink, table([f"text {i}" * 20 for i in range(200)]))
    return Storage(str(tmp_path)), sink.getvalue()


def test_a_shard_cut_short_anywhere_is_damaged(shard: tuple[Storage, bytes]) -> None:
    storage, raw = shard
    for length in range(0, len(raw), max(1, len(raw) // 60)):
        storage.put("a.parquet", raw[:length])
        with pytest.raises(IntegrityError, match=r"a.parquet is damaged: .*artifacts verify"):
            read_shard(storage, "a.parquet")
    storage.put("a.parquet", raw)
    assert read_shard(storage, "a.parquet", ["id"]).column("id").to_pylist() == list(range(200))


def test_no_flipped_byte_of_the_footer_gets_out_as_another_error(shard: tuple[Storage, bytes], tmp_path: Path) -> None:
    """Data pages carry no checksum: `verify` compares sha256. Here only the kind of error counts."""
    storage, raw = shard
    refused = 0
    for place in range(len(raw) - 600, len(raw)):
        (tmp_path / "a.parquet").write_bytes(raw[:place] + bytes([raw[place] ^ 0x15]) + raw[place + 1 :])
        try:
            read_shard(storage, "a.parquet")
        except IntegrityError:
            refused += 1
    assert refused > 200


def test_a_missing_shard_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone.parquet: it is not there"):
        read_shard(Storage(str(tmp_path)), "gone.parquet")


class Watched(io.BytesIO):
    """A file that notes which threads ask it for bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.threads: set[int] = set()

    def read(self, size: int | None = -1) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self.threads.add(threading.get_ident())
        return super().readinto(buffer)


@pytest.mark.parametrize("wanted", [{}, {"columns": ["text"]}, {"groups": [0]}], ids=["all", "columns", "groups"])
def test_only_the_calling_thread_reads(shard: tuple[Storage, bytes], wanted: dict[str, Any]) -> None:
    """Another thread that still holds a file or its buffers when the interpreter ends would abort the process."""
    file = Watched(shard[1])
    assert read_parquet(file, **wanted).num_rows == 200
    assert file.threads == {threading.get_ident()}


def test_columns_come_in_the_order_asked_for_and_a_missing_one_is_an_error(shard: tuple[Storage, bytes]) -> None:
    storage, raw = shard
    storage.put("a.parquet", raw)
    for groups in (None, [0]):
        assert read_shard(storage, "a.parquet", ["text", "id"], groups=groups).column_names == ["text", "id"]
        with pytest.raises(IntegrityError, match=r"a.parquet is damaged: no column nosuch among id, text"):
            read_shard(storage, "a.parquet", ["id", "nosuch"], groups=groups)
