"""Variants of a corpus recipe: paths through names, rules taken out, what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.ablation.recipe import RECIPES, load_ablation
from olmo_core.curation.corpus_recipe import CorpusRecipe, load_recipe
from olmo_core.errors import RecipeError


def variant(tmp_path: Path, **what: Any) -> CorpusRecipe:
    """The quickstart's corpus, changed."""
    values = {"name": "v", "base": "quickstart", "variants": [{"name": "a"}, {"name": "b", **what}]}
    path = tmp_path / "v.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_recipe(f"{path}#b")


def test_changes_go_through_names(tmp_path: Path) -> None:
    """Mappings by key, lists by name, `*` for all items that have what follows; the base stays as it is."""
    base = load_recipe("quickstart")
    changes = {
        "sources.code.repeat": 0.5,
        "sources.*.rules.language.value": 0.9,
        "near_duplicates.threshold": 1.0,
        "seed": 1,
    }
    found = variant(tmp_path, changes=changes)
    assert found.name == "v-b" and found.seed == 1 and found.near_duplicates.threshold == 1.0
    assert {one.name: one.repeat for one in found.sources} == {"prose": 1.0, "code": 0.5}
    rules = {rule.name: rule.value for one in found.sources for rule in one.rules}
    assert rules["language"] == 0.9 and rules["short_words"] == 3
    assert found.near_duplicates.signature == base.near_duplicates.signature
    assert load_recipe("quickstart") == base


def test_rules_are_taken_out(tmp_path: Path) -> None:
    """One by name, of every source that has it; or all."""
    found = variant(tmp_path, without=["too_few_words"])
    names = {one.name: [rule.name for rule in one.rules] for one in found.sources}
    assert "too_few_words" not in [*names["prose"], *names["code"]] and names["code"] == ["personal_data"]
    assert all(not one.rules for one in variant(tmp_path, without=["*"]).sources)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            {"without": ["language", "none"]},
            "variant b: without 'none': no source has such a rule; there are: bullet_points",
        ),
        (
            {"changes": {"sources.web.repeat": 1}},
            r"changes.sources.web.repeat: there is no 'web'; there are: prose, code",
        ),
        ({"changes": {"sources.code": 1}}, "names an item of a list, not a field of it"),
        ({"changes": {"seed.x": 1}}, "'x' is looked for in 3920, which has no fields"),
        ({"changes": {"sed": 1}}, "unknown field 'sed'; did you mean 'seed'"),
        ({"changes": {"seed": "much"}}, "v.yaml.seed: expected int"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, what: dict[str, Any], said: str) -> None:
    """Path or rule, and what there is."""
    with pytest.raises(RecipeError, match=said):
        variant(tmp_path, **what)


def test_unknown_variants_and_files_without_any(tmp_path: Path) -> None:
    """The names that there are; a plain recipe has none."""
    variant(tmp_path)
    with pytest.raises(RecipeError, match="v has no variant 'c'; there are: a, b"):
        load_recipe(f"{tmp_path / 'v.yaml'}#c")
    with pytest.raises(RecipeError, match="there are no `variants` in it"):
        load_recipe("quickstart#a")


def test_recipes_that_are_here_load() -> None:
    """Each variant of each file."""
    for path in RECIPES.glob("*.yaml"):
        recipe = load_ablation(path.stem)
        for name in recipe.names:
            assert load_recipe(recipe.corpus(name)).name == f"{recipe.name}-{name}"
