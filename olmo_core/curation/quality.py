r"""Quality statistics of documents: the Gopher rules and the C4 rules, as the Dolma toolkit 1.2.1 measures them.

`gopher_*` columns are the attributes of its tagger `gopher_v1` (Rae et al. 2021, appendix A.1.1, in the toolkit's own
reading), `c4_*` those of `c4_v2` (Raffel et al. 2020, section 2.2). Words are `str.split()`, lines `split("\n")`,
lengths code points. Values equal the toolkit's, with three differences, all deliberate:

- most-common n-gram columns are named in the singular, as its mixer configurations expect (the toolkit writes the
  plural, so that its three published filters never fire);
- n-gram columns are 0, not absent, for a text with fewer than n words: null means only that a tagger did not run;
- line spans are bytes of the original text; the toolkit's are positions in `text.lower()`, which drift behind a
  character whose lower case is longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.rules import Comparison, Rule
from olmo_core.errors import InputError, RecipeError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.lines import count_faulty_lines, fill_faulty_lines
from olmo_core.kernels.quality_c4 import (
    HAS_CURLY_BRACE,
    HAS_JAVASCRIPT,
    HAS_LOREM_IPSUM,
    HAS_TERM,
    NEEDS_LOWERING,
    Terms,
    find_terms,
    word_table,
)
from olmo_core.kernels.quality_gopher import ROWS, gopher_statistics
from olmo_core.kernels.words import CODE_POINTS, LOWERED_OUTSIDE, character_classes

VERSION: Final = 1
"""Bumped when the same texts give other columns."""

REQUIRED_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's required English words, counted as tokens, case-sensitive (toolkit, `taggers/gopher.py`)."""

FEWEST_WORDS: Final = 3
"""A line with fewer words has too few (toolkit, `taggers/c4.py`)."""

LONGEST_DOCUMENT: Final = 2**31 - 1
"""Bytes; word numbers and lengths are 32-bit."""

LINE_FAULTS: Final = ("no_ending_punctuation", "too_few_words")
"""`kind` of the spans; the columns are named `c4_lines_with_{kind}` and `c4_lines_with_{kind}_spans`."""

COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            f"gopher_fraction_of_characters_in_most_common_{n}gram": f"occurrences x characters of the most common "
            f"{n}-gram of words (the first of equals) / characters of all words"
            for n in (2, 3, 4)
        },
        **{
            f"gopher_fraction_of_characters_in_duplicate_{n}grams": f"characters of {n}-grams that occur more than "
            f"once, every occurrence counted / characters of all {n}-grams"
            for n in (5, 6, 7, 8, 9, 10)
        },
        "gopher_character_count": "code points",
        "gopher_word_count": "words separated by whitespace",
        "gopher_median_word_length": "median code points of a word; 0 without words",
        "gopher_symbol_to_word_ratio": "words that hold # or U+2026 / words",
        "gopher_fraction_of_words_with_alpha_character": "words that hold a letter / words",
        "gopher_required_word_count": f"tokens among {' '.join(REQUIRED_WORDS)}",
        "gopher_fraction_of_lines_starting_with_bullet_point": "lines that begin with * or - / lines",
        "gopher_fraction_of_lines_ending_with_ellipsis": "lines that end with U+2026 / lines",
        "gopher_fraction_of_duplicate_lines": "all copies of lines that occur more than once / lines, empty ones too",
        "gopher_fraction_of_characters_in_duplicate_lines": "code points of those copies / characters of all words "
        "(can exceed 1: spaces count above only)",
        "c4_has_curly_brace": "the text holds {",
        "c4_has_lorem_ipsum": "the lower-cased text holds lorem ipsum",
        "c4_has_javascript": "the lower-cased text holds javascript",
        "c4_has_naughty_word": "a token is a naughty word, or the lower-cased text holds a naughty phrase; null where "
        "no list was given",
        "c4_line_count": "lines, the empty one behind a final line feed included",
        "c4_lines_with_no_ending_punctuation": 'how many lines, stripped, do not end with one of . ? ! "',
        "c4_lines_with_too_few_words": f"how many lines have fewer than {FEWEST_WORDS} words",
        "c4_lines_with_no_ending_punctuation_spans": "these lines, each with its line feed, as spans of bytes",
        "c4_lines_with_too_few_words_spans": "these lines, each with its line feed, as spans of bytes",
    }
)
"""Every column `tag` can write, in order, and what it is."""

_GOPHER_COUNTS = frozenset({"gopher_character_count", "gopher_word_count", "gopher_required_word_count"})
_SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())])


