"""Rules: what fails, what null and NaN mean, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from olmo_core.curation.rules import Comparison, Rule, check, evaluate
from olmo_core.errors import InputError, RecipeError


@pytest.mark.parametrize(
    ("drop_if", "fails"),
    [
        ("<", [True, False, False, False]),
        ("<=", [True, True, False, False]),
        (">", [False, False, True, False]),
        (">=", [False, True, True, False]),
    ],
)
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.int32(), pa.float32()])
def test_comparisons(drop_if: Comparison, fails: list[bool], kind: pa.DataType) -> None:
    rule = Rule(name="r", column="c", drop_if=drop_if, value=2)
    assert evaluate(rule, pa.array([1, 2, 3, None], kind)).to_pylist() == fails


def test_integers_compare_with_fractions() -> None:
    rule = Rule(name="r", column="c", drop_if=">", value=2.5)
    assert evaluate(rule, pa.array([2, 3], pa.int64())).to_pylist() == [False, True]


@pytest.mark.parametrize(("value", "fails"), [(True, [True, False, False]), (False, [False, True, False])])
def test_is_compares_booleans(value: bool, fails: list[bool]) -> None:
    rule = Rule(name="r", column="c", drop_if="is", value=value)
    assert evaluate(rule, pa.array([True, False, None])).to_pylist() == fails


def test_chunks_and_no_rows() -> None:
    rule = Rule(name="r", column="c", drop_if="<", value=2)
    assert evaluate(rule, pa.chunked_array([[1, 2], [0]])).to_pylist() == [True, False, True]
    assert evaluate(rule, pa.chunked_array([], pa.int64())).to_pylist() == []
    assert evaluate(rule, pa.array([], pa.float64())).type == pa.bool_()


def test_nan_is_an_error_that_names_rule_column_and_row() -> None:
    rule = Rule(name="too short", column="words", drop_if="<", value=2)
    with pytest.raises(InputError, match=r"'too short'.*'words' has 2 NaN.*row 1"):
        evaluate(rule, pa.array([1.0, float("nan"), None, float("nan")]))


@pytest.mark.parametrize(("drop_if", "value"), [("<", True), ("is", 1), ("is", 1.0), (">", float("nan")), ("==", 1)])
def test_values_a_comparison_cannot_take(drop_if: Comparison, value: float | bool) -> None:
    with pytest.raises(RecipeError, match="'r'"):
        Rule(name="r", column="c", drop_if=drop_if, value=value)


@pytest.mark.parametrize(
    ("drop_if", "value", "column"),
    [("<", 1, pa.array([True])), ("is", True, pa.array([1])), ("<", 1, pa.array(["1"])), ("is", True, pa.array(["x"]))],
)
def test_columns_a_comparison_cannot_take(drop_if: Comparison, value: float | bool, column: pa.Array) -> None:
    with pytest.raises(RecipeError, match=r"'r'.*'c'"):
        evaluate(Rule(name="r", column="c", drop_if=drop_if, value=value), column)


def test_an_unknown_column_names_the_rule_and_the_nearest_columns() -> None:
    rules = [Rule(name="repeats", column="gopher_most_common_2gram", drop_if=">", value=0.2)]
    with pytest.raises(RecipeError, match=r"'repeats'.*'gopher_most_common_2gram'.*mean gopher_most_common_2grams"):
        check(rules, ["gopher_most_common_2grams", "c4_line_count"])
    with pytest.raises(RecipeError, match="there are: zzz"):
        check(rules, {"zzz"})
    check(rules, {"gopher_most_common_2gram"})


def test_two_rules_of_one_name_are_refused() -> None:
    rules = [Rule(name="short", column=column, drop_if="<", value=1) for column in ("a", "b")]
    with pytest.raises(RecipeError, match=r"'short'.*'a'.*'b'"):
        check(rules, ["a", "b"])
