"""Stable hashes by their definition."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.curation.sampling import fractions, stable_hashes


def by_definition(seed: int, purpose: str, source: str, name: bytes) -> int:
    key = hashlib.blake2b(f"{seed}\0{purpose}".encode(), digest_size=32).digest()
    return int.from_bytes(hashlib.blake2b(source.encode() + b"\0" + name, digest_size=8, key=key).digest(), "little")


@given(
    st.lists(st.text()),
    st.integers(0, 2**63),
    st.sampled_from(["sample", "shuffle"]),
    st.sampled_from(["", "web", "é"]),
)
def test_hashes_are_blake2b_of_the_name(ids: list[str], seed: int, purpose: str, source: str) -> None:
    found = stable_hashes(seed, purpose, source, ids)
    assert found.dtype == np.uint64 and found.tolist() == [
        by_definition(seed, purpose, source, i.encode()) for i in ids
    ]
    copies = list(range(len(ids)))
    named = [i.encode() + b"\0%d" % c for i, c in zip(ids, copies, strict=True)]
    assert stable_hashes(seed, purpose, source, ids, copies).tolist() == [
        by_definition(seed, purpose, source, n) for n in named
    ]


def test_a_known_value() -> None:
    """Never changes: samples and orders of stored corpora hang on it."""
    assert stable_hashes(3920, "shuffle", "web", ["a"], [0]).tolist() == [11559842935544352339]


def test_fractions_are_even_and_below_one() -> None:
    assert fractions(np.array([0, 2**64 - 1, 2**63], np.uint64)).tolist() == [0.0, 1 - 2**-53, 0.5]
    chance = fractions(stable_hashes(1, "sample", "s", map(str, range(20_000))))
    counts = np.histogram(chance, 20, (0, 1))[0]
    assert abs(counts - 1000).max() < 5 * 1000**0.5


def test_purposes_and_sources_are_independent() -> None:
    ids = [str(i) for i in range(20_000)]
    base = fractions(stable_hashes(1, "sample", "s", ids))
    for other in (
        stable_hashes(1, "shuffle", "s", ids),
        stable_hashes(2, "sample", "s", ids),
        stable_hashes(1, "sample", "t", ids),
    ):
        assert abs(np.corrcoef(base, fractions(other))[0, 1]) < 0.03
