"""Merging and rewriting against slow references that mark every byte, and refusals of spans that do not fit."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.curation.spans import REPLACEMENTS, Edit, merge, rewrite
from olmo_core.errors import IntegrityError

SPANS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64()}))
KIND_SPANS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "kind": pa.string()}))
MASKS = ("", "|||A|||", "é", "|||B|||")


def span_column(rows: list[list[tuple[int, int]]]) -> pa.ListArray:
    return pa.array([[{"start": a, "end": b} for a, b in row] for row in rows], SPANS)


def merged_slowly(spans: list[tuple[int, int, int, str]]) -> list[tuple[int, int, str]]:
    """Merge `(start, end, edit, mask)` of one row: join two overlapping groups until none are left."""
    groups = [[span] for span in spans if span[0] < span[1]]
    joined = True
    while joined:
        joined = False
        for i, group in enumerate(groups):
            for j in range(i + 1, len(groups)):
                if any(a[0] < b[1] and b[0] < a[1] for a in group for b in groups[j]):
                    group += groups.pop(j)
                    joined = True
                    break
            if joined:
                break
    out = []
    for group in groups:
        winner = min(group, key=lambda s: (s[0], -s[1], s[2]))
        mask = "" if any(s[3] == "" for s in group) else winner[3]
        out.append((min(s[0] for s in group), max(s[1] for s in group), mask))
    return sorted(out)


@st.composite
def edited_texts(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, list[list[tuple[int, int]]]]]]:
    """Texts, and edits whose spans lie on character boundaries, with any overlaps, empty ones included."""
    texts = draw(st.lists(st.text(alphabet="ab\0é漢🙂\n", max_size=12), max_size=5))
    edits = []
    for mask in draw(st.lists(st.sampled_from(MASKS), min_size=1, max_size=4)):
        rows = []
        for text in texts:
            bounds = [len(text[:i].encode()) for i in range(len(text) + 1)]
            pairs = draw(st.lists(st.tuples(st.sampled_from(bounds), st.sampled_from(bounds)), max_size=4))
            rows.append([(min(p), max(p)) for p in pairs])
        edits.append((mask, rows))
    return texts, edits


@settings(deadline=None)
@given(edited_texts())
def test_merge_and_rewrite_equal_the_slow_way(
    case: tuple[list[str], list[tuple[str, list[list[tuple[int, int]]]]]],
) -> None:
    texts, edits = case
    merged = merge(*(Edit(spans=span_column(rows), replacement=mask) for mask, rows in edits))
    rewritten = rewrite(pa.array(texts, pa.large_string()), merged)
    rewritten.validate(full=True)
    assert merged.type == REPLACEMENTS
    for i, text in enumerate(texts):
        expected = merged_slowly([(a, b, e, mask) for e, (mask, rows) in enumerate(edits) for a, b in rows[i]])
        assert [(s["start"], s["end"], s["replacement"]) for s in merged[i].as_py()] == expected
        data = text.encode()
        for start, end, mask in reversed(expected):
            data = data[:start] + mask.encode() + data[end:]
        assert rewritten[i].as_py() == data.decode()


@settings(deadline=None)
@given(edited_texts(), st.integers(0, 5), st.integers(0, 5))
def test_slices_of_columns_give_slices_of_the_result(case, first: int, count: int) -> None:  # type: ignore[no-untyped-def]
    texts, edits = case
    column = pa.array(texts, pa.large_string())
    spans = [Edit(spans=span_column(rows), replacement=mask) for mask, rows in edits]
    whole = rewrite(column, merge(*spans))
    sliced = [Edit(spans=e.spans.slice(first, count), replacement=e.replacement) for e in spans]
    assert rewrite(column.slice(first, count), merge(*sliced)).equals(whole.slice(first, count))


def test_masks_by_kind_and_removal_beats_mask() -> None:
    text = "Mail a@b.org or call 555-123-4567 now."
    pii = pa.array([[{"start": 5, "end": 12, "kind": "email"}, {"start": 21, "end": 33, "kind": "phone"}]], KIND_SPANS)
    masks = Edit(spans=pii, replacement={"email": "<E>", "phone": "<P>"})
    column = pa.array([text], pa.large_string())
    assert rewrite(column, merge(masks)).to_pylist() == ["Mail <E> or call <P> now."]
    removal = Edit(spans=span_column([[(15, 24)]]), replacement="")
    assert rewrite(column, merge(masks, removal)).to_pylist() == ["Mail <E> or now."]


def test_touching_spans_stay_apart() -> None:
    edit = Edit(spans=span_column([[(0, 2), (2, 4)]]), replacement="x")
    assert rewrite(pa.array(["abcde"], pa.large_string()), merge(edit)).to_pylist() == ["xxe"]


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([(0, 9)], "ends behind its text"),
        ([(0, 2)], "cuts a character"),
        ([(2, 4)], "cuts a character"),
        ([(3, 1)], "reversed or negative"),
        ([(-1, 1)], "reversed or negative"),
    ],
)
def test_spans_that_do_not_fit_are_refused(spans: list[tuple[int, int]], says: str) -> None:
    texts = pa.array(["fine", "aéb"], pa.large_string())
    with pytest.raises(IntegrityError, match=rf"row 1: .*{says}"):
        rewrite(texts, merge(Edit(spans=span_column([[], spans]), replacement="x")))


def test_columns_of_other_rows_nulls_and_unknown_kinds_are_refused() -> None:
    texts = pa.array(["a", "b"], pa.large_string())
    with pytest.raises(IntegrityError, match="1 lists of spans for 2 texts"):
        rewrite(texts, merge(Edit(spans=span_column([[]]), replacement="")))
    with pytest.raises(IntegrityError, match="edit 1 has spans for 1 rows, not 2"):
        merge(Edit(spans=span_column([[], []]), replacement=""), Edit(spans=span_column([[]]), replacement=""))
    with pytest.raises(IntegrityError, match="null spans"):
        merge(Edit(spans=pa.array([None], SPANS), replacement=""))
    with pytest.raises(IntegrityError, match="null spans"):
        merge(Edit(spans=pa.array([[{"start": None, "end": 1}]], SPANS), replacement=""))
    spans = pa.array([[{"start": 0, "end": 1, "kind": "iban"}]], KIND_SPANS)
    with pytest.raises(IntegrityError, match=r"kinds \['iban'\]"):
        merge(Edit(spans=spans, replacement={"email": "x"}))
    overlapping = pa.array(
        [[{"start": 0, "end": 2, "replacement": ""}, {"start": 1, "end": 3, "replacement": ""}]], REPLACEMENTS
    )
    with pytest.raises(IntegrityError, match="overlaps"):
        rewrite(pa.array(["abc"], pa.large_string()), overlapping)
