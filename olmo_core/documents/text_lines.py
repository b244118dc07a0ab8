"""Lines of a byte stream one by one, for files that are small or read as text: evaluation sets, lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from olmo_core.documents.schema import RAW_BYTES

_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line without its newline; `data` is cut to `RAW_BYTES` when the line is too long (`size` is its real length)."""

    number: int
    offset: int
    size: int
    data: bytes
    ended: bool


def read_lines(pieces: Iterable[bytes], max_bytes: int) -> Iterator[Line]:
    """Split a byte stream at newlines (not at other separators), in one pass and with bounded memory."""
    number, offset, size = 1, 0, 0
    kept: list[bytes] = []  # of a line longer than a piece: joining once keeps a 200 MB line linear in time
    for piece in pieces:
        if number == 1 and offset == 0 and size == 0 and piece.startswith(_BOM):
            piece, offset = piece[len(_BOM) :], len(_BOM)
        *lines, rest = piece.split(b"\n")
        for line in lines:
            if kept:
                size += len(line)
                line = b"".join([*kept, line])
                kept = []
            else:
                size = len(line)
            yield Line(number, offset, size, line if size <= max_bytes else line[:RAW_BYTES], True)
            number, offset, size = number + 1, offset + size + 1, 0
        if rest:
            size += len(rest)
            kept.append(rest)
            if size > max_bytes:
                kept = [b"".join(kept)[: max(RAW_BYTES, 1)]]
    if size:
        yield Line(number, offset, size, b"".join(kept), False)
