"""Dolma's JSON lines: records become documents or are quarantined with a reason and a place; nothing is lost."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.documents.batches import Batch
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.line_blocks import line_blocks
from olmo_core.documents.reader import read_documents, scan
from olmo_core.documents.schema import DOCUMENTS, QUARANTINE, Reason
from olmo_core.documents.streams import pieces_filler
from olmo_core.kernels.json_decoding import PADDING

Row = dict[str, Any]


def source_of(path: Path, **settings: Any) -> DolmaJsonlSource:
    return DolmaJsonlSource(name="web", paths=(str(path),), **settings)


def batches_of(path: Path, **settings: Any) -> list[Batch]:
    source = source_of(path, **settings)
    batches = list(read_documents(source, scan(source)))
    for batch in batches:
        assert batch.documents.schema.equals(DOCUMENTS)
        assert batch.quarantined.schema.equals(QUARANTINE)
        batch.documents.validate(full=True)
        batch.quarantined.validate(full=True)
    return batches


def read(folder: Path, content: bytes, **settings: Any) -> tuple[list[Row], list[Row]]:
    path = folder / "x.jsonl"
    path.write_bytes(content)
    batches = batches_of(path, **settings)
    documents = [row for b in batches for row in b.documents.to_pylist()]
    quarantined = [row for b in batches for row in b.quarantined.to_pylist()]
    (finished,) = [f for b in batches for f in b.finished]
    assert finished.records == len(documents) + len(quarantined)
    return documents, quarantined


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_all_fields(tmp_path: Path) -> None:
    documents, quarantined = read(
        tmp_path,
        line(
            id="a",
            text="Hällo\0",
            source="web",
            added="2024",
            created="2023",
            metadata={"b": [1, None], "a": {"z": 1, "y": "é"}},
        ),
    )
    assert quarantined == []
    assert documents == [
        {
            "id": "a",
            "text": "Hällo\0",
            "source": "web",
            "added": "2024",
            "created": "2023",
            "metadata": '{"a":{"y":"é","z":1},"b":[1,null]}',
        }
    ]


def test_only_text(tmp_path: Path) -> None:
    documents, _ = read(
        tmp_path,
        b"\n" + line(text="x") + line(text="y", id=None, added=None, metadata=None, source=None),
    )
    assert [d["id"] for d in documents] == ["x.jsonl:2", "x.jsonl:3"]
    assert documents[0] | {"id": "", "text": ""} == {
        "id": "", "text": "", "source": "web", "added": None, "created": None, "metadata": "{}",
    }  # fmt: skip


def test_unknown_keys_and_another_source_are_kept_in_metadata(tmp_path: Path) -> None:
    documents, _ = read(
        tmp_path,
        line(
            id="1",
            text="x",
            source="cc",
            version="v1",
            url="u",
            metadata={"url": "other", "version": "v1"},
        ),
    )
    assert json.loads(documents[0]["metadata"]) == {
        "source": "cc",
        "version": "v1",
        "url": "other",
        "record_url": "u",
    }
    assert documents[0]["source"] == "web"


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        (b'{"id":"1","text":"a"', Reason.BROKEN_JSON, "unexpected end"),
        (b'{"id":"1","text":"a\x00b"}', Reason.BROKEN_JSON, "control character"),
        (
            b'{"id":"1","text":"a","metadata":{"x":NaN}}',
            Reason.BROKEN_JSON,
            "unexpected",
        ),
        (b'{"id":"1","text":"a"} {"id":"2","text":"b"}', Reason.BROKEN_JSON, ""),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, Reason.BROKEN_JSON, "depth"),
        (b"\x00\x00\x00", Reason.BROKEN_JSON, ""),
        (b"[1]", Reason.NOT_AN_OBJECT, "list"),
        (b'"text"', Reason.NOT_AN_OBJECT, "str"),
        (b"null", Reason.NOT_AN_OBJECT, "NoneType"),
        (b'{"id":"1","text":"\xff\xfe"}', Reason.INVALID_UTF8, "byte 18"),
        (b'{"id":"1","text":"\xed\xa0\x80"}', Reason.INVALID_UTF8, "byte 18"),
        (b'{"id":"1","text":"\\ud800 alone"}', Reason.INVALID_UTF8, "surrogate"),
        (
            b'{"id":"1","text":"x","metadata":{"k":"\\udfff"}}',
            Reason.INVALID_UTF8,
            "surrogate",
        ),
        (b'{"id":"1"}', Reason.MISSING_TEXT, "no text"),
        (b'{"id":"1","text":null}', Reason.MISSING_TEXT, "no text"),
        (b'{"id":"1","text":["a"]}', Reason.WRONG_TYPE, "text is a list"),
        (b'{"id":"1","text":""}', Reason.EMPTY_TEXT, "empty"),
        (
            b'{"id":"1","text":" \\n\\t\\u00a0\\u2003"}',
            Reason.EMPTY_TEXT,
            "white space",
        ),
        (
            b'{"id":17,"text":"x"}',
            Reason.WRONG_TYPE,
            r"id is an integer \(17\).*integer_ids: stringify",
        ),
        (b'{"id":true,"text":"x"}', Reason.WRONG_TYPE, "id is a boolean"),
        (b'{"id":1.5,"text":"x"}', Reason.WRONG_TYPE, "id is a number"),
        (
            b'{"id":"1","text":"x","created":1700000000}',
            Reason.WRONG_TYPE,
            "created is an integer",
        ),
        (b'{"id":"1","text":"x","added":{}}', Reason.WRONG_TYPE, "added is an object"),
        (
            b'{"id":"1","text":"x","metadata":"m"}',
            Reason.WRONG_TYPE,
            "metadata is a string",
        ),
    ],
)
def test_a_bad_line_is_quarantined_with_its_place_and_its_neighbours_stay(
    tmp_path: Path, bad: bytes, reason: Reason, said: str
) -> None:
    before, after = line(id="before", text="ä"), line(id="after", text="b")
    documents, quarantined = read(tmp_path, before + bad + b"\r\n" + after)
    assert [d["id"] for d in documents] == ["before", "after"]
    (row,) = quarantined
    assert row | {"detail": ""} == {
        "file": "x.jsonl", "position": 2, "byte_offset": len(before), "size": len(bad) + 1, "reason": str(reason), "detail": "",
        "raw": (bad + b"\r")[:1000],
    }  # fmt: skip
    assert re.search(said, row["detail"]), row["detail"]


def test_integer_ids_become_text_when_the_recipe_says_so(tmp_path: Path) -> None:
    documents, quarantined = read(
        tmp_path,
        line(id=17, text="x") + line(id=-(2**63), text="y") + line(id=True, text="z"),
        integer_ids="stringify",
    )
    assert [d["id"] for d in documents] == ["17", "-9223372036854775808"]
    assert [q["reason"] for q in quarantined] == ["wrong_type"]


def test_later_records_with_an_id_seen_before_are_quarantined(tmp_path: Path) -> None:
    content = (
        line(id="a", text="1")
        + line(id="b", text="2")
        + line(id="a", text="3")
        + line(id="b", text="")
        + line(id="a", text="5")
    )
    documents, quarantined = read(tmp_path, content)
    assert [(d["id"], d["text"]) for d in documents] == [("a", "1"), ("b", "2")]
    assert [(q["position"], q["reason"]) for q in quarantined] == [
        (3, "duplicate_id"), (4, "empty_text"), (5, "duplicate_id"),
    ]  # fmt: skip
    assert quarantined[0]["raw"] == b'{"id": "a", "text": "3"}'


def test_an_empty_id_counts_as_none(tmp_path: Path) -> None:
    documents, quarantined = read(tmp_path, line(id="", text="1") + line(id="", text="2"))
    assert [d["id"] for d in documents] == ["x.jsonl:1", "x.jsonl:2"]
    assert not quarantined


def test_line_ends_byte_order_mark_and_a_last_line_without_newline(
    tmp_path: Path,
) -> None:
    content = b"\xef\xbb\xbf" + line(id="1", text="a\u2028b")[:-1] + b"\r\n\r\n  \n" + line(id="2", text="c")[:-1]
    documents, quarantined = read(tmp_path, content)
    assert [(d["id"], d["text"]) for d in documents] == [("1", "a\u2028b"), ("2", "c")]
    assert not quarantined
    documents, quarantined = read(tmp_path, b"\xef\xbb\xbf" + line(id="1", text="a") + b'{"id":"2","te')
    assert quarantined[0]["position"] == 2
    assert quarantined[0]["byte_offset"] == 3 + len(line(id="1", text="a"))
    assert "no newline: the file may have been cut" in quarantined[0]["detail"]


def test_large_integers_in_metadata_keep_their_digits(tmp_path: Path) -> None:
    big = 123456789012345678901234567890
    metadata = {"big": [big, {"n": -big}], "small": 2**63, "f": 0.1, "hex": "1e5"}
    documents, _ = read(tmp_path, line(id="1", text="x", metadata=metadata, extra=big))
    kept = json.loads(documents[0]["metadata"])
    assert kept == metadata | {"extra": big}
    assert documents[0]["metadata"] == json.dumps(kept, sort_keys=True, separators=(",", ":"))


def test_an_empty_file_is_read_and_reported(tmp_path: Path) -> None:
    for name, content in (
        ("a.jsonl", b""),
        ("b.jsonl", b"\n\n"),
        ("c.jsonl.gz", gzip.compress(b"")),
    ):
        (tmp_path / name).write_bytes(content)
    source = source_of(tmp_path / "*")
    (batch,) = read_documents(source, scan(source))
    assert (batch.documents.num_rows, batch.quarantined.num_rows) == (0, 0)
    assert [(f.name, f.records) for f in batch.finished] == [
        ("a.jsonl", 0),
        ("b.jsonl", 0),
        ("c.jsonl.gz", 0),
    ]


def test_a_document_of_200_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    text = "0123456789abcde\n" * (200_000_000 // 16)
    path.write_bytes(
        zstandard.compress(
            line(id="1", text="small") + line(id="big", text=text) + line(id="2", text="s"),
            1,
        )
    )
    batches = batches_of(path)
    assert [b.documents["id"].to_pylist() for b in batches] == [["1"], ["big"], ["2"]]
    assert batches[1].documents["text"][0].as_py() == text


def test_a_line_over_the_limit_is_quarantined(tmp_path: Path) -> None:
    long = line(id="long", text="y" * 5_000_000)
    documents, quarantined = read(
        tmp_path,
        line(id="1", text="a") + long + line(id="2", text="b"),
        max_record_bytes=3_000_000,
    )
    assert [d["id"] for d in documents] == ["1", "2"]
    (row,) = quarantined
    assert (row["reason"], row["position"], row["size"], row["raw"]) == (
        "too_large",
        2,
        len(long) - 1,
        long[:1000],
    )


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for cut in sorted({min(c, len(data)) for c in cuts} | {len(data)}):
        if cut > at:
            yield data[at:cut]
            at = cut


def lines_of(pieces: Iterator[bytes], most: int) -> list[tuple[int, int, bytes]]:
    """Return offset, size and bytes of every line; of one that is cut only its first bytes."""
    found = []
    for block in line_blocks(pieces_filler(pieces), most, 64):
        data = block.data[: block.size].tobytes()
        assert data.endswith(b"\n") and len(block.data) >= block.size + PADDING
        if block.cut_from:
            assert data.count(b"\n") == 1
            found.append((block.offset, block.cut_from, data[:-1]))
            continue
        at = block.offset
        for line in data[:-1].split(b"\n"):
            found.append((at, len(line), line))
            at += len(line) + 1
    return found


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(0, 300)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_lines_are_those_of_split_wherever_the_pieces_end(lines: list[bytes], cuts: list[int], ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    if data.startswith(b"\xef\xbb\xbf"):
        return
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    found = lines_of(pieces(data, cuts), 1000)
    assert [one for _, _, one in found] == expected
    assert all(data[offset : offset + size] == one for offset, size, one in found)


@given(
    st.lists(st.integers(0, 4000), max_size=8),
    st.lists(st.integers(0, 9000), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_long_lines_are_cut_where_a_piece_ends_in_them_but_counted(sizes: list[int], cuts: list[int]) -> None:
    data = b"".join(bytes([65 + i]) * size + b"\n" for i, size in enumerate(sizes))
    found = lines_of(pieces(data, cuts), 1500)
    assert [size for _, size, _ in found] == sizes
    assert all(
        len(one) == (size if size <= 1500 else len(one)) and len(one) >= min(size, 1000) for _, size, one in found
    )
    assert all(data[offset:].startswith(one) for offset, _, one in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "text", "source", "added", "created", "metadata", "url"]),
            JSON,
        ),
        max_size=5,
    )
)
@settings(max_examples=80, deadline=None)
def test_any_objects_are_documents_or_quarantined_and_metadata_survives(
    records: list[Row],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        documents, quarantined = read(Path(folder), b"".join(line(**record) for record in records))
    assert len(documents) + len(quarantined) == len(records)
    by_id = {d["id"]: d for d in documents}
    bad = {q["position"] for q in quarantined}
    for number, record in enumerate(records, 1):
        if number not in bad:
            document = by_id[record.get("id") or f"x.jsonl:{number}"]
            assert document["text"] == record["text"]
            kept = json.loads(document["metadata"])
            given_metadata = record.get("metadata") or {}
            assert {key: kept[key] for key in given_metadata} == given_metadata
            if "url" in record:
                assert record["url"] in [value for key, value in kept.items() if key.endswith("url")]
