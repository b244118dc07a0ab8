"""Shingles, MinHash and Jaccard kernels against plain Python, numpy and datasketch."""

from __future__ import annotations

import math
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.jaccard import jaccard, shingle_sets
from olmo_core.kernels.minhash import band_keys, minhash, permutations
from olmo_core.kernels.shingle_alphabet import ALONE, IGNORED, SEPARATOR, alphabet, fold
from tests.oracles.near_duplicate_corpus import all_pairs, edited, real_texts, shingles, words

# Letters with accents in both spellings, marks, separators, digits, other scripts, NUL, invisible and wide characters.
_CHARACTERS = "abcXYZ019 .,-\n\t\0_'éÉe\u0301ßΣςЙй\u00adºשׁ\u200c\ufeff中文かカไทย한हि𝒜😀\uf008\ufe0fＡ！۵"
_TEXT = st.text(st.sampled_from(_CHARACTERS) | st.characters(max_codepoint=0x52F, exclude_categories=["Cs", "Cn"]))


def _texts(values: list[str]) -> pa.LargeStringArray:
    return pa.array(values, pa.large_string())


def _counts(values: list[str], width: int) -> npt.NDArray[np.int64]:
    sizes = [len(words(text)) for text in values]
    return np.array([max(size - width + 1, min(size, 1)) for size in sizes], np.int64)


def _sets(values: list[str], width: int) -> list[npt.NDArray[np.uint64]]:
    hashes, starts = shingle_sets(_texts(values), width, _counts(values, width))
    return [hashes[starts[i] : starts[i + 1]] for i in range(len(values))]


def _minima(texts: pa.LargeStringArray, count: int, width: int = 5) -> npt.NDArray[np.uint32]:
    data, offsets = text_buffers(texts)
    minima = np.empty((len(texts), count), np.uint32)
    minhash(data, offsets, *alphabet(), width, *permutations(count, 1), minima, np.empty(len(texts), np.int64))
    return minima


def _class(code: int) -> int:
    pages, letters = alphabet()
    return int(letters[int(pages[code >> 8]) * 256 + (code & 255)])


def test_alphabet_is_that_of_unicode_categories() -> None:
    """Every code point of Unicode 3.2, the version that Python carries beside its own and that never changes."""
    invisible = {0xAD, *range(0x300, 0x370), *range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065)}
    invisible |= {*range(0xFE00, 0xFE10), 0xFEFF}
    wrong = []
    for code in range(0x110000):
        if unicodedata.ucd_3_2_0.category(chr(code)) in ("Cn", "Cs"):
            continue
        letter = unicodedata.category(chr(code))[0] in "LMN"
        expected = IGNORED if code in invisible else None if letter else SEPARATOR
        found = _class(code)
        if (found if found in (SEPARATOR, IGNORED) else None) != expected:
            wrong.append(hex(code))
    assert wrong == []


@pytest.mark.parametrize(
    ("left", "right"),
    [("É", "e\u0301"), ("ПРИВЕТ", "привет"), ("Ό", "ο"), ("Ａ１", "a1"), ("co\u00adop", "coop"), ("Ṩ", "s")],
)
def test_spellings_that_are_equal(left: str, right: str) -> None:
    assert [list(one) for one in _sets([left], 5)] == [list(one) for one in _sets([right], 5)]


@pytest.mark.parametrize(("left", "right"), [("1999", "2000"), ("हि", "ही"), ("don't", "dont"), ("ab", "ba")])
def test_spellings_that_differ(left: str, right: str) -> None:
    assert list(_sets([left], 5)[0]) != list(_sets([right], 5)[0])


def test_characters_of_spaceless_scripts_are_words() -> None:
    assert all(_class(ord(c)) == ALONE for c in "中文かカไ한"[:5])
    assert len(_sets(["中文分词测试"], 5)[0]) == 2
    assert _counts(["한국어 말"], 1)[0] == len(_sets(["한국어 말"], 1)[0]) == 2


def test_fold_keeps_what_has_no_single_lower_case() -> None:
    assert fold("ß") == "ß" and fold("İ") == "i" and fold("Ǆ") == "ǆ"


@settings(max_examples=150, deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=4), st.sampled_from([1, 2, 5]))
def test_sets_are_those_of_plain_python(values: list[str], width: int) -> None:
    """Each shingle alone, as a text of its own, has one hash; a text's set is exactly the hashes of its shingles."""
    for text, found in zip(values, _sets(values, width), strict=True):
        parts = sorted(shingles(text, width))
        alone = [int(_sets([" ".join(part)], width)[0][0]) for part in parts]
        assert sorted(alone) == found.tolist()
        assert len(set(alone)) == len(parts)


@pytest.mark.parametrize("width", [1, 2, 5, 64])
@pytest.mark.parametrize("size", [1, 4, 5, 63, 64, 511, 512, 513, 516, 517, 575, 576, 1024, 1029, 2500])
def test_blocks_join_without_a_seam(width: int, size: int) -> None:
    """The stream works in blocks of 512 words; where they meet nothing is lost, doubled or mixed."""
    run = [f"w{i * i % 97}x{i % 7}" for i in range(size)]
    text = " ".join(run)
    (found,) = _sets([text], width)
    parts = {tuple(run[i : i + width]) for i in range(max(1, size - width + 1))}
    alone = _sets([" ".join(part) for part in parts], width)
    assert found.tolist() == sorted(int(one[0]) for one in alone)


