"""The framing of WARC files: every record once, bad ones with their fault, and the next one found again."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from olmo_core.documents.warc_records import MOST_HEADER, WarcRecord, warc_record_stream
from olmo_core.errors import InputError
from tests.documents.warc_files import minimal_records, record


def read(data: bytes, *, piece: int = 1 << 20, ends_checked: bool = False, hold: int = 1 << 30) -> list[WarcRecord]:
    pieces = (data[i : i + piece] for i in range(0, len(data), piece))
    return list(warc_record_stream(pieces, "x.warc", ends_checked=ends_checked, hold=lambda _: hold))


def joined(*records: bytes) -> bytes:
    return b"".join(one + b"\r\n\r\n" for one in records)


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"", b"\r\n\r\n", b"a\nWARC/1.0\r\nb"]), max_size=6),
    st.integers(1, 700),
)
def test_sound_records_come_out_as_they_are_whatever_they_hold_and_however_they_come_in(
    blocks: list[bytes], piece: int
) -> None:
    data = joined(*(record(content, "resource", n) for n, content in enumerate(blocks)))
    found = read(data, piece=piece)
    assert [r.fault for r in found] == [None] * len(blocks)
    assert [r.block for r in found] == blocks
    assert [r.number for r in found] == list(range(1, len(blocks) + 1))
    for one in found:
        assert data[one.offset : one.offset + one.size] == record(one.block, "resource", one.number - 1)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=5), st.data())
def test_one_wrong_length_costs_one_record_and_no_other(sizes: list[int], data: st.DataObject) -> None:
    """Too long or too short, the records before and behind it are found; it is not."""
    blocks = [bytes([97 + n]) * size for n, size in enumerate(sizes)]
    bad = data.draw(st.integers(0, len(blocks) - 1))
    # What ends in the blank lines behind this block, or behind a later one, looks whole: only a digest can notice that.
    sizes_behind = [len(record(b, "resource", n)) for n, b in enumerate(blocks) if n > bad]
    ends = list(itertools.accumulate(sizes_behind, initial=len(blocks[bad])))
    wrong = data.draw(st.integers(0, 2000).filter(lambda n: not any(0 <= n - end <= 4 for end in ends)))
    written = [
        record(content, "resource", n, **({"Content_Length": str(wrong)} if n == bad else {}))
        for n, content in enumerate(blocks)
    ]
    found = read(joined(*written), ends_checked=True)
    assert [r.block for r in found if r.fault is None] == [b for n, b in enumerate(blocks) if n != bad]
    assert len([r for r in found if r.fault]) == 1


def test_a_plain_file_that_ends_within_a_record_is_an_error_and_a_compressed_one_has_a_bad_record() -> None:
    data = joined(record(b"one", "resource", 1), record(b"two" * 100, "resource", 2))
    for cut in (data[:-60], data[: len(data) - 5]):
        with pytest.raises(
            InputError, match=r"x\.warc: ends \d+ bytes before record 2 \(at byte \d+\) does.*Get the file again"
        ):
            read(cut)
        first, second = read(cut, ends_checked=True)
        assert first.block == b"one" and first.fault is None
        assert second.fault is not None and "but the file ends after" in second.fault


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record(b"x", Content_Length=None), "has no Content-Length"),
        (record(b"x", Content_Length="-5"), "Content-Length is '-5'"),
        (record(b"x", Content_Length="1_0"), "Content-Length is '1_0'"),
        (record(b"x", Content_Length="9" * 30), "Content-Length is '999"),
        (record(b"x").replace(b"WARC/1.0", b"WARC/9.9"), "version is 'WARC/9.9'"),
        (record(b"x", Long="y" * MOST_HEADER), f"no end within {MOST_HEADER}"),
        (b"WARC/1.0\r\n\x00\xff\xfe", "has no"),
    ],
)
def test_a_record_that_cannot_be_read_has_a_fault_and_the_next_one_is_read(bad: bytes, said: str) -> None:
    first, broken, last = read(joined(record(b"one", n=1), bad, record(b"three", n=3)))
    assert (first.block, last.block) == (b"one", b"three")
    assert broken.fault is not None and said in broken.fault
    assert broken.raw == (bad + b"\r\n\r\n")[: len(broken.raw)]


def test_a_length_of_a_terabyte_holds_no_memory_and_loses_nothing() -> None:
    bad = record(b"short", n=1, Content_Length=str(10**12))
    found = read(joined(bad, record(b"two", n=2)), ends_checked=True, hold=100)
    assert found[0].fault is not None
    assert len(found[0].block) == 0


def test_only_what_is_held_is_kept_of_a_large_block() -> None:
    (one,) = read(joined(record(b"z" * 50_000_000, n=1)), hold=10)
    assert (one.block, one.length, one.fault) == (b"z" * 10, 50_000_000, None)


@pytest.mark.parametrize(
    "data", [b"plain text\n" * 10, b'{"id": "1"}\n', b"filedesc://a.arc 0.0.0.0 20000101 text/plain 76\n"]
)
def test_what_is_no_warc_file_is_an_error(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.warc: is no WARC file: it begins with"):
        read(data)


def test_no_bytes_are_no_records() -> None:
    assert read(b"") == read(b"\r\n\r\n") == []


def test_bare_newlines_and_more_blank_lines_are_taken() -> None:
    lenient = record(b"one", n=1).replace(b"\r\n", b"\n") + b"\n" * 40 + record(b"two", n=2)
    assert [(r.block, r.fault) for r in read(lenient)] == [(b"one", None), (b"two", None)]


def by_warcio(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    for one in ArchiveIterator(io.BytesIO(data), no_record_parse=True):
        yield one.rec_type, one.rec_headers.get_header("WARC-Record-ID"), one.raw_stream.read()


def test_real_files_as_warcio_and_as_a_minimal_parser_read_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "web").glob("*.warc.gz")):
        data = gzip.decompress(path.read_bytes())
        found = [(r.header("WARC-Type"), r.header("WARC-Record-ID"), r.block) for r in read(data)]
        assert found == list(by_warcio(path.read_bytes()))
        assert [b for _, _, b in found] == [b for _, b in minimal_records(data)]
        assert len(found) > 30
