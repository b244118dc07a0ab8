"""Variants of a corpus recipe in one file: a base recipe, and for each variant what is different.

`FILE.yaml#NAME` is the recipe of a variant wherever a corpus recipe may be named. A path of a change goes through
mappings by key and through lists by the items' `name` (of a source: that of what it reads); `*` is every item:

    changes: {sources.prose.repeat: 2.0, sources.*.rules.language.value: 0.8, near_duplicates.threshold: 1.0}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.ref import check_name
from olmo_core.errors import RecipeError
from olmo_core.recipe import from_mapping

MARK = "#"
"""Between a file of variants and the name of one."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One corpus, by what is different from the base recipe."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Value by dotted path."""
    without: tuple[str, ...] = ()
    """Rules, by name, that are taken out of every source that has them; `*`: all rules."""


@dataclass(frozen=True, kw_only=True)
class Variants:
    """The part of a file that says which corpora there are."""

    name: str
    """Beginning of the corpora's names."""
    base: str
    """Name of a recipe in deployments/recipes, or a file; a relative path is looked for beside this file first."""
    variants: tuple[Variant, ...]
    """The first one is what the others are compared with."""

    def __post_init__(self) -> None:
        """Raise RecipeError for names that cannot be, or are there twice."""
        check_name(self.name, "name of the variants")
        names = [check_name(one.name, "variant") for one in self.variants]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RecipeError(f"{self.name}: two variants are called {', '.join(twice)}")

    def corpus(self, variant: str) -> str:
        """Return the name of a variant's corpus."""
        return f"{self.name}-{variant}"

    def values(self, variant: str, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a variant's corpus recipe. Raises RecipeError, naming path or rule, for what the base does not have."""
        found = next((one for one in self.variants if one.name == variant), None)
        if found is None:
            names = ", ".join(one.name for one in self.variants)
            raise RecipeError(f"{self.name} has no variant {variant!r}; there are: {names}")
        made: dict[str, Any] = copy.deepcopy(dict(base))
        for name in found.without:
            _take_out(made, name, f"{self.name}, variant {variant}")
        for path, value in found.changes.items():
            _change(made, path.split("."), value, f"{self.name}, variant {variant}: changes.{path}")
        made["name"] = self.corpus(variant)
        return made


def variants_of(data: Any, path: str) -> Variants:
    """Return the variants that a file's values name; its other fields (training, evaluation) are not looked at."""
    if not isinstance(data, Mapping) or "variants" not in data:
        raise RecipeError(f"{path}: there are no `variants` in it; a {MARK} after a file's name asks for one of them")
    return from_mapping(Variants, {key: data[key] for key in ("name", "base", "variants") if key in data}, path)


def _take_out(values: dict[str, Any], rule: str, where: str) -> None:
    taken = 0
    for source in values.get("sources", []):
        rules = source.get("rules", [])
        kept = [] if rule == "*" else [one for one in rules if one.get("name") != rule]
        taken += len(rules) - len(kept)
        source["rules"] = kept
    if not taken:
        known = sorted(
            {str(one.get("name")) for source in values.get("sources", []) for one in source.get("rules", [])}
        )
        raise RecipeError(
            f"{where}: without {rule!r}: no source has such a rule; there are: {', '.join(known) or 'none'}"
        )


def _change(at: Any, path: list[str], value: Any, where: str) -> None:
    head, rest = path[0], path[1:]
    if isinstance(at, list):
        items = [one for one in at if head == "*" or _name(one) == head]
        if not items:
            raise RecipeError(
                f"{where}: there is no {head!r}; there are: {', '.join(str(_name(one)) for one in at) or 'none'}"
            )
        if not rest:
            raise RecipeError(f"{where}: names an item of a list, not a field of it")
        if head == "*":  # of all items that have such a field: not every source has the same rules
            items = [one for one in items if _has(one, rest)] or items
        for one in items:
            _change(one, rest, value, where)
        return
    if not isinstance(at, dict):
        raise RecipeError(f"{where}: {head!r} is looked for in {at!r}, which has no fields")
    if not rest:
        at[head] = copy.deepcopy(value)
        return
    _change(at.setdefault(head, {}), rest, value, where)


def _has(at: Any, path: list[str]) -> bool:
    """Whether the lists on a path have the items that it names."""
    if not path:
        return True
    if isinstance(at, list):
        return any((path[0] == "*" or _name(one) == path[0]) and _has(one, path[1:]) for one in at)
    return path[0] not in at or _has(at[path[0]], path[1:]) if isinstance(at, dict) else False


def _name(item: Any) -> Any:
    return item.get("name", item.get("read", {}).get("name")) if isinstance(item, dict) else None
