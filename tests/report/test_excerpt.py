"""Excerpts, marks and comparisons: nothing is lost or torn, whatever the text and wherever the spans."""

from __future__ import annotations

import time

from hypothesis import example, given
from hypothesis import strategies as st

from olmo_core.report.differences import compare
from olmo_core.report.excerpt import Kind, Span, boundary, excerpt, segments
from olmo_core.report.page.elements import name, share, text, value
from olmo_core.report.page.samples import marked
from tests.report.html_checks import Page, text_of

texts = st.text(st.sampled_from("ab é日👩\u0301<&>\"'\n"), max_size=400)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["pii", "word", "sentence", "line"])


@st.composite
def spans_in(draw: st.DrawFn, raw: bytes) -> list[Span]:
    """Spans anywhere, overlapping, nested, empty, also within a character and behind the end."""
    places = st.integers(0, len(raw) + 3)
    found = draw(st.lists(st.tuples(places, places, kinds), max_size=8))
    return [Span(start=min(a, b), end=max(a, b), kind=kind, note="<n>") for a, b, kind in found]


@given(st.data(), texts)
def test_marks_change_no_text(data: st.DataObject, whole: str) -> None:
    raw = whole.encode()
    spans = [
        Span(start=boundary(raw, s.start), end=boundary(raw, s.end), kind=s.kind, note=s.note)
        for s in data.draw(spans_in(raw))
    ]
    shown = marked(excerpt(raw, spans, most=10_000))
    assert Page(shown).faults == []
    assert text_of(shown) == whole
    for span in spans:
        if span.start < span.end:
            inside = whole.encode()[span.start : span.end].decode()
            assert inside in text_of(shown)


@given(st.data(), texts, st.integers(0, 40))
def test_pieces_are_parts_of_the_text_at_character_boundaries(data: st.DataObject, whole: str, most: int) -> None:
    raw = whole.encode()
    spans = data.draw(spans_in(raw))
    found = excerpt(raw, spans, most=most, around=5)
    end = 0
    for start, piece in found.pieces:
        assert start >= end and raw[start : start + len(piece)] == piece
        piece.decode()
        end = start + len(piece)
        assert b"".join(part for part, _ in segments(start, piece, found.spans)) == piece
        for at, (part, covering) in zip(
            _starts(start, piece, found.spans), segments(start, piece, found.spans), strict=True
        ):
            expected = {s for s in found.spans if s.start < at + len(part) and s.end > at}
            assert set(covering) == expected, "a segment has exactly the spans that touch it"
    Page(marked(found))


def _starts(start: int, piece: bytes, spans: tuple[Span, ...]) -> list[int]:
    found = [start]
    for part, _ in segments(start, piece, spans):
        found.append(found[-1] + len(part))
    return found[:-1]


def test_masks_stand_once_where_the_text_was() -> None:
    raw = b"a jane@example.org b"
    mask = Span(start=2, end=18, kind="mask", note="|||EMAIL_ADDRESS|||")
    line = Span(start=0, end=10, kind="line", note="no end")
    assert text_of(marked(excerpt(raw, [mask, line]))) == "a |||EMAIL_ADDRESS||| b"


def test_overlapping_spans_show_all_their_marks() -> None:
    shown = marked(excerpt(b"0123456789", [Span(start=1, end=6, kind="pii"), Span(start=4, end=9, kind="word")]))
    assert shown == (
        '0<mark class="pii" title="">123</mark><mark class="pii word" title="">45</mark>'
        '<mark class="word" title="">678</mark>9'
    )


def test_what_tells_is_shown_wherever_it_stands() -> None:
    raw = b"x " * 50_000 + b"jane@example.org" + b" y" * 50_000
    found = excerpt(raw, [Span(start=100_000, end=100_016, kind="pii")])
    assert any(b"jane@example.org" in piece for _, piece in found.pieces)
    assert sum(len(piece) for _, piece in found.pieces) < 2_000
    many = [Span(start=i * 100, end=i * 100 + 90, kind="sentence") for i in range(1000)]
    assert sum(len(piece) for _, piece in excerpt(raw, many).pieces) < 4_000


words = st.lists(st.sampled_from(["a", "b", "the", "日本", "x" * 100, "<b>"]), max_size=60)


@given(words, words)
@example([], [])
def test_compared_texts_are_whole_and_equal_runs_are_equal(left: list[str], right: list[str]) -> None:
    runs = compare(" ".join(left), "\n".join(right))
    assert "".join(w.strip() for run in runs for w in run.left) == "".join(left)
    assert "".join(w.strip() for run in runs for w in run.right) == "".join(right)
    for run in runs:
        if run.same:
            assert [w.rstrip() for w in run.left] == [w.rstrip() for w in run.right]
    if left == right:
        assert all(run.same for run in runs)


def test_hard_comparisons_end_soon() -> None:
    began = time.process_time()
    compare("a " * 100_000, "a " * 99_999 + "b")
    compare("".join(chr(0x4E00 + i % 5000) for i in range(200_000)), "x" * 200_000)
    compare(" ".join(str(i * 7919 % 1000) for i in range(9000)), " ".join(str(i * 104729 % 1000) for i in range(9000)))
    assert time.process_time() - began < 10


def test_what_is_not_seen_is_named() -> None:
    assert text("a\0b\x7f\u202e\u2028") == (
        'a<i class="c">␀</i>b<i class="c">␡</i><i class="c">U+202E</i><i class="c">U+2028</i>'
    )
    assert text("\u0643\u200c\u0628 👩\u200d👧 \n\t") == "\u0643\u200c\u0628 👩\u200d👧 \n\t", (
        "joiners and white space stay"
    )
    assert name("<" * 500).count("&lt;") == 160


def test_numbers() -> None:
    assert [share(*x) for x in ((0, 0), (0, 5), (1, 100_000), (1, 300), (5, 5), (99_999, 100_000), (1, 3))] == [
        "–", "0.00%", "<0.01%", "0.33%", "100.0%", ">99.99%", "33.3%",
    ]  # fmt: skip
    assert [value(x) for x in (True, None, 1e5, 0.123456, 1234, "x")] == [
        "true",
        "no value",
        "100,000",
        "0.1235",
        "1,234",
        "x",
    ]
