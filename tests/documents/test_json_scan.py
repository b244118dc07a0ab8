"""The compiled scan of JSON lines says what a library says, or leaves the line to it: the same rows either way."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from olmo_core.documents import dolma_jsonl
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.reader import read_documents
from olmo_core.documents.reader import scan as files_of
from olmo_core.kernels.json_lines import LOOK_CLOSER

CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    'aé日😀"\\/\n\t\0\u2028\u00a0 {}[],:eE+-0123456789'
)
TEXT = st.text(CHARACTERS, max_size=90)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["id", "text", "source", "added", "created", "metadata", "url", "te", "idx", 'a"b', "é"])
MEMBERS = st.lists(
    st.tuples(KEYS, VALUE | TEXT | st.none() | st.just("web") | st.dictionaries(KEYS, VALUE, max_size=3)), max_size=7
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of JSON as somebody may write it, members repeated or not, often with some bytes of it changed."""
    members = [("text", draw(TEXT)), ("id", draw(TEXT)), *draw(MEMBERS)]
    members = draw(st.permutations(members))
    gap = draw(st.sampled_from(["", " ", "\t ", "\r"]))
    ascii_only = draw(st.booleans())
    written = (
        f"{json.dumps(key, ensure_ascii=ascii_only)}{gap}:{gap}{json.dumps(value, ensure_ascii=ascii_only)}"
        for key, value in members
    )
    data = bytearray((gap + "{" + gap + f"{gap},{gap}".join(written) + gap + "}" + gap).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(data) - 1))
        change = draw(st.sampled_from([b"", b'"', b"\\", b"\\u00e9", b"\\ud83d", b"\\ud83d\\ude00", b"\xff", b"\xe2\x82", b"\xc3", b"\n", b"}", b"{", b",", b"\\\n", b"\0"]))  # fmt: skip
        data[at : at + draw(st.integers(0, 2))] = change
    return bytes(data)


def rows(path: Path) -> tuple[list[Any], list[Any]]:
    source = DolmaJsonlSource(name="web", paths=(str(path),))
    batches = list(read_documents(source, files_of(source)))
    for batch in batches:
        batch.documents.validate(full=True)
    return (
        [row for b in batches for row in b.documents.to_pylist()],
        [row for b in batches for row in b.quarantined.to_pylist()],
    )


@given(st.lists(lines(), max_size=6))
@example([b'{"text":"a\\', b'"}', b'{"text":"\xe2\x82"}', b'{"id":"1","id":"2","text":"x"}'])
@example([b'{"te\\u0078t":"hidden","text":"x"}', b'{"text":"x","a":[}}', b'{"b":{]},"text":"y"}'])
@example([b'{"text":"' + b"x" * 31 + b"\\" + b'""}', b'{"text":"' + b"x" * 30 + b"\\ud83d\\ude00" + b'"}'])
@settings(max_examples=400, deadline=None)
def test_the_scan_and_the_library_agree(some: list[bytes]) -> None:
    scan = dolma_jsonl.scan

    def nothing_taken(*arguments: Any) -> Any:
        records, count, end = scan(*arguments)
        *_, states = arguments
        states[:] = LOOK_CLOSER
        for ends in (arguments[6], arguments[8], arguments[10]):
            ends[:] = 0
        return records, count, end

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "x.jsonl")
        path.write_bytes(b"\n".join(some))
        found = rows(path)
        patch.setattr(dolma_jsonl, "scan", nothing_taken)
        assert found == rows(path)


def test_plain_lines_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the comparison above might compare the library with itself."""
    path = tmp_path / "x.jsonl"
    texts = ['plain "quoted" \\ text\n', "é日😀 " * 20, "\u2028 \u00a0 x", "x" * 64]
    records = [
        {"id": f"{i}", "text": text, "source": "web", "metadata": {"n": i, "k": [1.5, None]}}
        for i, text in enumerate(texts)
    ]
    for ascii_only in (True, False):
        path.write_text("".join(json.dumps(r, ensure_ascii=ascii_only) + "\n" for r in records), "utf-8")
        monkeypatch.setattr(dolma_jsonl._Scanned, "_closer", lambda *_: pytest.fail("left to the library"))
        assert [r["text"] for r in rows(path)[0]] == texts
