"""Documents from plain text files, one each: books, and whatever else lies about as .txt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from olmo_core.documents.files import SourceFile
from olmo_core.documents.record import Document, Parsed, Place, Rejection, canonical_json
from olmo_core.documents.schema import RAW_BYTES, Reason
from olmo_core.documents.streams import HashedFile, decompressed
from olmo_core.errors import RecipeError

_START = re.compile(
    r"^\*{3} ?START OF (?:THIS|THE) PROJECT GUTENBERG[^*]{0,400}\*{3}[ \t\r]*$", re.MULTILINE | re.IGNORECASE
)
_SMALL_PRINT = re.compile(r"^\*END ?\*? ?THE SMALL PRINT![^\n]*$", re.MULTILINE)
"""What files of before 2003 have instead; it can stand at either end."""
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THIS|THE) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg(?:['’]s)?\b)",
    re.MULTILINE | re.IGNORECASE,
)
_CREDITS = re.compile(
    r"\s*(?:Produced|E-?text prepared|Transcribed|This e-?text was (?:produced|prepared)|This e-?book was (?:produced|prepared))"
    r"\b(?:[^\n]*\S[^\n]*(?:\n|$))+",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Documents from plain text files in UTF-8 (also .gz, .zst, .bz2, .xz); the id is the file's name."""

    kind: Literal["text"] = "text"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names, and so the ids, are relative to it; by default the longest folder all paths share. Not part of the
    identity."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""
    strip: Literal["none", "gutenberg"] = "none"
    """`gutenberg` cuts what Project Gutenberg puts before and behind a book; a file without its marks stays whole."""
    max_record_bytes: int = 1 << 30
    """Larger files (decompressed) are quarantined and never held in memory as a whole."""

    def __post_init__(self) -> None:
        """Raise RecipeError for a limit that no file can keep."""
        if self.max_record_bytes < 1:
            raise RecipeError(f"source {self.name!r}: max_record_bytes {self.max_record_bytes}: give at least 1")


def text_records(source: TextSource, file: SourceFile, stream: HashedFile) -> Iterator[tuple[Place, Parsed]]:
    """Yield the one document of a file, or why it holds none.

    Raises InputError when compressed data is truncated or damaged.
    """
    size = 0
    kept: list[bytes] = []
    for piece in decompressed(stream, file.name):
        size += len(piece)
        if size <= source.max_record_bytes:
            kept.append(piece)
        elif len(kept) > 1:
            del kept[1:]  # the first is for the quarantine
    data = b"".join(kept)
    yield Place(1, 0, size, data[:RAW_BYTES]), _parse(source, file, data, size)


def _parse(source: TextSource, file: SourceFile, data: bytes, size: int) -> Parsed:
    if size > source.max_record_bytes:
        return Rejection(Reason.TOO_LARGE, f"the file has {size} bytes; max_record_bytes is {source.max_record_bytes}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return Rejection(
            Reason.INVALID_UTF8, f"byte {error.start} is not UTF-8 ({error.reason}); `iconv -t UTF-8` converts a file"
        )
    told: dict[str, Any] = {}
    notes: list[str] = []
    if text.startswith("\ufeff"):
        text = text[1:]
        told["byte_order_mark"] = True
        notes.append("byte order mark removed")
    if source.strip == "gutenberg":
        book = gutenberg_book(text)
        told["boilerplate_removed"] = book is not None
        notes.append("boilerplate removed" if book is not None else "no marks of Project Gutenberg")
        text = text if book is None else book
    if not text or text.isspace():
        return Rejection(Reason.EMPTY_TEXT, "the file is empty" if not size else "the file holds no text")
    return Document(file.name, text, None, None, canonical_json(told), tuple(notes))


def gutenberg_book(text: str) -> str | None:
    """Return a Project Gutenberg text without licence, notices and credits; None when neither end is marked."""
    start = _START.search(text)
    small_print = _SMALL_PRINT.search(text)
    if start is None and small_print is not None and small_print.start() < len(text) // 2:
        start = small_print
    begin = start.end() if start else 0
    end = _END.search(text, begin)
    if start is None and end is None:
        return None
    book = text[begin : end.start() if end else len(text)]
    credit = _CREDITS.match(book) if start else None
    return (book[credit.end() :] if credit else book).strip("\r\n")
