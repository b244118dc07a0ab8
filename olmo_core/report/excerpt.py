"""Excerpts: the telling parts of a text, cut at character boundaries, with the spans that lie in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["pii", "word", "sentence", "line", "mask", "cut", "shared"]
"""Personal data, hit of a word list, sentence of a classifier, line with a C4 fault; replaced, removed by mixing; shared
with an evaluation item."""

MOST_SPANS = 400
"""Spans of one excerpt that are looked at; a page of lists has thousands of faulty lines."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Bytes `[start, end)` of a text and what they are."""

    start: int
    end: int
    kind: Kind
    note: str = ""
    """Which kind of personal data, entry of the list, score; for `mask` what stands there in the corpus."""


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Parts of a text in order; between two of them something is left out."""

    size: int
    """Bytes of the whole text."""
    pieces: tuple[tuple[int, bytes], ...]
    """Where each part begins, and its bytes: whole characters."""
    spans: tuple[Span, ...]


def excerpt(text: bytes, spans: Sequence[Span], most: int = 1600, around: int = 160) -> Excerpt:
    """Return the beginning of a text and what surrounds its spans, about `most` bytes in all.

    Spans that say most come first: lines with a C4 fault, which nearly every text has, ask for no room of their own.
    """
    spans = [s for s in spans if 0 <= s.start < s.end <= len(text)][:MOST_SPANS]
    telling = [s for s in spans if s.kind != "line"]
    # Less of the beginning, so that what tells is seen without scrolling.
    windows = [(0, most // 4 if telling else most)]
    room = most - windows[0][1]
    for span in telling:
        if any(low <= span.start and span.end <= high for low, high in windows):
            continue
        if room <= 0:
            break
        window = (max(0, span.start - around), min(span.end, span.start + around) + around)
        windows.append(window)
        room -= window[1] - window[0]
    pieces = [(start, text[start:end]) for start, end in _aligned(text, _joined(windows))]
    return Excerpt(size=len(text), pieces=tuple(pieces), spans=tuple(spans))


def _joined(windows: Sequence[tuple[int, int]], gap: int = 80) -> Iterator[tuple[int, int]]:
    """Yield windows in order, those that overlap or nearly touch as one."""
    low, high = -1, -1
    for start, end in sorted(windows):
        if low >= 0 and start <= high + gap:
            high = max(high, end)
            continue
        if low >= 0:
            yield low, high
        low, high = start, end
    yield low, high


def _aligned(text: bytes, windows: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in windows:
        yield boundary(text, start), boundary(text, end)


def boundary(text: bytes, position: int) -> int:
    """Return the last character boundary of a UTF-8 text at or before a position."""
    position = min(position, len(text))
    while 0 < position < len(text) and text[position] & 0xC0 == 0x80:
        position -= 1
    return position


def segments(start: int, piece: bytes, spans: Sequence[Span]) -> Iterator[tuple[bytes, tuple[Span, ...]]]:
    """Yield the parts of a piece between the ends of spans, each with all spans that cover it."""
    end = start + len(piece)
    here = sorted((s for s in spans if s.start < end and s.end > start), key=lambda s: (s.start, -s.end))
    places = sorted({start, end, *(p for s in here for p in (s.start, s.end) if start < p < end)})
    for low, high in zip(places, places[1:], strict=False):
        yield piece[low - start : high - start], tuple(s for s in here if s.start <= low and s.end >= high)