@dataclass(frozen=True, kw_only=True)
class QualityRecipe:
    """What `tag` measures. Raises RecipeError when that is nothing."""

    gopher: bool = True
    """The 19 `gopher_*` columns."""
    c4: bool = True
    """The seven `c4_*` columns of counts and flags."""
    line_spans: bool = True
    """With `c4`: the two span columns too. About 60 bytes a flagged line in memory, a few compressed."""

    def __post_init__(self) -> None:
        if not self.gopher and not self.c4:
            raise RecipeError("quality recipe: neither gopher nor c4 is on, so there is nothing to measure; set one")

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that `tag` writes with this recipe, in order."""
        names = [name for name in COLUMNS if self.gopher or not name.startswith("gopher_")]
        names = [name for name in names if self.c4 or not name.startswith("c4_")]
        return tuple(name for name in names if self.line_spans or not name.endswith("_spans"))


def _gopher_rules() -> tuple[Rule, ...]:
    limits: list[tuple[str, str, Comparison, float]] = [
        ("too few words", "word_count", "<", 50),
        ("too many words", "word_count", ">", 100_000),
        ("words too short", "median_word_length", "<", 3),
        ("words too long", "median_word_length", ">", 10),
        ("symbols", "symbol_to_word_ratio", ">", 0.1),
        ("words without letters", "fraction_of_words_with_alpha_character", "<", 0.8),
        ("required words", "required_word_count", "<", 2),
        ("bullets", "fraction_of_lines_starting_with_bullet_point", ">", 0.9),
        ("ellipses", "fraction_of_lines_ending_with_ellipsis", ">", 0.3),
        ("duplicate lines", "fraction_of_duplicate_lines", ">", 0.3),
        ("characters in duplicate lines", "fraction_of_characters_in_duplicate_lines", ">", 0.3),
    ]
    for n, share in ((2, 0.20), (3, 0.18), (4, 0.16)):
        limits.append((f"most common {n}-gram", f"fraction_of_characters_in_most_common_{n}gram", ">", share))
    for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)):
        limits.append((f"duplicate {n}-grams", f"fraction_of_characters_in_duplicate_{n}grams", ">", share))
    return tuple(
        Rule(name=f"gopher: {name}", column=f"gopher_{column}", drop_if=drop_if, value=value)
        for name, column, drop_if, value in limits
    )


DOLMA_RULES: Final = _gopher_rules()
"""Dolma's "Gopher All" for web text: thresholds of its mixer configurations v1.5 and v1.6 for Common Crawl.

There the three most-common n-gram filters name columns that do not exist and never fire; here they do. The other half
of the web recipe, "C4 NoPunc", drops no document: it removes the lines in `NO_PUNCTUATION_SPANS`.
"""

NO_PUNCTUATION_SPANS: Final = "c4_lines_with_no_ending_punctuation_spans"
"""C4 NoPunc as the maintainers define it (allenai/dolma issue 162): remove these lines, apply no other C4 rule."""

C4_RULES: Final = (
    Rule(name="c4: curly brace", column="c4_has_curly_brace", drop_if="is", value=True),
    Rule(name="c4: lorem ipsum", column="c4_has_lorem_ipsum", drop_if="is", value=True),
    Rule(name="c4: javascript", column="c4_has_javascript", drop_if="is", value=True),
    Rule(name="c4: naughty word", column="c4_has_naughty_word", drop_if="is", value=True),
)
"""The document rules of the toolkit's C4 replication; it also removes the lines in both span columns."""


@lru_cache(maxsize=4)
def _prepared(naughty_words: tuple[str, ...]) -> tuple[Terms, npt.NDArray[np.uint8]]:
    """Return the terms for the kernel, and the character classes with what Python must lower-case marked."""
    for term in naughty_words:
        if not term or term != term.lower() or " ".join(term.split()) != term:
            raise RecipeError(
                f"naughty word {term!r} can never match: text is lower-cased and split at whitespace; "
                "give it in lower case, without space at its ends, and with single spaces within a phrase"
            )
    phrases = ["lorem ipsum", *dict.fromkeys(term for term in naughty_words if " " in term)]
    words = list(dict.fromkeys(term for term in naughty_words if " " not in term))
    text, offsets = text_buffers(pa.array([*phrases, *words], pa.large_string()))
    heads = np.full(1 << 16, -1, np.int32)
    following = np.full(len(phrases), -1, np.int32)
    anchors = np.zeros(len(phrases), np.int64)
    for k, phrase in enumerate(phrases):
        raw = phrase.encode()
        anchors[k] = raw.index(b" ")
        pair = raw[anchors[k] - 1] + 256 * raw[anchors[k] + 1]
        following[k], heads[pair] = heads[pair], k
    firsts = offsets[len(phrases) : -1].copy()
    sizes = np.diff(offsets[len(phrases) :]).astype(np.int32)
    slots, codes = word_table(text, firsts, sizes)
    terms = Terms(
        text=text,
        offsets=offsets,
        phrases=len(phrases),
        anchors=anchors,
        heads=heads,
        following=following,
        slots=slots,
        codes=codes,
        longest=int(sizes.max(initial=0)),
    )
    classes = character_classes().copy()
    alphabet = set("javascript").union(*phrases, *words)
    for point in range(0x80, CODE_POINTS):
        lowered = chr(point).lower()
        if lowered != chr(point) and alphabet.intersection(lowered + ("ς" if lowered == "σ" else "")):
            classes[point] |= LOWERED_OUTSIDE
    return terms, classes


