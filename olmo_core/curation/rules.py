"""Rules that drop a row by one column of its attributes: data that a selection stage evaluates and reports.

Taggers measure and never decide; a rule decides, by name, so that every dropped document has a reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.errors import InputError, RecipeError

Comparison = Literal["<", "<=", ">", ">=", "is"]
"""How a column's value is compared with a rule's; `is` is for booleans."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Drop a row if `column` `drop_if` `value`: `Rule(name="short", column="gopher_word_count", drop_if="<", value=50)`.

    Raises RecipeError for a value that the comparison cannot take.
    """

    name: str
    """The reason reported for rows it drops; unique within a list of rules."""
    column: str
    """Attribute column, for example `gopher_word_count`."""
    drop_if: Comparison
    """The comparison that fails the row."""
    value: float | bool
    """A number, in the column's unit, for `<`, `<=`, `>`, `>=`; True or False for `is`."""

    def __post_init__(self) -> None:
        if self.drop_if not in get_args(Comparison):
            raise RecipeError(f"rule {self.name!r}: drop_if is {self.drop_if!r}; it is one of {get_args(Comparison)}")
        if isinstance(self.value, bool) != (self.drop_if == "is"):
            wanted = "True or False" if self.drop_if == "is" else "a number"
            raise RecipeError(f"rule {self.name!r}: {self.drop_if!r} compares with {wanted}, not {self.value!r}")
        if not isinstance(self.value, (int, float)) or math.isnan(self.value):
            raise RecipeError(f"rule {self.name!r}: value is {self.value!r}; give a number")


def evaluate(rule: Rule, column: pa.Array | pa.ChunkedArray) -> pa.BooleanArray:
    """Return True for every row that `rule` fails; never null, as long as `column`.

    A null (the tagger did not run on this row) never fails. NaN has no answer: InputError names its first row.
    RecipeError if the column's type is not one that the rule compares.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    boolean = pa.types.is_boolean(column.type)
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not (boolean if rule.drop_if == "is" else number):
        wanted = "a boolean" if rule.drop_if == "is" else "a number"
        raise RecipeError(
            f"rule {rule.name!r}: {rule.drop_if!r} needs {wanted}, but column {rule.column!r} is {column.type}"
        )
    if pa.types.is_floating(column.type):
        undefined = pc.fill_null(pc.is_nan(column), False)
        if pc.any(undefined).as_py():
            raise InputError(
                f"rule {rule.name!r}: column {rule.column!r} has {pc.sum(undefined).as_py()} NaN values, the first in "
                f"row {pc.index(undefined, True).as_py()}; the stage that wrote it is at fault: rebuild it"
            )
    compare = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal, "is": pc.equal}
    value = rule.value if boolean else float(rule.value)
    return pc.fill_null(compare[rule.drop_if](column, pa.scalar(value)), False)


def check(rules: Sequence[Rule], available_columns: Collection[str]) -> None:
    """Raise RecipeError for a rule on a column that is not there, or for two rules of one name.

    The message names the rule, the column, and the columns whose names are nearest to it.
    """
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in seen:
            raise RecipeError(
                f"two rules are named {rule.name!r} (columns {seen[rule.name].column!r} and {rule.column!r}); "
                "the name is the reason reported for a dropped row: give each its own"
            )
        seen[rule.name] = rule
        if rule.column not in available_columns:
            near = get_close_matches(rule.column, sorted(available_columns), n=3, cutoff=0.6)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(available_columns))}"
            )
            raise RecipeError(f"rule {rule.name!r}: there is no column {rule.column!r}; {hint}")