def test_minima_are_the_smallest_permuted_hashes() -> None:
    values = [*real_texts(20), "one two", "", "...", "a b c d e"]
    multipliers, increments = permutations(128, 1)
    for found, hashes in zip(_minima(_texts(values), 128), _sets(values, 5), strict=True):
        halves = (hashes >> np.uint64(32)).astype(np.uint32)
        permuted = halves[:, None] * multipliers + increments
        assert found.tolist() == permuted.min(axis=0, initial=2**32 - 1).tolist()


def test_permutations_are_bijections_drawn_from_the_seed() -> None:
    multipliers, increments = permutations(120, 1)
    assert (multipliers % 2 == 1).all() and len(set(multipliers.tolist())) == 120
    assert not np.array_equal(multipliers, permutations(120, 2)[0])
    assert multipliers[:2].tolist() == [permutations(2, 1)[0][0], permutations(2, 1)[0][1]]
    assert increments.dtype == multipliers.dtype == np.uint32


def test_estimates_are_as_exact_as_theory_says_and_as_those_of_datasketch() -> None:
    """Agreement of k minima estimates J without bias, with variance J (1 - J) / k."""
    base = real_texts(120, shortest=1500, longest=4000)
    assert len(base) == 120
    values = base + [edited(text, 0.2 + 0.8 * i / 120, i) for i, text in enumerate(base)]
    sets = [shingles(text) for text in values]
    pairs, exact = all_pairs(sets)
    edits = pairs[:, 1] - pairs[:, 0] == 120
    pairs, exact = pairs[edits], exact[edits]
    assert len(pairs) > 100 and exact.min() < 0.4 and exact.max() > 0.9

    def sketch(one: set[tuple[str, ...]]) -> npt.NDArray[np.uint64]:
        made = MinHash(num_perm=120, seed=1)
        made.update_batch([" ".join(shingle).encode() for shingle in one])
        return np.asarray(made.hashvalues, np.uint64)

    theirs = np.stack([sketch(one) for one in sets])
    spread = np.sqrt(exact * (1 - exact) / 120)
    expected_error = float(np.mean(spread) * math.sqrt(2 / math.pi))
    for minima in (_minima(_texts(values), 120), theirs):
        error = (minima[pairs[:, 0]] == minima[pairs[:, 1]]).mean(axis=1) - exact
        assert abs(error.mean()) < 3.5 * math.sqrt(float((spread**2).sum())) / len(pairs)
        assert 0.75 * expected_error < np.abs(error).mean() < 1.25 * expected_error


def test_permutations_are_independent_enough() -> None:
    """Over 3,000 random pairs with J = 1/2, agreements have the binomial's mean and variance, and rows of a band too."""
    chance = np.random.default_rng(7)
    alphabet_of_words = np.array([f"w{i}" for i in range(100_000)])
    values = []
    for _ in range(3000):
        drawn = alphabet_of_words[chance.choice(100_000, 80, replace=False)]
        values += [" ".join(drawn[:60]), " ".join(drawn[20:])]
    minima = _minima(_texts(values), 120, width=1)
    agree = minima[0::2] == minima[1::2]
    assert abs(agree.mean() - 0.5) < 0.005
    assert 0.8 < agree.sum(axis=1).var() / 30 < 1.2
    keys = np.empty((6000, 20), np.uint64)
    band_keys(minima, np.full(6000, 60), 6, keys)
    met = (keys[0::2] == keys[1::2]).any(axis=1).mean()
    expected = 1 - (1 - 0.5**6) ** 20
    assert abs(met - expected) < 4 * math.sqrt(expected * (1 - expected) / 3000)


def test_band_keys_compare_their_rows_only() -> None:
    minima = np.arange(24, dtype=np.uint32).reshape(2, 12)
    minima[1] = minima[0]
    minima[1, 7] += 1
    keys = np.empty((2, 4), np.uint64)
    band_keys(minima, np.array([5, 5]), 3, keys)
    assert (keys[0] == keys[1]).tolist() == [True, True, False, True]
    band_keys(minima, np.array([5, 0]), 3, keys)
    assert keys[1].tolist() == [0, 0, 0, 0]


_SMALL_SET = st.sets(st.integers(0, 40), max_size=30)


@settings(max_examples=400, deadline=None)
@given(_SMALL_SET, _SMALL_SET, st.sampled_from([0.05, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]))
def test_jaccard_is_exact_and_stops_only_below_the_threshold(left: set[int], right: set[int], threshold: float) -> None:
    found = jaccard(np.array(sorted(left), np.uint64), np.array(sorted(right), np.uint64), threshold)
    exact = len(left & right) / len(left | right) if left | right else 0.0
    assert found == (exact if exact >= threshold else -1.0)


def test_counts_of_another_text_are_refused() -> None:
    for counts in ([3], [1], [0]):
        with pytest.raises(ValueError, match="text 0"):
            shingle_sets(_texts(["one two three four five six"]), 5, np.array(counts, np.int64))
