"""The PII tagger against slow readings of both definitions, by examples, and measured on labelled texts."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.curation.pii import KINDS, MASKS, SPANS, VERSION, PiiRecipe, tag
from olmo_core.curation.spans import Edit, merge, rewrite
from tests.curation.pii_reference import email_spans, number_spans, toolkit_spans

LABELLED = Path(__file__).parents[1] / "golden" / "pii_labelled.jsonl"
FIXED = PiiRecipe()
COMPATIBLE = PiiRecipe(definition="dolma_compatible")

Span = tuple[int, int, str]


def spans_of(texts: list[str], recipe: PiiRecipe) -> list[list[Span]]:
    """Tag, check the invariants of every batch, and return `(start, end, kind)` of each row."""
    batch = tag(pa.array(texts, pa.large_string()), recipe)
    batch.validate(full=True)
    assert batch.schema.names == ["pii_spans", "pii_count", *(f"pii_{kind}_count" for kind in KINDS)]
    assert batch.schema.field("pii_spans").type == SPANS
    assert all(batch.schema.field(name).type == pa.int32() for name in batch.schema.names[1:])
    rows = [[(span["start"], span["end"], span["kind"]) for span in row] for row in batch["pii_spans"].to_pylist()]
    for row, text, counts in zip(rows, texts, batch.drop_columns("pii_spans").to_pylist(), strict=True):
        found = Counter(kind for _, _, kind in row)
        assert counts == {"pii_count": len(row), **{f"pii_{kind}_count": found[kind] for kind in KINDS}}
        assert row == sorted(row)
        for start, end, _ in row:
            text.encode()[start:end].decode()
    return rows


def found(text: str, recipe: PiiRecipe = FIXED) -> list[str]:
    return [text.encode()[start:end].decode() for start, end, _ in spans_of([text], recipe)[0]]


def emails_of(texts: list[str]) -> list[list[Span]]:
    return [[span for span in row if span[2] == "email"] for row in spans_of(texts, FIXED)]


PIECES = {
    "toolkit": [*"@@@...  \n((),,?:;-1234567890ab\t\r\x1c\xa0é٣漢+_", "555", "1.2.3.4", "256", "@b.c ", " 555-123-4567"],
    "numbers": [*"  .-+()1234567890\n:=/,xa_v", "555", "123", "4567", "(555)", "+1 ", "+44", "ext", "version ", "==",
                "1.2.3.4", "10.0.", "255", "127", " 555-123-4567", "section: "],
    "emails": [*"@@.. -_+%:/~(),<>aAbZ019\n", "ab", "com", "xn--", "//", "user", "@b.co", "a@", "x:"],
}  # fmt: skip


def texts_of(name: str) -> st.SearchStrategy[list[str]]:
    """Batches of texts put together from pieces that are parts of addresses and numbers."""
    return st.lists(st.lists(st.sampled_from(PIECES[name]), max_size=30).map("".join), max_size=30)


@settings(deadline=None)
@given(texts_of("toolkit"))
def test_compatible_spans_equal_the_toolkits_patterns(texts: list[str]) -> None:
    assert spans_of(texts, COMPATIBLE) == [toolkit_spans(text) for text in texts]


@settings(deadline=None)
@given(texts_of("numbers"))
def test_fixed_phones_and_addresses_equal_the_slow_reading(texts: list[str]) -> None:
    assert spans_of(texts, FIXED) == [number_spans(text) for text in texts]


@settings(deadline=None)
@given(texts_of("emails"))
def test_fixed_emails_equal_the_slow_reading(texts: list[str]) -> None:
    assert emails_of(texts) == [email_spans(text) for text in texts]


def test_twenty_thousand_texts_of_each_sort_equal_the_slow_reading() -> None:
    """What hypothesis seldom meets: corners that need four or five pieces in a row."""
    chance = random.Random(20261121)
    for name in PIECES:
        texts = ["".join(chance.choices(PIECES[name], k=chance.randint(2, 25))) for _ in range(20_000)]
        if name == "toolkit":
            assert spans_of(texts, COMPATIBLE) == [toolkit_spans(text) for text in texts]
        elif name == "numbers":
            assert spans_of(texts, FIXED) == [number_spans(text) for text in texts]
        else:
            assert emails_of(texts) == [email_spans(text) for text in texts]


@settings(deadline=None)
@given(texts_of("toolkit"))
def test_fixed_spans_do_not_overlap_and_masking_leaves_none(texts: list[str]) -> None:
    rows = spans_of(texts, FIXED)
    assert all(before[1] <= after[0] for row in rows for before, after in pairwise(row))
    column = pa.array(texts, pa.large_string())
    masked = rewrite(column, merge(Edit(spans=tag(column, FIXED)["pii_spans"], replacement=MASKS)))
    assert all(mask.count("|||") == 2 * len(row) for mask, row in zip(masked.to_pylist(), rows, strict=True))


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("write to a.b+c@d-e.co.uk", ["a.b+c@d-e.co.uk"]),
        ("(a@b.org), <c@d.org>. e@f.org!", ["a@b.org", "c@d.org", "e@f.org"]),
        ("'a@b.org' \"c@d.org\" [e@f.org](mailto:g@h.org)", ["a@b.org", "c@d.org", "e@f.org", "g@h.org"]),
        ("a@b.org.", ["a@b.org"]),
        ("a@b.org-c@d.org", ["a@b.org", "c@d.org"]),
        ("jürgen@müller.example 電郵a@b.tw。иван@почта.рф", ["jürgen@müller.example", "a@b.tw", "иван@почта.рф"]),
        ("a@xn--bcher-kva.xn--p1ai", ["a@xn--bcher-kva.xn--p1ai"]),
        ("10.0.0.1@b.org root@10.0.0.1", ["10.0.0.1@b.org", "10.0.0.1"]),
        ("a@b a@b.c a@1.2 git@host.org:path https://u:p@host.org x@y.dot(z) @a.b", []),
        ("a" * 64 + "@b.org", ["a" * 64 + "@b.org"]),
        ("a" * 65 + "@b.org", []),
        ("a@" + "b." * 125 + "orgs", ["a@" + "b." * 125 + "orgs"]),
        ("a@" + "b." * 126 + "orgs", []),
        ("555-123-4567", ["555-123-4567"]),
        ("\n(555) 123-4567\n555.123.4567\n", ["(555) 123-4567", "555.123.4567"]),
        ("(555-123-4567) Tel:555 123 4567x8", ["555-123-4567", "555 123 4567"]),
        ("(555) - 123-4567 (555) -- 123-4567", ["(555) - 123-4567"]),
        ("1-800-555-0199 +1 (555) 123-4567", ["1-800-555-0199", "+1 (555) 123-4567"]),
        ("+44 (0)20 7946 0958, +358401234567.", ["+44 (0)20 7946 0958", "+358401234567"]),
        ("+44 20 7946 0958 2020", ["+44 20 7946 0958"]),
        ("5551234567 5551234567890 1609459200 123.4567890 555-123-45678 id=5551234567", ["5551234567"]),
        ("٥٥٥-١٢٣-٤٥٦٧", ["٥٥٥-١٢٣-٤٥٦٧"]),
        ("10.0.0.1 203.0.113.7:80 http://198.51.100.7/x 10.0.0.1-10.0.0.9",
         ["10.0.0.1", "203.0.113.7", "198.51.100.7", "10.0.0.1", "10.0.0.9"]),
        ("v1.2.3.4 version 1.2.3.4 ==1.2.3.4 == 1.2.3.4 a-1.2.3.4.tar 1.2.3.4.5 1.2.3.4-rc1 Opera/1.2.3.4", []),
        ("999.1.1.1 1.1.1.999 256.1.1.1 127.0.0.1 0.0.0.0 255.255.255.0", []),
        ("ip=10.1.2.3, gateway = 10.1.2.4", ["10.1.2.3", "10.1.2.4"]),
        ("\0 a@b.org \0", ["a@b.org"]),
        ("", []),
    ],
)  # fmt: skip
def test_fixed_definition_by_example(text: str, spans: list[str]) -> None:
    assert found(text) == spans


def test_compatible_definition_keeps_the_toolkits_defects() -> None:
    assert found("a@b.org", COMPATIBLE) == []
    assert found("Mail (a@b.org) now", COMPATIBLE) == [" (a@b.org) "]
    assert found("a@b. a@b.c. ", COMPATIBLE) == ["a@b.c. "]
    assert found("555-123-4567 x 5551234567890", COMPATIBLE) == [" 5551234567"]
    assert found("v1.2.3.4 999.1.1.1", COMPATIBLE) == ["1.2.3.4", "99.1.1.1"]
    assert found("10.0.0.1 " + "?" * 10_001, COMPATIBLE) == []
    assert found("10.0.0.1 " + "?" * 10_001) == ["10.0.0.1"]


def test_more_spans_than_room_for_them() -> None:
    text = "a@b.org " * 20_000
    assert spans_of([text, "", text], FIXED) == [
        [(8 * i, 8 * i + 7, "email") for i in range(n)] for n in (20_000, 0, 20_000)
    ]


def test_rows_are_independent_and_slices_allowed() -> None:
    texts = ["call 555-123-", "4567", "a@", "b.org", "1.2.", "3.4", " 555-123-4567"]
    column = pa.array(texts, pa.large_string())
    for recipe in (FIXED, COMPATIBLE):
        together = tag(column, recipe)
        assert tag(column.slice(2, 5), recipe).equals(together.slice(2, 5))
        assert together["pii_count"].to_pylist() == [0, 0, 0, 0, 0, 0, 1]
    assert tag(pa.array([], pa.large_string()), FIXED).num_rows == 0


@pytest.mark.parametrize(
    "piece", ["a", "@", "a@", ".@", " ", "(", "1", "1.", "123 ", "123-", "+1 ", "a.", "1 (555) ", "é"]
)
def test_time_is_linear_in_the_text(piece: str) -> None:
    """3 MB of what makes the toolkit's patterns need quadratic time (0.1 s for 20 kB of `a`, hours for this)."""
    text = piece * (3_000_000 // len(piece)) + "@b.org "
    column = pa.array([text], pa.large_string())
    for recipe in (FIXED, COMPATIBLE):
        tag(column.slice(0, 0), recipe)
        started = time.process_time()
        tag(column, recipe)
        assert time.process_time() - started < 5


def matches(recipe: PiiRecipe) -> dict[str, tuple[int, int, int]]:
    """Return `(right, false, missed)` by kind on the labelled texts; a span is right when it overlaps a labelled one."""
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    right, false, missed = Counter[str](), Counter[str](), Counter[str]()
    for row, ours in zip(rows, spans_of([row["text"] for row in rows], recipe), strict=True):
        data = row["text"].encode()
        labelled = []
        for kind, part in row["spans"]:
            assert data.count(part.encode()) == 1, row
            labelled.append((data.index(part.encode()), data.index(part.encode()) + len(part.encode()), kind))
        for start, end, kind in labelled:
            hit = any(kind == other and start < last and first < end for first, last, other in ours)
            (right if hit else missed)[kind] += 1
        for start, end, kind in ours:
            false[kind] += not any(kind == other and start < last and first < end for first, last, other in labelled)
        if recipe == FIXED:
            overlapping = [a for a in ours for b in labelled if a[2] == b[2] and a[0] < b[1] and b[0] < a[1]]
            assert set(overlapping) <= set(labelled), row
    return {kind: (right[kind], false[kind], missed[kind]) for kind in KINDS}


def test_precision_and_recall_on_labelled_texts(record_property: Callable[[str, object], None]) -> None:
    """91 hand-labelled texts; they were chosen to be hard, so the numbers compare definitions, not describe the web."""
    scores = {}
    for recipe in (FIXED, COMPATIBLE):
        counts = matches(recipe)
        counts["all"] = tuple(sum(column) for column in zip(*counts.values(), strict=True))
        for kind, (right, false, missed) in counts.items():
            scores[recipe.definition, kind] = right / (right + false), right / (right + missed)
            record_property(f"{recipe.definition} {kind} precision, recall", scores[recipe.definition, kind])
    for kind in (*KINDS, "all"):
        ours, theirs = scores["fixed", kind], scores["dolma_compatible", kind]
        assert ours[0] > theirs[0], (kind, scores)
        assert ours[1] >= theirs[1], (kind, scores)
    assert scores["fixed", "all"][0] > 0.95, scores
    assert scores["fixed", "all"][1] > 0.95, scores
    assert scores["dolma_compatible", "all"][0] < 0.65, scores
    assert scores["dolma_compatible", "all"][1] < 0.60, scores


def test_output_has_not_changed_without_a_new_version() -> None:
    texts = [json.loads(line)["text"] for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    rows = [spans_of(texts, recipe) for recipe in (FIXED, COMPATIBLE)]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    assert (VERSION, digest) == (1, "f5494d8a12b379e3")
