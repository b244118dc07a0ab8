"""Numbers in generated text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.evaluation.answers import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" 2 + 2 = 4. So the answer is 4.", "4"),
        ("So the answer is $1,234.", "1234"),
        ("1,234,567 birds", "1234567"),
        ("the points 1,2", "2"),
        ("(1, 2, 3)", "3"),
        ("it is 18.50 dollars", "18.50"),
        ("It costs $.75", ".75"),
        ("the answer is -5", "-5"),
        ("7-2", "2"),
        ("f(3)-2", "2"),
        ("16 - 3 - 4 = 9", "9"),
        ("$-12.", "-12"),
        ("12%", "12"),
        ("nothing", None),
        ("", None),
        ("-", None),
        ("1.8", "1.8"),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == number


@given(st.integers(min_value=0, max_value=10**12), st.text(alphabet="abc \n$%:;()", max_size=20))
def test_any_whole_number_is_found_behind_any_words(number: int, words: str) -> None:
    for written in (str(number), f"{number:,}"):
        assert last_number(f"99 {words} {written}.") == str(number)
        assert last_number(f"99 {words} -{written}") == f"-{number}"
