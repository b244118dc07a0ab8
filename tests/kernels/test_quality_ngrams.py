"""N-gram shares against a count of tuples."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.kernels.ngrams import ngram_shares


def shares_of(words: list[str]) -> list[float]:
    distinct = list(dict.fromkeys(words))
    place = {word: k for k, word in enumerate(distinct)}
    numbers = np.array([place[word] for word in words], np.int32)
    lengths = np.array([len(word) for word in distinct], np.int32)
    counts = np.bincount(numbers, minlength=len(distinct)).astype(np.int32)
    shares = np.full(9, np.nan)
    ngram_shares(numbers, lengths, counts, shares)
    return [float(share) for share in shares]


def counted_shares(words: list[str]) -> list[float]:
    shares = []
    for n in range(2, 11):
        grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        characters = {gram: sum(map(len, gram)) for gram in grams}
        if not grams:
            shares.append(0.0)
        elif n <= 4:
            gram = max(grams, key=lambda gram: grams[gram])  # of equals the one that was inserted first
            shares.append(grams[gram] * characters[gram] / sum(map(len, words)))
        else:
            repeated = sum(count * characters[gram] for gram, count in grams.items() if count > 1)
            shares.append(repeated / sum(count * characters[gram] for gram, count in grams.items()))
    return shares


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=80))
def test_few_distinct_words(words: list[str]) -> None:
    assert shares_of(words) == counted_shares(words)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), max_size=6), st.lists(st.integers(0, 5)))
def test_repeated_stretches(stretches: list[list[int]], order: list[int]) -> None:
    words = [f"w{number * number}" for k in order if k < len(stretches) for number in stretches[k]]
    assert shares_of(words) == counted_shares(words)


def test_the_first_of_equally_common_ngrams_counts() -> None:
    assert shares_of(["aa", "bb", "cccc", "dddd", "cccc", "dddd", "aa", "bb"])[0] == 2 * 4 / 24
    assert shares_of(["cccc", "dddd", "aa", "bb", "aa", "bb", "cccc", "dddd"])[0] == 2 * 8 / 24
    assert shares_of(["a", "b", "ccc"])[0] == 2 / 5  # nothing repeats: the first


def test_the_same_word_throughout() -> None:
    assert shares_of(["word"] * 1000) == [2 * 999 / 1000, 3 * 998 / 1000, 4 * 997 / 1000] + [1.0] * 6


def test_long_documents_keep_every_level() -> None:
    rng = np.random.default_rng(5)
    words = [f"{number:x}" for number in rng.zipf(1.3, 20_000).clip(max=3000)]
    words += words[5_000:9_000]
    assert shares_of(words) == counted_shares(words)
