"""Parquet rows become documents by the same rules as JSON lines; a file that is not whole is an error."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.parquet import ParquetSource
from olmo_core.documents.reader import read_documents, scan
from olmo_core.errors import InputError

Row = dict[str, Any]


def read(folder: Path, table: pa.Table, options: Row | None = None, **settings: Any) -> tuple[list[Row], list[Row]]:
    pq.write_table(table, folder / "x.parquet", **(options or {}))
    source = ParquetSource(name="web", paths=(f"{folder}/x.parquet",), **settings)
    batches = list(read_documents(source, scan(source)))
    for batch in batches:
        batch.documents.validate(full=True)
    documents = [row for b in batches for row in b.documents.to_pylist()]
    quarantined = [row for b in batches for row in b.quarantined.to_pylist()]
    assert len(documents) + len(quarantined) == table.num_rows == batches[-1].finished[0].records
    return documents, quarantined


def test_columns_become_fields_and_metadata(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "content": pa.array(["one\0", "zwei ä"], pa.large_string()),
            "key": ["k1", "k2"],
            "date": pa.array([when, None], pa.timestamp("ms", "UTC")),
            "url": pa.array(["u", "u"]).dictionary_encode(),
            "score": [0.5, float("nan")],
            "price": pa.array([decimal.Decimal("1.50"), None]),
            "tags": [["a", "b"], []],
            "ns": pa.array([1, 2], pa.timestamp("ns")),
            "text": ["other", "other"],
            "vector": [b"\xff", b"\xff"],
        }
    )
    documents, quarantined = read(
        tmp_path,
        table,
        text_column="content",
        id_column="key",
        created_column="date",
        ignored_columns=("vector",),
    )
    assert quarantined == []
    first = documents[0]
    assert {k: first[k] for k in ("id", "text", "source", "added")} == {
        "id": "k1",
        "text": "one\0",
        "source": "web",
        "added": None,
    }
    assert first["created"].startswith("2024-05-06 07:08:09")
    assert json.loads(first["metadata"]) == {
        "url": "u", "score": 0.5, "price": "1.50", "tags": ["a", "b"], "ns": "1970-01-01 00:00:00.000000001", "record_text": "other",
    }  # fmt: skip
    assert json.loads(documents[1]["metadata"])["score"] is None
    assert documents[1]["created"] is None


def test_our_own_documents_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(
        b"".join(
            json.dumps(
                {
                    "id": str(i),
                    "text": f"t{i}",
                    "added": "2024",
                    "metadata": {"n": i},
                    "url": "u",
                }
            ).encode()
            + b"\n"
            for i in range(10)
        )
    )
    source = DolmaJsonlSource(name="web", paths=(f"{tmp_path}/x.jsonl",))
    (batch,) = read_documents(source, scan(source))
    documents, quarantined = read(tmp_path, batch.documents)
    assert quarantined == []
    assert documents == batch.documents.to_pylist()


def test_bad_rows_are_quarantined(tmp_path: Path) -> None:
    bad = pa.array([b"good", b"\xff\xfe", b"good too"], pa.binary()).view(pa.string())
    text = pa.chunked_array([pa.array(["a", None, "", " \n"]), bad])
    table = pa.table(
        {
            "id": ["1", "2", "3", "4", "5", "6", "1"],
            "text": text,
            "metadata": ["{}", None, None, None, '{"a":1}', None, None],
        }
    )
    documents, quarantined = read(tmp_path, table)
    assert [(d["id"], d["text"], d["metadata"]) for d in documents] == [
        ("1", "a", "{}"),
        ("5", "good", '{"a":1}'),
    ]
    assert [(q["position"], q["reason"], q["byte_offset"]) for q in quarantined] == [
        (2, "missing_text", None),
        (3, "empty_text", None),
        (4, "empty_text", None),
        (6, "invalid_utf8", None),
        (7, "duplicate_id", None),
    ]
    assert [q["size"] for q in quarantined] == [0, 0, 2, 2, 8]
    _, quarantined = read(tmp_path, pa.table({"id": ["1"], "text": ["a"], "metadata": ["[1]"]}))
    assert quarantined[0]["reason"] == "wrong_type"


def test_ids_without_a_column_and_rows_without_an_id(tmp_path: Path) -> None:
    documents, _ = read(tmp_path, pa.table({"text": ["a", "b"]}), id_column=None)
    assert [d["id"] for d in documents] == ["x.parquet:1", "x.parquet:2"]
    documents, _ = read(tmp_path, pa.table({"text": ["a", "b"], "id": ["k", None]}))
    assert [d["id"] for d in documents] == ["k", "x.parquet:2"]


def test_integer_ids(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "id": pa.array([1, 2**64 - 1], pa.uint64())})
    with pytest.raises(InputError, match=r"id_column 'id' has type uint64; .*integer_ids: stringify"):
        read(tmp_path, table)
    documents, _ = read(tmp_path, table, integer_ids="stringify")
    assert [d["id"] for d in documents] == ["1", "18446744073709551615"]


@pytest.mark.parametrize(
    ("columns", "settings", "said"),
    [
        (
            {"body": ["a"], "id": ["1"]},
            {},
            r"no column 'text'; it has body, id; name another in text_column",
        ),
        (
            {"text": ["a"]},
            {},
            r"no column 'id'; it has text; name another in id_column, or null to derive",
        ),
        (
            {"text": ["a"], "id": ["1"]},
            {"created_column": "date"},
            r"no column 'date'.*created_column",
        ),
        (
            {"text": [b"a"], "id": ["1"]},
            {},
            r"text_column 'text' has type binary; expected strings",
        ),
        (
            {"text": [1], "id": ["1"]},
            {},
            r"text_column 'text' has type int64; expected strings$",
        ),
        (
            {"text": ["a"], "id": [1.5]},
            {},
            r"id_column 'id' has type double; expected strings$",
        ),
        (
            {"text": ["a"], "id": ["1"], "blob": [b"\xff"]},
            {},
            r"row group 0.*name it in ignored_columns",
        ),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, columns: Row, settings: Row, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, pa.table(columns), **settings)


def long_table() -> pa.Table:
    return pa.table(
        {
            "id": [str(i) for i in range(5000)],
            "text": [f"text {i} " * 20 for i in range(5000)],
        }
    )


def test_batches_are_bounded_and_rows_keep_their_order(tmp_path: Path) -> None:
    pq.write_table(long_table(), tmp_path / "x.parquet", row_group_size=700)
    source = ParquetSource(name="web", paths=(f"{tmp_path}/*.parquet",))
    batches = list(read_documents(source, scan(source), batch_bytes=200_000))
    assert len(batches) > 5
    assert [i for b in batches for i in b.documents["id"].to_pylist()] == [str(i) for i in range(5000)]


def test_an_empty_table(tmp_path: Path) -> None:
    assert read(tmp_path, long_table().slice(0, 0)) == ([], [])


@pytest.mark.parametrize("keep", [0, 3, 1000, -1, -200])
def test_a_truncated_file_is_an_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(long_table(), path)
    path.write_bytes(path.read_bytes()[:keep])
    source = ParquetSource(name="web", paths=(str(path),))
    with pytest.raises(InputError, match=r"x\.parquet: no complete Parquet file"):
        list(read_documents(source, scan(source)))


def test_a_damaged_page_is_an_error_that_names_the_row_group(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(
        long_table(),
        path,
        row_group_size=1000,
        write_page_checksum=True,
        compression="none",
    )
    start = pq.ParquetFile(path).metadata.row_group(3).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 500] ^= 0xFF
    path.write_bytes(data)
    source = ParquetSource(name="web", paths=(str(path),))
    with pytest.raises(InputError, match=r"x\.parquet: row group 3 \(near row 3001\) cannot be read"):
        list(read_documents(source, scan(source)))


def test_a_damaged_compressed_page_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = [hashlib.sha512(b"%d" % i).hexdigest() for i in range(5000)]
    pq.write_table(
        pa.table({"id": texts, "text": texts}),
        path,
        compression="zstd",
        use_dictionary=False,
    )
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    source = ParquetSource(name="web", paths=(str(path),))
    with pytest.raises(InputError, match=r"x\.parquet: row group 0"):
        list(read_documents(source, scan(source)))
