"""Pages from WARC and WET files: what becomes a document, what is dropped, what is quarantined, and that nothing is lost."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from olmo_core.documents.reader import Source, identity, read_documents, scan
from olmo_core.documents.warc import WarcSource
from olmo_core.documents.wet import WetSource
from olmo_core.errors import InputError, RecipeError
from olmo_core.recipe import fingerprint
from tests.documents.warc_files import PROSE, block, minimal_records, page, record, response, sha1, write

Row = dict[str, Any]


class Read(NamedTuple):
    documents: list[Row]
    quarantined: list[Row]
    dropped: Mapping[str, int]
    notes: Mapping[str, int]
    records: int


def read(source: Source) -> Read:
    documents: list[Row] = []
    quarantined: list[Row] = []
    dropped: dict[str, int] = {}
    notes: dict[str, int] = {}
    records = 0
    for batch in read_documents(source, scan(source)):
        documents += batch.documents.to_pylist()
        quarantined += batch.quarantined.to_pylist()
        for reason, (count, _) in batch.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        for note, count in batch.notes.items():
            notes[note] = notes.get(note, 0) + count
        records += sum(f.records for f in batch.finished)
    assert records == len(documents) + len(quarantined) + sum(dropped.values())
    for row in documents:
        row["metadata"] = json.loads(row["metadata"])
    return Read(documents, quarantined, dropped, notes, records)


def warc(tmp_path: Path, *records: bytes, suffix: str = "", **settings: Any) -> Read:
    path = write(tmp_path / f"x.warc{suffix}", records)
    return read(WarcSource(name="cc", paths=(str(path),), **settings))


GOOD = response(page(), n=1)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_page_with_all_that_is_known_of_it(tmp_path: Path, suffix: str) -> None:
    body = page().encode()
    answer = block(body, "text/html; charset=UTF-8", Content_Language="en-GB")
    found = warc(
        tmp_path,
        record(b"software: x", "warcinfo", WARC_Target_URI=None),
        record(b"GET / HTTP/1.1\r\n\r\n", "request"),
        record(answer, n=1, WARC_Payload_Digest=sha1(body), WARC_Record_ID="<urn:uuid:1>"),
        record(b"fetchTimeMs: 3", "metadata"),
        suffix=suffix,
    )
    assert found.documents == [
        {
            "id": "<urn:uuid:1>",
            "text": (PROSE * 3).strip(),
            "source": "cc",
            "added": None,
            "created": "2026-11-21T10:00:00Z",
            "metadata": {
                "url": "https://example.org/1",
                "http_status": 200,
                "content_type": "text/html",
                "content_language": "en-GB",
                "payload_digest": sha1(body),
                "digest_checked": True,
                "charset": "utf-8",
                "charset_found_by": "header",
            },
        }
    ]
    assert found.quarantined == []
    assert found.dropped == {"warcinfo_record": 1, "request_record": 1, "metadata_record": 1}
    assert found.notes == {"charset found by header": 1, "digest checked": 1}


PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 4
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200)


NO_PAGES = [
    (record(b"", "revisit", n=2), "revisit_record"),
    (record(page().encode(), "resource", n=2, Content_Type="text/html"), "resource_record"),
    (record(b"text", "conversion", n=2), "conversion_record"),
    (record(b"rest", "continuation", n=2, WARC_Segment_Number="2"), "segmented_record"),
    (response(page(), n=2, WARC_Segment_Number="1"), "segmented_record"),
    (record(b"x", "invented", n=2), "other_record"),
    (record(b"20261121\nexample.org. 1 IN A 1.2.3.4", n=2, WARC_Target_URI="dns:example.org"), "not_http"),
    (record(block(b"", status="301 Moved"), n=2), "http_redirect"),
    (record(block(page().encode(), status="404 Not Found"), n=2), "http_error"),
    (record(block(page().encode(), status="503"), n=2), "http_error"),
    (record(block(b"", status="204 No Content"), n=2), "http_other_status"),
    (record(block(b"{}", "application/json"), n=2), "other_content_type"),
    (record(block(page().encode(), "text/plain"), n=2), "other_content_type"),
    (response(b"\0" * 20_000_000, n=2, content_type="video/mp4"), "other_content_type"),
    (
        record(block(page().encode(), "text/html"), n=2, WARC_Identified_Payload_Type="application/pdf"),
        "other_content_type",
    ),
    (record(block(b"neither this nor that", None), n=2), "other_content_type"),
    (response(PDF, n=2), "binary"),
    (response(PNG, n=2), "binary"),
    (response(PNG, n=2, content_type=None), "binary"),
    (response(b"PK\x03\x04\x14\x00\x08\x00" + bytes(100), n=2), "binary"),
    (response(bytes(range(256)) * 10, n=2), "binary"),
    (response(b"PK\x03\x04" + b"\0\1\2" * 7_000_000, n=2), "binary"),
    (record(block(b""), n=2), "empty_body"),
    (record(b"", n=2), "empty_body"),
    (response("<html><head><title>Log in</title></head><body></body></html>", n=2), "no_text"),
    (response("x", n=2), "no_text"),
]


def test_what_is_no_page_is_dropped_with_its_reason_and_its_neighbours_stay(tmp_path: Path) -> None:
    pages = [response(page(), n=100 + n) for n in range(len(NO_PAGES) + 1)]
    between = [one for pair in zip(pages, (one for one, _ in NO_PAGES)) for one in pair]
    found = warc(tmp_path, *between, pages[-1])
    assert [d["metadata"]["url"] for d in found.documents] == [
        f"https://example.org/{100 + n}" for n in range(len(pages))
    ]
    assert found.dropped == Counter(reason for _, reason in NO_PAGES)
    assert found.quarantined == []


def packed(body: bytes, encoding: str, **fields: str) -> bytes:
    return record(block(body, Content_Encoding=encoding), n=2, **fields)


@pytest.mark.parametrize(
    ("one", "reason", "said"),
    [
        (response(page(), n=2, Content_Length="17"), "malformed_record", "Content-Length, 17, is wrong"),
        (response(page(), n=2, Content_Length="1000"), "malformed_record", "Content-Length, 1000, is wrong"),
        (response(page(), n=2, Content_Length=None), "malformed_record", "record 2: it has no Content-Length"),
        (response(page(), n=2, WARC_Type=None), "malformed_record", "record 2: it has no WARC-Type"),
        (response(page(), n=2, WARC_Date=None), "malformed_record", "record 2: its WARC-Date is ''"),
        (response(page(), n=2, WARC_Date="yesterday"), "malformed_record", "record 2: its WARC-Date is 'yesterday'"),
        (response(page(), n=2, WARC_Target_URI=None), "malformed_record", "record 2: it has no WARC-Target-URI"),
        (record(b"no http here", n=2), "malformed_record", "record 2: its block is no HTTP answer"),
        (record(b"HTTP/1.1 OK\r\n\r\nx", n=2), "malformed_record", "record 2: its HTTP status is 'OK'"),
        (response(page(), n=2, WARC_Payload_Digest=sha1(b"other")), "digest_mismatch", sha1(b"other")),
        (record(block(page().encode()), n=2, WARC_Block_Digest=sha1(b"other")), "digest_mismatch", sha1(b"other")),
        (packed(gzip.compress(page().encode(), mtime=0)[:-40], "gzip"), "broken_encoding", "gzip: the data is cut short"),
        (packed(b"\x1f\x8b" + b"noise" * 50, "gzip"), "broken_encoding", "gzip"),
        (packed(b"noise" * 50, "rot13"), "broken_encoding", "'rot13' is not known"),
        (record(block(b"5\r\nhello\r\nzz\r\n", Transfer_Encoding="chunked"), n=2), "broken_encoding", "begins no chunk"),
        (packed(gzip.compress(b"<p>" + bytes(50_000_000), mtime=0), "gzip"), "too_large", "more than 2000000 bytes once it is unpacked"),
        (response("<html>" + "<p>page of 50 MB</p>" * 2_500_000, n=2), "too_large", "max_page_bytes is 2000000"),
        (
            response(b"<html><p>" + bytes(128 + n * n * 7 % 127 for n in range(4000)) + b"\x81\x8d</p>", n=2),
            "undecodable",
            "no character encoding fits",
        ),
        (response("<html><body>" + "<p>word " * 150_000, n=2), "extraction_timeout", "more than 1 s of CPU time (https://example.org/2)"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_quarantined_and_its_neighbours_stay(
    tmp_path: Path, one: bytes, reason: str, said: str
) -> None:
    found = warc(tmp_path, GOOD, one, response(page(), n=3), suffix=".gz", max_page_bytes=2_000_000, page_seconds=1.0)
    assert [d["metadata"]["url"] for d in found.documents] == ["https://example.org/1", "https://example.org/3"]
    (row,) = found.quarantined
    assert row["reason"] == reason
    assert said in row["detail"]
    assert (row["file"], row["position"], row["byte_offset"]) == ("x.warc.gz", 2, len(GOOD) + 4)
    assert row["raw"] == one[:1000][: len(row["raw"])] and len(row["raw"]) >= min(len(one), 1000) - 4
    assert found.dropped == {}


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (block(gzip.compress(page().encode(), mtime=0), Content_Encoding="gzip"), {}),
        (block(zstandard.ZstdCompressor().compress(page().encode()), Content_Encoding="zstd"), {}),
        (block(page().encode(), Content_Encoding="gzip"), {}),
        (block(b"%x\r\n%s\r\n0\r\n\r\n" % (len(page()), page().encode()), Transfer_Encoding="chunked"), {}),
        (block(page().encode(), Transfer_Encoding="chunked"), {}),
        (block(page().encode(), "text/html"), {}),
        (block(page().encode(), "application/octet-stream"), {}),
        (block(page().encode(), None), {}),
        (block(page().encode(), "TEXT/HTML ;charset=utf-8"), {}),
        (block(page().encode(), "application/pdf"), {"WARC_Identified_Payload_Type": "text/html"}),
        (block(b"\xef\xbb\xbf" + page().encode(), "application/xhtml+xml"), {}),
        (block(page().encode()).replace(b"\r\n", b"\n"), {}),
    ],
)
def test_odd_but_sound_answers_give_the_same_text(tmp_path: Path, answer: bytes, fields: dict[str, str]) -> None:
    found = warc(tmp_path, record(answer, n=2, **fields))
    assert [d["text"] for d in found.documents] == [(PROSE * 3).strip()]


def test_the_digest_may_be_of_the_body_in_any_of_its_forms(tmp_path: Path) -> None:
    plain = page().encode()
    zipped = gzip.compress(plain, mtime=0)
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(zipped), zipped)
    answer = block(sent, Transfer_Encoding="chunked", Content_Encoding="gzip")
    forms = [
        record(answer, n=n, WARC_Payload_Digest=sha1(form), WARC_Target_URI=f"https://example.org/{n}")
        for n, form in enumerate((sent, zipped, plain))
    ]
    found = warc(tmp_path, *forms, record(answer, n=4), record(answer, n=5, WARC_Payload_Digest="crc32:1234"))
    assert [d["metadata"].get("digest_checked") for d in found.documents] == [True, True, True, False, False]
    wrong = record(answer, n=6, WARC_Payload_Digest=sha1(b""))
    assert len(warc(tmp_path, wrong, check_digests=False).documents) == 1


def test_a_page_that_the_crawler_cut_is_taken_and_marked(tmp_path: Path) -> None:
    whole = page("</p><p>".join(f"{PROSE} The number of that day was {sha1(b'%d' % n)}." for n in range(60))).encode()
    zipped = gzip.compress(whole)
    found = warc(
        tmp_path,
        response(whole[: len(whole) // 2], n=1, WARC_Truncated="length", WARC_Payload_Digest=sha1(whole)),
        packed(zipped[: len(zipped) // 2], "gzip", WARC_Truncated="disconnect"),
    )
    assert [d["metadata"]["truncated"] for d in found.documents] == ["length", "disconnect"]
    assert all(PROSE.strip() in d["text"] for d in found.documents)
    assert found.documents[0]["metadata"]["digest_checked"] is False
    assert found.notes["truncated by the crawler"] == 2


def test_a_page_deeper_than_the_parser_goes_is_read_to_its_end(tmp_path: Path) -> None:
    """libxml2 stops at 256 nested elements without a word; trafilatura, and datatrove with it, sees half a page."""
    deep = "<html><body><p>Before.</p>" + "<div>" * 600 + f"<p>{PROSE * 3}</p>" + "</div>" * 600 + "</body></html>"
    assert PROSE.strip() in warc(tmp_path, response(deep)).documents[0]["text"]


def test_plain_pages_are_taken_as_they_are_where_the_recipe_says_so(tmp_path: Path) -> None:
    text = "  Zwei Zeilen,\n  eingerückt wie sie sind.\n"
    one = response(text.encode("latin-1"), content_type="text/plain; charset=iso-8859-1")
    assert [d["text"] for d in warc(tmp_path, one, pages=("plain",)).documents] == [text]
    assert warc(tmp_path, one).dropped == {"other_content_type": 1}
    assert warc(tmp_path, GOOD, pages=("plain",)).dropped == {"other_content_type": 1}
    both = warc(tmp_path, one, GOOD, pages=("html", "plain"))
    assert len(both.documents) == 2


def test_markup_as_text_where_the_recipe_says_so(tmp_path: Path) -> None:
    assert warc(tmp_path, GOOD, extractor="none").documents[0]["text"] == page()


def test_encodings_are_counted_and_none_is_silently_wrong(tmp_path: Path) -> None:
    russian = "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью. "
    found = warc(
        tmp_path,
        response(page(russian * 3).encode("koi8-r"), n=1, content_type="text/html; charset=koi8-r"),
        response(
            page(russian * 3, head='<meta charset="windows-1251">').encode("cp1251"), n=2, content_type="text/html"
        ),
        response(page(russian * 3).encode("cp1251"), n=3, content_type="text/html; charset=iso-8859-1"),
        response(page(russian * 3), n=4, content_type="text/html; charset=iso-8859-1"),
        response(page(russian * 3).encode().replace(b"\xd1\x8e", b"\xd1\xff", 1), n=5),
    )
    assert all(russian[50:100] in d["text"] for d in found.documents)
    assert [(d["metadata"]["charset"], d["metadata"]["charset_found_by"]) for d in found.documents] == [
        ("koi8-r", "header"), ("cp1251", "meta"), ("cp1251", "detected"), ("utf-8", "valid_utf8"), ("utf-8", "header"),
    ]  # fmt: skip
    assert found.documents[4]["metadata"]["charset_errors"] == 2
    assert {note: n for note, n in found.notes.items() if "digest" not in note} == {
        "charset found by header": 2,
        "charset found by meta": 1,
        "charset found by detected": 1,
        "charset found by valid_utf8": 1,
        "charset declared otherwise": 2,
        "malformed characters replaced": 1,
    }


def test_the_same_record_twice_is_noticed_and_a_record_without_id_has_one_that_moves_with_it(tmp_path: Path) -> None:
    found = warc(tmp_path, GOOD, response(page(), n=2), GOOD)
    assert [(q["position"], q["reason"]) for q in found.quarantined] == [(3, "duplicate_id")]
    anonymous = response(page(), n=9, WARC_Record_ID=None)
    ids = {warc(tmp_path / f"{n}", *before, anonymous).documents[-1]["id"] for n, before in enumerate([(), (GOOD,)])}
    assert len(ids) == 1 and ids.pop().startswith("sha256:")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_cut_in_the_middle_fails_closed(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"x.warc{suffix}", [GOOD, response(page(), n=2)])
    data = path.read_bytes()
    source = WarcSource(name="cc", paths=(str(path),))
    for kept in (len(data) - 30, len(data) // 2 - 10):
        path.write_bytes(data[:kept])
        with pytest.raises(InputError, match=r"truncated|before record 2 .* Get the file again|before record 1"):
            read(source)


def test_no_records_and_no_responses(tmp_path: Path) -> None:
    assert warc(tmp_path).records == 0
    only_requests = warc(tmp_path, *(record(b"GET / HTTP/1.1\r\n\r\n", "request", n) for n in range(3000)))
    assert (only_requests.documents, only_requests.dropped) == ([], {"request_record": 3000})


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.warc").write_text('{"id": "1", "text": "a"}\n')
    with pytest.raises(InputError, match=r"x\.warc: is no WARC file: it begins with"):
        read(WarcSource(name="cc", paths=(f"{tmp_path}/x.warc",)))


def test_wet_files(tmp_path: Path) -> None:
    text = "Überschrift\nErster Satz der Seite.\n"
    good = record(
        text.encode(), "conversion", 1, WARC_Refers_To="<urn:uuid:77>", WARC_Block_Digest=sha1(text.encode()),
        Content_Type="text/plain", WARC_Identified_Content_Language="deu", WARC_Record_ID="<urn:uuid:78>",
    )  # fmt: skip
    bad = [
        record(b"\xff\xfe no utf-8", "conversion", 2),
        record(b" \n ", "conversion", 3),
        record(text.encode(), "conversion", 4, WARC_Block_Digest=sha1(b"other")),
        record(b"x" * 200, "conversion", 5),
        record(text.encode(), "conversion", 6, WARC_Target_URI=None),
    ]
    path = write(tmp_path / "x.warc.wet.gz", [record(b"", "warcinfo", WARC_Target_URI=None), good, *bad, GOOD])
    found = read(WetSource(name="cc", paths=(str(path),), max_record_bytes=150))
    assert found.documents == [
        {
            "id": "<urn:uuid:78>", "text": text, "source": "cc", "added": None, "created": "2026-11-21T10:00:00Z",
            "metadata": {
                "url": "https://example.org/1", "refers_to": "<urn:uuid:77>", "content_language": "deu",
                "payload_digest": sha1(text.encode()), "digest_checked": True,
            },
        }
    ]  # fmt: skip
    assert [q["reason"] for q in found.quarantined] == [
        "invalid_utf8", "empty_text", "digest_mismatch", "too_large", "malformed_record",
    ]  # fmt: skip
    assert found.dropped == {"warcinfo_record": 1, "response_record": 1}


def test_real_crawl(shared_data: Path) -> None:
    """Every response of the two files gives one page, with the digest that Wget wrote; a minimal parser counts them."""
    found = read(WarcSource(name="cc", paths=(f"{shared_data}/web/*.warc.gz",)))
    records = [
        r
        for p in sorted((shared_data / "web").glob("*.warc.gz"))
        for r in minimal_records(gzip.decompress(p.read_bytes()))
    ]
    responses = [fields for fields, _ in records if fields["warc-type"] == "response"]
    assert found.records == len(records)
    assert [d["id"] for d in found.documents] == [r["warc-record-id"] for r in responses]
    assert [d["created"] for d in found.documents] == [r["warc-date"] for r in responses]
    assert [f"<{d['metadata']['url']}>" for d in found.documents] == [r["warc-target-uri"] for r in responses]
    assert len(found.documents) == 37 == found.notes["digest checked"]


def test_what_identifies_a_source_are_its_settings_and_the_libraries_that_do_the_work() -> None:
    one = WarcSource(name="cc", paths=("a",), priority=3)
    assert fingerprint(identity(one)) == fingerprint(identity(WarcSource(name="cc", paths=("b",), root="/x")))
    assert fingerprint(identity(one)) != fingerprint(identity(WarcSource(name="cc", page_seconds=31)))
    libraries = identity(one).libraries  # type: ignore[union-attr]
    assert libraries.keys() == {"trafilatura", "lxml", "justext", "charset-normalizer"}
    assert libraries["trafilatura"].startswith("1.")


@pytest.mark.parametrize(
    "settings", [{"max_page_bytes": 0}, {"page_seconds": 0.0}, {"page_memory_bytes": 1000}, {"pages": ()}]
)
def test_limits_that_nothing_can_keep_are_recipe_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="source 'cc'"):
        WarcSource(name="cc", **settings)