def _gopher_columns(text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    packed = [int.from_bytes(word.encode(), "little") | len(word) << 56 for word in REQUIRED_WORDS]
    required = np.array(packed, np.uint64)
    statistics = np.empty((ROWS, len(offsets) - 1))
    gopher_statistics(text, offsets, character_classes(), required, statistics)
    names = [name for name in COLUMNS if name.startswith("gopher_")]
    return {
        name: pa.array(row.astype(np.int64) if name in _GOPHER_COUNTS else row)
        for name, row in zip(names, statistics, strict=True)
    }


def _c4_columns(
    texts: pa.LargeStringArray | pa.ChunkedArray,
    text: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    naughty_words: tuple[str, ...],
) -> dict[str, pa.Array]:
    terms, classes = _prepared(naughty_words)
    rows = len(offsets) - 1
    found = np.empty((5, rows), np.bool_)
    find_terms(text, offsets, classes, terms, found)
    again = np.flatnonzero(found[NEEDS_LOWERING])
    if len(again):
        lowered = [texts[int(row)].as_py().lower() for row in again]
        found_again = np.empty((5, len(again)), np.bool_)
        find_terms(*text_buffers(pa.array(lowered, pa.large_string())), classes, terms, found_again)
        found[:, again] = found_again
    counts = np.empty((3, rows), np.int64)
    count_faulty_lines(text, offsets, classes, FEWEST_WORDS, counts)
    return {
        "c4_has_curly_brace": pa.array(found[HAS_CURLY_BRACE]),
        "c4_has_lorem_ipsum": pa.array(found[HAS_LOREM_IPSUM]),
        "c4_has_javascript": pa.array(found[HAS_JAVASCRIPT]),
        "c4_has_naughty_word": pa.array(found[HAS_TERM]) if naughty_words else pa.nulls(rows, pa.bool_()),
        "c4_line_count": pa.array(counts[0]),
        "c4_lines_with_no_ending_punctuation": pa.array(counts[1]),
        "c4_lines_with_too_few_words": pa.array(counts[2]),
    }


def _span_columns(
    text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], columns: Mapping[str, pa.Array]
) -> dict[str, pa.Array]:
    places = [np.concatenate([[0], np.cumsum(columns[f"c4_lines_with_{kind}"].to_numpy())]) for kind in LINE_FAULTS]
    for kind, place in zip(LINE_FAULTS, places, strict=True):
        if int(place[-1]) * len(kind) > LONGEST_DOCUMENT:
            raise InputError(
                f"{place[-1]:,} lines with {kind} in one batch of {len(offsets) - 1:,} documents, more than an Arrow list holds; "
                "tag fewer rows at once, or set line_spans to false (the counts stay)"
            )
    spans = [np.empty((int(place[-1]), 2), np.int64) for place in places]
    fill_faulty_lines(text, offsets, character_classes(), FEWEST_WORDS, *spans)
    arrays = {}
    for kind, place, span in zip(LINE_FAULTS, places, spans, strict=True):
        fields = [pa.array(span[:, 0]), pa.array(span[:, 1]), pa.repeat(pa.scalar(kind, pa.string()), len(span))]
        values = pa.StructArray.from_arrays(fields, fields=list(_SPAN))
        arrays[f"c4_lines_with_{kind}_spans"] = pa.ListArray.from_arrays(pa.array(place, pa.int32()), values)
    return arrays


def tag(
    texts: pa.LargeStringArray | pa.ChunkedArray, recipe: QualityRecipe, *, naughty_words: tuple[str, ...] = ()
) -> pa.RecordBatch:
    """Measure every text; return `recipe.columns()`, one row a text in the same order, nothing null but where said.

    texts: non-null strings, valid UTF-8, each below 2 GiB. naughty_words: lower-case words and phrases (the toolkit
    uses LDNOOBW's English list); without any, `c4_has_naughty_word` is null. Scratch memory is at most about 26 times
    the longest document, 5 times in prose, besides a copy of the texts.
    Raises InputError for a text or a batch too large, RecipeError for a naughty word that can never match.
    """
    text, offsets = text_buffers(texts)
    sizes = np.diff(offsets)
    if sizes.max(initial=0) > LONGEST_DOCUMENT:
        raise InputError(
            f"document in row {int(sizes.argmax())} has {int(sizes.max()):,} bytes; at most {LONGEST_DOCUMENT:,} can "
            "be measured: split or quarantine it"
        )
    columns: dict[str, pa.Array] = {}
    if recipe.gopher:
        columns |= _gopher_columns(text, offsets)
    if recipe.c4:
        columns |= _c4_columns(texts, text, offsets, tuple(naughty_words))
        if recipe.line_spans:
            columns |= _span_columns(text, offsets, columns)
    return pa.record_batch([columns[name] for name in recipe.columns()], names=list(recipe.columns()))
