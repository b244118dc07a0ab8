"""Quality and PII columns against the dolma toolkit's own taggers on real documents that are installed here.

`tests/oracles/dolma_golden.py` ran the toolkit and wrote its values by text hash. Whatever differs must be the effect
of a listed defect of the toolkit: each has a predicate below.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from olmo_core.curation import pii, quality
from tests.oracles.dolma_golden import unpacked_spans
from tests.oracles.environment_documents import environment_documents

GOLDEN = Path(__file__).parents[1] / "golden" / "dolma_taggers.json.gz"
PII = "pii_regex_with_counts_fast_v2"
KINDS = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IP_ADDRESS": "ip"}

Span = tuple[int, int, str]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return values


@pytest.fixture(scope="module")
def texts(golden: dict[str, Any]) -> dict[str, str]:
    """Texts by hash. Other versions of a few packages may be installed, not of most."""
    found = {d.key: d.text for d in environment_documents() if d.key in golden["documents"]}
    assert len(found) >= 1000, f"only {len(found)} of {len(golden['documents'])} golden documents are installed here"
    return found


def column(texts: dict[str, str]) -> pa.LargeStringArray:
    return pa.array(texts.values(), pa.large_string())


def toolkit_values(golden: dict[str, Any], tagger: str, key: str) -> dict[str, Any]:
    return dict(zip(golden["attributes"][tagger], golden["documents"][key][tagger], strict=True))


def byte_spans(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn code points into bytes."""
    if text.isascii():
        return spans
    places = list(accumulate((len(character.encode()) for character in text), initial=0))
    return [(places[start], places[end]) for start, end in spans]


def lower_case_drifts(text: str) -> bool:
    """Defect: `c4_v2` measures spans in `text.lower()`, which differs in length (dolma.md 2.3)."""
    return len(text.lower()) != len(text)


def test_gopher_values_are_equal(golden: dict[str, Any], texts: dict[str, str]) -> None:
    ours = quality.tag(column(texts), quality.QualityRecipe(c4=False)).to_pylist()
    for (key, text), row in zip(texts.items(), ours, strict=True):
        for name, value in toolkit_values(golden, "gopher_v1", key).items():
            ours_name = "gopher_" + re.sub(r"(most_common_\dgram)s", r"\1", name)
            # the toolkit has no value for n-grams of a text with fewer than n words
            assert row[ours_name] == (0.0 if value is None else value), (text[:80], name)


def test_c4_values_are_equal(golden: dict[str, Any], texts: dict[str, str]) -> None:
    words = tuple(golden["naughty_words"])
    ours = quality.tag(column(texts), quality.QualityRecipe(gopher=False), naughty_words=words).to_pylist()
    drifted = 0
    for (key, text), row in zip(texts.items(), ours, strict=True):
        values = toolkit_values(golden, "c4_v2", key)
        for name in ("has_curly_brace", "has_lorem_ipsum", "has_javascript", "has_naughty_word"):
            assert row[f"c4_{name}"] == bool(values[name]), (text[:80], name)
        assert row["c4_line_count"] == values["line_count"][0]
        for name in ("lines_with_no_ending_punctuation", "lines_with_too_few_words"):
            theirs = unpacked_spans(values[name])
            assert row[f"c4_{name}"] == len(theirs)
            if lower_case_drifts(text):
                drifted += 1
            else:
                spans = [(span["start"], span["end"]) for span in row[f"c4_{name}_spans"]]
                assert spans == byte_spans(text, theirs), (text[:80], name)
    assert drifted < 0.01 * len(texts)


def toolkit_pii(golden: dict[str, Any], key: str, text: str) -> list[Span]:
    values = toolkit_values(golden, PII, key)
    spans = [(*span, kind) for name, kind in KINDS.items() for span in byte_spans(text, unpacked_spans(values[name]))]
    assert len(spans) == values["doc_count"][0]
    return sorted(spans)


