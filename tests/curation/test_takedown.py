"""Takedown lists: what a line may be, what it names, and what is an error."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.curation.takedown import Requests, read_list
from olmo_core.documents.urls import normal_url, urls_in
from olmo_core.errors import InputError

IDS = st.sampled_from(["a", "b", "web/a", "web/web/a", "", "http://x.org/p", "https://X.org/p/", "é", "日本"])
URLS = st.sampled_from(
    ["http://x.org/p", "HTTPS://X.ORG:443/p/", "http://x.org/q", "http://bücher.de/1", "http://xn--bcher-kva.de/1/",
     "http://ｘ.org/p", "http://y.org", "x.org/p", "mailto:a@x.org", "see http://x.org/p", "http://me:pw@x.org/p",
     'http://"@x.org./p', "http://z\\@x.org/p", "http://x\t.org/p", " http://x.org. /p", "http://[::1]:80/p"]
)  # fmt: skip
METADATA = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"url": URLS}),
    st.fixed_dictionaries({"pad": st.just("http://x.org/p"), "warc": st.fixed_dictionaries({"WARC-Target-URI": URLS})}),
)


def file(path: Path, content: bytes) -> list[tuple[str, str, str]]:
    path.write_bytes(content)
    return [(path.name, str(path), hashlib.sha256(content).hexdigest())]


def entries(path: Path, content: bytes) -> list[dict[str, Any]]:
    return read_list(file(path, content)).to_pylist()  # type: ignore[no-any-return]


def test_lines_are_ids_or_urls(tmp_path: Path) -> None:
    text = "\ufeff# asked for by mail\n web/a \r\n\nhttps://Example.org/x/#part\na#b\nweb/a\n"
    expected = [
        {"entry": "a#b", "as_id": True, "url": None},
        {"entry": "https://Example.org/x/#part", "as_id": True, "url": "http://example.org/x"},
        {"entry": "web/a", "as_id": True, "url": None},
    ]
    assert entries(tmp_path / "list.txt", text.encode()) == expected
    assert entries(tmp_path / "list.txt.gz", gzip.compress(text.encode())) == expected
    assert entries(tmp_path / "none.txt", b"# nothing\n") == []


def test_json_lines_have_id_or_url(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "source": "web", "why": "mail"},
        {"url": "http://x.org/1", "id": "b"},
        {"url": "http://x.org/1"},
    ]
    found = entries(tmp_path / "list.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [tuple(r.values()) for r in found] == [
        ("b", True, None),
        ("http://x.org/1", False, "http://x.org/1"),
        ("web/a", True, None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"ok\n\xff\n", "a.txt: line 2 is not UTF-8"),
        ("a.jsonl", b'{"id": "x"}\n{"id"', "a.jsonl: line 2 is not JSON"),
        ("a.jsonl", b"[1]", "line 1 is a JSON list, not an object"),
        ("a.jsonl", b'{"identifier": "x"}', "line 1 has neither `id` nor `url`; it has identifier"),
        ("a.jsonl", b'{"id": 7}', "line 1: id is 7; give a text"),
        ("a.jsonl", b'{"url": "example.org"}', "'example.org' is no URL with scheme and host"),
        ("a.txt.gz", gzip.compress(b"web/a\n" * 100, mtime=0)[:-9], "a.txt.gz"),
    ],
)
def test_a_line_that_cannot_be_read_stops_everything(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_list(file(tmp_path / name, content))


def test_a_list_that_changed_since_it_was_digested_is_refused(tmp_path: Path) -> None:
    (one,) = file(tmp_path / "a.txt", b"web/a\n")
    (tmp_path / "a.txt").write_bytes(b"web/b\n")
    with pytest.raises(InputError, match="changed while it was being read"):
        read_list([one])


@given(st.lists(st.one_of(IDS, URLS), max_size=4), st.lists(st.tuples(IDS, METADATA), max_size=6))
def test_found_is_what_a_plain_reading_finds(listed: list[str], documents: list[tuple[str, dict[str, Any]]]) -> None:
    """The oracle compares every entry with every document; the search rules most of them out beforehand."""
    expected: dict[int, set[str]] = {}
    for row, (identifier, metadata) in enumerate(documents):
        pages = {normal_url(u) for u in [identifier, *urls_in(metadata)]} - {None}
        named = {e for e in listed if e in (identifier, f"web/{identifier}") or normal_url(e) in pages}
        if named:
            expected[row] = named
    ids = pa.array([i for i, _ in documents], pa.string())
    metadata = pa.array([json.dumps(m, ensure_ascii=False) for _, m in documents], pa.string())
    found = Requests.of(listed).find("web", ids, metadata)
    assert {row: {entry for entry, _ in ways} for row, ways in found.items()} == expected
    for row, ways in found.items():
        assert len({entry for entry, _ in ways}) == len(ways)
        for entry, way in ways:
            assert (way == "id") == (entry in (documents[row][0], f"web/{documents[row][0]}"))


def test_many_hosts_are_found_too() -> None:
    listed = [f"https://h{i}.example/p" for i in range(1000)]
    ids = pa.array([str(i) for i in range(2000)])
    metadata = pa.array([json.dumps({"url": f"http://H{i}.example/p/"}) for i in range(2000)])
    assert sorted(Requests.of(listed).find("web", ids, metadata)) == list(range(1000))
