"""Duplicate ids: hashes are BLAKE2b, and what is found equals what a Python set finds."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.documents.ids import Hashes, IdSet, find_duplicates, id_hashes

# Few different values, the reserved zero among them, and equal halves: what an open-addressing table may confuse.
HALF = st.sampled_from([0, 1, 2, 1 << 10, 1 << 63, (1 << 64) - 1])
ROWS = st.lists(st.tuples(HALF, HALF).filter(lambda h: h != (0, 1)), max_size=40)


def array(rows: list[tuple[int, int]]) -> Hashes:
    return np.array(rows, np.uint64).reshape(-1, 2)


def test_hashes_are_those_of_hashlib() -> None:
    ids = ["", "a", "ünïcode", "x" * 1000, "nul\0", "nul"]
    found = id_hashes(pa.array(ids, pa.string()))
    assert [row.astype("<u8").tobytes() for row in found] == [blake2b(i.encode(), digest_size=16).digest() for i in ids]
    assert id_hashes(pa.array([], pa.string())).shape == (0, 2)
    assert (id_hashes(pa.array(ids, pa.string()).slice(2, 2)) == found[2:4]).all()


@given(st.lists(ROWS, max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_set_says_what_a_python_set_says(calls: list[list[tuple[int, int]]]) -> None:
    seen: set[tuple[int, int]] = set()
    ids = IdSet()
    for rows in calls:
        expected = []
        for row in rows:
            expected.append(row in seen)
            seen.add(row)
        assert ids.add(array(rows)).tolist() == expected
        assert len(ids) == len(seen)


def test_a_set_grows() -> None:
    hashes = id_hashes(pa.array([f"id {i}" for i in range(50_000)], pa.string()))
    ids = IdSet()
    for start in range(0, 50_000, 777):
        assert not ids.add(hashes[start : start + 777]).any()
    assert ids.add(hashes).all()
    assert len(ids) == 50_000


@pytest.mark.parametrize("most_rows", [1, 7, 1000])
@given(st.lists(ROWS, max_size=5))
@settings(max_examples=100, deadline=None)
def test_later_rows_are_found_across_shards(most_rows: int, shards: list[list[tuple[int, int]]]) -> None:
    seen: set[tuple[int, int]] = set()
    expected: list[list[int]] = []
    for rows in shards:
        expected.append([])
        for i, row in enumerate(rows):
            if row in seen:
                expected[-1].append(i)
            seen.add(row)
    found = find_duplicates([array(rows) for rows in shards], most_rows)
    assert [rows.tolist() for rows in found] == expected
