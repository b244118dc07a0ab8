"""Histograms of columns: exact at thresholds, additive over shards, the same bins whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.artifacts.build import total_counts
from olmo_core.curation.histograms import Scale, breaks, dense, describe, failing, histogram, scale_of
from olmo_core.curation.rules import Rule, evaluate

COLUMNS: dict[str, pa.DataType] = {
    "target_score": pa.float32(),
    "gopher_word_count": pa.int64(),
    "gopher_median_word_length": pa.float64(),
    "gopher_symbol_to_word_ratio": pa.float64(),
    "lexicon_ratio": pa.float32(),
    "anything": pa.float64(),
}
SCALES: dict[str, Scale] = {
    "target_score": "fraction",
    "gopher_word_count": "count",
    "gopher_median_word_length": "length",
    "gopher_symbol_to_word_ratio": "ratio",
    "lexicon_ratio": "ratio",
    "anything": "number",
}

thresholds = st.one_of(
    st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.9, 1.0, 2.0, 3.0, 5.0, 10.0, 50.0, 100000.0, -1.0]),
    st.floats(-5, 1e6, allow_nan=False),
)


def test_a_columns_scale_is_known_from_name_and_type() -> None:
    assert {name: scale_of(name, kind) for name, kind in COLUMNS.items()} == SCALES
    assert scale_of("c4_has_javascript", pa.bool_()) == "boolean"
    assert scale_of("toxic_max", pa.float32()) == "fraction"
    with pytest.raises(ValueError, match="no histogram"):
        scale_of("language", pa.string())


@given(
    column=st.sampled_from(sorted(COLUMNS)),
    thresholds=st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">="]), thresholds), min_size=1, max_size=3),
    data=st.data(),
)
def test_no_bin_lies_on_both_sides_of_a_threshold(
    column: str, thresholds: list[tuple[Any, float]], data: st.DataObject
) -> None:
    """The oracle is the evaluation of the rules themselves, on values at the thresholds, beside them and anywhere."""
    rules = [Rule(name=str(i), column=column, drop_if=op, value=v) for i, (op, v) in enumerate(thresholds)]
    near = [x for _, v in thresholds for x in (v, np.nextafter(v, np.inf), np.nextafter(v, -np.inf), v + 1, v - 1)]
    drawn = data.draw(st.lists(st.one_of(st.sampled_from(near), st.floats(-10, 1e13, allow_nan=False)), max_size=30))
    kind = COLUMNS[column]
    values = pa.array([int(x) if pa.types.is_integer(kind) else x for x in drawn] + [None], kind)
    counted = describe(column, values, rules)
    places = breaks(counted["scale"], rules)
    counts = dense(counted["bins"], places)
    assert counts.sum() == len(drawn) and counted["without_value"] == 1
    for rule in rules:
        wrong = int(counts[failing(rule, counted["scale"], places)].sum())
        assert wrong == evaluate(rule, values).to_pylist().count(True), rule


@given(st.lists(st.floats(0, 1, width=32), max_size=50), st.integers(0, 50))
def test_shards_add_up(values: list[float], at: int) -> None:
    rule = Rule(name="language", column="target_score", drop_if="<", value=0.47)
    parts = [pa.array(values[:at], pa.float32()), pa.array(values[at:], pa.float32())]
    whole = describe("target_score", pa.array(values, pa.float32()), [rule])
    added = total_counts([{"d": describe("target_score", part, [rule])} for part in parts])["d"]
    assert added == whole


def test_booleans_and_missing_values() -> None:
    rule = Rule(name="x", column="c4_has_javascript", drop_if="is", value=True)
    found = describe("c4_has_javascript", pa.array([True, False, False, None]), [rule])
    assert found == {"scale": "boolean", "bins": {"0": 2, "1": 1}, "without_value": 1}
    assert dense(found["bins"], breaks("boolean"))[failing(rule, "boolean", breaks("boolean"))].tolist() == [1]
    assert describe("target_score", pa.array([float("nan"), None, 0.5], pa.float32()), [])["without_value"] == 2


def test_bins_are_readable_numbers_and_fixed() -> None:
    counts = breaks("count")
    assert counts[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12] and {20, 50, 100, 1000, 100000} <= {*counts}
    assert len(breaks("fraction")) == 51 and breaks("fraction")[[0, 1, 49]].tolist() == [0, 0.02, 0.98]
    assert histogram(pa.array([1.00002], pa.float64()), breaks("fraction")) == {"50": 1}, "rounding above 1"