def our_pii(texts: dict[str, str], recipe: pii.PiiRecipe) -> list[list[Span]]:
    rows = pii.tag(column(texts), recipe)["pii_spans"].to_pylist()
    return [[(span["start"], span["end"], span["kind"]) for span in row] for row in rows]


def test_compatible_pii_spans_are_equal(golden: dict[str, Any], texts: dict[str, str]) -> None:
    ours = our_pii(texts, pii.PiiRecipe(definition="dolma_compatible"))
    theirs = [toolkit_pii(golden, key, text) for key, text in texts.items()]
    assert [sorted(spans) for spans in ours] == theirs
    kinds = Counter(kind for spans in theirs for _, _, kind in spans)
    assert all(kinds[kind] > 15 for kind in pii.KINDS), kinds


LOGIN = re.compile(r"://[\w.%+:-]*@")
ADDRESS = re.compile(r"[\w.%+-]+@[\w-]+(\.[\w-]+)*\.[^\W\d_]{2,}(?!\w|@|:\w|\(\S)")
VERSION_BEFORE = re.compile(
    r"(?i)((version|ver|release|rev|revision|section)s?[_.]*[ :='\"(]*|[=<>~!]= ?|[\w.^~]|[a-z][-/])$"
)
NOBODY = re.compile(r"(0|127|255)\.")


def false_hit(kind: str, before: str, span: str, after: str) -> str:
    """Name the defect that makes the toolkit report a span that is none of ours; empty when there is none."""
    if kind == "email":
        if not ADDRESS.search(span + after[:2]):
            return "whatever stands around an @ is an address if a dot follows somewhere"
        return "the login of a URL is no address" if LOGIN.search(before + span) else ""
    if kind == "phone":
        digits = re.sub(r"\D", "", span)
        if before[-1:].isdigit() or after[:1].isalnum() or re.match(r"[.-]\d", after):
            return "part of a longer number or word"
        if re.search(r"\d{3}\.\d{7}$", span):
            return "a decimal number"
        return "no area code begins so" if span.strip() == digits and digits[0] in "01" else ""
    if VERSION_BEFORE.search(before):
        return "a version, section or longer number"
    if re.match(r"\w|\.\w|-[^\W\d_]", after):
        return "a version or longer number"
    return "this host, loopback or a mask" if NOBODY.match(span) else ""


def missed_hit(kind: str, before: str, span: str, after: str) -> str:
    """Name the defect that makes the toolkit miss a span of ours; empty when there is none."""
    if kind == "email" and not re.match(r"[.\s@,?!;:)(]?\s", after):
        return "an address must be followed by white space"
    if kind == "phone":
        if span.startswith("+") or not re.search(r"[^\S\n]\(?$", before):
            return "a phone must follow white space in its line"
        if re.match(r"1[-. (]", span):
            return "a phone must follow white space: the 1 before it is not seen"
    return ""


def test_fixed_pii_spans_differ_only_by_listed_defects(golden: dict[str, Any], texts: dict[str, str]) -> None:
    ours = our_pii(texts, pii.PiiRecipe())
    reasons: Counter[str] = Counter()
    for (key, text), mine in zip(texts.items(), ours, strict=True):
        theirs = toolkit_pii(golden, key, text)
        data = text.encode()

        def explain(span: Span, others: list[Span], cause: Any, data: bytes = data) -> str:
            start, end, kind = span
            if any(kind == other and start < last and first < end for first, last, other in others):
                return "same"
            parts = (data[max(0, start - 60) : start], data[start:end], data[end : end + 20])
            decoded = [part.decode(errors="ignore") for part in parts]
            reason: str = cause(kind, *decoded)
            assert reason, (kind, decoded)
            return f"{kind}: {reason}"

        reasons.update(explain(span, mine, false_hit) for span in theirs)
        reasons.update(explain(span, theirs, missed_hit) for span in mine)
    assert reasons["same"] > 200, reasons
