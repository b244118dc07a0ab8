"""Plain text files as documents, and Project Gutenberg's books without what is not the book."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

from olmo_core.documents.plain_text import TextSource, gutenberg_book
from olmo_core.documents.reader import read_documents, scan
from olmo_core.errors import InputError, RecipeError

Row = dict[str, Any]


def read(source: TextSource) -> tuple[list[Row], list[Row], dict[str, int]]:
    batches = list(read_documents(source, scan(source)))
    notes: dict[str, int] = {}
    for batch in batches:
        for note, count in batch.notes.items():
            notes[note] = notes.get(note, 0) + count
    documents = [row for b in batches for row in b.documents.to_pylist()]
    return documents, [row for b in batches for row in b.quarantined.to_pylist()], notes


def test_one_file_one_document_named_by_the_file(tmp_path: Path) -> None:
    text = "Erste Zeile\r\nzweite,\tmit U+2028 \u2028 und NUL \0.\n"
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "deep" / "b.txt.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    (tmp_path / "deep" / "c.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(text.encode()))
    documents, quarantined, notes = read(TextSource(name="books", paths=(f"{tmp_path}/**",)))
    assert [d["id"] for d in documents] == ["a.txt", "deep/b.txt.gz", "deep/c.txt.zst"]
    assert [d["text"] for d in documents] == [text] * 3
    assert [json.loads(d["metadata"]) for d in documents] == [{}, {"byte_order_mark": True}, {}]
    assert documents[0] | {"id": "", "text": "", "metadata": ""} == {
        "id": "", "text": "", "source": "books", "added": None, "created": None, "metadata": "",
    }  # fmt: skip
    assert (quarantined, notes) == ([], {"byte order mark removed": 1})


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        ("Überschrift".encode("latin-1"), "invalid_utf8", "byte 0 is not UTF-8 .*iconv"),
        ("text".encode("utf-16"), "invalid_utf8", "iconv"),
        (b"", "empty_text", "the file is empty"),
        (b"\xef\xbb\xbf \n\t", "empty_text", "holds no text"),
        (b"x" * 5_000_001, "too_large", "has 5000001 bytes; max_record_bytes is 5000000"),
    ],
)
def test_a_bad_file_is_quarantined_and_the_others_stay(tmp_path: Path, data: bytes, reason: str, said: str) -> None:
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_bytes(data)
    (tmp_path / "c.txt").write_text("good too")
    documents, (row,), _ = read(TextSource(name="t", paths=(f"{tmp_path}/*.txt",), max_record_bytes=5_000_000))
    assert [d["id"] for d in documents] == ["a.txt", "c.txt"]
    assert (row["file"], row["position"], row["byte_offset"], row["size"]) == ("b.txt", 1, 0, len(data))
    assert row["reason"] == reason and re.search(said, row["detail"])
    assert row["raw"] == data[:1000]


def test_a_file_that_is_too_large_is_read_to_its_end_so_that_damage_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"word " * 2_000_000)[:-9])
    with pytest.raises(InputError, match="gzip data is truncated"):
        read(TextSource(name="t", paths=(f"{tmp_path}/a.txt.gz",), max_record_bytes=10))


def test_a_limit_that_no_file_can_keep_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="max_record_bytes 0"):
        TextSource(name="t", max_record_bytes=0)


NEW = "The Project Gutenberg eBook of X\n\nTitle: X\n\n*** START OF THE PROJECT GUTENBERG EBOOK X, OR\nTHE LONG TITLE ***\n"
OLD = "Project Gutenberg Etext of X\n\n**Small print**\n*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NEW, "\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nlicence\n"),
        (NEW + "\nProduced by A. Person and\nanother one\n\n", "\n\nEnd of the Project Gutenberg EBook of X\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n"),
        (OLD, "\nEnd of Project Gutenberg's X\n"),
        (OLD, ""),
        ("", "\n\nEnd of The Project Gutenberg Etext of X\n"),
        (NEW.replace("\n", "\r\n") + "\r\n", "\r\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\r\n"),
    ],
)  # fmt: skip
def test_what_stands_around_a_book_is_cut(before: str, after: str) -> None:
    book = (
        "CHAPTER ONE\n\nProduced by chance, *** it *** was the end of the\nProject Gutenberg of his dreams.\n\nTHE END"
    )
    assert gutenberg_book(before + book + after) == book


def test_a_text_without_marks_stays_whole(tmp_path: Path) -> None:
    assert gutenberg_book("Just a text.") is None
    (tmp_path / "a.txt").write_text("Just a text.")
    documents, _, notes = read(TextSource(name="t", paths=(f"{tmp_path}/a.txt",), strip="gutenberg"))
    assert documents[0]["text"] == "Just a text."
    assert notes == {"no marks of Project Gutenberg": 1}


def test_real_books(shared_data: Path) -> None:
    whole, _, _ = read(TextSource(name="books", paths=(f"{shared_data}/books/*.txt",)))
    stripped, _, _ = read(TextSource(name="books", paths=(f"{shared_data}/books/*.txt",), strip="gutenberg"))
    assert [d["id"] for d in whole] == [d["id"] for d in stripped] == ["15122.txt", "972.txt"]
    assert [d["text"].split("\r\n")[0] for d in stripped] == ["THE LITTLE COLONEL'S HERO", "THE DEVIL'S DICTIONARY"]
    assert [d["text"].rpartition("\r\n")[2] for d in stripped] == [
        "THE MINUTE BOYS OF YORKTOWN",
        "Nature_) that the domestic cow sheds its horn every two years.",
    ]
    for one, whole_one in zip(stripped, whole, strict=True):
        assert "Project Gutenberg" not in one["text"] and "Gutenberg" in whole_one["text"]
        assert one["text"] in whole_one["text"]
        assert len(one["text"]) > 0.93 * len(whole_one["text"])
