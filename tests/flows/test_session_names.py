"""What a run is called: by its corpus, not by its recipe's file."""

from __future__ import annotations

from pathlib import Path

from olmo_core.curation.corpus_recipe import Overrides
from tasks.session import corpus_name
from tests.small_corpus import load, small_recipe


def test_names(tmp_path: Path) -> None:
    load(tmp_path, small_recipe(tmp_path))
    recipe = str(tmp_path / "recipe.yaml")
    assert corpus_name({"recipe": recipe}) == "small"
    assert corpus_name({"recipe": recipe, "overrides": Overrides(name="other")}) == "other"
    assert corpus_name({"recipe": recipe, "overrides": {"limit": 5}}) == "small-trial"
    assert corpus_name({}) == "quickstart"
    assert corpus_name({"recipe": "/no/such/thing.yaml"}) == "thing"
    assert corpus_name({"recipe": recipe, "overrides": {"nosuch": 5}}) == "recipe"
