"""Corpus recipes: what is wrong in one is said before anything is started, by its place, with what to do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.columns import declared
from olmo_core.curation.content import Classifier, ContentRecipe, columns
from olmo_core.curation.corpus_recipe import RECIPES, CorpusRecipe, Overrides, load_recipe
from olmo_core.errors import RecipeError
from tests.small_corpus import load, planned, small_recipe

TOXIC = {"name": "toxic", "model": "jigsaw-toxic", "label": "toxic", "sha256": "0" * 64}
CLASSIFIER = {"kind": "classifier", "classifiers": [TOXIC]}


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a recipe with one value replaced; numbers in the path count list items."""
    data = copy.deepcopy(data)
    *way, last = path.split(".")
    inner: Any = data
    for part in way:
        inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
    inner[int(last) if last.isdigit() else last] = value
    return data


def rule(column: str, drop_if: str = ">", value: Any = 1) -> dict[str, Any]:
    return {"name": "r", "column": column, "drop_if": drop_if, "value": value}


RULE, READ = "sources.0.rules.0", "sources.0.read"
WRONG = [
    # unknown columns
    (
        RULE,
        rule("gopher_word_cuont"),
        "source web: rule 'r': there is no column 'gopher_word_cuont'; did you mean gopher_word_count",
    ),
    (RULE, rule("toxic_max"), "source web: rule 'r': there is no column 'toxic_max'; there are: c4_has_curly_brace"),
    (RULE, rule("shingle_count"), "there is no column 'shingle_count'"),
    ("quality", {"gopher": False}, "there is no column 'gopher_word_count'"),
    (
        "content",
        CLASSIFIER | {"classifiers": [TOXIC | {"name": "pii"}]},
        "content would write a column 'pii_spans', which pii has too",
    ),
    # columns of another type
    (
        RULE,
        rule("pii_spans"),
        "rule 'r': '>' needs a number, but column 'pii_spans' holds spans; there are: c4_line_count",
    ),
    (RULE, rule("c4_has_javascript"), "'>' needs a number, but column 'c4_has_javascript' holds boolean"),
    (
        RULE,
        rule("pii_count", "is", True),
        "'is' needs a boolean, but column 'pii_count' holds number; there are: c4_has_curly_brace",
    ),
    (RULE, rule("language"), "column 'language' holds text"),
    ("sources.0.rules.1", rule("pii_count") | {"name": "language"}, "two rules are named 'language'"),
    # spans to cut
    (
        "mixing.remove",
        [{"column": "toxic_spans"}],
        "mixing.remove: column 'toxic_spans' is in neither quality nor content; there are: c4_lines",
    ),
    ("mixing.remove", [{"column": "pii_spans"}], "mixing.remove: column 'pii_spans' is in neither quality nor content"),
    ("mixing.remove", [{"column": "gopher_word_count"}], "mixing.remove: column 'gopher_word_count' is no span column"),
    ("mixing.remove", [{"column": "lexicon_spans", "at_least": 0.4}], "spans of 'lexicon_spans' have no score"),
    # unknown fields and wrong types, by their path
    ("florr", 0.1, "recipe.yaml: unknown field 'florr'; did you mean 'floor'"),
    ("mixing.mask", True, "recipe.yaml.mixing: unknown field 'mask'; did you mean 'mask_pii'"),
    (f"{READ}.path", "x", r"recipe.yaml.sources\[0\].read: unknown field 'path'; did you mean 'paths'"),
    (
        f"{READ}.kind",
        "jsonl",
        r"recipe.yaml.sources\[0\].read.kind: 'jsonl' is not one of 'environment', 'dolma-jsonl', 'parquet'",
    ),
    (f"{RULE}.value", "0.5", r"recipe.yaml.sources\[0\].rules\[0\].value"),
    (f"{RULE}.drop_if", "=", r"rules\[0\].drop_if: '=' is not one of"),
    ("seed", 1.5, "recipe.yaml.seed: expected int, found 1.5"),
    ("sources", [], "recipe 'small' has no sources"),
    ("sources.1.read.name", "web", "two sources have the same name: web, web"),
    ("name", "Small Corpus", "corpus name 'Small Corpus': use lower-case letters"),
    # numbers out of range, and shares that do not fit together
    ("floor", 1.5, "recipe floor 1.5"),
    ("shard_bytes", 0, "shard_bytes and tokens.shard_tokens must be at least 1"),
    ("mixing.sample", 0.001, "mixing.sample 0.001: give 0.01 to 1"),
    ("sample", 0.0, "sample 0.0 and limit None"),
    ("limit", 0, "limit 0"),
    ("near_duplicates.threshold", 0.0, "threshold must be above 0"),
    ("sources.0.share", 0.5, "say how many tokens the corpus shall have in mixing.total_tokens"),
    ("mixing.total_tokens", 100, "mixing.total_tokens needs a share for every source"),
    ("sources.0.repeat", -1.0, "source web: repeat and share cannot be negative"),
    ("content", {}, "field 'kind' is missing"),
    ("content", {"kind": "classifier"}, "name at least one classifier"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_a_wrong_recipe_is_refused_when_it_is_read(tmp_path: Path, path: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, changed(small_recipe(tmp_path), path, value))


def test_a_score_below_what_is_recorded_is_refused(tmp_path: Path) -> None:
    data = small_recipe(tmp_path, content=CLASSIFIER)
    for least, fine in ((0.4, True), (0.3, True), (None, True), (0.2, False)):
        data["mixing"] = {"remove": [{"column": "toxic_spans", "at_least": least}]}
        if fine:
            assert load(tmp_path, data).mixing.remove[0].at_least == least
            continue
        with pytest.raises(RecipeError, match=r"'toxic_spans' at_least 0.2 is below content.record_from .0.3."):
            load(tmp_path, data)


def test_declared_columns_of_content_are_its_own() -> None:
    for recipe in (
        ContentRecipe(kind="lexicon"),
        ContentRecipe(
            kind="classifier", documents=True, classifiers=(Classifier(name="a", model="model/x/1", label="l"),)
        ),
    ):
        small = CorpusRecipe(name="x", sources=load_recipe("quickstart").sources[1:], content=recipe)
        assert list(declared(small)["content"]) == list(columns(recipe))


def test_a_wrong_recipe_never_reaches_the_store(tmp_path: Path) -> None:
    """`olmo plan` and the flow read the recipe first: no inventory is taken, nothing is listed."""
    store = ArtifactStore(str(tmp_path / "store"))
    with pytest.raises(RecipeError, match="no column 'x'"):
        planned(store, load(tmp_path, changed(small_recipe(Path("/nonexistent")), RULE, rule("x"))))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_that_come_with_it_are_right(path: Path) -> None:
    assert load_recipe(path.stem) == load_recipe(str(path))


def test_names_files_and_yaml(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'quikstart'; there are: .*quickstart"):
        load_recipe("quikstart")
    with pytest.raises(RecipeError, match="no recipe file .*gone.yaml; there are: .*quickstart"):
        load_recipe(str(tmp_path / "gone.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(RecipeError, match="(?s)bad.yaml is not YAML: .*line 2"):
        load_recipe(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="list.yaml: expected a mapping with the fields of CorpusRecipe"):
        load_recipe(str(tmp_path / "list.yaml"))


def test_x_keys_hold_anchors(tmp_path: Path) -> None:
    data = small_recipe(tmp_path)
    assert load(tmp_path, data | {"x-rules": [1, 2]}) == load(tmp_path, data)


def test_overrides_change_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(small_recipe(tmp_path)))

    def loaded(**fields: Any) -> CorpusRecipe:
        return load_recipe(str(tmp_path / "r.yaml"), Overrides(**fields))

    assert loaded() == loaded(name="small")
    assert (loaded(sample=0.5).name, loaded(limit=3).name, loaded(limit=3, name="n").name) == (
        "small-trial",
        "small-trial",
        "n",
    )
    assert loaded(seed=1).seed == 1 and loaded(near_duplicate_jaccard=0.7).near_duplicates.threshold == 0.7
    lower = loaded(language_threshold=0.1)
    assert [r.value for r in lower.sources[0].rules] == [0.1, 20, 0.1, 5] and lower.floor_of(lower.sources[0]) == 0.1
    assert loaded().floor_of(loaded().sources[0]) == 0.2 and loaded().floor_of(loaded().sources[1]) is None
    with pytest.raises(RecipeError, match="language_threshold 50"):
        loaded(language_threshold=50)
    with pytest.raises(RecipeError, match="max_bytes"):
        loaded(max_bytes=1000)
    with pytest.raises(RecipeError, match="threshold must be above 0"):
        loaded(near_duplicate_jaccard=0.0)


def test_a_language_threshold_without_a_language_rule_is_refused(tmp_path: Path) -> None:
    data = small_recipe(tmp_path)
    del data["sources"][0]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(RecipeError, match="no source of the recipe drops documents by target_score"):
        load_recipe(str(tmp_path / "r.yaml"), Overrides(language_threshold=0.6))


def test_max_bytes_is_divided_as_in_the_recipe() -> None:
    whole = load_recipe("quickstart")
    tenth = load_recipe("quickstart", Overrides(max_bytes=sum(s.read.max_bytes for s in whole.sources) // 10))  # type: ignore[union-attr, misc]
    for before, after in zip(whole.sources, tenth.sources, strict=True):
        assert after.read.max_bytes == pytest.approx(before.read.max_bytes / 10, abs=1)  # type: ignore[union-attr, operator]
