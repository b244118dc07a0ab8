"""What the columns of the tag stages hold, known from the recipe alone: rules are checked before anything is tagged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from olmo_core.curation import content, language, pii, rules
from olmo_core.errors import RecipeError

if TYPE_CHECKING:
    from olmo_core.curation.corpus_recipe import CorpusRecipe

Holds = Literal["number", "boolean", "text", "spans", "scored spans"]

REMOVABLE = ("quality", "content")
"""Stages whose spans mixing can cut out; PII spans are masked instead."""


def declared(recipe: CorpusRecipe) -> dict[str, dict[str, Holds]]:
    """Return, for each stage that rules can look at, its columns and what they hold."""
    scored = recipe.content.kind == "classifier"
    return {
        "language": {field.name: "text" if pa.types.is_string(field.type) else "number" for field in language.SCHEMA},
        "quality": {name: _quality(name) for name in recipe.quality.columns()},
        "content": {
            name: ("scored spans" if scored else "spans") if name.endswith("_spans") else "number"
            for name in content.columns(recipe.content)
        },
        "pii": {"pii_spans": "spans", "pii_count": "number", **{f"pii_{kind}_count": "number" for kind in pii.KINDS}},
    }


def _quality(name: str) -> Holds:
    if name.endswith("_spans"):
        return "spans"
    return "boolean" if name.startswith("c4_has_") else "number"


def check_columns(recipe: CorpusRecipe) -> None:
    """Raise RecipeError for a rule, or an entry of `mixing.remove`, that names no column or one of another type."""
    stages = declared(recipe)
    for stage in stages.keys() - {"content"}:
        for name in sorted(stages["content"].keys() & stages[stage].keys()):
            raise RecipeError(
                f"content would write a column {name!r}, which {stage} has too; give the classifier another name"
            )
    every = {name: holds for columns in stages.values() for name, holds in columns.items()}
    for source in recipe.sources:
        try:
            rules.check(source.rules, every)
        except RecipeError as error:
            raise RecipeError(f"source {source.name}: {error}") from None
        for rule in source.rules:
            wanted = "boolean" if rule.drop_if == "is" else "number"
            if every[rule.column] != wanted:
                raise RecipeError(
                    f"source {source.name}: rule {rule.name!r}: {rule.drop_if!r} needs a {wanted}, but column {rule.column!r} "
                    f"holds {every[rule.column]}; {_of(every, wanted)}"
                )
    _check_removal(recipe, {name: holds for stage in REMOVABLE for name, holds in stages[stage].items()})


def _check_removal(recipe: CorpusRecipe, columns: Mapping[str, Holds]) -> None:
    for one in recipe.mixing.remove:
        holds = columns.get(one.column)
        if holds is None or not holds.endswith("spans"):
            what = "is no span column" if holds else "is in neither quality nor content"
            raise RecipeError(f"mixing.remove: column {one.column!r} {what}; {_of(columns, 'spans')}")
        if one.at_least is None:
            continue
        if holds != "scored spans":
            raise RecipeError(
                f"mixing.remove: spans of {one.column!r} have no score; leave out at_least, or use a classifier"
            )
        if one.at_least < recipe.content.record_from:
            raise RecipeError(
                f"mixing.remove: {one.column!r} at_least {one.at_least:g} is below content.record_from "
                f"({recipe.content.record_from:g}), so such spans are not recorded; lower record_from, which runs content again"
            )


def _of(columns: Mapping[str, Holds], wanted: str) -> str:
    names = sorted(name for name, holds in columns.items() if holds.endswith(wanted))
    return f"there are: {', '.join(names) or 'none'}"
