"""Recipes: canonical JSON, fingerprints, and reading YAML with errors that name the place."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.errors import RecipeError
from olmo_core.recipe import canonical, canonical_json, differences, fingerprint, from_mapping


@dataclass(frozen=True, kw_only=True)
class Cat:
    kind: Literal["cat"] = "cat"
    lives: int = 9


@dataclass(frozen=True, kw_only=True)
class Dog:
    kind: Literal["dog"] = "dog"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Home:
    name: str
    pets: tuple[Cat | Dog, ...] = ()
    floor: float | None = None
    sizes: dict[str, int] = field(default_factory=dict)


def test_fingerprint_is_pinned() -> None:
    """The digest of a known recipe never changes: artifacts of today must be found tomorrow."""
    home = Home(name="a", pets=(Cat(), Dog(weight=2.5)), sizes={"b": 2, "a": 1})
    expected = (
        '{"floor":null,"name":"a","pets":[{"kind":"cat","lives":9},{"kind":"dog","weight":2.5}],"sizes":{"a":1,"b":2}}'
    )
    assert canonical_json(home) == expected
    assert fingerprint(home) == "99b816400b7c79a4312815ce44bddbd0b13eaf691ee9da32c9b854cf78985004"


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: "a"}, {"a", "b"}, b"x", object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(RecipeError, match="recipe"):
        canonical(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@given(json_values, json_values)
def test_differences_are_found_exactly_when_there_are_some(old: object, new: object) -> None:
    a, b = canonical(old), canonical(new)
    assert bool(differences(a, b)) == (canonical_json(a) != canonical_json(b))


def test_a_union_is_told_apart_by_its_literal_field() -> None:
    home = from_mapping(Home, {"name": "x", "pets": [{"kind": "dog", "weight": 3}, {"kind": "cat"}], "floor": 1})
    assert home.pets == (Dog(weight=3.0), Cat())
    assert isinstance(home.floor, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "x", "flor": 1}, "unknown field 'flor'; did you mean 'floor'\\? Fields here: name, "),
        ({"name": "x", "qqqq": 1}, "unknown field 'qqqq'\\. Fields here: name, "),
        ({}, "'name' is missing"),
        ({"name": 3}, "recipe.name: expected str, found 3"),
        ({"name": "x", "pets": [{"kind": "cow"}]}, r"recipe.pets\[0\].kind: 'cow' is not one of 'cat', 'dog'"),
        ({"name": "x", "pets": [{"kind": "cat", "lives": True}]}, "expected int, found True"),
        ({"name": "x", "pets": "cat"}, "expected a list"),
        ([], "expected a mapping"),
    ],
)
def test_errors_name_the_place(data: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        from_mapping(Home, data)
